from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from streamkit.clock import to_datetime
from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import NotFoundError, ValidationError
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.aggregation import aggregate
from streamkit.streams.look import Look, by_arrival
from streamkit.streams.record import Record, StoredRecord
from streamkit.streams.store import PutEntry
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock

LOW, HIGH = 0, 2**128 - 1


class Asked:
    """A store that counts the records that it gave out."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.given = 0
        self.reads = 0
        self.before_reading: Callable[[], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> Any:
        if self.before_reading is not None:
            first, self.before_reading = self.before_reading, None
            await first()
        self.reads += 1
        batch = await self._store.get_records(iterator, limit, wait_ms)
        self.given += len(batch.records)
        return batch


@pytest.fixture
def asked(engine: MemoryEngine) -> Asked:
    return Asked(engine.streams)


@pytest.fixture
async def look(engine: MemoryEngine, clock: ManualClock, asked: Asked) -> Look[Any]:
    """At a stream of two shards that has nothing yet."""
    await engine.streams.create_stream("orders", 2)
    return Look("orders", Codec(None), asked, clock, Metrics())


@pytest.fixture
def stream(look: Look[Any], engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> Stream[Any]:
    return Stream("orders", Codec(None), engine.streams, engine.tables, clock, metrics)


async def put(stream: Stream[Any], clock: ManualClock, *values: int) -> None:
    """One second after the other; even ones to the lower shard."""
    for value in values:
        await stream.put(value, partition_key="k", explicit_hash_key=HIGH if value % 2 else LOW)
        await clock.advance(1)


def values(records: list[Record[Any]]) -> list[Any]:
    return [record.value for record in records]


async def everything(records: AsyncIterator[Record[Any]]) -> list[Any]:
    return [record.value async for record in records]


# ---- head and tail


async def test_head_and_tail_are_the_oldest_and_the_newest_of_all_shards_by_arrival(
    look: Look[Any], stream: Stream[Any], clock: ManualClock
) -> None:
    await put(stream, clock, 0, 1, 3, 5, 2, 4, 7, 6)
    assert values(await look.head(4)) == [0, 1, 3, 5]
    assert values(await look.tail(3)) == [4, 7, 6]
    for n in (8, 100):
        assert values(await look.head(n)) == [0, 1, 3, 5, 2, 4, 7, 6]
        assert values(await look.tail(n)) == [0, 1, 3, 5, 2, 4, 7, 6]
    assert [record.shard_id[-1] for record in await look.tail(3)] == ["0", "1", "0"]


async def test_records_of_one_instant_are_in_the_order_of_their_numbers(
    look: Look[Any], stream: Stream[Any], clock: ManualClock
) -> None:
    for value in (1, 0, 3, 2):
        await stream.put(value, partition_key="k", explicit_hash_key=HIGH if value % 2 else LOW)
    assert values(await look.head(9)) == values(await look.tail(9)) == [0, 2, 1, 3]


async def test_a_clock_that_was_set_back_reorders_no_shard(look: Look[Any]) -> None:
    def record(number: int, arrival_ms: int) -> Record[Any]:
        (made,) = look.made([StoredRecord(number, arrival_ms, "k", b"1")], "shard")
        return made

    late, early, other = record(1, 50), record(2, 10), record(10**14 + 1, 20)
    assert by_arrival([late, early], [other]) == [other, late, early]


async def test_of_an_empty_stream_there_is_nothing(look: Look[Any]) -> None:
    assert (await look.head(3), await look.tail(3)) == ([], [])


async def test_none_asked_for_none_given(look: Look[Any], stream: Stream[Any], clock: ManualClock) -> None:
    await put(stream, clock, 0, 1)
    assert (await look.head(0), await look.tail(0)) == ([], [])


@pytest.mark.parametrize("n", [-1, 1.0, True, None])
async def test_n_is_a_number_of_records(look: Look[Any], n: Any) -> None:
    with pytest.raises(ValidationError, match="number of records"):
        await look.head(n)
    with pytest.raises(ValidationError, match="number of records"):
        await look.tail(n)


async def test_tail_reads_no_more_than_it_may_give(
    look: Look[Any], stream: Stream[Any], asked: Asked, clock: ManualClock
) -> None:
    await stream.put_batch((f"{value}", value) for value in range(1000))
    assert len(await look.tail(5)) == 5
    assert asked.given == 10
    asked.given = 0
    assert len(await look.head(5)) == 5
    assert asked.given == 10


async def test_closed_shards_belong_to_it(look: Look[Any], stream: Stream[Any], clock: ManualClock) -> None:
    await put(stream, clock, 0, 1)
    first, second = (shard.shard_id for shard in (await stream.describe()).shards)
    await stream.merge(first, second)
    await put(stream, clock, 2, 3)
    assert values(await look.head(3)) == [0, 1, 2]
    assert values(await look.tail(3)) == [1, 2, 3]
    assert await everything(look.records()) == [0, 1, 2, 3]


async def test_what_came_after_the_look_began_is_not_in_it(
    look: Look[Any], stream: Stream[Any], asked: Asked, clock: ManualClock
) -> None:
    await put(stream, clock, 0, 2)

    async def another() -> None:
        await put(stream, clock, 4)

    asked.before_reading = another
    assert values(await look.tail(2)) == [0, 2]
    asked.before_reading = another
    assert await everything(look.records()) == [0, 2, 4]


async def test_a_limit_of_reads_per_second_does_not_stop_a_look(clock: ManualClock) -> None:
    engine = MemoryEngine(clock, Limits.aws())
    await engine.streams.create_stream("orders", 1)
    await engine.streams.put_records("orders", [PutEntry("k", b"1")])
    look: Look[Any] = Look("orders", Codec(None), engine.streams, clock, Metrics())
    for _ in range(20):
        assert values(await look.head(1)) == values(await look.tail(1)) == await everything(look.records()) == [1]
    await engine.aclose()


# ---- aggregates


async def test_an_aggregate_is_shown_as_its_user_records(
    look: Look[Any], engine: MemoryEngine, clock: ManualClock
) -> None:
    packed = aggregate([PutEntry(key, value) for key, value in (("a", b"1"), ("b", b"2"), ("c", b"3"))], LOW)
    await engine.streams.put_records("orders", [PutEntry("k", b"0", LOW), packed, PutEntry("k", b"4", LOW)])
    assert values(await look.head(3)) == [0, 1, 2]
    assert values(await look.tail(3)) == [2, 3, 4]
    found = [record async for record in look.records()]
    assert [(r.value, r.partition_key, r.subsequence_number) for r in found] == [
        *[(0, "k", None), (1, "a", 0), (2, "b", 1), (3, "c", 2), (4, "k", None)]
    ]


# ---- all of them


async def test_records_from_an_instant_on(look: Look[Any], stream: Stream[Any], clock: ManualClock) -> None:
    began = to_datetime(clock.now_ms())
    await put(stream, clock, 0, 1, 2, 3, 4)
    assert await everything(look.records(began + timedelta(seconds=2))) == [2, 4, 3]
    assert await everything(look.records(began)) == [0, 2, 4, 1, 3]
    assert await everything(look.records(began + timedelta(seconds=5))) == []
    assert await everything(look.records(began + timedelta(seconds=4))) == [4]


async def test_more_than_a_page(look: Look[Any], engine: MemoryEngine) -> None:
    for first in range(0, 12_000, 500):
        await engine.streams.put_records("orders", [PutEntry("k", b"%d" % n, LOW) for n in range(first, first + 500)])
    assert await everything(look.records()) == list(range(12_000))
    assert values(await look.head(11_000)) == list(range(11_000))
    assert values(await look.tail(11_000)) == list(range(1000, 12_000))


# ---- retention


async def test_what_retention_took_long_ago_is_no_news(
    look: Look[Any], stream: Stream[Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await put(stream, clock, 0, 1, 2)
    await clock.advance(86_400)
    await put(stream, clock, 4, 5, 6)
    for n in (2, 100):
        assert values(await look.head(n)) == [4, 5, 6][:n]
        assert values(await look.tail(n)) == [4, 5, 6][-n:]
    assert await everything(look.records()) == [4, 6, 5]
    assert caplog.text == ""


async def test_what_retention_takes_while_one_looks_is_told_with_its_count(
    look: Look[Any], stream: Stream[Any], asked: Asked, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await put(stream, clock, 0, 2)
    await clock.advance(86_000)
    await put(stream, clock, 4)

    async def wait() -> None:
        await clock.advance(1000)

    asked.before_reading = wait
    assert await everything(look.records()) == [4]
    assert "shardId-000000000000 of stream 'orders': retention took 2 records" in caplog.text


async def test_what_goes_away_altogether_while_one_looks_is_told(
    look: Look[Any], stream: Stream[Any], asked: Asked, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await put(stream, clock, 0, 2, 1)

    async def wait() -> None:
        await clock.advance(90_000)

    for looking in (look.head, look.tail):
        asked.before_reading = wait
        assert await looking(9) == []
        assert "retention took 2 records" in caplog.text
        caplog.clear()
        await put(stream, clock, 0, 2, 1)
    asked.before_reading = wait
    assert await everything(look.records()) == []


async def test_a_closed_shard_that_expires_while_one_looks_is_told(
    look: Look[Any], stream: Stream[Any], asked: Asked, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await put(stream, clock, 0, 2, 1)
    await stream.split("shardId-000000000000")

    async def expire() -> None:
        await clock.advance(90_000)
        assert "shardId-000000000000" not in {shard.shard_id for shard in (await stream.describe()).shards}

    asked.before_reading = expire
    assert await look.tail(9) == []
    assert "shardId-000000000000 of stream 'orders': retention took 2 records" in caplog.text


# ---- errors


async def test_there_must_be_such_a_stream(look: Look[Any], stream: Stream[Any], clock: ManualClock) -> None:
    nothing: Look[Any] = Look("nothing", Codec(None), look.store, clock, Metrics())
    for looking in (nothing.head(1), nothing.tail(1), everything(nothing.records())):
        with pytest.raises(NotFoundError, match="nothing"):
            await looking


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_a_later_stream_of_the_same_name_is_not_taken_for_the_one_looked_at(
    look: Look[Any], stream: Stream[Any], asked: Asked, engine: MemoryEngine, clock: ManualClock, count: int
) -> None:
    await put(stream, clock, 0, 2, 1, 3)

    async def replace() -> None:
        await engine.streams.delete_stream("orders")
        await engine.streams.create_stream("orders", 2)
        await put(stream, clock, *[1] * count)

    for looking in (look.head, look.tail):
        asked.before_reading = replace
        with pytest.raises(NotFoundError):
            await looking(9)
        await engine.streams.delete_stream("orders")
        await engine.streams.create_stream("orders", 2)
        await put(stream, clock, 0, 2, 1, 3)


async def test_leaving_the_loop_leaves_no_task(look: Look[Any], stream: Stream[Any], clock: ManualClock) -> None:
    await put(stream, clock, 0, 1)
    async for record in look.records():
        assert record.value == 0
        break
    await clock.advance(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from streamkit.clock import to_datetime
from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import EncodeError, NotFoundError, ThroughputExceededError, ValidationError
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.window import Metrics
from streamkit.streams.record import Record
from streamkit.streams.store import PutEntry, PutResult, RecordBatch
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

MakeStream = Callable[..., Awaitable[Stream[Any]]]


class Order(msgspec.Struct):
    id: int
    total: float = 0.0


class Refusing:
    """A stream store that refuses the second entry of each call."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put_records(self, name: str, entries: Sequence[PutEntry], *_: object) -> list[PutResult]:
        results = list(await self._store.put_records(name, [*entries[:1], *entries[2:]]))
        results[1:1] = [PutResult("", 0, ThroughputExceededError("slow down"))]
        return results


async def all_of(stream: Stream[Any], **options: Any) -> list[Record[Any]]:
    return [record async for record in stream.records(**options)]


# ---- putting


async def test_a_typed_value_comes_back_as_it_was_put(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(type_=Order)
    result = await stream.put(Order(7, 9.5), partition_key="ada")
    (record,) = await all_of(stream)
    assert record.value == Order(7, 9.5)
    assert (record.partition_key, record.arrival_ms) == ("ada", clock.now_ms())
    assert (record.shard_id, record.sequence_number) == (result.shard_id, result.sequence_number)
    assert result.error is None
    assert stream.codec.type is Order


async def test_an_explicit_hash_key_chooses_the_shard(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=4)
    for shard in (await stream.describe()).shards:
        result = await stream.put(1, partition_key="same", explicit_hash_key=shard.hash_key_range.start)
        assert result.shard_id == shard.shard_id
    with pytest.raises(ValidationError, match="explicit_hash_key"):
        await stream.put(1, partition_key="k", explicit_hash_key=-1)


async def test_a_batch_has_one_result_per_pair_in_order(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=3)
    results = await stream.put_batch((f"{index}", index) for index in range(30))
    found = {(r.shard_id, r.sequence_number): r.value for r in await all_of(stream)}
    assert [found[result.shard_id, result.sequence_number] for result in results] == list(range(30))


async def test_an_empty_batch_is_no_call(make_stream: MakeStream) -> None:
    stream = await make_stream()
    assert await stream.put_batch([]) == []
    gone: Stream[Any] = Stream("gone", Codec(), stream._store, None, None, None)  # type: ignore[arg-type]
    assert await gone.put_batch([]) == []


async def test_a_refused_entry_is_raised_by_put_and_shown_by_put_batch(make_stream: MakeStream) -> None:
    stream = await make_stream(type_=str, store=Refusing)
    results = await stream.put_batch([("a", "1"), ("b", "2"), ("c", "3")])
    assert [type(result.error) for result in results] == [type(None), ThroughputExceededError, type(None)]
    assert [record.value for record in await all_of(stream)] == ["1", "3"]

    class RefusingAll(Refusing):
        async def put_records(self, name: str, entries: Sequence[PutEntry], *_: object) -> list[PutResult]:
            return [PutResult("", 0, ThroughputExceededError("slow down")) for _ in entries]

    stream = await make_stream("other", store=RefusingAll)
    with pytest.raises(ThroughputExceededError):
        await stream.put(1, partition_key="k")


async def test_one_wrong_value_refuses_its_whole_batch(make_stream: MakeStream) -> None:
    stream = await make_stream(type_=str)
    wrong: list[tuple[str, Any]] = [("a", "1"), ("b", 2)]
    with pytest.raises(EncodeError):
        await stream.put_batch(wrong)
    with pytest.raises(ValidationError, match="entry 1"):
        await stream.put_batch([("a", "1"), ("", "2")])
    assert await all_of(stream) == []


async def test_a_stream_that_does_not_exist_is_not_found(engine: MemoryEngine, clock: ManualClock) -> None:
    stream: Stream[Any] = Stream(
        "a name that no stream has: é", Codec(), engine.streams, engine.tables, clock, Metrics()
    )
    calls: list[Awaitable[Any]] = [
        stream.put(1, partition_key="k"),
        stream.put_batch([("k", 1)]),
        stream.describe(),
        stream.consumer("billing").__aenter__(),
        all_of(stream),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="no stream has"):
            await call
    assert repr(stream) == "Stream('a name that no stream has: é', Codec(typing.Any))"


async def test_a_cancelled_put_happened_or_did_not(make_stream: MakeStream, yielding: Callable[[Any], Any]) -> None:
    stream = await make_stream(store=yielding)
    counts: list[int] = []

    async def check() -> None:
        counts.append(len(await all_of(stream)))
        assert counts[-1] % 2 == 0

    await cancel_at_every_step(lambda: stream.put_batch([("a", 1), ("b", 2)]), check)
    assert counts[0] == 0
    assert counts[-1] >= 2


# ---- measuring


async def test_puts_are_measured_once_per_batch(make_stream: MakeStream, metrics: Metrics, clock: ManualClock) -> None:
    stream = await make_stream(type_=bytes)
    await stream.put_batch([("a", b"123"), ("b", b""), ("c", b"45")])
    await stream.put(b"6789", partition_key="k")
    async with stream.producer() as producer:
        await producer.put(b"x" * 10, partition_key="k")
        await producer.put(b"y" * 10, partition_key="k")
    assert metrics.total(stream.metric("IncomingRecords")) == StatisticSet(3, 6.0, 1.0, 3.0)
    assert metrics.total(stream.metric("IncomingBytes")) == StatisticSet(3, 29.0, 4.0, 20.0)
    assert str(stream.metric("IncomingBytes")) == "AWS/Kinesis IncomingBytes{StreamName=orders}"


async def test_what_was_refused_is_not_incoming(make_stream: MakeStream, metrics: Metrics) -> None:
    stream = await make_stream(type_=bytes, store=Refusing)
    await stream.put_batch([("a", b"1"), ("b", b"22"), ("c", b"4444")])
    assert metrics.total(stream.metric("IncomingRecords")) == StatisticSet(1, 2.0, 2.0, 2.0)
    assert metrics.total(stream.metric("IncomingBytes")) == StatisticSet(1, 5.0, 5.0, 5.0)


# ---- looking


async def test_records_are_all_that_is_durable_when_it_begins(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=3)
    await stream.put_batch((f"{index}", index) for index in range(2500))
    seen: list[Record[int]] = []
    async for record in stream.records():
        if not seen:
            await stream.put_batch((f"{index}", -1) for index in range(50))
        seen.append(record)
    assert sorted(record.value for record in seen) == list(range(2500))
    places = [(record.shard_id, record.sequence_number) for record in seen]
    assert places == sorted(places)
    assert len(await all_of(stream)) == 2550


async def test_records_since_an_instant(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=2)
    await stream.put_batch([("a", "old"), ("b", "old")])
    await clock.advance(10)
    since = to_datetime(clock.now_ms())
    await clock.advance(1)
    assert await all_of(stream, start=since) == []
    await stream.put("new", partition_key="a")
    assert [record.value for record in await all_of(stream, start=since)] == ["new"]
    assert len(await all_of(stream, start=to_datetime(clock.now_ms() - 60_000))) == 3


async def test_records_of_a_stream_without_records(make_stream: MakeStream) -> None:
    assert await all_of(await make_stream(shards=3)) == []


async def test_a_start_that_is_none_is_refused(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream()
    await stream.put(1, partition_key="k")
    with pytest.raises(ValidationError, match="time zone"):
        await all_of(stream, start=datetime(2023, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValidationError, match="future"):
        await all_of(stream, start=datetime(2100, 1, 1, tzinfo=UTC))
    with pytest.raises(ValidationError, match="TRIM_HORIZON"):
        await all_of(stream, start="LATEST")


async def test_a_store_may_answer_with_empty_batches(make_stream: MakeStream) -> None:
    """An empty batch is legal at any time, and only at the tip it means that there is no more."""

    class Sparse:
        def __init__(self, store: Any) -> None:
            self._store = store
            self._empty = True

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
            self._empty = not self._empty
            if self._empty:
                batch: RecordBatch = await self._store.get_records(iterator, 2, wait_ms)
                return batch
            return RecordBatch([], iterator, 1000)

    stream = await make_stream(store=Sparse)
    await stream.put_batch((f"{index}", index) for index in range(7))
    assert [record.value for record in await all_of(stream)] == list(range(7))
    async with stream.consumer("billing") as consumer:
        values: list[int] = []
        async for batch in consumer.batches():
            values.extend(batch.values)
            if len(values) == 7:
                break
    assert values == list(range(7))


async def test_what_was_trimmed_does_not_keep_records_waiting(make_stream: MakeStream, clock: ManualClock) -> None:
    class Trimmed:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
            return RecordBatch([], iterator, 0)

    stream = await make_stream(store=Trimmed)
    await stream.put(1, partition_key="k")
    assert await all_of(stream) == []

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import NotFoundError
from streamkit.limits import Limits
from streamkit.streams.lag import Lag, ShardLag, lag_of
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.store import PutEntry
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock

MakeStream = Callable[..., Awaitable[Stream[Any]]]
LOW, HIGH = 0, 2**128 - 1


@pytest.fixture
async def stream(make_stream: MakeStream) -> Stream[Any]:
    return await make_stream(shards=2)


@pytest.fixture
def lag(engine: MemoryEngine, clock: ManualClock) -> Callable[[], Awaitable[Lag]]:
    async def look() -> Lag:
        return await lag_of("billing", "orders", engine.streams, LeaseTable(engine.tables), clock)

    return look


@pytest.fixture
async def entered(stream: Stream[Any]) -> None:
    """A consumer of that name was there, and did nothing."""
    async with stream.consumer("billing"):
        pass


async def put(stream: Stream[Any], clock: ManualClock, *values: int) -> None:
    """One second after the other; even ones to the lower shard."""
    for value in values:
        await stream.put(value, partition_key="k", explicit_hash_key=HIGH if value % 2 else LOW)
        await clock.advance(1)


GetLag = Callable[[], Awaitable[Lag]]


@pytest.mark.usefixtures("entered")
async def test_it_counts_what_has_no_checkpoint_and_how_old_it_is(
    stream: Stream[Any], lag: GetLag, clock: ManualClock
) -> None:
    assert (await lag()).records == 0
    await put(stream, clock, 0, 2, 4, 1)
    found = await lag()
    assert found == Lag(
        "orders", "billing", (ShardLag("shardId-000000000000", 3, 4000), ShardLag("shardId-000000000001", 1, 1000))
    )
    assert (found.records, found.millis_behind, found.trimmed) == (4, 4000, 0)
    async with stream.consumer("billing") as consumer:
        done = 0
        async for batch in consumer.batches(max_records=2):
            await consumer.checkpoint(batch)
            done += len(batch)
            found = await lag()
            assert found.records == 4 - done
            if done == 4:
                break
    assert (found.records, found.millis_behind) == (0, 0)


@pytest.mark.usefixtures("entered")
async def test_it_is_of_the_checkpoint_and_not_of_what_is_in_hand(
    stream: Stream[Any], lag: GetLag, clock: ManualClock
) -> None:
    await put(stream, clock, 0, 2, 4)
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        assert (await lag()).records == 3
        await consumer.checkpoint(batch[0])
        assert (await lag()).shards[0] == ShardLag("shardId-000000000000", 2, 2000)


async def test_one_that_starts_at_the_latest_is_not_behind(
    stream: Stream[Any], lag: GetLag, clock: ManualClock
) -> None:
    await put(stream, clock, 0, 1)
    async with stream.consumer("billing", start="LATEST"):
        assert (await lag()).records == 0
    await put(stream, clock, 2)
    assert (await lag()).records == 1


@pytest.mark.usefixtures("entered")
async def test_shards_that_a_reshard_made_count_from_their_beginning(
    stream: Stream[Any], lag: GetLag, clock: ManualClock
) -> None:
    await put(stream, clock, 0)
    await stream.split("shardId-000000000000")
    await put(stream, clock, 2, 4)
    assert [(shard.shard_id[-1], shard.records, shard.millis_behind) for shard in (await lag()).shards] == [
        *[("0", 1, 3000), ("1", 0, 0), ("2", 2, 2000), ("3", 0, 0)]
    ]


@pytest.mark.usefixtures("entered")
async def test_what_retention_took_before_it_was_done_is_told_apart(
    stream: Stream[Any], lag: GetLag, clock: ManualClock
) -> None:
    await put(stream, clock, 0, 2, 4)
    await clock.advance(90_000)
    await put(stream, clock, 6)
    assert (await lag()).shards[0] == ShardLag("shardId-000000000000", 1, 1000, trimmed=3)


async def test_a_name_that_never_entered_is_told(stream: Stream[Any], lag: GetLag) -> None:
    with pytest.raises(NotFoundError, match=r"'billing'.*'orders'"):
        await lag()


async def test_there_must_be_such_a_stream(lag: GetLag) -> None:
    with pytest.raises(NotFoundError, match="orders"):
        await lag()


async def test_looking_takes_nothing_of_the_readers_limit(clock: ManualClock) -> None:
    engine = MemoryEngine(clock, Limits.aws())
    leases = LeaseTable(engine.tables)
    await leases.take_all("billing", await engine.streams.create_stream("orders", 1), "me", start="TRIM_HORIZON")
    await engine.streams.put_records("orders", [PutEntry("k", b"1")])
    for _ in range(20):
        assert (await lag_of("billing", "orders", engine.streams, leases, clock)).records == 1
    await engine.aclose()


class Expiring:
    """A store in which a day and more passes before the first read."""

    def __init__(self, store: Any, clock: ManualClock) -> None:
        self._store = store
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_shard_iterator(self, *args: Any, **options: Any) -> Any:
        await self._clock.advance(90_000)
        await self._store.describe_stream("orders")
        return await self._store.get_shard_iterator(*args, **options)


@pytest.mark.usefixtures("entered")
@pytest.mark.parametrize("closed", [False, True])
async def test_what_expires_while_one_looks_has_no_age(
    stream: Stream[Any], engine: MemoryEngine, clock: ManualClock, closed: bool
) -> None:
    await put(stream, clock, 0)
    if closed:
        await stream.split("shardId-000000000000")
    found = await lag_of("billing", "orders", Expiring(engine.streams, clock), LeaseTable(engine.tables), clock)
    assert found.shards[0] == ShardLag("shardId-000000000000", 1, 0)


# ---- how it looks


def test_its_repr_is_a_table() -> None:
    shards = (
        ShardLag("shardId-000000000000", 34, 100),
        ShardLag("shardId-000000000001", 1200, 5200),
        ShardLag("shardId-000000000002", 0, 0),
        ShardLag("shardId-000000000003", 0, 0, 7),
    )
    assert repr(Lag("orders", "billing", shards)).splitlines() == [
        "consumer 'billing' of stream 'orders'  1,234 records  5.2 s behind  7 trimmed before",
        "  shardId-000000000001                 1,200 records  5.2 s behind",
        "  shardId-000000000000                    34 records  0.1 s behind",
        "  shardId-000000000003                     0 records                7 trimmed before",
    ]


def test_its_repr_says_when_nothing_is_behind() -> None:
    assert repr(Lag("orders", "billing", (ShardLag("s", 0, 0),))) == "consumer 'billing' of stream 'orders'  0 records"


def test_its_repr_is_short_and_shows_those_most_behind() -> None:
    lines = repr(Lag("orders", "billing", tuple(ShardLag(f"s{n}", n, n * 60_000) for n in range(200)))).splitlines()
    assert len(lines) == 12
    assert lines[0].endswith("19,900 records  3.3 h behind")
    assert lines[1].split()[:2] == ["s199", "199"]
    assert lines[-1] == "  and 189 more shards"
    assert "1 record " in repr(Lag("orders", "billing", (ShardLag("s", 1, 180_000),)))
    assert "3.0 min behind" in repr(Lag("orders", "billing", (ShardLag("s", 1, 180_000),)))

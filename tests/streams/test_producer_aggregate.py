"""Aggregating producers: each record once, in the order of its key, whatever becomes of the shards meanwhile."""

from __future__ import annotations

import asyncio
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import StaleAggregateError
from streamkit.limits import KIB, MIB, Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.aggregation import is_aggregated, user_records
from streamkit.streams.buffer import Batching
from streamkit.streams.keyspace import hash_key
from streamkit.streams.store import Merge, StreamAttributes, StreamDescription
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything

FIRST = "shardId-000000000000"
AWS = msgspec.structs.replace(Limits.aws(), shard_get_calls=None, shard_get_bytes=None)


def stream_of(engine: MemoryEngine, clock: ManualClock) -> Stream[bytes]:
    return Stream("orders", Codec(bytes), engine.streams, engine.tables, clock, Metrics())


async def check_places(stream: Stream[bytes], engine: MemoryEngine) -> int:
    """Every user record is in a shard of its key; how many aggregates there are."""
    aggregates = 0
    stored = await everything(engine.streams, "orders")
    for shard in (await stream.describe()).shards:
        for record in stored[shard.shard_id]:
            aggregates += is_aggregated(record.data)
            for each in user_records(record) or ():
                assert hash_key(each.partition_key) in shard.hash_key_range
    return aggregates


async def values(stream: Stream[bytes]) -> dict[str, list[int]]:
    """Of each key, as a reader of parents before children sees them."""
    found: dict[str, list[int]] = {}
    async for record in stream.records():
        found.setdefault(record.partition_key, []).append(int(record.value))
    return found


@pytest.mark.parametrize("producer_id", [None, "p"])
async def test_what_was_packed_for_a_shard_that_split_is_packed_again(
    engine: MemoryEngine, clock: ManualClock, producer_id: str | None
) -> None:
    """Whether the producer knew the shards from long ago, or looked just before they changed."""
    await engine.streams.create_stream("orders", 1)
    stream = stream_of(engine, clock)
    wanted: dict[str, list[int]] = {}
    async with stream.producer(Batching(aggregate=True), id=producer_id) as producer:
        for turn in range(3):
            for number in range(turn * 24, turn * 24 + 24):
                await producer.put(b"%d" % number, partition_key=f"key-{number % 8}")
                wanted.setdefault(f"key-{number % 8}", []).append(number)
            if turn == 1:
                await stream.split(FIRST)
            elif turn == 2:
                await stream.merge("shardId-000000000001", "shardId-000000000002")
            await producer.flush()
    assert await check_places(stream, engine) >= 3
    assert await values(stream) == wanted


async def test_an_on_demand_stream_splits_under_its_producer(clock: ManualClock) -> None:
    """The split is a part of the very put that was packed for the shard before."""
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.streams.create_stream("orders", 1, StreamAttributes(mode="ON_DEMAND"))
    stream = stream_of(engine, clock)
    async with stream.producer(Batching(aggregate=True)) as producer:
        for second in range(6):
            for number in range(100):
                await producer.put(b"%d" % (second * 100 + number), partition_key=f"key-{number % 10}")
                await producer.put(b" " * 8_000 + b"0", partition_key=f"filler-{number}")
            await producer.flush()
            await clock.advance(1)
    assert len((await stream.describe()).open_shards) > 1
    await check_places(stream, engine)
    found = await values(stream)
    assert [found[f"key-{key}"] for key in range(10)] == [list(range(key, 600, 10)) for key in range(10)]
    await engine.aclose()


async def test_an_aggregate_of_which_a_part_is_stored_is_not_stored_again(
    engine: MemoryEngine, clock: ManualClock
) -> None:
    """Two producers of one id pack the same records differently."""
    await engine.streams.create_stream("orders", 1)
    stream = stream_of(engine, clock)
    batching = Batching(aggregate=True)
    async with stream.producer(batching, id="p") as first, stream.producer(batching, id="p") as second:
        for number in range(4):
            await first.put(b"%d" % number, partition_key="k", sequence=number)
        await first.flush()
        for number in range(10):
            await second.put(b"%d" % number, partition_key="k", sequence=number)
        await second.flush()
        assert (first.duplicates, second.duplicates) == (0, 4)
    assert await values(stream) == {"k": list(range(10))}


async def test_an_aggregate_over_the_record_limit_goes_as_its_records(clock: ManualClock) -> None:
    """And one of just the limit is a record."""
    engine = MemoryEngine(clock, AWS)
    await engine.streams.create_stream("orders", 4)
    stream = stream_of(engine, clock)
    for size, aggregates in ((3 * MIB, 0), (MIB, 1)):
        batching = Batching(aggregate=True, aggregation_max_bytes=size, max_bytes=4 * MIB)
        async with stream.producer(batching) as producer:
            # The second is as large as the aggregate may be with it: its key, its magic, its digest and two records.
            sizes = (400 * KIB, 1000 * KIB) if size > MIB else (MIB - 500_000 - 1 - 20 - 3 - 2 * (2 + 4 + 4), 500_000)
            for at, length in enumerate(sizes):
                await producer.put(b"%d" % at * length, partition_key="k")
            flushing = asyncio.create_task(producer.flush())
            await clock.advance(10)
            await flushing
        stored = [record for records in (await everything(engine.streams, "orders")).values() for record in records]
        assert sum(is_aggregated(record.data) for record in stored) == aggregates
        await clock.advance(10)
    assert max(len(record.data) + 1 for record in stored) == MIB
    assert [len(value) for value in [record.data async for record in stream.records()]] == [
        400 * KIB,
        1000 * KIB,
        *sizes,
    ]
    await engine.aclose()


async def test_a_refused_aggregate_is_not_overtaken_by_a_smaller_record(clock: ManualClock) -> None:
    """They have different partition keys outside and the same inside."""
    engine = MemoryEngine(clock, AWS)
    await engine.streams.create_stream("orders", 1)
    stream = stream_of(engine, clock)
    async with stream.producer(Batching(aggregate=True, aggregation_max_bytes=50_047)) as producer:  # two, not three
        await producer.put(b"0" * 700_000, partition_key="k")
        await producer.flush()
        for number in range(21):
            await producer.put(b"%02d" % number * (12_500 if number < 20 else 1), partition_key="k")
        flushing = asyncio.create_task(producer.flush())
        for _ in range(40):
            await clock.advance(0.05)
        await flushing
    found = [record.data[:2] async for record in stream.records()]
    assert found == [b"00", *(b"%02d" % number for number in range(21))]
    await engine.aclose()


async def test_who_cannot_describe_the_stream_puts_plain_records(engine: MemoryEngine, clock: ManualClock) -> None:
    """The put says what is wrong, if anything is."""
    await engine.streams.create_stream("orders", 1)
    stream = stream_of(engine, clock)
    described = 0
    describe = stream.describe

    async def fails_at_first() -> StreamDescription:
        nonlocal described
        described += 1
        if described == 1:
            raise StaleAggregateError("orders", "for a test")
        return await describe()

    stream.describe = fails_at_first  # type: ignore[method-assign]
    async with stream.producer(Batching(aggregate=True)) as producer:
        for number in range(20):
            await producer.put(b"%d" % number, partition_key="k")
            if number == 9:
                await producer.flush()
    assert await check_places(stream, engine) == 1
    assert await values(stream) == {"k": list(range(20))}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), producer_id=st.none() | st.just("p"), shards=st.integers(1, 3), throttled=st.booleans()
)
def test_keys_keep_their_order_through_any_splits_and_merges(
    seed: int, producer_id: str | None, shards: int, throttled: bool
) -> None:
    async def main() -> None:
        draw = Random(seed)
        clock = ManualClock()
        engine = MemoryEngine(clock, AWS if throttled else Limits.relaxed())
        await engine.streams.create_stream("orders", shards)
        stream = stream_of(engine, clock)
        wanted: dict[str, list[int]] = {}

        async def reshard() -> None:
            is_open = sorted((await stream.describe()).open_shards, key=lambda shard: shard.hash_key_range.start)
            at = draw.randrange(len(is_open))
            if at + 1 < len(is_open) and draw.random() < 0.5:
                await engine.streams.reshard("orders", Merge(is_open[at].shard_id, is_open[at + 1].shard_id))
            else:
                await stream.split(is_open[at].shard_id)

        async def work() -> None:
            batching = Batching(max_records=9, aggregate=True, aggregation_max_bytes=draw.choice((120, 400, 51_200)))
            async with stream.producer(batching, id=producer_id) as producer:
                for number in range(120):
                    key = f"key-{draw.randrange(9)}"
                    wanted.setdefault(key, []).append(number)
                    padding = b" " * (40_000 if throttled and draw.random() < 0.4 else 0)
                    await producer.put(padding + b"%d" % number, partition_key=key)
                    if draw.random() < 0.06:
                        await reshard()
                    if draw.random() < 0.05:
                        await producer.flush()

        working = asyncio.create_task(work())
        while not working.done():
            await clock.advance(0.25)
        await working
        assert await values(stream) == wanted
        await check_places(stream, engine)
        await engine.aclose()

    asyncio.run(main())

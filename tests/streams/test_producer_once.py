"""Idempotent and aggregating producers: each record once, in order, through failures and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import DiskFullError, ThroughputExceededError, ValidationError
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.aggregation import is_aggregated, user_records
from streamkit.streams.buffer import Batching
from streamkit.streams.producer import Producer
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, Split
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything

HALF = 2**127


class Flaky:
    """Puts into a stream, and now and then fails before, or after it happened, or stores only a part."""

    def __init__(self, stream: Stream[bytes], seed: int) -> None:
        self.stream = stream
        self.random = Random(seed)
        self.failures = 0

    async def put(
        self,
        entries: Sequence[PutEntry],
        producer: ProducerSequences | None = None,
        newest_shard_id: str | None = None,
    ) -> Sequence[PutResult]:
        chance = self.random.random()
        if chance < 0.2:
            self.failures += 1
            raise DiskFullError("before")
        if chance < 0.4 and producer is not None:
            self.failures += 1
            await self.stream._put_records(entries, producer, newest_shard_id)
            raise DiskFullError("after it happened")
        if chance < 0.6 and len(entries) > 1:
            self.failures += 1
            half = len(entries) // 2
            some = None
            if producer is not None:
                firsts = None if producer.firsts is None else producer.firsts[:half]
                some = ProducerSequences(producer.producer_id, producer.sequences[:half], firsts)
            done = await self.stream._put_records(entries[:half], some, newest_shard_id)
            return [*done, *(PutResult("", 0, ThroughputExceededError("the shard")) for _ in entries[half:])]
        return await self.stream._put_records(entries, producer, newest_shard_id)


def stream_of(engine: Any, clock: ManualClock) -> Stream[bytes]:
    return Stream("orders", Codec(bytes), engine.streams, engine.tables, clock, Metrics())


async def values(stream: Stream[bytes]) -> dict[str, list[int]]:
    """The numbers of each key, as a reader sees them that reads parents before children."""
    found: dict[str, list[int]] = {}
    async for record in stream.records():
        found.setdefault(record.partition_key, []).append(int(record.value))
    return found


@pytest.mark.parametrize("aggregate", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_each_record_is_stored_once_through_any_failures(seed: int, aggregate: bool, clock: ManualClock) -> None:
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.streams.create_stream("orders", 3)
    stream = stream_of(engine, clock)
    flaky = Flaky(stream, seed)
    batching = Batching(max_records=7, aggregate=aggregate, aggregation_max_bytes=200)
    producer: Producer[bytes] = Producer(
        "orders", Codec(bytes), flaky.put, stream.describe, clock, batching, "importer"
    )

    async def work() -> None:
        async with producer:
            for number in range(200):
                await producer.put(b"%d" % number, partition_key=f"key-{number % 5}")
                if number == 100:
                    await engine.streams.reshard("orders", Split("shardId-000000000001", HALF))
            await producer.flush()

    working = asyncio.create_task(work())
    while not working.done():
        await clock.advance(1)
    await working
    assert flaky.failures > 5
    assert await values(stream) == {f"key-{key}": list(range(key, 200, 5)) for key in range(5)}
    await engine.aclose()


async def test_a_restart_goes_on_where_it_was(tmp_path: Path, clock: ManualClock) -> None:
    """The caller numbers by its own lines; whatever it puts again is dropped, also once the engine was reopened."""
    lines = [b"%d" % number for number in range(30)]
    for attempt in range(4):
        engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
        if attempt == 0:
            await engine.streams.create_stream("orders", 2)
        stream = stream_of(engine, clock)
        async with stream.producer(id="importer") as producer:
            assert producer.last_sequence == (attempt * 7 - 1 if attempt else -1)
            for line in range((attempt + 1) * 7):
                await producer.put(lines[line], partition_key="k", sequence=line)
            assert producer.duplicates == attempt * 7
        assert producer.last_sequence == (attempt + 1) * 7 - 1
        await engine.aclose()
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    assert await values(stream_of(engine, clock)) == {"k": list(range(28))}
    await engine.aclose()


async def test_two_of_one_id_store_each_sequence_once(clock: ManualClock) -> None:
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.streams.create_stream("orders", 1)
    stream = stream_of(engine, clock)
    async with stream.producer(id="importer") as first, stream.producer(id="importer") as second:
        for number in range(10):
            await first.put(b"%d" % number, partition_key="k", sequence=number)
            await second.put(b"%d" % number, partition_key="k", sequence=number)
            await first.flush()
            await second.flush()
    assert await values(stream) == {"k": list(range(10))}
    assert first.duplicates + second.duplicates == 10
    await engine.aclose()


async def test_sequences_are_for_producers_with_an_id(clock: ManualClock) -> None:
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.streams.create_stream("orders", 1)
    stream = stream_of(engine, clock)
    async with stream.producer() as producer:
        with pytest.raises(ValidationError, match="producer\\(id="):
            await producer.put(b"x", partition_key="k", sequence=1)
    async with stream.producer(id="p") as producer:
        with pytest.raises(ValidationError, match="from 0 on"):
            await producer.put(b"x", partition_key="k", sequence=-1)
    for wrong in ("", "p" * 129):
        with pytest.raises(ValidationError, match="1 to 128 characters"):
            stream.producer(id=wrong)
    await engine.aclose()


async def test_aggregates_are_few_and_go_where_their_records_would(clock: ManualClock) -> None:
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.streams.create_stream("orders", 4)
    stream = stream_of(engine, clock)
    async with stream.producer(Batching(aggregate=True)) as producer:
        for number in range(400):
            await producer.put(b"%d" % number, partition_key=f"key-{number % 50}")
    stored = await everything(engine.streams, "orders")
    assert sum(map(len, stored.values())) < 20
    assert any(is_aggregated(record.data) for records in stored.values() for record in records)
    assert await values(stream) == {f"key-{key}": list(range(key, 400, 50)) for key in range(50)}
    for shard in (await stream.describe()).shards:
        for record in stored[shard.shard_id]:
            inner = user_records(record)
            assert inner is None or user_records(record, shard.hash_key_range) == inner
    await engine.aclose()

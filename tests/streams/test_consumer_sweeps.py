"""Consumers cancelled anywhere, and killed at any time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.lease import Start
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Record
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from tests.streams.consuming import MakeStream, has_nothing, put, read, restart


@pytest.mark.parametrize("start", ["TRIM_HORIZON", "LATEST"])
async def test_cancelling_a_consumer_anywhere_loses_nothing(
    make_stream: MakeStream, engine: MemoryEngine, yielding: Callable[[Any], Any], start: Start
) -> None:
    stream = await make_stream(shards=2, store=yielding)
    await put(stream, *range(12))
    newest = {shard.shard_id: shard.latest_sequence_number for shard in (await stream.describe()).shards}
    done: dict[str, int] = {}
    tried: dict[str, int] = {}
    runs = 0

    async def work() -> None:
        async with stream.consumer(f"billing-{runs}", start="TRIM_HORIZON") as consumer:
            async for batch in consumer.batches(max_records=3):
                tried[batch.shard_id] = batch.last_sequence_number
                await consumer.checkpoint(batch)
                done[batch.shard_id] = batch.last_sequence_number
                if sum(done.values()) == sum(newest.values()):
                    break

    async def check() -> None:
        nonlocal runs
        assert asyncio.all_tasks() == {asyncio.current_task()}
        # The next consumer of this name goes on where the last one certainly or possibly was.
        description = await engine.streams.describe_stream("orders")
        places = await LeaseTable(engine.tables).peek(f"billing-{runs}", description)
        began = any(place is not None for place in places.values())
        for shard in description.shards:
            place = places[shard.shard_id]
            assert place in (done.get(shard.shard_id), tried.get(shard.shard_id), shard.starting_sequence_number, None)
            assert (place or 0) >= done.get(shard.shard_id, 0)
        left = [r.value async for r in stream.records() if r.sequence_number > (places[r.shard_id] or 0)]
        if began or start == "TRIM_HORIZON":
            async with stream.consumer(f"billing-{runs}", start=start) as consumer:
                assert sorted(await read(consumer, len(left))) == sorted(left)
        done.clear()
        tried.clear()
        runs += 1

    assert await cancel_at_every_step(work, check) > 10


async def test_leaving_the_block_waits_for_its_tasks_however_often_it_is_cancelled(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    class SlowToLeave:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> Any:
            try:
                return await self._store.get_records(iterator, limit, wait_ms)
            finally:
                for _ in range(10):
                    await asyncio.sleep(0)

    stream = await make_stream(store=SlowToLeave)

    async def work() -> None:
        async with stream.consumer("billing") as consumer:
            await anext(consumer.batches())

    task = asyncio.ensure_future(work())
    await clock.advance(0)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    await asyncio.wait([task])
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_the_block_leaves_no_task_wherever_it_is_cancelled(
    make_stream: MakeStream, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(shards=3, store=yielding)

    async def work() -> None:
        async with stream.consumer("billing") as consumer:
            waiting = asyncio.ensure_future(anext(consumer.batches()))
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            finally:
                waiting.cancel()

    async def check() -> None:
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert await cancel_at_every_step(work, check) > 5


class Life(msgspec.Struct):
    """One life of a consumer: what is put before it, how it reads, and how often it checkpoints before it dies."""

    keys: list[str]
    max_records: int
    batches: int
    checkpoint_every: int


lives = st.builds(
    Life,
    keys=st.lists(st.sampled_from("abcdef"), max_size=15),
    max_records=st.integers(1, 6),
    batches=st.integers(0, 6),
    checkpoint_every=st.integers(1, 3),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(lives, min_size=1, max_size=6), st.integers(1, 4))
def test_through_any_crashes_each_key_is_seen_whole_and_in_order(history: list[Life], shards: int) -> None:
    """What a checkpoint covers is not seen again; from there on it is seen again in the same order."""

    async def main() -> None:
        clock = ManualClock()
        engine = MemoryEngine(clock, Limits.relaxed())
        await engine.streams.create_stream("orders", shards)
        stream: Stream[int] = Stream("orders", Codec(int), engine.streams, engine.tables, clock, Metrics())
        wanted: dict[str, list[int]] = defaultdict(list)
        certain: dict[str, list[int]] = defaultdict(list)
        for life in history:
            pairs = [(key, sum(map(len, wanted.values())) + index) for index, key in enumerate(life.keys)]
            await stream.put_batch(pairs)
            for key, value in pairs:
                wanted[key].append(value)
            seen: dict[str, list[int]] = defaultdict(list)
            consumer = await stream.consumer("billing").__aenter__()
            pending: list[Record[int]] = []
            for turn in range(1, life.batches + 1):
                waiting = asyncio.ensure_future(anext(consumer.batches(max_records=life.max_records)))
                await clock.advance(0)
                if not waiting.done():
                    waiting.cancel()
                    await asyncio.wait([waiting])
                    break
                batch = waiting.result()
                pending.extend(batch)
                for record in batch:
                    seen[record.partition_key].append(record.value)
                if turn % life.checkpoint_every == 0:
                    await consumer.checkpoint(batch)
                    for record in [r for r in pending if r.shard_id == batch.shard_id]:
                        certain[record.partition_key].append(record.value)
                        pending.remove(record)
            for key, values in seen.items():
                known = len(certain[key]) - sum(value in certain[key] for value in values)
                assert wanted[key][known : known + len(values)] == values
            await restart(engine, consumer)
        async with stream.consumer("billing") as consumer:
            rest = sum(map(len, wanted.values())) - sum(map(len, certain.values()))
            while rest:
                batch = await anext(consumer.batches(max_records=3))
                rest -= len(batch)
                for record in batch:
                    certain[record.partition_key].append(record.value)
            assert await has_nothing(consumer, clock)
        assert {key: values for key, values in certain.items() if values} == {k: v for k, v in wanted.items() if v}

    asyncio.run(main())

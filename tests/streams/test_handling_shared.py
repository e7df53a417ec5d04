"""``consumer.run`` with workers that take shards from each other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import LeaseLostError
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from tests.streams.by_key import ByHand, MakeStream, checkpoints, ended, put


async def lose(stream: Stream[Any], engine: MemoryEngine, shard_id: str) -> None:
    """To another worker that lives, as far as anybody can tell."""
    another = f"{engine.tables.session}/another"
    await LeaseTable(engine.tables).take("billing", await stream.describe(), shard_id, another)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_lost_shard_is_dropped_and_the_others_go_on(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, concurrency: int
) -> None:
    stream = await make_stream(shards=2)
    keys = "".join(map(chr, range(200, 220)))
    await put(stream, keys)
    lost, kept = (shard.shard_id for shard in (await stream.describe()).shards)
    handler = ByHand()
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=concurrency, max_records=4))
        await clock.advance(0)
        began = len(handler.calls)
        await lose(stream, engine, lost)
        before = (await checkpoints(stream, engine))[lost]
        await handler.let_go(keys)
        await clock.advance(0)
        assert not task.done()
        await put(stream, keys)
        await clock.advance(0)
        places = await checkpoints(stream, engine)
        assert places[kept] == (await stream.describe()).shards[1].latest_sequence_number
        assert places[lost] == before
        in_kept = sum([record.shard_id == kept async for record in stream.records()])
        handled = sum(map(len, handler.seen.values()))
        # Of the lost shard what was in a call, and nothing after that; of the other one everything.
        assert in_kept < handled <= in_kept + 4 * concurrency
        assert began == 2 * concurrency
        await ended(task)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_handler_whose_own_checkpoint_finds_the_lease_lost_drops_its_shard(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, concurrency: int
) -> None:
    stream = await make_stream(shards=2)
    lost, kept = (shard.shard_id for shard in (await stream.describe()).shards)
    seen: list[str] = []
    async with stream.consumer("billing") as consumer:

        async def handle(batch: Batch[Any]) -> None:
            seen.append(batch.shard_id)
            await consumer.checkpoint(batch)

        await lose(stream, engine, lost)
        await stream.put("x", partition_key="k", explicit_hash_key=0)
        task = asyncio.ensure_future(consumer.run(handle, concurrency=concurrency))
        await clock.advance(0)
        await stream.put("x", partition_key="k", explicit_hash_key=2**128 - 1)
        await clock.advance(0)
        assert seen == [lost, kept]
        await ended(task)


async def test_a_lost_lease_of_something_else_is_the_handlers_failure(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, "a")
    error = LeaseLostError("another", "shardId-000000000000")

    async def handle(batch: Batch[Any]) -> None:
        raise error

    async with stream.consumer("billing") as consumer:
        with pytest.raises(LeaseLostError) as raised:
            await consumer.run(handle, concurrency=2)
        assert raised.value is error


async def test_workers_that_come_and_go_hand_over_what_is_done_and_keep_the_order(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=4)
    keys = "".join(map(chr, range(200, 220)))
    seen: dict[str, list[int]] = defaultdict(list)
    workers: dict[str, set[str]] = defaultdict(set)

    def handler(worker: str) -> Callable[[Batch[Any]], Awaitable[None]]:
        async def handle(batch: Batch[Any]) -> None:
            await clock.sleep_until(clock.now_ms() + 700)
            workers[worker].add(batch.shard_id)
            for record in batch:
                seen[record.partition_key].append(record.value)

        return handle

    async def a_while(first: int) -> None:
        for value in range(first, first + 30):
            await stream.put_batch((key, value) for key in keys)
            await clock.advance(1)

    async with stream.consumer("billing") as one:
        first = asyncio.ensure_future(one.run(handler("one"), concurrency=3, max_records=4))
        await a_while(0)
        workers.clear()
        async with stream.consumer("billing") as two:
            second = asyncio.ensure_future(two.run(handler("two"), concurrency=3, max_records=4))
            await a_while(30)
            workers.clear()
            await a_while(60)
            assert [len(workers[worker]) for worker in ("one", "two")] == [2, 2]
            await ended(second)
        await a_while(90)
        await clock.advance(60)
        places = await checkpoints(stream, engine)
        assert places == {shard.shard_id: shard.latest_sequence_number for shard in (await stream.describe()).shards}
        await ended(first)
    for key in keys:
        # What was in hand of the one that was cancelled comes again, from where the checkpoint was.
        assert sorted(set(seen[key])) == list(range(120))
        assert list(dict.fromkeys(seen[key])) == list(range(120))
        assert len(seen[key]) < 120 + 24

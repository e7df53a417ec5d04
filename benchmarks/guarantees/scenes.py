"""Producers, workers that come and go, and shards that split and merge: what streams must bear. It decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from itertools import count
from random import Random
from typing import Any, TypeVar

from benchmarks.guarantees.watching import Tell
from streamkit import Batch, Consumer, LeaseLostError, Leasing, Stream
from streamkit.streams.store import ShardDescription

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds without a record after which a reader that still misses some is told that it got all there are."""
_DIGITS = 12
_FILLER = b"x" * 88
_IN_HAND = 6
"""Batches of a worker."""
_LEASING = Leasing(failover=0.03, handover=0.0, steal_at_once=4)
"""A shard that is wanted is taken at the next look, whatever its worker has in hand."""


def payload(place: int) -> bytes:
    """100 bytes that tell the place."""
    return b"%012d" % place + _FILLER


def place_of(data: bytes) -> int:
    """What they tell; -1 of bytes that nobody put."""
    return int(data[:_DIGITS]) if data[_DIGITS:] == _FILLER and data[:_DIGITS].isdigit() else -1


async def patiently(awaited: Awaitable[T]) -> T | None:
    """None: it did not come."""
    # Not ``wait_for``: that of Python 3.11 forgets a cancellation that comes together with what it waits for.
    try:
        async with asyncio.timeout(PATIENCE):
            return await awaited
    except (TimeoutError, StopAsyncIteration):
        return None


async def together(*several: Coroutine[Any, Any, object]) -> None:
    """All of them at once; the first that fails ends the others."""
    async with asyncio.TaskGroup() as tasks:
        for each in several:
            tasks.create_task(each)


# ---- putting


async def put_singly(stream: Stream[bytes], tell: Tell, key: str, places: range) -> None:
    """One put after another, each awaited."""
    for place in places:
        tell("asked", [key], [place])
        result = await stream.put(payload(place), partition_key=key)
        tell("acked", [key], [place], [result.shard_id], [result.sequence_number])


async def put_at_once(stream: Stream[bytes], tell: Tell, key: str, places: range, burst: int = 20) -> None:
    """Puts of one key that are begun in their order, and not awaited before the next begins."""
    for first in range(places.start, places.stop, burst):
        some = list(range(first, min(first + burst, places.stop)))
        tell("asked", [key] * len(some), some)
        results = await asyncio.gather(*(stream.put(payload(place), partition_key=key) for place in some))
        ids, numbers = [each.shard_id for each in results], [each.sequence_number for each in results]
        tell("acked", [key] * len(some), some, ids, numbers)


async def put_batches(
    stream: Stream[bytes],
    tell: Tell,
    keys: Sequence[str],
    rng: Random,
    following: dict[str, int],
    batches: int,
    gate: asyncio.Event | None = None,
) -> None:
    """Batches of keys that are this task's alone, one batch after another, while others put theirs."""
    for _ in range(batches):
        if gate is not None:
            await gate.wait()
        chosen = rng.choices(keys, k=50)
        places = []
        for key in chosen:
            places.append(following.get(key, 0))
            following[key] = places[-1] + 1
        tell("asked", chosen, places)
        results = await stream.put_batch([(key, payload(at)) for key, at in zip(chosen, places, strict=True)])
        ids, numbers = [each.shard_id for each in results], [each.sequence_number for each in results]
        tell("acked", chosen, places, ids, numbers)


# ---- consuming


async def consume(consumer: Consumer[bytes], see: Callable[[Batch[bytes]], None], done: Callable[[], bool]) -> None:
    """See batch after batch and checkpoint it, until it is done, or nothing comes any more."""
    batches = consumer.batches()
    while not done():
        batch = await patiently(anext(batches))
        if batch is None:
            return
        see(batch)
        await consumer.checkpoint(batch)


async def work(
    stream: Stream[bytes],
    tell: Tell,
    holder: str,
    handle: Callable[[], Awaitable[None]],
    *,
    leasing: Leasing = _LEASING,
    until: float = float("inf"),
) -> None:
    """A worker of the consumer ``all``, until that time of the loop: handles batches and writes checkpoints.

    Several batches are in hand at once, those of a shard one after the other.
    """
    loop = asyncio.get_running_loop()

    async def settle(consumer: Consumer[bytes], batch: Batch[bytes], before: asyncio.Task[None] | None) -> None:
        shard_id, number, lost = batch.shard_id, batch.last_sequence_number, losses[batch.shard_id]
        if before is not None:
            await asyncio.wait([before])
        await handle()
        # What was in hand of a shard when it was lost is dropped, and what a later batch has checkpointed is done.
        if lost == losses[shard_id] and number > kept[shard_id]:
            tell("asks", holder, shard_id, number)
            try:
                await consumer.checkpoint(batch)
            except LeaseLostError:
                losses[shard_id] += 1
                tell("refused", holder, shard_id, number)
            else:
                kept[shard_id] = number
                tell("kept", holder, shard_id, number)
        in_hand.release()

    losses, kept = Counter[str](), Counter[str]()
    in_hand = asyncio.Semaphore(_IN_HAND)
    latest: dict[str, asyncio.Task[None]] = {}
    async with stream.consumer("all", leasing=leasing) as consumer, asyncio.TaskGroup() as tasks:
        batches = consumer.batches(max_records=50)
        while loop.time() < until:
            await in_hand.acquire()
            if (batch := await patiently(anext(batches))) is None:
                return
            numbers = [record.sequence_number for record in batch]
            places = [place_of(record.data) for record in batch]
            tell("read", holder, batch.shard_id, numbers, [record.partition_key for record in batch], places)
            settling = settle(consumer, batch, latest.get(batch.shard_id))
            latest[batch.shard_id] = tasks.create_task(settling)


async def crew(stream: Stream[bytes], tell: Tell, rng: Random, life: int, size: int = 3) -> None:
    """Workers that come and go, and are cancelled with records in hand, for as long as nobody cancels this."""

    async def handle() -> None:
        # Most are quick; some take until others want the shard.
        await asyncio.sleep(rng.choice((0, 0, 0, 0.001, 0.03, 0.06)))

    async def one(slot: int) -> None:
        for turn in count(1):
            leaves = loop.time() + rng.uniform(0.03, 0.15)
            # Every other one is cancelled wherever it is, also with records in hand; the rest leave between batches.
            cancelled_at = leaves + rng.choice((0, 0.05))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(cancelled_at):
                    await work(stream, tell, f"worker {life}.{slot}.{turn}", handle, until=leaves)

    loop = asyncio.get_running_loop()
    await together(*(one(slot) for slot in range(size)))


@contextlib.asynccontextmanager
async def beside(*several: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Let these run while the block does; one that fails ends it."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each) for each in several]
        yield
        for task in running:
            task.cancel()


async def finish(stream: Stream[bytes], tell: Tell) -> None:
    """One last worker, until everything is checkpointed, or nothing moves any more."""

    async def at_once() -> None:
        pass

    loop = asyncio.get_running_loop()
    async with beside(work(stream, tell, "the last worker", at_once)):
        left, moved = (await stream.lag("all")).records, loop.time()
        while left and loop.time() - moved < PATIENCE:
            await asyncio.sleep(0.01)
            now = (await stream.lag("all")).records
            if now != left:
                left, moved = now, loop.time()


# ---- the stream itself


async def reshard(stream: Stream[bytes], rng: Random, pause: float, gate: asyncio.Event | None = None) -> None:
    """Split and merge for as long as nobody cancels this.

    At times the gate is closed to those who put, so that shards are there and gone without a record.
    """
    while True:
        if gate is not None and rng.random() < 0.5:
            gate.clear()
            await stream.update_shard_count(rng.choice((2, 4, 8)))
        await stream.update_shard_count(rng.choice((1, 2, 3, 4, 6)))
        if gate is not None:
            gate.set()
        await asyncio.sleep(rng.uniform(0, pause))


async def everything(
    stream: Stream[bytes],
) -> tuple[Sequence[ShardDescription], list[tuple[str, int, str, int]]]:
    """The stream's shards, and (shard, number, key, place) of each record, parents before their children."""
    there = [
        (record.shard_id, record.sequence_number, record.partition_key, place_of(record.data))
        async for record in stream.records()
    ]
    return (await stream.describe()).shards, there

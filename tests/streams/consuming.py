"""What the tests of consumers do with them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from streamkit.engines.memory import MemoryEngine
from streamkit.streams.consumer import Consumer
from streamkit.streams.store import RecordBatch
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock

S = TypeVar("S")

MakeStream = Callable[..., Awaitable[Stream[Any]]]
SHARDS = [f"shardId-{index:012d}" for index in range(12)]


async def put(stream: Stream[Any], *values: Any) -> None:
    """Each under a key of its own, so that they spread over the shards."""
    await stream.put_batch((f"{value}", value) for value in values)


async def read(consumer: Consumer[Any], count: int, *, checkpoint: bool = True, max_records: int = 500) -> list[Any]:
    """The values of the next ``count`` records."""
    values: list[Any] = []
    if not count:
        return values
    async for batch in consumer.batches(max_records=max_records):
        values.extend(batch.values)
        if checkpoint:
            await consumer.checkpoint(batch)
        if len(values) >= count:
            break
    assert len(values) == count
    return values


async def has_nothing(consumer: Consumer[Any], clock: ManualClock) -> bool:
    """Whether it hands out nothing now."""
    task = asyncio.ensure_future(anext(consumer.batches()))
    await clock.advance(0)
    if task.done():
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


def noting(kind: Callable[[Any], S], made: list[S]) -> Callable[[Any], S]:
    """``kind``, with everything it makes in ``made``: the streams' store first."""

    def make(store: Any) -> S:
        made.append(kind(store))
        return made[-1]

    return make


def held(consumer: Consumer[Any]) -> list[str]:
    """The shards that a worker has."""
    return sorted(consumer._coordinator.held)


async def kill(*consumers: Consumer[Any]) -> None:
    """What is left when a worker dies: no checkpoint, no good-bye. (Its tasks must go, for the other tests.)"""
    for consumer in consumers:
        consumer._open = False
        coordinator = consumer._coordinator
        coordinator._leases.unwatch(coordinator._consumer, coordinator._name, coordinator.wake)
        await consumer._feeds.close()
        if coordinator._task is not None:
            coordinator._task.cancel()
            await asyncio.wait([coordinator._task])


async def restart(engine: MemoryEngine, *consumers: Consumer[Any]) -> None:
    """The workers' process dies, and the engine is opened again."""
    await kill(*consumers)
    engine.tables.session = uuid.uuid4().hex


class Watched:
    """A stream store that notes what is read of it, and fails when it is told to."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read: list[int] = []
        self.fail: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        if self.fail:
            raise self.fail.pop()
        batch: RecordBatch = await self._store.get_records(iterator, limit, wait_ms)
        self.read.append(len(batch.records))
        return batch

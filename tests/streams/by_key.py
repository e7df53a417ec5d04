"""What the tests of handling by key have in common."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from streamkit.engines.memory import MemoryEngine
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.stream import Stream

MakeStream = Callable[..., Awaitable[Stream[Any]]]


async def put(stream: Stream[Any], keys: str) -> None:
    """One record for each letter; its value is the letter and its place among those of this call."""
    await stream.put_batch((key, f"{key}{place}") for place, key in enumerate(keys))


class ByHand:
    """A handler whose calls wait until the test lets their keys go."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """What is running, or was: the values of each call."""
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.running: Counter[str] = Counter()
        self._open: set[str] = set()
        self._changed = asyncio.Condition()

    async def __call__(self, batch: Batch[Any]) -> None:
        keys = {record.partition_key for record in batch}
        self.calls.append(" ".join(batch.values))
        assert not keys & self.running.keys(), "two calls have a key in common"
        self.running.update(keys)
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: keys <= self._open)
        finally:
            for key in keys:
                del self.running[key]
        for record in batch:
            self.seen[record.partition_key].append(record.value)

    async def let_go(self, keys: str) -> None:
        async with self._changed:
            self._open.update(keys)
            self._changed.notify_all()

    async def hold(self, keys: str) -> None:
        self._open.difference_update(keys)


async def checkpoints(stream: Stream[Any], engine: MemoryEngine) -> dict[str, int | None]:
    return await LeaseTable(engine.tables).peek("billing", await stream.describe())


async def checkpoint(stream: Stream[Any], engine: MemoryEngine) -> int | None:
    (place,) = (await checkpoints(stream, engine)).values()
    return place


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel it, and tell what it had failed with before, if it had."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def values_left(consumer: Consumer[Any], count: int) -> list[Any]:
    values: list[Any] = []
    batches = consumer.batches()
    while len(values) < count:
        values += (await anext(batches)).values
    return values

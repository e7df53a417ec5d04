"""The queue that workloads are about: how it is opened, called like a peer's, and looked at afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.measure import Setting, verify
from benchmarks.peers import Delivery
from benchmarks.store import open_store, open_used
from streamkit import Queue
from streamkit.engines.file.files import DiskFiles

NAME = "jobs"


class CountingFiles(DiskFiles):
    """A disk that counts how often it is asked to sync, by whichever thread."""

    def __init__(self) -> None:
        self.syncs = 0
        self._lock = threading.Lock()

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def sync_directory(self, path: str) -> None:
        self._count()
        super().sync_directory(path)

    def _count(self) -> None:
        with self._lock:
            self.syncs += 1


class OurQueue:
    """streamkit's queue in the words in which peers are called."""

    def __init__(self, queue: Queue[bytes]) -> None:
        self._queue = queue

    async def send(self, data: bytes) -> None:
        await self._queue.send(data)

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        results = await self._queue.send_batch(batch)
        verify(all(result.error is None for result in results), "a message was refused")

    async def receive(self, most: int) -> Sequence[Delivery]:
        return [(message, message.body) for message in await self._queue.receive(most, wait=20)]

    async def delete(self, handles: Sequence[Any]) -> None:
        errors = await self._queue.delete_batch(handles)
        verify(not any(errors), "a message was not deleted")

    async def left(self) -> int:
        return await left(self._queue)


@contextlib.asynccontextmanager
async def open_queue(setting: Setting, files: DiskFiles | None = None) -> AsyncIterator[OurQueue]:
    """A queue in such a store."""
    async with open_used(setting, files) as kit:
        yield OurQueue(await kit.create_queue(NAME, type=bytes))


async def left(queue: Queue[Any]) -> int:
    """How many messages are there, hidden and delayed ones too."""
    found = await queue.describe()
    return found.visible + found.not_visible + found.delayed


async def verify_empty(setting: Setting, name: str = NAME) -> None:
    """Open the store once more and see that no message came back."""
    async with open_store(setting) as kit:
        verify(await left(kit.queue(name)) == 0, "a deleted message came back")

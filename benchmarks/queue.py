"""The queue that workloads are about: how it is opened, called like a peer's, and looked at afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import streamkit
from benchmarks.measure import Setting, verify
from benchmarks.peers import Delivery
from benchmarks.stream import use
from streamkit import Kit, Limits, Queue
from streamkit.clock import SystemClock
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.files import DiskFiles
from streamkit.limits import MIB

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
async def open_used(setting: Setting, files: DiskFiles | None = None) -> AsyncIterator[Kit]:
    """A store that has been in use for a while, as those of the peers have."""
    clock = SystemClock()
    engine = await FileEngine.open(
        setting.directory / "data", clock=clock, limits=Limits.relaxed(), durability=setting.durability, files=files
    )
    async with Kit(engine, clock, {}) as kit:
        await use(kit, 4 * MIB if setting.small else 320 * MIB)
        yield kit


@contextlib.asynccontextmanager
async def open_queue(setting: Setting, files: DiskFiles | None = None) -> AsyncIterator[OurQueue]:
    """A queue in such a store."""
    async with open_used(setting, files) as kit:
        yield OurQueue(await kit.create_queue(NAME, type=bytes))


async def left(queue: Queue[Any]) -> int:
    """How many messages are there, hidden and delayed ones too."""
    found = await queue.describe()
    return found.visible + found.not_visible + found.delayed


async def verify_empty(directory: Path, name: str = NAME) -> None:
    """Open the directory and see that no message came back."""
    async with streamkit.open(directory) as kit:
        verify(await left(kit.queue(name)) == 0, "a deleted message came back")

"""What the tests of read-only opening share: opening it, and seeing what it does to a directory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from streamkit.clock import Clock
from streamkit.engines.file.readonly import ReadOnlyEngine
from streamkit.engines.file.readonly_files import Identity, ReadOnlyFiles
from streamkit.streams.store import PutEntry, StreamStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything
from tests.engines.file.terms import LIMITS, START_MS

SHARD = "shardId-000000000000"


@asynccontextmanager
async def looking(
    path: Path, clock: Clock | None = None, *, files: ReadOnlyFiles | None = None
) -> AsyncIterator[ReadOnlyEngine]:
    engine = await ReadOnlyEngine.open(path, clock=clock or ManualClock(START_MS), limits=LIMITS, files=files)
    try:
        yield engine
    finally:
        await engine.aclose()


class HookedFiles(ReadOnlyFiles):
    """Calls ``before`` in front of every call that looks at the disk, in the thread that makes it."""

    def __init__(self, before: Callable[[str], object]) -> None:
        super().__init__()
        self.before = before

    def names(self, path: str) -> list[str]:
        self.before("names")
        return super().names(path)

    def open(self, path: str, *, create: bool = False) -> int:
        self.before("open")
        return super().open(path, create=create)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self.before("read")
        return super().read(fd, size, offset)

    def sync(self, fd: int) -> None:
        self.before("sync")
        super().sync(fd)

    def size(self, fd: int) -> int:
        self.before("size")
        return super().size(fd)

    def identity(self, path: str) -> Identity | None:
        self.before("identity")
        return super().identity(path)


def footprint(directory: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything in a directory, with what would show that somebody had been there."""
    found = {}
    for folder, _, names in os.walk(directory):
        for path in [Path(folder), *(Path(folder) / name for name in names)]:
            stat = path.stat()
            data = b"" if path.is_dir() else path.read_bytes()
            found[str(path)] = (stat.st_ino, stat.st_mode, stat.st_mtime_ns, data)
    return found


async def put(streams: StreamStore, *data: bytes) -> None:
    await streams.put_records("s", [PutEntry("k", each) for each in data])


async def data_of(streams: StreamStore) -> list[bytes]:
    return [record.data for record in (await everything(streams, "s"))[SHARD]]

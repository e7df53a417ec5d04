"""What a directory is on, and how long its disk takes to sync."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = 4096
_ZEROS = bytes(1024 * 1024)


class Mount(NamedTuple):
    """What holds a directory."""

    system: str
    """Such as ``ext4``."""
    device: str
    point: str


def mount_of(directory: Path, table: Path = Path("/proc/self/mounts")) -> Mount | None:
    """The mount that a directory is on; None where the system does not tell."""
    with contextlib.suppress(OSError):
        mounts = [line.split() for line in table.read_text().splitlines()]
        path = directory.resolve()
        # Of several at one place the last one hides the others.
        holding = [Mount(system, device, point) for device, point, system, *_ in mounts if path.is_relative_to(point)]
        if holding:
            return max(reversed(holding), key=lambda mount: len(mount.point))
    return None


def is_rotating(point: str) -> bool | None:
    """Whether a mounted disk turns; None where the system does not tell."""
    device = os.stat(point).st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for queue in (block / "queue", block.resolve().parent / "queue"):  # A partition's disk has it.
        with contextlib.suppress(OSError):
            return (queue / "rotational").read_text().strip() == "1"
    return None


@contextlib.contextmanager
def zero_filled(path: Path, size: int) -> Iterator[int]:
    """A file whose blocks are there and written, so that a sync has only data to bring to the disk."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for offset in range(0, size, len(_ZEROS)):
            os.pwrite(fd, _ZEROS[: size - offset], offset)
        os.fsync(fd)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def syncing(directory: Path, size: int, count: int) -> Iterator[Callable[[int], float]]:
    """A function that writes and syncs the page of a number below ``count``, and returns the seconds that took.

    Its file is in the directory, and is gone afterwards.
    """
    path = directory / f"sync-{os.getpid()}"
    data = b"x" * size
    try:
        with zero_filled(path, size * count) as fd:

            def sync(at: int) -> float:
                before = time.perf_counter()
                os.pwrite(fd, data, at * size)
                os.fdatasync(fd)
                return time.perf_counter() - before

            yield sync
    finally:
        path.unlink(missing_ok=True)


def sync_seconds(directory: Path, *, size: int = PAGE, count: int = 64) -> list[float]:
    """Sorted times of a write and fdatasync in a zero-filled file, one after the other."""
    with syncing(directory, size, count) as sync:
        return sorted(sync(at) for at in range(count))

"""What this disk does for a loop that does nothing else: the measure of every other figure."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import verify

# The gate runs these workloads on an older streamkit, too: what only the disk's own figures need is imported with them.
PAGE = 4096


def append_seconds(path: Path, parts: Sequence[bytes]) -> float:
    """How long it takes to write these one after the other and sync after each; they are read back and compared."""
    from streamkit.cli.disk import zero_filled

    with zero_filled(path, sum(map(len, parts))) as fd:
        offset = 0
        started = time.perf_counter()
        for part in parts:
            os.pwrite(fd, part, offset)
            os.fdatasync(fd)
            offset += len(part)
        seconds = time.perf_counter() - started
        offset = 0
        for part in parts:
            verify(os.pread(fd, len(part), offset) == part, "the bare file does not hold what was written")
            offset += len(part)
    return seconds


def sync_seconds(directory: Path, *, size: int = PAGE, count: int = 64, pause: float = 0.0) -> list[float]:
    """Sorted times of a write and fdatasync in a zero-filled file, ``pause`` seconds from one to the next."""
    from streamkit.cli.disk import syncing

    times = []
    with syncing(directory, size, count) as sync:
        due = time.perf_counter()
        for at in range(count):
            due += pause
            if (ahead := due - time.perf_counter()) > 0:
                time.sleep(ahead)
            times.append(sync(at))
    return sorted(times)


# ---- reading without the page cache


def evict(directory: Path) -> str:
    """Make the page cache forget the files below a directory, and see that it did.

    Returns how it was done, or "" if it could not be.
    """
    files = _files(directory)
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # What is not on the disk yet cannot be forgotten.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    if not any(map(is_cached, files)):
        return "POSIX_FADV_DONTNEED"
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("1")
        if not any(map(is_cached, files)):
            return "drop_caches"
    return ""


def read_seconds(directory: Path) -> tuple[float, int]:
    """How long it takes to read every file below a directory from end to end, and how many bytes that is."""
    total = 0
    buffer = bytearray(1024 * 1024)
    started = time.perf_counter()
    for path in _files(directory):
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += size
    return time.perf_counter() - started, total


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)


def is_cached(path: Path) -> bool:
    """Whether a page of a file is in the page cache. Asking reads nothing, as a read that must not wait would."""
    size = path.stat().st_size
    resident = ctypes.create_string_buffer(-(-size // PAGE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        view = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), resident
        )
        del view  # Or the mapping could not be closed.
    verify(not failed, f"mincore of {path}: {os.strerror(ctypes.get_errno())}")
    return any(page & 1 for page in resident.raw)

"""The seam to the disk: every byte of journal, segments, snapshots and manifest goes through ``Files``.

Tests put a ``Files`` here that tears writes, fails syncs, fills the disk or crashes at call N.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from typing import Protocol

_ZEROS = bytes(1024 * 1024)
_ZEROS_PER_SYNC = 8 * len(_ZEROS)


class Files(Protocol):
    """File operations as the engine needs them. Any may raise ``OSError``."""

    def make_directory(self, path: str) -> None:
        """Create a directory (0700) and make its name durable; harmless if it is there."""

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; empty if there is no such directory."""

    def open(self, path: str, *, create: bool = False) -> int:
        """Open for reading and writing, creating (0600) if asked; never through a symbolic link."""

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""

    def write_parts(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """Write all of these, one behind the other, at ``offset``: one write, and nothing is copied to join them."""

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to ``size`` bytes; fewer only at the end of the file."""

    def sync(self, fd: int) -> None:
        """Return once everything written before is on the disk."""

    def sync_directory(self, path: str) -> None:
        """Return once the directory's entries are on the disk."""

    def size(self, fd: int) -> int:
        """The file's length."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut or extend the file."""

    def close(self, fd: int) -> None:
        """Close it."""

    def rename(self, old: str, new: str) -> None:
        """Give a file its final name, replacing what has it."""

    def remove(self, path: str) -> None:
        """Remove a file; harmless if it is gone."""


class DiskFiles:
    """``Files`` on the operating system."""

    def make_directory(self, path: str) -> None:
        """See Files."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
            return
        self.sync_directory(os.path.dirname(path) or ".")

    def names(self, path: str) -> list[str]:
        """See Files."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def open(self, path: str, *, create: bool = False) -> int:
        """See Files."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """See Files."""
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)

    def write_parts(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """See Files."""
        written = os.pwritev(fd, parts, offset)
        if written < sum(map(len, parts)):
            self.write(fd, b"".join(parts)[written:], offset + written)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See Files."""
        data = os.pread(fd, size, offset)
        while data and len(data) < size:
            more = os.pread(fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def sync(self, fd: int) -> None:
        """See Files."""
        os.fdatasync(fd)

    def sync_directory(self, path: str) -> None:
        """See Files."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def size(self, fd: int) -> int:
        """See Files."""
        return os.fstat(fd).st_size

    def truncate(self, fd: int, size: int) -> None:
        """See Files."""
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        """See Files."""
        os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """See Files."""
        os.rename(old, new)

    def remove(self, path: str) -> None:
        """See Files."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def fill_with_zeros(files: Files, fd: int, size: int) -> None:
    """Write ``size`` zeros. A sync of a file whose blocks exist and are written costs half as much later.

    They go to the disk a few at a time: one sync of them all would hold up the commits that run meanwhile.
    """
    for offset in range(0, size, len(_ZEROS)):
        files.write(fd, _ZEROS[: size - offset], offset)
        if (offset + len(_ZEROS)) % _ZEROS_PER_SYNC == 0:
            files.sync(fd)


def replace_file(files: Files, path: str, data: bytes) -> None:
    """Make ``path`` hold ``data``, wholly or not at all, durably."""
    temporary = path + ".new"
    fd = files.open(temporary, create=True)
    try:
        try:
            files.truncate(fd, 0)
            files.write(fd, data, 0)
            files.sync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            files.remove(temporary)
        raise
    files.sync_directory(os.path.dirname(path))


def read_file(files: Files, path: str) -> bytes:
    """All of a file."""
    fd = files.open(path)
    try:
        return files.read(fd, files.size(fd), 0)
    finally:
        files.close(fd)

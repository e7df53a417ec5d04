"""Files of a store that somebody else owns: they can be looked at, and nothing here can change them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Never

from streamkit.engines.file.files import DiskFiles

Identity = tuple[int, int]
"""Device and inode: which file has a name now."""


class ReadOnlyFiles:
    """Implements ``Files``. Opens for reading only; all that would write raises ``OSError`` (EROFS)."""

    def __init__(self) -> None:
        self._disk = DiskFiles()

    def names(self, path: str) -> list[str]:
        """See Files."""
        return self._disk.names(path)

    def open(self, path: str, *, create: bool = False) -> int:
        """See Files."""
        if create:
            _refuse(path)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See Files."""
        return self._disk.read(fd, size, offset)

    def sync(self, fd: int) -> None:
        """See Files. Brings to the disk what others wrote, and so proves that it is there.

        Where nobody can write (an image, a read-only mount without support for it) everything is there already.
        """
        try:
            self._disk.sync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):
                raise

    def size(self, fd: int) -> int:
        """See Files."""
        return self._disk.size(fd)

    def close(self, fd: int) -> None:
        """See Files."""
        self._disk.close(fd)

    def identity(self, path: str) -> Identity | None:
        """Which file has this name; None: there is none."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino

    def identity_of(self, fd: int) -> Identity:
        """Which file is open. Nothing else gets its number as long as it is."""
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    def make_directory(self, path: str) -> None:
        """Refused."""
        _refuse(path)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Refused."""
        _refuse(str(fd))

    def write_parts(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """Refused."""
        _refuse(str(fd))

    def sync_directory(self, path: str) -> None:
        """Refused."""
        _refuse(path)

    def truncate(self, fd: int, size: int) -> None:
        """Refused."""
        _refuse(str(fd))

    def rename(self, old: str, new: str) -> None:
        """Refused."""
        _refuse(old)

    def remove(self, path: str) -> None:
        """Refused."""
        _refuse(path)


def _refuse(path: str) -> Never:
    raise OSError(errno.EROFS, "it was opened read-only", path)

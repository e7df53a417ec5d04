"""A disk that fails on demand and forgets what was not synced, for tests of whatever keeps files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from streamkit.engines.file.files import DiskFiles

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

Operation = Literal[
    "make_directory",
    "names",
    "open",
    "write",
    "read",
    "sync",
    "sync_directory",
    "size",
    "truncate",
    "close",
    "rename",
    "remove",
]


class Call(msgspec.Struct, frozen=True):
    """One call of a ``FaultyFiles``; the first has number 0."""

    number: int
    operation: Operation
    path: str


class CrashedError(OSError):
    """The simulated machine is down: nothing gets through to its disk any more."""

    def __init__(self, *, interrupted: bool) -> None:
        self.interrupted = interrupted
        """It went down during this very call, which may have happened, wholly or in part."""
        super().__init__(errno.EIO, "the simulated machine has crashed")


class FaultyFiles:
    """``Files`` of the disk that count their calls, fail or crash at one of them, and know what a power loss leaves.

    ::

        files = FaultyFiles(crash_at=17)
        ...                                      # work in "/tmp/data", which ends with errors once call 17 is reached
        random = Random(1)
        files.after_crash("/tmp/data", "/tmp/after", lambda: random.random() < 0.5)
        ...                                      # open "/tmp/after" and see what is there

    Nothing is really synced: what a sync means is remembered. Files that were made past it (a lock, SQLite's) are as
    they are found when the crash comes. Safe to use from several threads.

    Args:
        fail: the errno with which the call of a number fails. A failing write writes its first half. After a failing
            sync what it was to bring to the disk will not come there by another sync, but only by another write: so
            Linux does it.
        crash_at: the call that is interrupted. It and all that follow raise ``CrashedError``.
        before: called before each call, in the thread of the caller. It may raise an ``OSError``, or wait.
    """

    def __init__(
        self,
        *,
        fail: Mapping[int, int] | None = None,
        crash_at: int | None = None,
        before: Callable[[Call], object] = lambda call: None,
    ) -> None:
        self.calls: list[Call] = []
        self.fail = dict(fail or {})
        """May be added to at any time: ``files.fail[len(files.calls)] = errno.ENOSPC`` is for the very next call."""
        self.crash_at = crash_at
        """May be set at any time."""
        self.before = before
        self._disk = _UnsyncedDisk()
        self._lock = threading.RLock()
        self._open: dict[int, tuple[str, _File]] = {}
        self._names = _Names()
        self._durable_names = _Names()
        self._renamings: defaultdict[str, list[_Renaming]] = defaultdict(list)

    # ---- looking at it

    @property
    def crashed(self) -> bool:
        """The crash has come."""
        return self.crash_at is not None and len(self.calls) > self.crash_at

    def counts(self) -> Counter[str]:
        """How many calls there were of each operation."""
        return Counter(call.operation for call in self.calls)

    def open_paths(self) -> list[str]:
        """The paths of all files that are open, as often as they are."""
        with self._lock:
            return sorted(path for path, _ in self._open.values())

    def after_crash(self, directory: str, destination: str, survives: Callable[[], bool]) -> None:
        """Write to ``destination`` what is left of ``directory`` (an absolute path) if everything stopped now.

        ``survives`` is asked for every sector written, every change of a length and every change of a name that was
        not synced. ``lambda: True`` is a process that was killed, ``lambda: False`` a power loss at its worst, and a
        random answer what lies between: writes torn, reordered, lengths without data, names lost.
        """
        with self._lock:
            names = self._durable_names.copy()
            for renamings in self._renamings.values():
                for renaming in renamings:
                    if survives():
                        names.apply(renaming)
            known = {*self._names, *names, *self._durable_names}
            known.update(path for renamings in self._renamings.values() for each in renamings for path in each.paths)
            for folder, _, found in os.walk(directory):
                os.makedirs(os.path.join(destination, os.path.relpath(folder, directory)), exist_ok=True)
                for path in (os.path.join(folder, name) for name in found):
                    if path not in known:
                        shutil.copy2(path, os.path.join(destination, os.path.relpath(path, directory)))
            for path, file in sorted(names.items()):
                if os.path.commonpath([path, directory]) == directory:
                    with open(os.path.join(destination, os.path.relpath(path, directory)), "wb") as copy:
                        copy.write(file.content(survives))

    # ---- the operations of ``Files``

    def make_directory(self, path: str) -> None:
        """See Files. Durable when it returns."""
        self._call("make_directory", path)
        self._disk.make_directory(path)

    def names(self, path: str) -> list[str]:
        """See Files."""
        self._call("names", path)
        return self._disk.names(path)

    def open(self, path: str, *, create: bool = False) -> int:
        """See Files."""
        file = _File()
        is_new = create and not os.path.lexists(path)
        with self._naming("open", path, _Renaming(None, path, file) if is_new else None):
            fd = self._disk.open(path, create=create)
            self._open[fd] = path, file if is_new else self._file(path)
            return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """See Files."""
        path, file = self._open[fd]
        written = data
        try:
            self._call("write", path)
        except CrashedError as crashed:
            if crashed.interrupted:
                file.unsynced.append((offset, data))
            raise
        except OSError:
            written = data[: len(data) // 2]
            raise
        finally:
            if not self.crashed:
                with self._lock:
                    self._disk.write(fd, written, offset)
                    file.unsynced.append((offset, written))

    def write_parts(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """See Files. Counts as one write."""
        self.write(fd, b"".join(parts), offset)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See Files."""
        self._call("read", self._open[fd][0])
        return self._disk.read(fd, size, offset)

    def sync(self, fd: int) -> None:
        """See Files. What is written while it runs is not synced by it."""
        path, file = self._open[fd]
        begun = len(file.unsynced)
        try:
            self._call("sync", path)
        except CrashedError:
            raise
        except OSError:
            with self._lock:
                file.forget(begun)
            raise
        with self._lock:
            file.sync(begun)

    def sync_directory(self, path: str) -> None:
        """See Files."""
        self._call("sync_directory", path)
        with self._lock:
            for renaming in self._renamings.pop(path, ()):
                self._durable_names.apply(renaming)

    def size(self, fd: int) -> int:
        """See Files."""
        self._call("size", self._open[fd][0])
        return self._disk.size(fd)

    def truncate(self, fd: int, size: int) -> None:
        """See Files."""
        path, file = self._open[fd]
        self._call("truncate", path)
        with self._lock:
            self._disk.truncate(fd, size)
            file.unsynced.append((size, None))

    def close(self, fd: int) -> None:
        """See Files. It is closed whatever happens, and a crash closes everything."""
        with self._lock:
            path, _ = self._open.pop(fd)
            self._disk.close(fd)
        with contextlib.suppress(CrashedError):
            self._call("close", path)

    def rename(self, old: str, new: str) -> None:
        """See Files."""
        with self._lock:
            file = self._file(old)
            if os.path.lexists(new):
                self._file(new)
        with self._naming("rename", new, _Renaming(old, new, file)):
            self._disk.rename(old, new)

    def remove(self, path: str) -> None:
        """See Files."""
        there = os.path.lexists(path)
        if there:
            self._file(path)
        with self._naming("remove", path, _Renaming(path, None, None) if there else None):
            self._disk.remove(path)

    # ---- parts

    def _call(self, operation: Operation, path: str) -> None:
        with self._lock:
            call = Call(len(self.calls), operation, path)
            self.calls.append(call)
            if self.crashed:
                raise CrashedError(interrupted=call.number == self.crash_at)
        self.before(call)
        if call.number in self.fail:
            code = self.fail[call.number]
            raise OSError(code, os.strerror(code), path)

    @contextlib.contextmanager
    def _naming(self, operation: Operation, path: str, renaming: _Renaming | None) -> Iterator[None]:
        """A change of names. Until its directory is synced it may be lost; one that a crash interrupts may happen."""
        try:
            self._call(operation, path)
        except CrashedError as crashed:
            if renaming is not None and crashed.interrupted:
                self._renamings[os.path.dirname(path)].append(renaming)
            raise
        with self._lock:
            yield
            if renaming is not None:
                self._names.apply(renaming)
                self._renamings[os.path.dirname(path)].append(renaming)

    def _file(self, path: str) -> _File:
        """The file of a name. What was there before is durable."""
        with self._lock:
            if path not in self._names:
                with open(path, "rb") as found:
                    self._names[path] = self._durable_names[path] = _File(found.read())
            return self._names[path]


class _UnsyncedDisk(DiskFiles):
    """Syncing costs time and proves nothing while the machine stays up."""

    def sync(self, fd: int) -> None:
        pass

    def sync_directory(self, path: str) -> None:
        pass


class _File:
    """What is on the disk of a file, and what is only on its way there."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.unsynced: list[tuple[int, bytes | None]] = []
        """Bytes for an offset; None: the file was cut or extended to it."""
        self.forgotten: list[tuple[int, bytes]] = []
        """Sectors that a failed sync did not bring to the disk, and no later one will."""

    def sync(self, count: int) -> None:
        """The first ``count`` changes are on the disk."""
        for offset, data in self.unsynced[:count]:
            _put(self.durable, offset, data)
            if data is not None:
                end = offset + len(data)
                self.forgotten = [(at, old) for at, old in self.forgotten if at + len(old) <= offset or at >= end]
        del self.unsynced[:count]

    def forget(self, count: int) -> None:
        """The first ``count`` changes are taken for synced by everybody but the disk."""
        for offset, data in self.unsynced[:count]:
            if data is None:
                _put(self.durable, offset, None)
            else:
                self.forgotten.extend(_sectors(offset, data))
        del self.unsynced[:count]

    def content(self, survives: Callable[[], bool]) -> bytes:
        """What is there after a crash."""
        content = self.durable.copy()
        for offset, sector in self.forgotten:
            if survives():
                _put(content, offset, sector)
        for offset, data in self.unsynced:
            if data is None:
                if survives():
                    _put(content, offset, None)
                continue
            for at, sector in _sectors(offset, data):
                if survives():
                    _put(content, at, sector)
            if survives():
                content.extend(bytes(max(0, offset + len(data) - len(content))))
        return bytes(content)


class _Renaming(msgspec.Struct, frozen=True):
    """A name that was given, taken away, or both."""

    old: str | None
    new: str | None
    file: _File | None

    @property
    def paths(self) -> list[str]:
        return [path for path in (self.old, self.new) if path is not None]


class _Names(dict[str, _File]):
    """Which file has which name."""

    def copy(self) -> _Names:
        return _Names(self)

    def apply(self, renaming: _Renaming) -> None:
        if renaming.old is not None:
            self.pop(renaming.old, None)
        if renaming.new is not None and renaming.file is not None:
            self[renaming.new] = renaming.file


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        end = start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES
        yield offset + start, data[start:end]
        start = end

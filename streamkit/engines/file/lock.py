"""One owner per directory: a lock that the operating system drops when the owner dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import msgspec

from streamkit.errors import DirectoryInUseError

NAME = "streamkit.lock"
_held: set[DirectoryLock] = set()


def _let_go_in_child() -> None:
    # A child that lives on must not keep the directory from whoever comes after its dead parent.
    for lock in _held:
        lock.let_go_in_child()
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class Holder(msgspec.Struct):
    """Who owns the directory; what a second one is told."""

    pid: int
    host: str
    boot_id: str


class DirectoryLock:
    """Holds the directory from construction to ``release``.

    The lock belongs to the open file, so a second kit of the same process is refused as well. A forked child does not
    own the directory (``check_process``).
    """

    def __init__(self, directory: str) -> None:
        """Take the lock.

        Raises:
            DirectoryInUseError: somebody has it; the message says who.
            OSError: the file cannot be opened or locked.
        """
        self._directory = directory
        self._pid = os.getpid()
        self._is_ours = True
        path = os.path.join(directory, NAME)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _describe(os.pread(self._fd, 4096, 0))
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise
            raise DirectoryInUseError(directory, holder) from None
        _held.add(self)
        # Who holds it is a courtesy, for which a full disk may have no room.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, msgspec.json.encode(Holder(self._pid, os.uname().nodename, _boot_id())), 0)

    def check_process(self) -> None:
        """Refuse to go on in a forked child.

        Raises:
            DirectoryInUseError: this is not the process that took the lock.
        """
        # HOT: before every change; asking for the process id would be a system call.
        if not self._is_ours:
            raise DirectoryInUseError(self._directory, f"process {self._pid}, of which this one is a forked child")

    def release(self) -> None:
        """Let go. In a forked child, which never had it, nothing happens."""
        if self in _held:
            _held.discard(self)
            os.close(self._fd)

    def let_go_in_child(self) -> None:
        """This is a forked child now."""
        self._is_ours = False
        os.close(self._fd)


@contextlib.contextmanager
def nobody_owns(directory: str) -> Iterator[None]:
    """Keep owners away while somebody looks, without writing anything.

    Raises:
        DirectoryInUseError: somebody owns it.
        OSError: the lock file cannot be opened or locked.
    """
    try:
        fd = os.open(os.path.join(directory, NAME), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield  # It was never opened, or somebody copied it.
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUseError(directory, _describe(os.pread(fd, 4096, 0))) from None
        yield
    finally:
        os.close(fd)


def _describe(stored: bytes) -> str:
    try:
        holder = msgspec.json.decode(stored, type=Holder)
    except msgspec.DecodeError:
        return "another process"
    if holder.pid == os.getpid() and holder.boot_id == _boot_id():
        return f"this process (pid {holder.pid}), in another kit or event loop"
    return f"process {holder.pid} on {holder.host}"


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""

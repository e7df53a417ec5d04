"""Results in files, a new one by time and by size: JSON lines here, other formats beside it.

A file is written under a name that begins with a dot, synced, and renamed, so whoever lists the directory sees whole
files only. It is named after its lane and where that stood before it; what is written again after a crash begins there
as well and takes the place of the file, so that nothing stands in two files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
import msgspec

from streamkit.errors import DiskFullError, FunctionError, StorageError, ValidationError
from streamkit.functions.sink import SinkBatch
from streamkit.limits import MIB


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """When a file is complete: whichever comes first."""

    seconds: float = 60.0
    """After its first value."""
    bytes: int = 64 * MIB
    """Of values, before the format compresses them."""


class Format(Protocol):
    """How values become the bytes of a file."""

    @property
    def suffix(self) -> str:
        """Of the files' names, with its dot."""
        ...

    def encode(self, value: Any) -> bytes:
        """One value, to be kept until the file is written; its length counts towards the file's size.

        Raises:
            FunctionError: it is nothing that such a file holds.
        """
        ...

    def write(self, path: Path, values: Sequence[bytes]) -> None:
        """The file, whole. In a thread.

        Raises:
            OSError: it was not written.
        """
        ...


class JsonLines:
    """One JSON value in a line."""

    suffix = ".jsonl"

    def encode(self, value: Any) -> bytes:
        """See Format."""
        return encode_json(value)

    def write(self, path: Path, values: Sequence[bytes]) -> None:
        """See Format."""
        with path.open("wb") as file:
            for value in values:
                file.write(value)
                file.write(b"\n")


def encode_json(value: Any) -> bytes:
    """A value as JSON.

    Raises:
        FunctionError: it has no JSON form.
    """
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FunctionError(f"a value of type {type(value).__qualname__} has no JSON form: {error}") from None


class _Pending:
    """What one lane wrote since its last file."""

    __slots__ = ("first_ms", "size", "start", "values")

    def __init__(self, start: str, first_ms: int) -> None:
        self.start = start
        self.first_ms = first_ms
        self.values: list[bytes] = []
        self.size = 0


_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class FileSink:
    """Implements ``BufferingSink``: a file per lane and interval in one directory, ``LANE-START.jsonl``.

    What waits for its file is in memory, encoded: ``Roll.bytes`` per lane at most, and the batch that exceeds it.
    """

    def __init__(
        self, directory: str | os.PathLike[str], format: Format | None = None, *, roll: Roll | None = None
    ) -> None:
        roll = roll or Roll()
        if roll.seconds <= 0 or roll.bytes < 1:
            raise ValidationError(f"a file is complete after some time and some bytes, not {roll!r}")
        self.directory = Path(directory)
        self._format: Format = format or JsonLines()
        self._roll = roll
        self._pending: dict[str, _Pending] = {}

    def __repr__(self) -> str:
        return f"FileSink({str(self.directory)!r}, {self._format.suffix!r})"

    async def write(self, batch: SinkBatch) -> None:
        """See Sink. Values are encoded here, all or none of them."""
        if not (_NAME.fullmatch(batch.lane) and _NAME.fullmatch(batch.start)):
            raise ValidationError(f"a file cannot be named after lane {batch.lane!r} at {batch.start!r}")
        encoded = [self._format.encode(value) for value in batch.values]
        if not encoded:
            return
        pending = self._pending.get(batch.lane)
        if pending is None:
            pending = self._pending[batch.lane] = _Pending(batch.start, batch.now_ms)
        pending.values += encoded
        pending.size += sum(map(len, encoded))

    def due_ms(self, lane: str) -> int | None:
        """See BufferingSink."""
        pending = self._pending.get(lane)
        if pending is None:
            return None
        if pending.size >= self._roll.bytes:
            return pending.first_ms
        return pending.first_ms + round(self._roll.seconds * 1000)

    async def flush(self, lane: str) -> None:
        """See BufferingSink.

        Cancellation: the file is there or it is not, and the values wait until a flush ended.
        """
        pending = self._pending.get(lane)
        if pending is None:
            return
        name = f"{lane}-{pending.start}{self._format.suffix}"
        await anyio.to_thread.run_sync(self._store, name, pending.values)
        # Only now: a flush that was cancelled or failed is done again, and writes the same file.
        if self._pending.get(lane) is pending:
            del self._pending[lane]

    def forget(self, lane: str) -> None:
        """Let go of what the lane wrote and did not flush: it will be written again from its checkpoint."""
        self._pending.pop(lane, None)

    def _store(self, name: str, values: Sequence[bytes]) -> None:
        path, unfinished = self.directory / name, self.directory / f".{name}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._format.write(unfinished, values)
            _sync(unfinished)
            unfinished.replace(path)
            _sync(self.directory)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(str(path)) from error
            raise StorageError(f"writing {path} failed: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

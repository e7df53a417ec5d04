"""From a stream to a file."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from io import BufferedWriter
from typing import Any, Literal, TypeVar

import anyio.to_thread

from streamkit.clock import to_datetime
from streamkit.errors import StorageError
from streamkit.recording.lines import first_line, last_line, record_lines
from streamkit.recording.threads import in_thread
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.record import Record
from streamkit.streams.stream import Stream

T = TypeVar("T")

Progress = Callable[[int, int], object]
"""Called with how many records are done, and how many there are (before the end an estimate), now and then."""

_WRITE_RECORDS = 1000
_WRITE_BYTES = 1 << 20


async def record(
    stream: Stream[Any],
    path: str | os.PathLike[str],
    *,
    start: Literal["TRIM_HORIZON"] | datetime = "TRIM_HORIZON",
    progress: Progress | None = None,
) -> int:
    """Write every record that is durable in a stream now to a file of JSON lines; how many there were.

    What the lines say: ``streamkit.recording.lines``. Records stand by their arrival, those of a shard in their order,
    and those of a child after those of its parents: so the order of each partition key is that of the lines. The
    file has its name when it is whole and on disk, and replaces what had that name. What is in memory at a time does
    not depend on how many records there are.

    Args:
        stream: a handle to it.
        path: of the file; by custom ``NAME.jsonl``.
        start: TRIM_HORIZON for all, or an aware ``datetime``: those that arrived at that instant or later.
        progress: called with how many records are done and about how many there are.

    Cancellation: there is no file of this name, or the one that was there before, unless the new one was whole already.

    Raises:
        NotFoundError: there is no such stream.
        ValidationError: ``start`` is something else, or in the future.
        StorageError: the file cannot be written.
    """
    target = await anyio.to_thread.run_sync(os.path.abspath, os.fspath(path))
    description = await stream.describe()
    ranges = {shard.shard_id: shard.hash_key_range for shard in description.shards}
    recorded = to_datetime(stream._clock.now_ms()).isoformat()
    expected = sum(
        shard.latest_sequence_number - max(shard.trim_horizon, shard.starting_sequence_number)
        for shard in description.shards
    )
    records = 0
    file = _NewFile(target)
    try:
        await _in_thread(target, file.create, first_line(description, stream.codec, recorded))
        pending: list[Record[Any]] = []
        size = 0
        async for some in stream._look.in_order(description, start):
            pending += some
            size += sum([len(one.data) for one in some])
            records += len(some)
            if len(pending) >= _WRITE_RECORDS or size >= _WRITE_BYTES:
                # Making lines takes longer than writing them, and the loop has others to serve.
                await _in_thread(target, file.write, pending, ranges)
                pending, size = [], 0
            if progress is not None:
                progress(records, max(records, expected))
        await _in_thread(target, file.write, pending, ranges)
        await _in_thread(target, file.finish, last_line(records))
    except BaseException:
        await in_thread(file.give_up)
        raise
    if progress is not None:
        progress(records, records)
    return records


async def _in_thread(path: str, work: Callable[..., T], *arguments: Any) -> T:
    try:
        return await in_thread(work, *arguments)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


class _NewFile:
    """A file that has its name once it is whole. Every method is for a thread."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._part = f"{target}.part-{secrets.token_hex(4)}"
        self._file: BufferedWriter | None = None

    def create(self, header: bytes) -> None:
        self._file = open(self._part, "xb")  # noqa: SIM115 - what comes after this closes it
        self._file.write(header)

    def write(self, records: Sequence[Record[Any]], ranges: Mapping[str, HashKeyRange]) -> None:
        assert self._file is not None
        self._file.writelines(record_lines(records, ranges))

    def finish(self, end: bytes) -> None:
        assert self._file is not None
        self._file.write(end)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self._target)
        directory = os.open(os.path.dirname(self._target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def give_up(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                os.remove(self._part)

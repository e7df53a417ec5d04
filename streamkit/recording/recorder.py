"""From a stream to a file."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from io import BufferedWriter
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread

from streamkit.clock import to_datetime
from streamkit.errors import StorageError
from streamkit.recording.lines import first_line, last_line, record_lines
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

    Cancellation: there is no file of this name, or the one that was there before.

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
    part = f"{target}.part-{secrets.token_hex(4)}"
    file = await _in_thread(target, _create, part)
    try:
        await _in_thread(target, file.write, first_line(description, stream.codec, recorded))
        pending: list[Record[Any]] = []
        size = 0
        async for some in stream._look.in_order(description, start):
            pending += some
            size += sum([len(one.data) for one in some])
            records += len(some)
            if len(pending) >= _WRITE_RECORDS or size >= _WRITE_BYTES:
                # Making lines takes longer than writing them, and the loop has others to serve.
                await _in_thread(target, _write, file, pending, ranges)
                pending, size = [], 0
            if progress is not None:
                progress(records, max(records, expected))
        await _in_thread(target, _write, file, pending, ranges)
        await _in_thread(target, _finish, file, last_line(records), part, target)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_give_up, file, part)
        raise
    if progress is not None:
        progress(records, records)
    return records


async def _in_thread(path: str, work: Callable[..., T], *arguments: Any) -> T:
    try:
        return await anyio.to_thread.run_sync(work, *arguments)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


def _create(part: str) -> BufferedWriter:
    return open(part, "xb")


def _write(file: BufferedWriter, records: Sequence[Record[Any]], ranges: Mapping[str, HashKeyRange]) -> None:
    file.writelines(record_lines(records, ranges))


def _finish(file: BufferedWriter, end: bytes, part: str, target: str) -> None:
    file.write(end)
    file.flush()
    os.fsync(file.fileno())
    file.close()
    os.replace(part, target)
    directory = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _give_up(file: BufferedWriter, part: str) -> None:
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        os.remove(part)

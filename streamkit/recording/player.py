"""From a file to a stream."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

import anyio.to_thread

from streamkit.codecs import Codec
from streamkit.errors import DecodeError, RecordingError, StorageError, ValidationError
from streamkit.recording.lines import End, Line, parse, parse_header
from streamkit.recording.recorder import Progress
from streamkit.recording.threads import in_thread
from streamkit.streams.stream import Stream

_LINES = 1000
"""How many are read at a time."""


async def replay(
    path: str | os.PathLike[str],
    stream: Stream[Any],
    *,
    speed: float | None = None,
    id: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Put the records of a recording into a stream, byte for byte, and return how many there were.

    The whole file is checked first, so of a damaged one nothing is put. The order of each partition key is kept; which
    shards there are is up to the stream. What is in memory at a time does not depend on how many records there are.

    ::

        await replay("flights.jsonl", kit.stream("flights"))           # as fast as it goes
        await replay("flights.jsonl", kit.stream("flights"), speed=60)  # an hour in a minute, by the kit's clock

    Args:
        path: what ``record`` wrote, or somebody by hand.
        stream: a handle to it; the values must fit its type.
        speed: how many times as fast as the records arrived, on the clock of the stream's kit; None: at once.
        id: of an idempotent producer: a replay that was cut short can be repeated, and stores no record twice.
        progress: called with how many records are done and how many there are.

    Cancellation: some records were put. With an ``id`` the replay can be repeated.

    Raises:
        RecordingError: the file is damaged, or cut short, or a value does not fit the stream's type; it names the line.
        StorageError: the file cannot be read.
        ValidationError: the speed is not above 0; or a record is over a limit of the stream's engine.
        NotFoundError: there is no such stream.
    """
    if speed is not None and (isinstance(speed, bool) or not isinstance(speed, (int, float)) or not speed > 0):
        raise ValidationError(f"speed is how many times as fast, a number above 0, or None for at once, not {speed!r}")
    clock = stream._clock
    began_ms = clock.now_ms()
    source = await anyio.to_thread.run_sync(os.path.abspath, os.fspath(path))
    await stream.describe()
    with _readable(source):
        total = await in_thread(_check, source, stream.codec)
    raw: Stream[bytes] = Stream(
        stream.name, Codec(bytes), stream._store, stream._leases._tables, clock, stream._metrics
    )
    done = 0
    first_ms: int | None = None
    lines = _records(source)

    def next_lines() -> list[Line]:
        return list(islice(lines, _LINES))

    try:
        async with raw.producer(id=id) as producer:
            while True:
                with _readable(source):
                    some = await in_thread(next_lines)
                if not some:
                    break
                for line in some:
                    if speed is not None and line.arrival_ms is not None:
                        first_ms = line.arrival_ms if first_ms is None else first_ms
                        due_ms = began_ms + round((line.arrival_ms - first_ms) / speed)
                        if due_ms > clock.now_ms():
                            await producer.flush()
                            await clock.sleep_until(due_ms)
                    await producer.put(
                        line.data,
                        partition_key=line.key,
                        explicit_hash_key=None if line.hash_key is None else int(line.hash_key),
                        sequence=None if id is None else done,
                        attributes=line.attributes,
                    )
                    done += 1
                if progress is not None:
                    progress(done, total)
    finally:
        await in_thread(lines.close)
    return done


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _check(path: str, codec: Codec[Any]) -> int:
    """How many records there are.

    Raises:
        RecordingError: not all of the file is as it should be.
    """
    records = 0
    for number, line in enumerate(_records(path), start=2):
        try:
            codec.decode(line.data)
        except DecodeError as error:
            raise RecordingError(path, number, f"its value does not fit the stream: {error}") from None
        records += 1
    return records


def _records(path: str) -> Generator[Line, None, None]:
    """Each record's line."""
    with open(path, "rb") as file:
        yield from _lines(path, file)


def _lines(path: str, file: IO[bytes]) -> Iterator[Line]:
    """The end is one that says how many records there are."""
    header = file.readline()
    parse_header(path, header)
    number = 1
    end: End | None = None
    for number, line in enumerate(file, start=2):
        if end is not None:
            raise RecordingError(path, number, f"the recording ended in line {number - 1}")
        found = parse(path, number, line)
        if isinstance(found, Line):
            yield found
        elif found.end != number - 2:
            raise RecordingError(path, number, f"there should be {found.end} records before it, and are {number - 2}")
        else:
            end = found
    if end is None:
        raise RecordingError(path, number + 1, f"the file was cut short after {number - 1} records: it has no end")

"""The journal's segments as files: their names, their sizes, and how the next one comes to be before it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamkit.engines.file import frame as framing
from streamkit.engines.file import offload
from streamkit.engines.file.files import Files, fill_with_zeros
from streamkit.limits import MIB

FIRST_SEGMENT_BYTES = 4 * MIB
LARGEST_SEGMENT_BYTES = 64 * MIB
_RETRY_SECONDS = 1.0
_SPARE = "spare-"
_SPARES_KEPT = 2


class NoRoomError(Exception):
    """The disk was too full for the next segment. Nothing has changed."""


class Segment(msgspec.Struct):
    """A journal file that is open for writing."""

    number: int
    path: str
    fd: int
    size: int
    end: int = framing.SEGMENT_HEADER_SIZE

    @property
    def is_begun(self) -> bool:
        """Time to make the next one, which takes as long as filling half of this one at full speed."""
        return self.end > self.size // 8

    @property
    def is_nearly_full(self) -> bool:
        """Three quarters of it are used."""
        return self.size - self.end < self.size // 4


class Position(msgspec.Struct, frozen=True):
    """A place between two frames of the journal."""

    segment: int
    offset: int
    number: int
    """Of the frame that begins here."""


def segment_path(directory: str, number: int) -> str:
    """Where a segment is."""
    return os.path.join(directory, f"{number:012d}.log")


def segment_numbers(files: Files, directory: str) -> list[int]:
    """The segments that are there, in order. Files of other names are nobody's business here."""
    stems = [name.removesuffix(".log") for name in files.names(directory) if name.endswith(".log")]
    return sorted(int(stem) for stem in stems if len(stem) >= 12 and stem.isascii() and stem.isdigit())


def retire_segments(files: Files, directory: str, before: int) -> None:
    """Let go of the segments whose numbers are less than ``before``. Some of the large ones are kept to be used again.

    A file that was written before takes a commit as fast as one that was filled with zeros, and needs no filling.
    """
    spares = len(_spares(files, directory))
    for number in segment_numbers(files, directory):
        if number >= before:
            break
        path = segment_path(directory, number)
        if spares < _SPARES_KEPT and segment_size(number) == LARGEST_SEGMENT_BYTES:
            files.rename(path, os.path.join(directory, f"{_SPARE}{number:012d}"))
            spares += 1
        else:
            files.remove(path)


def _spares(files: Files, directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in files.names(directory) if name.startswith(_SPARE)]


def segment_size(number: int) -> int:
    """Small stores stay small: each segment is twice the one before, up to 64 MiB."""
    return min(LARGEST_SEGMENT_BYTES, FIRST_SEGMENT_BYTES << min(number - 1, 16))


def create_segment(files: Files, directory: str, number: int, size: int, store_id: int) -> Segment:
    """A new segment, filled with zeros or used before, whole and durable before its name exists."""
    for spare in _spares(files, directory) if size <= LARGEST_SEGMENT_BYTES else ():
        again = _use_again(files, spare, segment_path(directory, number), number, size, store_id)
        if again is not None:
            return again
    path = segment_path(directory, number)
    temporary = path + ".new"
    fd = files.open(temporary, create=True)
    try:
        fill_with_zeros(files, fd, size)
        files.write(fd, framing.segment_header(number, store_id, size), 0)
        files.sync(fd)
        files.rename(temporary, path)
        files.sync_directory(directory)
    except BaseException:
        with contextlib.suppress(OSError):
            files.close(fd)
        with contextlib.suppress(OSError):
            files.remove(temporary)
        raise
    return Segment(number, path, fd, size)


def _use_again(files: Files, spare: str, path: str, number: int, size: int, store_id: int) -> Segment | None:
    """A retired segment under a new number; None: it has not the size it should have."""
    fd = files.open(spare)
    try:
        size_of_file = files.size(fd)
        if size_of_file < max(size, LARGEST_SEGMENT_BYTES):
            files.close(fd)
            files.remove(spare)
            return None
        # Its frames have the earlier number, which none that is looked for has.
        files.write(fd, framing.segment_header(number, store_id, size_of_file) + framing.TERMINATOR, 0)
        files.sync(fd)
        files.rename(spare, path)
        files.sync_directory(os.path.dirname(path))
    except BaseException:
        with contextlib.suppress(OSError):
            files.close(fd)
        raise
    return Segment(number, path, fd, size_of_file)


def close_quietly(files: Files, segment: Segment) -> None:
    """Close a segment of which everything is on disk, or nothing is needed: an error could tell nothing."""
    with contextlib.suppress(OSError):
        files.close(segment.fd)


class NextSegment:
    """The segment that follows the one in use, made ahead so that no commit waits for zeros.

    Belongs to the event loop, except ``take``. It is also the first to hear that the disk is full, at a time when the
    segment in use still has room for what was taken already (docs/adr/0007).
    """

    def __init__(self, files: Files, directory: str, store_id: int, executor: ThreadPoolExecutor) -> None:
        self.making: asyncio.Future[Segment] | None = None
        """The thread that makes it; whoever needs the segment waits for that first."""
        self._files = files
        self._directory = directory
        self._store_id = store_id
        self._executor = executor
        self._ready: Segment | None = None
        self._claimed = 0
        self._no_room_since: float | None = None

    def prepare(self, number: int) -> None:
        """Make segment ``number`` in the background, unless it is there, on its way, or was refused just now."""
        if number <= self._claimed:
            return
        if self._no_room_since is not None and time.monotonic() - self._no_room_since <= _RETRY_SECONDS:
            return
        self._claimed = number
        self.making = offload.start(self._executor, lambda: self._create(number, segment_size(number)), background=True)
        self.making.add_done_callback(self._made)

    def _made(self, finished: asyncio.Future[Segment]) -> None:
        self.making = None
        error = finished.exception()
        if error is None:
            self._ready = finished.result()
            self._no_room_since = None
            return
        self._claimed -= 1
        if _is_full(error):
            self._no_room_since = time.monotonic()
        # Any other error comes again, and is reported, when a commit needs the segment.

    def lacks_room(self, number: int) -> bool:
        """Whether there was no room for segment ``number`` when it was last tried. Tries again, once a second."""
        if self._no_room_since is None:
            return False
        self.prepare(number)
        return True

    def claim(self, number: int) -> None:
        """A commit is about to ``take`` segment ``number``: nobody else may begin to make it."""
        self._claimed = max(self._claimed, number)

    def refused(self, number: int) -> None:
        """The commit that claimed segment ``number`` found no room for it."""
        self._claimed = number - 1
        self._no_room_since = time.monotonic()

    def take(self, number: int, size: int) -> Segment:
        """Segment ``number`` with room for ``size`` bytes of frames, made now if need be; in the thread of a commit.

        Raises:
            NoRoomError: the disk is full.
            OSError: it cannot be made.
        """
        size += framing.SEGMENT_HEADER_SIZE
        ready, self._ready = self._ready, None
        if ready is not None and ready.size < size:
            close_quietly(self._files, ready)
            ready = None
        try:
            return ready or self._create(number, max(segment_size(number), size))
        except OSError as error:
            if _is_full(error):
                raise NoRoomError from error
            raise

    def give_back(self, segment: Segment) -> None:
        """It is not needed after all."""
        self._ready = segment

    async def close(self) -> None:
        """Let go of it. Its file stays until the next opening, which knows it for empty."""
        if self.making is not None:
            await asyncio.wait([self.making])
        if self._ready is not None:
            close_quietly(self._files, self._ready)

    def _create(self, number: int, size: int) -> Segment:
        return create_segment(self._files, self._directory, number, size, self._store_id)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)

"""The journal as somebody reads it who does not own it: frame after frame, while the owner goes on writing.

What was acknowledged is what is shown. Of an owner that syncs before it acknowledges the newest frame may not be on
disk yet, so the reader syncs the segment itself before it shows it. It has the segment open since before it saw the
frame, so a write-back that failed since then is reported to it as well; only one that failed before the segment was
opened is not, and then the frame is one that the next owner will find and keep. An owner that acknowledges what is only
written says so by its frames, and then that is shown.
"""

from __future__ import annotations

import contextlib
import time

import msgspec

from streamkit.engines.embedded.changes import Change
from streamkit.engines.file import frame as framing
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.segment import Position, segment_path
from streamkit.errors import CorruptLogError, StorageError
from streamkit.limits import KIB, MIB

_BYTES_AT_ONCE = 4 * MIB
_CHUNK_BYTES = 256 * KIB
_decode = msgspec.msgpack.Decoder(list[Change]).decode


class Group(msgspec.Struct, frozen=True):
    """One commit of the owner: whole or not at all."""

    number: int
    changes: list[Change]
    size: int
    """In bytes of the journal."""


class UnprovenError(StorageError):
    """A sync failed: nobody knows whether what was written is on disk, and a later sync proves nothing."""


class JournalTail:
    """Reads a journal from a position on. Belongs to one thread at a time.

    ``read`` either goes on from where it was or, if it raises, has not moved.
    """

    def __init__(self, files: ReadOnlyFiles, directory: str, store_id: int, position: Position) -> None:
        """Open the position's segment.

        Raises:
            OSError: it is not there, or cannot be opened.
            CorruptLogError: it is another one.
            UnknownFormatError: another version wrote it.
        """
        self.position = position
        self.at_end = False
        """Nothing more was there when it was last read."""
        self.acknowledged_unsynced = False
        """The owner acknowledges what is only written."""
        self.sync_seconds = 0.0
        """What the last sync took."""
        self._files = files
        self._directory = directory
        self._store_id = store_id
        self._fd = self._opened(position.segment)

    def close(self) -> None:
        """Let go of the segment."""
        with contextlib.suppress(OSError):
            self._files.close(self._fd)

    def is_where_it_was(self) -> bool:
        """Whether the segment that is being read still has its name."""
        path = segment_path(self._directory, self.position.segment)
        return self._files.identity(path) == self._files.identity_of(self._fd)

    def read(self) -> list[Group]:
        """The next groups, some megabytes at most. None: what follows is not there, or not whole yet.

        Raises:
            FileNotFoundError: the next segment is gone: the owner settled what was in it.
            OSError: it cannot be read.
            CorruptLogError: this is not the journal that was read before.
            UnprovenError: see there.
        """
        groups: list[Group] = []
        fd, position = self._fd, self.position
        opened: list[int] = []
        kind, newest = framing.DATA, fd
        size = 0
        try:
            while size < _BYTES_AT_ONCE:
                found = self._frames(fd, position)
                if not found:
                    break
                for frame in found:
                    size += frame.end - frame.offset
                    if frame.kind == framing.SEAL:
                        break
                    groups.append(self._group(frame, position.segment))
                    kind, newest = frame.kind, fd
                    position = Position(position.segment, frame.end, frame.number + 1)
                if found[-1].kind == framing.SEAL:
                    # The next one is there before this one is sealed.
                    fd = self._opened(position.segment + 1)
                    opened.append(fd)
                    position = Position(position.segment + 1, framing.SEGMENT_HEADER_SIZE, position.number)
            # INVARIANT: test_what_was_written_but_not_synced_is_not_shown
            if groups and kind == framing.DATA:
                self._prove(newest)
        except BaseException:
            for descriptor in opened:
                with contextlib.suppress(OSError):
                    self._files.close(descriptor)
            raise
        for descriptor in [self._fd, *opened][:-1]:
            with contextlib.suppress(OSError):
                self._files.close(descriptor)
        self._fd, self.position, self.at_end = fd, position, size < _BYTES_AT_ONCE
        if groups:
            self.acknowledged_unsynced = kind == framing.WRITTEN
        return groups

    def check_end(self) -> None:
        """See that nothing whole follows what could not be read: that is damage, and no torn tail.

        Raises:
            CorruptLogError: it is damage.
        """
        segment, start = self.position.segment, self.position.offset
        path = segment_path(self._directory, segment)
        rest = self._files.read(self._fd, max(0, self._files.size(self._fd) - start), start)
        try:
            framing.refuse_damage(rest, path, segment, 0, self.position.number, self._store_id)
        except CorruptLogError as error:
            # A frame that was being written while the rest was read is whole by now, since a later one is.
            if not self._frames(self._fd, self.position):
                raise CorruptLogError(path, start, error.reason) from None

    def _opened(self, segment: int) -> int:
        path = segment_path(self._directory, segment)
        fd = self._files.open(path)
        try:
            header = self._files.read(fd, framing.SEGMENT_HEADER_SIZE, 0)
            framing.check_segment_header(header, path, segment, self._store_id, size=self._files.size(fd))
        except BaseException:
            self._files.close(fd)
            raise
        return fd

    def _frames(self, fd: int, position: Position) -> list[framing.Frame]:
        """The whole frames from a position on; those of a chunk, or one that is larger. A seal is the last of them."""
        segment, base, number = position.segment, position.offset, position.number
        head = self._files.read(fd, framing.FRAME_HEADER_SIZE, base)
        size = framing.size_at(head, 0, segment, self._store_id)
        if size is None:
            return []
        data = self._files.read(fd, max(size, _CHUNK_BYTES), base)
        found: list[framing.Frame] = []
        at = 0
        while (frame := framing.frame_at(data, at, segment, self._store_id)) is not None:
            if frame.number != number:
                path = segment_path(self._directory, segment)
                raise CorruptLogError(path, base + at, f"frame {frame.number} is in the place of frame {number}")
            at = frame.end
            found.append(msgspec.structs.replace(frame, offset=base + frame.offset, end=base + frame.end))
            if frame.kind == framing.SEAL:
                break
            number += 1
        return found

    def _group(self, frame: framing.Frame, segment: int) -> Group:
        try:
            return Group(frame.number, _decode(frame.payload), frame.end - frame.offset)
        except msgspec.DecodeError as error:
            path = segment_path(self._directory, segment)
            raise CorruptLogError(path, frame.offset, f"frame {frame.number} does not decode: {error}") from None

    def _prove(self, fd: int) -> None:
        begun = time.perf_counter()
        try:
            self._files.sync(fd)
        except OSError as error:
            raise UnprovenError(
                f"what was written last to {self._directory} may not have come to the disk ({error}): "
                "open it again once its owner has recovered"
            ) from error
        self.sync_seconds = time.perf_counter() - begun

"""The bytes of one commit group, and where a journal segment ends. Pure.

::

    segment  magic "SKJL" · format · segment number · store id · size · checksum        (64 bytes, the rest zeros, or
             what it held when it had another number)
    frame    magic "SKFR" · format · kind · unsynced · segment · length · number · header checksum · payload checksum
             payload · zeros up to a multiple of 8 · as many zeros as a header has, where the next frame will be

The header has a checksum of its own, so a flipped length cannot swallow what follows. The payload's checksum goes on
from the header's, so it covers the number and the place as well; the header's begins with the store id, so a record
that holds a frame of another store's journal is not mistaken for one. Frames are numbered without a gap through all
segments. Checksums are CRC-32C.

``unsynced`` is how many of the frames just before were not known to be on disk when this one was written: with
durability "fsync" only groups of receives. There a power loss may take a frame and leave a later one, and that is no
damage.
"""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct

import google_crc32c
import msgspec

from streamkit.errors import CorruptLogError, UnknownFormatError

FORMAT = 1
SEGMENT_HEADER_SIZE = 64
DATA = 0
SEAL = 1
"""The last frame of a segment that has a successor."""
WRITTEN = 2
"""Data of an owner who acknowledges what is only written: durability "interval" or "memory"."""

_CHECKED_AT_ONCE = 64 * 1024
_TRACES_KEPT = 1024 * 1024
MOST_UNSYNCED = 65535
"""Stands for all of them."""

_segment = Struct("<4sIQQQI")
_checked = Struct("<4sBBHIIQ")
_sums = Struct("<II")
_frame = Struct("<4sBBHIIQII")
_MAGIC_SEGMENT = b"SKJL"
_MAGIC_FRAME = b"SKFR"
FRAME_HEADER_SIZE = _frame.size
_CHECKED = _checked.size
SEAL_SIZE = FRAME_HEADER_SIZE
OVERHEAD = FRAME_HEADER_SIZE + 8 + SEAL_SIZE
"""What a frame needs beside its payload at most: with padding, and the seal that may follow."""
TERMINATOR = bytes(FRAME_HEADER_SIZE)
"""Written behind every frame but a seal, for which there is room: what the segment held before ends there."""


class Frame(msgspec.Struct, frozen=True):
    """One frame found in a segment."""

    kind: int
    number: int
    unsynced: int
    offset: int
    payload: bytes
    end: int
    """Where the next frame begins."""


def checksum(data: bytes | memoryview, start: int = 0) -> int:
    """CRC-32C, going on from ``start``."""
    if isinstance(data, memoryview):
        # It takes nothing but bytes. Parts that fit into the processor's cache are copied in no time.
        for at in range(0, len(data), _CHECKED_AT_ONCE):
            start = google_crc32c.extend(start, bytes(data[at : at + _CHECKED_AT_ONCE]))
        return start
    return int(google_crc32c.extend(start, data))


def segment_header(number: int, store_id: int, size: int) -> bytes:
    """The first bytes of a segment; ``size`` is that of the whole file, which is there before its name is."""
    checked = _segment.pack(_MAGIC_SEGMENT, FORMAT, number, store_id, size, 0)[:-4]
    return (checked + checksum(checked).to_bytes(4, "little")).ljust(SEGMENT_HEADER_SIZE, b"\0")


def check_segment_header(data: bytes, path: str, number: int, store_id: int, *, size: int | None = None) -> None:
    """See that a segment is the one its name says, of this store; ``size`` is the file's, if ``data`` is not all of it.

    Raises:
        CorruptLogError: it is not.
        UnknownFormatError: another version wrote it.
    """
    if len(data) < SEGMENT_HEADER_SIZE:
        raise CorruptLogError(path, len(data), "the segment is shorter than its header")
    magic, format_, found_number, found_store, made_size, stored = _segment.unpack_from(data)
    if magic != _MAGIC_SEGMENT or checksum(data[: _segment.size - 4]) != stored:
        raise CorruptLogError(path, 0, "the segment header does not match its checksum")
    if format_ != FORMAT:
        raise UnknownFormatError(path, format_, FORMAT)
    if (found_number, found_store) != (number, store_id):
        raise CorruptLogError(path, 0, f"this is segment {found_number} of store {found_store:x}: a file was misplaced")
    if (len(data) if size is None else size) < made_size:
        raise CorruptLogError(path, len(data), f"the segment was made with {made_size:,} bytes: its end is missing")


def frame(kind: int, segment: int, number: int, payload: bytes, *, store_id: int, unsynced: int = 0) -> bytes:
    """The bytes of a frame."""
    return b"".join(frame_parts(kind, segment, number, payload, store_id=store_id, unsynced=unsynced))


def frame_parts(
    kind: int, segment: int, number: int, payload: bytes, *, store_id: int, unsynced: int = 0, behind: bytes = b""
) -> tuple[bytes, bytes, bytes]:
    """The same as header, payload and padding with what is written behind it: not joined, the payload may be large.

    HOT: `python -m benchmarks --only append`.
    """
    if unsynced > MOST_UNSYNCED:
        unsynced = MOST_UNSYNCED
    size = len(payload)
    checked = _checked.pack(_MAGIC_FRAME, FORMAT, kind, unsynced, segment, size, number)
    header_sum = google_crc32c.extend(store_id & 0xFFFFFFFF, checked)
    sums = _sums.pack(header_sum, google_crc32c.extend(header_sum, payload))
    return checked + sums, payload, bytes(-size % 8) + behind


class Tail(msgspec.Struct, frozen=True):
    """Where the frames of a segment end."""

    offset: int
    number: int
    """Of the next data frame."""
    sealed: bool
    torn_end: int
    """Up to here a crash left parts of frames, or whole ones whose place is not proven; ``offset``: it left nothing."""

    @property
    def torn(self) -> bool:
        """Whether a crash cut something short."""
        return self.torn_end > self.offset


def frames(
    data: bytes, path: str, segment: int, number: int, offset: int, store_id: int
) -> Generator[Frame, None, Tail]:
    """The data frames of a segment from ``offset`` on, the first numbered ``number``; returns where they end.

    Raises:
        CorruptLogError: there are valid frames after the first that is not: that is damage, no torn tail.
    """
    sealed = False
    while not sealed:
        found = frame_at(data, offset, segment, store_id)
        if found is None or found.number != number:
            break
        offset = found.end
        # A seal has the number of the data frame that follows it in the next segment.
        sealed = found.kind == SEAL
        if not sealed:
            number += 1
            yield found
    return Tail(offset, number, sealed, refuse_damage(data, path, segment, offset, number, store_id))


def frame_at(data: bytes, offset: int, segment: int, store_id: int) -> Frame | None:
    """The valid frame of this segment at ``offset``, if there is one."""
    size = size_at(data, offset, segment, store_id)
    if size is None:
        return None
    _, _, kind, unsynced, _, length, number, header_sum, payload_sum = _frame.unpack_from(data, offset)
    start = offset + FRAME_HEADER_SIZE
    payload = data[start : start + length]
    if len(payload) != length or google_crc32c.extend(header_sum, payload) != payload_sum:
        return None
    return Frame(kind, number, unsynced, offset, payload, offset + size)


def size_at(data: bytes, offset: int, segment: int, store_id: int) -> int | None:
    """How many bytes the frame of this segment at ``offset`` has, of which maybe only the header is whole yet."""
    if offset + FRAME_HEADER_SIZE > len(data):
        return None
    length: int
    magic, format_, _, _, found_segment, length, _, header_sum, _ = _frame.unpack_from(data, offset)
    if magic != _MAGIC_FRAME or format_ != FORMAT or found_segment != segment:
        return None
    if google_crc32c.extend(store_id & 0xFFFFFFFF, data[offset : offset + _CHECKED]) != header_sum:
        return None
    return FRAME_HEADER_SIZE + length + -length % 8


def refuse_damage(data: bytes, path: str, segment: int, end: int, number: int, store_id: int) -> int:
    """See that no crash can have taken frame ``number``, which should be at ``end``; returns where its traces end.

    A segment that was used before is full of frames of its earlier number, which are no traces of anything. Where the
    next frame will be there are zeros, unless somebody began to write it.

    Raises:
        CorruptLogError: a whole frame follows that was written when frame ``number`` was on disk.
    """
    traces = end
    if data[end : end + FRAME_HEADER_SIZE].strip(b"\0"):
        # What was begun here ends nobody knows where, unless its header is whole.
        traces += len(data[end : end + _TRACES_KEPT].rstrip(b"\0"))
    offset = data.find(_MAGIC_FRAME, end)
    while offset != -1:
        size = size_at(data, offset, segment, store_id)
        if size is not None:
            traces = max(traces, min(len(data), offset + size))
            found = frame_at(data, offset, segment, store_id)
            # A frame's payload may itself hold the bytes of a frame, but only of a number that was written before.
            if found is not None and found.unsynced < MOST_UNSYNCED and found.number - found.unsynced > number:
                raise CorruptLogError(
                    path, end, f"frame {number} is damaged, but frame {found.number} after it is whole"
                )
        offset = data.find(_MAGIC_FRAME, offset + 1)
    return traces

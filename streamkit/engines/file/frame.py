"""The bytes of one commit group, and where a journal segment ends. Pure.

::

    segment  magic "SKJL" · format · segment number · store id · checksum        (64 bytes, the rest zero)
    frame    magic "SKFR" · format · kind · 0 · segment · length · number · header checksum · payload checksum
             payload · zeros up to a multiple of 8

The header has a checksum of its own, so a flipped length cannot swallow what follows. The payload's checksum goes on
from the header's, so it covers the number and the place as well. Frames are numbered without a gap through all
segments. Checksums are CRC-32C.
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

_segment = Struct("<4sIQQI")
_frame = Struct("<4sBBHIIQII")
_MAGIC_SEGMENT = b"SKJL"
_MAGIC_FRAME = b"SKFR"
FRAME_HEADER_SIZE = _frame.size
_CHECKED = FRAME_HEADER_SIZE - 8
SEAL_SIZE = FRAME_HEADER_SIZE


class Frame(msgspec.Struct, frozen=True):
    """One frame found in a segment."""

    kind: int
    number: int
    offset: int
    payload: bytes
    end: int
    """Where the next frame begins."""


def checksum(data: bytes) -> int:
    """CRC-32C."""
    return int(google_crc32c.value(data))


def segment_header(number: int, store_id: int) -> bytes:
    """The first bytes of a segment."""
    checked = _segment.pack(_MAGIC_SEGMENT, FORMAT, number, store_id, 0)[:-4]
    return (checked + checksum(checked).to_bytes(4, "little")).ljust(SEGMENT_HEADER_SIZE, b"\0")


def check_segment_header(data: bytes, path: str, number: int, store_id: int) -> None:
    """See that a segment is the one its name says, of this store.

    Raises:
        CorruptLogError: it is not.
        UnknownFormatError: another version wrote it.
    """
    if len(data) < SEGMENT_HEADER_SIZE:
        raise CorruptLogError(path, len(data), "the segment is shorter than its header")
    magic, format_, found_number, found_store, stored = _segment.unpack_from(data)
    if magic != _MAGIC_SEGMENT or checksum(data[: _segment.size - 4]) != stored:
        raise CorruptLogError(path, 0, "the segment header does not match its checksum")
    if format_ != FORMAT:
        raise UnknownFormatError(path, format_, FORMAT)
    if (found_number, found_store) != (number, store_id):
        raise CorruptLogError(path, 0, f"this is segment {found_number} of store {found_store:x}: a file was misplaced")


def frame(kind: int, segment: int, number: int, payload: bytes) -> bytes:
    """The bytes of a frame. HOT: `python -m benchmarks --only append`."""
    checked = _frame.pack(_MAGIC_FRAME, FORMAT, kind, 0, segment, len(payload), number, 0, 0)[:_CHECKED]
    header_checksum = google_crc32c.value(checked)
    payload_checksum = google_crc32c.extend(header_checksum, payload)
    sums = header_checksum.to_bytes(4, "little") + payload_checksum.to_bytes(4, "little")
    return b"".join((checked, sums, payload, bytes(-len(payload) % 8)))


class Tail(msgspec.Struct, frozen=True):
    """Where the frames of a segment end."""

    offset: int
    number: int
    """Of the next data frame."""
    sealed: bool
    torn: bool
    """Something other than zeros follows, but no whole frame."""


def frames(data: bytes, path: str, segment: int, number: int, offset: int) -> Generator[Frame, None, Tail]:
    """The data frames of a segment from ``offset`` on, the first numbered ``number``; returns where they end.

    Raises:
        CorruptLogError: there are valid frames after the first that is not: that is damage, no torn tail.
    """
    sealed = False
    while not sealed:
        found = frame_at(data, offset, segment)
        if found is None or found.number != number:
            break
        offset = found.end
        # A seal has the number of the data frame that follows it in the next segment.
        sealed = found.kind == SEAL
        if not sealed:
            number += 1
            yield found
    _refuse_damage(data, path, segment, offset, number)
    return Tail(offset, number, sealed, bool(data[offset:].strip(b"\0")))


def frame_at(data: bytes, offset: int, segment: int) -> Frame | None:
    """The valid frame of this segment at ``offset``, if there is one."""
    if offset + FRAME_HEADER_SIZE > len(data):
        return None
    magic, format_, kind, _, found_segment, length, number, header_sum, payload_sum = _frame.unpack_from(data, offset)
    if magic != _MAGIC_FRAME or format_ != FORMAT or found_segment != segment:
        return None
    if google_crc32c.value(data[offset : offset + _CHECKED]) != header_sum:
        return None
    start = offset + FRAME_HEADER_SIZE
    payload = data[start : start + length]
    if len(payload) != length or google_crc32c.extend(header_sum, payload) != payload_sum:
        return None
    return Frame(kind, number, offset, payload, start + length + -length % 8)


def _refuse_damage(data: bytes, path: str, segment: int, end: int, number: int) -> None:
    offset = data.find(_MAGIC_FRAME, end)
    while offset != -1:
        found = frame_at(data, offset, segment)
        # A frame's payload may itself hold the bytes of a frame, but only of a number that was written before.
        if found is not None and found.number >= number:
            raise CorruptLogError(path, end, f"frame {number} is damaged, but frame {found.number} after it is whole")
        offset = data.find(_MAGIC_FRAME, offset + 1)

"""The bytes of a block of records: pure. Blocks in order are a shard's file.

::

    block    magic "SKBK" · count · payload length · file serial · first number · last number · latest arrival
             header checksum · payload checksum · payload: first number, arrivals, keys, data as columns, and runs of
             attributes by place (msgpack)

A serial is of one file of the store alone, so a file in the place of another is noticed. Numbers have no gap in a file.

HOT: `python -m benchmarks --only read`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, count
from struct import Struct

import msgspec

from streamkit.engines.embedded.changes import plain
from streamkit.engines.file.frame import checksum
from streamkit.errors import CorruptLogError
from streamkit.limits import KIB
from streamkit.streams.record import StoredRecord
from streamkit.streams.record_attributes import AttributeRun, bytes_of, column, part

BLOCK_BYTES = 256 * KIB
_header = Struct("<4sIIQQQQII")
HEADER_SIZE = _header.size
_MAGIC = b"SKBK"
_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode


class Columns(msgspec.Struct, array_like=True, gc=False):
    """Records of one shard, whose numbers have no gap."""

    first_number: int
    arrivals_ms: list[int]
    keys: list[str]
    data: list[bytes]
    attributes: list[AttributeRun] = []
    """Of those that have some, by place. Files of before have no such column."""

    @property
    def last_number(self) -> int:
        """Of the last record."""
        return self.first_number + len(self.data) - 1

    def part(self, start: int, end: int) -> Columns:
        """Some of them, by place."""
        return Columns(
            self.first_number + start,
            self.arrivals_ms[start:end],
            self.keys[start:end],
            self.data[start:end],
            part(self.attributes, start, end),
        )


_decode = msgspec.msgpack.Decoder(Columns).decode


class Block(msgspec.Struct, frozen=True, gc=False):
    """Where a block is, and what it holds."""

    serial: int
    offset: int
    size: int
    first_number: int
    last_number: int
    latest_arrival_ms: int


def blocks_of(records: Columns) -> Iterator[Columns]:
    """The records in parts of at least ``BLOCK_BYTES``, but for the last."""
    sizes = list(map(len, records.data))
    for run in records.attributes:
        # Once for the whole run, as it is stored. Who reads one record of a block reads all of it.
        sizes[run.first] += bytes_of(run.attributes)
    ends = list(accumulate(sizes))
    start = 0
    while start < len(ends):
        # 64 bytes for what each has beside its data and attributes.
        wanted = (ends[start - 1] if start else 0) + BLOCK_BYTES
        end = bisect_left(range(start, len(ends)), wanted, key=lambda place: ends[place] + 64 * (place + 1 - start))
        yield records.part(start, min(len(ends), start + end + 1))
        start = min(len(ends), start + end + 1)


def pack(records: Columns, serial: int) -> bytes:
    """The bytes of a block."""
    payload = _encode(records)
    latest = max(records.arrivals_ms)
    first, last = records.first_number, records.last_number
    checked = _header.pack(_MAGIC, len(records.data), len(payload), serial, first, last, latest, 0, 0)[:-8]
    return b"".join(
        (checked, checksum(checked).to_bytes(4, "little"), checksum(payload).to_bytes(4, "little"), payload)
    )


def block_at(header: bytes, path: str, offset: int, serial: int, number: int) -> Block:
    """The block whose first bytes are ``header``: of file ``serial``, beginning with record ``number``.

    Raises:
        CorruptLogError: it is not.
    """
    if len(header) < HEADER_SIZE:
        raise CorruptLogError(path, offset, "the file is shorter than the manifest says")
    magic, records, length, found, first, last, arrival, header_sum, _ = _header.unpack_from(header)
    if magic != _MAGIC or checksum(header[: HEADER_SIZE - 8]) != header_sum:
        raise CorruptLogError(path, offset, "a block header does not match its checksum")
    if found != serial:
        raise CorruptLogError(path, offset, f"this is file {found} of this store: it was misplaced")
    if (first, last) != (number, number + records - 1):
        raise CorruptLogError(path, offset, f"the block begins with record {first} and not with {number}")
    return Block(serial, offset, HEADER_SIZE + length, first, last, arrival)


def unpack(data: bytes | memoryview, path: str, offset: int) -> list[StoredRecord]:
    """The records of a block, which was read at ``offset`` of ``path``.

    Raises:
        CorruptLogError: it does not match its checksum.
    """
    payload = memoryview(data)[HEADER_SIZE:]
    if len(data) < HEADER_SIZE or checksum(payload) != _header.unpack_from(data)[-1]:
        raise CorruptLogError(path, offset, "a block does not match its checksum")
    try:
        columns = _decode(payload)
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, offset, f"a block does not decode: {error}") from None
    numbers = count(columns.first_number)
    if columns.attributes:
        given = column(columns.attributes, len(columns.data))
        return list(map(StoredRecord, numbers, columns.arrivals_ms, columns.keys, columns.data, given))
    return list(map(StoredRecord, numbers, columns.arrivals_ms, columns.keys, columns.data))

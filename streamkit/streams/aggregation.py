"""Many user records in one: the aggregation format of the Kinesis Producer Library, both ways. Pure.

::

    F3 89 9A C2 · AggregatedRecord (protobuf) · MD5 of the protobuf bytes

    AggregatedRecord { repeated string partition_key_table = 1; repeated string explicit_hash_key_table = 2;
                       repeated Record records = 3 }
    Record           { uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2; bytes data = 3;
                       repeated Tag tags = 4 }

Follows the message format of the Kinesis Producer Library ("aggregation-format.md"). Three message types are read and
written here by hand: the whole of protobuf would be a dependency of every install, for sixty lines.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import md5
from operator import attrgetter

import msgspec

from streamkit.streams.keyspace import KEY_SPACE, HashKeyRange, hash_key
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutEntry, ShardDescription

MAGIC = b"\xf3\x89\x9a\xc2"
MAX_BYTES = 51_200
"""Of one aggregate, as in the Kinesis Producer Library."""
_DIGEST = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KEYS, _EXPLICIT, _RECORDS = 1, 2, 3
_OUTER_KEY = "a"
_data_of = attrgetter("data")


class MalformedError(Exception):
    """It is no aggregate, whatever it begins with."""


class UserRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of an aggregate."""

    partition_key: str
    data: bytes
    explicit_hash_key: int | None = None


def is_aggregated(data: bytes) -> bool:
    """Whether it begins as an aggregate does; only ``user_records`` knows whether it is one."""
    return data.startswith(MAGIC)


def any_aggregated(records: Sequence[StoredRecord]) -> bool:
    """Whether one of them may be an aggregate. HOT: `python -m benchmarks --only read`."""
    # An aggregate is not less than its magic, and most data is: the largest tells that of all in a third of the time.
    return max(map(_data_of, records), default=b"") >= MAGIC and any(map(is_aggregated, map(_data_of, records)))


def user_records(stored: StoredRecord, hash_key_range: HashKeyRange | None = None) -> list[StoredRecord] | None:
    """The records that an aggregate holds, in order; None: it is a plain record.

    They have its sequence number and arrival; their subsequence numbers are their places. Whatever does not decode to
    the last byte is a plain record and no error.

    With ``hash_key_range`` they are only those that belong to a shard: from the first that does not on, none does.
    """
    found = _unpacked(stored.data)
    if found is None:
        return None
    if hash_key_range is not None:
        inside = 0
        for each in found:
            key = hash_key(each.partition_key) if each.explicit_hash_key is None else each.explicit_hash_key
            if key not in hash_key_range:
                break
            inside += 1
        found = found[:inside]
    return [StoredRecord(stored.sequence_number, stored.arrival_ms, each.partition_key, each.data) for each in found]


def aggregate(entries: Sequence[PutEntry], outer_hash_key: int | None = None) -> PutEntry:
    """One entry that holds them all, in order. A single one stays as it is.

    ``outer_hash_key`` sends the aggregate to the shard that all of them belong to; None: to that of the first.
    """
    if len(entries) == 1:
        return entries[0]
    keys: dict[str, int] = {}
    explicit: dict[int, int] = {}
    records = bytearray()
    for entry in entries:
        record = bytearray()
        _put_varint(record, _KEYS << 3 | _VARINT)
        _put_varint(record, keys.setdefault(entry.partition_key, len(keys)))
        if entry.explicit_hash_key is not None:
            _put_varint(record, _EXPLICIT << 3 | _VARINT)
            _put_varint(record, explicit.setdefault(entry.explicit_hash_key, len(explicit)))
        _put_bytes(record, _RECORDS, entry.data)
        _put_bytes(records, _RECORDS, record)
    message = bytearray()
    for key in keys:
        _put_bytes(message, _KEYS, key.encode())
    for number in explicit:
        _put_bytes(message, _EXPLICIT, str(number).encode())
    message += records
    first = entries[0]
    if outer_hash_key is None:
        outer_hash_key = hash_key(first.partition_key) if first.explicit_hash_key is None else first.explicit_hash_key
    digest = md5(message, usedforsecurity=False).digest()
    return PutEntry(_OUTER_KEY, MAGIC + bytes(message) + digest, outer_hash_key)


class Outgoing(msgspec.Struct, gc=False):
    """What a producer puts as one entry."""

    entry: PutEntry
    sequence: int
    """The producer's, of the last record in it."""
    packed: list[PutEntry] | None
    """The records of an aggregate; None: it is a plain one."""
    shard_id: str = ""
    """Where it was packed for."""


def pack(
    accepted: Sequence[tuple[PutEntry, int, int]],
    shards: Sequence[ShardDescription],
    max_bytes: int,
    *,
    in_order: bool,
) -> list[Outgoing]:
    """Entries (with their sizes and sequences) as aggregates of at most ``max_bytes``, each of one shard.

    Each key's records keep their order. ``in_order``: all of them do, so that what is stored is always everything up
    to some sequence; then only neighbours of one shard are packed together.
    """
    ordered = sorted(shards, key=lambda shard: shard.hash_key_range.start)
    starts = [shard.hash_key_range.start for shard in ordered]
    outgoing: list[Outgoing] = []
    open_for: dict[str, tuple[list[PutEntry], int]] = {}
    sequences: dict[str, int] = {}

    def close(shard_id: str) -> None:
        entries, _ = open_for.pop(shard_id)
        packed = entries if len(entries) > 1 else None
        outgoing.append(Outgoing(aggregate(entries), sequences[shard_id], packed, shard_id))

    for entry, _, sequence in accepted:
        key = hash_key(entry.partition_key) if entry.explicit_hash_key is None else entry.explicit_hash_key
        shard_id = ordered[bisect_right(starts, key) - 1].shard_id
        if in_order:
            for other in [each for each in open_for if each != shard_id]:
                close(other)
        size = aggregated_size(entry)
        if shard_id in open_for and open_for[shard_id][1] + size > max_bytes:
            close(shard_id)
        entries, total = open_for.get(shard_id, ([], len(MAGIC) + _DIGEST))
        entries.append(entry)
        open_for[shard_id] = entries, total + size
        sequences[shard_id] = sequence
    for shard_id in list(open_for):
        close(shard_id)
    return outgoing


def aggregated_size(entry: PutEntry) -> int:
    """At most so many bytes more has an aggregate that holds this entry as well."""
    explicit = 0 if entry.explicit_hash_key is None else 44
    return len(entry.data) + len(entry.partition_key.encode()) + 40 + explicit


# ---- reading


def _unpacked(data: bytes) -> list[UserRecord] | None:
    if not data.startswith(MAGIC) or len(data) <= len(MAGIC) + _DIGEST:
        return None
    message = data[len(MAGIC) : -_DIGEST]
    if md5(message, usedforsecurity=False).digest() != data[-_DIGEST:]:
        return None
    try:
        return _decoded(message) or None  # One of no records must not vanish.
    except (MalformedError, UnicodeDecodeError, IndexError):
        return None


def _decoded(message: bytes) -> list[UserRecord]:
    keys: list[str] = []
    explicit: list[int] = []
    records: list[bytes] = []
    for field, value in _fields(message):
        if field in (_KEYS, _EXPLICIT, _RECORDS):
            if not isinstance(value, bytes):
                raise MalformedError
            if field == _KEYS:
                keys.append(value.decode())
            elif field == _EXPLICIT:
                explicit.append(_hash_key_of(value))
            else:
                records.append(value)
    return [_record(each, keys, explicit) for each in records]


def _record(message: bytes, keys: list[str], explicit: list[int]) -> UserRecord:
    key: int | None = None
    number: int | None = None
    data: bytes | None = None
    for field, value in _fields(message):
        if field == _KEYS and isinstance(value, int):
            key = value
        elif field == _EXPLICIT and isinstance(value, int):
            number = value
        elif field == _RECORDS and isinstance(value, bytes):
            data = value
        elif field in (_KEYS, _EXPLICIT, _RECORDS):
            raise MalformedError
    if key is None or data is None:
        raise MalformedError
    return UserRecord(keys[key], data, None if number is None else explicit[number])


def _hash_key_of(text: bytes) -> int:
    if not text.isdigit() or len(text) > 39 or (number := int(text)) >= KEY_SPACE:
        raise MalformedError
    return number


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values; those of unknown fields are left to the caller to ignore."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if not 0 < field < 2**29:
            raise MalformedError
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield field, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise MalformedError
        if at + size > len(message):
            raise MalformedError
        if kind == _BYTES:
            yield field, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise MalformedError
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                raise MalformedError
            return value, at
        shift += 7


# ---- writing


def _put_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_bytes(out: bytearray, field: int, value: bytes | bytearray) -> None:
    _put_varint(out, field << 3 | _BYTES)
    _put_varint(out, len(value))
    out += value

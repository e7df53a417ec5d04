"""Many user records in one: the aggregation format of the Kinesis Producer Library, both ways. Pure.

::

    F3 89 9A C2 · AggregatedRecord (protobuf) · MD5 of the protobuf bytes

    AggregatedRecord { repeated string partition_key_table = 1; repeated string explicit_hash_key_table = 2;
                       repeated Record records = 3 }
    Record           { uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2; bytes data = 3;
                       repeated Tag tags = 4 }
    Tag              { string key = 1; optional string value = 2 }

A record's attributes are its tags. Follows the message format of the Kinesis Producer Library
("aggregation-format.md"). Four message types are read and
written here by hand: the whole of protobuf would be a dependency of every install, for sixty lines.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import md5
from operator import attrgetter

import msgspec

from streamkit.errors import ValidationError
from streamkit.streams.keyspace import KEY_SPACE, HashKeyRange, hash_key
from streamkit.streams.record import StoredRecord
from streamkit.streams.record_attributes import Attributes, check
from streamkit.streams.store import PutEntry, ShardDescription

MAGIC = b"\xf3\x89\x9a\xc2"
MAX_BYTES = 51_200
"""Of one aggregate, as in the Kinesis Producer Library."""
_DIGEST = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KEYS, _EXPLICIT, _RECORDS, _TAGS = 1, 2, 3, 4
_TAG_KEY, _TAG_VALUE = 1, 2
_OUTER_KEY = "a"
_data_of = attrgetter("data")


class MalformedError(Exception):
    """It is no aggregate, whatever it begins with."""


class UserRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of an aggregate."""

    partition_key: str
    data: bytes
    explicit_hash_key: int | None = None
    attributes: Attributes | None = None


def is_aggregated(data: bytes) -> bool:
    """Whether it begins as an aggregate does; only ``user_records`` knows whether it is one."""
    return data.startswith(MAGIC)


def any_aggregated(records: Sequence[StoredRecord]) -> bool:
    """Whether one of them may be an aggregate. HOT: `python -m benchmarks --only read`."""
    # An aggregate is not less than its magic, and most data is: the largest tells that of all in a third of the time.
    return max(map(_data_of, records), default=b"") >= MAGIC and any(map(is_aggregated, map(_data_of, records)))


def user_records(stored: StoredRecord, hash_key_range: HashKeyRange | None = None) -> list[StoredRecord] | None:
    """The records that an aggregate holds, in order; None: it is a plain record.

    They have its sequence number and arrival, and its attributes unless they have tags of their own; their subsequence
    numbers are their places. Whatever does not decode to
    the last byte is a plain record and no error.

    With ``hash_key_range`` they are only those that belong to a shard: from the first that does not on, none does.
    """
    found = _unpacked(stored.data)
    if found is None:
        return None
    if hash_key_range is not None:
        inside = 0
        for each in found:
            if _hash_key(each) not in hash_key_range:
                break
            inside += 1
        found = found[:inside]
    number, arrival_ms = stored.sequence_number, stored.arrival_ms
    outer = stored.attributes
    return [StoredRecord(number, arrival_ms, each.partition_key, each.data, each.attributes or outer) for each in found]


class Packing:
    """An aggregate in the making. It knows its size to the byte."""

    __slots__ = ("_explicit", "_explicit_table", "_first", "_keys", "_keys_table", "_records", "size")

    def __init__(self, first: PutEntry) -> None:
        self.size = len(_OUTER_KEY) + len(MAGIC) + _DIGEST
        """As the service counts a record: data and partition key."""
        self._first = first
        self._keys: dict[str, int] = {}
        self._explicit: dict[int, int] = {}
        self._keys_table = bytearray()
        self._explicit_table = bytearray()
        self._records = bytearray()
        self.add(first)

    def add(self, entry: PutEntry, max_bytes: int | None = None) -> bool:
        """Take it in; False: it would make the aggregate larger than ``max_bytes``, and was not."""
        key, number = entry.partition_key, entry.explicit_hash_key
        keys, explicit, record, records = bytearray(), bytearray(), bytearray(), bytearray()
        if key not in self._keys:
            _put_bytes(keys, _KEYS, key.encode())
        _put_varint(record, _KEYS << 3 | _VARINT)
        _put_varint(record, self._keys.get(key, len(self._keys)))
        if number is not None:
            if number not in self._explicit:
                _put_bytes(explicit, _EXPLICIT, str(int(number)).encode())
            _put_varint(record, _EXPLICIT << 3 | _VARINT)
            _put_varint(record, self._explicit.get(number, len(self._explicit)))
        _put_bytes(record, _RECORDS, entry.data)
        for name, text in (entry.attributes or {}).items():
            tag = bytearray()
            _put_bytes(tag, _TAG_KEY, name.encode())
            _put_bytes(tag, _TAG_VALUE, text.encode())
            _put_bytes(record, _TAGS, tag)
        _put_bytes(records, _RECORDS, record)
        size = self.size + len(keys) + len(explicit) + len(records)
        if max_bytes is not None and size > max_bytes:
            return False
        self.size = size
        self._keys.setdefault(key, len(self._keys))
        if number is not None:
            self._explicit.setdefault(number, len(self._explicit))
        self._keys_table += keys
        self._explicit_table += explicit
        self._records += records
        return True

    def sealed(self, outer_hash_key: int | None = None) -> PutEntry:
        """The aggregate as one entry; see ``aggregate``."""
        message = self._keys_table + self._explicit_table + self._records
        digest = md5(message, usedforsecurity=False).digest()
        key = _hash_key(self._first) if outer_hash_key is None else outer_hash_key
        return PutEntry(_OUTER_KEY, MAGIC + bytes(message) + digest, key)


def aggregate(entries: Sequence[PutEntry], outer_hash_key: int | None = None) -> PutEntry:
    """One entry that holds them all, in order. A single one stays as it is.

    ``outer_hash_key`` sends the aggregate to the shard that all of them belong to; None: to that of the first.
    """
    if len(entries) == 1:
        return entries[0]
    packing = Packing(entries[0])
    for entry in entries[1:]:
        packing.add(entry)
    return packing.sealed(outer_hash_key)


Accepted = tuple[PutEntry, int, int]
"""An entry, its size in bytes, and its producer's sequence."""


class Outgoing(msgspec.Struct, gc=False):
    """What a producer puts as one entry."""

    entry: PutEntry
    sequence: int
    """The producer's, of the last record in it."""
    packed: list[Accepted] | None = None
    """The records of an aggregate; None: it is a plain one."""

    @property
    def records(self) -> list[Accepted]:
        """What was accepted for it, in order."""
        return [(self.entry, 0, self.sequence)] if self.packed is None else self.packed


def pack(
    accepted: Sequence[Accepted],
    shards: Sequence[ShardDescription],
    max_bytes: int,
    *,
    in_order: bool,
    stored_to: int = -1,
) -> list[Outgoing]:
    """Entries (with their sizes and sequences) as aggregates of at most ``max_bytes``, each of one shard.

    Each key's records keep their order. ``in_order``: all of them do, so that what is stored is always everything up
    to some sequence; then only neighbours of one shard are packed together, and none up to ``stored_to`` with a later.
    """
    ordered = sorted(shards, key=lambda shard: shard.hash_key_range.start)
    starts = [shard.hash_key_range.start for shard in ordered]
    outgoing: list[Outgoing] = []
    open_for: dict[str, tuple[list[Accepted], Packing]] = {}
    was_stored = False

    def close(shard_id: str) -> None:
        records, packing = open_for.pop(shard_id)
        entry, _, sequence = records[-1]
        several = len(records) > 1
        outgoing.append(Outgoing(packing.sealed() if several else entry, sequence, records if several else None))

    for each in accepted:
        entry, _, sequence = each
        shard_id = ordered[bisect_right(starts, _hash_key(entry)) - 1].shard_id
        if in_order:
            for other in [other for other in open_for if other != shard_id or was_stored != (sequence <= stored_to)]:
                close(other)
            was_stored = sequence <= stored_to
        if shard_id in open_for:
            records, packing = open_for[shard_id]
            if packing.add(entry, max_bytes):
                records.append(each)
                continue
            close(shard_id)
        open_for[shard_id] = [each], Packing(entry)
    for shard_id in list(open_for):
        close(shard_id)
    return outgoing


def _hash_key(entry: PutEntry | UserRecord) -> int:
    return hash_key(entry.partition_key) if entry.explicit_hash_key is None else entry.explicit_hash_key


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
    attributes: dict[str, str] = {}
    for field, value in _fields(message):
        if field == _KEYS and isinstance(value, int):
            key = value
        elif field == _EXPLICIT and isinstance(value, int):
            number = value
        elif field == _RECORDS and isinstance(value, bytes):
            data = value
        elif field == _TAGS and isinstance(value, bytes):
            attributes.update(_tag(value))
        elif field in (_KEYS, _EXPLICIT, _RECORDS):
            raise MalformedError
    if key is None or data is None:
        raise MalformedError
    if attributes:
        try:
            check(attributes, "the record")
        except ValidationError:
            attributes = {}  # Nobody could put them again, nor replay a recording of them.
    return UserRecord(keys[key], data, None if number is None else explicit[number], attributes or None)


def _tag(message: bytes) -> dict[str, str]:
    name: bytes | None = None
    text = b""
    for field, value in _fields(message):
        if field == _TAG_KEY and isinstance(value, bytes):
            name = value
        elif field == _TAG_VALUE and isinstance(value, bytes):
            text = value
    if name is None:
        raise MalformedError  # What has a tag without a key was written by nobody.
    try:
        return {name.decode(): text.decode()}
    except UnicodeDecodeError:
        return {}  # Somebody else's tag, and no reason to take the record for another than it is.


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

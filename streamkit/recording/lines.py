"""The lines of a recording: what stands in the first, in each record's and in the last. Pure.

::

    {"streamkit_recording":1,"stream":"orders","codec":"JSON","recorded":"2026-11-27T08:00:00+00:00","shards":[...]}
    {"key":"ada","value":{"total":120},"arrival_ms":1700000000000,"shard":"shardId-000000000000","number":1}
    {"end":1}

A record's bytes are one of ``value`` (they are JSON: it stands there as it was stored, to the last byte), ``text``
(they are UTF-8) and ``base64``. So a recording can be read, searched, and written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streamkit.codecs import Codec
from streamkit.errors import RecordingError, ValidationError
from streamkit.streams.keyspace import KEY_SPACE, HashKeyRange, hash_key
from streamkit.streams.record import Record
from streamkit.streams.record_attributes import check as check_attributes
from streamkit.streams.store import StreamDescription

VERSION = 1

_WHITESPACE = b" \t\r\n"
_encode = msgspec.json.Encoder().encode


class RecordedShard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A shard of the stream that was recorded. Hash keys are text: JSON's numbers are too small for them."""

    shard: str
    starting_hash_key: str
    ending_hash_key: str
    parents: tuple[str, ...] = ()


class Header(msgspec.Struct, frozen=True):
    """The first line."""

    streamkit_recording: int
    """The version of the format."""
    stream: str
    codec: str = "JSON"
    """What the values are: "JSON", "text" or "bytes"."""
    recorded: str = ""
    """When, in ISO 8601."""
    shards: tuple[RecordedShard, ...] = ()


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record."""

    key: str
    """Its partition key."""
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    base64: bytes | msgspec.UnsetType = msgspec.UNSET
    arrival_ms: int | None = None
    """When the stream took it, milliseconds since the epoch."""
    shard: str | None = None
    number: int | None = None
    """Its sequence number."""
    subsequence: int | None = None
    """Its place in an aggregated record, which ``number`` is of."""
    hash_key: str | None = None
    """It was put with an explicit hash key, which a stream does not keep: this one leads to the same shard."""
    attributes: dict[str, str] = {}
    """Named text beside its value, such as the trace context; see ``Record.attributes``."""

    @property
    def data(self) -> bytes:
        """The bytes as they were stored."""
        if self.value is not msgspec.UNSET:
            return bytes(self.value)
        if self.text is not msgspec.UNSET:
            return self.text.encode()
        assert self.base64 is not msgspec.UNSET
        return self.base64


class End(msgspec.Struct, frozen=True):
    """The last line: without it the file was cut short."""

    end: int
    """How many records there are."""


_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(Line)
_end = msgspec.json.Decoder(End)
_is_end = re.compile(rb'\s*\{\s*"end"\s*:').match


def first_line(stream: StreamDescription, codec: Codec[Any], recorded: str) -> bytes:
    """The header of a recording of a stream."""
    kind = {bytes: "bytes", str: "text"}.get(codec.type, "JSON")
    shards = [
        RecordedShard(
            shard.shard_id,
            str(shard.hash_key_range.start),
            str(shard.hash_key_range.end),
            shard.parent_shard_ids,
        )
        for shard in stream.shards
    ]
    return _encode(Header(VERSION, stream.name, kind, recorded, tuple(shards))) + b"\n"


def record_lines(records: Sequence[Record[Any]], ranges: Mapping[str, HashKeyRange]) -> Iterator[bytes]:
    """Records as lines, given the hash keys of their shards."""
    for record in records:
        yield _encode(_line_of(record, ranges.get(record.shard_id))) + b"\n"


def last_line(records: int) -> bytes:
    """The end of a recording."""
    return _encode(End(records)) + b"\n"


def _line_of(record: Record[Any], hash_keys: HashKeyRange | None) -> Line:
    data = record.data
    explicit = hash_keys is not None and hash_key(record.partition_key) not in hash_keys
    line: dict[str, Any] = {
        "key": record.partition_key,
        "arrival_ms": record.arrival_ms,
        "shard": record.shard_id,
        "number": record.sequence_number,
        "subsequence": record.subsequence_number,
        "hash_key": str(hash_keys.start) if explicit and hash_keys is not None else None,
        "attributes": dict(record.attributes),
    }
    if is_json_line(data):
        return Line(**line, value=msgspec.Raw(data))
    try:
        return Line(**line, text=data.decode())
    except UnicodeDecodeError:
        return Line(**line, base64=data)


def is_json_line(data: bytes) -> bool:
    """Whether the bytes are a JSON value that can stand in a line as they are, and are found there as they are."""
    if not data or b"\n" in data or b"\r" in data or data[0] in _WHITESPACE or data[-1] in _WHITESPACE:
        return False
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def parse_header(path: str, line: bytes) -> Header:
    """The first line.

    Raises:
        RecordingError: it is none of a recording, or of another version.
    """
    try:
        header = _header.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RecordingError(path, 1, 'it is no header of a recording, such as {"streamkit_recording":1,...}') from None
    if header.streamkit_recording != VERSION:
        raise RecordingError(
            path, 1, f"it is of version {header.streamkit_recording}, and this streamkit reads version {VERSION}"
        )
    return header


def parse(path: str, number: int, line: bytes) -> Line | End:
    """Any other line, whose number in the file is given.

    Raises:
        RecordingError: it is damaged.
    """
    try:
        if _is_end(line):
            return _end.decode(line)
        found = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(path, number, f"it is damaged: {error}") from None
    if sum(data is not msgspec.UNSET for data in (found.value, found.text, found.base64)) != 1:
        raise RecordingError(path, number, "a record has one of value, text and base64")
    if not 1 <= len(found.key) <= 256:
        raise RecordingError(path, number, "key has 1 to 256 characters")
    if found.hash_key is not None and not (found.hash_key.isdecimal() and int(found.hash_key) < KEY_SPACE):
        raise RecordingError(path, number, "hash_key is a number from 0 to 2**128 - 1, as text")
    try:
        check_attributes(found.attributes, "a record")
    except ValidationError as error:
        raise RecordingError(path, number, str(error)) from None
    return found

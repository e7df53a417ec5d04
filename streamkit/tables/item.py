"""Items and their keys: what a table may hold. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from streamkit.errors import DecodeError, ValidationError

Item = dict[str, Any]
"""Attribute names to values: str, int, float, bool, None, bytes, and lists and dicts of them."""

KeyValue = str | int | bytes
"""What a partition or sort key may be."""

Key = tuple[KeyValue, KeyValue | None]
"""Partition key and sort key; None where the table has no sort key."""

MAX_NESTING = 32
_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Item).decode


class TableSchema(msgspec.Struct, frozen=True):
    """A table's name and the names of its key attributes."""

    name: str
    partition_key: str
    sort_key: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValidationError(
                f"table name {self.name!r} is not valid: use 3 to 255 letters, digits, '_', '.' or '-'"
            )
        if not self.partition_key or self.partition_key == self.sort_key:
            raise ValidationError(f"table {self.name!r} needs a partition key, and a sort key of another name or none")

    @property
    def key_names(self) -> tuple[str, ...]:
        """The key attributes' names."""
        return (self.partition_key,) if self.sort_key is None else (self.partition_key, self.sort_key)

    def check_partition(self, value: Any) -> None:
        """Refuse what cannot be a partition key.

        Raises:
            ValidationError: it is empty, too long, or of a type that cannot be a key.
        """
        _key_value(self, self.partition_key, {self.partition_key: value}, 2048)

    def key_of(self, attributes: Mapping[str, Any]) -> Key:
        """The key within ``attributes``, which may hold more.

        Raises:
            ValidationError: a key attribute is missing, empty, too long, or of a type that cannot be a key.
        """
        partition = _key_value(self, self.partition_key, attributes, 2048)
        if self.sort_key is None:
            return partition, None
        return partition, _key_value(self, self.sort_key, attributes, 1024)


def _key_value(schema: TableSchema, name: str, attributes: Mapping[str, Any], limit: int) -> KeyValue:
    try:
        value = attributes[name]
    except KeyError:
        raise ValidationError(f"table {schema.name!r} needs the key attribute {name!r}: it is missing") from None
    except TypeError:
        raise ValidationError(f"table {schema.name!r} takes items and keys as dicts, not {attributes!r:.80}") from None
    if isinstance(value, bool) or not isinstance(value, (str, int, bytes)):
        raise ValidationError(
            f"key attribute {name!r} of table {schema.name!r} must be str, int or bytes, not {value!r}"
        )
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValidationError(f"key attribute {name!r} of table {schema.name!r} does not fit 64 bits: {value}")
        return value
    try:
        size = len(value.encode()) if isinstance(value, str) else len(value)
    except UnicodeEncodeError as error:
        raise ValidationError(f"key attribute {name!r} of table {schema.name!r} has no UTF-8 form: {error}") from None
    if not 1 <= size <= limit:
        raise ValidationError(f"key attribute {name!r} of table {schema.name!r} has {size} bytes: use 1 to {limit}")
    return value


def encode_item(item: Mapping[str, Any], limit: int) -> bytes:
    """The stored bytes of an item; a copy, so that whoever holds the item may go on changing it.

    Raises:
        ValidationError: a value is of a type that cannot be stored, not finite, too deeply nested, or too large.
    """
    if not isinstance(item, dict):
        # Any mapping is an item, though only a dict has bytes.
        if not isinstance(item, Mapping):
            raise ValidationError(f"an item is a dict, not {item!r:.80}")
        item = dict(item)
    for name, value in item.items():
        if not isinstance(name, str):
            raise ValidationError(f"the item has an attribute {name!r}: use str names")
        _check(name, value, 1)
    try:
        data = _encode(item)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"the item cannot be stored: {error}") from None
    if len(data) > limit:
        raise ValidationError(
            f"the item has {len(data):,} bytes and the limit is {limit:,}: store large data elsewhere"
        )
    return data


def decode_item(data: bytes) -> Item:
    """The item of stored bytes; a new one at each call."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"stored item does not decode: {error}") from None


def _check(path: str, value: Any, depth: int) -> None:
    if value is None or isinstance(value, (str, bytes, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValidationError(f"attribute {path!r} is {value}: only finite numbers can be stored")
        return
    if depth >= MAX_NESTING:
        raise ValidationError(f"attribute {path!r} is nested more than {MAX_NESTING} levels deep")
    if isinstance(value, list):
        for index, member in enumerate(value):
            _check(f"{path}[{index}]", member, depth + 1)
    elif isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise ValidationError(f"attribute {path!r} has the key {name!r}: use str keys")
            _check(f"{path}.{name}", member, depth + 1)
    else:
        raise ValidationError(
            f"attribute {path!r} is a {type(value).__name__}: store str, int, float, bool, None, bytes, list or dict"
        )

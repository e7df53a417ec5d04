"""Items and their keys: what a table may hold. Pure.

Follows "Supported data types and naming rules in Amazon DynamoDB" (Developer Guide). Stored as msgpack; what that
has no type for (``Decimal``, ints of more than 64 bits, sets) in extension types of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import msgspec

from streamkit.errors import DecodeError, ValidationError
from streamkit.tables import number
from streamkit.tables.size import item_size

Item = dict[str, Any]
"""Attribute names to values: str, int, float, Decimal, bool, None, bytes, lists and dicts of them, and sets of str, of
numbers, or of bytes."""

KeyValue = str | int | bytes
"""What a partition or sort key may be."""

Key = tuple[KeyValue, KeyValue | None]
"""Partition key and sort key; None where the table has no sort key."""

MAX_NESTING = 32
_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
EXTENDED_DECIMAL, EXTENDED_INT, EXTENDED_SET = 1, 2, 3
"""Codes of the extension types; part of the format on disk."""
_FITS = 2**63
_SMALL = 10**18
_AS_IT_IS = frozenset((str, int, bytes, bool, type(None)))
"""Types that msgpack has, and that need no look at their value: it refuses ints that are too large by itself."""
_TEXT = frozenset((str,))
_INTS = frozenset((int,))
_DICTS = frozenset((dict,))


def _of_extension(code: int, data: memoryview) -> Any:
    if code == EXTENDED_DECIMAL:
        return Decimal(bytes(data).decode())
    if code == EXTENDED_INT:
        return int(bytes(data).decode())
    if code == EXTENDED_SET:
        return set(_decode_members(data))
    raise msgspec.DecodeError(f"an extension type {code}, which this version does not know")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Item, ext_hook=_of_extension).decode
_decode_members = msgspec.msgpack.Decoder(list[Any], ext_hook=_of_extension).decode


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
        sort_key = self.sort_key
        if attributes.__class__ is dict:
            # HOT: `python -m benchmarks --only table_put`; most keys are short plain text and small numbers.
            value: Any = attributes.get(self.partition_key)
            kind = value.__class__
            if (kind is str and 0 < len(value) <= 1024 and value.isascii()) or (
                kind is int and -_SMALL < value < _SMALL
            ):
                if sort_key is None:
                    return value, None
                sort: Any = attributes.get(sort_key)
                kind = sort.__class__
                if (kind is str and 0 < len(sort) <= 1024 and sort.isascii()) or (
                    kind is int and -_SMALL < sort < _SMALL
                ):
                    return value, sort
        partition = _key_value(self, self.partition_key, attributes, 2048)
        if sort_key is None:
            return partition, None
        return partition, _key_value(self, sort_key, attributes, 1024)

    def keys_of(self, items: Sequence[Mapping[str, Any]]) -> list[Key]:
        """The keys of several items, in their order; less work than one by one.

        Raises:
            ValidationError: see ``key_of``.
        """
        # HOT: `python -m benchmarks --only table_put`; nothing here runs Python for each item.
        if _DICTS.issuperset(map(type, items)):
            try:
                partitions = list(map(itemgetter(self.partition_key), items))
                sorts = None if self.sort_key is None else list(map(itemgetter(self.sort_key), items))
            except KeyError:
                return list(map(self.key_of, items))
            if _are_short(partitions) and (sorts is None or _are_short(sorts)):
                return list(zip(partitions, repeat(None) if sorts is None else sorts, strict=sorts is not None))
        return list(map(self.key_of, items))


def _are_short(values: list[Any]) -> bool:
    """Whether all are short plain text, or small numbers, which may be keys."""
    kinds = set(map(type, values))
    if kinds == _TEXT:
        lengths = list(map(len, values))
        return min(lengths) > 0 and max(lengths) <= 1024 and "".join(values).isascii()
    return kinds == _INTS and min(values) > -_SMALL and max(values) < _SMALL


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
            raise ValidationError(f"key attribute {name!r} of table {schema.name!r} does not fit 64 bits")
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
    if item.__class__ is dict and _AS_IT_IS.issuperset(map(type, item.values())) and _TEXT.issuperset(map(type, item)):
        # HOT: most items are flat. Whatever is wrong with one is said below.
        try:
            data = _encode(item)
        except (ValueError, OverflowError):
            data = b""
        if data and 4 * len(data) <= limit:
            return data
    if not isinstance(item, dict):
        # Any mapping is an item, though only a dict has bytes.
        if not isinstance(item, Mapping):
            raise ValidationError(f"an item is a dict, not {item!r:.80}")
        item = dict(item)
    plain = True
    for name, value in item.items():
        if not isinstance(name, str):
            raise ValidationError(f"the item has an attribute {name!r}: use str names")
        plain = _check(name, value, 1) and plain
    try:
        data = _encode(item if plain else {name: _storable(value) for name, value in item.items()})
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"the item cannot be stored: {error}") from None
    # No value counts for more than four times its bytes here.
    if 4 * len(data) > limit and (size := item_size(item)) > limit:
        raise ValidationError(f"the item has {size:,} bytes and the limit is {limit:,}: store large data elsewhere")
    return data


def encode_items(items: Sequence[Mapping[str, Any]], limit: int) -> list[bytes]:
    """The stored bytes of several items, in their order; less work than one by one.

    Raises:
        ValidationError: see ``encode_item``.
    """
    if (
        _DICTS.issuperset(map(type, items))
        and _AS_IT_IS.issuperset(map(type, chain.from_iterable(map(dict.values, items))))  # type: ignore[arg-type]
        and _TEXT.issuperset(map(type, set(chain.from_iterable(items))))
    ):
        # HOT: as in ``encode_item``, without Python for each item.
        try:
            stored = list(map(_encode, items))
        except (ValueError, OverflowError):
            stored = []
        if stored and 4 * max(map(len, stored)) <= limit:
            return stored
    return [encode_item(item, limit) for item in items]


def decode_item(data: bytes) -> Item:
    """The item of stored bytes; a new one at each call."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"stored item does not decode: {error}") from None


def decode_items(stored: Sequence[bytes]) -> list[Item]:
    """The items of several stored bytes, in their order."""
    # HOT: `python -m benchmarks --only table_query`: at once, out of their join, takes as long.
    try:
        return list(map(_decode, stored))
    except msgspec.DecodeError as error:
        raise DecodeError(f"stored items do not decode: {error}") from None


def _check(path: str, value: Any, depth: int) -> bool:
    """Refuse what cannot be stored; whether msgpack has a type for it."""
    kind = value.__class__
    if kind is str or (kind is int and -_SMALL < value < _SMALL) or value is None:
        return True
    if isinstance(value, (str, bytes, bool)):
        return True
    if isinstance(value, (int, float, Decimal)):
        number.check(path, value)
        return not isinstance(value, Decimal) and -_FITS <= value < _FITS
    if isinstance(value, (set, frozenset)):
        _check_set(path, value)
        return False
    if depth >= MAX_NESTING:
        raise ValidationError(f"attribute {path!r} is nested more than {MAX_NESTING} levels deep")
    plain = True
    if isinstance(value, list):
        for index, member in enumerate(value):
            plain = _check(f"{path}[{index}]", member, depth + 1) and plain
    elif isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise ValidationError(f"attribute {path!r} has the key {name!r}: use str keys")
            plain = _check(f"{path}.{name}", member, depth + 1) and plain
    else:
        raise ValidationError(
            f"attribute {path!r} is a {type(value).__name__}: store str, int, float, Decimal, bool, None, bytes, list, "
            "dict or set"
        )
    return plain


def _check_set(path: str, value: set[Any] | frozenset[Any]) -> None:
    if not value:
        raise ValidationError(f"attribute {path!r} is an empty set: leave the attribute out")
    kinds = {"number" if number.is_number(member) else type(member).__name__ for member in value}
    if len(kinds) != 1 or not kinds <= {"number", "str", "bytes"}:
        found = ", ".join(sorted(kinds))
        raise ValidationError(f"attribute {path!r} is a set of {found}: use str, numbers or bytes alone")
    for member in value:
        if number.is_number(member):
            number.check(path, member)


def _storable(value: Any) -> Any:
    """With what msgpack has no type for as extensions."""
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(EXTENDED_DECIMAL, str(value).encode())
    if isinstance(value, int) and not isinstance(value, bool) and not -_FITS <= value < _FITS:
        return msgspec.msgpack.Ext(EXTENDED_INT, str(value).encode())
    if isinstance(value, (set, frozenset)):
        members = sorted(value)
        return msgspec.msgpack.Ext(EXTENDED_SET, _encode([_storable(member) for member in members]))
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, dict):
        return {name: _storable(member) for name, member in value.items()}
    return value

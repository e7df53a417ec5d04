"""Secondary indexes: what an index is, and which entry an item has in it. Pure.

Follows "Local secondary indexes" and "Global secondary indexes" (Amazon DynamoDB Developer Guide). An entry's key is
two byte strings that sort as DynamoDB sorts: the index's partition key; its sort key with the item's own key behind it.
So entries of equal index keys stay apart, and pages may end between them.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any, Literal

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.item import Item, Key, TableSchema, encode_item

IndexKind = Literal["LOCAL", "GLOBAL"]
Projection = Literal["ALL", "KEYS_ONLY", "INCLUDE"]
EntryKey = tuple[bytes, bytes]

TTL_INDEX = ":ttl"
"""The hidden index that finds what has expired: by the second, in order. Users cannot name it: an index name has no
colon."""
MOST_LOCAL, MOST_GLOBAL, MOST_NON_KEY = 5, 20, 100
_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_MOST_BYTES = 2**31
_COMPLEMENT = bytes(range(255, -1, -1))
_END = b"\x00"


class Index(msgspec.Struct, frozen=True):
    """A second way to find a table's items.

    ``Index("by-status", "status", "created")`` has any partition key (GLOBAL); ``Index.local("by-total", "total")`` has
    the table's own, is made with the table, and stays as long as it. Both change in one step with the items, so both
    are consistent (AWS: a global one follows later), and no write to the table ever fails because an index is behind.
    """

    name: str
    partition_key: str
    """Empty: the table's own, of a local one."""
    sort_key: str | None = None
    kind: IndexKind = "GLOBAL"
    projection: Projection = "ALL"
    """Which attributes an entry has beside the keys: all, none, or those of ``non_key_attributes``."""
    non_key_attributes: tuple[str, ...] = ()

    @classmethod
    def local(
        cls, name: str, sort_key: str, *, projection: Projection = "ALL", non_key_attributes: tuple[str, ...] = ()
    ) -> Index:
        """An index within each partition of the table."""
        return cls(name, "", sort_key, "LOCAL", projection, non_key_attributes)


def check_index(schema: TableSchema, index: Index) -> None:
    """Refuse an index that cannot be one.

    Raises:
        ValidationError: says what, and what is allowed.
    """
    if not isinstance(index, Index):
        raise ValidationError(f"{index!r:.80} is no index: use Index(...) or Index.local(...)")
    if not isinstance(index.name, str) or not _NAME.fullmatch(index.name):
        raise ValidationError(f"index name {index.name!r} is not valid: use 3 to 255 letters, digits, '_', '.' or '-'")
    if index.kind not in ("LOCAL", "GLOBAL") or index.projection not in ("ALL", "KEYS_ONLY", "INCLUDE"):
        raise ValidationError(
            f"index {index.name!r} is 'LOCAL' or 'GLOBAL' and projects 'ALL', 'KEYS_ONLY' or 'INCLUDE', "
            f"not {index.kind!r} and {index.projection!r}"
        )
    if index.kind == "LOCAL" and (index.partition_key or schema.sort_key is None or not index.sort_key):
        raise ValidationError(
            f"local index {index.name!r} has the partition key of its table, which needs a sort key, and a sort key of "
            "its own: use Index.local(name, sort_key)"
        )
    for name in (index.partition_key, index.sort_key):
        if name is not None and (not isinstance(name, str) or len(name.encode()) > 255):
            raise ValidationError(f"a key of index {index.name!r} is a name of at most 255 bytes, not {name!r:.80}")
    if index.kind == "GLOBAL" and (not index.partition_key or index.partition_key == index.sort_key):
        raise ValidationError(f"index {index.name!r} needs a partition key, and a sort key of another name or none")
    names = index.non_key_attributes
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValidationError(f"non_key_attributes of index {index.name!r} is a tuple of names, not {names!r:.80}")
    if bool(names) != (index.projection == "INCLUDE") or len(names) > MOST_NON_KEY:
        raise ValidationError(
            f"index {index.name!r} names 1 to {MOST_NON_KEY} non_key_attributes if it projects 'INCLUDE', else none"
        )


def key_of(schema: TableSchema, index: Index, item: Item, key: Key) -> EntryKey | None:
    """Where the item stands in the index; None: nowhere, because it has not all of the index's keys.

    Raises:
        ValidationError: a key of the index is of a type that cannot be one, empty or too long.
    """
    if index.name == TTL_INDEX:
        at = item.get(index.partition_key)
        if at is None or not _is_number(at):
            return None
        # A partition for each second, so that whoever looks for what has expired reads nothing else.
        return encode_value(math.floor(at)), _tail(key)
    if index.kind == "LOCAL":
        partition = encode_value(key[0])
    elif index.partition_key in item:
        partition = _checked(schema, index, index.partition_key, item, 2048)
    else:
        return None
    if index.sort_key is None:
        return partition, _END + _tail(key)
    if index.sort_key not in item:
        return None
    return partition, _checked(schema, index, index.sort_key, item, 1024) + _tail(key)


def entry_of(schema: TableSchema, index: Index, item: Item, key: Key, data: bytes) -> tuple[EntryKey, bytes] | None:
    """The item's entry in the index: its key, and what is projected; ``data`` is the whole item's bytes.

    Raises:
        ValidationError: see ``key_of``.
    """
    at = key_of(schema, index, item, key)
    if at is None:
        return None
    if index.projection == "ALL":
        return at, data
    names = (*schema.key_names, index.partition_key, index.sort_key, *index.non_key_attributes)
    return at, encode_item({name: item[name] for name in dict.fromkeys(names) if name in item}, _MOST_BYTES)


def encode_value(value: Any) -> bytes:
    """A key value as bytes that sort as DynamoDB does: numbers by value, text by UTF-8, bytes; numbers come first.

    No value's bytes begin another's, so others may follow.
    """
    if isinstance(value, str):
        return b"\x02" + value.encode().replace(b"\x00", b"\x00\xff") + _END
    if isinstance(value, bytes):
        return b"\x03" + value.replace(b"\x00", b"\x00\xff") + _END
    return b"\x01" + _number(value)


def bounds(at_least: Any, at_most: Any, prefix: str | bytes | None) -> tuple[bytes | None, bytes | None, bytes | None]:
    """A range of an index's sort keys as one of its entries: the two bounds, both included, or the prefix."""
    if prefix is not None:
        return None, None, encode_value(prefix)[:-1]
    return (
        None if at_least is None else encode_value(at_least),
        # What follows an entry's sort key begins with a smaller byte than this.
        None if at_most is None else encode_value(at_most) + b"\xff",
        None,
    )


def _tail(key: Key) -> bytes:
    return encode_value(key[0]) + (_END if key[1] is None else encode_value(key[1]))


def _number(value: int | float | Decimal) -> bytes:
    """Sign, decimal exponent and digits; of a negative one each byte's complement."""
    if isinstance(value, int):
        digits, scale = str(abs(int(value))), 0
    else:
        # A float by its shortest digits: 0.1 is the 0.1 that was written.
        parts = (value if isinstance(value, Decimal) else Decimal(repr(float(value)))).as_tuple()
        assert isinstance(parts.exponent, int)
        digits, scale = "".join(map(str, parts.digits)), parts.exponent
    significant = digits.lstrip("0")
    if not significant:
        return b"\x01"
    magnitude = (len(significant) + scale + 0x8000).to_bytes(2, "big") + significant.rstrip("0").encode() + _END
    return b"\x00" + magnitude.translate(_COMPLEMENT) if value < 0 else b"\x02" + magnitude


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return False
    return math.isfinite(value)


def _checked(schema: TableSchema, index: Index, name: str, item: Item, limit: int) -> bytes:
    value = item[name]
    what = f"attribute {name!r} is a key of index {index.name!r} of table {schema.name!r}"
    if isinstance(value, (str, bytes)):
        try:
            size = len(value.encode()) if isinstance(value, str) else len(value)
        except UnicodeEncodeError as error:
            raise ValidationError(f"{what} and has no UTF-8 form: {error}") from None
        if not 1 <= size <= limit:
            raise ValidationError(f"{what} and has {size} bytes: use 1 to {limit}, or leave it out")
    elif not _is_number(value):
        raise ValidationError(f"{what} and must be str, a number or bytes, not {value!r:.80}; or leave it out")
    return encode_value(value)

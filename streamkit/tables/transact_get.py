"""An atomic read of items of any tables: what is asked for, and what is answered. Pure.

Follows TransactGetItems (Amazon DynamoDB API Reference): all items as they were at one moment, one get per item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.tables.expression import Expression, as_projection
from streamkit.tables.item import Item, Key, TableSchema, decode_item
from streamkit.tables.projection import Projection
from streamkit.tables.size import item_size


class Get(msgspec.Struct, frozen=True):
    """One item of an atomic read."""

    key: Mapping[str, Any]
    table: str = ""
    projection: Expression | str | None = None
    """The paths that are wanted of the item; None: all of it."""


class Wanted(msgspec.Struct, frozen=True):
    """A get that was found to be valid."""

    table: str
    key: Key
    projection: Projection | None


def check_gets(gets: Sequence[Get], schema_of: Callable[[str], TableSchema], limits: Limits) -> list[Wanted]:
    """What the gets are of.

    Raises:
        ValidationError: there are none or too many, one is malformed, or two are of one item.
        ExpressionError: a projection is not valid; with the position.
    """
    if not 1 <= len(gets) <= limits.read_actions:
        raise ValidationError(f"an atomic read has 1 to {limits.read_actions:,} gets, not {len(gets):,}")
    wanted: list[Wanted] = []
    touched: set[tuple[str, Key]] = set()
    for get in gets:
        if not isinstance(get, Get):
            raise ValidationError(f"{get!r:.80} is not a get: use streamkit.tables.transact_get.Get")
        if not get.table or not isinstance(get.table, str):
            raise ValidationError(f"a Get names no table: pass table= its name, not {get.table!r:.80}")
        key = schema_of(get.table).key_of(get.key)
        # AWS: "Transaction request cannot include multiple operations on one item".
        if (get.table, key) in touched:
            raise ValidationError(f"item {key!r} of table {get.table!r} is asked for twice in a call: ask once")
        touched.add((get.table, key))
        wanted.append(Wanted(get.table, key, as_projection(get.projection)))
    return wanted


def found_items(stored: Sequence[bytes | None], limits: Limits) -> list[Item | None]:
    """The items of stored bytes.

    Raises:
        ValidationError: together they are larger than one call may read.
    """
    items = [None if data is None else decode_item(data) for data in stored]
    # No value counts for more than four times its bytes here.
    if 4 * sum(len(data) for data in stored if data is not None) > limits.transaction_bytes:
        size = sum(item_size(item) for item in items if item is not None)
        if size > limits.transaction_bytes:
            raise ValidationError(
                f"the items of the call have {size:,} bytes together and the limit is {limits.transaction_bytes:,}: "
                "ask for fewer at once; a projection does not make them less"
            )
    return items


def answers(wanted: Sequence[Wanted], items: Sequence[Item | None]) -> list[Item | None]:
    """What each get wants of its item."""
    return [
        item if item is None or get.projection is None else get.projection.of(item)
        for get, item in zip(wanted, items, strict=True)
    ]

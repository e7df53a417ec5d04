"""Reading items page by page: what is asked for, what came, and what of it a filter and a projection leave."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from streamkit.errors import ValidationError
from streamkit.showing.flat import columns_of
from streamkit.showing.listing import MOST_SHOWN, listed_html
from streamkit.showing.tabular import Tabular
from streamkit.tables import number
from streamkit.tables.condition import Condition, same
from streamkit.tables.item import Item, Key, KeyValue, TableSchema
from streamkit.tables.projection import Projection
from streamkit.tables.store import ItemPage, Segment, SortKeyRange

PAGE_ITEMS = 1000


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of a query or scan."""

    limit: int = PAGE_ITEMS
    """Items that are looked at; a filter may leave fewer."""
    after: Key | None = None
    """The ``last_key`` of the page before (ExclusiveStartKey)."""
    forward: bool = True
    """Of a query: in the order of the sort keys (ScanIndexForward)."""
    index: str | None = None
    segment: Segment | None = None
    """Of a scan: the part of the table that this reader has; others read the others at the same time."""


class Page(Tabular, msgspec.Struct, frozen=True):
    """One page of a query or scan. pandas, polars and DuckDB read it as a table, with a column for each attribute."""

    items: list[Item]
    last_key: Key | None
    """The next page is after this; None: there is none (LastEvaluatedKey)."""
    scanned: int
    """Items that were looked at (ScannedCount); ``count`` passed the filter."""

    @property
    def count(self) -> int:
        """Items of this page (Count)."""
        return len(self.items)

    def columns(self) -> dict[str, list[Any]]:
        """Each attribute's values, by its name; None where an item has none of it."""
        return columns_of(self.items)

    def _repr_html_(self) -> str:
        facts = {
            "items": self.count,
            "looked at": self.scanned,
            "more": "yes, from after last_key" if self.last_key else None,
        }
        shown = columns_of(self.items[:MOST_SHOWN])
        return listed_html("Page", "", facts, shown, {}, self.count)


class Pages:
    """What a filter and a projection leave of pages."""

    def __init__(self, where: Condition | None, projection: Projection | None) -> None:
        self._where = where
        self._projection = projection

    def one(self, page: ItemPage) -> Page:
        """What is left of a page."""
        items = page.items
        if self._where is not None:
            items = [item for item in items if self._where.holds(item)]
        if self._projection is not None:
            items = [self._projection.of(item) for item in items]
        return Page(items, page.last_key, len(page.items))

    async def all(self, read: Callable[[Reading], Awaitable[ItemPage]], first: Reading) -> AsyncIterator[list[Item]]:
        """The items of each page, one page after the other."""
        reading = first
        while True:
            page = await read(reading)
            yield self.one(page).items
            if page.last_key is None:
                return
            reading = msgspec.structs.replace(reading, after=page.last_key)


def without(page: ItemPage, name: str | None, but: KeyValue | None) -> ItemPage:
    """The page without the items that have ``but`` as their attribute ``name``: a range that leaves out its end."""
    if but is None or name is None:
        return page
    return ItemPage([item for item in page.items if not same(item[name], but)], page.last_key)


def check_range(wanted: SortKeyRange, *, has_sort_key: bool, table: str) -> None:
    """Refuse a range that means nothing.

    Raises:
        ValidationError: there is no sort key; or it has a prefix and a bound.
    """
    if not has_sort_key:
        raise ValidationError(f"table {table!r} has no sort key: query it by the partition key alone")
    if wanted.prefix is not None and (wanted.at_least is not None or wanted.at_most is not None):
        raise ValidationError(f"a range of sort keys has a prefix or bounds, not both: {wanted!r:.200}")


def check_filter(where: Condition | None, key_names: Sequence[str]) -> None:
    """Refuse a filter of a query that is about a key (AWS: that belongs in the key condition).

    Raises:
        ValidationError: names the attribute.
    """
    for name in names_in(where):
        if name in key_names:
            raise ValidationError(f"the filter is about the key attribute {name!r}: use the key condition for that")


def names_in(value: Any) -> set[str]:
    """The attributes that a condition is about."""
    found: set[str] = set()
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, msgspec.Struct):
            parts = getattr(one, "parts", None)
            if parts is not None:
                found.add(parts[0])
            else:
                left += [getattr(one, field) for field in one.__struct_fields__]
        elif isinstance(one, tuple):
            left += one
    return found


def checked_after(schema: TableSchema, reading: Reading, partition: KeyValue | None = None) -> Key | None:
    """Where a page begins: of a table a key of it, in a query of the same partition; of an index what a page said.

    Raises:
        ValidationError: it is none of that.
    """
    after: Any = reading.after
    if after is None:
        return None
    wrong = f"after={after!r:.200} is no place to go on from: pass the last_key of the page before"
    if not isinstance(after, (tuple, list)) or len(after) != 2:
        raise ValidationError(wrong)
    if reading.index is not None:
        if not all(isinstance(part, bytes) for part in after):
            raise ValidationError(wrong)
        return after[0], after[1]
    if (after[1] is None) != (schema.sort_key is None):
        raise ValidationError(wrong)
    key = schema.key_of(dict(zip(schema.key_names, after, strict=False)))
    if partition is not None and key[0] != partition:
        raise ValidationError(wrong)
    return key


def checked_key(value: Any, *, of_index: bool) -> KeyValue:
    """What a partition or sort key is compared with.

    Raises:
        ValidationError: no key can be that.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"a key has a UTF-8 form, which {value!r:.80} has not: {error}") from None
        return value
    if isinstance(value, bytes):
        return value
    if not number.is_number(value):
        raise ValidationError(f"a key is a str, a number or bytes, not {value!r:.80}")
    number.check("key", value)
    if not of_index and not -(2**63) <= value < 2**63:
        raise ValidationError("a number that is a key of a table fits 64 bits")
    return value  # type: ignore[return-value]


def checked_range(wanted: SortKeyRange | None, *, of_index: bool) -> SortKeyRange | None:
    """The range of sort keys; of a table, whose numbers are ints, with ints as its ends.

    Raises:
        ValidationError: an end of it can be no key.
    """
    if wanted is None:
        return None
    ends: list[Any] = []
    for end, to_int in ((wanted.at_least, math.ceil), (wanted.at_most, math.floor)):
        if end is not None:
            end = checked_key(end, of_index=of_index)
            if not of_index and isinstance(end, (float, Decimal)):
                end = to_int(end)
        ends.append(end)
    if wanted.prefix is not None and not isinstance(checked_key(wanted.prefix, of_index=of_index), (str, bytes)):
        raise ValidationError(f"a prefix is a str or bytes, not {wanted.prefix!r:.80}")
    return SortKeyRange(at_least=ends[0], at_most=ends[1], prefix=wanted.prefix)

"""Reading items page by page: what is asked for, what came, and what of it a filter and a projection leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.condition import Condition
from streamkit.tables.item import Item, Key, KeyValue
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


class Page(msgspec.Struct, frozen=True):
    """One page of a query or scan."""

    items: list[Item]
    last_key: Key | None
    """The next page is after this; None: there is none (LastEvaluatedKey)."""
    scanned: int
    """Items that were looked at (ScannedCount); ``count`` passed the filter."""

    @property
    def count(self) -> int:
        """Items of this page (Count)."""
        return len(self.items)


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
    return ItemPage([item for item in page.items if item[name] != but], page.last_key)


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
    if isinstance(value, msgspec.Struct):
        parts = getattr(value, "parts", None)
        if parts is not None:
            return {parts[0]}
        return set().union(*(names_in(getattr(value, field)) for field in value.__struct_fields__))
    if isinstance(value, tuple):
        return set().union(*map(names_in, value))
    return set()

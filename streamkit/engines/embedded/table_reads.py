"""Pages of a query and of a scan: what they hold, and where the next one begins. HOT: `--only table_query`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.layer import SortKey, bounds_of
from streamkit.errors import ValidationError
from streamkit.limits import MIB
from streamkit.tables.item import Item, Key, KeyValue, decode_item, decode_items
from streamkit.tables.store import ItemPage, Segment, SortKeyRange

PAGE_BYTES = MIB
_MOST_LOOKED_AT = 4096
"""A page of a segment ends after so many items of others, so that the event loop goes on."""


def query_page(
    items: Items,
    partition_key: KeyValue,
    sort_keys: SortKeyRange | None,
    *,
    forward: bool,
    limit: int,
    after: Key | None,
    key_of: Callable[[Item], Key] | None = None,
) -> ItemPage:
    """A page of one partition. Nothing but the page, and one item more, is read; with ``key_of``, which finds an item's
    key in it, faster.

    Raises:
        ValidationError: the limit is below 1.
    """
    check_limit(limit)
    passed: SortKey = None
    if after is not None:
        passed = after[1]
        if passed is None:
            # Without a sort key there was one item, and it was returned.
            return ItemPage([], None)
    bounds = bounds_of(sort_keys, forward=forward, after=passed)
    if key_of is not None:
        find = key_of
        blocks = items.items_in(
            partition_key,
            bounds,
            forward=forward,
            limit=limit + 1,
            sort_key_of=lambda data: find(decode_item(data))[1],
        )
        if blocks is not None:
            return _page_of_blocks(blocks, limit, find)
    return _page(items.range(partition_key, bounds, forward=forward, limit=limit + 1), limit)


def scan_page(items: Items, *, limit: int, after: Key | None, segment: Segment | None = None) -> ItemPage:
    """A page of everything, in the order of the keys; of a segment it may hold fewer than there are, or none.

    Raises:
        ValidationError: the limit is below 1.
    """
    check_limit(limit)
    if segment is None or segment.of == 1:
        return _page(items.entries_from(after, limit=limit + 1), limit)
    found: list[Item] = []
    size = 0
    last = after
    mine = False
    partition: object = None
    entries = items.entries_from(after, limit=max(limit, _MOST_LOOKED_AT))
    for looked_at, (key, data) in enumerate(entries):
        if key[0] != partition or type(key[0]) is not type(partition):
            partition = key[0]
            mine = segment_of(key[0], segment.of) == segment.number
        is_full = mine and (len(found) == limit or (found and size + len(data) > PAGE_BYTES))
        if is_full or looked_at == _MOST_LOOKED_AT:
            return ItemPage(found, last)
        if mine:
            size += len(data)
            found.append(decode_item(data))
        last = key
    return ItemPage(found, None)


def segment_of(partition: KeyValue, of: int) -> int:
    """Which of ``of`` segments of a scan a partition belongs to; the same in every process."""
    if isinstance(partition, int):
        data = b"i%d" % partition
    else:
        data = b"s" + partition.encode() if isinstance(partition, str) else b"b" + partition
    return zlib.crc32(data) % of


def check_limit(limit: int) -> None:
    """Refuse a page without items.

    Raises:
        ValidationError: the limit is below 1.
    """
    if limit < 1:
        raise ValidationError(f"limit must be at least 1, not {limit}")


def _page(entries: Iterator[tuple[Key, bytes]], limit: int) -> ItemPage:
    # HOT: a query pays this loop for each of its items.
    found: list[bytes] = []
    size = 0
    last: Key | None = None
    for key, data in entries:
        size += len(data)
        # AWS: a page ends at 1 MB of data, whatever the limit.
        if len(found) == limit or (found and size > PAGE_BYTES):
            return ItemPage(decode_items(found), last)
        found.append(data)
        last = key
    return ItemPage(decode_items(found), None)


def _page_of_blocks(blocks: Iterator[list[bytes]], limit: int, key_of: Callable[[Item], Key]) -> ItemPage:
    # HOT: the same, where nothing is done for each item unless it may be the last one.
    found: list[bytes] = []
    size = 0
    for block in blocks:
        more = sum(map(len, block))
        if len(found) + len(block) <= limit and size + more <= PAGE_BYTES:
            found += block
            size += more
            continue
        for data in block:
            size += len(data)
            if len(found) == limit or (found and size > PAGE_BYTES):
                items = decode_items(found)
                return ItemPage(items, key_of(items[-1]))
            found.append(data)
    return ItemPage(decode_items(found), None)

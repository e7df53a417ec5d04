"""Items in memory, in key order when somebody asks for it. HOT: `python -m benchmarks --only table_put`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.item import Key, KeyValue
from streamkit.tables.store import SortKeyRange

SortKey = KeyValue | None
_CHUNK = 512
"""Keys in a chunk when it is made; it is split at twice as many."""
_BUCKET = 1024
"""Keys that are sorted at once beside the event loop."""
_LAST_CHARACTER = "\U0010ffff"
_AFTER_ALL = 9
"""A rank above those of all types."""
_REBUILD_AT = 8
"""Sorting everything pays when more than one in so many keys is new."""


class Bounds(msgspec.Struct, frozen=True):
    """Which sort keys of a partition are wanted; None is open."""

    low: KeyValue | None = None
    low_open: bool = False
    """``low`` itself is not wanted."""
    high: KeyValue | None = None
    high_open: bool = False


def bounds_of(sort_keys: SortKeyRange | None, *, forward: bool, after: SortKey) -> Bounds:
    """The bounds of a query's page; ``after``: the sort key of the last item of the page before.

    Raises:
        ValidationError: the prefix is neither str nor bytes.
    """
    bounds = Bounds()
    if sort_keys is not None:
        prefix: object = sort_keys.prefix
        if prefix is None:
            bounds = Bounds(sort_keys.at_least, False, sort_keys.at_most, False)
        elif isinstance(prefix, str):
            # What follows every text are bytes, of which the empty ones come first.
            bounds = Bounds(prefix, False, _text_after(prefix) or b"", True)
        elif isinstance(prefix, bytes):
            bounds = Bounds(prefix, False, _bytes_after(prefix), True)
        else:
            raise ValidationError(f"a prefix of sort keys is str or bytes, not {prefix!r:.80}")
    if after is None:
        return bounds
    if forward:
        if bounds.low is None or place(bounds.low) <= place(after):
            return Bounds(after, True, bounds.high, bounds.high_open)
    elif bounds.high is None or place(after) <= place(bounds.high):
        return Bounds(bounds.low, bounds.low_open, after, True)
    return bounds


def _text_after(prefix: str) -> str | None:
    """The first text above all that begin so; None: there is none."""
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # Surrogates are no characters, and have no UTF-8 form.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)


def _bytes_after(prefix: bytes) -> bytes | None:
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None


Place = tuple[int, KeyValue]
"""A key value with the rank of its type in front: ints before str before bytes, as SQLite orders them."""


def place(value: SortKey) -> Place:
    """Where a key value stands among others."""
    if value is None:
        return -1, b""
    if isinstance(value, int):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, value)


def place_of(key: Key) -> tuple[int, KeyValue, int, KeyValue]:
    """Where a key stands among others."""
    return *place(key[0]), *place(key[1])


def _first_place(chunk: list[Key]) -> tuple[int, KeyValue, int, KeyValue]:
    return place_of(chunk[0])


class Layer:
    """Items and tombstones by key: the writes since something was last moved to the base.

    A write costs one entry of a dict. Keys are put in order when a query or a scan wants them so, those that came
    since the last one into what was in order then: chunks, so that a key in the middle moves few others.
    """

    def __init__(self) -> None:
        self._counted = 0
        self._items: dict[Key, bytes | None] = {}
        self._chunks: list[list[Key]] | None = None
        """Keys in order, but for those in ``_added``; None: nobody has asked yet."""
        self._added: list[Key] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def grown(self) -> int:
        """How many keys more there are than when this was last asked."""
        more = len(self._items) - self._counted
        self._counted += more
        return more

    def __len__(self) -> int:
        return len(self._items)

    def set(self, key: Key, item: bytes | None) -> None:
        """Store an item, or the fact that there is none."""
        if self._chunks is not None and key not in self._items:
            self._added.append(key)
        self._items[key] = item

    def update(self, items: dict[Key, bytes]) -> None:
        """Store several items."""
        if self._chunks is not None:
            self._added += [key for key in items if key not in self._items]
        self._items.update(items)

    def drop(self, key: Key) -> None:
        """Forget a key altogether, as if nothing had been written."""
        if key not in self._items:
            return
        if self._chunks is not None:
            chunks = self._in_order()
            at = self._chunk_of(chunks, place_of(key))
            chunk = chunks[at]
            del chunk[bisect_left(chunk, place_of(key), key=place_of)]
            if not chunk:
                del chunks[at]
        del self._items[key]

    def find(self, key: Key) -> tuple[bool, bytes | None]:
        """Whether this layer knows the key, and its item."""
        item = self._items.get(key)
        return item is not None or key in self._items, item

    def range(self, partition: KeyValue, bounds: Bounds, *, forward: bool) -> Iterator[tuple[Key, bytes | None]]:
        """What this layer knows of a part of one partition, in order or the other way round."""
        of_partition = place(partition)
        low: tuple[object, ...] = of_partition if bounds.low is None else (*of_partition, *place(bounds.low))
        high = (*of_partition, _AFTER_ALL) if bounds.high is None else (*of_partition, *place(bounds.high))
        return self._between(low, bounds.low_open, high, bounds.high_open, forward=forward)

    def entries_from(self, after: Key | None) -> Iterator[tuple[Key, bytes | None]]:
        """Everything in order, or what comes after a key."""
        return self._between(() if after is None else place_of(after), True, (_AFTER_ALL,), False, forward=True)

    def _between(
        self, low: tuple[object, ...], low_open: bool, high: tuple[object, ...], high_open: bool, *, forward: bool
    ) -> Iterator[tuple[Key, bytes | None]]:
        """Not for somebody who lets the layer change meanwhile."""
        chunks = self._in_order()
        if not chunks or low > high:
            return
        items = self._items
        first, last = self._chunk_of(chunks, low), self._chunk_of(chunks, high)
        for at in range(first, last + 1) if forward else range(last, first - 1, -1):
            keys = chunks[at]
            if at in (first, last):
                start = (bisect_right if low_open else bisect_left)(keys, low, key=place_of) if at == first else 0
                end = len(keys)
                if at == last:
                    end = (bisect_left if high_open else bisect_right)(keys, high, key=place_of)
                keys = keys[start:end]
            for key in keys if forward else reversed(keys):
                yield key, items[key]

    def partitions(self, start: KeyValue | None = None) -> Iterator[KeyValue]:
        """Every partition key this layer knows, in order, from ``start`` on; it may change meanwhile."""
        low: tuple[object, ...] = () if start is None else place(start)
        while True:
            following = next(self._between(low, True, (_AFTER_ALL,), False, forward=True), None)
            if following is None:
                return
            partition = following[0][0]
            yield partition
            low = (*place(partition), _AFTER_ALL)

    def unordered(self) -> list[KeyValue]:
        """Every partition key this layer knows, in no particular order."""
        return list(dict.fromkeys(key[0] for key in self._items))

    def entries(self) -> Iterator[tuple[Key, bytes | None]]:
        """Everything, in no particular order."""
        return iter(self._items.items())

    def entries_in_order(self) -> Iterator[tuple[Key, bytes | None]]:
        """Everything in the order of the keys, for a thread while nothing is written here.

        No single step holds the GIL for longer than sorting a few thousand keys takes: they go to buckets first.
        """
        items = self._items
        keys = list(items)
        order = None if len({(type(partition), type(sort)) for partition, sort in keys}) < 2 else place_of
        # Every eighth of a sample parts the buckets, so that these are alike in size.
        sample = sorted(keys[:: max(1, _BUCKET // 8)], key=order)[8::8]
        parts: list[Any] = sample if order is None else list(map(order, sample))
        buckets: list[list[Key]] = [[] for _ in range(len(parts) + 1)]
        for key in keys:
            buckets[bisect_right(parts, key if order is None else order(key))].append(key)
        del keys
        for bucket in buckets:
            bucket.sort(key=order)
            for key in bucket:
                yield key, items[key]
            bucket.clear()

    def _in_order(self) -> list[list[Key]]:
        chunks, added = self._chunks, self._added
        if chunks is None or len(added) * _REBUILD_AT > len(self._items):
            keys = _sorted(self._items)
            chunks = self._chunks = [keys[at : at + _CHUNK] for at in range(0, len(keys), _CHUNK)]
            added.clear()
        elif added:
            for key in added:
                where = place_of(key)
                at = self._chunk_of(chunks, where)
                chunk = chunks[at]
                chunk.insert(bisect_left(chunk, where, key=place_of), key)
                if len(chunk) > 2 * _CHUNK:
                    chunks[at : at + 1] = [chunk[:_CHUNK], chunk[_CHUNK:]]
            added.clear()
        return chunks

    @staticmethod
    def _chunk_of(chunks: list[list[Key]], where: tuple[object, ...]) -> int:
        """The last chunk that begins at or before a place."""
        return max(bisect_right(chunks, where, key=_first_place) - 1, 0)


def _sorted(keys: Iterable[Key]) -> list[Key]:
    """In order. Keys of the same types are in their places as they are, which is a few times faster to find out."""
    keys = list(keys)
    kinds = {(type(partition), type(sort)) for partition, sort in keys}
    keys.sort(key=None if len(kinds) < 2 else place_of)
    return keys

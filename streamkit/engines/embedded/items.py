"""Items in memory, in key order; over a colder base where there is one."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Protocol

from streamkit.tables.item import Key, KeyValue
from streamkit.tables.store import SortKeyRange

SortKey = KeyValue | None
Place = tuple[int, KeyValue]
"""A key value with the rank of its type in front: ints before str before bytes, as SQLite orders them."""


class ColdItems(Protocol):
    """Where items are once they left memory. Reads see one consistent state."""

    def get(self, key: Key) -> bytes | None:
        """The item of a key."""

    def partition(self, partition: KeyValue) -> Iterator[tuple[SortKey, bytes]]:
        """Items of one partition in the order of their sort keys."""

    def partitions(self, start: KeyValue | None = None) -> Iterator[KeyValue]:
        """Every partition key, in order, from ``start`` on."""

    def close(self) -> None:
        """Let go of what it holds; nothing is read after this."""


class Layer:
    """Items and tombstones by key: the writes since something was last moved to the base."""

    def __init__(self) -> None:
        self._partitions: dict[KeyValue, tuple[dict[SortKey, bytes | None], list[Place]]] = {}

    def __bool__(self) -> bool:
        return bool(self._partitions)

    def set(self, key: Key, item: bytes | None) -> None:
        """Store an item, or the fact that there is none."""
        partition, sort = key
        items, order = self._partitions.setdefault(partition, ({}, []))
        if sort not in items:
            insort(order, place(sort))
        items[sort] = item

    def drop(self, key: Key) -> None:
        """Forget a key altogether, as if nothing had been written."""
        partition, sort = key
        items, order = self._partitions[partition]
        if sort in items:
            del items[sort], order[bisect_left(order, place(sort))]
        if not items:
            del self._partitions[partition]

    def find(self, key: Key) -> tuple[bool, bytes | None]:
        """Whether this layer knows the key, and its item."""
        held = self._partitions.get(key[0])
        if held is None or key[1] not in held[0]:
            return False, None
        return True, held[0][key[1]]

    def partition(self, partition: KeyValue) -> Iterator[tuple[SortKey, bytes | None]]:
        """What this layer knows of one partition, in order."""
        items, order = self._partitions.get(partition, ({}, []))
        for _, sort in list(order):
            sort_key = None if sort == _NO_SORT_KEY else sort
            yield sort_key, items[sort_key]

    def partitions(self, start: KeyValue | None = None) -> list[KeyValue]:
        """Every partition key this layer knows, in order, from ``start`` on."""
        known = self._partitions if start is None else [key for key in self._partitions if place(key) >= place(start)]
        return sorted(known, key=place)

    def unordered(self) -> list[KeyValue]:
        """Every partition key this layer knows, in no particular order."""
        return list(self._partitions)

    def entries(self) -> Iterator[tuple[Key, bytes | None]]:
        """Everything, in no particular order."""
        for partition, (items, _) in self._partitions.items():
            for sort, item in items.items():
                yield (partition, sort), item


_NO_SORT_KEY = b""  # A real sort key is never empty.


def place(value: SortKey) -> Place:
    """Where a key value stands among others."""
    if value is None:
        return -1, _NO_SORT_KEY
    if isinstance(value, int):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, value)


class Items:
    """One table's items: the newest layer over older ones over a base."""

    def __init__(self, base: ColdItems | None = None) -> None:
        self.newest = Layer()
        self.moving: Layer | None = None
        """On its way to the base, which does not show it yet."""
        self.base = base

    def set(self, key: Key, item: bytes | None) -> None:
        """Store an item, or remove it."""
        if item is None and self.base is None and self.moving is None:
            if self.newest.find(key)[0]:
                self.newest.drop(key)
            return
        self.newest.set(key, item)

    def get(self, key: Key) -> bytes | None:
        """The item of a key."""
        for layer in (self.newest, self.moving):
            if layer is not None:
                known, item = layer.find(key)
                if known:
                    return item
        return None if self.base is None else self.base.get(key)

    def partition(self, partition: KeyValue) -> list[tuple[SortKey, bytes]]:
        """Items of one partition, in the order of their sort keys."""
        sources: list[Iterator[tuple[SortKey, bytes | None]]] = [self.newest.partition(partition)]
        if self.moving is not None:
            sources.append(self.moving.partition(partition))
        if self.base is not None:
            sources.append(iter(self.base.partition(partition)))
        merged: list[tuple[SortKey, bytes]] = []
        previous: object = self
        # Equal keys come newest first, because heapq.merge is stable over its sources.
        for sort, item in heapq.merge(*sources, key=lambda entry: place(entry[0])):
            if sort != previous or type(sort) is not type(previous):
                previous = sort
                if item is not None:
                    merged.append((sort, item))
        return merged

    def partitions(self, start: KeyValue | None = None) -> Iterator[KeyValue]:
        """Every partition key that may have items, in order, from ``start`` on."""
        sources: list[Iterator[KeyValue]] = [iter(self.newest.partitions(start))]
        if self.moving is not None:
            sources.append(iter(self.moving.partitions(start)))
        if self.base is not None:
            sources.append(self.base.partitions(start))
        previous: object = None
        for partition in heapq.merge(*sources, key=place):
            if partition != previous or type(partition) is not type(previous):
                previous = partition
                yield partition

    def unordered(self) -> Iterator[KeyValue]:
        """Every partition key that has items now, some perhaps twice; nothing is sorted, so it begins at once.

        Writes and settling may go on meanwhile; what comes new may or may not be seen.
        """
        layers = [layer.unordered() for layer in (self.newest, self.moving) if layer is not None]
        base = self.base
        for known in layers:
            yield from known
        if base is not None:
            yield from base.partitions()

    def close(self) -> None:
        """Let go of the base."""
        if self.base is not None:
            self.base.close()


def within_range(entries: list[tuple[SortKey, bytes]], sort_keys: SortKeyRange | None) -> list[tuple[SortKey, bytes]]:
    """Those entries of a partition, which is in order, that a range wants."""
    if sort_keys is None:
        return entries
    if sort_keys.prefix is not None:
        prefix = sort_keys.prefix
        return [
            entry
            for entry in entries
            if (isinstance(prefix, str) and isinstance(entry[0], str) and entry[0].startswith(prefix))
            or (isinstance(prefix, bytes) and isinstance(entry[0], bytes) and entry[0].startswith(prefix))
        ]

    def place_of(entry: tuple[SortKey, bytes]) -> Place:
        return place(entry[0])

    first, last = 0, len(entries)
    if sort_keys.at_least is not None:
        first = bisect_left(entries, place(sort_keys.at_least), key=place_of)
    if sort_keys.at_most is not None:
        last = bisect_right(entries, place(sort_keys.at_most), key=place_of)
    return entries[first:last]

"""A table's items: what is in memory over a colder base where there is one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Protocol

from streamkit.engines.embedded.layer import Bounds, Layer, SortKey, place, place_of
from streamkit.engines.embedded.recent import Recent
from streamkit.tables.item import Key, KeyValue

Entry = tuple[Key, bytes | None]


class ColdItems(Protocol):
    """Where items are once they left memory. Reads see one consistent state."""

    steady: bool
    """Nobody else writes it, so what was read stays true until the key is written."""

    def get(self, key: Key) -> bytes | None:
        """The item of a key."""

    def range(self, partition: KeyValue, bounds: Bounds, *, forward: bool, limit: int) -> Iterator[tuple[Key, bytes]]:
        """A part of a partition, in order or the other way round; it is read as it is consumed.

        ``limit``: how many will be consumed at most, as far as one knows.
        """

    def items_in(
        self,
        partition: KeyValue,
        bounds: Bounds,
        *,
        forward: bool,
        limit: int,
        sort_key_of: Callable[[bytes], SortKey],
    ) -> Iterator[list[bytes]]:
        """The items of ``range`` without their keys, several at a time; ``sort_key_of`` finds the key in an item."""

    def entries_from(self, after: Key | None, *, limit: int) -> Iterator[tuple[Key, bytes]]:
        """Everything in order, or what comes after a key; the same."""

    def partitions(self, start: KeyValue | None = None) -> Iterator[KeyValue]:
        """Every partition key, in order, from ``start`` on."""

    def close(self) -> None:
        """Let go of what it holds; nothing is read after this."""


class Items:
    """One table's items: the newest layer over older ones over a base.

    What ``range``, ``items_in`` and ``entries_from`` return is consumed before anything else happens; ``partitions``
    may wait.
    """

    def __init__(self, base: ColdItems | None = None) -> None:
        self.newest = Layer()
        self.moving: Layer | None = None
        """On its way to the base, which does not show it yet."""
        self.base = base
        self._recent = Recent()

    def set(self, key: Key, item: bytes | None) -> None:
        """Store an item, or remove it."""
        if self.base is None:
            if item is None and self.moving is None:
                self.newest.drop(key)
                return
        elif self._recent:
            self._recent.forget(key)
        self.newest.set(key, item)

    def update(self, items: dict[Key, bytes]) -> None:
        """Store several items."""
        if self._recent:
            for key in items:
                self._recent.forget(key)
        self.newest.update(items)

    def get(self, key: Key) -> bytes | None:
        """The item of a key."""
        known, item = self.newest.find(key)
        if known:
            return item
        if self.moving is not None:
            known, item = self.moving.find(key)
            if known:
                return item
        base = self.base
        if base is None:
            return None
        if not base.steady:
            return base.get(key)
        known, item = self._recent.find(key)
        if not known:
            item = base.get(key)
            self._recent.keep(key, item)
        return item

    def range(
        self, partition: KeyValue, bounds: Bounds, *, forward: bool = True, limit: int = 1000
    ) -> Iterator[tuple[Key, bytes]]:
        """A part of one partition, in the order of its sort keys or the other way round.

        ``limit``: how many will be consumed at most, as far as one knows.
        """
        if self.base is not None and not self.newest and not self.moving:
            return self.base.range(partition, bounds, forward=forward, limit=limit)
        sources: list[Iterator[Entry]] = [
            layer.range(partition, bounds, forward=forward) for layer in (self.newest, self.moving) if layer
        ]
        if self.base is not None:
            sources.append(iter(self.base.range(partition, bounds, forward=forward, limit=limit)))
        return _merged(sources, forward=forward)

    def items_in(
        self,
        partition: KeyValue,
        bounds: Bounds,
        *,
        forward: bool,
        limit: int,
        sort_key_of: Callable[[bytes], SortKey],
    ) -> Iterator[list[bytes]] | None:
        """The items of ``range`` without their keys, several at a time; None: some are in memory, use ``range``."""
        if self.base is None:
            return None
        for layer in (self.newest, self.moving):
            if layer and next(layer.range(partition, bounds, forward=forward), None) is not None:
                return None
        return self.base.items_in(partition, bounds, forward=forward, limit=limit, sort_key_of=sort_key_of)

    def entries_from(self, after: Key | None = None, *, limit: int = 1000) -> Iterator[tuple[Key, bytes]]:
        """Everything in the order of the keys, or what comes after one; ``limit`` as for ``range``."""
        sources: list[Iterator[Entry]] = [layer.entries_from(after) for layer in (self.newest, self.moving) if layer]
        if self.base is not None:
            sources.append(iter(self.base.entries_from(after, limit=limit)))
        return _merged(sources, forward=True)

    def partition(self, partition: KeyValue) -> list[tuple[SortKey, bytes]]:
        """All items of one partition, in the order of their sort keys."""
        return [(key[1], item) for key, item in self.range(partition, Bounds())]

    def partitions(self, start: KeyValue | None = None) -> Iterator[KeyValue]:
        """Every partition key that may have items, in order, from ``start`` on."""
        sources: list[Iterator[KeyValue]] = [layer.partitions(start) for layer in (self.newest, self.moving) if layer]
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
        layers = [layer.unordered() for layer in (self.newest, self.moving) if layer]
        base = self.base
        for known in layers:
            yield from known
        if base is not None:
            yield from base.partitions()

    def close(self) -> None:
        """Let go of the base."""
        if self.base is not None:
            self.base.close()


def _merged(sources: list[Iterator[Entry]], *, forward: bool) -> Iterator[tuple[Key, bytes]]:
    """One stream in order; of equal keys the one from the first source counts."""
    started: list[tuple[Entry, Iterator[Entry]]] = []
    for source in sources:
        for first in source:
            started.append((first, source))
            break
    if len(started) == 1:
        ((key, item), rest) = started[0]
        if item is not None:
            yield key, item
        for key, item in rest:
            if item is not None:
                yield key, item
        return
    previous: object = None
    merged = heapq.merge(*map(_again, started), key=lambda entry: place_of(entry[0]), reverse=not forward)
    # Equal keys come newest first, because heapq.merge is stable over its sources.
    for key, item in merged:
        where = place_of(key)
        if where != previous:
            previous = where
            if item is not None:
                yield key, item


def _again(started: tuple[Entry, Iterator[Entry]]) -> Iterator[Entry]:
    yield started[0]
    yield from started[1]

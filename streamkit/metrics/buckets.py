"""Samples by bucket of one width, in order, the oldest forgotten. Pure."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from streamkit.metrics.distribution import Distribution, coarsened
from streamkit.metrics.periods import Resolution
from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic_set import StatisticSet

_COLUMNS: Final = "qqddd"


class BucketsState(msgspec.Struct, frozen=True, array_like=True):
    """All buckets of one width, to be encoded; columns of little-endian numbers of 8 bytes."""

    starts: bytes = b""
    counts: bytes = b""
    sums: bytes = b""
    minimums: bytes = b""
    maximums: bytes = b""
    distributions: list[bytes] = []


class Buckets:
    """The buckets of one resolution, and the open one, which is handed on to the next resolution when it is closed.

    Memory: 48 bytes per bucket that has samples, and for those of several values their distributions, which have a
    budget for all buckets. When it is exceeded, the distributions of the oldest buckets are made coarser, then those of
    the next ones, and so on round: of each, the relative error about doubles.
    """

    __slots__ = ("_columns", "_cursor", "_open", "_open_start", "distributions", "next", "resolution", "starts", "used")

    def __init__(self, resolution: Resolution, then: Buckets | None = None) -> None:
        self.resolution = resolution
        self.next = then
        """The coarser ones."""
        self._columns: tuple[array[Any], ...] = tuple(array(code) for code in _COLUMNS)
        self.starts = self._columns[0]
        self.distributions: list[bytes] = []
        """Packed; empty: not known, or not needed as all its samples are of one value."""
        self.used = 0
        """Bytes in ``distributions``."""
        self._cursor = 0
        self._open: Samples | None = None
        self._open_start = 0

    # HOT: once a second of every series that is reported.
    def add(self, instant_ms: int, samples: Samples) -> None:
        """Add samples of one instant, which belong to the buckets from then on."""
        start = instant_ms - instant_ms % self.resolution.width_ms
        if self._open is not None:
            if start == self._open_start:
                self._open.merge(samples)
                return
            self.close()
        self._open, self._open_start = samples, start

    def close(self) -> None:
        """Keep the open bucket, and hand it on. Those it is handed on to may stay open."""
        samples, self._open = self._open, None
        if samples is None:
            return
        self._keep(self._open_start, samples)
        if self.next is not None:
            self.next.add(self._open_start, samples)

    def sets(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, StatisticSet]]:
        """The buckets that start in [start_ms, end_ms), oldest first, and what is in the open one."""
        start_ms = max(start_ms, self._oldest())
        for at in range(bisect_left(self.starts, start_ms), bisect_left(self.starts, end_ms)):
            yield self.starts[at], self._set(at)
        if self._open is not None and start_ms <= self._open_start < end_ms:
            yield self._open_start, self._open.set

    def samples(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, Samples]]:
        """The same with their values: copies, which may be changed."""
        start_ms = max(start_ms, self._oldest())
        for at in range(bisect_left(self.starts, start_ms), bisect_left(self.starts, end_ms)):
            yield self.starts[at], self._samples(at)
        if self._open is not None and start_ms <= self._open_start < end_ms:
            yield self._open_start, self._open.copy()

    def state(self) -> BucketsState:
        """All of it, to be encoded. The open bucket must have been closed."""
        starts, counts, sums, minimums, maximums = map(_to_bytes, self._columns)
        return BucketsState(starts, counts, sums, minimums, maximums, list(self.distributions))

    def restore(self, state: BucketsState) -> None:
        """Hold what ``state`` says instead."""
        columns = (state.starts, state.counts, state.sums, state.minimums, state.maximums)
        self._columns = tuple(_from_bytes(code, data) for code, data in zip(_COLUMNS, columns, strict=True))
        self.starts = self._columns[0]
        self.distributions = list(state.distributions)
        self.used = sum(map(len, self.distributions))
        self._open, self._cursor = None, 0

    def _keep(self, start: int, samples: Samples) -> None:
        # Nearly always the newest bucket or a newer one, and then there is nothing to search or to move.
        newest = self.starts[-1] if self.starts else start - 1
        at = len(self.starts) if start > newest else bisect_left(self.starts, start)
        if at == len(self.starts):
            counts, sums, minimums, maximums = self._columns[1:]
            self.starts.append(start)
            counts.append(samples.count)
            sums.append(samples.sum)
            minimums.append(samples.minimum)
            maximums.append(samples.maximum)
            packed = _packed(samples)
            self.distributions.append(packed)
            self.used += len(packed)
            self._forget()
        elif self.starts[at] == start:
            merged = self._samples(at)
            merged.merge(samples)
            self._replace(at, merged)
        # INVARIANT: test_memory_is_bounded
        elif start > newest - self.resolution.kept_ms:
            values = (start, samples.count, samples.sum, samples.minimum, samples.maximum)
            for column, value in zip(self._columns, values, strict=True):
                column.insert(at, value)
            self.distributions.insert(at, _packed(samples))
            self.used += len(self.distributions[at])
        if self.used > self.resolution.values_bytes:
            self._coarsen()

    def _replace(self, at: int, samples: Samples) -> None:
        values = (samples.count, samples.sum, samples.minimum, samples.maximum)
        for column, value in zip(self._columns[1:], values, strict=True):
            column[at] = value
        packed = _packed(samples)
        self.used += len(packed) - len(self.distributions[at])
        self.distributions[at] = packed

    def _forget(self) -> None:
        oldest = self.starts[-1] - self.resolution.kept_ms
        if self.starts[0] > oldest:
            return
        # Forgetting moves all that stays, so it waits until there is a sixteenth to forget.
        expired = bisect_left(self.starts, oldest + 1)
        if expired * 16 > len(self.starts):
            self.used -= sum(map(len, self.distributions[:expired]))
            for column in self._columns:
                del column[:expired]
            del self.distributions[:expired]
            self._cursor = max(0, self._cursor - expired)

    # INVARIANT: test_distributions_keep_to_their_budget
    def _coarsen(self) -> None:
        left = len(self.distributions)
        while self.used > self.resolution.values_bytes and left:
            if self._cursor >= len(self.distributions):
                self._cursor = 0
            packed = self.distributions[self._cursor]
            if packed:
                smaller = coarsened(packed)
                self.used += len(smaller) - len(packed)
                self.distributions[self._cursor] = smaller
            self._cursor += 1
            left -= 1

    def _oldest(self) -> int:
        """The first instant of what counts as kept: what is older is forgotten by and by."""
        newest = self.starts[-1] if self.starts else self._open_start
        if self._open is not None and self._open_start > newest:
            newest = self._open_start
        return newest - self.resolution.kept_ms + 1

    def _set(self, at: int) -> StatisticSet:
        _, counts, sums, minimums, maximums = self._columns
        return StatisticSet(counts[at], sums[at], minimums[at], maximums[at])

    def _samples(self, at: int) -> Samples:
        samples = Samples.of_set(self._set(at))
        if self.distributions[at]:
            samples.distribution = Distribution.unpack(self.distributions[at])
        return samples


def _packed(samples: Samples) -> bytes:
    return b"" if samples.distribution is None else samples.distribution.pack()


def _to_bytes(column: array[Any]) -> bytes:
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()


def _from_bytes(code: str, data: bytes) -> array[Any]:
    column: array[Any] = array(code, data)
    if sys.byteorder == "big":
        column.byteswap()
    return column

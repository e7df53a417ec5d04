"""Samples by bucket of one width, in order, the oldest forgotten. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from streamkit.metrics.distribution import Distribution, coarsened
from streamkit.metrics.periods import Resolution
from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic_set import StatisticSet

_COLUMNS: Final = "qqddd"
# Most buckets of most series are empty: these stand for their columns, and are never written to.
_NO_COLUMNS: Final[tuple[array[Any], ...]] = tuple(array(code) for code in _COLUMNS)
_NO_DISTRIBUTIONS: Final[list[bytes]] = []
_BEFORE_ALL: Final = -(2**63)
_AFTER_ALL: Final = 2**63 - 1
ROW_BYTES = 52
"""Of a bucket that is kept: five numbers, a place in a list, and what these grow ahead."""
COLUMNS_BYTES = 600
"""Of the columns of a resolution, when there are any."""
DISTRIBUTION_BYTES = 36
"""Of a distribution, beside what it holds."""

Row = tuple[int, int, float, float, float, bytes]
"""A bucket as it is kept: start, count, sum, minimum, maximum, and packed the distribution, as in ``distributions``."""


class Usage:
    """What many series take in memory together, in bytes."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Buckets:
    """The buckets of one resolution, and the open one. When those are over that make one of the next resolution, they
    are handed on to it; what is late, at once.

    Memory: ``ROW_BYTES`` per bucket that has samples, and for those of several values their distributions, which have a
    budget for all buckets. When it is exceeded, the distributions of the oldest buckets are made coarser, then those of
    the next ones, and so on round: of each, the relative error about doubles.
    """

    __slots__ = (
        *("_columns", "_cursor", "_due_ms", "_handed_ms", "_open", "_open_start", "_usage", "distributions", "next"),
        *("resolution", "starts", "used"),
    )

    def __init__(self, resolution: Resolution, then: Buckets | None = None, usage: Usage | None = None) -> None:
        self.resolution = resolution
        self.next = then
        """The coarser ones."""
        self._usage = usage or Usage()
        self._columns = _NO_COLUMNS
        self.starts = self._columns[0]
        self.distributions = _NO_DISTRIBUTIONS
        """Packed; empty: not known, or not needed as all its samples are of one value."""
        self.used = 0
        """Bytes in ``distributions``."""
        self._cursor = 0
        self._open: Samples | None = None
        self._open_start = 0
        self._handed_ms = _BEFORE_ALL
        """What starts before it was handed on."""
        self._due_ms: int | None = None
        """When what waits to be handed on is over; None: nothing waits."""

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
        """Keep the open bucket."""
        samples, self._open = self._open, None
        if samples is None:
            return
        start = self._open_start
        then = self.next
        kept = True
        # Nearly always a newer bucket than all others, and then there is nothing to search.
        if not self.starts or start > self.starts[-1]:
            if then is not None:
                if self._due_ms is None:
                    self._due_ms = start - start % then.resolution.width_ms + then.resolution.width_ms
                elif start >= self._due_ms:
                    self.hand_on()
                    then.close()
                    self._due_ms = start - start % then.resolution.width_ms + then.resolution.width_ms
            self._insert(len(self.starts), row_of(start, samples))
            self._forget()
        else:
            kept = self.insert(row_of(start, samples), samples)
        if then is not None and (start < self._handed_ms or not kept):
            then.add(start, samples)

    def hand_on(self, until_ms: int = _AFTER_ALL) -> None:
        """Let the next resolution have what starts before an instant, and what it has not had yet. What that makes
        last may stay open in it."""
        then, starts = self.next, self.starts
        if then is None or self._due_ms is None:
            return
        width, at = then.resolution.width_ms, bisect_left(starts, self._handed_ms)
        last = bisect_left(starts, until_ms, at)
        if at == last:
            return
        self._handed_ms = max(self._handed_ms, starts[last - 1] + 1)
        self._due_ms = None if last == len(starts) else starts[last] - starts[last] % width + width
        while at < last:
            start = starts[at] - starts[at] % width
            end = bisect_left(starts, start + width, at, last)
            then.add(start, self._joined(at, end))
            at = end

    def insert(self, row: Row, samples: Samples | None = None) -> bool:
        """Add to a bucket, handing nothing on; False: it is too old. ``samples`` are those of the row, if at hand."""
        starts, start = self.starts, row[0]
        at = bisect_left(starts, start)
        if at < len(starts) and starts[at] == start:
            merged = self._samples(at)
            merged.merge(samples_of(row) if samples is None else samples)
            self._replace(at, merged)
        # INVARIANT: test_memory_is_bounded
        elif not starts or start > starts[-1] - self.resolution.kept_ms:
            self._insert(at, row)
        else:
            return False
        return True

    def replace(self, start_ms: int, end_ms: int, rows: Iterable[Row]) -> None:
        """Have these rows, all in [start_ms, end_ms), in place of those there are; they are not handed on."""
        self.close()
        self.hand_on()
        first = bisect_left(self.starts, start_ms)
        self._delete(first, bisect_left(self.starts, end_ms, first))
        for row in rows:
            self.insert(row)
        if self.starts:
            self._handed_ms = max(self._handed_ms, self.starts[-1] + 1)

    def forget(self, before_ms: int) -> None:
        """Forget those that start before an instant, once they are handed on."""
        if self.starts and self.starts[0] < before_ms:
            self.hand_on(before_ms)
            self._delete(0, bisect_left(self.starts, before_ms))

    def set_back(self, now_ms: int) -> None:
        """Where there is no room for what comes now beside what lies ahead, forget that, once it is handed on."""
        self.close()
        self.hand_on()
        if self.starts and now_ms <= self.starts[-1] - self.resolution.kept_ms:
            self._delete(bisect_left(self.starts, now_ms), len(self.starts))

    # ---- asking

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

    def rows(self, start_ms: int, end_ms: int) -> list[Row]:
        """The buckets that start in [start_ms, end_ms), oldest first. The open one is kept first."""
        self.close()
        first = bisect_left(self.starts, start_ms)
        last = bisect_left(self.starts, end_ms, first)
        columns = [column[first:last] for column in self._columns]
        return list(zip(*columns, self.distributions[first:last], strict=True))

    # ---- keeping

    def _insert(self, at: int, row: Row) -> None:
        if self._columns is _NO_COLUMNS:
            self._columns = tuple(array(code) for code in _COLUMNS)
            self.starts, self.distributions = self._columns[0], []
            self._usage.bytes += COLUMNS_BYTES
        packed = row[5]
        if at == len(self.starts):
            starts, counts, sums, minimums, maximums = self._columns
            starts.append(row[0])
            counts.append(row[1])
            sums.append(row[2])
            minimums.append(row[3])
            maximums.append(row[4])
            self.distributions.append(packed)
        else:
            for column, value in zip(self._columns, row[:5], strict=True):
                column.insert(at, value)
            self.distributions.insert(at, packed)
        self._usage.bytes += ROW_BYTES
        if packed:
            self._grow(b"", packed)

    def _replace(self, at: int, samples: Samples) -> None:
        row = row_of(self.starts[at], samples)
        for column, value in zip(self._columns[1:], row[1:5], strict=True):
            column[at] = value
        self._grow(self.distributions[at], row[5])
        self.distributions[at] = row[5]

    def _grow(self, before: bytes, after: bytes) -> None:
        grown = len(after) - len(before)
        self.used += grown
        self._usage.bytes += grown + DISTRIBUTION_BYTES * (bool(after) - bool(before))
        if grown > 0 and self.used > self.resolution.values_bytes:
            self._coarsen()

    def _delete(self, first: int, last: int) -> None:
        if first == last:
            return
        gone = self.distributions[first:last]
        held = sum(map(len, gone))
        self.used -= held
        self._usage.bytes -= held + ROW_BYTES * (last - first) + DISTRIBUTION_BYTES * (len(gone) - gone.count(b""))
        if last - first == len(self.starts):
            self._columns, self.distributions = _NO_COLUMNS, _NO_DISTRIBUTIONS
            self.starts = self._columns[0]
            self._usage.bytes -= COLUMNS_BYTES
            self._cursor = 0
            return
        for column in self._columns:
            del column[first:last]
        del self.distributions[first:last]
        self._cursor = max(first, self._cursor - (last - first)) if self._cursor > first else self._cursor

    def _forget(self) -> None:
        oldest = self.starts[-1] - self.resolution.kept_ms
        if self.starts[0] > oldest:
            return
        # Forgetting moves all that stays, so it waits until there is a sixteenth to forget.
        expired = bisect_left(self.starts, oldest + 1)
        if expired * 16 > len(self.starts):
            self._delete(0, expired)

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
                self._usage.bytes += len(smaller) - len(packed)
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
        _, counts, sums, minimums, maximums = self._columns
        packed = self.distributions[at]
        known = Distribution.unpack(packed) if packed else None
        return Samples(counts[at], sums[at], minimums[at], maximums[at], known)

    def _joined(self, first: int, last: int) -> Samples:
        """Those of several buckets, as if they were merged one by one."""
        if last - first == 1:
            return self._samples(first)
        counts, sums, minimums, maximums = [column[first:last] for column in self._columns[1:]]
        return _joined(counts, sums, minimums, maximums, self.distributions[first:last])


def row_of(start_ms: int, samples: Samples) -> Row:
    """A bucket of these samples, as it is kept."""
    packed = b"" if samples.distribution is None else samples.distribution.pack()
    return start_ms, samples.count, samples.sum, samples.minimum, samples.maximum, packed


def samples_of(row: Row) -> Samples:
    """What a bucket holds."""
    return Samples(row[1], row[2], row[3], row[4], Distribution.unpack(row[5]) if row[5] else None)


# HOT: once a minute of every series that is reported.
def _joined(
    counts: array[int], sums: array[float], minimums: array[float], maximums: array[float], packed: list[bytes]
) -> Samples:
    minimum, maximum = min(minimums), max(maximums)
    made = Samples(sum(counts), sum(sums), minimum, maximum)
    if minimum == maximum or minimum < 0:
        return made
    if minimums == maximums and max(counts) == 1:
        once = minimums.tolist()
        # Counted, few values take less than all of them one by one.
        few = len(set(once)) * 2 <= len(once)
        made.distribution = Distribution.of(Counter(once)) if few else Distribution.of_list(once)
        return made
    values: dict[float, int] = {}
    several: list[bytes] = []
    for count, least, most, each in zip(counts, minimums, maximums, packed, strict=True):
        if least == most:
            values[least] = values.get(least, 0) + count
        elif each:
            several.append(each)
        else:
            return made  # One whose values are not known loses those of all.
    known = Distribution.of(values)
    for each in several:
        known.merge(Distribution.unpack(each))
    made.distribution = known
    return made

"""How often which value was put: exactly for few distinct values, with a relative error for more. Pure.

Follows Masson, Rim and Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees",
PVLDB 12 (2019), and for what is done when there are too many bins Epicoco et al., "UDDSketch: Accurate Tracking of
Quantiles in Data Streams", IEEE Access 8 (2020): they are joined in pairs over the whole range instead of at its end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import msgspec

MAX_DISTINCT = 150
"""Distinct values that are kept exactly: as many as one ``PutMetricData`` may bring."""
MAX_BINS = 512
"""Bins beyond that."""
RELATIVE_ERROR = 0.01
"""Of bins that were never joined."""
MAX_UNCOUNTED = 1024
"""Values that wait to be counted."""
MAX_JOINS = 12
"""After so many, what samples can be (2^-1074 to 2^360) is at most 14 bins."""

_LOG_GAMMA = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))


class Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A distribution as it is kept, in MessagePack."""

    joins: int
    """-1: the values are exact."""
    zeros: int
    values: list[float | int]
    """The values; or ascending the first bin's index, and the distance of each to the one before."""
    counts: list[int] = []
    """Of each; if there are none, the values came one by one."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packed)


class Distribution:
    """Values of 0 and more, with counts.

    Up to 150 distinct values are exact. More are in bins of logarithmic width, each of which stands for its values
    with a relative error of at most 1 %, as long as 512 bins hold them: which they do, whatever they are, if the
    largest is 28,000 times the least that is not zero. When they do not, bins are joined in pairs, which about doubles
    the error (2 % up to a factor of 7.8e8, 4 % up to 6e17). ``relative_error`` tells it. Zeros are always exact. (Of
    values under 2^-1022, which floats have with fewer digits, the error may be larger.)

    What comes one by one waits until it is asked for, or until there is much of it: counting it later is what keeps
    reporting it cheap.

    Memory: 120 KB at most while it is added to. Packed, 150 values take 1.6 KB and 512 bins 2.1 KB as long as none was
    put more often than 127 and 65,535 times; whatever is put, 6.5 KB.
    """

    __slots__ = ("_uncounted", "bins", "exact", "joins", "zeros")

    def __init__(self) -> None:
        self.exact: dict[float, int] | None = {}
        """Counts by value; None: they are in ``bins``."""
        self.bins: dict[int, int] = {}
        """Counts by index: bin i holds (γ^(i-1), γ^i]."""
        self.zeros = 0
        """The zeros, if they are not in ``exact``."""
        self.joins = 0
        """How often the bins were joined."""
        self._uncounted: list[float] = []

    @classmethod
    def of_list(cls, values: list[float]) -> Distribution:
        """Of these values, each once. The list belongs to it from then on."""
        made = cls()
        made._uncounted = values
        return made

    @classmethod
    def of(cls, counts: Mapping[float, int]) -> Distribution:
        """Of these values."""
        made = cls()
        made.add(counts)
        return made

    @property
    def relative_error(self) -> float:
        """By how much of itself a value may be off, at most."""
        self._count()
        return 0.0 if self.exact is not None else math.tanh(_LOG_GAMMA * 2.0**self.joins / 2)

    def add(self, counts: Mapping[float, int]) -> None:
        """Add values, none of them negative, each as often as it says."""
        if self.exact is not None:
            exact = self.exact
            for value, count in counts.items():
                exact[value] = exact.get(value, 0) + count
            if len(exact) > MAX_DISTINCT:
                self._to_bins()
            return
        scale = self._scale()
        log, ceil, bins = math.log, math.ceil, self.bins
        for value, count in counts.items():
            if value:
                index = ceil(log(value) * scale)
                bins[index] = bins.get(index, 0) + count
            else:
                self.zeros += count
        self._bound()

    # INVARIANT: test_merging_is_adding_everything
    def merge(self, other: Distribution) -> None:
        """Add all that is in another one, which stays as it is."""
        if other._uncounted:
            self._uncounted += other._uncounted
            if len(self._uncounted) > MAX_UNCOUNTED:
                self._count()
        if other.exact is not None:
            if other.exact:
                self.add(other.exact)
            return
        if self.exact is not None:
            self._to_bins()
        theirs: Mapping[int, int] = other.bins
        while self.joins < other.joins:
            self._join()
        for _ in range(self.joins - other.joins):
            theirs = _joined(theirs)
        for index, count in theirs.items():
            self.bins[index] = self.bins.get(index, 0) + count
        self.zeros += other.zeros
        self._bound()

    def copy(self) -> Distribution:
        """Another one with the same values."""
        made = Distribution()
        made.exact = None if self.exact is None else dict(self.exact)
        made.bins, made.zeros, made.joins = dict(self.bins), self.zeros, self.joins
        made._uncounted = list(self._uncounted)
        return made

    def values(self, minimum: float, maximum: float) -> list[tuple[float, int]]:
        """The values with their counts, ascending, none of them outside the least and the largest that were put."""
        self._count()
        if self.exact is not None:
            return sorted(self.exact.items())
        width = _LOG_GAMMA * 2.0**self.joins
        centre = 2 / (1 + math.exp(width))
        found = [(0.0, self.zeros)] if self.zeros else []
        for index in sorted(self.bins):
            value = math.exp(index * width) * centre
            found.append((min(max(value, minimum), maximum), self.bins[index]))
        return found

    def coarsen(self) -> bool:
        """Make it smaller: exact values go into bins, bins are joined. False: it cannot be made smaller."""
        self._count()
        if self.exact is not None:
            self._to_bins()
        elif self.joins < MAX_JOINS:
            self._join()
        else:
            return False
        return True

    def pack(self) -> bytes:
        """As it is kept."""
        if not self.exact and self.exact is not None and len(self._uncounted) <= MAX_DISTINCT:
            return _encoder.encode(Packed(-1, 0, [*self._uncounted]))
        self._count()
        if self.exact is not None:
            exact = sorted(self.exact.items())
            # Whole numbers, which most are, take 1 to 5 bytes instead of 9.
            values = [int(value) if value < 2**32 and value == int(value) else float(value) for value, _ in exact]
            return _encoder.encode(Packed(-1, 0, values, [count for _, count in exact]))
        indexes = sorted(self.bins)
        steps = [after - before for before, after in zip([0, *indexes[:-1]], indexes, strict=True)] if indexes else []
        return _encoder.encode(Packed(self.joins, self.zeros, [*steps], [self.bins[index] for index in indexes]))

    @classmethod
    def unpack(cls, packed: bytes) -> Distribution:
        """What ``pack`` made."""
        found = _decoder.decode(packed)
        if found.joins < 0 and not found.counts:
            return cls.of_list(found.values)
        made = cls()
        if found.joins < 0:
            made.exact = dict(zip(found.values, found.counts, strict=True))
            return made
        made.exact, made.joins, made.zeros = None, found.joins, found.zeros
        index = 0
        for step, count in zip(found.values, found.counts, strict=True):
            index += int(step)
            made.bins[index] = count
        return made

    def _count(self) -> None:
        if not self._uncounted:
            return
        values, self._uncounted = self._uncounted, []
        if self.exact is not None:
            if len(set(values)) <= MAX_DISTINCT:
                self.add(Counter(values))
                return
            self._to_bins()
        zeros = values.count(0)
        if zeros:
            values = [value for value in values if value]
        scale, log, ceil = self._scale(), math.log, math.ceil
        added = Counter([ceil(exponent * scale) for exponent in map(log, values)])
        added.update(self.bins)
        self.bins = dict(added)
        self.zeros += zeros
        self._bound()

    def _to_bins(self) -> None:
        exact, self.exact = self.exact or {}, None
        self.add(exact)

    def _scale(self) -> float:
        return 1 / (_LOG_GAMMA * 2.0**self.joins)

    # INVARIANT: test_the_relative_error_holds
    def _bound(self) -> None:
        while len(self.bins) > MAX_BINS:
            self._join()

    def _join(self) -> None:
        self.bins = _joined(self.bins)
        self.joins += 1


def _joined(bins: Mapping[int, int]) -> dict[int, int]:
    joined: dict[int, int] = {}
    for index, count in bins.items():
        half = -(-index // 2)
        joined[half] = joined.get(half, 0) + count
    return joined


def coarsened(packed: bytes) -> bytes:
    """A packed distribution in at most three quarters of its bytes, or in as few as there can be."""
    made = Distribution.unpack(packed)
    smaller = packed
    while len(smaller) * 4 > len(packed) * 3 and made.coarsen():
        smaller = made.pack()
    return smaller if len(smaller) < len(packed) else packed

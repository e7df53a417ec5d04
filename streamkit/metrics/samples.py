"""What is kept of the samples of one bucket: a statistic set, and their values if they can be known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamkit.metrics.distribution import Distribution
from streamkit.metrics.statistic import CompiledStatistic, Values
from streamkit.metrics.statistic_set import StatisticSet

_LARGEST_WHOLE = 2**63
"""Whole numbers from here on have no form in what is kept."""


class Samples:
    """Some samples, at least one, to which others can be added.

    Their values are known if they were put one by one, with counts, or in statistic sets of one value alone (whose
    minimum is the maximum); and if none of them is negative. One that is lost loses the values of all.
    """

    __slots__ = ("count", "distribution", "maximum", "minimum", "sum")

    def __init__(
        self, count: int, total: float, minimum: float, maximum: float, distribution: Distribution | None = None
    ) -> None:
        self.count = count
        self.sum = total
        self.minimum = minimum
        self.maximum = maximum
        self.distribution = distribution
        """None while all are of one value, which needs none; of several values: not known."""

    @classmethod
    def of_counts(cls, counts: Mapping[float, int]) -> Samples:
        """Values, each as often as it says."""
        minimum, maximum = min(counts), max(counts)
        many = sum(counts.values())
        total = sum([value * count for value, count in counts.items()])
        known = Distribution.of(counts) if maximum > minimum >= 0 else None
        return cls(many, total, minimum, maximum, known)

    @classmethod
    def of_list(cls, values: list[float]) -> Samples:
        """Values, each once. The list belongs to the samples from then on."""
        minimum, maximum = min(values), max(values)
        if maximum >= _LARGEST_WHOLE:
            values = [float(value) for value in values]
        known = Distribution.of_list(values) if maximum > minimum >= 0 else None
        return cls(len(values), sum(values), minimum, maximum, known)

    @classmethod
    def of_set(cls, found: StatisticSet) -> Samples:
        """Those of a statistic set."""
        return cls(found.sample_count, found.sum, found.minimum, found.maximum)

    @property
    def set(self) -> StatisticSet:
        """The five plain statistics."""
        return StatisticSet(self.count, self.sum, self.minimum, self.maximum)

    def copy(self) -> Samples:
        """The same samples, to add others to."""
        known = self.distribution
        return Samples(self.count, self.sum, self.minimum, self.maximum, None if known is None else known.copy())

    # INVARIANT: test_values_are_lost_with_the_first_that_is_not_known
    def merge(self, other: Samples) -> None:
        """Add the samples of another, which stays as it is."""
        minimum = self.minimum if self.minimum < other.minimum else other.minimum
        maximum = self.maximum if self.maximum > other.maximum else other.maximum
        if minimum == maximum or minimum < 0:
            self.distribution = None
        else:
            mine, theirs = self._known(), other._known()
            self.distribution = None if theirs is None else mine
            if mine is not None and theirs is not None:
                mine.merge(theirs)
        self.count += other.count
        self.sum += other.sum
        self.minimum, self.maximum = minimum, maximum

    def value(self, statistic: CompiledStatistic) -> float | None:
        """One statistic of the samples; None: it needs their values, and they are not known."""
        return statistic.value(self.set, self.values() if statistic.extended else None)

    def answers(self, statistics: Iterable[CompiledStatistic]) -> dict[str, float]:
        """Several statistics by their text, without those that the samples do not have."""
        known, looked = None, False
        found = {}
        for statistic in statistics:
            if statistic.extended and not looked:
                known, looked = self.values(), True
            value = statistic.value(self.set, known)
            if value is not None:
                found[statistic.text] = value
        return found

    def values(self) -> Values | None:
        """Each value with its count, ascending; None: they are not known."""
        known = None if self.minimum < 0 else self._known()
        return None if known is None else known.values(self.minimum, self.maximum)

    def _known(self) -> Distribution | None:
        if self.minimum == self.maximum:
            return Distribution.of({self.minimum: self.count})
        return self.distribution

"""What a lane measures: figures, distributions of latencies, timelines, and what was checked of a guarantee. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from streamkit.metrics.distribution import Distribution

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 1.0)
"""The shares of which a report tells the latency, beside the curve."""


class WrongResultError(Exception):
    """Something was lost, doubled or out of order: there is no number."""


def verify(holds: bool, otherwise: str) -> None:
    """Refuse a number that comes from a wrong run."""
    if not holds:
        raise WrongResultError(otherwise)


@dataclass(frozen=True)
class Figure:
    """One number of one round."""

    value: float
    unit: str


class Latencies:
    """All of them, each counted: as many as there are may be merged, with 1 % of error.

    None is left out and none weighs more than another, so that a percentile is one of what happened. Whoever measures
    calls at a pace of its own and counts from when the call was due, or a stall hides what waited behind it
    ("coordinated omission": Gil Tene, "How NOT to Measure Latency", 2013).
    """

    def __init__(self, seconds: Iterable[float]) -> None:
        values = list(seconds)
        verify(bool(values), "no latency was measured")
        self.least, self.largest, self.count = min(values), max(values), len(values)
        self._kept = Distribution.of_list(values)

    def merge(self, other: Latencies) -> None:
        """Add those of another round."""
        self.least, self.largest = min(self.least, other.least), max(self.largest, other.largest)
        self.count += other.count
        self._kept.merge(other._kept)

    def curve(self) -> list[tuple[float, float]]:
        """(share, seconds): that share of them took so long or less. Ascending, up to share 1."""
        values = self._kept.values(self.least, self.largest)
        reached = accumulate(count for _, count in values)
        return [(count / self.count, value) for (value, _), count in zip(values, reached, strict=True)]

    def quantile(self, share: float) -> float:
        """Seconds: the least of them that ``share`` of all do not exceed; the extremes are exact."""
        if share <= 0:
            return self.least
        return next((value for reached, value in self.curve() if reached >= share - 1e-12), self.largest)

    def quantiles(self) -> dict[float, float]:
        """Seconds by share, of those shares that so many latencies can tell."""
        told = [share for share in QUANTILES if share in (0.0, 1.0) or self.count * (1 - share) >= 1 - 1e-9]
        return {share: self.quantile(share) for share in told}


@dataclass(frozen=True)
class Timeline:
    """Something that was looked at again and again during one round."""

    unit: str
    points: Sequence[tuple[float, float]]
    """(seconds since the round began, value), ascending."""


@dataclass(frozen=True)
class Checked:
    """So many events were held against a guarantee."""

    guarantee: str
    """In words: "order per shard"."""
    under: str
    """What was going on: "load", "kill -9"."""
    events: int
    violations: int = 0
    first: str = ""
    """The first violation, in a sentence that names what came and what should have."""

    def __add__(self, other: Checked) -> Checked:
        return Checked(
            self.guarantee,
            self.under,
            self.events + other.events,
            self.violations + other.violations,
            self.first or other.first,
        )


Measured = Figure | Latencies | Timeline | Checked
Figures = Mapping[str, Measured]
"""By the row that they belong to."""


def higher_is_better(unit: str) -> bool:
    """Whether more of this unit is good news: rates are; time, memory and what is asked of a disk are not."""
    return unit.endswith("/s") and not unit.startswith("ms")


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def rate(count: int, seconds: float, unit: str = "records/s") -> Figure:
    """So many in so long; none is no figure."""
    verify(count > 0, "nothing was measured")
    return Figure(count / seconds, unit)


def geometric_mean(values: Sequence[float]) -> float:
    """Of ratios: two times as fast and half as fast are as fast."""
    return math.exp(sum(map(math.log, values)) / len(values))

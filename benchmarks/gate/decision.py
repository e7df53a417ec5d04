"""Whether a change is slower, from pairs of measurements that were made side by side. Pure.

Each pair is one number: the logarithm of what an operation costs with the change over what it costs with the base.
Without a difference it is as often above zero as below, however wild the machine is, since the two sides of a pair take
turns and meet the same noise. That is all that is asked of them: they are judged by their median, and by the interval
that the sign test gives it, whose ends are two of the pairs (W. R. Thompson, "On confidence ranges for the median",
Annals of Mathematical Statistics 7, 1936; M. Hollander and D. A. Wolfe, "Nonparametric Statistical Methods", 1999,
3.6). A pair that met a storm counts as one on its side, by whatever factor it is off. Means would follow it, and
Wilcoxon's ranks would give it the highest: simulated with one measurement in twenty five times too slow, they miss
more.

It is sequential: a few pairs, and more while it is not decided. Whoever looks after every pair gets more chances to be
wrong, so the chance of one look to call a change slower that is not is a thousandth (``SURE``): all the looks together
stay under one in a hundred. That it is not slower needs less (``ENOUGH``), as a mistake there costs less.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LIMIT = 0.10
"""A change that is slower by more than this share is refused."""
LEAST, MOST = 5, 24
"""Pairs of one hot path: of fewer than five no interval has ends that are right 19 times in 20."""
SURE, ENOUGH = 0.001, 0.05
"""The chance of one end of an interval to be wrong: of that with which a change is refused, of that which is shown."""

Outcome = Literal["slower", "fine", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What so many pairs say."""

    outcome: Outcome
    """``undecided``: more pairs may tell, and if there are none, nobody is refused for it."""
    pairs: int
    ratio: float
    """Cost with the change over cost with the base: 1.1 is slower by a tenth."""
    low: float
    high: float
    """The ratio is between them, each wrong once in 20 times; 0 and infinity while there are too few pairs."""


def decide(pairs: Sequence[float], limit: float = LIMIT) -> Verdict:
    """Judge logarithms of ratios.

    Slower is what is slower by more than ``limit`` as estimated, and slower at all for certain; fine is what is not
    slower by ``limit`` as far as the interval reaches. There may be any number of pairs, also none.
    """
    if not pairs:
        return Verdict("undecided", 0, 1.0, 0.0, math.inf)
    estimate = statistics.median(pairs)
    low, high = interval(pairs, ENOUGH)
    certainly, _ = interval(pairs, SURE)
    outcome: Outcome = "undecided"
    if estimate > math.log1p(limit) and certainly > 0:
        outcome = "slower"
    elif high < math.log1p(limit):
        outcome = "fine"
    return Verdict(outcome, len(pairs), math.exp(estimate), math.exp(low), math.exp(high))


def interval(values: Sequence[float], chance: float) -> tuple[float, float]:
    """What the median of the distribution is between, each end wrong with that chance; infinite with too few values."""
    ways, total = 0, 2 ** len(values)
    for left_out in range(len(values)):
        # With so many values below it, or fewer, an end would be wrong: so many signs of all there are.
        ways += math.comb(len(values), left_out)
        if ways > chance * total:
            break
    if left_out == 0:
        return -math.inf, math.inf
    ascending = sorted(values)
    return ascending[left_out - 1], ascending[-left_out]


@dataclass(frozen=True)
class Judged:
    """A hot path so far: what its CPU time says, and what its wall-clock time does."""

    cpu: Verdict
    wall: Verdict

    @property
    def outcome(self) -> Outcome:
        """Slower if either is; fine if the CPU time is, unless the clock on the wall says that something waits."""
        if "slower" in (self.cpu.outcome, self.wall.outcome):
            return "slower"
        if self.cpu.outcome == "fine" and self.wall.ratio > 1 + WALL_LIMIT:
            return "undecided"
        return self.cpu.outcome

    @property
    def done(self) -> bool:
        """Whether more pairs would change nothing."""
        return self.outcome != "undecided" or self.cpu.pairs >= MOST


WALL_LIMIT = 0.5
"""As ``LIMIT``, of the time on the wall: whatever else the machine does is in it, and it is only to find what waits."""


def judge(cpu: Sequence[float], wall: Sequence[float]) -> Judged:
    """Both measures of the same pairs."""
    return Judged(decide(cpu), decide(wall, WALL_LIMIT))


def following(judged: Sequence[Judged]) -> int | None:
    """Which path gets the next pair; None when all are decided.

    In turn until each has its least, so that the pairs of each are spread over the time; then whichever looks slowest,
    so that what is to be refused is known before the time is up.
    """
    open_ = [at for at, each in enumerate(judged) if not each.done]
    if not open_:
        return None
    return min(open_, key=lambda at: (min(judged[at].cpu.pairs, LEAST), -_slow(judged[at])))


def _slow(judged: Judged) -> float:
    """How slow it looks, beside what is allowed; nothing is said of one that has not its least."""
    if judged.cpu.pairs < LEAST:
        return 0.0
    return max(judged.cpu.ratio / (1 + LIMIT), judged.wall.ratio / (1 + WALL_LIMIT))

"""Statistics compiled from their names: the five plain ones, percentiles, trimmed and winsorised means. Pure.

Follows "CloudWatch statistics definitions" of the CloudWatch user guide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal, cast

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.metric import STATISTICS, Statistic
from streamkit.metrics.statistic_set import LARGEST_VALUE, StatisticSet

Kind = Literal["plain", "p", "TM", "WM", "TC", "TS", "PR"]

Values = Sequence[tuple[float, int]]
"""Values with how often each was put, in ascending order."""

_ONE = 10**10
"""One percent: percents are whole numbers of ten decimals, so that ranks are exact."""
HUNDRED_PERCENT = 100 * _ONE
"""As the bound of a statistic."""
_NUMBER = r"\d{1,110}(?:\.\d{1,10})?"
_SHORT = re.compile(rf"(p|tm|wm|tc|ts)({_NUMBER})", re.ASCII | re.IGNORECASE)
_LONG = re.compile(rf"(TM|WM|TC|TS|PR)\((?:({_NUMBER})(%?))?:(?:({_NUMBER})(%?))?\)", re.ASCII | re.IGNORECASE)
_ADVICE = (
    f"write one of {', '.join(STATISTICS)}, IQM, p99.9, tm99, TM(10%:90%), TM(150:1000) with either end left out if "
    "it is open, the same with WM, TC or TS, or PR(:300); numbers have at most 10 decimals and no sign"
)


class CompiledStatistic(msgspec.Struct, frozen=True):
    """A statistic, to be asked of the samples of many periods.

    Percentiles are by nearest rank: ``p90`` is the smallest value that at least 90 % of the samples do not exceed, so
    always one that was put (between two samples nothing is interpolated); ``p0`` is the minimum.

    Between percents, ``TM(a%:b%)`` leaves out as many whole samples as a % and (100 - b) % of them are, rounded down:
    the samples from rank floor(a·n) + 1 to rank ceil(b·n), which is the one that ``pb`` names. At least one is left.
    ``WM`` takes those outside for the nearest of these. Between values, the lower bound is exclusive and the upper one
    inclusive; there ``TM`` of nothing is no value, ``TC``, ``TS`` and ``PR`` of nothing are 0.
    """

    text: str
    """As it was written."""
    kind: Kind
    lower: int | float | None = None
    """The lower bound: in percent a whole number of 10^-10, else a value. None: open."""
    upper: int | float | None = None
    """The upper bound, in the same way; of ``p`` the percentile."""
    percent: bool = False

    @property
    def extended(self) -> bool:
        """Whether it needs the values of the samples, and not just their ``StatisticSet``."""
        return self.kind != "plain"

    def value(self, found: StatisticSet, values: Values | None) -> float | None:
        """What it is over some samples.

        Args:
            found: What is known of them.
            values: Their values; not needed if it is plain. None: they are not known, or some are negative.

        Returns:
            None if it is extended and there are no ``values``, and for a mean of no samples.
        """
        if self.kind == "plain":
            return found.value(cast(Statistic, self.text))
        if not values:
            return None
        count = sum(many for _, many in values)
        if self.percent:
            first, last = self._ranks(count)
            inside = list(_between_ranks(values, first, last))
        else:
            inside = [each for each in values if self._holds(each[0])]
        kept = sum(many for _, many in inside)
        match self.kind:
            case "p":
                return float(inside[0][0])
            case "TC":
                return float(kept)
            case "PR":
                return 100.0 * kept / count
            case "TS":
                return _sum(inside)
            case "TM":
                return _sum(inside) / kept if kept else None
            case "WM":
                low, high = (inside[0][0], inside[-1][0]) if self.percent else (self.lower, self.upper)
                return _sum([(_clamped(each, low, high), many) for each, many in values]) / count

    def _ranks(self, count: int) -> tuple[int, int]:
        upper = HUNDRED_PERCENT if self.upper is None else int(self.upper)
        last = max(1, -(-upper * count // HUNDRED_PERCENT))
        first = last if self.kind == "p" else int(self.lower or 0) * count // HUNDRED_PERCENT + 1
        return first, last

    def _holds(self, value: float) -> bool:
        return (self.lower is None or value > self.lower) and (self.upper is None or value <= self.upper)


# INVARIANT: test_percents_as_bounds_equal_a_look_at_every_sample
def _between_ranks(values: Values, first: int, last: int) -> Iterator[tuple[float, int]]:
    passed = 0
    for value, many in values:
        inside = min(passed + many, last) - max(passed, first - 1)
        if inside > 0:
            yield value, inside
        passed += many
        if passed >= last:
            return


def _sum(values: Values) -> float:
    return math.fsum(value * many for value, many in values)


def _clamped(value: float, low: float | None, high: float | None) -> float:
    if low is not None and value < low:
        return low
    return high if high is not None and value > high else value


def compile_statistic(text: str) -> CompiledStatistic:
    """Compile a statistic: ``Average``, ``p99.9``, ``tm99``, ``TM(10%:90%)``, ``WM(:300)``, ``IQM``, ``PR(100:2000)``.

    The five plain ones are written as in CloudWatch, the others in upper or lower case. ``tm99`` is ``TM(:99%)``, and
    ``IQM`` is ``TM(25%:75%)``.

    Raises:
        ValidationError: It is none; the message says what to write.
    """
    if text in STATISTICS:
        return CompiledStatistic(text, "plain")
    if not isinstance(text, str):
        raise ValidationError(f"statistic {text!r} is not known: {_ADVICE}")
    if text.upper() == "IQM":
        return CompiledStatistic(text, "TM", 25 * _ONE, 75 * _ONE, percent=True)
    if short := _SHORT.fullmatch(text):
        kind = "p" if short[1].lower() == "p" else short[1].upper()
        upper = _percent(text, short[2])
        if upper == 0 and kind != "p":
            raise ValidationError(f"statistic {text!r} leaves nothing: write a number over 0, such as {short[1]}99")
        return CompiledStatistic(text, cast(Kind, kind), None, upper, percent=True)
    if long := _LONG.fullmatch(text):
        return _compile_long(text, long)
    raise ValidationError(f"statistic {text!r} is not known: {_ADVICE}")


def _compile_long(text: str, found: re.Match[str]) -> CompiledStatistic:
    kind, low, low_sign, high, high_sign = found.groups()
    kind = kind.upper()
    if low is None and high is None:
        raise ValidationError(f"statistic {text!r} has no bound: write one at least, such as {kind}(:300)")
    if None not in (low, high) and low_sign != high_sign:
        raise ValidationError(
            f"statistic {text!r} mixes a percent with a value: write % after both bounds or after neither"
        )
    percent = "%" in (low_sign, high_sign)
    if percent and kind == "PR":
        raise ValidationError(f"statistic {text!r} has bounds in percent: PR takes values, such as PR(100:2000)")
    read = _percent if percent else _value
    lower = None if low is None else read(text, low)
    upper = None if high is None else read(text, high)
    least = 0 if percent and lower is None else lower
    most = HUNDRED_PERCENT if percent and upper is None else upper
    if least is not None and most is not None and least >= most:
        raise ValidationError(f"statistic {text!r} leaves nothing: its lower bound must be less than its upper bound")
    return CompiledStatistic(text, cast(Kind, kind), lower, upper, percent)


def _percent(text: str, number: str) -> int:
    scaled = Decimal(number).scaleb(10)
    if scaled > HUNDRED_PERCENT:
        raise ValidationError(f"statistic {text!r}: {number} percent is over 100: write a number from 0 to 100")
    return int(scaled)


def _value(text: str, number: str) -> float:
    value = float(number)
    if value > LARGEST_VALUE:
        raise ValidationError(f"statistic {text!r}: {number} is over 2^360, which no sample is: leave the bound out")
    return value

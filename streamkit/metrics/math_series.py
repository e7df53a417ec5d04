"""Time series, the range they are asked for, and arithmetic on them. Pure.

What has no value (a division by zero, a logarithm of nothing, an overflow) is a point that is dropped; of a scalar it
is a NaN, and whatever is computed with that has no points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.math_parser import Operator

MAX_DATAPOINTS = 100_800
"""Periods in one range, as one ``GetMetricData`` answers with."""
DEFAULT_PERIOD_MS = 60_000
_LAST_MS = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 1000


class Series(msgspec.Struct, frozen=True):
    """The values of one metric, or what was computed of some: at most one for each period.

    What is given to an expression may have its points in any order; what it answers with has the oldest first.
    """

    period_ms: int
    points: dict[int, float] = {}
    """From the start of a period, in ms since 1970 and a multiple of ``period_ms``, to its value, which is finite."""
    label: str = ""
    """What it is called where several are shown: kept by all that goes from one series to one."""

    def with_points(self, points: dict[int, float]) -> Series:
        """The same but for its points."""
        return Series(self.period_ms, points, self.label)


class TimeRange(msgspec.Struct, frozen=True):
    """Which periods are looked at: those that start in it.

    Raises:
        ValidationError: It ends before it begins, or has more than 100,800 periods.
    """

    start_ms: int
    """In ms since 1970, inclusive."""
    end_ms: int
    """Exclusive."""
    period_ms: int = DEFAULT_PERIOD_MS
    """Of series that no metric gives a period, which are those of ``TIME_SERIES``."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_ms < self.end_ms <= _LAST_MS:
            raise ValidationError(f"the range is {self.start_ms} to {self.end_ms}: it must end after it starts, in ms")
        self.grid(self.period_ms)

    def grid(self, period_ms: int) -> range:
        """The starts of all periods of this length that are in the range.

        Raises:
            ValidationError: ``period_ms`` is not positive, or there are more than 100,800 of them.
        """
        if period_ms < 1:
            raise ValidationError(f"the period is {period_ms} ms: it must be positive")
        found = range(-(-self.start_ms // period_ms) * period_ms, self.end_ms, period_ms)
        if len(found) > MAX_DATAPOINTS:
            raise ValidationError(
                f"the range has {len(found):,} periods of {period_ms} ms, and {MAX_DATAPOINTS:,} at most are looked at:"
                " ask for less time, or a longer period"
            )
        return found


def in_range(series: Series, range: TimeRange) -> Series:
    """What of a series is within the range, the oldest first.

    Raises:
        ValidationError: A point is not at the start of a period, or is not finite.
    """
    grid = range.grid(series.period_ms)
    for at, value in series.points.items():
        if at % series.period_ms:
            raise ValidationError(f"the point at {at} is not at the start of a period of {series.period_ms} ms")
        if not math.isfinite(value):
            raise ValidationError(f"the point at {at} is {value}: leave out what has no value")
    return series.with_points({at: float(series.points[at]) for at in sorted(series.points) if at in grid})


# ---- each point by itself


def finite(value: float) -> float:
    """NaN for what is no value."""
    return value if math.isfinite(value) else math.nan


def kept(points: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Those that have a value."""
    return {at: value for at, value in points if math.isfinite(value)}


def each(function: Callable[[float], float], series: Series) -> Series:
    """``function`` of every value; where it has none, the point is dropped."""
    return series.with_points(kept((at, _tried(function, value)) for at, value in series.points.items()))


def _tried(function: Callable[..., float], *values: float) -> float:
    try:
        return function(*values)
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.nan


# ---- two operands


_BINARY: dict[Operator, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": math.pow,
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    ">": lambda a, b: float(a > b),
    "<=": lambda a, b: float(a <= b),
    ">=": lambda a, b: float(a >= b),
    "AND": lambda a, b: float(a != 0 and b != 0),
    "OR": lambda a, b: float(a != 0 or b != 0),
}
ARITHMETIC: frozenset[Operator] = frozenset(("+", "-", "*", "/", "^"))
"""The others answer with 1 or 0."""


def operated(operator: Operator, left: float | Series, right: float | Series) -> float | Series:
    """One operation on scalars and series; of two scalars a scalar, else a series.

    Arithmetic joins two series where both have a point. Comparisons and logic take 0 where one of them has none, as in
    the guide's table of operators.
    """
    function = _BINARY[operator]
    if isinstance(left, Series) and isinstance(right, Series):
        return _joined(operator, function, left, right)
    if isinstance(left, Series):
        if not isinstance(right, Series) and math.isnan(right):
            return left.with_points({})
        return each(lambda value: function(value, right), left)  # type: ignore[arg-type]
    if math.isnan(left) or (not isinstance(right, Series) and math.isnan(right)):
        return right.with_points({}) if isinstance(right, Series) else math.nan
    if isinstance(right, Series):
        return each(lambda value: function(left, value), right)
    return finite(_tried(function, left, right))


def _joined(operator: Operator, function: Callable[[float, float], float], left: Series, right: Series) -> Series:
    # AWS: the guide says of arithmetic too that what is missing is 0, which makes of m1 / m2 a 0 wherever nothing was
    # counted; here a point needs both.
    if operator in ARITHMETIC:
        period_ms = math.lcm(left.period_ms, right.period_ms)
        common: Iterable[int] = (at for at in left.points if at in right.points)
    else:
        period_ms = math.gcd(left.period_ms, right.period_ms)
        common = sorted({*left.points, *right.points})
    found = kept((at, _tried(function, left.points.get(at, 0.0), right.points.get(at, 0.0))) for at in common)
    return Series(period_ms, found, left.label if left.label == right.label else "")


# ---- many values


def total(values: Sequence[float]) -> float:
    """Their sum; 0 of none."""
    return finite(_tried(math.fsum, values))  # type: ignore[arg-type]


def average(values: Sequence[float]) -> float:
    """Their mean; none has none."""
    return finite(total(values) / len(values)) if values else math.nan


def deviation(values: Sequence[float]) -> float:
    """Their standard deviation, that of a population; none has none."""
    mean = average(values)
    return finite(math.sqrt(average([(value - mean) * (value - mean) for value in values]))) if values else math.nan


def least(values: Sequence[float]) -> float:
    """The smallest; none has none."""
    return min(values, default=math.nan)


def greatest(values: Sequence[float]) -> float:
    """The largest; none has none."""
    return max(values, default=math.nan)


def across(function: Callable[[Sequence[float]], float], many: Sequence[Series], otherwise_ms: int) -> Series:
    """``function`` of the values that the series have at each time at which one of them has some.

    ``otherwise_ms`` is the period if there are no series.
    """
    found: dict[int, list[float]] = {}
    for series in many:
        for at, value in series.points.items():
            found.setdefault(at, []).append(value)
    period_ms = math.gcd(*(series.period_ms for series in many)) or otherwise_ms
    return Series(period_ms, kept((at, function(found[at])) for at in sorted(found)))

"""The functions of metric math: what each takes and what it answers with. Pure.

Follows "Functions supported for metric math" and "Using IF expressions" (Amazon CloudWatch User Guide). A form such as
``"TS, S|REPEAT -> TS"`` uses the guide's abbreviations: a scalar, a time series, an array of them (``TS[]``);
``metric`` is a series that no expression made, ``text`` a string, and the rest are words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec

from streamkit.metrics.math_series import (
    Series,
    TimeRange,
    across,
    average,
    deviation,
    each,
    greatest,
    kept,
    least,
    total,
)

Many = tuple[Series, ...]
Value = float | Series | Many
"""A scalar, a time series, an array of time series."""
Work = Callable[[Sequence[Any], TimeRange], Value]
"""From arguments that fit one of the forms, and the range that is looked at, to the result."""


class Function(msgspec.Struct, frozen=True):
    """One function."""

    forms: tuple[str, ...]
    work: Work


REFUSED = {
    "SEARCH": "there is no index of metrics to search: name each metric in a query of its own, and use METRICS()",
    "ANOMALY_DETECTION_BAND": "there are no models of what is normal: compare with a threshold, or with AVG and STDDEV",
    "ANOMALY_DETECTION": "there are no models of what is normal: compare with a threshold, or with AVG and STDDEV",
    "INSIGHT_RULE_METRIC": "there are no Contributor Insights rules",
    "SERVICE_QUOTA": "the engine's quotas are in streamkit.limits, not in metrics: write the number",
    "DB_PERF_INSIGHTS": "there is no Performance Insights",
    "LAMBDA": "no connector fetches metrics from elsewhere: report them as metrics of this process",
    "SELECT": "Metrics Insights queries are not supported",
}
"""What CloudWatch has and this does not, and why."""


# ---- one series to one series


def _per_series(one: Callable[[Series], Series]) -> Function:
    def work(arguments: Sequence[Any], range: TimeRange) -> Value:
        of = arguments[0]
        return one(of) if isinstance(of, Series) else tuple(one(series) for series in of)

    return Function(("TS -> TS", "TS[] -> TS[]"), work)


def _per_point(function: Callable[[float], float]) -> Function:
    return _per_series(lambda series: each(function, series))


def _between(function: Callable[[float, float], float]) -> Function:
    """Of each point and the one before it, however long ago, from their difference and the seconds between them."""

    def one(series: Series) -> Series:
        pairs = pairwise(series.points.items())
        return series.with_points(
            kept((at, function(value - before, (at - earlier) / 1000)) for (earlier, before), (at, value) in pairs)
        )

    return _per_series(one)


def _running_sum(series: Series) -> Series:
    found: dict[int, float] = {}
    so_far = 0.0
    for at, value in series.points.items():
        so_far += value
        found[at] = so_far
    return series.with_points(kept(found.items()))


# ---- when


def _date(part: Callable[[datetime], int]) -> Function:
    """Of every period in the range, whether the series has a point there or not."""

    def work(arguments: Sequence[Any], range: TimeRange) -> Value:
        series: Series = arguments[0]
        grid = range.grid(series.period_ms)
        return series.with_points({at: float(part(datetime.fromtimestamp(at // 1000, UTC))) for at in grid})

    return Function(("TS -> TS",), work)


def _epoch(arguments: Sequence[Any], range: TimeRange) -> Value:
    series: Series = arguments[0]
    return series.with_points({at: at / 1000 for at in range.grid(series.period_ms)})


# ---- one series to a scalar, many to one


def _aggregate(
    one: Callable[[Sequence[float]], float], many: Callable[[Sequence[float], int], float] | None = None
) -> Function:
    """``many`` is given the values at one time and how many series there are; None: as ``one``."""

    def work(arguments: Sequence[Any], range: TimeRange) -> Value:
        of = arguments[0]
        if isinstance(of, Series):
            return one(list(of.points.values()))
        if many is None:
            return across(one, of, range.period_ms)
        return across(lambda values: many(values, len(of)), of, range.period_ms)

    return Function(("TS -> S", "TS[] -> TS"), work)


def _metric_count(arguments: Sequence[Any], range: TimeRange) -> Value:
    return float(len(arguments[0]))


def _period(arguments: Sequence[Any], range: TimeRange) -> Value:
    series: Series = arguments[0]
    return series.period_ms / 1000


# ---- what is missing


def _fill(arguments: Sequence[Any], range: TimeRange) -> Value:
    of, filler = arguments
    if isinstance(of, Series):
        return _filled(of, filler, range)
    return tuple(_filled(series, filler, range) for series in of)


def _filled(series: Series, filler: float | str | Series, range: TimeRange) -> Series:
    points = series.points
    if filler == "LINEAR":
        return series.with_points(_interpolated(series))
    found: dict[int, float] = {}
    last = math.nan
    for at in range.grid(series.period_ms):
        last = points.get(at, last)
        if isinstance(filler, Series):
            found[at] = points.get(at, filler.points.get(at, math.nan))
        else:
            found[at] = last if filler == "REPEAT" else points.get(at, filler)  # type: ignore[arg-type]
    return series.with_points(kept(found.items()))


def _interpolated(series: Series) -> dict[int, float]:
    """On straight lines from point to point: nothing before the first and after the last."""
    found = dict(list(series.points.items())[:1])
    for (earlier, before), (at, value) in pairwise(series.points.items()):
        for between in range(earlier + series.period_ms, at, series.period_ms):
            share = (between - earlier) / (at - earlier)
            # Not before + share * (value - before): that difference may overflow.
            found[between] = before * (1 - share) + value * share
        found[at] = value
    return found


def _remove_empty(arguments: Sequence[Any], range: TimeRange) -> Value:
    return tuple(series for series in arguments[0] if series.points)


def _time_series(arguments: Sequence[Any], range: TimeRange) -> Value:
    grid = range.grid(range.period_ms)
    return Series(range.period_ms, kept((at, arguments[0]) for at in grid))


# ---- choosing


def _if(arguments: Sequence[Any], range: TimeRange) -> Value:
    condition, when_true, *rest = arguments
    when_false = rest[0] if rest else None
    if isinstance(condition, Series):
        return _chosen(condition, when_true, when_false)
    if math.isnan(condition):
        return Series(when_true.period_ms)
    chosen: Series | None = when_true if condition != 0 else when_false
    return Series(when_true.period_ms) if chosen is None else chosen


def _chosen(condition: Series, when_true: float | Series, when_false: float | Series | None) -> Series:
    def value(at: int) -> float:
        if condition.points[at] != 0:
            # AWS: 0, and not nothing, where the condition is true and this has no point.
            return when_true.points.get(at, 0.0) if isinstance(when_true, Series) else when_true
        if isinstance(when_false, Series):
            return when_false.points.get(at, math.nan)
        return math.nan if when_false is None else when_false

    label = when_true.label if isinstance(when_true, Series) else condition.label
    return Series(condition.period_ms, kept((at, value(at)) for at in condition.points), label)


_KEYS: dict[str, Callable[[Sequence[float]], float]] = {"AVG": average, "MIN": least, "MAX": greatest, "SUM": total}


def _sort(arguments: Sequence[Any], range: TimeRange) -> Value:
    many, by, order, *rest = arguments
    keyed = [(_KEYS[by](list(series.points.values())), series) for series in many]
    # What has no points has no place in either order: it comes last.
    filled = [pair for pair in keyed if pair[1].points and not math.isnan(pair[0])]
    empty = [series for key, series in keyed if not series.points or math.isnan(key)]
    filled.sort(key=lambda pair: pair[0] if order == "ASC" else -pair[0])
    found = (*(series for _, series in filled), *empty)
    return found[: _place(rest[0])] if rest else found


def _slice(arguments: Sequence[Any], range: TimeRange) -> Value:
    many, start, *rest = arguments
    if math.isnan(start):
        return ()
    return tuple(many[_place(start) : _place(rest[0]) if rest else None])


def _place(scalar: float) -> int:
    return 0 if math.isnan(scalar) else max(0, int(scalar))


def _end_of(place: int) -> Function:
    def work(arguments: Sequence[Any], range: TimeRange) -> Value:
        many: Many = arguments[0]
        return many[place] if many else Series(range.period_ms)

    return Function(("TS[] -> TS",), work)


def _no_metrics(arguments: Sequence[Any], range: TimeRange) -> Value:
    raise AssertionError("METRICS is answered by what has the metrics")  # pragma: no cover - expression.py does


_IF_ELSE = ("TS, S|TS -> TS", "TS, S|TS, S|TS -> TS", "S, TS -> TS", "S, TS, TS -> TS")
_SORTED = "TS[], AVG|MIN|MAX|SUM, ASC|DESC"

FUNCTIONS: dict[str, Function] = {
    "ABS": _per_point(abs),
    "CEIL": _per_point(lambda value: float(math.ceil(value))),
    "FLOOR": _per_point(lambda value: float(math.floor(value))),
    "LOG": _per_point(math.log),
    "LOG10": _per_point(math.log10),
    "DIFF": _between(lambda difference, seconds: difference),
    "DIFF_TIME": _between(lambda difference, seconds: seconds),
    "RATE": _between(lambda difference, seconds: difference / seconds),
    "RUNNING_SUM": _per_series(_running_sum),
    "MINUTE": _date(lambda when: when.minute),
    "HOUR": _date(lambda when: when.hour),
    "DAY": _date(lambda when: when.isoweekday()),
    "DATE": _date(lambda when: when.day),
    "MONTH": _date(lambda when: when.month),
    "YEAR": _date(lambda when: when.year),
    "EPOCH": Function(("TS -> TS",), _epoch),
    # AWS: what is missing of one series counts as 0 in the average of several.
    "AVG": _aggregate(average, lambda values, series: total(values) / series),
    "SUM": _aggregate(total),
    "MIN": _aggregate(least),
    "MAX": _aggregate(greatest),
    "STDDEV": _aggregate(deviation),
    "DATAPOINT_COUNT": _aggregate(lambda values: float(len(values))),
    "METRIC_COUNT": Function(("TS[] -> S",), _metric_count),
    "PERIOD": Function(("metric -> S",), _period),
    "FILL": Function(("TS, S|TS|REPEAT|LINEAR -> TS", "TS[], S|TS|REPEAT|LINEAR -> TS[]"), _fill),
    "REMOVE_EMPTY": Function(("TS[] -> TS[]",), _remove_empty),
    "TIME_SERIES": Function(("S -> TS",), _time_series),
    "IF": Function(_IF_ELSE, _if),
    "METRICS": Function((" -> TS[]", "text -> TS[]"), _no_metrics),
    "SORT": Function((f"{_SORTED} -> TS[]", f"{_SORTED}, S -> TS[]"), _sort),
    "SLICE": Function(("TS[], S -> TS[]", "TS[], S, S -> TS[]"), _slice),
    "FIRST": _end_of(0),
    "LAST": _end_of(-1),
}

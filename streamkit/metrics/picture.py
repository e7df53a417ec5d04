"""The last hours of a metric as a small plot, from what is in memory: handles show themselves without I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamkit.errors import ValidationError
from streamkit.metrics.datapoints import fitting_period_ms
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECOND_MS, SECONDS_KEPT_MS
from streamkit.metrics.window import Metrics
from streamkit.showing.html import Html, card
from streamkit.showing.svg import Line, plot

_HEIGHT = 120


def traffic(metrics: Metrics, now_ms: int, named: Callable[[], Metric], what: str) -> Html:
    """How much of it came in each period since there is some; empty if there is nothing or it has no name.

    Args:
        metrics: Where it is.
        now_ms: Up to when.
        named: Which metric: of a handle whose name no stream can have, there is none.
        what: What is counted: ``records``.
    """
    try:
        metric = named()
    except ValidationError:
        return Html("")
    found, period_ms = recent(metrics, metric, "Sum", now_ms)
    if len(found) < 2:
        return Html("")  # A point is no picture.
    points = dict(found)
    first, last = found[0][0], now_ms // period_ms * period_ms
    # Nothing came in a period that is not there.
    whole = [(at, points.get(at, 0.0)) for at in range(first, last + 1, period_ms)]
    return plot([Line(what, whole)], unit=f"{what} in {period_ms // SECOND_MS} s", height=_HEIGHT)


def level(
    metrics: Metrics,
    now_ms: int,
    named: Callable[[], Metric],
    statistic: str,
    unit: str,
    *,
    threshold: float | None = None,
) -> Html:
    """How high it stood in each period since somebody measured it; empty if nobody did or it has no name."""
    try:
        metric = named()
    except ValidationError:
        return Html("")
    found, period_ms = recent(metrics, metric, statistic, now_ms)
    if len(found) < 2:
        return Html("")
    line = Line(f"{metric.name}, {statistic}", found)
    return plot([line], unit=unit, threshold=threshold, gap=6 * period_ms, height=_HEIGHT)


def written_html(metrics: Metrics, now_ms: int, written: Metric, table: str, key_names: Sequence[str]) -> str:
    """A table's handle, with the items that were written through it."""
    facts = {"key": ", ".join(key_names), "items written": total(metrics, lambda: written)}
    hint = "`await table.scan_page()` shows its first items, `await table.describe()` its indexes"
    return card("Table", table, facts, traffic(metrics, now_ms, lambda: written, "items"), hint=hint)


def recent(metrics: Metrics, metric: Metric, statistic: str, now_ms: int) -> tuple[list[tuple[int, float]], int]:
    """The start of each period that has samples, with the statistic; and how long a period is, in ms."""
    span = now_ms - SECONDS_KEPT_MS + SECOND_MS, now_ms + 1
    seconds = metrics.statistics(metric, *span, SECOND_MS)
    if not seconds:
        return [], SECOND_MS
    period_ms = fitting_period_ms(now_ms - seconds[0][0])
    points = metrics.datapoints(metric, [statistic], (seconds[0][0], span[1]), period_ms, now_ms)
    unit = points[0].unit if points else "None"
    return [(each.start_ms, each.values[statistic]) for each in points if each.unit == unit and each.values], period_ms


def latest(metrics: Metrics, named: Callable[[], Metric]) -> int | None:
    """What was measured last; None: nothing was, or it has no name."""
    try:
        found = metrics.latest(named())
    except ValidationError:
        return None
    return None if found is None else round(found)


def total(metrics: Metrics, named: Callable[[], Metric]) -> int | None:
    """The sum of all that was put since the kit was opened; None: nothing was, or it has no name."""
    try:
        found = metrics.total(named())
    except ValidationError:
        return None
    return None if found is None else round(found.sum)

"""Datapoints of a metric, as a sequence, a table and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamkit.metrics.math_query import MetricDataResult
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import HIGH_RESOLUTION_PERIODS_MS, MINUTE_MS
from streamkit.metrics.window import Datapoint
from streamkit.showing.listing import Listing

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType
    from streamkit.showing.svg import Line

MOST_POINTS = 240
"""Of a plot whose period nobody chose: about as many as can be told apart."""
_MINUTES = (1, 5, 15, 60, 360, 1440)


class Datapoints(Listing[Datapoint]):
    """What a metric had in each period that has samples, oldest first.

    As a table its columns are ``start`` (UTC), ``unit``, ``sample_count`` and each statistic that was asked for.
    """

    kind = "Metric"
    noun = "datapoint"

    def __init__(
        self,
        points: Iterable[Datapoint],
        metric: Metric,
        statistics: Sequence[str],
        span: tuple[int, int],
        period_ms: int,
    ) -> None:
        super().__init__(points, str(metric))
        self.metric = metric
        self.statistics = tuple(statistics)
        self.span_ms = span
        """What was asked for: from the first instant on, up to the second, milliseconds since the epoch."""
        self.period_ms = period_ms

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name; an instant is in milliseconds since the epoch."""
        return {
            "start": [point.start_ms for point in self],
            "unit": [point.unit for point in self],
            "sample_count": [point.sample_count for point in self],
            **{name: [point.values.get(name) for point in self] for name in self.statistics},
        }

    def column_types(self) -> Mapping[str, ColumnType]:
        """Of those columns that all have."""
        return {"start": "instant", "unit": "text", "sample_count": "integer"}

    def lines(self, unit: str) -> list[Line]:
        """A line for each statistic, of the points of this unit."""
        from streamkit.showing.svg import Line

        points = [point for point in self if point.unit == unit]
        return [
            Line(name, [(point.start_ms, point.values[name]) for point in points if name in point.values])
            for name in self.statistics
        ]

    def _picture(self) -> str:
        from streamkit.showing.html import Html
        from streamkit.showing.svg import plot

        gap = 3 * self.period_ms
        units = dict.fromkeys(point.unit for point in self)
        return Html(
            "".join(plot(self.lines(unit), unit=named(unit), span=self._shown_span(), gap=gap) for unit in units)
        )

    def _shown_span(self) -> tuple[int, int]:
        start, end = self.span_ms
        return start, max(end - self.period_ms, start + 1)

    def _repr_html_(self) -> str:
        from streamkit.showing.html import card, quiet

        if not self:
            return card(self.kind, self.name, None, quiet("no samples in this span"))
        if len(self) == 1:
            return super()._repr_html_()  # A point is no picture.
        facts = {"statistic": ", ".join(self.statistics), "period": f"{self.period_ms / 1000:g} s", "points": len(self)}
        return card(self.kind, self.name, facts, self._picture())


class MetricData(Listing[MetricDataResult]):
    """What queries gave: a series of points for each.

    As a table its columns are ``id``, ``label``, ``start`` (UTC) and ``value``, a row for each point.
    """

    kind = "Metric data"
    noun = "series"

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name; an instant is in milliseconds since the epoch."""
        points = [(each, at, value) for each in self for at, value in sorted(each.series.points.items())]
        return {
            "id": [each.id for each, _, _ in points],
            "label": [each.label for each, _, _ in points],
            "start": [at for _, at, _ in points],
            "value": [value for _, _, value in points],
        }

    def column_types(self) -> Mapping[str, ColumnType]:
        """Of those columns that all have."""
        return {"id": "text", "label": "text", "start": "instant"}

    def _repr_html_(self) -> str:
        from streamkit.showing.html import card, quiet
        from streamkit.showing.svg import Line, plot

        lines = [Line(each.label or each.id, sorted(each.series.points.items())) for each in self]
        gap = max((3 * each.series.period_ms for each in self), default=None)
        return card(self.kind, "", {"series": len(self)}, plot(lines, gap=gap) or quiet("no points in this span"))


def named(unit: str) -> str:
    """A unit as it stands at an axis."""
    return "" if unit == "None" else unit.lower()


def fitting_period_ms(span_ms: int) -> int:
    """The shortest period of which a span has no more than ``MOST_POINTS``, and for which data that old is kept."""
    # The longest of these fits two hours, and seconds are kept for three.
    for period_ms in sorted(HIGH_RESOLUTION_PERIODS_MS):
        if span_ms <= MOST_POINTS * period_ms:
            return period_ms
    minutes = next((each for each in _MINUTES if span_ms <= MOST_POINTS * each * MINUTE_MS), _MINUTES[-1])
    return minutes * MINUTE_MS

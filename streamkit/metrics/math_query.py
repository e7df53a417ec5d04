"""What ``GetMetricData`` and alarms on metric math ask: metrics and expressions that refer to each other. Pure.

Follows ``GetMetricData``, ``MetricDataQuery`` and ``PutMetricAlarm`` of the CloudWatch API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.expression import MathExpression, Result
from streamkit.metrics.math_kinds import METRIC, Kinds
from streamkit.metrics.math_series import Series, TimeRange, in_range
from streamkit.metrics.metric import Metric
from streamkit.metrics.statistic import compile_statistic

MAX_QUERIES = 500
"""In one request."""
MAX_ALARM_METRICS = 10
"""That one alarm watches; its expressions are not counted."""
HIGH_RESOLUTION_PERIODS_S = (1, 5, 10, 20, 30)
_ID = re.compile(r"[a-z][A-Za-z0-9_]{0,254}", re.ASCII)


class MetricQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of a request: a metric with its statistic and period, or an expression.

    Raises:
        ValidationError: It is both or neither, or a part of it is not allowed; the message says which and what is.
    """

    id: str
    """What expressions call it: a lower-case letter, then letters, digits and ``_``, at most 255 in all."""
    metric: Metric | None = None
    statistic: str | None = None
    """Of a metric, such as ``"Sum"``."""
    period: float | None = None
    """In seconds: 1, 5, 10, 20, 30 or a multiple of 60. Of an expression, that of what ``TIME_SERIES`` makes in it."""
    expression: str | None = None
    """Such as ``"errors / requests * 100"``."""
    label: str | None = None
    """What its result is called; None: its id."""
    return_data: bool = True
    """False: it is only there for expressions."""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise ValidationError(
                f"id {self.id!r}: use 1 to 255 letters, digits and underscores, the first a lower-case letter"
            )
        if (self.metric is None) == (self.expression is None):
            raise ValidationError(f"query {self.id!r}: give it either a metric or an expression")
        if self.metric is None:
            if self.statistic is not None:
                raise ValidationError(f"query {self.id!r}: a statistic is of a metric, not of an expression")
        elif self.statistic is None or self.period is None:
            raise ValidationError(f"query {self.id!r}: a metric needs a statistic and a period")
        else:
            compile_statistic(self.statistic)
        if self.period is not None and not _is_period(self.period):
            raise ValidationError(
                f"query {self.id!r}: the period is {self.period} s: use 1, 5, 10, 20, 30 or a multiple of 60"
            )

    @property
    def period_ms(self) -> int | None:
        """The period in ms; None: it is an expression that says none."""
        return None if self.period is None else round(self.period * 1000)


class MetricDataResult(msgspec.Struct, frozen=True):
    """One time series of an answer; an expression whose result is an array has several, all of its id."""

    id: str
    label: str
    """The query's; of one of several series, that and the series' own label."""
    series: Series


class MetricQueries:
    """The queries of one request, in the order in which they can be evaluated.

    An expression may name metrics and other expressions, wherever they are in the list.

    Raises:
        ValidationError: There are none or more than 500, two of one id, an expression names an id that is not there,
            or expressions need each other.
        ExpressionError: An expression cannot be read, or not be evaluated with what its ids stand for.
    """

    def __init__(self, queries: Iterable[MetricQuery]) -> None:
        self.queries = tuple(queries)
        if not 1 <= len(self.queries) <= MAX_QUERIES:
            raise ValidationError(f"a request has 1 to {MAX_QUERIES} queries, not {len(self.queries)}")
        self._by_id: dict[str, MetricQuery] = {}
        for query in self.queries:
            if query.id in self._by_id:
                raise ValidationError(f"two queries have the id {query.id!r}: give each its own")
            self._by_id[query.id] = query
        self.metrics = tuple(query for query in self.queries if query.metric is not None)
        """Those that ask for a metric: what ``evaluate`` is to be given."""
        self._expressions = {
            query.id: MathExpression(query.expression) for query in self.queries if query.expression is not None
        }
        self._order = self._ordered()
        self.kinds = self._kinds()
        """For each id "TS" or "TS[]": whether its result is one time series or an array of them."""

    def _ordered(self) -> list[str]:
        """The expressions, each after those that it needs."""
        needs: dict[str, list[str]] = {}
        for name, expression in self._expressions.items():
            unknown = [repr(each) for each in expression.ids if each not in self._by_id]
            if unknown:
                known = ", ".join(self._by_id)
                raise ValidationError(
                    f"query {name!r} names {', '.join(unknown)}, and there is no such id: there are {known}"
                )
            needs[name] = [each for each in expression.ids if each in self._expressions]
        try:
            return list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            circle = " <- ".join(reversed(error.args[1]))
            raise ValidationError(f"these expressions need each other: {circle}") from None

    def _kinds(self) -> dict[str, str]:
        known: dict[str, Kinds] = {query.id: METRIC for query in self.metrics}
        for name in self._order:
            known[name] = self._expressions[name].kinds(known)
        return {query.id: "TS[]" if "TS[]" in known[query.id] else "TS" for query in self.queries}

    def evaluate(self, series: Mapping[str, Series], range: TimeRange) -> list[MetricDataResult]:
        """The answer: of each query with ``return_data``, in their order.

        Args:
            series: What each of ``metrics`` has, by its id: of the query's period. One that is left out has no points.
            range: What is asked for. Its period is that of ``TIME_SERIES`` if no metric of the request has one.

        Raises:
            ValidationError: A series is of another period than its query, or not valid.
        """
        given: dict[str, Series] = {}
        for query in self.metrics:
            period_ms = query.period_ms or 0
            found = series.get(query.id, Series(period_ms))
            if found.period_ms != period_ms:
                raise ValidationError(
                    f"the series of {query.id!r} has a period of {found.period_ms} ms, and was asked for by {period_ms}"
                )
            given[query.id] = Series(period_ms, found.points, query.label or found.label or query.id)
        finest_ms = min((each.period_ms for each in given.values()), default=range.period_ms)
        results: dict[str, Result] = {}
        for name in self._order:
            within = TimeRange(range.start_ms, range.end_ms, self._by_id[name].period_ms or finest_ms)
            results[name] = self._expressions[name].evaluate(given, within, results)
        for query in self.metrics:
            if query.return_data:
                results[query.id] = in_range(given[query.id], range)
        return [result for query in self.queries if query.return_data for result in _answer(query, results[query.id])]


def check_alarm(queries: MetricQueries) -> int:
    """Accept queries that an alarm can watch.

    Returns:
        Their period in ms.

    Raises:
        ValidationError: They have more than 10 metrics or none, different periods, not exactly one entry with
            ``return_data``, or that one's result is not a single time series.
    """
    count = len(queries.metrics)
    if not 1 <= count <= MAX_ALARM_METRICS:
        raise ValidationError(f"an alarm watches 1 to {MAX_ALARM_METRICS} metrics, not {count}")
    periods = sorted({query.period for query in queries.queries if query.period is not None})
    if len(periods) != 1:
        found = ", ".join(f"{period:g}" for period in periods)
        raise ValidationError(f"the metrics of an alarm have one period, and here are {found} s")
    returned = [query.id for query in queries.queries if query.return_data]
    if len(returned) != 1:
        found = ", ".join(returned) or "none"
        raise ValidationError(f"exactly one entry of an alarm has return_data=True, and here it is {found}")
    if queries.kinds[returned[0]] != "TS":
        raise ValidationError(
            f"an alarm watches a single time series, and {returned[0]!r} is an array of them: take one with FIRST, or"
            " make one of them with SUM, MAX and the like"
        )
    return queries.metrics[0].period_ms or 0


def _is_period(period: float) -> bool:
    return period in HIGH_RESOLUTION_PERIODS_S or (period >= 60 and period % 60 == 0)


def _answer(query: MetricQuery, result: Result) -> list[MetricDataResult]:
    label = query.id if query.label is None else query.label
    if isinstance(result, Series):
        return [MetricDataResult(query.id, label, result)]
    # AWS: an empty label of the expression leaves the series' own.
    return [MetricDataResult(query.id, f"{label} {series.label}".strip(), series) for series in result]

"""What an alarm looks at: the datapoints of its evaluation range, out of the metrics in memory. Never awaits."""

from __future__ import annotations

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.evaluate import Reading, decided_early, has_low_sample_count
from streamkit.metrics.math_query import MetricQueries
from streamkit.metrics.math_series import Series as MathSeries
from streamkit.metrics.math_series import TimeRange
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import resolution_of
from streamkit.metrics.statistic import compile_statistic
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.window import Metrics

_EARLY = ("Maximum", "Minimum", "SampleCount")


class Datapoints:
    """Reads what one alarm looks at."""

    def __init__(self, alarm: Alarm, metrics: Metrics) -> None:
        self._alarm = alarm
        self._metrics = metrics
        self._statistic = alarm.compiled
        self._queries = MetricQueries(alarm.metrics) if alarm.metrics else None
        self._period_ms = alarm.period_ms
        self._resolution = resolution_of(self._period_ms)
        self._periods = alarm.range_periods
        self._nothing = (None,) * self._periods
        self._looked = 0
        self.may_be_early = alarm.statistic in _EARLY
        """Whether a period that is still filling may count."""
        found = [alarm.metric] if self._queries is None else [query.metric for query in self._queries.metrics]
        self.metrics: tuple[Metric, ...] = tuple(dict.fromkeys(metric for metric in found if metric is not None))
        """Whose gauges have to be read for it."""

    # HOT: every period of every alarm.
    def read(self, now_ms: int) -> Reading:
        """The range that ends with the newest period which counts (see ``decided_early``)."""
        filling_ms = now_ms - now_ms % self._period_ms
        if self._queries is not None:
            return self._read_math(self._queries, filling_ms)
        oldest_ms = filling_ms - self._periods * self._period_ms
        metric = self._alarm.metric
        series = None if metric is None else self._metrics.series(metric, self._alarm.unit)
        # INVARIANT: test_a_series_that_has_nothing_in_range_is_not_read
        if series is None or series.buckets(self._resolution).newest_ms < oldest_ms:
            return Reading(filling_ms - self._period_ms, self._nothing)
        if self._statistic is not None and self._statistic.extended:
            return self._read_extended(filling_ms, oldest_ms)
        sets: list[StatisticSet | None] = [None] * (self._periods + 1)
        end_ms = filling_ms + self._period_ms
        for start_ms, found in series.buckets(self._resolution).sets(oldest_ms, end_ms):
            at = (start_ms - oldest_ms) // self._period_ms
            earlier = sets[at]
            sets[at] = found if earlier is None else earlier.merge(found)
        self._looked = 0 if series.total is None else series.total.sample_count
        return self._of_sets(sets, filling_ms)

    def has_early_news(self) -> bool:
        """Whether a sample has come since the last look with which the period that fills may count already.

        False only if that cannot be.
        """
        metric = self._alarm.metric
        series = None if metric is None else self._metrics.series(metric, self._alarm.unit)
        total = None if series is None else series.total
        if series is None or total is None:
            return False
        new = total.sample_count - self._looked
        self._looked = total.sample_count
        if new == 0:
            return False
        statistic = self._alarm.statistic
        if statistic == "SampleCount":
            return True
        # The one new sample is the latest; of several, none is more extreme than all there ever were.
        extreme = total.maximum if statistic == "Maximum" else total.minimum
        if new == 1 and series.latest is not None:
            extreme = series.latest
        return self._alarm.breaches(extreme)

    def _of_sets(self, sets: list[StatisticSet | None], filling_ms: int) -> Reading:
        statistic = self._statistic
        values = [None if found is None or statistic is None else statistic.value(found, None) for found in sets]
        counts = [None if found is None else found.sample_count for found in sets]
        if self.may_be_early and decided_early(self._alarm, values[-1]):
            return Reading(filling_ms, tuple(values[1:]), tuple(counts[1:]))
        return Reading(filling_ms - self._period_ms, tuple(values[:-1]), tuple(counts[:-1]))

    def _read_extended(self, filling_ms: int, oldest_ms: int) -> Reading:
        values: list[float | None] = [None] * self._periods
        counts: list[int | None] = [None] * self._periods
        if self._alarm.metric is not None and self._statistic is not None:
            span = (oldest_ms, filling_ms, self._period_ms)
            for start_ms, samples in self._metrics.samples(self._alarm.metric, *span, self._alarm.unit):
                at = (start_ms - oldest_ms) // self._period_ms
                values[at], counts[at] = samples.value(self._statistic), samples.count
        newest = counts[-1]
        low = newest is not None and has_low_sample_count(self._alarm, newest)
        return Reading(filling_ms - self._period_ms, tuple(values), tuple(counts), low)

    def _read_math(self, queries: MetricQueries, filling_ms: int) -> Reading:
        oldest_ms = filling_ms - self._periods * self._period_ms
        given: dict[str, MathSeries] = {}
        for query in queries.metrics:
            if query.metric is None or query.statistic is None:
                continue
            statistic = compile_statistic(query.statistic)
            span = (query.metric, oldest_ms, filling_ms, self._period_ms)
            points: dict[int, float] = {}
            if statistic.extended:
                for start_ms, samples in self._metrics.samples(*span):
                    value = samples.value(statistic)
                    if value is not None:
                        points[start_ms] = value
            else:
                for start_ms, found in self._metrics.statistics(*span):
                    value = statistic.value(found, None)
                    if value is not None:
                        points[start_ms] = value
            given[query.id] = MathSeries(self._period_ms, points)
        range_ = TimeRange(oldest_ms, filling_ms, self._period_ms)
        (answer,) = queries.evaluate(given, range_)
        found_points = answer.series.points
        values = tuple(found_points.get(start) for start in range(oldest_ms, filling_ms, self._period_ms))
        return Reading(filling_ms - self._period_ms, values)

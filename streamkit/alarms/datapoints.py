"""What an alarm looks at: the datapoints of its evaluation range, out of the metrics in memory. Never awaits."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from msgspec import structs

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.evaluate import Reading, decided_early, has_low_sample_count
from streamkit.metrics.math_query import MetricQueries
from streamkit.metrics.math_series import Series as MathSeries
from streamkit.metrics.math_series import TimeRange
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import MINUTE_MS, SECOND_MS, resolution_of
from streamkit.metrics.series import Series
from streamkit.metrics.statistic import compile_statistic
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.window import Metrics

_AFTER_ALL = 2**62
_EARLY = ("Maximum", "Minimum", "SampleCount")
_PLAIN: dict[str, Callable[[StatisticSet], float]] = {
    "SampleCount": attrgetter("sample_count"),
    "Sum": attrgetter("sum"),
    "Average": lambda found: found.sum / found.sample_count,
    "Minimum": attrgetter("minimum"),
    "Maximum": attrgetter("maximum"),
}


class _Seen:
    """What was there at the last look: most of it is what there is at the next."""

    __slots__ = ("count", "counts", "filling", "filling_count", "filling_ms", "series", "total", "values")

    def __init__(
        self,
        series: Series | None,
        filling_ms: int,
        values: list[float | None],
        counts: list[int],
    ) -> None:
        self.series = series
        self.filling_ms = filling_ms
        self.values = values
        """Of the periods before the one that fills."""
        self.counts = counts
        self.filling_count = 0
        self.filling: float | None = None
        self.count = 0
        """How many samples there are of the period that fills, and of later ones: there may be some ahead."""
        self.total = 0
        """How many samples the series had ever."""


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
        self._plain = None if self._statistic is None else _PLAIN.get(self._statistic.text)
        self._looked = 0
        self._seen = _Seen(None, 0, [], [])
        self.may_be_early = alarm.statistic in _EARLY
        """Whether a period that is still filling may count."""
        found = [alarm.metric] if self._queries is None else [query.metric for query in self._queries.metrics]
        self.metrics: tuple[Metric, ...] = tuple(dict.fromkeys(metric for metric in found if metric is not None))
        """Whose gauges have to be read for it."""
        self.span_ms = (self._periods + 1) * self._period_ms
        """How far back an evaluation may look."""
        self.storage_resolution_ms = MINUTE_MS if self._period_ms >= MINUTE_MS else SECOND_MS
        """What they have to be put in."""

    # HOT: every period of every alarm.
    def read(self, now_ms: int) -> Reading:
        """The range that ends with the newest period which counts (see ``decided_early``)."""
        period_ms = self._period_ms
        filling_ms = now_ms - now_ms % period_ms
        if self._queries is not None:
            return self._read_math(self._queries, filling_ms)
        metric = self._alarm.metric
        series = None if metric is None else self._metrics.find(metric, self._alarm.unit)
        if series is None:
            return Reading(filling_ms - period_ms, (None,) * self._periods)
        seen = self._seen
        since_ms = filling_ms - seen.filling_ms
        if (
            seen.series is not series
            or not 0 <= since_ms < self._periods * period_ms
            or not self._go_on(series, filling_ms, seen)
        ):
            oldest_ms = filling_ms - self._periods * period_ms
            seen = self._seen = _Seen(series, oldest_ms, [None] * self._periods, [0] * self._periods)
            self._go_on(series, filling_ms, seen, anew=True)
        self._looked = seen.total
        if self.may_be_early and decided_early(self._alarm, seen.filling):
            return Reading(filling_ms, (*seen.values[1:], seen.filling))
        low = seen.counts[-1] > 0 and has_low_sample_count(self._alarm, seen.counts[-1])
        return Reading(filling_ms - period_ms, tuple(seen.values), self._counts(filling_ms) if low else (), low)

    # INVARIANT: test_what_was_seen_before_is_what_there_is
    def _go_on(self, series: Series, filling_ms: int, seen: _Seen, *, anew: bool = False) -> bool:
        """Read what came since the last look; False: some of it is late, so that all has to be read."""
        period_ms, start_ms = self._period_ms, seen.filling_ms
        new = (filling_ms - start_ms) // period_ms + 1
        sets: list[StatisticSet | None] = [None] * new
        count = 0
        for at_ms, found in series.buckets(self._resolution).sets(start_ms, _AFTER_ALL):
            at = (at_ms - start_ms) // period_ms
            count += found.sample_count
            if at < new:
                earlier = sets[at]
                sets[at] = found if earlier is None else earlier.merge(found)
        total = 0 if series.total is None else series.total.sample_count
        if not anew and count - seen.count != total - seen.total:
            return False
        last = sets[-1]
        plain = self._plain
        if new > 1:
            if plain is None:
                seen.values += self._extended(start_ms, filling_ms)
            else:
                seen.values += [None if found is None else plain(found) for found in sets[:-1]]
            seen.counts += [0 if found is None else found.sample_count for found in sets[:-1]]
            del seen.values[: -self._periods], seen.counts[: -self._periods]
        ended = 0 if new == 1 else sum([found.sample_count for found in sets[:-1] if found is not None])
        seen.filling_ms, seen.total, seen.count = filling_ms, total, count - ended
        seen.filling_count = 0 if last is None else last.sample_count
        seen.filling = None if last is None or plain is None else plain(last)
        return True

    def _extended(self, start_ms: int, filling_ms: int) -> list[float | None]:
        values: list[float | None] = [None] * ((filling_ms - start_ms) // self._period_ms)
        if self._alarm.metric is not None and self._statistic is not None:
            span = (start_ms, filling_ms, self._period_ms)
            for at_ms, samples in self._metrics.samples(self._alarm.metric, *span, self._alarm.unit):
                values[(at_ms - start_ms) // self._period_ms] = samples.value(self._statistic)
        return values

    def with_counts(self, reading: Reading) -> Reading:
        """The last reading, and of how many samples each datapoint is."""
        if self._queries is not None or self._seen.series is None:
            return reading
        return structs.replace(reading, counts=self._counts(reading.newest_ms + self._period_ms))

    def _counts(self, end_ms: int) -> tuple[int | None, ...]:
        seen = self._seen
        counts = seen.counts if end_ms == seen.filling_ms else [*seen.counts[1:], seen.filling_count]
        return tuple(count or None for count in counts)

    def read_anew(self) -> None:
        """The next look reads all: what was stored may be in memory now."""
        self._seen = _Seen(None, 0, [], [])

    def has_early_news(self) -> bool:
        """Whether a sample has come since the last look with which the period that fills may count already.

        False only if that cannot be.
        """
        metric = self._alarm.metric
        series = None if metric is None else self._metrics.find(metric, self._alarm.unit)
        if series is None:
            return False
        count = series.count
        new, self._looked = count - self._looked, count
        if new == 0:
            return False
        statistic = self._alarm.statistic
        if statistic == "SampleCount":
            return True
        # The one new sample is the latest; of several, none is more extreme than all there ever were.
        extreme = series.latest
        if new > 1 or extreme is None:
            total = series.total
            if total is None:
                return False
            extreme = total.maximum if statistic == "Maximum" else total.minimum
        return self._alarm.breaches(extreme)

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

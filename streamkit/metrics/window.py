"""How much of what, and when: series of samples in memory, asked for by period.

Follows ``PutMetricData``, ``GetMetricStatistics`` and "Metrics retention" of CloudWatch's API reference and user guide.
All series of a kit take 64 MiB at most; ``Forgetting`` says what goes first. A bucket without samples takes no room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from streamkit.clock import to_datetime
from streamkit.errors import ValidationError
from streamkit.metrics.buckets import Usage
from streamkit.metrics.datum import MAX_DATA, MetricDatum
from streamkit.metrics.forgetting import MAX_BYTES, Forgetting
from streamkit.metrics.gauges import Gauges
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECOND_MS, check_range
from streamkit.metrics.rows import Column, Latencies, Rows
from streamkit.metrics.samples import Samples
from streamkit.metrics.series import MAX_COLLECTED, SERIES_BYTES, Series
from streamkit.metrics.statistic import CompiledStatistic, compile_statistic
from streamkit.metrics.statistic_set import LARGEST_COUNT, LARGEST_VALUE, StatisticSet, check_sample
from streamkit.metrics.unit import Unit, check_unit

_SMALLEST_VALUE = -LARGEST_VALUE

_NONE: dict[Unit, Series] = {}


class Datapoint(msgspec.Struct, frozen=True):
    """What the samples of one period and one unit amount to."""

    start_ms: int
    unit: Unit
    sample_count: int
    values: dict[str, float]
    """By statistic, as it was asked for. One that the samples do not have is not in it."""

    @property
    def start(self) -> datetime:
        """When the period begins, in UTC."""
        return to_datetime(self.start_ms)


class Metrics(Gauges):
    """All series of one kit, in memory, and the gauges that fill some of them.

    Samples of one metric in different units are series of their own. What is asked for without a unit is, where the
    answer can name units (``datapoints``), every unit's by itself, as with GetMetricStatistics; where it cannot, what
    was put in the unit that the metric had first. (AWS: leaves open what an alarm without a unit sees of several.)

    Not thread-safe: report and ask on the event loop's thread. Nothing here awaits.
    """

    def __init__(self, *, max_series: int = 10_000, max_bytes: int = MAX_BYTES) -> None:
        """Both bound the memory.

        Args:
            max_series: Samples of a further series are dropped, and counted in ``dropped``.
            max_bytes: What all series may take together, estimated; ``Forgetting`` says what of them goes when they
                take more. What a series takes beside its buckets counts and does not go: 1.7 KB.
        """
        self.stored = False
        """Whether somebody takes what is added and stores it, so that this can be asked of the store."""
        self.flush: Callable[[], Awaitable[None]] = _nothing_to_store
        """Stores all that was put until now, for whoever must not go on before that; set by whoever stores it."""
        self.dropped = 0
        """Samples that were not kept because there are ``max_series`` series already."""
        self._max_series = max_series
        self._count = 0
        self._listed: dict[Metric, dict[Unit, Series]] = {}
        self._first: dict[Metric, Series] = {}
        """Of each metric the series of its first unit, which nearly all samples are for."""
        self._rows: dict[tuple[Column, ...], Rows] = {}
        self._latencies: dict[Metric, Latencies] = {}
        self._waiting: list[Rows] = []
        super().__init__()
        self._usage = Usage()
        self._forgetting = Forgetting(self._usage, max_bytes)
        self._wanted: dict[Metric, int] = {}

    # HOT: every put, send and receive passes here.
    def put(self, metric: Metric, value: float, now_ms: int, count: int = 1, unit: Unit = "None") -> None:
        """Add ``count`` samples of ``value`` now, in high resolution; what is late is for ``put_data``.

        An instant a little earlier goes into the bucket it belongs to; one hours earlier is a clock that was set back.

        Raises:
            ValidationError: ``value`` is not a number within ±2^360, ``count`` is not from 1 to 2^40, or there is no
                such unit.
        """
        # NaN fails every comparison, so this one refuses it together with the infinities.
        if not _SMALLEST_VALUE <= value <= LARGEST_VALUE:
            check_sample(metric, value)
        series = self._first.get(metric)
        if series is not None and series.unit != unit:
            series = self._listed[metric].get(unit)
        if series is None:
            check_sample(metric, value, count)
            series = self._open(metric, unit, now_ms)
            if series is None:
                self.dropped += count
                return
        if not series.start_ms <= now_ms < series.end_ms:
            series.turn_to(now_ms)
            if self._usage.bytes > self._forgetting.limit:
                self.forget()
        if count == 1:
            series.latest = value
            collected = series.collected
            collected.append(value)
            if len(collected) >= MAX_COLLECTED:
                series.collect()
        else:
            if count.__class__ is not int or not 1 <= count <= LARGEST_COUNT:
                check_sample(metric, value, count)
            series.latest = value
            weighted = series.weighted
            weighted[value] = weighted.get(value, 0) + count
            if len(weighted) >= MAX_COLLECTED:
                series.collect()

    def rows(self, *columns: Column) -> Rows:
        """Several metrics that are put together, in one update: the same ``Rows`` for the same columns."""
        made = self._rows.get(columns)
        if made is None:
            made = self._rows[columns] = Rows(self, columns)
        return made

    def latencies(self, metric: Metric) -> Latencies:
        """Where calls that mostly take less than a millisecond put how long they took: the same for the same metric."""
        made = self._latencies.get(metric)
        if made is None:
            made = self._latencies[metric] = Latencies(self, metric)
        return made

    def wait(self, rows: Rows) -> None:
        """See ``rows.Keeper``."""
        self._waiting.append(rows)

    def open(self, metric: Metric, unit: Unit, now_ms: int) -> Series | None:
        """See ``rows.Keeper``."""
        return self._listed.get(metric, _NONE).get(unit) or self._open(metric, unit, now_ms)

    def spread(self, most: int | None = None) -> int:
        """Hand what waits in rows to its series. Whatever asks for something does so first.

        ``most``: of at most so many rows. Answers how many others wait still.
        """
        if not self._waiting:
            return 0
        waiting = self._waiting[:most]
        del self._waiting[: len(waiting)]
        for rows in waiting:
            rows.told()
            rows.spread()
        if not self._waiting:
            self.forget()
        return len(self._waiting)

    def put_data(self, data: Iterable[MetricDatum], now_ms: int) -> None:
        """Add up to 1,000 data: all of them or, if one is not allowed, none.

        Those of standard resolution go into their minute, and have no period that is shorter; those of high resolution
        go into their second.

        Args:
            data: Each at its own timestamp, or at ``now_ms``.
            now_ms: What the age of a timestamp is counted to.

        Raises:
            ValidationError: There are more, or a timestamp is over two weeks back or two hours ahead.
        """
        found = list(data)
        if len(found) > MAX_DATA:
            raise ValidationError(f"{len(found)} data: put {MAX_DATA:,} at most at a time")
        instants = [datum.instant_ms(now_ms) for datum in found]
        for datum, instant_ms in zip(found, instants, strict=True):
            samples = datum.samples()
            series = self.find(datum.metric, datum.unit) or self._open(datum.metric, datum.unit, instant_ms)
            if series is None:
                self.dropped += samples.count
                continue
            latest = datum.latest
            if latest is not None:
                series.latest = latest
            series.tell(now_ms)
            series.add(instant_ms, samples, datum.storage_resolution * SECOND_MS)
        self.forget()

    def statistics(
        self, metric: Metric, start_ms: int, end_ms: int, period_ms: int, unit: Unit | None = None
    ) -> list[tuple[int, StatisticSet]]:
        """What was put between two instants, period by period, oldest first: (start of the period, statistics).

        Periods are aligned to the epoch and hold [start, start + period). Every period that overlaps [start_ms,
        end_ms) is there as a whole if it has a sample; one without samples is absent. Periods under a minute are kept
        three hours; a multiple of 60 seconds 15 days, of 300 seconds 63 days, of 3,600 seconds 455 days.

        Raises:
            ValidationError: ``period_ms`` is neither 1, 5, 10, 20 or 30 seconds nor a multiple of 60, or the end is not
                after the start.
        """
        resolution = check_range(start_ms, end_ms, period_ms)
        series = self.find(metric, unit)
        if series is None:
            return []
        periods: dict[int, StatisticSet] = {}
        span = _whole_periods(start_ms, end_ms, period_ms)
        for start, found in series.buckets(resolution).sets(*span):
            period_start = start // period_ms * period_ms
            earlier = periods.get(period_start)
            periods[period_start] = found if earlier is None else earlier.merge(found)
        return sorted(periods.items())

    def samples(
        self, metric: Metric, start_ms: int, end_ms: int, period_ms: int, unit: Unit | None = None
    ) -> list[tuple[int, Samples]]:
        """As ``statistics``, with the values of the samples, for extended statistics; takes longer.

        Raises:
            ValidationError: As in ``statistics``.
        """
        resolution = check_range(start_ms, end_ms, period_ms)
        series = self.find(metric, unit)
        if series is None:
            return []
        periods: dict[int, Samples] = {}
        span = _whole_periods(start_ms, end_ms, period_ms)
        for start, found in series.buckets(resolution).samples(*span):
            period_start = start // period_ms * period_ms
            if earlier := periods.get(period_start):
                earlier.merge(found)
            else:
                periods[period_start] = found
        return sorted(periods.items(), key=lambda period: period[0])

    def datapoints(
        self,
        metric: Metric,
        statistics: Sequence[str | CompiledStatistic],
        span: tuple[int, int],
        period_ms: int,
        now_ms: int,
        unit: Unit | None = None,
    ) -> list[Datapoint]:
        """Statistics of the periods of a span, oldest first; those of one period in the order of their units' names.

        Args:
            metric: Of which.
            statistics: Plain and extended ones, such as ``["Average", "p99"]``.
            span: Start and end, as in ``statistics``.
            period_ms: As in ``statistics``.
            now_ms: What the age of the start is counted to: older than three hours, the period must be a multiple of 60
                seconds, older than 15 days of 300, older than 63 days of 3,600.
            unit: Of this one alone; None: of each unit by itself.

        Raises:
            ValidationError: There is no such statistic, unit or period, the period is too short for the age of the
                start, or the end is not after the start.
        """
        start_ms, end_ms = span
        check_range(start_ms, end_ms, period_ms, now_ms)
        if unit is not None:
            check_unit(unit)
        asked = [compile_statistic(each) if isinstance(each, str) else each for each in statistics]
        extended = any(each.extended for each in asked)
        points: list[Datapoint] = []
        for each_unit in self.units(metric) if unit is None else [unit]:
            found: Iterable[tuple[int, Samples]]
            if extended:
                found = self.samples(metric, start_ms, end_ms, period_ms, each_unit)
            else:
                sets = self.statistics(metric, start_ms, end_ms, period_ms, each_unit)
                found = [(start, Samples.of_set(each)) for start, each in sets]
            points += [Datapoint(start, each_unit, each.count, each.answers(asked)) for start, each in found]
        points.sort(key=lambda point: (point.start_ms, point.unit))
        return points

    def latest(self, metric: Metric, unit: Unit | None = None) -> float | None:
        """The value put last; None before the first. A statistic set of several values has none."""
        series = self.find(metric, unit)
        return None if series is None else series.latest

    def total(self, metric: Metric, unit: Unit | None = None) -> StatisticSet | None:
        """Everything ever put, as a running total since the start of the process; None before the first."""
        series = self.find(metric, unit)
        return None if series is None else series.total

    @property
    def used_bytes(self) -> int:
        """What all series take in memory, estimated."""
        return self._usage.bytes

    @property
    def lost(self) -> int:
        """Samples that were forgotten, for want of memory, before they could be stored."""
        return self._forgetting.lost

    def want(self, metric: Metric, span_ms: int) -> None:
        """Keep a metric in memory for so long, counted back from its newest sample, whatever else must be forgotten."""
        span_ms = self._wanted[metric] = max(span_ms, self._wanted.get(metric, 0))
        for series in self._listed.get(metric, {}).values():
            series.wanted_ms = span_ms

    def forget(self) -> None:
        """Forget what is over ``max_bytes``, if anything is; called by whatever adds samples."""
        if self._usage.bytes > self._forgetting.limit:
            self._forgetting(self.series(), stored=self.stored)

    def list_metrics(self) -> list[Metric]:
        """Every metric that has samples, in the order of their first."""
        self.spread()
        return list(self._listed)

    def units(self, metric: Metric) -> list[Unit]:
        """The units of a metric's samples, in the order of their first."""
        self.spread()
        return list(self._listed.get(metric, ()))

    def series(self) -> list[Series]:
        """Every series, in the order of their first samples."""
        self.spread()
        return [series for units in self._listed.values() for series in units.values()]

    def series_of(self, metric: Metric, unit: Unit, now_ms: int | None = None) -> Series | None:
        """The series of a metric and a unit; with ``now_ms`` it is made if it is not there and there is room for it."""
        found = self.find(metric, unit)
        return found if found is not None or now_ms is None else self._open(metric, unit, now_ms)

    def find(self, metric: Metric, unit: Unit | None) -> Series | None:
        """The series of a metric and a unit; without one, of the unit that the metric had first."""
        if self._waiting:
            self.spread()
        units = self._listed.get(metric)
        if units is None:
            return None
        return next(iter(units.values())) if unit is None else units.get(unit)

    def _open(self, metric: Metric, unit: Unit, now_ms: int) -> Series | None:
        check_unit(unit)
        if self._count >= self._max_series:
            return None
        self._count += 1
        self._usage.bytes += SERIES_BYTES
        series = Series(metric, unit, now_ms, self._usage)
        series.wanted_ms = self._wanted.get(metric, 0)
        units = self._listed.setdefault(metric, {})
        units[unit] = series
        if len(units) == 1:
            self._first[metric] = series
        return series


async def _nothing_to_store() -> None:
    return None


def _whole_periods(start_ms: int, end_ms: int, period_ms: int) -> tuple[int, int]:
    """Both ends are rounded outwards to whole periods."""
    return start_ms // period_ms * period_ms, -(-end_ms // period_ms) * period_ms

"""How much of what, and when: series of samples in memory, asked for by period.

Follows ``PutMetricData``, ``GetMetricStatistics`` and "Metrics retention" of CloudWatch's API reference and user guide.
A series takes 21 MB at most, and 3 MB without distributions; ``Series`` has the details. A bucket without samples takes
no room.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import msgspec

from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics.datum import MAX_DATA, MetricDatum
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECOND_MS, check_range
from streamkit.metrics.samples import Samples
from streamkit.metrics.series import MAX_COLLECTED, Series, SeriesState
from streamkit.metrics.statistic import CompiledStatistic, compile_statistic
from streamkit.metrics.statistic_set import LARGEST_COUNT, LARGEST_VALUE, StatisticSet, check_sample
from streamkit.metrics.unit import Unit, check_unit

logger = logging.getLogger("streamkit.metrics")

_SMALLEST_VALUE = -LARGEST_VALUE

Reading = float | None | Awaitable[float | None]
"""What a gauge answers with."""


class Datapoint(msgspec.Struct, frozen=True):
    """What the samples of one period and one unit amount to."""

    start_ms: int
    unit: Unit
    sample_count: int
    values: dict[str, float]
    """By statistic, as it was asked for. One that the samples do not have is not in it."""


class Metrics:
    """All series of one kit, in memory, and the gauges that fill some of them.

    Samples of one metric in different units are series of their own. What is asked for without a unit is, where the
    answer can name units (``datapoints``), every unit's by itself, as with GetMetricStatistics; where it cannot, what
    was put in the unit that the metric had first. (AWS: leaves open what an alarm without a unit sees of several.)

    Not thread-safe: report and ask on the event loop's thread. Nothing here awaits.
    """

    def __init__(self, *, max_series: int = 10_000) -> None:
        """``max_series`` bounds the memory: samples of a further series are dropped, and counted in ``dropped``."""
        self.dropped = 0
        """Samples that were not kept because there are ``max_series`` series already."""
        self._max_series = max_series
        self._count = 0
        self._listed: dict[Metric, dict[Unit, Series]] = {}
        self._plain: dict[Metric, Series] = {}
        """Those without a unit, which nearly all are."""
        self._gauges: dict[Metric, Callable[[], Reading]] = {}
        self._failing: set[Metric] = set()

    # HOT: every put, send and receive passes here.
    def put(self, metric: Metric, value: float, now_ms: int, count: int = 1, unit: Unit = "None") -> None:
        """Add ``count`` samples of ``value`` at an instant, usually now, in high resolution.

        An earlier instant goes into the bucket it belongs to, if that is still kept. Nothing is replaced.

        Raises:
            ValidationError: ``value`` is not a number within ±2^360, ``count`` is not from 1 to 2^40, or there is no
                such unit.
        """
        # NaN fails every comparison, so this one refuses it together with the infinities.
        if not _SMALLEST_VALUE <= value <= LARGEST_VALUE:
            check_sample(metric, value)
        series = self._plain.get(metric) if unit == "None" else self._find(metric, unit)
        if series is None:
            check_sample(metric, value, count)
            series = self._open(metric, unit, now_ms)
            if series is None:
                self.dropped += count
                return
        if not series.start_ms <= now_ms < series.end_ms:
            series.turn_to(now_ms)
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
            series = self._find(datum.metric, datum.unit) or self._open(datum.metric, datum.unit, instant_ms)
            if series is None:
                self.dropped += samples.count
                continue
            latest = datum.latest
            if latest is not None:
                series.latest = latest
            series.add(instant_ms, samples, datum.storage_resolution * SECOND_MS)

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
        series = self._find(metric, unit)
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
        series = self._find(metric, unit)
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
        series = self._find(metric, unit)
        return None if series is None else series.latest

    def total(self, metric: Metric, unit: Unit | None = None) -> StatisticSet | None:
        """Everything ever put, as a running total since the start of the process; None before the first."""
        series = self._find(metric, unit)
        return None if series is None else series.total

    def list_metrics(self) -> list[Metric]:
        """Every metric that has samples, in the order of their first."""
        return list(self._listed)

    def units(self, metric: Metric) -> list[Unit]:
        """The units of a metric's samples, in the order of their first."""
        return list(self._listed.get(metric, ()))

    def find(self, metric: Metric, unit: Unit | None = None) -> Series | None:
        """The samples themselves, for who asks often; to be looked up each time, and not to be changed."""
        return self._find(metric, unit)

    def states(self) -> Iterator[SeriesState]:
        """Every series, to be encoded, in the order of their first samples."""
        for units in list(self._listed.values()):
            for series in list(units.values()):
                yield series.state()

    def restore(self, states: Iterable[SeriesState]) -> None:
        """Hold these series, in place of those of the same metric and unit; up to ``max_series`` in all."""
        for state in states:
            if self._find(state.metric, state.unit) is None and self._count >= self._max_series:
                self.dropped += 0 if state.total is None else state.total.sample_count
                continue
            self._list(Series.of(state))

    def _find(self, metric: Metric, unit: Unit | None) -> Series | None:
        units = self._listed.get(metric)
        if units is None:
            return None
        return next(iter(units.values())) if unit is None else units.get(unit)

    def _open(self, metric: Metric, unit: Unit, now_ms: int) -> Series | None:
        check_unit(unit)
        return None if self._count >= self._max_series else self._list(Series(metric, unit, now_ms))

    def _list(self, series: Series) -> Series:
        units = self._listed.setdefault(series.metric, {})
        self._count += series.unit not in units
        units[series.unit] = series
        if series.unit == "None":
            self._plain[series.metric] = series
        return series

    def register_gauge(self, metric: Metric, read: Callable[[], Reading]) -> None:
        """Have ``read`` called whenever the metric is sampled. It replaces an earlier gauge of this metric.

        ``read`` may be sync or async, and answers with a number, or None for "nothing to report now". A ``KeyError``
        or ``NotFoundError`` means that what it measured is gone, and unregisters it; any other error skips this
        sample and is logged once until the gauge works again.
        """
        self._gauges[metric] = read
        self._failing.discard(metric)

    def unregister(self, metric: Metric) -> None:
        """Forget the metric's gauge, if it has one. What was sampled stays."""
        self._gauges.pop(metric, None)
        self._failing.discard(metric)

    def is_gauge(self, metric: Metric) -> bool:
        """Whether a gauge is registered for the metric, or was when it was last sampled."""
        series = self._find(metric, None)
        return metric in self._gauges or (series is not None and series.sampled)

    def gauges(self) -> Iterator[tuple[Metric, float]]:
        """Each registered gauge that was sampled, with its latest value."""
        for gauge in self._gauges:
            value = self.latest(gauge)
            if value is not None:
                yield gauge, value

    async def sample(self, now_ms: int, metric: Metric | None = None) -> None:
        """Read each gauge once, or that of one metric if it has one, and put the values at this instant."""
        if metric is None:
            chosen = list(self._gauges.items())
        else:
            chosen = [(metric, self._gauges[metric])] if metric in self._gauges else []
        for gauge, read in chosen:
            later = self._begin(gauge, read, now_ms, lambda: now_ms, SECOND_MS)
            if later is not None:
                await later

    # HOT: the gauge of every alarm, several times each period.
    def read_gauge(
        self, metric: Metric, now_ms: int, clock: Callable[[], int], storage_resolution_ms: int = SECOND_MS
    ) -> Awaitable[None] | None:
        """Read the gauge of a metric, if it has one, and put its value at ``now_ms``.

        Args:
            metric: Whose.
            now_ms: The instant.
            clock: What tells the instant when an async gauge has answered, which its value is put at.
            storage_resolution_ms: A minute puts it into its minute alone, which takes less time and memory.

        Returns:
            None if that is done; of an async gauge what has to be awaited.
        """
        read = self._gauges.get(metric)
        return None if read is None else self._begin(metric, read, now_ms, clock, storage_resolution_ms)

    def _begin(
        self, metric: Metric, read: Callable[[], Reading], now_ms: int, clock: Callable[[], int], resolution_ms: int
    ) -> Awaitable[None] | None:
        try:
            value = read()
            if value.__class__ is not float and isinstance(value, Awaitable):
                return self._read_later(metric, value, clock, resolution_ms)
            self._put_reading(metric, value, now_ms, resolution_ms)
        except Exception as error:
            self._gauge_failed(metric, error)
        return None

    async def _read_later(
        self, metric: Metric, reading: Awaitable[float | None], clock: Callable[[], int], resolution_ms: int
    ) -> None:
        try:
            self._put_reading(metric, await reading, clock(), resolution_ms)
        except Exception as error:
            self._gauge_failed(metric, error)

    def _put_reading(self, metric: Metric, value: float | None, now_ms: int, resolution_ms: int) -> None:
        if self._failing:
            self._failing.discard(metric)
        if value is None:
            return
        if value.__class__ is not float or not _SMALLEST_VALUE <= value <= LARGEST_VALUE:
            check_sample(metric, value)
        series = self._plain.get(metric) or self._open(metric, "None", now_ms)
        if series is None:
            self.dropped += 1
            return
        series.sampled = True
        if resolution_ms == SECOND_MS:
            self.put(metric, value, now_ms)
        else:
            series.latest = value
            series.add(now_ms, Samples(1, value, value, value), resolution_ms)

    def _gauge_failed(self, metric: Metric, error: Exception) -> None:
        if isinstance(error, KeyError | NotFoundError):
            self.unregister(metric)
        elif metric not in self._failing:
            self._failing.add(metric)
            logger.warning("gauge %s failed and is skipped until it works again", metric, exc_info=error)


def _whole_periods(start_ms: int, end_ms: int, period_ms: int) -> tuple[int, int]:
    """Both ends are rounded outwards to whole periods."""
    return start_ms // period_ms * period_ms, -(-end_ms // period_ms) * period_ms

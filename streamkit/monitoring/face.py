"""``kit.metrics``: what users put of metrics and ask of them.

Follows ``PutMetricData``, ``GetMetricStatistics``, ``GetMetricData`` and ``ListMetrics`` of the CloudWatch API
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from streamkit.clock import Clock, to_datetime
from streamkit.errors import ValidationError
from streamkit.metrics.buckets import samples_of
from streamkit.metrics.datapoints import Datapoints, MetricData, fitting_period_ms
from streamkit.metrics.datum import MetricDatum, StorageResolution
from streamkit.metrics.gauges import Reading
from streamkit.metrics.math_query import MetricQueries, MetricQuery
from streamkit.metrics.math_series import Series, TimeRange
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECOND_MS, SECONDS_KEPT_MS, check_range
from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic import compile_statistic
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.unit import Unit, check_unit
from streamkit.metrics.window import Datapoint, Metrics
from streamkit.monitoring.flusher import Flusher
from streamkit.monitoring.layout import merged
from streamkit.monitoring.sampler import Sampler
from streamkit.monitoring.serving import Serving
from streamkit.monitoring.stored import StoredMetrics
from streamkit.tables.store import TableStore


class KitMetrics(Serving):
    """All metrics of a kit: those that its services report, and those of the program.

    In an engine with tables on disk they outlive the kit: they are stored once a minute and when the kit closes, so a
    crash loses what was put since the last minute's end. What is asked with ``await`` is of both, what was stored ever
    (as long as its resolution is kept) and what was put since.

    What is put is put now unless ``at=`` says otherwise. Instants are aware ``datetime``, periods seconds.
    Not thread-safe: use it on the event loop's thread.
    """

    def __init__(self, raw: Metrics, clock: Clock, tables: TableStore | None = None, *, owned: bool = True) -> None:
        """With ``tables`` metrics are stored in them; or, unless ``owned``, only read from there."""
        self.raw = raw
        """What services report to, with every instant given by the caller: the fastest way to put. What it is asked, it
        answers from memory: that is what was put since the kit was opened, and not forgotten for want of memory."""
        self._clock = clock
        self._stored = None if tables is None else StoredMetrics(raw, tables, clock, owned=owned)
        self.flusher = None if self._stored is None or not owned else Flusher(self._stored, raw, clock)
        """The service that stores metrics; None: nothing is stored."""
        raw.flush = self.flush

    # ---- putting

    def put(
        self,
        metric: Metric,
        value: float,
        *,
        unit: Unit = "None",
        count: int = 1,
        at: datetime | None = None,
        storage_resolution: StorageResolution = 60,
    ) -> None:
        """Add ``count`` samples of ``value``. Mirrors PutMetricData.

        Args:
            metric: Of which; keep the object when you put often.
            value: A number within ±2^360.
            unit: Such as ``"Milliseconds"``. Samples of one metric in different units are series of their own.
            count: From 1 to 2^40.
            at: From two weeks back to two hours ahead; None: now.
            storage_resolution: 60: periods of a minute and more can be asked for; 1: of a second, for three hours.

        Raises:
            ValidationError: Something of it is not allowed; the message says what is.
        """
        now_ms = self._clock.now_ms()
        if storage_resolution == 1 and at is None:
            self.raw.put(metric, value, now_ms, count, unit)
            return
        datum = MetricDatum(
            metric,
            values=(value,),
            counts=(count,),
            timestamp_ms=None if at is None else instant_ms(at),
            unit=unit,
            storage_resolution=storage_resolution,
        )
        self.raw.put_data([datum], now_ms)

    def put_data(self, data: Iterable[MetricDatum]) -> None:
        """Add up to 1,000 data: all of them or, if one is not allowed, none. Mirrors PutMetricData.

        Raises:
            ValidationError: There are more, or a timestamp is over two weeks back or two hours ahead.
        """
        self.raw.put_data(data, self._clock.now_ms())

    # ---- asking

    async def statistics(
        self, metric: Metric, start: datetime, end: datetime, period: float, unit: Unit | None = None
    ) -> list[tuple[datetime, StatisticSet]]:
        """The plain statistics of each period that has samples, oldest first, with the period's start.

        Args:
            metric: Of which.
            start: Where the range begins; every period that overlaps the range is there as a whole.
            end: Where it ends, not in it.
            period: Seconds: 1, 5, 10, 20 or 30, of which there is data for three hours, or a multiple of 60 (15 days),
                of 300 (63 days) or of 3,600 (455 days).
            unit: Of this one; None: of the one that the metric had first.

        Raises:
            ValidationError: There is no such period, or the end is not after the start.
        """
        chosen = await self._first_unit(metric) if unit is None else unit
        found = await self._periods(metric, chosen, (instant_ms(start), instant_ms(end)), _period_ms(period))
        return [(to_datetime(each), samples.set) for each, samples in found]

    async def datapoints(
        self,
        metric: Metric,
        statistics: Sequence[str],
        start: datetime,
        end: datetime,
        period: float,
        unit: Unit | None = None,
    ) -> Datapoints:
        """Plain and extended statistics of each period that has samples, oldest first. Mirrors GetMetricStatistics.

        A notebook shows them as a plot; pandas, polars and DuckDB read them as a table.

        Args:
            metric: Of which.
            statistics: Such as ``["Average", "p99", "TM(10%:90%)"]``.
            start: As in ``statistics``.
            end: As in ``statistics``.
            period: As in ``statistics``; a start that is older than what is kept for it is refused.
            unit: Of this one alone; None: of each unit by itself.

        Raises:
            ValidationError: There is no such statistic, unit or period, the period is too short for the age of the
                start, or the end is not after the start.
        """
        span, period_ms = (instant_ms(start), instant_ms(end)), _period_ms(period)
        check_range(*span, period_ms, self._clock.now_ms())
        if unit is not None:
            check_unit(unit)
        asked = [compile_statistic(each) for each in statistics]
        points: list[Datapoint] = []
        for each in await self._units(metric) if unit is None else [unit]:
            found = await self._periods(metric, each, span, period_ms)
            points += [Datapoint(start_ms, each, some.count, some.answers(asked)) for start_ms, some in found]
        points.sort(key=lambda point: (point.start_ms, point.unit))
        return Datapoints(points, metric, statistics, span, period_ms)

    async def recent(self, metric: Metric, *statistics: str, last: float | None = None) -> Datapoints:
        """The last hours of a metric, in periods that suit a plot: to look at in a notebook.

        Args:
            metric: Of which: a lag, such as ``consumer.metric("RecordsBehindLatest")`` or a mapping's ``IteratorAge``;
                a depth or an age, such as ``queue.metric("ApproximateNumberOfMessagesVisible")``, which somebody has
                to read now and then: ``kit.start(kit.metrics.sampler())``, an alarm, or a scrape; or a traffic, such
                as ``stream.metric("IncomingRecords")`` with ``"Sum"``.
            statistics: ``"Maximum"`` unless given.
            last: Seconds back from now; None: as far back as there are samples, three hours at most.

        Raises:
            ValidationError: There is no such statistic, or ``last`` is not above 0.
        """
        if last is not None and not last > 0:
            raise ValidationError(f"last={last!r}: look back for more than 0 seconds")
        now_ms = self._clock.now_ms()
        start_ms = now_ms - (SECONDS_KEPT_MS if last is None else round(last * 1000))
        if last is None:
            unit = await self._first_unit(metric)
            samples = await self._periods(metric, unit, (start_ms, now_ms + 1), SECOND_MS)
            start_ms = samples[0][0] if samples else start_ms
        period_ms = fitting_period_ms(now_ms - start_ms)
        # Whole periods, of which the last is that of now.
        start_ms = start_ms // period_ms * period_ms
        end_ms = now_ms // period_ms * period_ms + period_ms
        asked = statistics or ("Maximum",)
        return await self.datapoints(metric, asked, to_datetime(start_ms), to_datetime(end_ms), period_ms / 1000)

    def sampler(self, every: float = 60.0) -> Sampler:
        """A service that reads every gauge each so many seconds, so that depths and ages have a history: ``kit.start``.

        Raises:
            ValidationError: ``every`` is not 0.1 to 86,400.
        """
        return Sampler(self.raw, self._clock, every)

    async def get_data(self, queries: Iterable[MetricQuery], start: datetime, end: datetime) -> MetricData:
        """What metrics have, and expressions make of them; a notebook shows it as a plot. Mirrors GetMetricData.

        Returns:
            One result of each query with ``return_data``, in their order, several if it is an array; the points of
            each by the start of their period, in ms.

        Raises:
            ValidationError: There are none or more than 500 queries, two have one id, an expression names one that is
                not there, or the end is not after the start.
            ExpressionError: An expression cannot be read or evaluated.
        """
        asked = MetricQueries(queries)
        span = TimeRange(instant_ms(start), instant_ms(end))
        series: dict[str, Series] = {}
        for query in asked.metrics:
            if query.metric is None or query.statistic is None or query.period_ms is None:
                continue
            statistic = compile_statistic(query.statistic)
            unit = await self._first_unit(query.metric)
            found = await self._periods(query.metric, unit, (span.start_ms, span.end_ms), query.period_ms)
            values = {each: samples.value(statistic) for each, samples in found}
            points = {each: value for each, value in values.items() if value is not None}
            series[query.id] = Series(query.period_ms, points)
        return MetricData(asked.evaluate(series, span))

    async def list_metrics(
        self, namespace: str | None = None, name: str | None = None, dimensions: Mapping[str, str | None] | None = None
    ) -> list[Metric]:
        """Every metric that has samples, sorted. Mirrors ListMetrics.

        Args:
            namespace: Of this one alone.
            name: Of this name alone.
            dimensions: With all of these alone, and any others; a value of None stands for each.
        """
        wanted = dict(dimensions or {})
        listed = self.raw.list_metrics() if self._stored is None else await self._stored.list_metrics()
        return sorted(
            (each for each in listed if _is_wanted(each, namespace, name, wanted)),
            key=lambda each: (each.namespace, each.name, each.dimensions),
        )

    def latest(self, metric: Metric, unit: Unit | None = None) -> float | None:
        """The value put last since the kit was opened; None before the first, and after a set of several values."""
        return self.raw.latest(metric, unit)

    def total(self, metric: Metric, unit: Unit | None = None) -> StatisticSet | None:
        """Everything put since the kit was opened; None before the first."""
        return self.raw.total(metric, unit)

    async def warm(self, metrics: Iterable[Metric], since_ms: int) -> None:
        """See ``streamkit.metrics.warm.Warm``: for whoever asks ``raw``, which answers from memory."""
        if self._stored is not None:
            await self._stored.warm(metrics, since_ms)

    async def flush(self) -> None:
        """Store all that was put until now. It is stored once a minute, and when the kit closes, anyway.

        Raises:
            StorageError: It cannot be stored now; nothing of it is lost by that.
        """
        if self.flusher is not None:
            await self.flusher.flush()

    async def close(self) -> None:
        """Store all that was put, once nothing is put any more; done by the kit when it closes."""
        if self.flusher is not None:
            await self.flusher.close()

    async def _first_unit(self, metric: Metric) -> Unit:
        units = await self._units(metric)
        return units[0] if units else "None"

    async def _units(self, metric: Metric) -> list[Unit]:
        return self.raw.units(metric) if self._stored is None else await self._stored.units(metric)

    async def _periods(
        self, metric: Metric, unit: Unit, span: tuple[int, int], period_ms: int
    ) -> list[tuple[int, Samples]]:
        if self._stored is None:
            return self.raw.samples(metric, *span, period_ms, unit)
        resolution = check_range(*span, period_ms)
        whole = span[0] // period_ms * period_ms, -(-span[1] // period_ms) * period_ms
        rows = await self._stored.rows(metric, unit, resolution, whole)
        return [(row[0], samples_of(row)) for row in merged(rows, period_ms)]

    # ---- gauges

    def register_gauge(self, metric: Metric, read: Callable[[], Reading], unit: Unit = "None") -> None:
        """Have ``read`` called whenever the metric is sampled. It replaces an earlier gauge of this metric.

        ``read`` may be sync or async, and answers with a number, or None for "nothing to report now". A ``KeyError``
        or ``NotFoundError`` means that what it measured is gone, and unregisters it; any other error skips this
        sample and is logged once until the gauge works again.
        """
        self.raw.register_gauge(metric, read, unit)

    def unregister(self, metric: Metric) -> None:
        """Forget the metric's gauge, if it has one. What was sampled stays."""
        self.raw.unregister(metric)

    async def sample(self, metric: Metric | None = None) -> None:
        """Read each gauge once, or that of one metric if it has one, and put the values. Alarms do so by themselves."""
        await self.raw.sample(self._clock.now_ms(), metric)


def instant_ms(instant: datetime) -> int:
    """Milliseconds since the epoch.

    Raises:
        ValidationError: It has no time zone.
    """
    if instant.tzinfo is None:
        raise ValidationError(f"{instant!r} has no time zone: use an aware datetime, such as datetime.now(UTC)")
    return round(instant.timestamp() * 1000)


def _period_ms(period: float) -> int:
    return round(period * SECOND_MS)


def _is_wanted(metric: Metric, namespace: str | None, name: str | None, dimensions: Mapping[str, str | None]) -> bool:
    if namespace not in (None, metric.namespace) or name not in (None, metric.name):
        return False
    has = dict(metric.dimensions)
    return all(each in has and value in (None, has[each]) for each, value in dimensions.items())

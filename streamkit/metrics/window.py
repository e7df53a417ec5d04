"""How much of what, and when: series of samples in memory, asked for by period.

A bounded piece of memory per series: one-second buckets for three hours, one-minute buckets for fifteen days, as long
as CloudWatch keeps them ("Metrics retention" in its user guide). A bucket without samples takes no room, a full series
1.3 MB.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics.metric import Metric, Statistic, check_statistic

logger = logging.getLogger("streamkit.metrics")

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
SECONDS_KEPT_MS = 3 * 60 * MINUTE_MS
"""How long buckets of one second are kept, and with them every period under a minute."""
MINUTES_KEPT_MS = 15 * 24 * 60 * MINUTE_MS
"""How long buckets of one minute are kept."""
HIGH_RESOLUTION_PERIODS_MS = frozenset({1000, 5000, 10_000, 20_000, 30_000})
"""The periods under a minute that can be asked for."""
LARGEST_VALUE = 2.0**360
"""What CloudWatch takes; sums of such values are still finite."""
_INFINITY = float("inf")

Reading = float | None | Awaitable[float | None]
"""What a gauge answers with."""


class StatisticSet(msgspec.Struct, frozen=True, gc=False):
    """What is known of some samples, of which there is at least one."""

    sample_count: int
    sum: float
    minimum: float
    maximum: float

    def merge(self, other: StatisticSet) -> StatisticSet:
        """What is known of the samples of both."""
        return StatisticSet(
            self.sample_count + other.sample_count,
            self.sum + other.sum,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    def value(self, statistic: Statistic) -> float:
        """One statistic of the samples.

        Raises:
            ValidationError: ``statistic`` is not one of ``metric.STATISTICS``.
        """
        check_statistic(statistic)
        match statistic:
            case "SampleCount":
                return self.sample_count
            case "Sum":
                return self.sum
            case "Average":
                return self.sum / self.sample_count
            case "Minimum":
                return self.minimum
            case "Maximum":
                return self.maximum


class Metrics:
    """All series of one kit, in memory, and the gauges that fill some of them.

    Not thread-safe: report and ask on the event loop's thread. Nothing here awaits.
    """

    def __init__(self, *, max_series: int = 10_000) -> None:
        """``max_series`` bounds the memory: samples of a further metric are dropped, and counted in ``dropped``."""
        self.dropped = 0
        """Samples that were not kept because there are ``max_series`` series already."""
        self._max_series = max_series
        self._series: dict[Metric, _Series] = {}
        self._gauges: dict[Metric, Callable[[], Reading]] = {}
        self._failing: set[Metric] = set()

    # HOT: every put, send and receive passes here.
    def put(self, metric: Metric, value: float, now_ms: int, count: int = 1) -> None:
        """Add ``count`` samples of ``value`` at an instant, usually now.

        An earlier instant goes into the bucket it belongs to, if that is still kept. Nothing is replaced.

        Raises:
            ValidationError: ``value`` is not a number within ±2^360, or ``count`` is less than 1.
        """
        # NaN fails every comparison, so this one refuses it together with the infinities.
        if not -LARGEST_VALUE <= value <= LARGEST_VALUE or count < 1:
            raise _bad_sample(metric, value, count)
        series = self._series.get(metric)
        if series is None:
            if len(self._series) >= self._max_series:
                self.dropped += count
                return
            series = self._series[metric] = _Series(now_ms // SECOND_MS)
        if now_ms // SECOND_MS != series.second:
            series.turn_to(now_ms // SECOND_MS)
        series.latest = value
        series.count += count
        series.sum += value * count
        if value < series.minimum:
            series.minimum = value
        if value > series.maximum:
            series.maximum = value

    def statistics(self, metric: Metric, start_ms: int, end_ms: int, period_ms: int) -> list[tuple[int, StatisticSet]]:
        """What was put between two instants, period by period, oldest first: (start of the period, statistics).

        Periods are aligned to the epoch and hold [start, start + period). Every period that overlaps [start_ms,
        end_ms) is there as a whole if it has a sample; one without samples is absent.

        Raises:
            ValidationError: ``period_ms`` is neither 1, 5, 10, 20 or 30 seconds nor a multiple of 60, or the end is not
                after the start.
        """
        if period_ms not in HIGH_RESOLUTION_PERIODS_MS and (period_ms < MINUTE_MS or period_ms % MINUTE_MS):
            raise ValidationError(
                f"period of {period_ms} ms: choose 1, 5, 10, 20 or 30 seconds or a multiple of 60 seconds"
            )
        if start_ms >= end_ms:
            raise ValidationError(f"the end {end_ms} is not after the start {start_ms}")
        series = self._series.get(metric)
        if series is None:
            return []
        series.close()
        buckets = series.minutes if period_ms % MINUTE_MS == 0 else series.seconds
        periods: dict[int, StatisticSet] = {}
        # Both ends are rounded outwards to whole periods.
        for start, found in buckets.between(start_ms // period_ms * period_ms, -(-end_ms // period_ms) * period_ms):
            period_start = start // period_ms * period_ms
            earlier = periods.get(period_start)
            periods[period_start] = found if earlier is None else earlier.merge(found)
        return list(periods.items())

    def latest(self, metric: Metric) -> float | None:
        """The value put last; None before the first."""
        series = self._series.get(metric)
        return None if series is None else series.latest

    def total(self, metric: Metric) -> StatisticSet | None:
        """Everything ever put, as a running total since the start of the process; None before the first."""
        series = self._series.get(metric)
        if series is None:
            return None
        series.close()
        return series.total

    def list_metrics(self) -> list[Metric]:
        """Every metric that has samples, in the order of their first."""
        return list(self._series)

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
        series = self._series.get(metric)
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
            value = await self._read(gauge, read)
            if value is not None:
                self.put(gauge, value, now_ms)
                if series := self._series.get(gauge):
                    series.sampled = True

    async def _read(self, gauge: Metric, read: Callable[[], Reading]) -> float | None:
        try:
            reading = read()
            value = await reading if isinstance(reading, Awaitable) else reading
            if value is not None and not -LARGEST_VALUE <= value <= LARGEST_VALUE:
                raise _bad_sample(gauge, value, 1)
        except (KeyError, NotFoundError):
            self.unregister(gauge)
            return None
        except Exception:
            if gauge not in self._failing:
                self._failing.add(gauge)
                logger.warning("gauge %s failed and is skipped until it works again", gauge, exc_info=True)
            return None
        self._failing.discard(gauge)
        return value


class _Series:
    """One metric's samples: those of the newest second in plain attributes, which is what makes ``put`` fast."""

    __slots__ = ("count", "latest", "maximum", "minimum", "minutes", "sampled", "second", "seconds", "sum", "total")

    def __init__(self, second: int) -> None:
        self.second = second
        self.latest: float | None = None
        self.total: StatisticSet | None = None
        self.sampled = False
        self.seconds = _Buckets(SECOND_MS, SECONDS_KEPT_MS)
        self.minutes = _Buckets(MINUTE_MS, MINUTES_KEPT_MS)
        self._empty()

    def _empty(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.minimum = _INFINITY
        self.maximum = -_INFINITY

    def turn_to(self, second: int) -> None:
        """Let ``second`` be the one that collects, which may also be an earlier one."""
        self.close()
        self.second = second

    def close(self) -> None:
        """Move what the open second has collected to where it is kept."""
        if self.count == 0:
            return
        found = StatisticSet(self.count, self.sum, self.minimum, self.maximum)
        self._empty()
        self.seconds.add(self.second * SECOND_MS, found)
        self.minutes.add(self.second * SECOND_MS, found)
        self.total = found if self.total is None else self.total.merge(found)


class _Buckets:
    """Statistics by bucket of one width, in order, the oldest forgotten: 40 bytes per bucket that has samples."""

    __slots__ = ("counts", "kept_ms", "maximums", "minimums", "starts", "sums", "width_ms")

    def __init__(self, width_ms: int, kept_ms: int) -> None:
        self.width_ms = width_ms
        self.kept_ms = kept_ms
        self.starts = array("q")
        self.counts = array("q")
        self.sums = array("d")
        self.minimums = array("d")
        self.maximums = array("d")

    def add(self, instant_ms: int, found: StatisticSet) -> None:
        """Merge samples of one instant into its bucket, unless it is older than what is kept."""
        start = instant_ms // self.width_ms * self.width_ms
        # Nearly always the newest bucket or a newer one, and then there is nothing to search or to move.
        newest = self.starts[-1] if self.starts else start - 1
        at = len(self.starts) if start > newest else bisect_left(self.starts, start)
        if at < len(self.starts) and self.starts[at] == start:
            merged = self._at(at).merge(found)
            self.counts[at] = merged.sample_count
            self.sums[at] = merged.sum
            self.minimums[at] = merged.minimum
            self.maximums[at] = merged.maximum
            return
        # INVARIANT: test_memory_is_bounded
        if start <= newest - self.kept_ms:
            return
        self.starts.insert(at, start)
        self.counts.insert(at, found.sample_count)
        self.sums.insert(at, found.sum)
        self.minimums.insert(at, found.minimum)
        self.maximums.insert(at, found.maximum)
        # Forgetting moves all that stays, so it waits until there is a sixteenth to forget.
        expired = bisect_left(self.starts, self.starts[-1] - self.kept_ms + 1)
        if expired * 16 > len(self.starts):
            for column in (self.starts, self.counts, self.sums, self.minimums, self.maximums):
                del column[:expired]

    def between(self, start_ms: int, end_ms: int) -> Iterator[tuple[int, StatisticSet]]:
        """The buckets that start in [start_ms, end_ms), oldest first."""
        for at in range(bisect_left(self.starts, start_ms), bisect_left(self.starts, end_ms)):
            yield self.starts[at], self._at(at)

    def _at(self, at: int) -> StatisticSet:
        return StatisticSet(self.counts[at], self.sums[at], self.minimums[at], self.maximums[at])


def _bad_sample(metric: Metric, value: float, count: int) -> ValidationError:
    if count < 1:
        return ValidationError(f"{metric}: a count of {count} samples: put 1 or more")
    return ValidationError(f"{metric}: {value!r} is not a number within ±2^360, so it cannot be a sample")

"""Gauges: what is asked for its value whenever a metric is looked at."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Container, Iterator

from streamkit.errors import NotFoundError
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECOND_MS
from streamkit.metrics.series import Series
from streamkit.metrics.statistic_set import LARGEST_VALUE, check_sample
from streamkit.metrics.unit import Unit, check_unit

logger = logging.getLogger("streamkit.metrics")

Reading = float | None | Awaitable[float | None]
"""What a gauge answers with."""

_AT_ONCE = 256


class Gauges(ABC):
    """The part of ``Metrics`` that has the gauges, and fills the series of theirs."""

    def __init__(self) -> None:
        self._gauges: dict[Metric, tuple[Callable[[], Reading], Unit]] = {}
        self._failing: set[Metric] = set()
        self.looks = 0
        """How often gauges were sampled: those that measure one thing may look at it once for all of them."""

    def register_gauge(self, metric: Metric, read: Callable[[], Reading], unit: Unit = "None") -> None:
        """Have ``read`` called whenever the metric is sampled. It replaces an earlier gauge of this metric.

        ``read`` may be sync or async, and answers with a number, or None for "nothing to report now". A ``KeyError``
        or ``NotFoundError`` means that what it measured is gone, and unregisters it; any other error skips this
        sample and is logged once until the gauge works again.

        Raises:
            ValidationError: There is no such unit.
        """
        check_unit(unit)
        self._gauges[metric] = (read, unit)
        self._failing.discard(metric)

    def unregister(self, metric: Metric) -> None:
        """Forget the metric's gauge, if it has one. What was sampled stays."""
        self._gauges.pop(metric, None)
        self._failing.discard(metric)

    def is_gauge(self, metric: Metric) -> bool:
        """Whether a gauge is registered for the metric, or was when it was last sampled."""
        series = self.find(metric, None)
        return metric in self._gauges or (series is not None and series.sampled)

    def gauges(self) -> Iterator[tuple[Metric, float]]:
        """Each registered gauge that was sampled, with its latest value."""
        for gauge, (_, unit) in self._gauges.items():
            value = self.latest(gauge, unit)
            if value is not None:
                yield gauge, value

    async def sample(self, now_ms: int, metric: Metric | None = None) -> None:
        """Read each gauge once, or that of one metric if it has one, and put the values at this instant."""
        self.looks += 1
        if metric is None:
            chosen = list(self._gauges.items())
        else:
            chosen = [(metric, self._gauges[metric])] if metric in self._gauges else []
        for at, (gauge, (read, unit)) in enumerate(chosen):
            if at % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # Reading thousands of them must not hold up everybody else.
            later = self._begin(gauge, read, unit, now_ms, (lambda: now_ms, SECOND_MS))
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
        self.looks += 1
        found = self._gauges.get(metric)
        return None if found is None else self._begin(metric, *found, now_ms, (clock, storage_resolution_ms))

    def _begin(
        self, metric: Metric, read: Callable[[], Reading], unit: Unit, now_ms: int, put: tuple[Callable[[], int], int]
    ) -> Awaitable[None] | None:
        try:
            value = read()
            if value.__class__ is not float and isinstance(value, Awaitable):
                return self._read_later(metric, value, unit, put)
            self._put_reading(metric, value, unit, now_ms, put[1])
        except Exception as error:
            self._failed(metric, error)
        return None

    async def _read_later(
        self, metric: Metric, reading: Awaitable[float | None], unit: Unit, put: tuple[Callable[[], int], int]
    ) -> None:
        try:
            self._put_reading(metric, await reading, unit, put[0](), put[1])
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: the gauge awaited something that was cancelled, which is its own failure.
            # INVARIANT: test_a_gauge_that_awaits_what_is_cancelled_fails_like_any_other
            self._failed(metric, error)
        except Exception as error:
            self._failed(metric, error)

    def _put_reading(self, metric: Metric, value: float | None, unit: Unit, now_ms: int, resolution_ms: int) -> None:
        if self._failing:
            self._failing.discard(metric)
        if value is None:
            return
        # NaN fails every comparison, so this one refuses it together with the infinities.
        if value.__class__ is not float or not -LARGEST_VALUE <= value <= LARGEST_VALUE:
            check_sample(metric, value)
        series = self.open(metric, unit, now_ms)
        if series is not None:
            series.sampled = True
        if series is None or resolution_ms == SECOND_MS:
            self.put(metric, value, now_ms, unit=unit)
        else:
            series.put_minutely(now_ms, value)

    def _failed(self, metric: Metric, error: BaseException) -> None:
        if isinstance(error, KeyError | NotFoundError):
            self.unregister(metric)
        elif metric not in self._failing:
            self._failing.add(metric)
            logger.warning("gauge %s failed and is skipped until it works again", metric, exc_info=error)

    def registered(self) -> Container[Metric]:
        """The metrics that have a gauge."""
        return self._gauges

    @abstractmethod
    def put(self, metric: Metric, value: float, now_ms: int, count: int = 1, unit: Unit = "None") -> None:
        """Add ``count`` samples of ``value``."""

    @abstractmethod
    def latest(self, metric: Metric, unit: Unit | None = None) -> float | None:
        """The value put last; None: there is none."""

    @abstractmethod
    def find(self, metric: Metric, unit: Unit | None) -> Series | None:
        """The series of a metric and a unit; without one, of the unit that the metric had first."""

    @abstractmethod
    def open(self, metric: Metric, unit: Unit, now_ms: int) -> Series | None:
        """The same, made if it is not there; None: there is no room for it."""

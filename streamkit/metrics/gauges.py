"""Gauges: what is asked for its value whenever a metric is looked at."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Container, Iterator

from streamkit.errors import NotFoundError
from streamkit.metrics.metric import Metric
from streamkit.metrics.series import Series
from streamkit.metrics.statistic_set import check_sample
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
            value = await self._read(gauge, read)
            if value is not None:
                self.put(gauge, value, now_ms, unit=unit)
                if series := self.find(gauge, unit):
                    series.sampled = True

    async def _read(self, gauge: Metric, read: Callable[[], Reading]) -> float | None:
        try:
            reading = read()
            value = await reading if isinstance(reading, Awaitable) else reading
            if value is not None:
                check_sample(gauge, value)
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

"""Metric filters on the process's own log: "alarm when ERROR is logged"."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from streamkit.clock import Clock
from streamkit.metrics.filtering import FilterCounts, Filtering
from streamkit.metrics.metric_filter import MetricFilter
from streamkit.monitoring.face import KitMetrics
from streamkit.service import Stop

MAX_LINES = 10_000
"""That wait. What is logged beyond them, until they are looked at, is dropped and counted."""
EVERY_MS = 1_000
"""How often what was logged is looked at."""


class LogFilters:
    """Puts samples of what matches in the lines that a logger logs. A ``Service``::

        errors = MetricTransformation(metric_namespace="app", metric_name="Errors", metric_value=1, unit="Count")
        kit.start(LogFilters(kit.metrics, [MetricFilter("errors", FilterPattern("ERROR"), errors)]))

    Its ``handler`` is one of the logger's from its start to its stop. Whoever logs, in whichever thread, does not wait:
    lines are formatted and kept, and the kit's event loop looks at them once a second. A sample is at the instant when
    its line was logged. Lines read ``ERROR app.orders: message``, with the exception, if there is one;
    ``handler.setFormatter`` changes that.
    """

    def __init__(
        self,
        metrics: KitMetrics,
        filters: Iterable[MetricFilter],
        *,
        name: str = "log-filters",
        logger: str = "",
        level: int = logging.NOTSET,
    ) -> None:
        """Filters on one logger.

        Args:
            metrics: ``kit.metrics``.
            filters: 1 to 100, with different names.
            name: What ``kit.health()`` calls it.
            logger: Of which, by name; its children propagate to it. Empty: the root logger.
            level: The lowest that is looked at; the logger's own level comes before.

        Raises:
            ValidationError: A filter is not allowed.
        """
        self.name = name
        self._filtering = Filtering(filters, metrics.raw)
        self._clock = metrics._clock
        self._logger = logging.getLogger(logger)
        self.handler = LineHandler(self._clock, level)

    def __repr__(self) -> str:
        return f"LogFilters({self.name!r}, logger={self._logger.name!r})"

    @property
    def counts(self) -> FilterCounts:
        """What the filters have done since it was made."""
        return self._filtering.counts

    async def run(self, stop: Stop) -> None:
        """See Service. What was logged before the stop is looked at."""
        self._logger.addHandler(self.handler)
        try:
            while not stop.requested:
                with stop.interruptible():
                    await self._clock.sleep_until(self._clock.now_ms() + EVERY_MS)
                self._look()
        finally:
            self._logger.removeHandler(self.handler)
            self._look()

    def _look(self) -> None:
        lines = self.handler.take()
        if lines:
            with self.handler.unheard():
                self._filtering.put(lines, self._clock.now_ms())


class LineHandler(logging.Handler):
    """Keeps lines until they are taken."""

    def __init__(self, clock: Clock, level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.dropped = 0
        """Lines that there was no room for."""
        self._clock = clock
        self._lines: deque[tuple[int, str]] = deque()
        self._unheard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``. Of any thread."""
        if getattr(self._unheard, "now", False):
            return
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        try:
            self._lines.append((self._clock.now_ms(), self.format(record)))
        except Exception:
            self.handleError(record)

    def take(self) -> list[tuple[int, str]]:
        """What has been logged since the last time, each line at its instant."""
        return [self._lines.popleft() for _ in range(len(self._lines))]

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """What this thread logs meanwhile is not kept: what is said of a line would become the next line, for ever."""
        self._unheard.now = True
        try:
            yield
        finally:
            self._unheard.now = False

"""The service that stores metrics: once a minute, and when the kit closes."""

from __future__ import annotations

import asyncio
import logging

from streamkit.clock import Clock
from streamkit.errors import StreamKitError
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import MINUTE_MS
from streamkit.metrics.series import AFTER_ALL
from streamkit.metrics.window import Metrics
from streamkit.monitoring.stored import StoredMetrics
from streamkit.service import Stop

logger = logging.getLogger("streamkit.monitoring")

AFTER_MINUTE_MS = 1000
"""How long after the end of a minute it is stored, so that what its services put at its end is there."""
FLUSHES_FAILED = Metric.of("streamkit", "MetricsFlushesFailed")
"""How many flushes failed. It is stored with what they were to store, once one succeeds."""


class Flusher:
    """A ``Service``: stores what was put in each minute when it is over, makes five minutes and hours of it, and
    deletes what was kept for as long as it is to be. If nothing was put, it writes nothing.

    A crash loses what was put since the last flush: the minute that runs, and up to a second more. What a flush cannot
    store (a full disk) is kept within the bounds of ``Metrics`` and stored with the next one; that is logged once until
    one succeeds, and counted in the metric ``streamkit`` ``MetricsFlushesFailed``.
    """

    name = "streamkit-metrics"
    """See Service."""

    def __init__(self, stored: StoredMetrics, metrics: Metrics, clock: Clock) -> None:
        self._stored = stored
        self._metrics = metrics
        self._clock = clock
        self._failing = False
        self._lost = 0

    async def run(self, stop: Stop) -> None:
        """See Service. Cancellation: what was not stored is stored by ``close``."""
        while not stop.requested:
            # From now each time: after a jump of the clock there is nothing to catch up with.
            now_ms = self._clock.now_ms()
            due_ms = (now_ms - AFTER_MINUTE_MS) // MINUTE_MS * MINUTE_MS + MINUTE_MS + AFTER_MINUTE_MS
            with stop.interruptible():
                await self._clock.sleep_until(due_ms)
            if not stop.requested and await self._try_flush(self._clock.now_ms() // MINUTE_MS * MINUTE_MS):
                await self._keep_in_order(stop, due_ms + MINUTE_MS)

    async def flush(self) -> None:
        """Store all that was put until now.

        Raises:
            StreamKitError: It cannot be stored now.
        """
        await self._stored.flush(self._clock.now_ms() // MINUTE_MS * MINUTE_MS + MINUTE_MS)

    async def close(self) -> None:
        """Store all that was put, once nothing is put any more. A failure is logged, and does not raise."""
        try:
            await self._try_flush(AFTER_ALL)
        except Exception:
            # Whatever it is, it must not keep the kit from closing its engine.
            logger.exception("metrics could not be stored at the end")

    async def _try_flush(self, until_ms: int) -> bool:
        try:
            await self._stored.flush(until_ms)
        except StreamKitError as error:
            if not self._failing:
                self._failing = True
                logger.warning("metrics could not be stored, and it is tried again each minute: %s", error)
            self._metrics.put(FLUSHES_FAILED, 1, self._clock.now_ms())
            if (lost := self._metrics.lost) > self._lost:
                logger.warning(
                    "%d samples were forgotten, for want of memory, before they were stored", lost - self._lost
                )
                self._lost = lost
            return False
        if self._failing:
            self._failing = False
            logger.info("metrics are stored again")
        return True

    async def _keep_in_order(self, stop: Stop, until_ms: int) -> None:
        """Go on where the last time ended, until the next flush is due."""
        try:
            for step in (self._stored.roll_up, self._stored.expire):
                more = True
                while more and not stop.requested and self._clock.now_ms() < until_ms:
                    more = await step()
                    await asyncio.sleep(0)
        except StreamKitError as error:
            logger.warning("stored metrics could not be kept in order, and it is tried again: %s", error)

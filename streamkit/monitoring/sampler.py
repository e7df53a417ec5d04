"""Reads gauges again and again, so that what is measured and not counted has a history."""

from __future__ import annotations

from streamkit.clock import Clock
from streamkit.errors import ValidationError
from streamkit.metrics.window import Metrics
from streamkit.service import Stop


class Sampler:
    """A ``Service``: reads every gauge each so many seconds. Made by ``kit.metrics.sampler()``, run by ``kit.start``.

    Depths and ages of queues, and whatever else has a gauge, are read when somebody asks: an alarm those of its own
    metric, a scrape all. CloudWatch publishes them every minute; with this, so does a kit.

    Stop: at once.
    """

    name = "metrics-sampler"
    """See Service."""

    def __init__(self, metrics: Metrics, clock: Clock, every: float) -> None:
        if isinstance(every, bool) or not isinstance(every, (int, float)) or not 0.1 <= every <= 86_400:
            raise ValidationError(f"every={every!r}: gauges are read each 0.1 to 86,400 seconds")
        self.every = every
        """Seconds."""
        self._metrics = metrics
        self._clock = clock

    def __repr__(self) -> str:
        return f"Sampler(every={self.every:g} s)"

    async def run(self, stop: Stop) -> None:
        """Read until a stop is requested, first at once."""
        step_ms = round(self.every * 1000)
        while not stop.requested:
            now_ms = self._clock.now_ms()
            await self._metrics.sample(now_ms)
            with stop.interruptible():
                # From now each time: after a jump of the clock there is nothing to catch up with.
                await self._clock.sleep_until(now_ms // step_ms * step_ms + step_ms)

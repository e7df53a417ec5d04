"""What a mapping counts, publishes, and works with."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streamkit.clock import Clock
from streamkit.functions.counts import Counts
from streamkit.functions.effects import EffectStore
from streamkit.functions.function import AnyFunction, Invoker
from streamkit.functions.traced import TracedInvoker
from streamkit.metrics.metric import Metric
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.spans import Tracing
from streamkit.streams.store import StreamStore
from streamkit.tables.store import TableStore

OWN_METRICS = ("RecordsTrimmed", "WindowsDropped")
"""Of a mapping, in the namespace streamkit: Lambda has none of the kind. All others are in AWS/Lambda."""


def mapping_metric(mapping: str, name: str) -> Metric:
    """A metric of an event source mapping, such as ``IteratorAge`` or ``DroppedEventCount``, for an alarm.

    Raises:
        ValidationError: it is no name for a metric.
    """
    return Metric.of("streamkit" if name in OWN_METRICS else "AWS/Lambda", name, EventSourceMappingUUID=mapping)


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """What a mapping reads from and commits to, its time, and where its metrics go."""

    streams: StreamStore
    tables: TableStore
    effects: EffectStore
    clock: Clock
    metrics: Metrics
    tracing: Tracing = msgspec.field(default_factory=Tracing)


class Tally:
    """What a mapping counts and publishes, and who is told when a checkpoint moved."""

    def __init__(self, name: str, ports: Ports, moved: Callable[[], None]) -> None:
        self.counts = Counts()
        self.moved = moved
        self.last_processing_result = "No records processed"
        """As Lambda puts it: "OK", or what the problem was."""
        self._name = name
        self._clock = ports.clock
        self._metrics = ports.metrics
        self._tracing = ports.tracing
        self._known: dict[str, Metric] = {}

    def invoker_of(self, function: AnyFunction | None, source: str) -> TracedInvoker:
        """What calls the mapping's function with records of this stream."""
        invoker = Invoker(function, source=source, clock=self._clock, metrics=self._metrics)
        return TracedInvoker(invoker, self._tracing, self._name, source)

    def failed(self, error: Exception) -> None:
        """An invocation failed."""
        self.counts.errors += 1
        self.publish("Errors", 1)
        self.last_processing_result = f"PROBLEM: Function call failed: {type(error).__name__}: {error}"

    def publish(self, name: str, value: float) -> None:
        """Publish one of the mapping's metrics; a count of nothing is not worth a sample."""
        if value or name == "IteratorAge":
            metric = self._known.get(name)
            if metric is None:
                metric = self._known[name] = mapping_metric(self._name, name)
            unit: Unit = "Milliseconds" if name == "IteratorAge" else "Count"
            self._metrics.put(metric, value, self._clock.now_ms(), 1, unit)

"""Consumed capacity as metrics (Amazon DynamoDB Developer Guide, "DynamoDB metrics and dimensions")."""

from __future__ import annotations

from streamkit.clock import Clock
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.tables.store import Consumed


class CapacityMetrics:
    """Takes what tables consumed and what they refused, and reports it by table and by global index."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._known: dict[tuple[str, str, str | None], Metric] = {}

    def __call__(self, consumed: Consumed) -> None:
        """Report it."""
        now_ms = self._clock.now_ms()
        for name, value in (
            ("ConsumedReadCapacityUnits", consumed.read),
            ("ConsumedWriteCapacityUnits", consumed.write),
            ("ReadThrottleEvents", consumed.refused_reads),
            ("WriteThrottleEvents", consumed.refused_writes),
        ):
            if value:
                self._metrics.put(self._metric(name, consumed.table, consumed.index), value, now_ms, 1, "Count")

    def _metric(self, name: str, table: str, index: str | None) -> Metric:
        metric = self._known.get((name, table, index))
        if metric is None:
            dimensions = (
                {"TableName": table} if index is None else {"TableName": table, "GlobalSecondaryIndexName": index}
            )
            metric = self._known[name, table, index] = Metric.of("AWS/DynamoDB", name, **dimensions)
        return metric

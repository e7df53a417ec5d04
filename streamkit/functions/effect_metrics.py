"""What mappings send, put and delete in their commits, in the metrics of the queues, streams and tables they are of."""

from __future__ import annotations

from streamkit.clock import Clock
from streamkit.errors import ConditionFailedError, TransactionCanceledError
from streamkit.functions.effects import Effects, EffectStore
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.queues.queue_metrics import QueueMetrics
from streamkit.queues.store import QueueStore
from streamkit.streams.stream_metrics import PutMetrics
from streamkit.tables.table_metrics import TableMetrics


class MeasuredEffects:
    """An ``EffectStore`` whose commits are counted as if each had been made through handles."""

    def __init__(self, effects: EffectStore, queues: QueueStore, clock: Clock, metrics: Metrics) -> None:
        self._effects = effects
        self._store = queues
        self._clock = clock
        self._metrics = metrics
        self._queues: dict[str, QueueMetrics] = {}
        self._streams: dict[str, PutMetrics] = {}

    @property
    def limits(self) -> Limits:
        """See EffectStore."""
        return self._effects.limits

    async def commit(self, effects: Effects) -> None:
        """See EffectStore."""
        began_ms = self._clock.now_ms()
        try:
            await self._effects.commit(effects)
        except (ConditionFailedError, TransactionCanceledError) as error:
            TableMetrics.refused(error, (*effects.writes, *effects.progress), self._clock, self._metrics)
            raise
        for queue, entries in effects.sends:
            self._queue(queue).committed(entries)
        for queue, handles in effects.deletes:
            self._queue(queue).deleted(len(handles))
        for stream, records in effects.puts:
            metrics = self._streams.get(stream)
            if metrics is None:
                metrics = self._streams[stream] = PutMetrics(stream, self._clock, self._metrics)
            metrics.put("PutRecords", [len(record.data) for record in records], None, began_ms)

    def _queue(self, name: str) -> QueueMetrics:
        metrics = self._queues.get(name)
        if metrics is None:
            metrics = self._queues[name] = QueueMetrics(name, self._store, self._clock, self._metrics)
        return metrics

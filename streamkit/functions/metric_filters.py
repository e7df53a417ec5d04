"""Metric filters on a stream or a queue: an event source mapping whose sink is the kit's metrics.

Follows ``PutMetricFilter`` of the CloudWatch Logs API reference, with a stream or a queue for a log group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from streamkit.clock import Clock
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.sink import SinkBatch
from streamkit.metrics.filtering import FilterCounts, Filtering
from streamkit.metrics.metric_filter import MetricFilter
from streamkit.metrics.window import Metrics
from streamkit.queues.message import Message
from streamkit.queues.queue import Queue
from streamkit.streams.lease import Start
from streamkit.streams.record import Record
from streamkit.streams.stream import Stream

FLUSH_MS = 5_000
"""How long a stream's events may wait for their samples; so late are metrics, and so far back is a checkpoint."""
MAX_EVENTS = 10_000
"""Of a lane that wait; more are put at once."""
MAX_CHARACTERS = 8_000_000
"""The same of their text."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """A line at its instant."""

    timestamp_ms: int
    line: str


def metric_filters(
    name: str,
    source: Stream[Any] | Queue[Any],
    filters: Iterable[MetricFilter],
    *,
    starting_position: Start | datetime = "LATEST",
    batch_size: int | None = None,
) -> EventSourceMapping:
    """A mapping that makes samples of what matches: ``kit.start(metric_filters("errors", logs, [MetricFilter(...)]))``.

    Each record or message is one event: JSON, or a line of text (one that is JSON text, too). Samples are at the
    instant when it arrived at the stream, or was sent to the queue. The messages of a queue are deleted, as a mapping
    does, whether or not a filter matches.

    Delivery: at least once. A stream's checkpoint moves, and a queue's messages go, after their samples are stored, so
    no crash takes samples away; those of the last seconds before a crash may be counted twice. Where metrics are only
    in memory, they end with the process, and the checkpoint of a durable stream does not move back for them.

    Args:
        name: The mapping's; one of the same name goes on where this one stopped.
        source: Of the kit it is started in.
        filters: 1 to 100, with different names.
        starting_position: Of a stream, where a name begins that was never there before: like CloudWatch's, filters
            see what comes after them.
        batch_size: Records or messages that are read together; as of ``EventSourceMapping``.

    Raises:
        ValidationError: An argument is not valid.
    """
    sink = MetricsSink(filters, source._metrics, source._clock)

    async def lines(items: Sequence[Record[Any] | Message[Any]]) -> list[Event]:
        return [_event(item) for item in items]

    return EventSourceMapping(
        name,
        source=source,
        function=lines,
        sink=sink,
        starting_position=starting_position if isinstance(source, Stream) else "TRIM_HORIZON",
        batch_size=batch_size,
    )


class MetricsSink:
    """A ``BufferingSink`` that puts what filters make of events, and has it stored before the checkpoint moves."""

    def __init__(self, filters: Iterable[MetricFilter], metrics: Metrics, clock: Clock) -> None:
        self._filtering = Filtering(filters, metrics)
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[str, list[Event]] = {}
        self._characters: dict[str, int] = {}
        self._due_ms: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"MetricsSink({', '.join(each.name for each in self._filtering.filters)})"

    @property
    def counts(self) -> FilterCounts:
        """What the filters have done since it was made."""
        return self._filtering.counts

    async def write(self, batch: SinkBatch) -> None:
        """See Sink. Nothing is put before the flush: so the events of a minute are together, and none is put twice."""
        self._waiting.setdefault(batch.lane, []).extend(batch.values)
        characters = self._characters.get(batch.lane, 0) + sum(len(event.line) for event in batch.values)
        self._characters[batch.lane] = characters
        due_ms = self._due_ms.setdefault(batch.lane, batch.now_ms + FLUSH_MS)
        if len(self._waiting[batch.lane]) >= MAX_EVENTS or characters >= MAX_CHARACTERS:
            self._due_ms[batch.lane] = min(due_ms, batch.now_ms)

    def due_ms(self, lane: str) -> int | None:
        """See BufferingSink."""
        return self._due_ms.get(lane)

    async def flush(self, lane: str) -> None:
        """See BufferingSink. If what was put cannot be stored, it is not put again by the next try."""
        events = self._waiting.pop(lane, [])
        self._characters.pop(lane, None)
        if events:
            self._filtering.put([(event.timestamp_ms, event.line) for event in events], self._clock.now_ms())
        await self._metrics.flush()
        self._due_ms.pop(lane, None)

    def forget(self, lane: str) -> None:
        """See BufferingSink."""
        for kept in (self._waiting, self._characters, self._due_ms):
            kept.pop(lane, None)


def _event(item: Record[Any] | Message[Any]) -> Event:
    if isinstance(item, Record):
        return Event(item.arrival_ms, _line(item.data))
    return Event(round(item.sent.timestamp() * 1000), _line(item.body))


def _line(data: bytes) -> str:
    """The text of a record; of one that is a string in JSON, that string."""
    if data[:1] == b'"':
        try:
            return msgspec.json.decode(data, type=str)
        except msgspec.DecodeError:
            pass  # A line that begins with a quotation mark.
    return data.decode(errors="replace")

"""What a queue's handle counts, and what can be measured of the queue.

Follows "Available CloudWatch metrics for Amazon SQS" (Amazon SQS Developer Guide).

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from streamkit.clock import Clock
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import Column
from streamkit.metrics.series import MAX_COLLECTED
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.queues import content
from streamkit.queues.store import QueueDescription, QueueStore, SendEntry, SendResult


def queue_metric(queue: str, name: str) -> Metric:
    """A metric of a queue."""
    return Metric.of("AWS/SQS", name, QueueName=queue)


class QueueMetrics:
    """The counters of one handle, and the gauges of its queue, which are exact where SQS's are approximate."""

    def __init__(self, queue: str, store: QueueStore, clock: Clock, metrics: Metrics) -> None:
        self._queue = queue
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._put = metrics.put
        self._seen: tuple[int, QueueDescription | None] = (0, None)
        """The queue as it was at a look of all gauges."""
        self._sent = metrics.rows(
            Column(queue_metric(queue, "NumberOfMessagesSent"), "Count"),
            Column(queue_metric(queue, "SentMessageSize"), "Bytes", "values"),
        )
        self._duplicates = queue_metric(queue, "NumberOfDeduplicatedSentMessages")
        self._received = queue_metric(queue, "NumberOfMessagesReceived")
        self._empty = queue_metric(queue, "NumberOfEmptyReceives")
        self._deleted = queue_metric(queue, "NumberOfMessagesDeleted")
        self._register(metrics)

    def _register(self, metrics: Metrics) -> None:
        gauges: dict[str, Callable[[QueueDescription], float | None]] = {
            "ApproximateNumberOfMessagesVisible": lambda seen: seen.visible,
            "ApproximateNumberOfMessagesNotVisible": lambda seen: seen.not_visible,
            "ApproximateNumberOfMessagesDelayed": lambda seen: seen.delayed,
            "ApproximateAgeOfOldestMessage": lambda seen: self._age(seen.oldest_ms),
            "ApproximateNumberOfGroupsWithInflightMessages": lambda seen: seen.groups_in_flight,
            "ApproximateNumberOfNoisyGroups": lambda seen: seen.noisy_groups,
            "ApproximateNumberOfMessagesVisibleInQuietGroups": lambda seen: seen.visible_in_quiet_groups,
            "ApproximateNumberOfMessagesNotVisibleInQuietGroups": lambda seen: seen.not_visible_in_quiet_groups,
            "ApproximateNumberOfMessagesDelayedInQuietGroups": lambda seen: seen.delayed_in_quiet_groups,
            "ApproximateAgeOfOldestMessageInQuietGroups": lambda seen: self._age(seen.oldest_in_quiet_groups_ms),
        }
        for name, of in gauges.items():
            unit: Unit = "Seconds" if "Age" in name else "Count"
            metrics.register_gauge(queue_metric(self._queue, name), self._reader(of), unit)

    def sent(self, entries: Sequence[SendEntry], results: Sequence[SendResult]) -> None:
        """A send was answered."""
        sizes = [_size_of(entry) for entry, result in zip(entries, results, strict=True) if result.error is None]
        if not sizes:
            return
        now_ms = self._clock.now_ms()
        self._sent.add((len(sizes), sizes), now_ms)
        if len(sizes) > MAX_COLLECTED:
            self._sent.spread()
        if duplicates := len([1 for result in results if result.duplicate]):
            self._put(self._duplicates, duplicates, now_ms, 1, "Count")

    def committed(self, entries: Sequence[SendEntry]) -> None:
        """Messages were sent by a commit, which does not tell duplicates."""
        self._sent.add((len(entries), [_size_of(entry) for entry in entries]), self._clock.now_ms())

    def received(self, count: int) -> None:
        """A receive was answered."""
        if count:
            self._put(self._received, count, self._clock.now_ms(), 1, "Count")
        else:
            self._put(self._empty, 1, self._clock.now_ms(), 1, "Count")

    def deleted(self, count: int) -> None:
        """So many deletes succeeded."""
        # AWS: repeats included.
        if count:
            self._put(self._deleted, count, self._clock.now_ms(), 1, "Count")

    def shown(self) -> tuple[dict[str, int | None], str]:
        """What was counted since the kit was opened, and a picture of the depth if it was measured, or of what came."""
        from streamkit.metrics.picture import level, total, traffic

        def named(name: str) -> Callable[[], Metric]:
            return partial(queue_metric, self._queue, name)

        counts = {
            word.lower(): total(self._metrics, named(f"NumberOfMessages{word}"))
            for word in ("Sent", "Received", "Deleted")
        }
        now_ms, depth = self._clock.now_ms(), named("ApproximateNumberOfMessagesVisible")
        picture = level(self._metrics, now_ms, depth, "Maximum", "visible messages")
        return counts, picture or traffic(self._metrics, now_ms, named("NumberOfMessagesSent"), "messages")

    def _reader(self, of: Callable[[QueueDescription], float | None]) -> Callable[[], Awaitable[float | None]]:
        async def read() -> float | None:
            look, seen = self._seen
            if seen is None or look != self._metrics.looks:
                look = self._metrics.looks
                (seen,) = await self._store.describe_queues([self._queue])
                self._seen = look, seen
            return of(seen)

        return read

    def _age(self, oldest_ms: int | None) -> float | None:
        # AWS: nothing is said of an empty queue.
        return None if oldest_ms is None else max(0, self._clock.now_ms() - oldest_ms) / 1000


def _size_of(entry: SendEntry) -> int:
    return content.size_of(entry.body, entry.attributes) if entry.attributes else len(entry.body)

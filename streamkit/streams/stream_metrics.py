"""What a stream's handle and its readers publish: one update per call of the store.

Follows "Monitoring the Amazon Kinesis Data Streams service with Amazon CloudWatch" (Developer Guide).

HOT: `python -m benchmarks --only append` and `--only read`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from streamkit.clock import Clock
from streamkit.errors import NotFoundError, ThroughputExceededError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import Column, Kind, Rows
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.streams.store import PutResult, PutResults, RecordBatch

Operation = Literal["PutRecord", "PutRecords"]

_Shape = tuple[tuple[str, Unit, Kind], ...]

_INCOMING: _Shape = (("IncomingRecords", "Count", "value"), ("IncomingBytes", "Bytes", "value"))
_PUTS: dict[Operation, _Shape] = {
    "PutRecord": (
        *_INCOMING,
        ("PutRecord.Bytes", "Bytes", "values"),
        ("PutRecord.Latency", "Milliseconds", "counted"),
        ("PutRecord.Success", "Count", "values"),
    ),
    "PutRecords": (
        *_INCOMING,
        ("PutRecords.Bytes", "Bytes", "value"),
        ("PutRecords.Latency", "Milliseconds", "value"),
        ("PutRecords.Success", "Count", "value"),
        ("PutRecords.Records", "Count", "value"),
        ("PutRecords.TotalRecords", "Count", "value"),
        ("PutRecords.SuccessfulRecords", "Count", "value"),
        ("PutRecords.FailedRecords", "Count", "value"),
        ("PutRecords.ThrottledRecords", "Count", "value"),
    ),
}
_GETS: _Shape = (
    ("GetRecords.Records", "Count", "value"),
    ("GetRecords.Bytes", "Bytes", "value"),
    ("GetRecords.Success", "Count", "value"),
    ("GetRecords.IteratorAgeMilliseconds", "Milliseconds", "value"),
    ("GetRecords.Latency", "Milliseconds", "values"),
)


def stream_metric(stream: str, name: str) -> Metric:
    """A metric of a stream.

    Raises:
        ValidationError: it is no name for a metric.
    """
    return Metric.of("AWS/Kinesis", name, StreamName=stream)


class PutMetrics:
    """What is put, through handles and in commits."""

    def __init__(self, stream: str, clock: Clock, metrics: Metrics) -> None:
        self._stream = stream
        self._clock = clock
        self._metrics = metrics
        # Not made before a put: only then the name is one that a stream, and so a metric, can have.
        self._rows: dict[Operation, Rows] = {}

    def put(
        self, operation: Operation, sizes: Sequence[int], results: Sequence[PutResult] | None, began_ms: int
    ) -> None:
        """A call that put so many bytes each was answered; None: every record of it was stored."""
        now_ms = self._clock.now_ms()
        latency_ms = max(0, now_ms - began_ms)
        total = len(sizes)
        throttled = failed = 0
        incoming = sizes
        ok = [1] * total if operation == "PutRecord" else []
        if results is not None and not isinstance(results, PutResults):
            incoming = []
            for at, (size, result) in enumerate(zip(sizes, results, strict=True)):
                if result.error is None:
                    if not result.duplicate:
                        incoming.append(size)
                    continue
                if isinstance(result.error, ThroughputExceededError):
                    throttled += 1
                else:
                    failed += 1
                if ok:
                    ok[at] = 0
            if throttled:
                throttles = stream_metric(self._stream, "WriteProvisionedThroughputExceeded")
                self._metrics.put(throttles, throttled, now_ms, 1, "Count")
        done = total - throttled - failed
        stored = len(incoming)
        size_of = sum(incoming)
        if operation == "PutRecord":
            row = (stored, size_of, sizes if stored == total else incoming, (latency_ms, total), ok)
            self._of(operation).add(row, now_ms)
        else:
            self._of(operation).add(
                (stored, size_of, size_of, latency_ms, 1 if done else 0, done, total, done, failed, throttled), now_ms
            )

    def failed(self, operation: Operation, count: int, error: Exception) -> None:
        """A call of so many records raised an error. What the caller did wrong is none of the stream's failures."""
        if isinstance(error, (NotFoundError, ValidationError)):
            return
        now_ms = self._clock.now_ms()
        success = stream_metric(self._stream, f"{operation}.Success")
        self._metrics.put(success, 0, now_ms, count if operation == "PutRecord" else 1, "Count")
        if operation == "PutRecords":
            self._metrics.put(stream_metric(self._stream, "PutRecords.FailedRecords"), count, now_ms, 1, "Count")

    def _of(self, operation: Operation) -> Rows:
        rows = self._rows.get(operation)
        if rows is None:
            rows = self._rows[operation] = _rows(self._metrics, self._stream, _PUTS[operation])
        return rows


class GetMetrics:
    """What readers of a stream read."""

    def __init__(self, stream: str, clock: Clock, metrics: Metrics) -> None:
        self._stream = stream
        self._clock = clock
        self._metrics = metrics
        self._rows: Rows | None = None

    def began_ms(self) -> int:
        """A read begins."""
        return self._clock.now_ms()

    def got(self, batch: RecordBatch, began_ms: int, *, waited: bool) -> None:
        """A read was answered. What it waited for records, until the first arrived, is no latency of the stream's."""
        now_ms = self._clock.now_ms()
        records = batch.records
        latency: tuple[int, ...] = ()
        if records:
            latency = (max(0, now_ms - max(began_ms, records[0].arrival_ms)),)
        elif not waited:
            latency = (max(0, now_ms - began_ms),)
        if self._rows is None:
            self._rows = _rows(self._metrics, self._stream, _GETS)
        size = sum([len(record.data) for record in records])
        self._rows.add((len(records), size, 1, batch.millis_behind_latest, latency), now_ms)

    def failed(self, error: Exception) -> None:
        """A read raised an error."""
        if isinstance(error, (NotFoundError, ValidationError)):
            return
        now_ms = self._clock.now_ms()
        self._metrics.put(stream_metric(self._stream, "GetRecords.Success"), 0, now_ms, 1, "Count")
        if isinstance(error, ThroughputExceededError):
            throttles = stream_metric(self._stream, "ReadProvisionedThroughputExceeded")
            self._metrics.put(throttles, 1, now_ms, 1, "Count")


def _rows(metrics: Metrics, stream: str, shape: _Shape) -> Rows:
    return metrics.rows(*(Column(stream_metric(stream, name), unit, kind) for name, unit, kind in shape))

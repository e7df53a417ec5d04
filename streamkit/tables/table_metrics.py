"""What a table's handle publishes of its calls.

Follows "Metrics and dimensions" (Amazon DynamoDB Developer Guide). What capacity its calls consume is told by the
engine, see ``capacity_metrics``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Literal, TypeVar

from streamkit.clock import Clock
from streamkit.errors import (
    ConditionFailedError,
    NotFoundError,
    StorageError,
    StreamKitError,
    ThroughputExceededError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import Latencies
from streamkit.metrics.window import Metrics
from streamkit.tables.store import ItemPage, TableStore
from streamkit.tables.write import Write

R = TypeVar("R")

Operation = Literal[
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "GetItem",
    "BatchGetItem",
    "BatchWriteItem",
    "Query",
    "Scan",
    "TransactWriteItems",
    "TransactGetItems",
]

_USER_ERRORS = Metric("AWS/DynamoDB", "UserErrors")
"""Of an account, and so of a kit."""


def table_metric(table: str, name: str, **dimensions: str) -> Metric:
    """A metric of a table, such as ``ConditionalCheckFailedRequests``; those of a call with ``Operation="Query"``."""
    return Metric.of("AWS/DynamoDB", name, TableName=table, **dimensions)


class TableMetrics:
    """The calls of some tables: one update for each that goes well, of a query or scan one more."""

    def __init__(self, tables: Iterable[str], clock: Clock, metrics: Metrics) -> None:
        self._tables = tuple(dict.fromkeys(tables))
        self._clock = clock
        self._metrics = metrics
        self._known: dict[tuple[str, str], tuple[Metric, ...]] = {}

    async def call(self, operation: Operation, answer: Awaitable[R], writes: Sequence[Write] = ()) -> R:
        """What the store answers, and what is to be told of that.

        Raises:
            StreamKitError: what the store raises.
        """
        began_ms = self._clock.now_ms()
        try:
            found = await answer
        except StreamKitError as error:
            self.failed(operation, error, writes)
            raise
        now_ms = self._clock.now_ms()
        for metric in self._of("SuccessfulRequestLatency", operation):
            self._metrics.put(metric, max(0, now_ms - began_ms), now_ms, 1, "Milliseconds")
        if isinstance(found, ItemPage):
            self._each("ReturnedItemCount", operation, len(found.items))
        return found

    def latencies(self, operation: Operation) -> Latencies:
        """Where a call that is too quick for ``call`` puts how long it took; of the first table."""
        return self._metrics.latencies(self._of("SuccessfulRequestLatency", operation)[0])

    def failed(self, operation: Operation, error: StreamKitError, writes: Sequence[Write] = ()) -> None:
        """A call raised this."""
        if isinstance(error, (ConditionFailedError, TransactionCanceledError)):
            self.refused(error, writes, self._clock, self._metrics)
        elif isinstance(error, ThroughputExceededError):
            self._each("ThrottledRequests", operation, 1)
        elif isinstance(error, StorageError):
            self._each("SystemErrors", operation, 1)
        elif isinstance(error, (ValidationError, NotFoundError)):
            self._metrics.put(_USER_ERRORS, 1, self._clock.now_ms(), 1, "Count")

    @staticmethod
    def refused(
        error: ConditionFailedError | TransactionCanceledError, writes: Sequence[Write], clock: Clock, metrics: Metrics
    ) -> None:
        """Conditions were false."""
        if isinstance(error, ConditionFailedError):
            tables = [error.table]
        else:
            failed = zip(writes, error.reasons, strict=False)
            tables = [write.table for write, reason in failed if reason == "ConditionalCheckFailed"]
        for table in tables:
            metrics.put(table_metric(table, "ConditionalCheckFailedRequests"), 1, clock.now_ms(), 1, "Count")

    def _each(self, name: str, operation: Operation, value: float) -> None:
        for metric in self._of(name, operation):
            self._metrics.put(metric, value, self._clock.now_ms(), 1, "Count")

    def _of(self, name: str, operation: Operation) -> tuple[Metric, ...]:
        known = self._known.get((name, operation))
        if known is None:
            known = tuple(table_metric(table, name, Operation=operation) for table in self._tables)
            self._known[name, operation] = known
        return known


def register_provisioned(table: str, store: TableStore, metrics: Metrics) -> None:
    """Have what a table is provisioned with measured, as long as it is."""

    def reader(of: Literal["read", "write"]) -> None:
        async def read() -> float | None:
            (described,) = await store.describe_tables([table])
            capacity = described.attributes.capacity
            if capacity is None or capacity.mode != "PROVISIONED":
                return None
            return capacity.read if of == "read" else capacity.write

        metrics.register_gauge(table_metric(table, f"Provisioned{of.title()}CapacityUnits"), read, "Count")

    reader("read")
    reader("write")

"""What becomes of a batch: the retry plan, one write per item, the on-failure document. Pure.

Follows the AWS Lambda Developer Guide ("Using AWS Lambda with Amazon Kinesis"): retries, bisecting, discarding.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from streamkit.errors import FunctionError
from streamkit.streams.record import Record
from streamkit.tables.item import Key, TableSchema
from streamkit.tables.write import Put, Update, Write, updated

Reason = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]
_ERROR_CHARACTERS = 1_000


class Attempt(msgspec.Struct, frozen=True):
    """Records ``start`` to ``end`` (not included) that are to be tried together."""

    start: int
    end: int
    failures: int = 0


class RetryPlan:
    """Which records of a batch are tried next, until every one is settled, in order.

    A batch is tried whole. When it fails it is tried again, up to ``maximum_retry_attempts`` times (-1: for ever); with
    ``bisect`` it is split in two instead, which counts as no retry, down to one record. What is still failing then is
    discarded.
    """

    def __init__(self, count: int, *, maximum_retry_attempts: int, bisect: bool) -> None:
        self._maximum = maximum_retry_attempts
        self._bisect = bisect
        self._attempts = [Attempt(0, count)] if count else []

    @property
    def next(self) -> Attempt | None:
        """What to try now; None: everything is settled."""
        return self._attempts[0] if self._attempts else None

    def settle(self, count: int) -> None:
        """The first ``count`` records of the attempt are done or discarded; the rest starts afresh."""
        attempt = self._attempts.pop(0)
        if attempt.start + count < attempt.end:
            self._attempts.insert(0, Attempt(attempt.start + count, attempt.end))

    def fail(self, failed: int, *, split: bool = False) -> bool:
        """The first ``failed`` records of the attempt failed together. True if they are to be discarded now.

        ``split``: they are what an answer left of a larger batch; with ``bisect`` that was the split.
        """
        attempt = self._attempts[0]
        if self._bisect and split:
            # AWS: with ReportBatchItemFailures the split point is the returned number; only the remainder is retried.
            return False
        if self._bisect and failed > 1:
            self._attempts.pop(0)
            middle = attempt.start + failed // 2
            halves = [Attempt(attempt.start, middle), Attempt(middle, attempt.start + failed)]
            if attempt.start + failed < attempt.end:
                halves.append(Attempt(attempt.start + failed, attempt.end))
            self._attempts[:0] = halves
            return False
        failures = attempt.failures + 1
        if self._maximum != -1 and failures > self._maximum:
            return True
        self._attempts[0] = msgspec.structs.replace(attempt, failures=failures)
        return False


def coalesce(writes: Sequence[Write], schema_of: Callable[[str], TableSchema]) -> list[Write]:
    """The same effect with one write per item, in the order of the items' first writes.

    Raises:
        FunctionError: two writes of one item cannot be one, because one has a condition or is a Check.
    """
    merged: dict[tuple[str, Key], Write] = {}
    following: dict[tuple[str, Key], list[Update]] = {}
    for write in writes:
        schema = schema_of(write.table)
        place = (write.table, schema.key_of(write.item if isinstance(write, Put) else write.key))
        before = merged.get(place)
        if before is None:
            merged[place] = write
        elif isinstance(before, Update) and isinstance(write, Update):
            # Joined once at the end: thousands of one counter would be copied again with each.
            _check_unconditional(schema, before, write)
            following.setdefault(place, []).append(write)
        else:
            merged[place] = _merge(schema, before, write)
            following.pop(place, None)
    for place, updates in following.items():
        first = merged[place]
        assert isinstance(first, Update)
        merged[place] = msgspec.structs.replace(first, then=(*first.then, *updates))
    return list(merged.values())


def _check_unconditional(schema: TableSchema, first: Write, second: Write) -> None:
    if first.condition is not None or second.condition is not None:
        raise FunctionError(
            f"a batch writes one item of table {schema.name!r} more than once, and one of the writes has a condition: "
            "use batch_size=1, or do without the condition"
        )


def _merge(schema: TableSchema, first: Write, second: Write) -> Write:
    """Two writes as one, of which not both are updates."""
    _check_unconditional(schema, first, second)
    if not isinstance(second, Update):
        return second
    item = dict(first.item) if isinstance(first, Put) else None
    return Put(updated(schema, item, second), table=first.table)


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one shard that are given up, and why."""

    function: str
    stream: str
    request_id: str
    """Of the last invocation; its own if there was none."""
    reason: Reason
    invocations: int
    """How often they were tried."""
    error: Exception | None = None
    """What they failed with last."""
    reported: bool = False
    """The failure was in the answer, and nothing was raised."""


def on_failure_document(
    discarded: Discarded, records: Sequence[Record[Any]], now_ms: int, *, payload: bool = True
) -> dict[str, Any]:
    """What the on-failure destination gets: Lambda's document, and the records and the error besides.

    Without ``payload``, for a destination that it is too large for, the records are left out, and what is beyond the
    first 1,000 characters of the error.
    """
    first, last = records[0], records[-1]
    error = discarded.error
    document: dict[str, Any] = {
        "version": "1.0",
        "timestamp": _iso(now_ms),
        "requestContext": {
            "requestId": discarded.request_id,
            "functionArn": discarded.function,
            "condition": discarded.reason,
            "approximateInvokeCount": discarded.invocations,
        },
        "KinesisBatchInfo": {
            "shardId": first.shard_id,
            "startSequenceNumber": str(first.sequence_number),
            "endSequenceNumber": str(last.sequence_number),
            "approximateArrivalOfFirstRecord": _iso(first.arrival_ms),
            "approximateArrivalOfLastRecord": _iso(last.arrival_ms),
            "batchSize": len(records),
            "streamArn": discarded.stream,
        },
    }
    if payload:
        document["payload"] = {
            "Records": [
                {
                    "partitionKey": record.partition_key,
                    "sequenceNumber": str(record.sequence_number),
                    "approximateArrivalTimestamp": record.arrival_ms / 1000,
                    "data": base64.b64encode(record.data).decode(),
                }
                for record in records
            ]
        }
    # AWS: there is no response to speak of when a record was too old to be tried.
    if discarded.reason != "RecordAgeExceeded":
        document["responseContext"] = {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": None if discarded.reported else "Unhandled",
        }
    if error is not None:
        message = str(error) if payload else str(error)[:_ERROR_CHARACTERS]
        # What has no UTF-8 form has none in JSON.
        message = message.encode(errors="replace").decode()
        document["error"] = {"type": error_type_of(error), "message": message}
    return document


def error_type_of(error: Exception) -> str:
    """What Lambda calls it: its class, or the runtime's own word."""
    return error.error_type if isinstance(error, FunctionError) else type(error).__name__


def _iso(instant_ms: int) -> str:
    instant = datetime.fromtimestamp(instant_ms / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Every exception streamkit raises, one tree.

::

    StreamKitError
    ├── ValidationError            an argument is wrong; the message says what to change
    │   ├── InvalidPatternError    an event pattern is wrong; carries the path to the fault
    │   ├── ExpressionError        an expression on items is wrong; carries the position
    │   ├── EncodeError            a value does not fit the handle's type
    │   ├── ReceiptHandleInvalidError
    │   └── MessageNotInflightError
    ├── NotFoundError              no such stream, shard, queue, table or message
    ├── AlreadyExistsError         the name is taken (by something that differs)
    ├── DecodeError                stored bytes do not fit the handle's type
    ├── ExpiredIteratorError       a shard iterator is older than five minutes
    ├── ConditionFailedError       a conditional write was refused; nothing was written
    ├── TransactionCanceledError   one of several writes was refused; none was written
    ├── IdempotentParameterMismatchError  a token of a write was used for another one
    ├── LeaseLostError             somebody else owns the shard now; the checkpoint was refused
    ├── ThroughputExceededError    retryable
    ├── OverLimitError             retryable: a queue has as many messages in flight as it may have
    ├── StaleAggregateError        retryable, once it is packed again
    ├── FunctionError              a mapping's function failed for good
    ├── ServiceFailedError         a background service of a kit failed
    ├── ActionError                what an alarm was to do could not be done
    ├── ClosedError                the kit or the engine is closed
    ├── ReadOnlyError              it was opened with ?mode=ro, and can be looked at but not changed
    ├── MissingExtraError          an optional dependency is not installed
    ├── RecordingError             a recording of a stream is damaged; names file and line
    └── StorageError               the disk or what is on it
        ├── DirectoryInUseError    another process owns the directory
        ├── UnknownFormatError     written by another version
        ├── CorruptLogError        damage that is not a torn tail; names file and offset
        ├── DiskFullError          retryable, when there is room again
        └── JournalFailedError     a write or a sync failed; nothing more is acknowledged

Every error carries ``retryable`` and ``retry_after`` (seconds or None), and its facts as attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StreamKitError(Exception):
    """The root. ``except StreamKitError`` catches all that streamkit raises on purpose."""

    retryable: bool = False
    retry_after: float | None = None
    quotes_data: bool = True
    """Its text may quote what was stored, sent or returned, so that streamkit does not log it (``logs.said``)."""


class ValidationError(StreamKitError):
    """An argument is wrong. Nothing was stored."""


class InvalidPatternError(ValidationError):
    """An event pattern is not valid; ``path`` leads to the fault, ``reason`` says what is wrong there."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"event pattern is not valid at {path or 'the root'}: {reason}")


class ExpressionError(ValidationError):
    """An expression or filter pattern is not valid; ``position`` is where, from 0, ``reason`` what is wrong there."""

    def __init__(self, expression: str, position: int, reason: str) -> None:
        self.expression = expression
        self.position = position
        self.reason = reason
        begin = max(0, position - 60)
        shown = expression[begin : position + 20].replace("\n", " ").replace("\t", " ")
        super().__init__(
            f"the expression is not valid at position {position}: {reason}\n  {shown}\n  {' ' * (position - begin)}^"
        )


class EncodeError(ValidationError):
    """A value cannot be encoded as the handle's type."""


class ReceiptHandleInvalidError(ValidationError):
    """A receipt handle is malformed or belongs to another queue."""

    def __init__(self, receipt_handle: str, queue: str) -> None:
        self.receipt_handle = receipt_handle
        self.queue = queue
        super().__init__(
            f"receipt handle {receipt_handle[:40]!r} is not one of queue {queue!r}: "
            "pass the receipt_handle of a message received from this queue"
        )


class MessageNotInflightError(ValidationError):
    """The message of a receipt handle is not in flight under that handle any more."""

    def __init__(self, message_id: str, queue: str) -> None:
        self.message_id = message_id
        self.queue = queue
        super().__init__(
            f"message {message_id} of queue {queue!r} is not in flight under this receipt handle: "
            "its visibility timeout ran out or it was deleted"
        )


class NotFoundError(StreamKitError):
    """There is no such thing. ``kind`` is "stream", "shard", "consumer", "queue", "table" or "message"."""

    quotes_data = False

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"{kind} {name!r} does not exist" + (f": {hint}" if hint else ""))


class AlreadyExistsError(StreamKitError):
    """The name is taken. ``difference`` says in what the existing one differs, if that was asked."""

    quotes_data = False

    def __init__(self, kind: str, name: str, difference: str = "") -> None:
        self.kind = kind
        self.name = name
        self.difference = difference
        advice = f" with another {difference}" if difference else ": pass exist_ok=True to use it as it is"
        super().__init__(f"{kind} {name!r} exists already{advice}")


class DecodeError(StreamKitError):
    """Stored bytes do not decode as the handle's type. The bytes themselves are not lost."""


class ExpiredIteratorError(StreamKitError):
    """A shard iterator was used more than five minutes after its issue."""

    quotes_data = False

    def __init__(self, age_seconds: float) -> None:
        self.age_seconds = age_seconds
        super().__init__(
            f"the shard iterator is {age_seconds:.0f} s old and iterators live 300 s: "
            "get a new one AFTER_SEQUENCE_NUMBER of the last record read"
        )


class ConditionFailedError(StreamKitError):
    """A conditional write found its condition false. Nothing was written.

    ``item`` is what was there (ReturnValuesOnConditionCheckFailure); None: there was no item.
    """

    def __init__(self, table: str, key: object, item: dict[str, Any] | None = None) -> None:
        self.table = table
        self.key = key
        self.item = item
        super().__init__(f"the condition on item {key!r} of table {table!r} is false: nothing was written")


class TransactionCanceledError(StreamKitError):
    """At least one of several writes had a false condition. None was written.

    ``reasons`` has one entry per write, in order: ``"None"`` or ``"ConditionalCheckFailed"``; ``items`` the items that
    the failed ones found, and None for the others and where there was none.
    """

    def __init__(self, reasons: Sequence[str], items: Sequence[dict[str, Any] | None] = ()) -> None:
        self.reasons = list(reasons)
        self.items = list(items) or [None] * len(self.reasons)
        failed = [index for index, reason in enumerate(self.reasons) if reason != "None"]
        super().__init__(f"nothing was written: the condition of write {failed} of {len(self.reasons)} is false")


class IdempotentParameterMismatchError(StreamKitError):
    """Within ten minutes other writes were done with the same ``client_request_token``. Nothing was written."""

    def __init__(self, client_request_token: str) -> None:
        self.client_request_token = client_request_token
        super().__init__(
            f"client request token {client_request_token!r} was used for other writes less than ten minutes ago, and "
            "nothing was written: repeat a call with exactly the same writes, and give each new one a token of its own"
        )


class LeaseLostError(StreamKitError):
    """Another worker took the shard's lease. The refused checkpoint is not stored."""

    quotes_data = False

    def __init__(self, consumer: str, shard_id: str) -> None:
        self.consumer = consumer
        self.shard_id = shard_id
        super().__init__(
            f"consumer {consumer!r} lost the lease on {shard_id} to another worker of the same name: "
            "stop processing this shard; the new owner goes on from the last checkpoint"
        )


class ThroughputExceededError(StreamKitError):
    """The limit of a shard, or a table's capacity, refused a write or a read. Nothing of it happened; try it again."""

    quotes_data = False
    retryable = True

    def __init__(self, what: str, limit: str = "throughput", retry_after: float | None = None) -> None:
        self.what = what
        self.limit = limit
        self.retry_after = retry_after
        when = "" if retry_after is None else f" in {retry_after:.2f} s"
        super().__init__(f"{what} is over its limit ({limit}): try again{when}, or more slowly")


class OverLimitError(StreamKitError):
    """A standard queue has as many messages in flight as it may have. Nothing was received."""

    quotes_data = False
    retryable = True

    def __init__(self, queue: str, limit: int) -> None:
        self.queue = queue
        self.limit = limit
        super().__init__(
            f"queue {queue!r} has {limit:,} messages in flight, which is its limit: delete what is handled, or wait"
        )


class StaleAggregateError(StreamKitError):
    """Records were packed for shards that have others instead now, or some of an aggregate's were stored before.

    Nothing of the call was stored. ``last_sequence`` is the last that the stream has of the producer, durable or not
    yet; -1: none.
    """

    quotes_data = False
    retryable = True

    def __init__(self, stream: str, reason: str, last_sequence: int = -1) -> None:
        self.stream = stream
        self.last_sequence = last_sequence
        super().__init__(
            f"what was packed for stream {stream!r} does not fit it any more: {reason}; nothing was stored: "
            "describe the stream and pack it again"
        )


class FunctionError(StreamKitError):
    """A function failed, timed out, or returned what its mapping cannot use.

    ``error_type`` is Lambda's word for what the runtime found and the function did not raise: ``"Sandbox.Timedout"``,
    ``"Runtime.ExitError"``, ``"Runtime.MarshalError"``.
    """

    def __init__(self, message: str, error_type: str = "FunctionError") -> None:
        self.error_type = error_type
        super().__init__(message)

    @property
    def quotes_data(self) -> bool:  # type: ignore[override]
        """Only if it passes on what somebody else said."""
        return self.__cause__ is not None


class ActionError(StreamKitError):
    """What an alarm was to do could not be done. ``retryable``: it may be possible later."""

    def __init__(self, reason: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        self.retryable = retryable
        self.retry_after = retry_after
        super().__init__(reason)


class ServiceFailedError(StreamKitError):
    """A background service stopped with an error, which is the ``__cause__``."""

    def __init__(self, service: str, cause: BaseException) -> None:
        self.service = service
        super().__init__(f"service {service!r} failed: {type(cause).__name__}: {cause}")


class ClosedError(StreamKitError):
    """The kit, engine, producer or consumer is closed."""

    quotes_data = False

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is closed: open it again to go on")


class ReadOnlyError(StreamKitError):
    """What was opened with ``?mode=ro`` cannot be changed. ``action`` is what was asked for; nothing of it happened."""

    quotes_data = False

    def __init__(self, url: str, action: str) -> None:
        self.url = url
        self.action = action
        super().__init__(
            f"cannot {action}: {url} is read-only; do it in the process that owns the directory, or, if there is none, "
            "open it without ?mode=ro"
        )


class MissingExtraError(StreamKitError):
    """An optional dependency is missing; ``extra`` is what to install."""

    quotes_data = False

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs an optional dependency: pip install 'streamkit[{extra}]'")


class StorageError(StreamKitError):
    """The data directory could not be used."""

    quotes_data = False


class DirectoryInUseError(StorageError):
    """Another process, event loop or kit owns the directory; ``holder`` describes it. See docs/services.md."""

    def __init__(self, path: str, holder: str) -> None:
        self.path = path
        self.holder = holder
        super().__init__(
            f"{path} is in use by {holder}: one process owns a data directory at a time. Close that one first; or keep "
            "it as the owner, and have the others look on with ?mode=ro and put through it (over HTTP, say); a web "
            "server that owns it runs one worker process (--workers 1). See docs/services.md"
        )


class UnknownFormatError(StorageError):
    """The directory was written by a version this one does not know."""

    def __init__(self, path: str, found: object, known: object) -> None:
        self.path = path
        super().__init__(
            f"{path} has storage format {found!r}, and this streamkit reads {known!r}: use the version that wrote it"
        )


class CorruptLogError(StorageError):
    """Stored bytes are damaged, and not as a crash leaves them. Nothing was cut or skipped."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        self.path = path
        self.offset = offset
        self.reason = reason
        super().__init__(
            f"{path} is damaged at byte {offset}: {reason}; nothing was changed, restore this file from a backup"
        )


class DiskFullError(StorageError):
    """There was no room for a write. Nothing of it was acknowledged; reading goes on."""

    retryable = True

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"no space left for {path}: nothing was acknowledged; free some space and try again")


class JournalFailedError(StorageError):
    """A write or sync of the journal failed, so nothing more is acknowledged until the directory is opened again."""

    def __init__(self, path: str, cause: BaseException) -> None:
        self.path = path
        super().__init__(
            f"the journal {path} failed ({type(cause).__name__}: {cause}): nothing after the last acknowledged "
            "change is promised; close and open the directory again, which recovers all that was acknowledged"
        )
        self.__cause__ = cause


class RecordingError(StreamKitError):
    """A recording of a stream cannot be replayed. Nothing of it was put."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        self.path = path
        self.line = line
        """From 1; the one behind the last if the file was cut short."""
        self.reason = reason
        super().__init__(f"{path}, line {line}: {reason}")

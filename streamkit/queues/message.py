"""What a queue holds, and what its users hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from streamkit.clock import to_datetime
from streamkit.codecs import Codec
from streamkit.errors import ValidationError

T = TypeVar("T")


class MessageAttribute(msgspec.Struct, frozen=True):
    """A typed value beside a message's body. Mirrors MessageAttributeValue (Amazon SQS API Reference)."""

    data_type: str
    """``"String"``, ``"Number"`` or ``"Binary"``, optionally with a label of one's own: ``"Number.float"``."""
    string_value: str | None = None
    """Of a String or a Number, which is carried as text so that no digit is lost."""
    binary_value: bytes | None = None
    """Of a Binary."""


class RedrivePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The receive after ``max_receive_count`` fruitless ones moves a message to ``dead_letter_queue``."""

    dead_letter_queue: str
    max_receive_count: int
    """1 to 1,000."""
    eager: bool = False
    """Move when the last visibility timeout runs out, also while nobody receives. In AWS nothing moves then."""

    def __post_init__(self) -> None:
        count = self.max_receive_count
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 1000:
            raise ValidationError(f"max_receive_count is {count!r}: choose a whole number, 1 to 1,000")


class RedriveAllowPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which queues may name this one as their dead-letter queue."""

    redrive_permission: Literal["allowAll", "denyAll", "byQueue"] = "allowAll"
    source_queues: tuple[str, ...] = ()
    """With ``byQueue``: their names, 10 at most."""

    def __post_init__(self) -> None:
        if self.redrive_permission not in ("allowAll", "denyAll", "byQueue"):
            raise ValidationError(
                f"redrive_permission is 'allowAll', 'denyAll' or 'byQueue', not {self.redrive_permission!r}"
            )
        if (self.redrive_permission == "byQueue") != bool(self.source_queues) or len(self.source_queues) > 10:
            raise ValidationError("source_queues are 1 to 10 names with redrive_permission='byQueue', and none without")


class QueueAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue behaves. Durations in milliseconds. Mirrors SetQueueAttributes (Amazon SQS API Reference)."""

    visibility_timeout_ms: int = 30_000
    """How long a received message stays hidden. 0 to 12 hours."""
    delay_ms: int = 0
    """How long a sent message waits before it is first visible. AWS: 15 minutes at most."""
    receive_wait_ms: int = 0
    """How long a receive waits for a message when the call does not say. AWS: 20 s at most."""
    redrive_policy: RedrivePolicy | None = None
    maximum_message_bytes: int | None = None
    """Body and attributes of a message; None: what the engine's limits allow. AWS: 1 KiB to 1 MiB."""
    retention_ms: int | None = None
    """Messages older than this are gone; None: they stay as long as the engine's limits allow. AWS: 60 s to 14 days."""
    redrive_allow_policy: RedriveAllowPolicy = RedriveAllowPolicy()
    fifo: bool = False
    """Order per message group, and deduplication. Fixed at creation; the queue's name ends in ``.fifo``."""
    content_based_deduplication: bool = False
    """FIFO: the SHA-256 of the body is the deduplication id of a message that has none."""
    deduplication_scope: Literal["queue", "messageGroup"] = "queue"
    """FIFO: whether an id is unique in the queue or in its message group."""
    fifo_throughput_limit: Literal["perQueue", "perMessageGroupId"] = "perQueue"
    """FIFO: kept and shown as AWS does; ours has no such limit. perMessageGroupId needs the scope messageGroup."""


class ReceivedMessage(msgspec.Struct, frozen=True, gc=False):
    """One delivery of one message, as an engine hands it out."""

    message_id: str
    body: bytes
    receipt_handle: str
    """Names this delivery; needed to delete the message or to change its visibility. New at each receive."""
    receive_count: int
    """How often it was received, this time included."""
    sent_ms: int
    first_received_ms: int
    dead_letter_source: str | None = None
    """The queue it was moved here from, if it is a dead letter."""
    attributes: Mapping[str, MessageAttribute] = {}
    trace_header: str | None = None
    """AWSTraceHeader, the one system attribute that a sender sets."""
    group_id: str | None = None
    deduplication_id: str | None = None
    sequence_number: int | None = None
    """FIFO: rises within the message group."""
    last_error: str | None = None
    """Of a dead letter: what its last handling failed with, if a worker of ours knew it."""
    number: int = 0
    """Of a message that was peeked at: its place in the queue, after which to go on."""


class Message(Generic[T]):
    """A received message. ``value`` decodes when it is first asked for."""

    __slots__ = ("_codec", "_received", "_value")

    def __init__(self, received: ReceivedMessage, codec: Codec[T]) -> None:
        self._received = received
        self._codec = codec

    @property
    def value(self) -> T:
        """The decoded body, as the queue's ``type=`` says.

        Raises:
            DecodeError: the body is not of that type; ``body`` still has the bytes.
        """
        try:
            return self._value
        except AttributeError:
            self._value: T = self._codec.decode(self._received.body)
            return self._value

    @property
    def body(self) -> bytes:
        """The stored bytes."""
        return self._received.body

    @property
    def message_id(self) -> str:
        """Given when it was sent; survives the move to a dead-letter queue."""
        return self._received.message_id

    @property
    def receipt_handle(self) -> str:
        """Names this delivery; empty for a message that was only peeked at."""
        return self._received.receipt_handle

    @property
    def receive_count(self) -> int:
        """How often it was received, this time included (ApproximateReceiveCount; ours is exact)."""
        return self._received.receive_count

    @property
    def sent_ms(self) -> int:
        """When it was sent, milliseconds since the epoch."""
        return self._received.sent_ms

    @property
    def sent(self) -> datetime:
        """When it was sent (UTC)."""
        return to_datetime(self._received.sent_ms)

    @property
    def first_received(self) -> datetime | None:
        """When it was first received (UTC); None: it never was (ApproximateFirstReceiveTimestamp; ours is exact)."""
        first_ms = self._received.first_received_ms
        return to_datetime(first_ms) if first_ms else None

    @property
    def attributes(self) -> Mapping[str, MessageAttribute]:
        """What its sender put beside the body."""
        return self._received.attributes

    @property
    def trace_header(self) -> str | None:
        """AWSTraceHeader, if the sender set it."""
        return self._received.trace_header

    @property
    def group_id(self) -> str | None:
        """FIFO: the message group, within which order is kept. Standard queues: the tenant."""
        return self._received.group_id

    @property
    def deduplication_id(self) -> str | None:
        """FIFO: under this id no other message was taken for five minutes."""
        return self._received.deduplication_id

    @property
    def sequence_number(self) -> int | None:
        """FIFO: rises within the message group."""
        return self._received.sequence_number

    @property
    def dead_letter_source(self) -> str | None:
        """The queue it was moved from, if it is a dead letter."""
        return self._received.dead_letter_source

    @property
    def last_error(self) -> str | None:
        """Of a dead letter: what its last handling failed with, if a worker of ours knew it."""
        return self._received.last_error

    def _repr_html_(self) -> str:
        from streamkit.errors import DecodeError
        from streamkit.showing.flat import columns_of
        from streamkit.showing.html import card, escaped, table

        try:
            columns = columns_of([self.value])
        except DecodeError as error:
            columns = {"error": [str(error)]}
        facts = {
            "sent": self.sent,
            "received": f"{self.receive_count} x",
            "group": self.group_id,
            "dead letter of": self.dead_letter_source,
            "last error": self.last_error,
            "bytes": len(self.body),
        }
        rows = [(escaped(name), values[0]) for name, values in columns.items()]
        rows += [(escaped(name), each.string_value or each.binary_value) for name, each in self.attributes.items()]
        return card("Message", self.message_id, facts, table(["field", "value"], rows, separators=False))

    def __repr__(self) -> str:
        return f"Message({self.message_id}, receive_count={self.receive_count}, {len(self.body)} bytes)"

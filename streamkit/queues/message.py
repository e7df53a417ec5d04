"""What a queue holds, and what its users hold."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from streamkit.clock import to_datetime
from streamkit.codecs import Codec
from streamkit.errors import ValidationError

T = TypeVar("T")


class RedrivePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The receive after ``max_receive_count`` fruitless ones moves a message to ``dead_letter_queue``."""

    dead_letter_queue: str
    max_receive_count: int
    """1 to 1,000."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_receive_count <= 1000:
            raise ValidationError(f"max_receive_count is {self.max_receive_count}: choose 1 to 1,000")


class QueueAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue behaves. Durations in milliseconds."""

    visibility_timeout_ms: int = 30_000
    """How long a received message stays hidden. 0 to 12 hours."""
    delay_ms: int = 0
    """How long a sent message waits before it is first visible."""
    receive_wait_ms: int = 0
    """How long a receive waits for a message when the call does not say."""
    redrive_policy: RedrivePolicy | None = None


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
    def sent(self) -> datetime:
        """When it was sent (UTC)."""
        return to_datetime(self._received.sent_ms)

    @property
    def dead_letter_source(self) -> str | None:
        """The queue it was moved from, if it is a dead letter."""
        return self._received.dead_letter_source

    def __repr__(self) -> str:
        return f"Message({self.message_id}, receive_count={self.receive_count}, {len(self.body)} bytes)"

"""The queue port: what an engine does for queues, at the height of the service's own API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from streamkit.errors import StreamKitError
from streamkit.queues.message import QueueAttributes, ReceivedMessage


class SendEntry(msgspec.Struct, frozen=True, gc=False):
    """One message to send."""

    body: bytes
    delay_ms: int | None = None
    """None: the queue's own delay."""


class SendResult(msgspec.Struct, frozen=True, gc=False):
    """The id one entry got, or the error that refused it."""

    message_id: str
    error: StreamKitError | None = None


class VisibilityEntry(msgspec.Struct, frozen=True, gc=False):
    """One delivery whose message is to stay hidden for ``timeout_ms`` from now; 0 shows it at once."""

    receipt_handle: str
    timeout_ms: int


class QueueDescription(msgspec.Struct, frozen=True):
    """One queue with its counts, which are exact at the moment of the call."""

    name: str
    queue_id: int
    created_ms: int
    attributes: QueueAttributes
    visible: int
    not_visible: int
    """In flight: received, not deleted, timeout still running."""
    delayed: int


class QueueStore(Protocol):
    """The port. Every method may raise ``NotFoundError``, ``StorageError`` and ``ClosedError`` beside what it names.

    Durability: what a method returned has happened as durably as the engine's policy says; a receive too, so a
    message that kills its receiver's process has still been counted.
    Cancellation: a cancelled send, delete or change may or may not have happened, never in part. A cancelled receive
    leaves its messages visible and uncounted: nothing is delivered to nobody.
    """

    async def create_queue(self, name: str, attributes: QueueAttributes) -> QueueDescription:
        """Create a queue.

        Raises:
            AlreadyExistsError: there is a queue of this name.
            NotFoundError: the redrive policy's dead-letter queue does not exist.
            ValidationError: the name or an attribute is out of range.
        """
        ...

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages. Waiting receives get ``NotFoundError``."""
        ...

    async def describe_queues(self, names: Sequence[str] | None = None) -> list[QueueDescription]:
        """These queues in this order, or all, sorted by name."""
        ...

    async def send_messages(self, name: str, entries: Sequence[SendEntry]) -> list[SendResult]:
        """Store messages; one result per entry, in order.

        Raises:
            ValidationError: an entry or the call is over a limit; nothing was stored.
        """
        ...

    async def receive_messages(
        self, name: str, max_messages: int, visibility_timeout_ms: int | None = None, wait_ms: int | None = None
    ) -> list[ReceivedMessage]:
        """Hand out up to ``max_messages`` visible messages and hide them for the timeout (None: the queue's own).

        With ``wait_ms`` (None: the queue's own) and nothing visible, waits at most that long; a send or the end of a
        timeout wakes it. It never waits to fill the batch. A message received ``max_receive_count`` times before is
        moved to the dead-letter queue instead of returned, and a call that only moved messages returns empty at once.
        """
        ...

    async def delete_messages(self, name: str, receipt_handles: Sequence[str]) -> list[StreamKitError | None]:
        """Delete the messages of these deliveries; one result per handle, in order.

        The newest handle of a message deletes it, also after its timeout as long as nobody else received it. An older
        handle fails with ``MessageNotInflightError``. Deleting twice succeeds.
        """
        ...

    async def change_visibility(self, name: str, entries: Sequence[VisibilityEntry]) -> list[StreamKitError | None]:
        """Hide or show the messages of these deliveries, counted from now; one result per entry, in order."""
        ...

    async def peek_messages(self, name: str, limit: int) -> list[ReceivedMessage]:
        """The oldest visible messages, as they are: not hidden, not counted, without a receipt handle."""
        ...

    async def move_messages(self, source: str, message_ids: Sequence[str], destination: str) -> int:
        """Move those of the messages that are visible in ``source`` to ``destination``, with a fresh receive count.

        Returns how many were moved. Both sides happen as one.
        """
        ...

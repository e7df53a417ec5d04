"""The queue port: what an engine does for queues, at the height of the service's own API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from streamkit.errors import StreamKitError
from streamkit.queues.message import MessageAttribute, QueueAttributes, ReceivedMessage


class SendEntry(msgspec.Struct, frozen=True, gc=False):
    """One message to send."""

    body: bytes
    delay_ms: int | None = None
    """None: the queue's own delay."""
    attributes: Mapping[str, MessageAttribute] = {}
    """10 at most; their names, types and values count towards the message's size."""
    trace_header: str | None = None
    """AWSTraceHeader."""
    group_id: str | None = None
    """FIFO: required. Standard queues: the tenant, if messages of several share the queue."""
    deduplication_id: str | None = None
    """FIFO: required, unless the queue deduplicates by content."""
    context: Mapping[str, str] | None = None
    """A trace context that it shall carry if it has room for that; see ``queues.carried``. None: none."""


class SendResult(msgspec.Struct, frozen=True, gc=False):
    """The id one entry got, or the error that refused it."""

    message_id: str
    error: StreamKitError | None = None
    sequence_number: int | None = None
    """FIFO."""
    duplicate: bool = False
    """FIFO: its deduplication id was sent within five minutes; id and sequence number are those of that message."""


class VisibilityEntry(msgspec.Struct, frozen=True, gc=False):
    """One delivery whose message is to stay hidden for ``timeout_ms`` from now; 0 shows it at once."""

    receipt_handle: str
    timeout_ms: int
    last_error: str | None = None
    """What handling it failed with: a dead letter tells it."""


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
    oldest_ms: int | None = None
    """When the oldest message was sent (of a dead letter: was moved here); None: the queue is empty."""
    groups_in_flight: int = 0
    """FIFO: message groups that wait for messages in flight."""
    noisy_groups: int = 0
    """Standard: tenants that hold so much in flight that others come first."""
    visible_in_quiet_groups: int = 0
    """Of the visible messages, those of the other tenants or of none. While there are noisy tenants what waits on disk
    counts as theirs, since the first 16 of every other one do not wait there."""
    not_visible_in_quiet_groups: int = 0
    """Of the messages in flight, those of the other tenants or of none."""
    delayed_in_quiet_groups: int = 0
    """Of the delayed messages, those of the other tenants or of none."""
    oldest_in_quiet_groups_ms: int | None = None
    """``oldest_ms`` of the messages of the other tenants or of none; what waits on disk counts as above."""
    modified_ms: int = 0
    """When its attributes were last changed, or it was created."""

    def _repr_html_(self) -> str:
        from streamkit.showing.html import card
        from streamkit.showing.words import instant, kept

        attributes = self.attributes
        policy = attributes.redrive_policy
        letters = None if policy is None else f"{policy.dead_letter_queue} after {policy.max_receive_count} receives"
        facts = {
            "visible": self.visible,
            "in flight": self.not_visible,
            "delayed": self.delayed,
            "oldest": None if self.oldest_ms is None else f"{instant(self.oldest_ms)} UTC",
            "visibility timeout": kept(attributes.visibility_timeout_ms),
            "kept": kept(attributes.retention_ms),
            "dead letters to": letters,
        }
        return card("FIFO queue" if attributes.fifo else "Queue", self.name, facts)


class QueueStore(Protocol):
    """The port. Every method may raise ``NotFoundError``, ``StorageError`` and ``ClosedError`` beside what it names.

    Durability: what a method returned has happened as durably as the engine's policy says. A receive outlives the
    process, so a message that kills its receiver's process has still been counted.
    Cancellation: a cancelled send, delete or change may or may not have happened, never in part. A cancelled receive
    leaves its messages visible and uncounted: nothing is delivered to nobody.
    """

    async def create_queue(self, name: str, attributes: QueueAttributes) -> QueueDescription:
        """Create a queue.

        Raises:
            AlreadyExistsError: there is a queue of this name.
            NotFoundError: the redrive policy's dead-letter queue does not exist.
            ValidationError: the name or an attribute is out of range, or the dead-letter queue does not allow it.
        """
        ...

    async def update_queue(self, name: str, attributes: QueueAttributes) -> None:
        """Change what can be changed, at once. A shorter retention takes what is too old; a FIFO queue's new delay also
        counts for messages that wait for theirs.

        Raises:
            NotFoundError: the redrive policy's dead-letter queue does not exist.
            ValidationError: an attribute is out of range, the dead-letter queue does not allow it, or ``fifo`` differs.
        """
        ...

    async def purge_queue(self, name: str) -> int:
        """Delete every message, in flight and delayed ones too, and what deduplication remembers; how many it were."""
        ...

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages. Waiting receives get ``NotFoundError``."""
        ...

    async def describe_queues(self, names: Sequence[str] | None = None) -> list[QueueDescription]:
        """These queues in this order, or all, sorted by name."""
        ...

    async def send_messages(self, name: str, entries: Sequence[SendEntry]) -> list[SendResult]:
        """Store messages; one result per entry, in order. An entry that is not valid is refused alone.

        Ordering: FIFO queues keep the order of the call, also around an entry that was refused.

        Raises:
            ValidationError: the call is over a limit; nothing was stored.
        """
        ...

    async def receive_messages(
        self,
        name: str,
        max_messages: int,
        visibility_timeout_ms: int | None = None,
        wait_ms: int | None = None,
        attempt_id: str | None = None,
    ) -> list[ReceivedMessage]:
        """Hand out up to ``max_messages`` visible messages and hide them for the timeout (None: the queue's own).

        With ``wait_ms`` (None: the queue's own) and nothing visible, waits at most that long; a send or the end of a
        timeout wakes it. It never waits to fill the batch. A message received ``max_receive_count`` times before is
        moved to the dead-letter queue instead of returned, and a call that only moved messages returns empty at once,
        as do those that wait when an eager policy has moved the last message.

        FIFO: with the ``attempt_id`` of an earlier call of the last five minutes, the very same deliveries are given
        again and hidden anew, if none of them was deleted or changed since (ReceiveRequestAttemptId).

        Raises:
            OverLimitError: it does not wait, and a standard queue has as many messages in flight as it may have.
        """
        ...

    async def delete_messages(self, name: str, receipt_handles: Sequence[str]) -> list[StreamKitError | None]:
        """Delete the messages of these deliveries; one result per handle, in order.

        The newest handle of a message deletes it, on a standard queue also after its timeout as long as nobody else
        received it. An older handle, and on a FIFO queue one whose timeout ended, fails with
        ``MessageNotInflightError``. Deleting twice succeeds, and so does deleting what is gone from this queue
        otherwise: too old, purged, or a dead letter meanwhile, which stays one.
        """
        ...

    async def change_visibility(self, name: str, entries: Sequence[VisibilityEntry]) -> list[StreamKitError | None]:
        """Hide or show the messages of these deliveries, counted from now; one result per entry, in order."""
        ...

    async def peek_messages(self, name: str, limit: int, after: int = 0) -> list[ReceivedMessage]:
        """The first visible messages, in the order in which they came, as they are: not hidden, not counted.

        They have no receipt handle but a ``number``; ``after`` the last one's the next ones follow.
        """
        ...

    async def move_messages(self, source: str, message_ids: Sequence[str], destination: str, after: int = 0) -> int:
        """Move those of the messages that are visible in ``source`` to ``destination``, with a fresh receive count.

        Returns how many were moved. Both sides happen as one. Whoever knows that all of them have numbers greater than
        ``after`` saves looking at those before.
        """
        ...

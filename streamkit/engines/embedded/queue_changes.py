"""What happens to queues, live and in replay: one method per change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamkit.engines.embedded.changes import (
    Change,
    MessagesDeleted,
    MessagesMoved,
    MessagesReceived,
    MessagesReleased,
    MessagesSent,
    Particulars,
    QueueCreated,
    QueueDeleted,
    QueuePurged,
    QueueUpdated,
    VisibilityChanged,
)
from streamkit.queues.deduplication import Original
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState

_NONE = Particulars()
_NOTHING: Mapping[int, StoredMessage] = {}


class QueueChanges:
    """All queues, by name and by id, and what changes them."""

    def __init__(self) -> None:
        self.by_name: dict[str, QueueState] = {}
        self.by_id: dict[int, QueueState] = {}
        self._apply: dict[type, Callable[[Any], object]] = {
            QueueCreated: self.created,
            QueueUpdated: self.updated,
            QueuePurged: self.purged,
            QueueDeleted: self.deleted,
            MessagesSent: self.sent,
            MessagesReceived: self.received,
            MessagesReleased: self.released,
            MessagesDeleted: self.gone,
            VisibilityChanged: self.visibility,
            MessagesMoved: self.moved,
        }

    def created(self, change: QueueCreated) -> QueueState:
        """A queue is there."""
        state = QueueState(change.queue_id, change.name, change.created_ms, change.attributes)
        self.adopt(state)
        return state

    def adopt(self, state: QueueState) -> None:
        """Take over a queue that recovery loaded."""
        self.by_name[state.name] = state
        self.by_id[state.queue_id] = state

    def replace_all(self, others: QueueChanges) -> None:
        """These are the queues from now on."""
        # Whoever has the dicts goes on with them.
        self.by_name.clear()
        self.by_id.clear()
        self.by_name.update(others.by_name)
        self.by_id.update(others.by_id)

    def apply(self, change: Change) -> None:
        """Any change of a queue, in replay."""
        self._apply[type(change)](change)

    def updated(self, change: QueueUpdated) -> None:
        """A queue has other attributes."""
        self.by_id[change.queue_id].change(change.attributes, change.now_ms)

    def purged(self, change: QueuePurged) -> int:
        """All messages of a queue are gone; how many."""
        return self.by_id[change.queue_id].purge()

    def deleted(self, change: QueueDeleted) -> QueueState:
        """A queue is gone."""
        state = self.by_id.pop(change.queue_id)
        del self.by_name[state.name]
        return state

    def sent(self, change: MessagesSent) -> None:
        """Messages are there, visible or delayed."""
        queue = self.by_id[change.queue_id]
        sent_ms = change.sent_ms
        columns = zip(change.visible_at_ms, change.ids, change.bodies, strict=True)
        for position, (visible_at_ms, message_id, body) in enumerate(columns):
            delay_ms = visible_at_ms - sent_ms
            message = StoredMessage(
                change.first_number + position,
                message_id,
                body,
                sent_ms,
                "delayed" if delay_ms else "ready",
                visible_at_ms,
                delay_ms,
            )
            has = change.particulars.get(position, _NONE)
            if has is not _NONE:
                message.group_id = has.group_id
                message.attributes = has.attributes
                message.trace_header = has.trace_header
                message.deduplication_id = has.deduplication_id
            queue.add(message)
            if queue.attributes.fifo and has.deduplication_id is not None:
                key = queue.deduplication_key(has.group_id, has.deduplication_id)
                queue.deduplication.add(Original(key, message_id, message.number, sent_ms))

    def received(self, change: MessagesReceived) -> None:
        """Messages were hidden, and others moved to the dead-letter queue."""
        queue = self.by_id[change.queue_id]
        received = [queue.message(number) for number in change.numbers]
        for message in received:
            if change.again:
                queue.hide(message, change.received_ms, change.timeout_ms)
            else:
                queue.receive(message, change.received_ms, change.timeout_ms)
        if change.attempt_id is not None:
            queue.attempted(change.attempt_id, received, change.received_ms)
        if change.moved:
            target = self.by_id[change.dead_letter_queue_id]
            for dead_number, number in enumerate(change.moved, change.first_dead_number):
                message = queue.pull(number, _NOTHING)
                # AWS: id, body and the time it was sent are kept, and the receive count goes on; on a FIFO queue the
                # time starts again.
                # Another object: the old one may be on its way to a file of the queue that it came to.
                # INVARIANT: test_what_becomes_a_dead_letter_while_it_is_filed_is_filed_as_it_came
                letter = msgspec.structs.replace(
                    message,
                    number=dead_number,
                    place="ready",
                    dead_letter_source=queue.name,
                    arrived_ms=change.received_ms,
                    sent_ms=change.received_ms if queue.attributes.fifo else message.sent_ms,
                )
                target.add(letter)

    def released(self, change: MessagesReleased) -> None:
        """Messages were not received after all."""
        queue = self.by_id[change.queue_id]
        for number in reversed(change.numbers):
            queue.release(queue.message(number))
        if change.attempt_id is not None:
            queue.attempts.forget(change.attempt_id)

    def gone(self, change: MessagesDeleted) -> None:
        """Messages are gone."""
        queue = self.by_id[change.queue_id]
        for number in change.numbers:
            queue.discard(number)

    def visibility(self, change: VisibilityChanged) -> None:
        """Messages are hidden for another time, or visible."""
        queue = self.by_id[change.queue_id]
        for number, timeout_ms in zip(change.numbers, change.timeouts_ms, strict=True):
            message = queue.message(number)
            if number in change.errors:
                message.last_error = change.errors[number]
            queue.hide(message, change.now_ms, timeout_ms)

    def moved(self, change: MessagesMoved, read: Mapping[int, StoredMessage] = _NOTHING) -> None:
        """Messages are in another queue, to be received afresh. ``read`` has those that are on disk."""
        queue, target = self.by_id[change.queue_id], self.by_id[change.to_queue_id]
        for new_number, number in enumerate(change.numbers, change.first_number):
            message = queue.pull(number, read)
            # AWS: a redriven message is a new one: count and time start again.
            target.add(
                StoredMessage(
                    new_number,
                    message.message_id,
                    message.body,
                    change.now_ms,
                    "ready",
                    change.now_ms,
                    group_id=message.group_id,
                    attributes=message.attributes,
                    trace_header=message.trace_header,
                    deduplication_id=message.deduplication_id,
                )
            )

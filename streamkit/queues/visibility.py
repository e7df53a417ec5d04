"""Who may receive a message, and when it is visible again: the rules of one queue. Pure and hot.

Follows the Amazon SQS Developer Guide ("Visibility timeout", "Dead-letter queues", "FIFO queues") and is stricter where
an embedded queue can be: counts are exact, no message is handed out twice within its timeout, a deleted one never comes
back. Which message is next is decided in ``order`` and ``groups``.

Everything that changes a queue goes through the few transitions at the end of ``QueueState``; live calls and replay
use the same ones. HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from math import inf

import msgspec

from streamkit.errors import MessageNotInflightError, ReceiptHandleInvalidError, StreamKitError, ValidationError
from streamkit.queues import receipt
from streamkit.queues.attempts import Attempts
from streamkit.queues.attributes import MAX_VISIBILITY_MS
from streamkit.queues.deduplication import Deduplication
from streamkit.queues.groups import FifoOrder
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.order import Order, StandardOrder
from streamkit.queues.store import QueueDescription
from streamkit.queues.stored import Place, StoredMessage


class Taken(msgspec.Struct, gc=False):
    """What a receive decided: who is handed out, and who has been received too often."""

    received: list[StoredMessage]
    moved: list[StoredMessage]


class QueueState:
    """One queue: its messages, and where they stand."""

    def __init__(
        self, queue_id: int, name: str, created_ms: int, attributes: QueueAttributes, last_number: int = 0
    ) -> None:
        self.queue_id = queue_id
        self.name = name
        self.created_ms = created_ms
        self.attributes = attributes
        self.last_number = last_number
        self.messages: dict[int, StoredMessage] = {}
        self.deduplication = Deduplication()
        self.attempts = Attempts()
        self.changed = False
        """Something happened since this was last set to False."""
        self._order: Order = FifoOrder() if attributes.fifo else StandardOrder()
        self._counts: dict[Place, int] = {"ready": 0, "delayed": 0, "in flight": 0}
        # Both may hold entries that are out of date; an entry counts only if the message still stands as it says.
        self._hidden: list[tuple[int, int]] = []
        self._expiring: list[tuple[int, int]] = []
        # No message has a number below.
        self._oldest = 1
        self._newest_sent_ms = 0
        self._worn_out: list[int] = []

    # ---- questions

    def describe(self, now_ms: int) -> QueueDescription:
        """Attributes and exact counts."""
        self.surface(now_ms)
        counts, order = self._counts, self._order
        oldest = self._first()
        return QueueDescription(
            self.name,
            self.queue_id,
            self.created_ms,
            self.attributes,
            counts["ready"],
            counts["in flight"],
            counts["delayed"],
            None if oldest is None else oldest.arrived_ms or oldest.sent_ms,
            order.groups_in_flight,
            order.noisy_groups,
        )

    @property
    def in_flight(self) -> int:
        """How many messages are received and not settled."""
        return self._counts["in flight"]

    def next_visible_ms(self) -> int | None:
        """When the next hidden message becomes visible."""
        while self._hidden:
            visible_at_ms, number = self._hidden[0]
            if self._stands_hidden(number, visible_at_ms):
                return visible_at_ms
            heapq.heappop(self._hidden)
        return None

    def visible(self, now_ms: int) -> Iterator[StoredMessage]:
        """The messages that could be received, as they are."""
        self.surface(now_ms)
        return self._order.visible()

    def handle_of(self, message: StoredMessage) -> str:
        """The receipt handle of the message's latest delivery."""
        return receipt.make(self.queue_id, message.number, message.receive_count)

    def delivered(self, message: StoredMessage) -> ReceivedMessage:
        """The message as a receiver gets it."""
        return ReceivedMessage(
            message.message_id,
            message.body,
            self.handle_of(message),
            message.receive_count,
            message.sent_ms,
            message.first_received_ms,
            message.dead_letter_source,
            message.attributes or {},
            message.trace_header,
            message.group_id,
            message.deduplication_id,
            message.number if self.attributes.fifo else None,
            message.last_error if message.dead_letter_source is not None else None,
        )

    def deliveries(self, handles: Sequence[str], now_ms: int) -> list[StoredMessage | StreamKitError | None]:
        """The message of each handle's delivery; None if it was deleted; the error if the handle is of no use.

        AWS: an older handle may still delete on a standard queue; ours never pulls a message from under a newer
        receiver. On a FIFO queue a handle ends with its timeout, since others of its group may have been received.
        """
        self.surface(now_ms)
        found: list[StoredMessage | StreamKitError | None] = []
        for handle in handles:
            named = receipt.parse(handle)
            if named is None or named.queue_id != self.queue_id or not 0 < named.number <= self.last_number:
                found.append(ReceiptHandleInvalidError(str(handle), self.name))
                continue
            message = self.messages.get(named.number)
            if message is not None and (
                message.receive_count != named.receive_count or (self.attributes.fifo and message.place != "in flight")
            ):
                found.append(MessageNotInflightError(message.message_id, self.name))
            else:
                found.append(message)
        return found

    def check_extension(self, message: StoredMessage, timeout_ms: int, now_ms: int) -> StreamKitError | None:
        """Whether the message may stay hidden for ``timeout_ms`` from now: 12 hours in all since its receive."""
        if not 0 <= timeout_ms <= MAX_VISIBILITY_MS:
            return ValidationError(f"a visibility timeout is 0 to 43,200 s, not {timeout_ms / 1000:g} s")
        if now_ms + timeout_ms - message.received_ms > MAX_VISIBILITY_MS:
            return ValidationError(
                "Total VisibilityTimeout for the message is beyond the limit of 43,200 s since it was received"
            )
        return None

    # ---- decisions

    def take(self, max_messages: int, now_ms: int, dead_letters: bool) -> Taken:
        """Choose what a receive hands out and what it moves; nothing has changed for them yet.

        ``dead_letters`` says whether there is a dead-letter queue to move to. A message is moved at the receive
        after ``max_receive_count`` fruitless ones, so it is delivered exactly that often.
        """
        self.surface(now_ms)
        limit = self._most_receives(dead_letters)
        taken = Taken([], [])
        if not self._counts["ready"]:
            return taken
        for message in self._order.choose():
            if limit is not None and message.receive_count >= limit:
                taken.moved.append(message)
            else:
                taken.received.append(message)
                if len(taken.received) == max_messages:
                    break
        return taken

    def exhausted(self, now_ms: int) -> list[StoredMessage]:
        """Those that became visible since the last call, and that the next receive would move: for an eager policy."""
        self.surface(now_ms)
        seen, self._worn_out = self._worn_out, []
        limit = self._most_receives(dead_letters=True)
        found = {number: self.messages[number] for number in seen if number in self.messages}
        return [m for m in found.values() if m.place == "ready" and limit is not None and m.receive_count >= limit]

    def expired(self, now_ms: int, longest_ms: float) -> list[int]:
        """The messages that are older than the queue's retention, or than any may be, wherever they stand."""
        own_ms = self.attributes.retention_ms
        retention_ms = longest_ms if own_ms is None else own_ms
        if retention_ms == inf:
            return []
        found: dict[int, None] = {}
        while self._expiring and self._expiring[0][0] + retention_ms < now_ms:
            number = heapq.heappop(self._expiring)[1]
            if number in self.messages:
                found[number] = None
        number = self._oldest if self._first() is not None else self.last_number + 1
        while number <= self.last_number:
            message = self.messages.get(number)
            if message is not None:
                # All that arrived later were sent later, but for those that are in the heap.
                if message.sent_ms + retention_ms >= now_ms:
                    break
                found[number] = None
            number += 1
        return list(found)

    def deduplication_key(self, group_id: str | None, deduplication_id: str) -> str | tuple[str, str]:
        """What is unique for five minutes."""
        if self.attributes.deduplication_scope == "queue":
            return deduplication_id
        return (group_id or "", deduplication_id)

    def again(self, attempt_id: str, now_ms: int) -> list[StoredMessage] | None:
        """The messages of an earlier receive of this attempt, if they may be given once more."""
        self.surface(now_ms)
        return self.attempts.again(attempt_id, self.messages, now_ms)

    def attempted(self, attempt_id: str, messages: Sequence[StoredMessage], now_ms: int) -> None:
        """A receive of this attempt got these."""
        self.changed = True
        self.attempts.add(attempt_id, messages, now_ms)

    def _most_receives(self, dead_letters: bool) -> int | None:
        policy = self.attributes.redrive_policy
        return policy.max_receive_count if policy is not None and dead_letters else None

    # ---- transitions (live and in replay)

    def add(self, message: StoredMessage) -> None:
        """A message is there."""
        self.changed = True
        if not self.messages:
            self._oldest = message.number
        self.messages[message.number] = message
        self.last_number = max(self.last_number, message.number)
        self._counts[message.place] += 1
        if message.sent_ms < self._newest_sent_ms:
            heapq.heappush(self._expiring, (message.sent_ms, message.number))
        else:
            self._newest_sent_ms = message.sent_ms
        self._order.add(message)
        if message.place != "ready":
            heapq.heappush(self._hidden, (message.visible_at_ms, message.number))

    def receive(self, message: StoredMessage, now_ms: int, timeout_ms: int) -> None:
        """It was received once more and is hidden."""
        if message.place != "ready":
            self._show(message)  # In replay, where no time passes by itself.
        message.receive_count += 1
        message.received_ms = now_ms
        message.first_received_ms = message.first_received_ms or now_ms
        self.hide(message, now_ms, timeout_ms)

    def release(self, message: StoredMessage) -> None:
        """A receive that nobody got: visible and uncounted. It was first in line, and is again."""
        self.changed = True
        message.receive_count -= 1
        if message.receive_count == 0:
            message.first_received_ms = 0
        if message.place != "ready":
            self._move(message, "ready")
            self._order.show(message, first=True)

    def hide(self, message: StoredMessage, now_ms: int, timeout_ms: int) -> None:
        """It is hidden for ``timeout_ms``; 0 shows it."""
        self.changed = True
        message.visible_at_ms = now_ms + timeout_ms
        message.hidden_for_ms = timeout_ms
        was_ready = message.place == "ready"
        if timeout_ms > 0:
            self._move(message, "in flight")
            if was_ready:
                self._order.hide(message)
            heapq.heappush(self._hidden, (message.visible_at_ms, message.number))
        elif was_ready:
            # Received and shown in one: it goes behind the others that are ready.
            self._move(message, "in flight")
            self._order.hide(message)
            self._show(message)
        else:
            self._show(message)

    def remove(self, message: StoredMessage) -> None:
        """It is gone."""
        self.changed = True
        del self.messages[message.number]
        self._counts[message.place] -= 1
        self._order.remove(message)

    def change(self, attributes: QueueAttributes) -> None:
        """It behaves like this from now on."""
        self.changed = True
        if attributes.fifo and attributes.delay_ms != self.attributes.delay_ms:
            # AWS: a FIFO queue's new delay counts for the messages that wait for theirs as well.
            for message in self.messages.values():
                if message.place == "delayed":
                    message.visible_at_ms = message.sent_ms + attributes.delay_ms
                    message.hidden_for_ms = attributes.delay_ms
                    heapq.heappush(self._hidden, (message.visible_at_ms, message.number))
        if attributes.deduplication_scope != self.attributes.deduplication_scope:
            self.deduplication.clear()
        self.attributes = attributes
        policy = attributes.redrive_policy
        if policy is not None and policy.eager:
            self._worn_out = [m.number for m in self.messages.values() if m.receive_count >= policy.max_receive_count]

    def purge(self) -> int:
        """All messages are gone, and what deduplication knew; how many there were."""
        count = len(self.messages)
        self.changed = True
        self.messages.clear()
        self.deduplication.clear()
        self.attempts.clear()
        self._order = FifoOrder() if self.attributes.fifo else StandardOrder()
        self._counts = {"ready": 0, "delayed": 0, "in flight": 0}
        self._hidden.clear()
        self._expiring.clear()
        return count

    def surface(self, now_ms: int) -> None:
        """Whatever was hidden long enough is visible."""
        while self._hidden and self._hidden[0][0] <= now_ms:
            visible_at_ms, number = heapq.heappop(self._hidden)
            if self._stands_hidden(number, visible_at_ms):
                self._show(self.messages[number])

    def clamp(self, now_ms: int) -> None:
        """After a reopening: no message stays hidden longer than it was to be, whatever the wall clock did."""
        for message in self.messages.values():
            if message.place != "ready" and message.visible_at_ms - now_ms > message.hidden_for_ms:
                message.visible_at_ms = now_ms + message.hidden_for_ms
                heapq.heappush(self._hidden, (message.visible_at_ms, message.number))

    def _first(self) -> StoredMessage | None:
        """The message that is here the longest."""
        if not self.messages:
            self._oldest = self.last_number + 1
            return None
        while self._oldest not in self.messages:
            self._oldest += 1
        return self.messages[self._oldest]

    def _stands_hidden(self, number: int, visible_at_ms: int) -> bool:
        message = self.messages.get(number)
        return message is not None and message.place != "ready" and message.visible_at_ms == visible_at_ms

    def _show(self, message: StoredMessage) -> None:
        self._move(message, "ready")
        self._order.show(message)
        policy = self.attributes.redrive_policy
        if policy is not None and policy.eager and message.receive_count >= policy.max_receive_count:
            self._worn_out.append(message.number)

    def _move(self, message: StoredMessage, place: Place) -> None:
        self._counts[message.place] -= 1
        self._counts[place] += 1
        message.place = place

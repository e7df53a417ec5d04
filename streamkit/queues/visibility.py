"""Who may receive a message, and when it is visible again: the rules of one standard queue. Pure and hot.

Follows the Amazon SQS Developer Guide ("Visibility timeout", "Dead-letter queues") and is stricter where an embedded
queue can be: counts are exact, no message is handed out twice within its timeout, a deleted one never comes back.

Everything that changes a queue goes through the few transitions at the end of ``QueueState``; live calls and replay
use the same ones. HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from streamkit.errors import MessageNotInflightError, ReceiptHandleInvalidError, StreamKitError, ValidationError
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.store import QueueDescription

MAX_VISIBILITY_MS = 43_200_000
Place = Literal["ready", "delayed", "in flight"]


class StoredMessage(msgspec.Struct, gc=False, array_like=True):
    """A message and where it stands. The field order is a storage format: append, never reorder."""

    number: int
    """Given by its queue, rising; never used again."""
    message_id: str
    body: bytes
    sent_ms: int
    place: Place
    visible_at_ms: int
    """When it leaves its place, if that is not "ready"."""
    hidden_for_ms: int = 0
    """The duration that ended in ``visible_at_ms``: a deadline is clamped by it when the wall clock was set back."""
    receive_count: int = 0
    first_received_ms: int = 0
    received_ms: int = 0
    dead_letter_source: str | None = None


class Taken(msgspec.Struct, gc=False):
    """What a receive decided: who is handed out, and who has been received too often."""

    received: list[StoredMessage]
    moved: list[StoredMessage]


class QueueState:
    """One queue: its messages, and in which order they are next."""

    def __init__(
        self, queue_id: int, name: str, created_ms: int, attributes: QueueAttributes, last_number: int = 0
    ) -> None:
        self.queue_id = queue_id
        self.name = name
        self.created_ms = created_ms
        self.attributes = attributes
        self.last_number = last_number
        self.messages: dict[int, StoredMessage] = {}
        self.changed = False
        """Something happened since this was last set to False."""
        # Both may hold entries that are out of date; an entry counts only if the message still stands as it says.
        self._ready: deque[int] = deque()
        self._hidden: list[tuple[int, int]] = []
        self._counts = {"ready": 0, "delayed": 0, "in flight": 0}

    # ---- questions

    def describe(self, now_ms: int) -> QueueDescription:
        """Attributes and exact counts."""
        self.surface(now_ms)
        counts = self._counts
        return QueueDescription(
            self.name,
            self.queue_id,
            self.created_ms,
            self.attributes,
            counts["ready"],
            counts["in flight"],
            counts["delayed"],
        )

    def next_visible_ms(self) -> int | None:
        """When the next hidden message becomes visible."""
        while self._hidden:
            visible_at_ms, number = self._hidden[0]
            if self._stands_hidden(number, visible_at_ms):
                return visible_at_ms
            heapq.heappop(self._hidden)
        return None

    def visible(self, now_ms: int, limit: int) -> list[StoredMessage]:
        """The next messages to be received, as they are."""
        self.surface(now_ms)
        seen: dict[int, StoredMessage] = {}
        for number in self._ready:
            if len(seen) >= limit:
                break
            message = self.messages.get(number)
            if message is not None and message.place == "ready":
                seen[number] = message
        return list(seen.values())

    def handle_of(self, message: StoredMessage) -> str:
        """The receipt handle of the message's latest delivery."""
        return f"{self.queue_id:x}.{message.number:x}.{message.receive_count:x}"

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
        )

    def deliveries(self, handles: Sequence[str]) -> list[StoredMessage | StreamKitError | None]:
        """The message of each handle's delivery; None if it was deleted; the error if the handle is of no use.

        AWS: an older handle may still delete on a standard queue; ours never pulls a message from under a newer
        receiver.
        """
        found: list[StoredMessage | StreamKitError | None] = []
        for handle in handles:
            try:
                queue_id, number, receive_count = (int(part, 16) for part in handle.split("."))
            except (ValueError, AttributeError):
                found.append(ReceiptHandleInvalidError(str(handle), self.name))
                continue
            if queue_id != self.queue_id or not 0 < number <= self.last_number or receive_count < 1:
                found.append(ReceiptHandleInvalidError(handle, self.name))
                continue
            message = self.messages.get(number)
            if message is not None and message.receive_count != receive_count:
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
        policy = self.attributes.redrive_policy
        limit = policy.max_receive_count if policy is not None and dead_letters else None
        taken = Taken([], [])
        while self._ready and len(taken.received) < max_messages:
            message = self.messages.get(self._ready.popleft())
            if message is None or message.place != "ready":
                continue
            # Until the transition that follows in the same step, a second entry of this message must not find it.
            message.place = "in flight"
            self._counts["ready"] -= 1
            self._counts["in flight"] += 1
            if limit is not None and message.receive_count >= limit:
                taken.moved.append(message)
            else:
                taken.received.append(message)
        return taken

    # ---- transitions (live and in replay)

    def add(self, message: StoredMessage) -> None:
        """A message is there."""
        self.changed = True
        self.messages[message.number] = message
        self.last_number = max(self.last_number, message.number)
        self._counts[message.place] += 1
        self._queue(message)

    def receive(self, message: StoredMessage, now_ms: int, timeout_ms: int) -> None:
        """It was received once more and is hidden."""
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
            self._ready.appendleft(message.number)

    def hide(self, message: StoredMessage, now_ms: int, timeout_ms: int) -> None:
        """It is hidden for ``timeout_ms``; 0 shows it."""
        self.changed = True
        message.visible_at_ms = now_ms + timeout_ms
        message.hidden_for_ms = timeout_ms
        self._move(message, "in flight" if timeout_ms > 0 else "ready")
        self._queue(message)

    def remove(self, message: StoredMessage) -> None:
        """It is gone."""
        self.changed = True
        del self.messages[message.number]
        self._counts[message.place] -= 1

    def surface(self, now_ms: int) -> None:
        """Whatever was hidden long enough is visible."""
        while self._hidden and self._hidden[0][0] <= now_ms:
            visible_at_ms, number = heapq.heappop(self._hidden)
            if self._stands_hidden(number, visible_at_ms):
                message = self.messages[number]
                self._move(message, "ready")
                self._ready.append(number)

    def clamp(self, now_ms: int) -> None:
        """After a reopening: no message stays hidden longer than it was to be, whatever the wall clock did."""
        for message in self.messages.values():
            if message.place != "ready" and message.visible_at_ms - now_ms > message.hidden_for_ms:
                message.visible_at_ms = now_ms + message.hidden_for_ms
                self._queue(message)

    def _stands_hidden(self, number: int, visible_at_ms: int) -> bool:
        message = self.messages.get(number)
        return message is not None and message.place != "ready" and message.visible_at_ms == visible_at_ms

    def _queue(self, message: StoredMessage) -> None:
        if message.place == "ready":
            self._ready.append(message.number)
        else:
            heapq.heappush(self._hidden, (message.visible_at_ms, message.number))

    def _move(self, message: StoredMessage, place: Place) -> None:
        self._counts[message.place] -= 1
        self._counts[place] += 1
        message.place = place

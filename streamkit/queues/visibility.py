"""Who may receive a message, and when it is visible again: the rules of one queue. Pure and hot.

Follows the Amazon SQS Developer Guide ("Visibility timeout", "Dead-letter queues", "FIFO queues") and is stricter where
an embedded queue can be: counts are exact, no message is handed out twice within its timeout, a deleted one never comes
back. Which message is next is decided in ``order`` and ``groups``.

Everything that changes a queue goes through the few transitions at the end of ``QueueState``; live calls and replay
use the same ones. HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from math import inf

import msgspec

from streamkit.queues.ages import Ages
from streamkit.queues.attempts import Attempts
from streamkit.queues.backlog import Backlog, Page
from streamkit.queues.deduplication import Deduplication
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import QueueDescription
from streamkit.queues.stored import Place, StoredMessage
from streamkit.queues.window import Window


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
        self.created_ms = self.modified_ms = created_ms
        self.attributes = attributes
        self.last_number = last_number
        self.messages: dict[int, StoredMessage] = {}
        self.deduplication = Deduplication()
        self.attempts = Attempts()
        self.changed = False
        """Something happened since this was last set to False."""
        self.read_page: Callable[[Page], Sequence[StoredMessage]] = _refuse_page
        """How recovery gets at what is on disk; live, whoever loads a page reads it first."""
        self._counts: dict[Place, int] = {"ready": 0, "delayed": 0, "in flight": 0, "backlog": 0}
        self.window = Window(self.messages, self._counts, fifo=attributes.fifo)
        self.ages = Ages()
        # An entry that is out of date counts no more: the message must still stand as it says.
        self._hidden: list[tuple[int, int]] = []
        self._worn_out: list[int] = []

    # ---- questions

    @property
    def backlog(self) -> Backlog:
        """What waits behind the messages that a receive looks at."""
        return self.window.backlog

    def describe(self, now_ms: int) -> QueueDescription:
        """Attributes and exact counts. If ``ages`` has an undated page, it is to be looked into before."""
        visible = self.visible(now_ms)
        counts, order = self._counts, self.window.order
        oldest_ms = self.ages.oldest_ms(self.messages, self.backlog, fifo=self.attributes.fifo)
        noisy_groups = order.noisy_groups
        return QueueDescription(
            self.name,
            self.queue_id,
            self.created_ms,
            self.attributes,
            visible,
            counts["in flight"],
            counts["delayed"],
            oldest_ms,
            order.groups_in_flight,
            noisy_groups,
            self.window.visible_in_quiet_groups,
            counts["in flight"] - order.noisy_in_flight,
            counts["delayed"] - order.noisy_delayed,
            self.ages.oldest_of(self.window.of_quiet_groups()) if noisy_groups else oldest_ms,
            self.modified_ms,
        )

    def visible(self, now_ms: int) -> int:
        """How many messages are visible."""
        self.surface(now_ms)
        return self._counts["ready"] + self._counts["backlog"]

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

    def lacks_page(self, max_messages: int, now_ms: int) -> bool:
        """Whether a receive of so many would find more if the first page of the backlog were loaded."""
        if not self.backlog.pages:
            return False
        self.surface(now_ms)
        return self.window.lacks_page(max_messages)

    # ---- decisions

    def take(self, max_messages: int, now_ms: int, dead_letters: bool) -> Taken:
        """Choose what a receive hands out and what it moves; nothing has changed for them yet.

        ``dead_letters`` says whether there is a dead-letter queue to move to. A message is moved at the receive
        after ``max_receive_count`` fruitless ones, so it is delivered exactly that often.
        """
        self.surface(now_ms)
        limit = self._most_receives(dead_letters)
        taken = Taken([], [])
        if not self._counts["ready"] and not self._counts["backlog"]:
            return taken
        for message in self.window.choose(max_messages):
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

    def retention_ms(self, longest_ms: float) -> float:
        """How old a message may be, where none may be older than ``longest_ms``."""
        return longest_ms if self.attributes.retention_ms is None else self.attributes.retention_ms

    def expired(self, now_ms: int, longest_ms: float) -> list[int]:
        """The messages in memory that are older than the queue's retention, or than any may be, wherever they stand."""
        retention_ms = self.retention_ms(longest_ms)
        if retention_ms == inf:
            return []
        return self.ages.expired(self.messages, self.backlog, self.last_number, now_ms - retention_ms)

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
        """A message came."""
        self.join(message, self.window.add)

    def join(self, message: StoredMessage, join: Callable[[StoredMessage], None]) -> None:
        """A message is there, in the window or in the backlog."""
        self.changed = True
        self.ages.add(message, self.messages)
        self.messages[message.number] = message
        self.last_number = max(self.last_number, message.number)
        join(message)
        self._counts[message.place] += 1
        if message.place != "ready" and message.place != "backlog":
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
        self.backlog.touch(message.number)
        message.receive_count -= 1
        if message.receive_count == 0:
            message.first_received_ms = 0
        if message.place != "ready":
            self._move(message, "ready")
            self.window.show(message, first=True)

    def hide(self, message: StoredMessage, now_ms: int, timeout_ms: int) -> None:
        """It is hidden for ``timeout_ms``; 0 shows it."""
        self.changed = True
        self.backlog.touch(message.number)
        message.visible_at_ms = now_ms + timeout_ms
        message.hidden_for_ms = timeout_ms
        was_ready = message.place == "ready"
        if timeout_ms > 0:
            self._move(message, "in flight")
            if was_ready:
                self.window.hide(message)
            heapq.heappush(self._hidden, (message.visible_at_ms, message.number))
        elif was_ready:
            # Received and shown in one: it goes behind the others that are ready.
            self._move(message, "in flight")
            self.window.hide(message)
            self._show(message)
        else:
            self._show(message)

    def remove(self, message: StoredMessage) -> None:
        """It is gone."""
        self.changed = True
        self.backlog.touch(message.number)
        # A message of the tail still stands there, and so it is removed while the queue still has it.
        self.window.remove(message)
        del self.messages[message.number]
        self._counts[message.place] -= 1

    def discard(self, number: int) -> None:
        """A message is gone, wherever it is."""
        message = self.messages.get(number)
        if message is not None:
            self.remove(message)
        else:
            self._drop(number)

    def pull(self, number: int, read: Mapping[int, StoredMessage]) -> StoredMessage:
        """A message is gone from here: what it was. Live, ``read`` has it if it is on disk."""
        message = self.messages.get(number)
        if message is not None:
            self.remove(message)
            return message
        page = self._drop(number)
        return read[number] if number in read else next(m for m in self.read_page(page) if m.number == number)

    def _drop(self, number: int) -> Page:
        page = self.backlog.page_of(number)
        if page is None:
            raise KeyError(number)
        self.changed = True
        self.backlog.drop(page, number)
        self._counts["backlog"] -= 1
        return page

    def change(self, attributes: QueueAttributes, now_ms: int) -> None:
        """It behaves like this from now on."""
        self.changed, self.modified_ms = True, now_ms
        if attributes.fifo and attributes.delay_ms != self.attributes.delay_ms:
            # AWS: a FIFO queue's new delay counts for the messages that wait for theirs as well.
            # Whose delay is over, that is told by the time alone: in replay nobody has looked.
            for message in self.messages.values():
                if message.place == "delayed" and message.visible_at_ms > now_ms:
                    message.visible_at_ms = message.sent_ms + attributes.delay_ms
                    message.hidden_for_ms = attributes.delay_ms
                    heapq.heappush(self._hidden, (message.visible_at_ms, message.number))
        if attributes.deduplication_scope != self.attributes.deduplication_scope:
            self.deduplication.clear()
        self.attributes = attributes
        policy = attributes.redrive_policy
        if policy is not None and policy.eager:
            self._worn_out = [m.number for m in self.messages.values() if m.receive_count >= policy.max_receive_count]

    def message(self, number: int) -> StoredMessage:
        """A message that something happens to: live it is in the window, in replay it is brought there."""
        message = self.messages.get(number)
        # INVARIANT: test_replay_receives_what_was_delayed_when_it_came
        if message is None or self.window.is_waiting(message):
            self.bring(number)
            message = self.messages[number]
        return message

    def bring(self, number: int) -> None:
        """Have a message of the backlog in the window; it may have to be read."""
        self.window.bring(number, lambda page: self.load(page, self.read_page(page)))

    def load(self, page: Page, messages: Sequence[StoredMessage]) -> None:
        """What a page of the backlog has is in the window; of a FIFO queue it is the first one."""
        if loaded := self.backlog.load(page, messages, self.messages):
            self.loaded(loaded)

    def loaded(self, messages: Sequence[StoredMessage]) -> None:
        """Messages that were on disk alone are in the window; there is at least one."""
        self.window.loaded(messages)
        self.ages.load(messages)
        policy = self.attributes.redrive_policy
        if policy is not None and policy.eager:
            self._worn_out += [m.number for m in messages if m.receive_count >= policy.max_receive_count]

    def purge(self) -> int:
        """All messages are gone, and what deduplication knew; how many there were."""
        count = sum(self._counts.values())
        self.changed = True
        self.messages.clear()
        self.deduplication.clear()
        self.attempts.clear()
        for place in self._counts:
            self._counts[place] = 0
        self.window = Window(self.messages, self._counts, fifo=self.attributes.fifo)
        self.ages = Ages()
        self._hidden.clear()
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
            hidden = message.place == "in flight" or message.place == "delayed"
            if hidden and message.visible_at_ms - now_ms > message.hidden_for_ms:
                message.visible_at_ms = now_ms + message.hidden_for_ms
                heapq.heappush(self._hidden, (message.visible_at_ms, message.number))

    def _stands_hidden(self, number: int, visible_at_ms: int) -> bool:
        message = self.messages.get(number)
        return (
            message is not None
            and message.visible_at_ms == visible_at_ms
            and (message.place == "in flight" or message.place == "delayed")
        )

    def _show(self, message: StoredMessage) -> None:
        if self.window.is_waiting(message):
            self._move(message, "backlog")
            return
        self._move(message, "ready")
        self.window.show(message)
        policy = self.attributes.redrive_policy
        if policy is not None and policy.eager and message.receive_count >= policy.max_receive_count:
            self._worn_out.append(message.number)

    def _move(self, message: StoredMessage, place: Place) -> None:
        self._counts[message.place] -= 1
        self._counts[place] += 1
        message.place = place


def _refuse_page(page: Page) -> Sequence[StoredMessage]:
    raise KeyError(page.first_number)

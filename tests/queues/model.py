"""A queue that is small and obviously right: a list of messages, looked through from the front every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamkit.errors import MessageNotInflightError, ReceiptHandleInvalidError, StreamKitError, ValidationError
from streamkit.queues.message import ReceivedMessage

FIVE_MINUTES_MS = 300_000
TWELVE_HOURS_MS = 43_200_000


@dataclass(eq=False)
class Known:
    """What is known of one message. One that is moved to another queue is another one there."""

    message_id: str
    body: bytes
    sent_ms: int
    hidden_until_ms: int
    """Delayed or in flight until then."""
    group: str | None = None
    is_delayed: bool = False
    receive_count: int = 0
    handle: str = ""
    """Of its latest delivery."""
    received_ms: int = 0

    def is_hidden(self, now_ms: int) -> bool:
        """Whether nobody may receive it."""
        return now_ms < self.hidden_until_ms


@dataclass
class Attempt:
    """What a receive with an attempt id got: messages, the handles, and until when they were hidden."""

    began_ms: int
    deliveries: list[tuple[Known, str, int]]


@dataclass
class Model:
    """One queue with a dead-letter queue, and what may be said of every answer that it gives.

    Whoever asks or tells it anything of a later instant calls ``pass_to`` first.
    """

    fifo: bool
    now_ms: int
    max_receive_count: int | None = None
    eager: bool = False
    """Dead letters move when their last timeout ends."""
    retention_ms: int | None = None
    sees_all: bool = True
    """A receive looks at all messages, and not only at those in a small window."""
    messages: list[Known] = field(default_factory=list)
    dead: list[Known] = field(default_factory=list)
    """What is in the dead-letter queue, where nobody receives."""
    sent_ids: dict[str, tuple[str, int]] = field(default_factory=dict)
    """FIFO: by deduplication id, the message id and when it was sent."""
    attempts: dict[str, Attempt] = field(default_factory=dict)
    """FIFO: by attempt id."""
    handles: dict[str, Known] = field(default_factory=dict)
    """All that were ever given out."""
    gone: set[str] = field(default_factory=set)
    """The message ids of what was deleted, purged or too old: it never comes back."""

    # ---- time

    def pass_to(self, now_ms: int) -> None:
        """It is later: dead letters that an eager policy moves are moved, and what is too old is gone."""
        if self.eager:
            worn = [m for m in self.messages if self._is_worn(m) and not m.is_hidden(now_ms)]
            moves = [(max(message.hidden_until_ms, self.now_ms), message) for message in worn]
            for moved_ms, message in sorted(moves, key=lambda move: move[0]):
                if not self._is_too_old(message, moved_ms):
                    self.bury(message, moved_ms)
        self.now_ms = now_ms
        for message in [m for m in self.messages if self._is_too_old(m, now_ms)]:
            self.remove(message)

    def _is_worn(self, message: Known) -> bool:
        return self.max_receive_count is not None and message.receive_count >= self.max_receive_count

    def _is_too_old(self, message: Known, now_ms: int) -> bool:
        return self.retention_ms is not None and message.sent_ms + self.retention_ms < now_ms

    # ---- questions

    def counts(self) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        hidden = [message for message in self.messages if message.is_hidden(self.now_ms)]
        delayed = sum(message.is_delayed for message in hidden)
        return len(self.messages) - len(hidden), len(hidden) - delayed, delayed

    def in_line(self) -> list[list[Known]]:
        """What one receive may hand out: lines, of each from the front on."""
        now_ms = self.now_ms
        if not self.fifo:
            return [[message] for message in self.messages if not message.is_hidden(now_ms)]
        lines: dict[str | None, list[Known]] = {}
        for message in self.messages:
            lines.setdefault(message.group, []).append(message)
        free = []
        for line in lines.values():
            hidden = [place for place, message in enumerate(line) if message.is_hidden(now_ms)]
            visible = line[: hidden[0]] if hidden else line
            # While one is in flight the group waits, unless an earlier one has become visible again.
            blocked = any(line[place].receive_count for place in hidden)
            visible = [m for m in visible if m.receive_count] if blocked else visible
            if visible:
                free.append(visible)
        return free

    def worn_out(self) -> set[str]:
        """What a receive moves if it comes to it: messages that were received as often as they may be."""
        return {m.message_id for line in self.in_line() for m in line if self._is_worn(m)}

    # ---- what happens

    def remove(self, message: Known) -> None:
        """It never comes back."""
        self.messages.remove(message)
        self.gone.add(message.message_id)

    def bury(self, message: Known, now_ms: int) -> None:
        """It is a dead letter. On a FIFO queue its time starts again."""
        self.messages.remove(message)
        sent_ms = now_ms if self.fifo else message.sent_ms
        count = message.receive_count
        self.dead.append(Known(message.message_id, message.body, sent_ms, now_ms, message.group, receive_count=count))

    def dig_up(self, message_ids: Sequence[str]) -> int:
        """Those of the dead letters that are visible are messages again, in their order; how many."""
        found = [m for m in self.dead if m.message_id in message_ids and not m.is_hidden(self.now_ms)]
        for message in found:
            self.dead.remove(message)
            self.messages.append(Known(message.message_id, message.body, self.now_ms, self.now_ms, message.group))
        return len(found)

    def sent(
        self, message_id: str, body: bytes, delay_ms: int, group: str | None, deduplication_id: str | None
    ) -> None:
        """A message was stored."""
        until_ms = self.now_ms + delay_ms
        self.messages.append(Known(message_id, body, self.now_ms, until_ms, group, delay_ms > 0))
        if deduplication_id is not None:
            self.sent_ids[deduplication_id] = (message_id, self.now_ms)

    def original(self, deduplication_id: str) -> str | None:
        """The id of the message that this one repeats."""
        known = self.sent_ids.get(deduplication_id)
        return known[0] if known is not None and self.now_ms - known[1] < FIVE_MINUTES_MS else None

    def delayed(self, delay_ms: int) -> None:
        """A FIFO queue has another delay: it counts for what is delayed."""
        for message in self.messages:
            if message.is_delayed and message.is_hidden(self.now_ms):
                message.hidden_until_ms = message.sent_ms + delay_ms

    def purge(self) -> None:
        """All of it is gone, and what was remembered."""
        for message in list(self.messages):
            self.remove(message)
        self.sent_ids.clear()
        self.attempts.clear()

    # ---- receipt handles

    def delete(self, handles: Sequence[str]) -> list[type[StreamKitError] | None]:
        """Delete by receipt handles; the error of each. What is gone, or a dead letter, is none."""
        found = [self._held(handle) for handle in handles]
        for message in found:
            if isinstance(message, Known) and message in self.messages:
                self.remove(message)
        return [found if isinstance(found, type) else None for found in found]

    def change(self, entries: Sequence[tuple[str, int]]) -> list[type[StreamKitError] | None]:
        """Hide or show by receipt handles; the error of each. Who is held is seen before any of them changes."""
        errors: list[type[StreamKitError] | None] = []
        for message, timeout_ms in [(self._held(handle), timeout_ms) for handle, timeout_ms in entries]:
            if message is None:
                errors.append(MessageNotInflightError)
            elif isinstance(message, type):
                errors.append(message)
            elif (
                not 0 <= timeout_ms <= TWELVE_HOURS_MS
                or self.now_ms + timeout_ms - message.received_ms > TWELVE_HOURS_MS
            ):
                errors.append(ValidationError)
            else:
                errors.append(None)
                message.hidden_until_ms = self.now_ms + timeout_ms
        return errors

    def _held(self, handle: str) -> Known | type[StreamKitError] | None:
        """The message that a receipt handle is good for, or the error; None: it is gone."""
        message = self.handles.get(handle)
        if message is None:
            return ReceiptHandleInvalidError
        if message not in self.messages:
            return None
        expired = self.fifo and not message.is_hidden(self.now_ms)
        return MessageNotInflightError if handle != message.handle or expired else message

    # ---- receiving

    def again(self, attempt_id: str | None) -> list[Known] | None:
        """What a receive with this attempt id gives once more; None: it is a receive like any other."""
        attempt = self.attempts.get(attempt_id or "")
        if attempt is None or self.now_ms - attempt.began_ms >= FIVE_MINUTES_MS:
            return None
        stand = all(
            m in self.messages and m.is_hidden(self.now_ms) and (m.handle, m.hidden_until_ms) == (handle, until_ms)
            for m, handle, until_ms in attempt.deliveries
        )
        return [m for m, _, _ in attempt.deliveries] if stand else None

    def received(
        self, answer: Sequence[ReceivedMessage], moved: set[str], limit: int, timeout_ms: int, attempt_id: str | None
    ) -> None:
        """See that a receive may answer so, and move those to the dead-letter queue; and remember it."""
        same = self.again(attempt_id)
        if same is not None:
            assert [each.receipt_handle for each in answer] == [message.handle for message in same]
            assert not moved
            for message in same:
                message.hidden_until_ms = self.now_ms + timeout_ms
        else:
            same = self._received(answer, moved, limit, timeout_ms)
        if attempt_id is not None and (answer or moved):
            known = self.attempts.get(attempt_id)
            deliveries = [(message, message.handle, message.hidden_until_ms) for message in same]
            goes_on = known is not None and [m[:2] for m in known.deliveries] == [m[:2] for m in deliveries]
            began_ms = known.began_ms if known is not None and goes_on else self.now_ms
            self.attempts[attempt_id] = Attempt(began_ms, deliveries)
            if not deliveries:
                del self.attempts[attempt_id]

    def _received(self, answer: Sequence[ReceivedMessage], moved: set[str], limit: int, timeout_ms: int) -> list[Known]:
        lines = self.in_line()
        worn = self.worn_out()
        found = {message.message_id: message for line in lines for message in line}
        wanted = [each.message_id for each in answer]
        assert len(wanted) <= limit
        assert len(set(wanted)) == len(wanted), "the same message twice in one answer"
        assert not self.gone.intersection(wanted), "a deleted message came back"
        assert set(wanted) <= found.keys(), "a message that is hidden, or not in turn, was handed out"
        assert not worn.intersection(wanted), "a message was handed out once too often"
        assert moved <= worn, "a message was moved too early"
        if len(wanted) < limit and self.sees_all:
            assert moved == worn, "a message was not moved"
            assert set(wanted) == found.keys() - worn, "there were more"
        for line in lines:
            alive = [m.message_id for m in line if m.message_id not in worn]
            taken = [each for each in wanted if each in alive]
            assert taken == alive[: len(taken)], "not in order, from the front"
        for each in answer:
            message = found[each.message_id]
            message.receive_count += 1
            was_sent = (message.receive_count, message.body, message.sent_ms, message.group)
            assert (each.receive_count, each.body, each.sent_ms, each.group_id) == was_sent
            assert self.handles.get(each.receipt_handle) is None, "a receipt handle that there was before"
            self.handles[each.receipt_handle] = message
            message.handle = each.receipt_handle
            message.received_ms = self.now_ms
            message.is_delayed = False
            message.hidden_until_ms = self.now_ms + timeout_ms
        for message in [m for line in lines for m in line if m.message_id in moved]:
            self.bury(message, self.now_ms)
        return [found[message_id] for message_id in wanted]

"""A queue that is small and obviously right: a list of messages, looked through from the front every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamkit.queues.message import ReceivedMessage

FIVE_MINUTES_MS = 300_000


@dataclass
class Known:
    """What is known of one message."""

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
class Model:
    """One queue, and what may be said of every answer that it gives."""

    fifo: bool
    max_receive_count: int | None = None
    retention_ms: int | None = None
    sees_all: bool = True
    """A receive looks at all messages, and not only at those in a small window."""
    messages: list[Known] = field(default_factory=list)
    sent_ids: dict[str, tuple[str, int]] = field(default_factory=dict)
    """FIFO: by deduplication id, the message id and when it was sent."""
    deleted: set[str] = field(default_factory=set)

    def counts(self, now_ms: int) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        self.expire(now_ms)
        hidden = [message for message in self.messages if message.is_hidden(now_ms)]
        delayed = sum(message.is_delayed for message in hidden)
        return len(self.messages) - len(hidden), len(hidden) - delayed, delayed

    def expire(self, now_ms: int) -> None:
        """Whatever is older than the retention is gone."""
        if self.retention_ms is not None:
            gone = [m for m in self.messages if m.sent_ms + self.retention_ms < now_ms]
            for message in gone:
                self.remove(message)

    def remove(self, message: Known) -> None:
        """It never comes back."""
        self.messages.remove(message)
        self.deleted.add(message.message_id)

    def original(self, deduplication_id: str, now_ms: int) -> str | None:
        """The id of the message that this one repeats."""
        known = self.sent_ids.get(deduplication_id)
        return known[0] if known is not None and now_ms - known[1] < FIVE_MINUTES_MS else None

    def in_line(self, now_ms: int) -> list[list[Known]]:
        """What one receive may hand out: lines, of each from the front on."""
        self.expire(now_ms)
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

    def worn_out(self, now_ms: int) -> set[str]:
        """What a receive moves if it comes to it: messages that were received as often as they may be."""
        most = self.max_receive_count
        return {
            m.message_id for line in self.in_line(now_ms) for m in line if most is not None and m.receive_count >= most
        }

    def received(
        self, answer: Sequence[ReceivedMessage], moved: set[str], limit: int, timeout_ms: int, now_ms: int
    ) -> None:
        """See that a receive may answer so, and move those to the dead-letter queue; and remember it."""
        lines = self.in_line(now_ms)
        worn = self.worn_out(now_ms)
        found = {message.message_id: message for line in lines for message in line}
        wanted = [each.message_id for each in answer]
        assert len(wanted) <= limit
        assert len(set(wanted)) == len(wanted), "the same message twice in one answer"
        assert not self.deleted.intersection(wanted), "a deleted message came back"
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
            assert each.receipt_handle != message.handle
            message.handle = each.receipt_handle
            message.received_ms = now_ms
            message.is_delayed = False
            message.hidden_until_ms = now_ms + timeout_ms
        for message_id in moved:
            self.messages.remove(found[message_id])

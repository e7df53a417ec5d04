"""What could be received of a queue, told without receiving it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.queues.backlog import Page
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState

_SPARSE = 16


def peek(queue: QueueState, after: int, limit: int, now_ms: int) -> tuple[list[StoredMessage], Page | None]:
    """Messages in memory that could be received, by number, from the one after ``after`` on.

    If a page that is on disk comes before the next ones: the page, behind which to go on.
    """
    queue.surface(now_ms)
    found: list[StoredMessage] = []
    until = queue.backlog.next_page(after)
    for number in _numbers(queue, after, queue.last_number if until is None else until.last_number):
        message = queue.messages[number]
        if _is_shown(queue, message):
            found.append(message)
            if len(found) == limit:
                return found, None
    return found, until


def is_receivable(queue: QueueState, looked_at: StoredMessage, now_ms: int) -> bool:
    """Whether a message that was looked at before is still there, and neither hidden nor behind one that is."""
    queue.surface(now_ms)
    message = queue.messages.get(looked_at.number)
    if message is not None:
        return _is_shown(queue, message)
    waits = queue.backlog.page_of(looked_at.number) is not None
    return waits and not queue.window.order.is_blocked(looked_at.group_id)


def _is_shown(queue: QueueState, message: StoredMessage) -> bool:
    if message.place == "ready":
        return queue.window.order.is_receivable(message)
    return message.place == "backlog" and not queue.window.order.is_blocked(message.group_id)


def _numbers(queue: QueueState, after: int, last: int) -> Iterable[int]:
    """Of the messages in memory, those in a range."""
    start = max(after + 1, queue.ages.first_number)
    if last - start > _SPARSE * len(queue.messages):
        return sorted(number for number in queue.messages if start <= number <= last)
    return (number for number in range(start, last + 1) if number in queue.messages)

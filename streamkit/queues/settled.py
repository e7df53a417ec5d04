"""A queue's way to the disk and back: what a settling takes aside of it, and what an opening makes of that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from streamkit.queues.backlog import Filing, Page
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState


def take_aside(queue: QueueState, next_serial: Callable[[], int]) -> Filing | None:
    """What is worth a file, which then gets a serial. ``adopt`` or ``put_back`` follows before the next call."""
    queue.changed = False
    queue.backlog.give_up_files()
    return queue.backlog.take_aside(next_serial, queue.messages)


def unfiled(queue: QueueState) -> list[StoredMessage]:
    """The messages in memory that no file has, nor will have when what was taken aside is written."""
    backlog = queue.backlog
    return [message for message in queue.messages.values() if not backlog.is_filed(message)]


def adopt(queue: QueueState, filing: Filing) -> None:
    """It is written: what waits in memory leaves it. If the queue was purged meanwhile, nothing waits any more."""
    if queue.backlog.filing is filing:
        queue.backlog.adopt(queue.messages)
        queue.ages.keep(queue.messages, filing.pages)


def put_back(queue: QueueState, filing: Filing | None) -> None:
    """It was not written: all has to be once more."""
    queue.changed = True
    if filing is not None and queue.backlog.filing is filing:
        queue.backlog.put_back()


def restore(queue: QueueState, messages: Iterable[StoredMessage], files: dict[int, list[Page]]) -> None:
    """Fill an empty queue with what was settled. Of a FIFO queue it may read pages."""
    fifo, window, backlog = queue.attributes.fifo, queue.window, queue.backlog
    backlog.restore(files)
    window.restored()
    queue.ages.restore(backlog.pages)
    queue.last_number = max(queue.last_number, backlog.filed_to)
    standing = sorted(messages, key=attrgetter("number"))
    window_to = _window_to(standing, backlog.pages) if fifo else 0
    in_front = [message for message in standing if message.number <= window_to]
    present = {message.number: message for message in in_front}
    for page in [page for page in backlog.pages if page.first_number <= window_to]:
        in_front += backlog.load(page, queue.read_page(page), present)
    in_front.sort(key=attrgetter("number"))
    for message in in_front:
        if backlog.is_filed(message):
            queue.loaded([message])
        else:
            queue.join(message, window.enter)
    for message in standing:
        if message.number > window_to:
            # What waits in memory comes behind all that waits on disk.
            in_window = _is_touched(message) or message.number <= backlog.filed_to
            queue.join(message, window.enter if in_window else window.add)
    queue.ages.keep(queue.messages, backlog.pages)


def pages_with(queue: QueueState, numbers: Iterable[int]) -> list[Page]:
    """The pages that have to be read if something happens to these: of a FIFO queue all that comes before, too."""
    absent = [number for number in numbers if number not in queue.messages]
    if queue.attributes.fifo:
        last = max(absent, default=0)
        return [page for page in queue.backlog.pages if page.first_number <= last]
    return list(dict.fromkeys(filter(None, map(queue.backlog.page_of, absent))))


def _window_to(standing: Sequence[StoredMessage], pages: Sequence[Page]) -> int:
    """The last number that was in a FIFO queue's window for sure. All before it was there too."""
    filed_to = pages[-1].last_number if pages else 0
    # What has no file, and something has happened to it, or others behind it have one.
    return max((m.number for m in standing if m.number < filed_to or _is_touched(m)), default=0)


def _is_touched(message: StoredMessage) -> bool:
    return message.place == "in flight" or (message.place == "ready" and message.receive_count > 0)

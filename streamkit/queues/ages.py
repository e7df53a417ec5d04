"""Which of a queue's messages are the oldest, and which are older than its retention. Pure and hot."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from operator import attrgetter

from streamkit.queues.backlog import Backlog, Page
from streamkit.queues.stored import StoredMessage

_RECEIVED_IN_VAIN = 3


class Ages:
    """Looks at messages in memory by number, which is the order in which they were sent, but for a few.

    Those that were not sent in that order (a clock was set back, dead letters keep the time they were sent) are in a
    heap besides. An entry there counts if the message is still in memory.
    """

    def __init__(self) -> None:
        self._unordered: list[tuple[int, int]] = []
        self._newest_ms = 0
        self._newest_loaded_ms = 0
        self._from = 1

    @property
    def first_number(self) -> int:
        """No message in memory has a number below."""
        return self._from

    def add(self, message: StoredMessage, *, alone: bool) -> None:
        """A message came; ``alone``: there is no other in memory."""
        if alone:
            self._from = message.number
        if message.sent_ms < self._newest_ms:
            heapq.heappush(self._unordered, (message.sent_ms, message.number))
        else:
            self._newest_ms = message.sent_ms

    def load(self, messages: Sequence[StoredMessage]) -> None:
        """Messages came back to memory, those of a page in their order."""
        self._from = min(self._from, messages[0].number)
        newest_ms = self._newest_loaded_ms
        for message in messages:
            if message.sent_ms < newest_ms:
                heapq.heappush(self._unordered, (message.sent_ms, message.number))
            else:
                newest_ms = message.sent_ms
        self._newest_loaded_ms = newest_ms

    def first(self, messages: Mapping[int, StoredMessage], backlog: Backlog) -> StoredMessage | None:
        """The message in memory that has been here the longest, unless one on disk has been longer."""
        if not messages:
            return None
        number = self._from
        while number not in messages and backlog.behind(number) is None:
            number += 1
        self._from = number
        return messages.get(number)

    def oldest_ms(self, messages: Mapping[int, StoredMessage], backlog: Backlog, *, fifo: bool) -> int | None:
        """When the message came that has been here the longest; None: there is none.

        AWS: one that is received and received and never deleted does not stand for the others of a standard queue.
        """
        first = self._first_counted(messages, backlog, fifo=fifo)
        on_disk = backlog.pages[0].first if backlog.pages else None
        if first is None or (on_disk is not None and on_disk[0] < first.number):
            return None if on_disk is None else on_disk[1]
        return first.arrived_ms or first.sent_ms

    def undated(self, messages: Mapping[int, StoredMessage], backlog: Backlog, *, fifo: bool) -> Page | None:
        """A page that somebody has to look into first, and to say what its first message is."""
        if not backlog.pages or backlog.pages[0].first is not None:
            return None
        first, page = self._first_counted(messages, backlog, fifo=fifo), backlog.pages[0]
        return page if first is None or page.first_number < first.number else None

    def _first_counted(
        self, messages: Mapping[int, StoredMessage], backlog: Backlog, *, fifo: bool
    ) -> StoredMessage | None:
        first = self.first(messages, backlog)
        if first is None and (behind := backlog.behind(self._from)) is not None:
            first = next((messages[number] for number in range(self._from, behind) if number in messages), None)
        if first is None or fifo or first.receive_count < _RECEIVED_IN_VAIN:
            return first
        counted = (message for message in messages.values() if message.receive_count < _RECEIVED_IN_VAIN)
        return min(counted, key=attrgetter("number"), default=None if backlog.pages else first)

    def expired(
        self, messages: Mapping[int, StoredMessage], backlog: Backlog, last_number: int, sent_before_ms: float
    ) -> list[int]:
        """The messages in memory that were sent before an instant."""
        found: dict[int, None] = {}
        while self._unordered and self._unordered[0][0] < sent_before_ms:
            number = heapq.heappop(self._unordered)[1]
            if number in messages:
                found[number] = None
        self.first(messages, backlog)
        number = self._from
        # All that came later were sent later, but for those that are in the heap.
        while number <= last_number:
            message = messages.get(number)
            if message is not None:
                if message.sent_ms >= sent_before_ms:
                    break
                found[number] = None
                number += 1
                continue
            behind = backlog.behind(number)
            if behind is None:
                number += 1
            elif backlog.oldest_ms >= sent_before_ms:
                break
            else:
                number = behind
        return list(found)

    def keep(self, messages: Mapping[int, StoredMessage]) -> None:
        """All others have left memory."""
        self._unordered = [entry for entry in self._unordered if entry[1] in messages]
        heapq.heapify(self._unordered)

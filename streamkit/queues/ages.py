"""Which of a queue's messages are the oldest, and which are older than its retention. Pure and hot."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from streamkit.queues.backlog import Backlog, Page
from streamkit.queues.stored import StoredMessage

_RECEIVED_IN_VAIN = 3
_FEW = 1000
"""Entries that are out of date and not worth looking for."""


class Ages:
    """Looks at messages in memory by number, which is the order in which they were sent, but for a few.

    Those that were sent before one with a smaller number, in memory or on disk (a clock was set back, dead letters keep
    the time they were sent), are in a heap besides, as is what came back from disk, and what is in memory between
    messages that are on disk. An entry there counts if the message is still in memory.
    """

    def __init__(self) -> None:
        self._unordered: list[tuple[int, int, int]] = []
        """When the first of them was sent, and the numbers of the first and the last."""
        self._newest_ms = 0
        self._from = 1

    @property
    def first_number(self) -> int:
        """No message in memory has a number below."""
        return self._from

    def add(self, message: StoredMessage, messages: Mapping[int, StoredMessage]) -> None:
        """A message comes, to those that are in memory."""
        if not messages:
            self._from = message.number
        if message.sent_ms < self._newest_ms:
            if len(self._unordered) > 2 * len(messages) + _FEW:
                self._let_go(messages)
            heapq.heappush(self._unordered, (message.sent_ms, message.number, message.number))
        else:
            self._newest_ms = message.sent_ms

    def load(self, messages: Sequence[StoredMessage]) -> None:
        """Messages came back to memory, those of a page in their order."""
        first = messages[0].number
        self._from = min(self._from, first)
        oldest_ms = min([message.sent_ms for message in messages])
        heapq.heappush(self._unordered, (oldest_ms, first, messages[-1].number))

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

    @staticmethod
    def oldest_of(messages: Iterable[StoredMessage]) -> int | None:
        """The same of some of those in memory, each looked at."""
        first = min(messages, key=lambda m: (m.receive_count >= _RECEIVED_IN_VAIN, m.number), default=None)
        return None if first is None else first.arrived_ms or first.sent_ms

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
            _, first, last = heapq.heappop(self._unordered)
            newer = []
            for number in range(first, last + 1):
                message = messages.get(number)
                if message is None:
                    continue
                if message.sent_ms < sent_before_ms:
                    found[number] = None
                else:
                    newer.append(message)
            if newer:
                oldest_ms = min([message.sent_ms for message in newer])
                heapq.heappush(self._unordered, (oldest_ms, newer[0].number, newer[-1].number))
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

    def restore(self, pages: Iterable[Page]) -> None:
        """These messages are there, on disk alone."""
        self._newest_ms = max((page.newest_sent_ms for page in pages), default=0)

    def keep(self, messages: Mapping[int, StoredMessage], pages: Iterable[Page]) -> None:
        """All others have left memory, for these pages among others."""
        self._let_go(messages)
        for page in pages:
            # Whoever looks by number passes over the numbers of a page.
            if 0 < page.waiting <= page.last_number - page.first_number:
                for number in range(page.first_number, page.last_number + 1):
                    if number in messages:
                        heapq.heappush(self._unordered, (messages[number].sent_ms, number, number))

    def _let_go(self, messages: Mapping[int, StoredMessage]) -> None:
        """Of the entries that are out of date."""
        self._unordered = [
            (sent_ms, first, last)
            for sent_ms, first, last in self._unordered
            if any(number in messages for number in range(first, last + 1))
        ]
        heapq.heapify(self._unordered)

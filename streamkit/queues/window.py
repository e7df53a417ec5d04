"""What a queue's order looks at, and how it is refilled from the backlog. Pure and hot.

A standard queue's window is short of messages when half of it is empty. A FIFO queue's is the first messages of the
queue, whatever their place, so that those of a group are in it by number.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from streamkit.queues import backlog as limits
from streamkit.queues.backlog import Backlog, Page
from streamkit.queues.groups import FifoOrder
from streamkit.queues.order import Order, StandardOrder
from streamkit.queues.stored import Place, StoredMessage

_QUIET = 16
"""So many messages of a tenant are in the window, however many of others wait before them."""


class Window:
    """The order of the messages that may be received, and behind it the backlog.

    ``message.place`` names the new place of a message before each call, as for an ``Order``; a message that joins the
    backlog is given that place here.
    """

    def __init__(self, messages: dict[int, StoredMessage], counts: dict[Place, int], *, fifo: bool) -> None:
        self.order: Order = FifoOrder() if fifo else StandardOrder()
        self.backlog = Backlog()
        self._messages = messages
        self._counts = counts
        self._fifo = fifo
        self._most = limits.FIFO_WINDOW if fifo else limits.STANDARD_WINDOW
        self._ready_bytes = 0

    # ---- questions

    def choose(self, max_messages: int) -> Iterator[StoredMessage]:
        """See Order: for a receive of so many."""
        if self.backlog.tail and not self.backlog.pages:
            self._admit(max_messages)
        return self.order.choose()

    @property
    def wants_page(self) -> bool:
        """Whether the next page should be loaded before anybody needs it."""
        return bool(self.backlog.pages) and self._has_room()

    def lacks_page(self, max_messages: int) -> bool:
        """Whether a receive of so many would find more if the next page were loaded."""
        if not self.backlog.pages:
            return False
        if not self._fifo:
            return self._counts["ready"] < max_messages
        return not self._is_full() and sum(1 for _ in islice(self.order.choose(), max_messages)) < max_messages

    @property
    def visible_in_quiet_groups(self) -> int:
        """See QueueDescription."""
        waiting = 0 if self.order.noisy_groups else self._counts["backlog"]
        return self._counts["ready"] - self.order.noisy_ready + waiting

    def of_quiet_groups(self) -> Iterator[StoredMessage]:
        """While there are noisy groups: all messages of others, but for those in the backlog."""
        is_noisy = self.order.is_noisy
        return (m for m in self._messages.values() if m.place != "backlog" and not is_noisy(m))

    def is_waiting(self, message: StoredMessage) -> bool:
        """Whether a message in memory is in the tail."""
        if message.place == "backlog":
            return True
        # A delayed message of a FIFO queue waits for its turn among those that were sent before and after it.
        tail = self.backlog.tail
        return self._fifo and message.place == "delayed" and bool(tail) and message.number >= tail[0].number

    # ---- what happens

    def add(self, message: StoredMessage) -> None:
        """See Order."""
        if self._must_wait(message):
            if message.place == "ready":
                message.place = "backlog"
            self.backlog.tail.append(message)
        else:
            self.enter(message)

    def hide(self, message: StoredMessage) -> None:
        """See Order."""
        self._ready_bytes -= len(message.body)
        self.order.hide(message)

    def show(self, message: StoredMessage, *, first: bool = False) -> None:
        """See Order."""
        self._ready_bytes += len(message.body)
        self.order.show(message, first=first)

    def remove(self, message: StoredMessage) -> None:
        """See Order."""
        if not self.is_waiting(message):
            if message.place == "ready":
                self._ready_bytes -= len(message.body)
            self.order.remove(message)

    # ---- refilling

    def restored(self) -> None:
        """The backlog is as it was settled."""
        self._counts["backlog"] += self.backlog.on_disk

    def _admit(self, max_messages: int) -> None:
        """Take messages of the tail into the window, if it is their turn and worth the while."""
        counts = self._counts
        most = 0 if self._fifo else max_messages
        if self._has_room() or counts["ready"] < most:
            while self.backlog.tail and (not self._is_full() or counts["ready"] < most):
                self._admit_first()

    def loaded(self, messages: Sequence[StoredMessage]) -> None:
        """Messages were on disk alone, and are in memory and in the window now."""
        self._counts["backlog"] -= len(messages)
        self._counts["ready"] += len(messages)
        self._ready_bytes += sum([len(message.body) for message in messages])
        add = self.order.add
        for message in messages:
            self._messages[message.number] = message
            add(message)

    def bring(self, number: int, load: Callable[[Page], object]) -> None:
        """Have a message of the backlog in the window: on a FIFO queue all those before it too."""
        backlog = self.backlog
        if self._fifo:
            while backlog.pages and backlog.pages[0].first_number <= number:
                load(backlog.pages[0])
        elif (page := backlog.page_of(number)) is not None:
            load(page)
            return
        while backlog.tail and backlog.tail[0].number <= number:
            self._admit_first()

    def _admit_first(self) -> None:
        message = self.backlog.tail.popleft()
        if self._messages.get(message.number) is message:
            if message.place == "backlog":
                self._counts["backlog"] -= 1
                self._counts["ready"] += 1
                message.place = "ready"
            self.enter(message)

    def enter(self, message: StoredMessage) -> None:
        """A message is there, and does not wait."""
        if message.place == "backlog":
            message.place = "ready"
        if message.place == "ready":
            self._ready_bytes += len(message.body)
        self.order.add(message)

    def _must_wait(self, message: StoredMessage) -> bool:
        backlog = self.backlog
        if not (backlog.tail or backlog.pages or self._is_full()):
            return False
        if self._fifo:
            return True
        ready = message.place == "ready" or message.place == "backlog"
        return ready and not self.order.lacks(message, _QUIET)

    def _is_full(self) -> bool:
        return self._filled() >= self._most or self._ready_bytes >= limits.WINDOW_BYTES

    def _has_room(self) -> bool:
        """For long enough that refilling it pays."""
        most = self._most if self._fifo else self._most // 2
        return self._filled() < most and self._ready_bytes < limits.WINDOW_BYTES

    def _filled(self) -> int:
        if self._fifo:
            return len(self._messages) - len(self.backlog.tail)
        return self._counts["ready"]

"""Loading what of a queue is on disk alone: before a receive needs it, and for whoever looks or moves.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Protocol

from streamkit.errors import ClosedError, StorageError
from streamkit.queues.backlog import Page
from streamkit.queues.looking import peek
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState


class QueuePages(Protocol):
    """Where the pages of queues are."""

    async def read(self, queue_id: int, page: Page) -> Sequence[StoredMessage]:
        """The messages of a page, also those that have left it.

        Raises:
            StorageError: it cannot be read.
        """

    def read_now(self, queue_id: int, page: Page) -> Sequence[StoredMessage]:
        """The same, for recovery. Blocking."""


class QueueLoads:
    """Fills the windows of queues, one page of a queue at a time."""

    def __init__(self, pages: QueuePages | None, is_there: Callable[[QueueState], bool]) -> None:
        self._pages = pages
        self._is_there = is_there
        self._running: dict[int, asyncio.Task[None]] = {}

    def refill(self, queue: QueueState) -> None:
        """Begin to load what a receive will soon want."""
        if queue.window.wants_page and queue.queue_id not in self._running:
            self._begin(queue)

    async def load(self, queue: QueueState) -> None:
        """Return once another page is in the window.

        Cancellation: the loading goes on.

        Raises:
            StorageError: it cannot be read.
            ClosedError: the engine was closed meanwhile.
        """
        task = self._running.get(queue.queue_id)
        if task is None or task.done():
            # What ends a task is told to those who wait for it before it is told to ``_ended``.
            task = self._begin(queue)
        await asyncio.wait([task])
        # INVARIANT: test_a_store_that_is_closed_while_a_page_is_read
        if task.cancelled():
            raise ClosedError("the engine")  # Whoever waits for it was not cancelled.
        task.result()

    async def read(self, queue: QueueState, page: Page) -> dict[int, StoredMessage]:
        """What a page holds of messages that are on disk alone, by number.

        Raises:
            StorageError: it cannot be read.
        """
        assert self._pages is not None
        try:
            messages = await self._pages.read(queue.queue_id, page)
        except StorageError:
            if self._is_there(queue) and page in queue.backlog.pages:
                raise
            return {}  # All of it went meanwhile, and its file with it.
        if page not in queue.backlog.pages:
            return {}
        return {m.number: m for m in messages if m.number not in page.left and m.number not in queue.messages}

    async def look(
        self, queue: QueueState, after: int, limit: int, now_ms: int
    ) -> tuple[list[StoredMessage], int | None]:
        """Some of the messages that could be received, by number, from the one after ``after`` on.

        And the number after which to go on; None: there are no more.

        Raises:
            StorageError: what is on disk cannot be read.
        """
        while True:
            messages, page = peek(queue, after, limit, now_ms)
            if page is None:
                return messages, (messages[-1].number if len(messages) == limit else None)
            read = await self.read(queue, page)
            if page in queue.backlog.pages:
                is_blocked = queue.window.order.is_blocked
                messages += [m for m in read.values() if m.number > after and not is_blocked(m.group_id)]
                messages.sort(key=lambda message: message.number)
                more = len(messages) > limit
                return messages[:limit], messages[limit - 1].number if more else page.last_number
            # It was loaded meanwhile, or all of it went.

    async def date(self, queue: QueueState) -> None:
        """Return once it is known how old the oldest message is.

        Raises:
            StorageError: what is on disk cannot be read.
        """
        fifo = queue.attributes.fifo
        while (page := queue.ages.undated(queue.messages, queue.backlog, fifo=fifo)) is not None:
            read = await self.read(queue, page)
            if not self._is_there(queue):
                return
            first = min(read.values(), key=attrgetter("number"), default=None)
            if first is not None and first.number not in page.left:
                page.first = (first.number, first.arrived_ms or first.sent_ms)

    def _begin(self, queue: QueueState) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._load_first(queue))
        self._running[queue.queue_id] = task
        task.add_done_callback(lambda task: self._ended(queue, task))
        return task

    def _ended(self, queue: QueueState, task: asyncio.Task[None]) -> None:
        if self._running.get(queue.queue_id) is not task:
            return
        del self._running[queue.queue_id]
        # Whoever waits for it hears of an error, and nobody else needs to: the next receive tries again.
        if not task.cancelled() and task.exception() is None and self._is_there(queue):
            self.refill(queue)

    async def _load_first(self, queue: QueueState) -> None:
        if not queue.backlog.pages:
            return  # They went before this began.
        page = queue.backlog.pages[0]
        messages = await self.read(queue, page)
        # ATOMIC: what was read is on disk alone, as long as nothing awaits
        if messages and queue.backlog.pages[0] is page:
            queue.load(page, list(messages.values()))

    def close(self) -> None:
        """The engine closes."""
        for task in self._running.values():
            task.cancel()

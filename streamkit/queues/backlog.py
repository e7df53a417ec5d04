"""The part of a queue that waits behind what its order looks at: in memory until it is filed, then on disk alone. Pure.

A queue keeps a *window* of its messages in its order. What comes when the window is full waits in the *tail*; whoever
settles files the tail, in order, in *pages*, of which nothing stays in memory but where they are. The window is
refilled from the pages, then from the tail. A page is written once and never changed: a message that is touched or gone
has *left* its page, and a page that all have left is of no use any more.

What is fresh in the window is filed as well, so that each message is written once, however many wait there; it stays
in memory, and its page says no more than what is known anyway, until it is touched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from operator import attrgetter

import msgspec

from streamkit.limits import KIB, MIB
from streamkit.queues.stored import StoredMessage

STANDARD_WINDOW = 8192
"""Messages that are ready. With more of them nobody could tell the order in which they are received."""
FIFO_WINDOW = 120_000
"""Messages in any place: among so many SQS looks for groups that have something to receive."""
WINDOW_BYTES = 128 * MIB
"""Of the bodies of those that are ready, for both."""

_PAGE_BYTES = 512 * KIB
_PAGE_MESSAGES = 512
_FEW_MESSAGES = 1000
"""Fewer are not worth a file, unless they are large."""
_FEW_BYTES = MIB
_LEFT_OVER = 64
"""A file that holds no more than so many, all of them in memory, is given up."""

_last_number = attrgetter("last_number")

PageState = bool | list[int]
"""What a snapshot says of a page: False: all have left it; True: none has; else the numbers of those that have."""


class Page(msgspec.Struct, gc=False, eq=False):
    """Messages in a file, by number: where they are, and which of them still are what the file says."""

    serial: int
    """Of the file."""
    offset: int
    size: int
    first_number: int
    last_number: int
    count: int
    oldest_sent_ms: int
    newest_sent_ms: int
    live: int
    """Messages that have not left it."""
    waiting: int
    """Those of them that are not in memory."""
    left: set[int] = msgspec.field(default_factory=set)
    first: tuple[int, int] | None = None
    """Its first message that is on disk alone and when that arrived, if somebody looked since it was the first."""

    def leave(self, number: int) -> None:
        """A message is not any more what the file says."""
        if self.live and number not in self.left:
            self.left.add(number)
            self.live -= 1
            if self.first is not None and self.first[0] == number:
                self.first = None
            if not self.live:
                self.left.clear()

    def state(self) -> PageState:
        """See PageState."""
        return False if self.live == 0 else (list(self.left) if self.left else True)

    def restore(self, state: PageState) -> None:
        """Back to what a snapshot says; nothing of it is in memory."""
        if state is False:
            self.live = 0
        elif state is not True:
            self.left.update(state)
            self.live = self.count - len(self.left)
        self.waiting = self.live


class Filing(msgspec.Struct, eq=False):
    """Messages on their way to a file."""

    serial: int
    pages: list[Page] = []
    """Whoever writes them fills in their offsets and sizes."""
    numbers: list[list[int]] = []
    """Of the messages, by page."""
    messages: list[list[StoredMessage]] = []
    """By page. They go on changing."""
    copies: set[int] = set()
    """The numbers of those that do not: copies of what was not new when it came."""

    def rows(self, place: int) -> list[StoredMessage]:
        """What a page holds: the messages as they were when they were taken aside."""
        return [m if m.number in self.copies else _when_it_came(m) for m in self.messages[place]]


class Backlog:
    """The pages and the tail of one queue. The window is its owner's: see ``QueueState``."""

    def __init__(self) -> None:
        self.tail: deque[StoredMessage] = deque()
        """What waits in memory, behind all pages. An entry counts if the queue still has the message."""
        self.pages: list[Page] = []
        """Those with messages that are on disk alone, by number."""
        self.files: dict[int, list[Page]] = {}
        """All pages of each file, by serial."""
        self.filed_to = 0
        """No message with a greater number is in a file."""
        self.on_disk = 0
        """Messages that are on disk alone."""
        self.oldest_ms = 0
        """None of them was sent before."""
        self.filing: Filing | None = None
        """What is on its way to a file."""
        self._filed: dict[int, Page] = {}

    def __bool__(self) -> bool:
        """Whether anything may wait."""
        return bool(self.tail or self.pages)

    # ---- messages in memory

    def is_filed(self, message: StoredMessage) -> bool:
        """Whether a message in memory is what its page says, or what the file will say that is being written."""
        if message.number in self._filed:
            return True
        waits = message.place == "backlog" and self.filing is not None
        return waits and self.filed_to < message.number <= self._filing_to

    def touch(self, number: int) -> None:
        """A message in memory changes or goes."""
        if self._filed:
            page = self._filed.pop(number, None)
            if page is not None:
                page.leave(number)

    # ---- messages on disk alone

    def page_of(self, number: int) -> Page | None:
        """The page that alone has this message; None: there is no such message."""
        place = bisect_left(self.pages, number, key=_last_number)
        if place == len(self.pages):
            return None
        page = self.pages[place]
        return page if page.first_number <= number and number not in page.left else None

    def behind(self, number: int) -> int | None:
        """The first number behind a page with messages on disk alone, if this one is within it."""
        if not self.pages:
            return None
        place = bisect_left(self.pages, number, key=_last_number)
        if place == len(self.pages) or self.pages[place].first_number > number:
            return None
        return self.pages[place].last_number + 1

    def drop(self, page: Page, number: int) -> None:
        """A message that is on disk alone is gone."""
        page.leave(number)
        page.waiting -= 1
        self.on_disk -= 1
        if page.waiting == 0:
            self.pages.remove(page)

    def load(
        self, page: Page, messages: Sequence[StoredMessage], present: dict[int, StoredMessage]
    ) -> list[StoredMessage]:
        """A page's messages are in memory: those that were not yet."""
        self.pages.remove(page)
        self.on_disk -= page.waiting
        page.waiting = 0
        left = page.left
        loaded = [m for m in messages if m.number not in left and m.number not in present]
        self._filed.update(dict.fromkeys([m.number for m in loaded], page))
        return loaded

    def next_page(self, after: int) -> Page | None:
        """The first page that has messages on disk alone and ends behind a number."""
        place = bisect_left(self.pages, after + 1, key=_last_number)
        return self.pages[place] if place < len(self.pages) else None

    def all_of(self, page: Page) -> list[int] | None:
        """The numbers of a page's messages, if they can be told without reading it and none of them is in memory."""
        numbers = range(page.first_number, page.last_number + 1)
        if page.count != len(numbers) or page.waiting != page.live:
            return None
        return [number for number in numbers if number not in page.left]

    def first_expiring(self, sent_before_ms: int) -> Page | None:
        """A page with messages on disk alone that may have been sent before an instant."""
        if not self.pages or self.oldest_ms >= sent_before_ms:
            return None
        page = min(self.pages, key=attrgetter("oldest_sent_ms"))
        self.oldest_ms = page.oldest_sent_ms
        return page if page.oldest_sent_ms < sent_before_ms else None

    # ---- files

    def take_aside(self, next_serial: Callable[[], int], messages: dict[int, StoredMessage]) -> Filing | None:
        """What is worth a file of its own now. ``adopt`` or ``put_back`` follows before the next call."""
        fresh = self._unfiled(messages)
        size = sum(len(message.body) for message in fresh)
        if len(fresh) < _FEW_MESSAGES and size < _FEW_BYTES:
            return None
        serial = next_serial()
        filing = Filing(serial)
        for part in _parts(fresh):
            sent = [message.sent_ms for message in part]
            page = Page(serial, 0, 0, part[0].number, part[-1].number, len(part), min(sent), max(sent), len(part), 0)
            filing.pages.append(page)
            filing.numbers.append([message.number for message in part])
            filing.messages.append([msgspec.structs.replace(m, place="ready") if m.receive_count else m for m in part])
            filing.copies.update(message.number for message in part if message.receive_count)
            for message in part:
                if message.place == "ready":
                    self._filed[message.number] = page
        self.filing = filing
        return filing

    @property
    def _filing_to(self) -> int:
        return 0 if self.filing is None else self.filing.pages[-1].last_number

    def _unfiled(self, messages: dict[int, StoredMessage]) -> list[StoredMessage]:
        """What nothing has happened to since it came, by number."""
        filed_to = self.filed_to
        found = [
            message
            for message in messages.values()
            if message.place == "ready" and message.number > filed_to and message.receive_count == 0
        ]
        # A delayed one of a FIFO queue has its place there, and those behind it would lose theirs.
        waiting = (message for message in self.tail if messages.get(message.number) is message)
        found += takewhile(_waits, waiting)
        found.sort(key=attrgetter("number"))
        return found

    def put_back(self) -> None:
        """It was not written."""
        filing, self.filing = self.filing, None
        assert filing is not None
        for page, numbers in zip(filing.pages, filing.numbers, strict=True):
            for number in numbers:
                if self._filed.get(number) is page:
                    del self._filed[number]

    def adopt(self, messages: dict[int, StoredMessage]) -> None:
        """It is written: what waits in the tail leaves memory."""
        filing, self.filing = self.filing, None
        assert filing is not None
        self.files[filing.serial] = filing.pages
        for page, numbers in zip(filing.pages, filing.numbers, strict=True):
            for number in numbers:
                message = messages.get(number)
                if message is None or message.place != "backlog":
                    # It was deleted, or received, since; or it is in the window, and filed.
                    if self._filed.get(number) is not page:
                        page.leave(number)
                else:
                    del messages[number]
                    page.waiting += 1
            if page.waiting:
                self.oldest_ms = min(self.oldest_ms, page.oldest_sent_ms) if self.pages else page.oldest_sent_ms
                self.pages.append(page)
                self.on_disk += page.waiting
        self.filed_to = filing.pages[-1].last_number
        while self.tail and messages.get(self.tail[0].number) is not self.tail[0]:
            self.tail.popleft()

    def restore(self, files: dict[int, list[Page]]) -> None:
        """Take what recovery found: none of it is in memory."""
        self.files = files
        self.pages = [page for serial in sorted(files) for page in files[serial] if page.waiting]
        self.on_disk = sum(page.waiting for page in self.pages)
        self.oldest_ms = min((page.oldest_sent_ms for page in self.pages), default=0)
        self.filed_to = max((pages[-1].last_number for pages in files.values()), default=0)

    def give_up_files(self) -> None:
        """Let go of the files that nothing is in any more, or so little that it is better kept elsewhere."""
        for serial, pages in list(self.files.items()):
            if sum(page.live for page in pages) > _LEFT_OVER or any(page.waiting for page in pages):
                continue
            for page in pages:
                for number in range(page.first_number, page.last_number + 1) if page.live else ():
                    if self._filed.get(number) is page:
                        del self._filed[number]
            del self.files[serial]

    def states(self) -> dict[int, list[PageState]]:
        """What a snapshot says of the files."""
        return {serial: [page.state() for page in pages] for serial, pages in self.files.items()}


def _when_it_came(message: StoredMessage) -> StoredMessage:
    """Told by what never changes of it."""
    return StoredMessage(
        message.number,
        message.message_id,
        message.body,
        message.sent_ms,
        "ready",
        message.sent_ms,
        group_id=message.group_id,
        attributes=message.attributes,
        trace_header=message.trace_header,
        deduplication_id=message.deduplication_id,
    )


def _waits(message: StoredMessage) -> bool:
    return message.place == "backlog"


def _parts(messages: Sequence[StoredMessage]) -> Iterator[Sequence[StoredMessage]]:
    """What becomes one page each."""
    start = size = 0
    for position, message in enumerate(messages):
        size += len(message.body)
        if size >= _PAGE_BYTES or position + 1 - start >= _PAGE_MESSAGES:
            yield messages[start : position + 1]
            start, size = position + 1, 0
    if start < len(messages):
        yield messages[start:]

"""Which messages are the oldest and which are too old, wherever they wait, is what a list of all of them says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.queues import backlog, settled
from streamkit.queues.backlog import Page
from streamkit.queues.message import QueueAttributes
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState
from tests.queues.windows import small_windows

NOW_MS = 1_700_000_000_000
RETENTION_MS = 100


class Shelf:
    """A queue whose pages are in a dict, and the list of what it should have: all that counts is number and times."""

    def __init__(self, *, fifo: bool) -> None:
        self.fifo = fifo
        self.pages: dict[tuple[int, int], list[StoredMessage]] = {}
        self.serials = count(1)
        self.now_ms = NOW_MS
        self.expected: dict[int, tuple[int, int, int]] = {}
        """By number: when it was sent, when it came, and how often it was received."""
        self.queue = self.new()

    def new(self) -> QueueState:
        queue = QueueState(1, "q", NOW_MS, QueueAttributes(fifo=self.fifo, retention_ms=RETENTION_MS))
        queue.read_page = self.read
        return queue

    def read(self, page: Page) -> Sequence[StoredMessage]:
        rows = self.pages[page.serial, page.first_number]
        return [msgspec.structs.replace(m) for m in rows]

    def on_disk(self, page: Page) -> list[StoredMessage]:
        """What a page has of messages that are on disk alone."""
        return [m for m in self.read(page) if m.number not in page.left and m.number not in self.queue.messages]

    # ---- what may happen

    def send(self, sent_ago_ms: int, group: str | None, dead_letter: bool) -> None:
        """Sent some time ago: it is a dead letter, or the clock was set back."""
        number = self.queue.last_number + 1
        sent_ms = self.now_ms - sent_ago_ms
        group = (group or "a") if self.fifo else group
        message = StoredMessage(number, f"{number}", b"x", sent_ms, "ready", sent_ms, group_id=group)
        if dead_letter:
            message.arrived_ms, message.receive_count = self.now_ms, 1
        self.queue.add(message)
        self.expected[number] = (sent_ms, message.arrived_ms or sent_ms, message.receive_count)

    def receive(self, most: int, timeout_ms: int) -> None:
        self.expire()
        while self.queue.lacks_page(most, self.now_ms):
            page = self.queue.backlog.pages[0]
            self.queue.load(page, self.on_disk(page))
        for message in self.queue.take(most, self.now_ms, dead_letters=False).received:
            self.queue.receive(message, self.now_ms, timeout_ms)
            sent_ms, came_ms, received = self.expected[message.number]
            self.expected[message.number] = (sent_ms, came_ms, received + 1)

    def delete(self, place: int) -> None:
        """One of them, wherever it is."""
        if self.expected:
            number = sorted(self.expected)[place % len(self.expected)]
            self.queue.discard(number)
            del self.expected[number]

    def settle(self, *, fails: bool) -> None:
        filing = settled.take_aside(self.queue, lambda: next(self.serials))
        if filing is None:
            return
        if fails:
            settled.put_back(self.queue, filing)
            return
        for place, page in enumerate(filing.pages):
            self.pages[page.serial, page.first_number] = [msgspec.structs.replace(m) for m in filing.rows(place)]
        settled.adopt(self.queue, filing)

    def reopen(self) -> None:
        self.settle(fails=False)
        old, self.queue = self.queue, self.new()
        states = old.backlog.states()
        files: dict[int, list[Page]] = {}
        for serial, pages in old.backlog.files.items():
            files[serial] = [msgspec.structs.replace(p, left=set(), first=None, live=p.count) for p in pages]
            for page, state in zip(files[serial], states[serial], strict=True):
                rows = self.read(page)
                page.oldest_sent_ms = min(row.sent_ms for row in rows)
                page.restore(state)
        settled.restore(self.queue, [msgspec.structs.replace(m) for m in settled.unfiled(old)], files)
        self.queue.last_number = old.last_number

    # ---- what must hold

    def expire(self) -> None:
        """As whoever looks at a queue does it: first what is in memory, then what is on disk."""
        before_ms = self.now_ms - RETENTION_MS
        for number in self.queue.expired(self.now_ms, 10**9):
            self.queue.discard(number)
        while (page := self.queue.backlog.first_expiring(before_ms)) is not None:
            numbers = self.queue.backlog.all_of(page) if page.newest_sent_ms < before_ms else None
            if numbers is None:
                rows = self.on_disk(page)
                numbers = [row.number for row in rows if row.sent_ms < before_ms]
                page.oldest_sent_ms = min(
                    (row.sent_ms for row in rows if row.sent_ms >= before_ms), default=page.newest_sent_ms
                )
            for number in numbers:
                self.queue.discard(number)
        self.expected = {n: times for n, times in self.expected.items() if times[0] >= before_ms}
        assert self.numbers() == sorted(self.expected)

    def numbers(self) -> list[int]:
        rows = [row for page in self.queue.backlog.pages for row in self.on_disk(page)]
        return sorted([*self.queue.messages, *(row.number for row in rows)])

    def check_oldest(self) -> None:
        queue = self.queue
        while (page := queue.ages.undated(queue.messages, queue.backlog, fifo=self.fifo)) is not None:
            first = self.on_disk(page)[0]
            page.first = (first.number, first.arrived_ms or first.sent_ms)
        times = [self.expected[number] for number in sorted(self.expected)]
        if not self.fifo:
            times = [each for each in times if each[2] < 3] or times
        expected = times[0][1] if times else None
        seen = queue.describe(self.now_ms)
        assert seen.oldest_ms == expected
        if not seen.noisy_groups:
            assert seen.oldest_in_quiet_groups_ms == expected


STEPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([0, 0, 0, 10, 60]), st.sampled_from([None, "a", "b"]), st.booleans()),
    st.tuples(st.just("receive"), st.integers(1, 4), st.sampled_from([0, 5, 1000])),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("settle"), st.booleans()),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("later"), st.sampled_from([1, 10, 45])),
)


@pytest.mark.parametrize("fifo", [False, True])
def test_ages_are_those_of_a_list(fifo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)

    @settings(max_examples=300, deadline=None)
    @given(steps=st.lists(STEPS, max_size=60))
    def run(steps: list[tuple[object, ...]]) -> None:
        do(steps, fifo=fifo)

    run()


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize(("page", "window"), [(2, 2), (4, 3), (8, 4)])
def test_ages_are_those_of_a_list_also_after_long(
    page: int, window: int, fifo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_windows(monkeypatch)
    monkeypatch.setattr(backlog, "_PAGE_MESSAGES", page)
    monkeypatch.setattr(backlog, "STANDARD_WINDOW", window)
    for seed in range(60):
        do([a_step(Random(f"{seed} {step}")) for step in range(100)], fifo=fifo)


def a_step(chance: Random) -> tuple[object, ...]:
    kinds = ["send", "receive", "delete", "settle", "reopen", "later"]
    (kind,) = chance.choices(kinds, [50, 15, 10, 10, 3, 12])
    if kind == "send":
        return kind, chance.choice([0, 0, 0, 10, 60]), chance.choice([None, "a", "b"]), chance.random() < 0.2
    if kind == "receive":
        return kind, chance.randint(1, 4), chance.choice([0, 5, 1000])
    if kind == "delete":
        return kind, chance.randrange(30)
    if kind == "settle":
        return kind, chance.random() < 0.2
    return (kind,) if kind == "reopen" else (kind, chance.choice([1, 10, 45]))


def test_a_dead_letter_is_too_old_in_time_after_a_reopening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though one that was sent later came to its queue before it, and both came back from the disk."""
    small_windows(monkeypatch)
    for fifo in (False, True):
        shelf = do([("send", 10, None, False), ("send", 60, None, True), ("reopen",), ("receive", 2, 5)], fifo=fifo)
        shelf.now_ms += 45
        assert shelf.queue.expired(shelf.now_ms, 10**9) == [2]


def test_what_waits_in_memory_between_messages_on_disk_is_too_old_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first messages of a page are in the window, and the very first one is gone."""
    small_windows(monkeypatch)
    monkeypatch.setattr(backlog, "_PAGE_MESSAGES", 8)
    shelf = Shelf(fifo=False)
    for _ in range(3):
        shelf.send(0, None, dead_letter=False)
    shelf.settle(fails=False)
    shelf.delete(0)
    assert list(shelf.queue.messages) == [2]
    shelf.now_ms += RETENTION_MS + 1
    assert shelf.queue.expired(shelf.now_ms, 10**9) == [2]


def test_entries_that_are_out_of_date_are_let_go_of() -> None:
    """Dead letters come in any order, and go, for as long as nothing is ever filed."""
    shelf = Shelf(fifo=False)
    for number in range(1, 5_000):
        shelf.send(number % 7, None, dead_letter=True)
        shelf.delete(0)
    assert len(shelf.queue.ages._unordered) <= 1_001


def do(steps: Sequence[tuple[object, ...]], *, fifo: bool = False) -> Shelf:
    shelf = Shelf(fifo=fifo)
    for name, *values in steps:
        if name == "later":
            shelf.now_ms += int(values[0])  # type: ignore[call-overload]
        elif name == "settle":
            shelf.settle(fails=bool(values[0]))
        else:
            getattr(shelf, str(name))(*values)
        shelf.expire()
        shelf.check_oldest()
    return shelf

"""Five minutes, whatever the clock does."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.queues import deduplication
from streamkit.queues.deduplication import WINDOW_MS, Deduplication, Key, Original, content_based_id

KEYS: st.SearchStrategy[Key] = st.one_of(
    st.sampled_from(["a", "b", "c"]), st.tuples(st.sampled_from("gh"), st.sampled_from("ab"))
)
STEPS = st.lists(
    st.tuples(
        KEYS,
        st.sampled_from([0, 1, 1_000, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1]),
        st.sampled_from(["go on", "settle", "settle in vain", "reopen"]),
    ),
    max_size=40,
)


@pytest.fixture(autouse=True)
def files_of_a_few_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "_FEW_IDS", 3)


class Disk:
    """What was settled of it: files, and what a snapshot holds."""

    def __init__(self) -> None:
        self.files: dict[int, list[Original]] = {}
        self.snapshot: list[Original] = []
        self.serials = count(1)

    def settle(self, memory: Deduplication, now_ms: int, *, fails: bool) -> None:
        filed = memory.take_aside(lambda: next(self.serials), now_ms)
        if fails:
            if filed is not None:
                memory.put_back(filed)
            return
        self.snapshot = memory.unfiled(now_ms)
        self.files = {serial: entries for serial, entries in self.files.items() if serial in memory.files}
        if filed is not None:
            self.files[filed.serial] = list(filed.originals)
            memory.adopt(filed)

    def reopened(self) -> Deduplication:
        memory = Deduplication()
        memory.restore(self.files, self.snapshot)
        return memory


@given(STEPS)
def test_it_is_a_dictionary_with_a_window(steps: list[tuple[Key, int, str]]) -> None:
    known: dict[Key, Original] = {}
    memory = Deduplication()
    disk = Disk()
    now_ms = 1_700_000_000_000
    for number, (key, later_ms, then) in enumerate(steps):
        now_ms += later_ms
        if then != "go on":
            disk.settle(memory, now_ms, fails=then == "settle in vain")
        if then == "reopen":
            memory = disk.reopened()
        expected = known.get(key)
        if expected is not None and now_ms - expected.sent_ms >= WINDOW_MS:
            expected = None
        assert memory.find(key, now_ms) == expected
        if expected is None:
            known[key] = Original(key, f"m{number}", number, now_ms)
            memory.add(known[key])
        recent = {key: original for key, original in known.items() if now_ms - original.sent_ms < WINDOW_MS}
        for key in known:
            assert memory.find(key, now_ms) == recent.get(key)
        assert len(memory) >= len(recent)


def test_an_id_is_written_once() -> None:
    """And its file is let go of when all in it is too old."""
    memory = Deduplication()
    disk = Disk()
    now_ms = 1_700_000_000_000
    written: list[Key] = []
    for number in range(100):
        now_ms += WINDOW_MS // 50
        memory.add(Original(f"{number}", "m", number, now_ms))
        before = disk.files.keys()
        disk.settle(memory, now_ms, fails=number % 7 == 0)
        written += [original.key for serial in disk.files.keys() - before for original in disk.files[serial]]
        assert len(disk.files) <= 18
        assert len(disk.snapshot) < 4
    assert len(written) >= 95
    assert written == [f"{number}" for number in range(len(written))]


def test_what_was_forgotten_while_it_was_written_stays_forgotten() -> None:
    memory = Deduplication()
    for number in range(3):
        memory.add(Original(f"{number}", "m", number, number))
    filed = memory.take_aside(lambda: 1, 3)
    assert filed is not None
    memory.clear()
    memory.add(Original("new", "m", 9, 9))
    memory.adopt(filed)
    memory.put_back(filed)
    assert memory.files == {}
    assert memory.unfiled(9) == [Original("new", "m", 9, 9)]


def test_what_is_too_old_takes_no_memory() -> None:
    memory = Deduplication()
    for number in range(10_000):
        memory.add(Original(f"id-{number}", "m", number, number * 1_000))
    assert len(memory) == WINDOW_MS // 1_000


def test_a_clock_that_is_set_back() -> None:
    """By a little it lengthens the window; by much it ends it: nothing is swallowed for as long as it is wrong."""
    memory = Deduplication()
    now_ms = 1_700_000_000_000
    original = Original("id", "m", 1, now_ms)
    memory.add(original)
    assert memory.find("id", now_ms - 60_000) == original
    assert memory.find("id", now_ms - WINDOW_MS) is None
    assert memory.find("id", now_ms - 86_400_000) is None
    memory.add(Original("other", "m2", 2, now_ms - 86_400_000))
    assert len(memory) == 1


def test_by_content() -> None:
    """The SHA-256 of the body."""
    assert content_based_id(b"x") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

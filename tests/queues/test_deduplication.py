"""Five minutes, whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.queues.deduplication import WINDOW_MS, Deduplication, Key, Original, content_based_id

KEYS: st.SearchStrategy[Key] = st.one_of(
    st.sampled_from(["a", "b", "c"]), st.tuples(st.sampled_from("gh"), st.sampled_from("ab"))
)
STEPS = st.lists(st.tuples(KEYS, st.sampled_from([0, 1, 1_000, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1])), max_size=40)


@given(STEPS, st.booleans())
def test_it_is_a_dictionary_with_a_window(steps: list[tuple[Key, int]], reopened: bool) -> None:
    known: dict[Key, Original] = {}
    memory = Deduplication()
    now_ms = 1_700_000_000_000
    for number, (key, later_ms) in enumerate(steps):
        now_ms += later_ms
        if reopened:
            again = Deduplication()
            again.adopt(memory.entries(now_ms))
            memory = again
        expected = known.get(key)
        if expected is not None and now_ms - expected.sent_ms >= WINDOW_MS:
            expected = None
        assert memory.find(key, now_ms) == expected
        if expected is None:
            known[key] = Original(f"m{number}", number, now_ms)
            memory.add(key, known[key])
        recent = [original for original in known.values() if now_ms - original.sent_ms < WINDOW_MS]
        assert len(memory.entries(now_ms)) == len(recent)
        assert len(memory) >= len(recent)


def test_what_is_too_old_takes_no_memory() -> None:
    memory = Deduplication()
    for number in range(10_000):
        memory.add(f"id-{number}", Original("m", number, number * 1_000))
    assert len(memory) == WINDOW_MS // 1_000


def test_a_clock_that_is_set_back() -> None:
    """By a little it lengthens the window; by much it ends it: nothing is swallowed for as long as it is wrong."""
    memory = Deduplication()
    now_ms = 1_700_000_000_000
    original = Original("m", 1, now_ms)
    memory.add("id", original)
    assert memory.find("id", now_ms - 60_000) == original
    assert memory.find("id", now_ms - WINDOW_MS) is None
    assert memory.find("id", now_ms - 86_400_000) is None
    memory.add("other", Original("m2", 2, now_ms - 86_400_000))
    assert len(memory) == 1


def test_by_content() -> None:
    """The SHA-256 of the body."""
    assert content_based_id(b"x") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

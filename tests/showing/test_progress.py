from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from streamkit.showing.progress import State, progress
from streamkit.testing.clock import ManualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is for progress; one test moves it."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def lines(out: Terminal) -> list[str]:
    return [line for line in out.getvalue().split("\r\033[K") if line]


def test_a_line_in_a_terminal_that_is_gone_at_the_end(seconds: list[float]) -> None:
    out = Terminal()
    with progress("loading", 200, noun="rows", out=out) as shown:
        for _ in shown.over(range(200)):
            seconds[0] += 0.01
    first, *_, last = lines(out)
    assert first == "loading  ░░░░░░░░░░░░░░░░░░░░  0 of 200 rows (0%)"
    assert last.startswith("loading  ███████████████████")
    assert "100 a second" in last
    assert "left" in lines(out)[1]
    assert out.getvalue().endswith("\r\033[K")


def test_it_draws_no_more_than_ten_times_a_second(seconds: list[float]) -> None:
    out = Terminal()
    with progress("loading", 10_000, out=out) as shown:
        for _ in shown.over(range(10_000)):
            seconds[0] += 0.0001  # One second in all.
    assert 8 <= len(lines(out)) <= 12


def test_nothing_where_nobody_looks() -> None:
    out = io.StringIO()
    with progress("loading", 3, out=out) as shown:
        assert list(shown.over("abc")) == ["a", "b", "c"]
    assert out.getvalue() == ""
    assert shown.state.done == 3


def test_without_a_total_it_counts(seconds: list[float]) -> None:
    out = Terminal()
    with progress("checking", noun="files", out=out) as shown:
        for name in ("a", "evil\n\x1b[31m", "c"):
            seconds[0] += 1
            shown.say(name)
    assert lines(out)[0] == "checking"
    assert lines(out)[2] == "checking  2 files, 1 a second, 2 s  evil  [31m"
    assert lines(out)[3] == "checking  3 files, 1 a second, 3 s  c"


def test_it_goes_when_the_work_fails() -> None:
    out = Terminal()
    with pytest.raises(LookupError), progress("loading", out=out) as shown:
        raise LookupError
    assert shown.state.failed
    assert out.getvalue().endswith("\r\033[K")


@pytest.mark.parametrize(
    ("done", "seconds", "told"),
    [
        (50, 10, "50 of 100 rows (50%), 5 a second, 10 s left"),
        (1, 100, "1 of 100 rows (1%), 0.01 a second, 2 h 45 min left"),
        (10, 100, "10 of 100 rows (10%), 0.1 a second, 15 min 0 s left"),
        (100, 4, "100 of 100 rows (100%), 25 a second, 4 s"),
        (150, 4, "150 of 100 rows (100%), 37.5 a second, 4 s"),
    ],
)
def test_words(done: float, seconds: float, told: str) -> None:
    state = State("loading", 100, "rows")
    state.done, state.seconds = done, seconds
    assert state.words() == told


async def test_work_that_says_how_far_it_is(clock: ManualClock) -> None:
    asked = 0

    def done() -> int:
        nonlocal asked
        asked += 1
        return asked

    async def work() -> str:
        await clock.sleep_until(clock.now_ms() + 1000)
        return "made"

    with progress("working", 6, out=Terminal()) as shown:
        waiting = asyncio.create_task(shown.until(work(), done, clock=clock))
        for _ in range(5):
            await clock.advance(0.2)
        assert await waiting == "made"
    assert 5 <= asked <= 7
    assert shown.state.done == asked


async def test_who_waits_and_is_cancelled_cancels_the_work(clock: ManualClock) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def done() -> float:
        return 1

    with progress("working", out=io.StringIO()) as shown:
        waiting = asyncio.create_task(shown.until(work(), done, clock=clock))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await ended.wait()
    assert shown.state.done == 1


async def test_work_that_fails_raises_its_own_error(clock: ManualClock) -> None:
    async def work() -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"), progress("working", out=io.StringIO()) as shown:
        await shown.until(work(), lambda: 0, clock=clock)


async def test_what_comes_asynchronously_is_counted() -> None:
    async def three() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    with progress("reading", 3, out=io.StringIO()) as shown:
        assert [each async for each in shown.aover(three())] == [0, 1, 2]
    assert shown.state.done == 3

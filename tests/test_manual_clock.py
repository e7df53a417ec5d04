from __future__ import annotations

import asyncio

import pytest

from streamkit.clock import Clock, wait_until
from streamkit.errors import ValidationError
from streamkit.testing.clock import ManualClock

START = 1_700_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_stands_still_until_advanced(clock: ManualClock) -> None:
    accepted: Clock = clock
    assert accepted.now_ms() == START
    await clock.advance(0)
    assert clock.now_ms() == START
    await clock.advance(1.5)
    assert clock.now_ms() == START + 1500


async def test_timers_run_in_order_each_at_its_own_instant(clock: ManualClock) -> None:
    seen: list[tuple[str, int]] = []

    def note(name: str) -> None:
        seen.append((name, clock.now_ms() - START))

    clock.call_at(START + 3000, lambda: note("c"))
    clock.call_at(START + 1000, lambda: note("a"))
    clock.call_at(START + 1000, lambda: note("b"))
    clock.call_at(START + 3001, lambda: note("later"))
    await clock.advance(3)
    assert seen == [("a", 1000), ("b", 1000), ("c", 3000)]
    assert clock.now_ms() == START + 3000


async def test_timers_set_on_the_way_run_too(clock: ManualClock) -> None:
    ticks: list[int] = []

    async def tick_each_second() -> None:
        while True:
            await clock.sleep_until(clock.now_ms() + 1000)
            ticks.append(clock.now_ms() - START)

    task = asyncio.create_task(tick_each_second())  # it has not run yet: advance lets it set its first timer
    await clock.advance(3.999)
    assert ticks == [1000, 2000, 3000]
    await clock.advance(0.001)
    assert ticks[-1] == 4000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_timer_wakes_comes_to_rest_before_the_next(clock: ManualClock) -> None:
    seen: list[tuple[str, int]] = []

    async def work(name: str, after_ms: int) -> None:
        await clock.sleep_until(START + after_ms)
        for _ in range(20):
            await asyncio.sleep(0)
        seen.append((name, clock.now_ms() - START))

    async with asyncio.TaskGroup() as group:
        group.create_task(work("late", 2000))
        group.create_task(work("early", 1000))
        await clock.advance(10)
        assert seen == [("early", 1000), ("late", 2000)]


async def test_a_due_timer_runs_on_the_next_turn_and_a_due_sleep_returns_at_once(clock: ManualClock) -> None:
    ran: list[bool] = []
    clock.call_at(START, lambda: ran.append(True))
    assert not ran
    await clock.advance(0)
    assert ran == [True]
    clock.call_at(START - 1, lambda: ran.append(False)).cancel()
    await clock.sleep_until(START)
    await clock.advance(0)
    assert ran == [True]


async def test_cancelled_timers_and_sleeps_do_nothing(clock: ManualClock) -> None:
    ran: list[bool] = []
    timer = clock.call_at(START + 1, lambda: ran.append(True))
    timer.cancel()
    timer.cancel()
    task = asyncio.create_task(clock.sleep_until(START + 2))
    await clock.advance(0)
    task.cancel()
    await clock.advance(1)
    assert not ran
    assert task.cancelled()


async def test_wait_until_works_on_it(clock: ManualClock) -> None:
    loop = asyncio.get_running_loop()
    deadline = asyncio.create_task(wait_until(clock, loop.create_future(), START + 500))
    await clock.advance(0.499)
    assert not deadline.done()
    await clock.advance(0.001)
    assert deadline.result() is False


async def test_a_task_that_is_always_ready_does_not_stop_time(clock: ManualClock) -> None:
    async def spin() -> None:
        for _ in range(1_000_000):
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    await clock.advance(1)
    assert clock.now_ms() == START + 1000
    task.cancel()


async def test_a_loop_that_hides_what_is_ready_gets_a_fixed_number_of_turns(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opaque:
        def __init__(self) -> None:
            self.create_future = asyncio.get_running_loop().create_future

    opaque = Opaque()
    task = asyncio.create_task(clock.sleep_until(START + 1000))
    await asyncio.sleep(0)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: opaque)
    await clock.advance(1)
    monkeypatch.undo()
    assert task.done()


async def test_time_does_not_go_back_and_one_task_moves_it(clock: ManualClock) -> None:
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ValidationError, match="forward"):
            await clock.advance(seconds)
    first = asyncio.create_task(clock.advance(1))
    await asyncio.sleep(0)
    with pytest.raises(ValidationError, match="another task"):
        await clock.advance(1)
    await first
    assert clock.now_ms() == START + 1000


async def test_what_a_callback_raises_reaches_the_test(clock: ManualClock) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    clock.call_at(START + 400, fail)
    with pytest.raises(ZeroDivisionError):
        await clock.advance(1)
    assert clock.now_ms() == START + 400
    await clock.advance(1)


async def test_it_tells_when_the_next_timer_is_due() -> None:
    clock = ManualClock(1_000)
    told = [clock.next_ms]
    late = clock.call_at(5_000, lambda: None)
    soon = clock.call_at(3_000, lambda: None)
    told.append(clock.next_ms)
    for timer in (soon, late):
        timer.cancel()
        told.append(clock.next_ms)
    assert told == [None, 3_000, 5_000, None]


async def test_settling_moves_no_time_and_tells_whether_all_came_to_rest() -> None:
    clock = ManualClock(1_000)
    turns = 0

    async def several(most: int) -> None:
        nonlocal turns
        for _ in range(most):
            turns += 1
            await asyncio.sleep(0)

    few = asyncio.create_task(several(10))
    assert await clock.settle()
    assert (turns, clock.now_ms()) == (10, 1_000)
    many = asyncio.create_task(several(2_000))
    assert not await clock.settle()
    many.cancel()
    await asyncio.wait([few, many])

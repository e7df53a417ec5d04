"""The sweep finds what is lost to a cancellation, and counts the places where it might have been."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeVar

import pytest

from streamkit.testing import cancellation
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

T = TypeVar("T")


async def nothing() -> None:
    """A check that is content."""


def soon(result: T) -> asyncio.Future[T]:
    """A future that gets its result on the loop's next turn, unless it is cancelled before."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def arrive() -> None:
        if not future.done():
            future.set_result(result)

    asyncio.get_running_loop().call_soon(arrive)
    return future


async def test_every_suspension_is_cancelled_early_and_late() -> None:
    runs: list[list[str]] = []

    async def work() -> None:
        steps: list[str] = []
        runs.append(steps)
        for name in ("a", "b"):
            came = soon(name)
            try:
                steps.append(await came)
            except asyncio.CancelledError:
                steps.append("late" if came.done() and not came.cancelled() else "early")
                raise

    assert await cancel_at_every_step(work, nothing) == 2
    assert runs[-1] == ["a", "b"]
    assert len(runs) == 5
    assert [steps[:-1] for steps in runs[:-1]] == [[], [], ["a"], ["a"]]
    assert "late" in runs[1]
    assert "late" in runs[3]


async def test_a_coroutine_that_never_waits_runs_once() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)

    assert await cancel_at_every_step(work, nothing) == 0
    assert runs == [1]


async def test_the_check_follows_every_run() -> None:
    happened: list[str] = []

    async def work() -> None:
        happened.append("work")
        await asyncio.sleep(0)

    async def check() -> None:
        happened.append("check")

    assert await cancel_at_every_step(work, check) == 1
    assert happened == ["work", "check"] * 3


async def test_what_is_lost_between_a_result_and_its_use_is_found() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    kept: list[int] = []

    async def take() -> None:
        kept.append(await soon(queue.get_nowait()))

    async def check() -> None:
        assert queue.qsize() + len(kept) == 1, "it is lost"
        kept.clear()
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(1)

    queue.put_nowait(1)
    with pytest.raises(AssertionError, match="it is lost"):
        await cancel_at_every_step(take, check)


async def test_a_swallowed_cancellation_is_found() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="swallowed its cancellation at suspension 1"):
        await cancel_at_every_step(work, nothing)


async def test_what_a_run_or_a_check_raises_comes_out() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise ZeroDivisionError

    async def check() -> None:
        raise KeyError

    with pytest.raises(ZeroDivisionError):
        await cancel_at_every_step(work, nothing)
    with pytest.raises(KeyError):
        await cancel_at_every_step(nothing, check)


async def test_a_run_that_is_never_woken_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "HANG_SECONDS", 0.01)

    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing woke it"):
        await cancel_at_every_step(work, nothing)


async def test_timeouts_groups_and_clocks_work_inside(clock: ManualClock) -> None:
    finished: list[int] = []

    async def work() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(clock.sleep_until(clock.now_ms() + 1000))
            await asyncio.sleep(0)
            await clock.advance(1)
        finished.append(1)

    assert await cancel_at_every_step(work, nothing) > 2
    assert finished == [1]

"""Cancels a coroutine at every place where it waits, one place after the other."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

HANG_SECONDS = 10.0
"""Of the machine's time, which a run may take."""


async def cancel_at_every_step(
    make: Callable[[], Coroutine[Any, Any, object]], check: Callable[[], Awaitable[None]]
) -> int:
    """Run ``make()`` as a task again and again, each time cancelled one suspension further on, until it completes.

    Every suspension is cancelled twice: as soon as the coroutine waits, and just after what it waited for has come but
    before it goes on (where a result is most easily lost). ``check`` runs after each of the runs, the last and
    uncancelled one included; it asserts what must hold whether the work happened or not, and puts things back so that
    the next ``make()`` finds them as the first did.

    ::

        async def nothing_is_in_flight() -> None:
            (jobs,) = await queues.describe_queues(["jobs"])
            assert jobs.not_visible == 0

        await cancel_at_every_step(lambda: queues.receive_messages("jobs", 10), nothing_is_in_flight)

    Returns:
        How many suspensions there were; 0 for a coroutine that never waits.

    Raises:
        AssertionError: a cancelled run ended as if nothing had happened, so that a timeout around it would never fire;
            or a run did not end.
        Exception: whatever a run or ``check`` raised.
    """
    step = 0
    while True:
        for late in (False, True):
            reached = await _run_once(make(), step, late=late)
            await check()
            if not reached:
                return step
        step += 1


async def _run_once(coroutine: Coroutine[Any, Any, object], step: int, *, late: bool) -> bool:
    """Run it, cancelled at its suspension number ``step``. False if it completed without coming so far."""
    loop = asyncio.get_running_loop()
    passed = 0
    reached = False

    def suspended(awaited: Any) -> None:
        nonlocal passed, reached
        if passed == step:
            reached = True
            # Our callback stands before the task's own, so the task is cancelled between the result and its next turn.
            if late and awaited is not None:
                awaited.add_done_callback(lambda _: task.cancel())
            else:
                loop.call_soon(task.cancel)
        passed += 1

    async def watched() -> object:
        return await _watch(coroutine, suspended)

    task = asyncio.create_task(watched())
    _, pending = await asyncio.wait([task], timeout=HANG_SECONDS)
    if pending:
        task.cancel()
        await asyncio.wait([task])
        raise AssertionError(f"{coroutine!r} hangs: nothing woke it in {HANG_SECONDS:g} s")
    if not task.cancelled():
        task.result()
        if reached:
            raise AssertionError(f"{coroutine!r} swallowed its cancellation at suspension {step}: let it through")
    return reached


@types.coroutine
def _watch(coroutine: Coroutine[Any, Any, object], suspended: Callable[[Any], None]) -> Generator[Any, Any, object]:
    """``await coroutine``, with a call before each suspension."""
    advance: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731 - it changes with what comes back
    try:
        while True:
            awaited = advance()
            suspended(awaited)
            try:
                value = yield awaited
            except BaseException as error:
                thrown = error
                advance = lambda: coroutine.throw(thrown)  # noqa: B023, E731
            else:
                advance = lambda: coroutine.send(value)  # noqa: B023, E731
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()

"""What takes time of the machine and not of a manual clock: threads, sleeps, and whatever handlers wait for.

A manual clock must not run past a handler that reads a file in a thread. So who drains waits for such work first. It is
found where it waits: asyncio's tasks say which coroutines they are in.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from types import CoroutineType
from typing import Any

import anyio
import anyio.to_thread

from streamkit.clock import SystemClock
from streamkit.functions.runtime import thread_or_limit
from streamkit.supervisor import Supervisor
from streamkit.testing.clock import ManualClock

_LOOK_MS = 1
_system = SystemClock()

_IN_A_THREAD = {anyio.to_thread.run_sync.__code__, asyncio.to_thread.__code__}
_ASLEEP = asyncio.sleep.__code__
_SERVICE = Supervisor._run.__code__

_OURS = os.path.dirname(os.path.dirname(ManualClock.settle.__code__.co_filename)) + os.sep
_DASHBOARD = os.path.join(_OURS, "dashboard", "")
_OF_THE_LOOP = tuple(os.path.dirname(str(package.__file__)) + os.sep for package in (asyncio, anyio))


async def at_rest(clock: ManualClock, patience: float) -> list[str]:
    """Give every task its turns, and wait for what really takes time, for ``patience`` seconds at most.

    Answers what goes on after that; nothing, as a rule.
    """
    deadline_ms = _system.now_ms() + round(patience * 1000)
    while True:
        rests = await clock.settle()
        busy = at_work()
        if rests and not busy:
            return []
        if _system.now_ms() >= deadline_ms:
            return busy or ["tasks that are always ready: do they feed one another?"]
        await _system.sleep_until(_system.now_ms() + _LOOK_MS)


def at_work() -> list[str]:
    """What streamkit has called, and what it does itself, that waits for something else than a manual clock."""
    current = asyncio.current_task()
    found = (_work_of(task) for task in asyncio.all_tasks() if task is not current)
    return sorted(work for work in found if work is not None)


def _work_of(task: asyncio.Task[Any]) -> str | None:
    chain = list(_coroutines(task))
    codes = [each.cr_code for each in chain]
    ours = [at for at, code in enumerate(codes) if _is_ours(code.co_filename)]
    if not ours or at_rest.__code__ in codes:
        return None
    if thread_or_limit.__code__ in codes:
        return "a function in a thread"
    if codes[ours[-1]] is _SERVICE:
        return None  # A service of somebody's own: what it waits for in its loop may never come.
    # Who waits for a manual clock, or for an engine, waits within streamkit, and nothing is beneath that.
    for each in chain[ours[-1] + 1 :]:
        if each.cr_code in _IN_A_THREAD:
            work = inspect.getcoroutinelocals(each).get("func")
            return f"{getattr(work, '__qualname__', work)} in a thread"
        if each.cr_code is _ASLEEP or not each.cr_code.co_filename.startswith(_OF_THE_LOOP):
            return f"{each.__qualname__}, which waits for something else than the clock"
    return None


def _is_ours(path: str) -> bool:
    # A dashboard waits for those who look, who may look for ever.
    return path.startswith(_OURS) and not path.startswith(_DASHBOARD)


def _coroutines(task: asyncio.Task[Any]) -> Iterator[CoroutineType[Any, Any, Any]]:
    """From what the task was made of to what it waits in."""
    coroutine: Any = task.get_coro()
    while inspect.iscoroutine(coroutine):
        yield coroutine
        coroutine = coroutine.cr_await

"""Running work: within a concurrency limit and a time limit, apart from whoever waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from streamkit.clock import Clock, Timer, wait_until, wake
from streamkit.errors import FunctionError
from streamkit.functions.context import CURRENT, LambdaContext
from streamkit.functions.threads import run_in_thread
from streamkit.functions.work import Work

logger = logging.getLogger("streamkit.functions")

SLOT_WAIT_MS = 1000
"""How long an invocation waits for a free slot before it counts as throttled."""
_AGAIN_MS = 1000


class Slots:
    """How many invocations of one function run at a time; first come, first served."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._waiters: deque[asyncio.Future[bool]] = deque()
        self.active = 0
        """How many are taken."""

    async def acquire(self, clock: Clock) -> bool:
        """Take one, after waiting for it if need be. False if none came free in time."""
        if self._limit is None or self.active < self._limit:  # Then nobody waits.
            self.active += 1
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await wait_until(clock, waiter, clock.now_ms() + SLOT_WAIT_MS)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.release()  # It was handed over in the moment of the cancellation.
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def release(self) -> None:
        """Give one back: to whoever waits longest, if anybody does."""
        while self._waiters:
            if wake(self._waiters.popleft()):
                return
        self.active -= 1


_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[object, Slots]] = WeakKeyDictionary()


def slots_of(function: object, limit: int | None) -> Slots:
    """The slots of a function on the running event loop: one set for all mappings and lanes that call it."""
    by_function = _slots.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    try:
        return by_function.setdefault(function, Slots(limit))
    except TypeError:  # Nothing that a weak dictionary can hold: a callable without hash, or with __slots__.
        return Slots(limit)


async def run(work: Work, slots: Slots, clock: Clock, context: LambdaContext, deadline_ms: int | None) -> bool:
    """Do the work, in a task or a thread of its own. False if its time ran out first.

    At the time limit what is asynchronous is cancelled, and waited for, so that its ``finally`` blocks are done. A
    thread cannot be ended: it is left behind, and what it answers is ignored.

    The slot that the caller took is given back when the work has ended; by a thread that was left behind, not before.

    Cancellation: passed on to what is asynchronous; a thread is waited for, until the time limit.
    """
    loop = asyncio.get_running_loop()
    expired: asyncio.Future[bool] | None = None
    timer: Timer | None = None
    if deadline_ms is not None:
        expired = loop.create_future()
        timer = clock.call_at(deadline_ms, partial(wake, expired))
    variables = copy_context()
    variables.run(CURRENT.set, context)
    step: asyncio.Future[None] | None = None
    try:
        while not work.finished:
            if work.wants_loop:
                step = loop.create_task(work.on_loop(), context=variables)
                await _first_of(step, expired, clock)
            else:
                step = run_in_thread(work.in_thread, variables)
                await thread_or_limit(step, expired, clock)
            if not step.done():
                work.close()
                if isinstance(step, asyncio.Task):
                    await _cancelled(step, clock)
                else:
                    logger.warning(
                        "function %s is still running in its thread after its time limit, and is left behind: give "
                        "what it waits for a timeout of its own",
                        context.function_name,
                    )
                return False
            if step.cancelled() or step.exception() is not None:
                # Nobody else has this task: the function cancelled it, or was closed.
                work.fail(FunctionError("the function cancelled the task that runs it"))
        return True
    except BaseException:
        work.close()
        raise
    finally:
        if timer is not None:
            timer.cancel()
        if step is None or step.done():
            slots.release()
        else:
            step.add_done_callback(lambda _: slots.release())


async def thread_or_limit(thread: asyncio.Future[None], expired: asyncio.Future[bool] | None, clock: Clock) -> None:
    """Wait for a thread, or for its time limit. Who is within this waits for a thread (``testing/waiting``)."""
    await _first_of(thread, expired, clock)


async def _first_of(step: asyncio.Future[None], expired: asyncio.Future[bool] | None, clock: Clock) -> None:
    """Wait for the first of both, however often the caller is cancelled meanwhile; only then pass that on."""
    try:
        await _done(step, expired)
    except asyncio.CancelledError:
        # INVARIANT: test_cancelled_from_outside_it_is_over_when_the_cancellation_is
        with contextlib.suppress(asyncio.CancelledError):
            if isinstance(step, asyncio.Task):
                await _cancelled(step, clock)
            else:
                await _out_of_reach(step, expired)
        raise


async def _cancelled(step: asyncio.Task[None], clock: Clock) -> None:
    """Cancel a task and wait for its end; again every second, because it may have swallowed the first."""
    timer: Timer

    def cancel() -> None:
        nonlocal timer
        step.cancel()
        timer = clock.call_at(clock.now_ms() + _AGAIN_MS, cancel)

    cancel()
    try:
        await _out_of_reach(step, None)
    finally:
        timer.cancel()


async def _out_of_reach(step: asyncio.Future[None], expired: asyncio.Future[bool] | None) -> None:
    """Wait for the first of both; a cancellation that comes meanwhile waits, too."""
    interrupted: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not step.done() and not (expired is not None and expired.done()):
            try:
                await _done(step, expired)
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
    if interrupted is not None:
        raise interrupted


async def _done(step: asyncio.Future[None], expired: asyncio.Future[bool] | None) -> None:
    # Half the cost of asyncio.wait, and every invocation passes here. HOT: `python -m benchmarks --only end_to_end`.
    waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def moved(_: asyncio.Future[Any]) -> None:
        wake(waiter)

    step.add_done_callback(moved)
    if expired is not None:
        expired.add_done_callback(moved)
    try:
        await waiter
    finally:
        step.remove_done_callback(moved)
        if expired is not None:
            expired.remove_done_callback(moved)

"""Blocking work in a thread, without starving it.

With a busy event loop a thread that comes back from a system call loses the race for the GIL again and again: commits
of seconds were measured (docs/adr/0003). So the loop hands the GIL over while it waits: once per iteration for work
that somebody waits for, and every now and then for work in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_HANDOVER_SECONDS = 0.0002
_BACKGROUND_INTERVAL_SECONDS = 0.02


def start(executor: ThreadPoolExecutor, work: Callable[[], T], *, background: bool = False) -> asyncio.Future[T]:
    """Run ``work`` in the executor; the future gets its result or its exception, also that no thread could be had.

    Cancelling the future does not stop the work: see ``whole``.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    done = threading.Lock()
    done.acquire()
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))
        finally:
            done.release()
            if background:
                # Where the loop has time this is heard at once.
                with contextlib.suppress(RuntimeError):  # It was closed.
                    loop.call_soon_threadsafe(hand_over)

    def hand_over() -> None:
        if future.done():
            return
        if not done.acquire(timeout=_HANDOVER_SECONDS):
            if background:
                loop.call_later(_BACKGROUND_INTERVAL_SECONDS, hand_over)
            else:
                loop.call_soon(hand_over)
            return
        result, error = outcome[0]
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    try:
        executor.submit(run)
    except RuntimeError as error:
        future.set_exception(error)
    else:
        hand_over()
    return future


async def whole(work: asyncio.Future[T]) -> T:
    """The result of work in a thread. A cancellation, which cannot stop a thread, is let through once it has ended."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # Nobody else will look at it.
        raise

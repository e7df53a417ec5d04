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
from typing import Generic, TypeVar

T = TypeVar("T")

_HANDOVER_SECONDS = 0.0002
_BACKGROUND_INTERVAL_SECONDS = 0.02


class Work(Generic[T]):
    """Work in a thread of an executor; ``future`` gets its result or its exception, also that no thread could be had.

    Cancelling the future does not stop the work: see ``whole``.
    """

    def __init__(self, executor: ThreadPoolExecutor, work: Callable[[], T], *, background: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        self._work = work
        self._background = background
        self._begun = _taken_lock()
        self._done = _taken_lock()
        self._outcome: tuple[T | None, BaseException | None] = (None, None)
        try:
            executor.submit(self._run)
        except RuntimeError as error:
            self.future.set_exception(error)
        else:
            # A thread that waits for a disk needs no GIL from here on until it is done.
            self._begun.acquire(timeout=_HANDOVER_SECONDS)
            self._later() if background else self._hand_over()

    def wanted(self) -> None:
        """Somebody waits for it from now on."""
        if self._background:
            self._background = False
            self._hand_over()

    def _run(self) -> None:
        self._begun.release()
        try:
            self._outcome = (self._work(), None)
        except BaseException as error:
            self._outcome = (None, error)
        finally:
            self._done.release()
            # Where the loop has time this is heard at once.
            with contextlib.suppress(RuntimeError):  # It was closed.
                self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        if not self.future.done() and self._done.acquire(blocking=False):
            result, error = self._outcome
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)  # type: ignore[arg-type]

    def _later(self) -> None:
        if self._background:
            self._loop.call_later(_BACKGROUND_INTERVAL_SECONDS, self._hand_over)
        else:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self.future.done():
            return
        if self._done.acquire(timeout=_HANDOVER_SECONDS):
            self._done.release()
            self._hear()
        else:
            self._later()


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def start(executor: ThreadPoolExecutor, work: Callable[[], T], *, background: bool = False) -> asyncio.Future[T]:
    """Run ``work`` in the executor: its future."""
    return Work(executor, work, background=background).future


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

"""A clock that stands still until a test moves it, so hours of timers run in milliseconds and always the same way."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from streamkit.clock import wake
from streamkit.errors import ValidationError

_MOST_YIELDS = 1_000
"""A task that is always ready (a loop around ``sleep(0)``) must not keep time from moving."""
_BLIND_YIELDS = 100
"""What settling means on an event loop that does not show what is ready."""


class ManualClock:
    """A ``streamkit.clock.Clock`` that a test holds in its hand, after trio's ``MockClock``.

    ::

        clock = ManualClock()
        task = asyncio.create_task(watcher.run())  # sleeps with clock.sleep_until
        await clock.advance(60)                    # a minute of its work, in order, at once

    Time never passes by itself: what waits on this clock waits until ``advance`` comes by. It waits for nothing else:
    not for threads, not for sockets and not for ``asyncio.sleep``. Await such work in the test, then advance.

    Ordering: timers run by instant, those of one instant in the order they were set, each with ``now_ms()`` at exactly
    its instant, and the event loop comes to rest before the next one runs.
    """

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = start_ms
        self._timers: list[_ManualTimer] = []
        self._order = count()
        self._advancing = False

    def now_ms(self) -> int:
        """The current instant, in milliseconds since the epoch: the same until somebody advances."""
        return self._now_ms

    def call_at(self, when_ms: int, callback: Callable[[], object]) -> _ManualTimer:
        """Run ``callback`` when time comes to ``when_ms``; on the loop's next turn if it has come already."""
        timer = _ManualTimer(when_ms, next(self._order), callback)
        if when_ms <= self._now_ms:
            asyncio.get_running_loop().call_soon(timer.run)
        else:
            heapq.heappush(self._timers, timer)
        return timer

    async def sleep_until(self, when_ms: int) -> None:
        """Return once time has come to ``when_ms``; at once, without a turn of the loop, if it has already."""
        if when_ms <= self._now_ms:
            return
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        timer = self.call_at(when_ms, lambda: wake(waiter))
        try:
            await waiter
        finally:
            timer.cancel()

    @property
    def next_ms(self) -> int | None:
        """The instant of the next timer; None: there is none."""
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0].when_ms if self._timers else None

    async def settle(self) -> bool:
        """Give every task its turns, without moving time. False: after 1,000 turns something is still ready."""
        return await _settle()

    async def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds``, through every timer that falls due on the way.

        The event loop settles first, so tasks that were only just created set their timers; timers set on the way run
        too if they fall due. ``advance(0)`` only settles. Settling ends when nothing is ready to run; tasks that
        are ready for ever delay it by 1,000 turns and no more.

        Cancellation: time stays where it came to.

        Raises:
            ValidationError: ``seconds`` is negative; or another task is advancing this clock.
            Exception: what a timer's callback raised. Time stands at that timer's instant.
        """
        if not seconds >= 0:
            raise ValidationError(f"cannot advance by {seconds} seconds: time only moves forward")
        if self._advancing:
            raise ValidationError("another task is advancing this clock: await that first")
        self._advancing = True
        try:
            target_ms = self._now_ms + round(seconds * 1000)
            await _settle()
            while self._timers and self._timers[0].when_ms <= target_ms:
                timer = heapq.heappop(self._timers)
                if timer.callback is None:
                    continue
                self._now_ms = timer.when_ms
                timer.run()
                await _settle()
            self._now_ms = target_ms
        finally:
            self._advancing = False


class _ManualTimer:
    __slots__ = ("callback", "order", "when_ms")

    def __init__(self, when_ms: int, order: int, callback: Callable[[], object]) -> None:
        self.when_ms = when_ms
        self.order = order
        self.callback: Callable[[], object] | None = callback

    def __lt__(self, other: _ManualTimer) -> bool:
        return (self.when_ms, self.order) < (other.when_ms, other.order)

    def run(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        self.callback = None


async def _settle() -> bool:
    """Give every ready task its turn, and what they made ready, until only the caller is left. False: it never was."""
    # The loop's queue of ready callbacks is private, though the same in every CPython. While this task runs it holds
    # all that is ready except this task.
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    if ready is None:
        for _ in range(_BLIND_YIELDS):
            await asyncio.sleep(0)
        return True
    for _ in range(_MOST_YIELDS):
        await asyncio.sleep(0)
        if not ready:
            return True
    return False

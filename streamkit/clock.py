"""Time as an input: engines and services take a ``Clock``, tests pass a manual one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Timer(Protocol):
    """A callback that waits for its instant."""

    def cancel(self) -> None:
        """Forget the callback. Harmless when it has run."""


class Clock(Protocol):
    """What time it is, and how to wait. Instants are milliseconds since the Unix epoch."""

    def now_ms(self) -> int:
        """The current instant. Never goes back while the process runs."""

    def call_at(self, when_ms: int, callback: Callable[[], object]) -> Timer:
        """Run ``callback`` on the event loop once ``now_ms() >= when_ms``."""

    async def sleep_until(self, when_ms: int) -> None:
        """Return once ``now_ms() >= when_ms``; at once if that is so already."""


class SystemClock:
    """The machine's clock, read once and then carried on by the monotonic one.

    A wall clock that somebody sets back or forward while the process runs changes neither order nor the length of
    any timer. Where the system has CLOCK_BOOTTIME, time spent suspended counts.
    """

    def __init__(self) -> None:
        self._monotonic_ns: Callable[[], int] = time.monotonic_ns
        if hasattr(time, "CLOCK_BOOTTIME"):
            self._monotonic_ns = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
        self._offset_ns = time.time_ns() - self._monotonic_ns()

    def now_ms(self) -> int:
        """The current instant."""
        return (self._monotonic_ns() + self._offset_ns) // 1_000_000

    def call_at(self, when_ms: int, callback: Callable[[], object]) -> Timer:
        """Run ``callback`` once ``when_ms`` has come."""
        loop = asyncio.get_running_loop()
        timer = _SystemTimer()

        def due() -> None:
            # The loop's clock and ours may round differently, and a suspended machine stops only the loop's.
            remaining = when_ms - self.now_ms()
            if remaining > 0:
                timer.handle = loop.call_later(remaining / 1000, due)
            else:
                callback()

        timer.handle = loop.call_later(max(0, when_ms - self.now_ms()) / 1000, due)
        return timer

    async def sleep_until(self, when_ms: int) -> None:
        """Sleep until ``when_ms`` has come."""
        while (remaining := when_ms - self.now_ms()) > 0:  # noqa: ASYNC110 - no event comes, only time
            await asyncio.sleep(remaining / 1000)


class _SystemTimer:
    handle: asyncio.TimerHandle

    def cancel(self) -> None:
        self.handle.cancel()


def wake(waiter: asyncio.Future[bool]) -> bool:
    """End one wait because what it waited for came. False if that wait had ended already."""
    if waiter.done():
        return False
    waiter.set_result(True)
    return True


async def wait_until(clock: Clock, waiter: asyncio.Future[bool], deadline_ms: int | None) -> bool:
    """Wait for ``wake(waiter)`` or for ``deadline_ms`` (None: forever). False if it was the deadline that came.

    Cancellation: the future is cancelled too, so whoever keeps it in a list sees that nobody waits any more.
    """
    if deadline_ms is None:
        return await waiter

    def expire() -> None:
        if not waiter.done():
            waiter.set_result(False)

    timer = clock.call_at(deadline_ms, expire)
    try:
        return await waiter
    finally:
        timer.cancel()


def to_datetime(instant_ms: int) -> datetime:
    """An aware ``datetime`` in UTC, as the public face shows instants."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC)

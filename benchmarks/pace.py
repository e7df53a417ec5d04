"""Requests that are due at times of a schedule, whoever answers the ones before: an open loop.

A client that waits for its answer before it asks again asks less while nobody answers, and so counts one slow request
where users would have seen hundreds ("coordinated omission": Gil Tene, "How NOT to Measure Latency", 2013; on what an
open loop is, Schroeder, Wierman, Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol

from benchmarks.figures import verify

Request = Callable[[int], Coroutine[Any, Any, object]]
"""Sends the request of that place, and returns when it is answered."""


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """When each of ``count`` requests is due, in seconds, as they come from many who know nothing of each other.

    A Poisson process: the times between are exponentially distributed around 1 / ``rate``.
    """
    drawn = random.Random(seed)
    return list(accumulate(drawn.expovariate(rate) for _ in range(count)))


class Pace(Protocol):
    """What time it is, and how one task waits: another one needs a pace of its own."""

    def now(self) -> float:
        """Seconds, from whatever moment."""

    async def until(self, moment: float) -> None:
        """Return once it is that late; others have had their turn by then, however late it is."""


class OpenLoop:
    """One schedule, and how long each of its requests took."""

    def __init__(self, pace: Pace, schedule: Sequence[float], first: int = 0) -> None:
        """``schedule`` is when each is due, in seconds from the beginning, ascending; places begin with ``first``."""
        self._pace = pace
        self.count = len(schedule)
        self._schedule = schedule
        self.first = first
        self._due: list[float] = []
        self.late: list[float] = []
        """By how much each was begun after it was due: a part of its latency. The event loop was busy."""
        self._latencies: list[float | None] = [None] * len(schedule)

    async def run(self, request: Request) -> None:
        """Begin each request when it is due, and wait for the answers to all.

        Raises:
            ExceptionGroup: requests failed.
        """
        began = self._pace.now()
        self._due = [began + each for each in self._schedule]
        async with asyncio.TaskGroup() as tasks:
            at = 0
            while at < len(self._due):
                await self._pace.until(self._due[at])
                now = self._pace.now()
                while at < len(self._due) and self._due[at] <= now:
                    self.late.append(now - self._due[at])
                    tasks.create_task(request(self.first + at))
                    at += 1

    def done(self, place: int) -> None:
        """What that request was for is reached: its latency ends here, and began when it was due."""
        at = place - self.first
        if at >= 0:
            self._latencies[at] = self._pace.now() - self._due[at]

    @property
    def latencies(self) -> list[float]:
        """Seconds, by place, of those that are done."""
        return [each for each in self._latencies if each is not None]


async def closed_loop(clients: int, places: range, request: Request) -> None:
    """So many clients share the requests, each waiting for its answer: what they reach together is the capacity."""
    following = iter(places)

    async def client() -> None:
        for place in following:
            # A task of its own, as each request has in an open loop.
            await asyncio.create_task(request(place))

    await asyncio.gather(*(client() for _ in range(clients)))


class Tally:
    """How many of something there are by now, for whoever waits for so many."""

    def __init__(self) -> None:
        self.count = 0
        self._wanted = 0
        self._there = asyncio.Event()

    def add(self, many: int = 1) -> None:
        """There are more."""
        self.count += many
        if self.count >= self._wanted:
            self._there.set()

    async def reaches(self, wanted: int, patience: float = 60.0) -> None:
        """Return when there are so many. One task waits at a time.

        Raises:
            WrongResultError: none came for ``patience`` seconds: something is lost.
        """
        self._wanted = wanted
        self._there.clear()
        while self.count < wanted:
            before = self.count
            try:
                await asyncio.wait_for(self._there.wait(), patience)
            except TimeoutError:
                # Slow is not wrong.
                verify(self.count > before, f"{wanted:,} were to come, and after {before:,} none did")


# ---- the machine's time


class _LoopPace:
    """The event loop's timers, which are up to a millisecond late where the kernel takes whole ones."""

    def now(self) -> float:
        return time.perf_counter()

    async def until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self.now()))


_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_Spec = ctypes.c_long * 4
"""``struct itimerspec``: seconds and nanoseconds of the interval, and of what is left."""


class _KernelPace(_LoopPace):
    """A timer of the kernel's whose file becomes readable: some 50 us late (``man timerfd_create``)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "there is no timer")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._rings)
        self._waiter: asyncio.Future[None] | None = None

    async def until(self, moment: float) -> None:
        left = int((moment - self.now()) * 1e9)
        if left <= 0:
            await asyncio.sleep(0)
            return
        self._waiter = self._loop.create_future()
        seconds, nanoseconds = divmod(left, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, 0, ctypes.byref(_Spec(0, 0, seconds, nanoseconds)), None)
        await self._waiter

    def _rings(self) -> None:
        with contextlib.suppress(BlockingIOError):  # Whoever waited gave up, and it was set anew.
            os.read(self._fd, 8)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


@contextlib.contextmanager
def real_time() -> Iterator[Pace]:
    """``time.perf_counter``, with the best timer there is, on the running event loop."""
    if sys.platform != "linux":
        yield _LoopPace()
        return
    pace = _KernelPace()
    try:
        yield pace
    finally:
        pace.close()


# ---- the event loop


@contextlib.asynccontextmanager
async def watched(pace: Pace, late: list[float], every: float = 0.001) -> AsyncIterator[None]:
    """While the block lasts, something is due every millisecond: ``late`` gets how long after that the loop came to it.

    While the loop stands still for 50 ms, fifty of them wait, and each counts.
    """

    async def look() -> None:
        due = pace.now() + every
        while True:
            await pace.until(due)
            now = pace.now()
            while due <= now:
                late.append(now - due)
                due += every

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

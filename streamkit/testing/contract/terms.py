"""What every part of the contract shares: its limits, expected errors, and waits that must end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from streamkit.errors import StreamKitError
from streamkit.limits import Limits
from streamkit.testing.cancellation import HANG_SECONDS
from streamkit.testing.clock import ManualClock

T = TypeVar("T")
E = TypeVar("E", bound=StreamKitError)


class Contract:
    """The root of the contract's classes."""

    limits: Limits = Limits.relaxed()
    """What the engine under test was opened with. Override it together with the ``engine`` fixture."""


class Raised(Generic[E]):
    """The error that came out of a ``raises`` block."""

    error: E


@contextmanager
def raises(kind: type[E]) -> Iterator[Raised[E]]:
    """A block that must raise ``kind``; anything else goes through, because no foreign exception escapes an engine.

    Raises:
        AssertionError: nothing was raised, or the error's message is empty.
    """
    raised: Raised[E] = Raised()
    try:
        yield raised
    except kind as error:
        raised.error = error
        if not str(error):
            raise AssertionError(f"{kind.__name__} was raised without a message: say what to do") from error
        return
    raise AssertionError(f"{kind.__name__} was not raised")


async def soon(awaitable: Awaitable[T]) -> T:
    """Its result, without any time passing on the test's clock.

    An engine that forgets to wake somebody fails its test instead of stopping the suite.

    Raises:
        AssertionError: it did not come.
    """
    try:
        async with asyncio.timeout(HANG_SECONDS):
            return await awaitable
    except TimeoutError:
        raise AssertionError(f"nothing woke it in {HANG_SECONDS:g} s") from None


async def waiting(clock: ManualClock, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task of ``coroutine`` that has come as far as its wait."""
    task = asyncio.create_task(coroutine)
    await clock.advance(0)
    if task.done():
        raise AssertionError(f"it did not wait: {task!r}")
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and see it end so."""
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), f"it swallowed its cancellation: {task!r}"

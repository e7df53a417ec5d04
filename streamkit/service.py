"""What runs in the background of a kit, and how it is asked to stop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import anyio

T = TypeVar("T")


class Stop:
    """A request to finish: take nothing new, settle what is in hand, return.

    A service checks ``requested`` between pieces of work and wraps its idle waits (and only those) in
    ``interruptible()``, so that a stop ends a wait at once and never cuts work short.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waits: set[anyio.CancelScope] = set()
        self._children: weakref.WeakSet[Stop] = weakref.WeakSet()

    def child(self) -> Stop:
        """A request of its own, which is made with this one at the latest."""
        child = Stop()
        child.requested = self.requested
        self._children.add(child)
        return child

    def request(self) -> None:
        """Ask. Harmless when it was asked before."""
        self.requested = True
        for scope in self._waits:
            scope.cancel()
        for child in list(self._children):
            child.request()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that is left at its next ``await`` once a stop is requested. Check ``requested`` after it."""
        with anyio.CancelScope() as scope:
            if self.requested:
                scope.cancel()
            self._waits.add(scope)
            try:
                yield
            finally:
                self._waits.discard(scope)


class Service(Protocol):
    """Something that runs until it is stopped. An exception out of ``run`` is a failure of this service alone."""

    @property
    def name(self) -> str:
        """What ``kit.health()`` calls it."""

    async def run(self, stop: Stop) -> None:
        """Work until ``stop.requested``, finish what is in hand, and return. Cancellation must lose nothing."""


async def end_of(task: asyncio.Task[T]) -> T:
    """Wait until a task is done, however often the caller is cancelled meanwhile; only then pass the cancellation on.

    Raises:
        CancelledError: the caller was cancelled, or the task was.
        Exception: what the task raised.
    """
    # anyio's shield holds against its own cancellations and not against a cancelled asyncio task; catching alone
    # would spin within a cancelled scope, which cancels again at every wait.
    # INVARIANT: test_closing_is_complete_even_if_it_is_cancelled, test_closing_within_a_cancelled_scope
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as again:
                cancelled = again
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # Or asyncio complains that nobody asked; the caller hears of the cancellation.
        raise cancelled
    return task.result()

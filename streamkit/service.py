"""What runs in the background of a kit, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import anyio


class Stop:
    """A request to finish: take nothing new, settle what is in hand, return.

    A service checks ``requested`` between pieces of work and wraps its idle waits (and only those) in
    ``interruptible()``, so that a stop ends a wait at once and never cuts work short.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waits: set[anyio.CancelScope] = set()

    def request(self) -> None:
        """Ask. Harmless when it was asked before."""
        self.requested = True
        for scope in self._waits:
            scope.cancel()

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

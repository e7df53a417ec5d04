"""Changes that commit as one frame, and who waits for that. HOT: `python -m benchmarks --only puts`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from streamkit.engines.embedded.changes import WRITTEN_IS_ENOUGH, Change
from streamkit.engines.embedded.log import Answer, give
from streamkit.engines.file.segment import Position

_log = logging.getLogger("streamkit.engine")


class CommitGroup:
    """What gathers while the group before it commits."""

    __slots__ = ("answers", "callbacks", "changes", "cuts", "synced", "waiters")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.synced = False
        """With durability "fsync" it counts only once it is synced."""
        self.callbacks: list[Callable[[], None]] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.answers: list[Answer] = []
        self.cuts: list[asyncio.Future[Position]] = []
        """Who waits for the place behind it."""

    def add(self, change: Change, on_durable: Callable[[], None] | None) -> None:
        """One more."""
        self.changes.append(change)
        if type(change) not in WRITTEN_IS_ENOUGH:
            self.synced = True
        if on_durable is not None:
            self.callbacks.append(on_durable)

    def committed(self, position: Callable[[], Position]) -> None:
        """Tell everybody; ``position`` says where it ends."""
        for callback in self.callbacks:
            try:
                callback()
            except Exception:
                # It is durable all the same, and whoever waits for it must hear so.
                _log.exception("a callback of a durable change failed")
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        give(self.answers)
        for cut in self.cuts:
            if not cut.done():
                cut.set_result(position())

    def all_waiting(self) -> Iterator[asyncio.Future[Any]]:
        """Everybody who waits for it."""
        yield from self.waiters
        yield from (waiter for waiter, _ in self.answers)
        yield from self.cuts


def fail(waiters: Iterable[asyncio.Future[Any]], error: Callable[[], Exception]) -> None:
    """Tell everybody who still waits, each with an error of its own."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error())

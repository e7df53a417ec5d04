"""Changes that commit as one frame, and who waits for that. HOT: `python -m benchmarks --only puts`."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from streamkit.engines.embedded.changes import WRITTEN_IS_ENOUGH, Change
from streamkit.engines.embedded.log import Answer, give
from streamkit.engines.embedded.turns import CALL, Turns
from streamkit.engines.file.segment import Position

_COMMITS_ALONE = 8
"""After so many in a row for which one call waited, the next one is taken to be alone, too."""

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


class Company:
    """Whether calls come alone, one after the other. Then none waits for what else may come in its turn of the loop.

    A call that is alone commits by itself and lets others have one turn, in which whoever comes gathers again. It waits
    for those, so that from there on all go in step.
    """

    __slots__ = ("_commits", "_is_turning", "passing")

    def __init__(self) -> None:
        self.passing = Turns(60 * CALL)
        """Of calls for which nothing is left to commit; most are of one item in memory, and take 3 us."""
        self._commits = 0
        self._is_turning = False

    def is_alone(self) -> bool:
        """Whether nobody else is to be expected in this turn. Ask where somebody comes."""
        if self._is_turning:
            self._commits = 0
        return self._commits >= _COMMITS_ALONE

    def committed(self, group: CommitGroup, *, is_fast: bool) -> None:
        """Take note of who waited for a group, and whether the next one will not take long either."""
        if not is_fast:
            # While one is in flight others come, and it is they who would have to wait for one commit more.
            self._commits = 0
        elif group.waiters or group.answers:
            self._commits = self._commits + 1 if len(group.waiters) + len(group.answers) == 1 else 0

    @types.coroutine
    def turn(self) -> Generator[None, None, None]:
        """Let others have a turn of the loop: who never waits would starve them."""
        # As asyncio.sleep(0), but known here for as long as it takes.
        self._is_turning = True
        try:
            yield
            if not self._commits:
                # INVARIANT: test_who_is_alone_no_more_goes_in_step_with_those_who_came
                yield
        finally:
            self._is_turning = False


def fail(waiters: Iterable[asyncio.Future[Any]], error: Callable[[], Exception]) -> None:
    """Tell everybody who still waits, each with an error of its own."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error())

"""The log of changes, as the embedded stores use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from streamkit.engines.embedded.changes import Change
from streamkit.engines.embedded.turns import Turns
from streamkit.errors import ClosedError

Answer = tuple[asyncio.Future[Any], object]
"""Who waits, and for what."""


class Log(Protocol):
    """Takes changes in order and says when they are durable.

    Changes appended without an ``await`` between them are in one group, and a group is durable whole or not at all.
    """

    @property
    def gathers(self) -> bool:
        """Whether a commit waits for what else comes; if not, ``soon`` and ``answer`` are not called, and nothing that
        they were given waits.

        Ask at each call: who comes alone does not wait for others.
        """

    @property
    def room(self) -> asyncio.Event | None:
        """Clear while so much waits to be settled that writers are to wait too; ``durable`` sees to it. None: never."""

    @property
    def group(self) -> int:
        """The number of the group that the next ``append`` joins. A change may be extended while its group gathers."""

    def check(self) -> None:
        """Called before anything is changed in memory; an ``append`` that follows without ``await`` succeeds.

        Raises:
            ClosedError: the engine is closed.
            StorageError: nothing can be made durable any more.
        """

    def append(self, change: Change, on_durable: Callable[[], None] | None = None) -> int:
        """Add a change and return its group.

        ``on_durable`` runs once it is durable, before anybody who waits for the group is woken.
        """

    def weigh(self, size: int) -> None:
        """What was appended takes so many bytes more in memory than in the log, until it is settled."""

    async def durable(self, group: int) -> None:
        """Return once the group is durable; at once if it is so already.

        Raises:
            StorageError: it will not be; what was changed since the last durable group is not promised.
        """

    def soon(self, prepare: Callable[[], None]) -> None:
        """Have ``prepare`` called in the next turn of the loop, before a commit of that turn, of which what it appends
        is a part. A commit that is under way is not waited for.

        It must not raise; where nothing can be made durable any more it is called, too, and learns so from ``check``.
        """

    def prepare(self) -> None:
        """Call all that ``soon`` was given, now: what is appended next is to come behind it.

        Raises:
            DirectoryInUseError: There is something, and ``check_owner`` refuses.
        """

    def check_owner(self) -> None:
        """Called before anything is left to ``soon``.

        Raises:
            DirectoryInUseError: This is another process than that of the owner, or another event loop.
        """

    def answer(self, group: int, answers: Iterable[Answer]) -> None:
        """Give everybody their result once the group is durable, or the error that ``durable`` raises."""


class ImmediateLog:
    """What logs have in common for which all is durable at once: nobody waits, and nothing is gathered."""

    gathers = False
    room = None

    def __init__(self) -> None:
        self._turns = Turns()

    def weigh(self, size: int) -> None:
        """See Log."""

    async def durable(self, group: int) -> None:
        """See Log."""
        # INVARIANT: test_loops_of_calls_that_need_not_wait_give_others_turns
        if self._turns.due():
            await asyncio.sleep(0)

    def soon(self, prepare: Callable[[], None]) -> None:
        """See Log."""

    def prepare(self) -> None:
        """See Log."""

    def check_owner(self) -> None:
        """See Log."""

    def answer(self, group: int, answers: Iterable[Answer]) -> None:
        """See Log."""


class MemoryLog(ImmediateLog):
    """A log that forgets: everything is as durable as it will ever be at once."""

    def __init__(self) -> None:
        super().__init__()
        self.group = 1
        self._closed = False

    def check(self) -> None:
        """See Log."""
        if self._closed:
            raise ClosedError("the memory engine")

    def append(self, change: Change, on_durable: Callable[[], None] | None = None) -> int:
        """See Log. Each change is a group of its own."""
        self.group += 1
        if on_durable is not None:
            on_durable()
        return self.group - 1

    def close(self) -> None:
        """Take no more changes."""
        self._closed = True


def give(answers: Iterable[Answer]) -> None:
    """Wake who still waits."""
    for waiter, answer in answers:
        if not waiter.done():
            waiter.set_result(answer)

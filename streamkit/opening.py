"""``streamkit.open``: from a URL to a kit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from streamkit.clock import Clock, SystemClock
from streamkit.creating import keepers_of, report_capacity
from streamkit.engines.base import Durability, Engine
from streamkit.engines.registry import open_engine, schemas_of
from streamkit.kit import Kit
from streamkit.limits import Limits
from streamkit.service import end_of
from streamkit.tables.item import TableSchema

K = TypeVar("K", bound=Kit)

OPENED: WeakSet[Kit] = WeakSet()
"""Every kit of this process that somebody still has, closed ones too: where to look for one that was left open."""


class Opening(Generic[K]):
    """What ``open`` returns: ``async with`` it, or ``await`` it and close the kit yourself."""

    def __init__(self, opening: Callable[[], Awaitable[K]], url: object) -> None:
        self._url = url
        self._opening = opening
        self._kit: K | None = None

    def __repr__(self) -> str:
        return f"open({str(self._url)!r}) has not begun: `kit = await streamkit.open(...)`, or `async with` it"

    def __await__(self) -> Generator[Any, None, K]:
        return whole(self._opening).__await__()

    async def __aenter__(self) -> K:
        self._kit = await whole(self._opening)
        return self._kit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._kit is not None:
            await self._kit.__aexit__(kind, error, traceback)


def open(  # noqa: A001 - `streamkit.open` reads as the built-in does
    url: str | os.PathLike[str] = "memory:",
    *,
    durability: Durability = "fsync",
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> Opening[Kit]:
    """Open an engine: ``async with streamkit.open("./data") as kit`` or ``kit = await streamkit.open("./data")``.

    Args:
        url: ``memory:``, or a directory, which is created if it is not there. With ``?mode=ro`` a directory that is
            there, to look at it beside the process that owns it, or when there is none: every call shows what was
            durable when it began, and a reader that waits is woken up to 40 ms after what it waits for. It takes no
            lock and writes nothing; whatever would is a ``ReadOnlyError``, as is a consumer, which keeps leases.
        durability: when an acknowledged change is on disk: ``fsync`` before it is acknowledged (that a message was
            received within 100 ms; a crash of the process does not lose that either), ``interval`` within 50 ms (a
            crash of the process loses nothing, a power loss those), ``memory`` when the system likes. With ``?mode=ro``
            that is up to the owner.
        limits: what a call may ask for; ``Limits.relaxed()`` unless given.
        clock: for tests.

    Cancellation: what has begun goes on to its end, and is closed again.

    Raises:
        ValidationError: the URL is malformed, of an unknown kind or with an unknown parameter.
        DirectoryInUseError: somebody else has the directory open; the message says who.
        StorageError: it cannot be opened; the message says why.
    """

    async def open_kit() -> Kit:
        chosen = SystemClock() if clock is None else clock
        engine = await open_engine(url, clock=chosen, limits=limits or Limits.relaxed(), durability=durability)
        return await kit_on(engine, chosen)

    return Opening(open_kit, url)


async def whole(opening: Callable[[], Awaitable[K]]) -> K:
    """Open to the end, also if the caller is cancelled, and close again then."""

    async def open_kit() -> K:
        return await opening()

    # Recovery runs in a thread, which cannot be cancelled: the directory is not let go of before it has ended.
    # INVARIANT: test_a_cancelled_opening_lets_go_of_its_directory
    task = asyncio.get_running_loop().create_task(open_kit(), name="streamkit open")
    try:
        return await end_of(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await task.result().close()
        raise


async def kit_on(engine: Engine, clock: Clock) -> Kit:
    """A kit on an engine that is open; see ``kit_of``."""
    return await kit_of(Kit, engine, clock)


async def kit_of(kind: Callable[[Engine, Clock, dict[str, TableSchema]], K], engine: Engine, clock: Clock) -> K:
    """A kit on an engine that is open, with the services that every kit runs. It closes the engine when it is closed.

    Raises:
        Exception: what a service could not begin with; the engine is closed then.
    """
    try:
        kit = kind(engine, clock, await schemas_of(engine))
        report_capacity(engine, clock, kit.metrics.raw)
        if kit.metrics.flusher is not None:
            kit.start(kit.metrics.flusher)
        for keeper in await keepers_of(engine, clock, kit.metrics.raw):
            kit.start(keeper)
    except BaseException:
        await engine.aclose()  # Nobody gets it, so nobody else would let go of the directory.
        raise
    OPENED.add(kit)
    return kit

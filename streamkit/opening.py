"""``streamkit.open``: from a URL to a kit."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any

from streamkit.clock import Clock, SystemClock
from streamkit.engines.base import Durability
from streamkit.engines.registry import open_engine
from streamkit.kit import Kit
from streamkit.limits import Limits


class Opening:
    """What ``open`` returns: ``async with`` it, or ``await`` it and close the kit yourself."""

    def __init__(self, opening: Callable[[], Awaitable[Kit]]) -> None:
        self._opening = opening
        self._kit: Kit | None = None

    def __await__(self) -> Generator[Any, None, Kit]:
        return self._opening().__await__()

    async def __aenter__(self) -> Kit:
        self._kit = await self._opening()
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
) -> Opening:
    """Open an engine: ``async with streamkit.open("./data") as kit`` or ``kit = await streamkit.open("./data")``.

    Args:
        url: ``memory:``, or a directory, which is created if it is not there.
        durability: when an acknowledged change is on disk: ``fsync`` before it is acknowledged, ``interval`` within
            50 ms (a crash of the process loses nothing, a power loss those), ``memory`` when the system likes.
        limits: what a call may ask for; ``Limits.relaxed()`` unless given.
        clock: for tests.

    Raises:
        ValidationError: the URL is of an unknown kind.
        DirectoryInUseError: somebody else has the directory open; the message says who.
        StorageError: it cannot be opened; the message says why.
    """

    async def opening() -> Kit:
        chosen = clock or SystemClock()
        engine = await open_engine(url, clock=chosen, limits=limits or Limits.relaxed(), durability=durability)
        tables = await engine.tables.describe_tables()
        return Kit(engine, chosen, {table.schema.name: table.schema for table in tables})

    return Opening(opening)

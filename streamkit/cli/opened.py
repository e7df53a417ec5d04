"""A data directory for a command: to look at beside its owner, or to own for a while."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.clock import SystemClock
from streamkit.errors import NotFoundError, StorageError
from streamkit.limits import Limits

if TYPE_CHECKING:
    from streamkit.engines.file.readonly import ReadOnlyEngine
    from streamkit.kit import Kit


@contextlib.asynccontextmanager
async def looking(directory: Path) -> AsyncIterator[tuple[ReadOnlyEngine, SystemClock]]:
    """What is in a directory, whether somebody owns it or not. Without a kit, which takes longer to load than to use.

    Raises:
        StorageError: it holds no store, or it cannot be read; the message says why.
    """
    from streamkit.engines.file.readonly import ReadOnlyEngine

    clock = SystemClock()
    engine = await ReadOnlyEngine.open(str(directory), clock=clock, limits=Limits.relaxed())
    try:
        yield engine, clock
    finally:
        await engine.aclose()


@contextlib.asynccontextmanager
async def owning(directory: Path, *, create: bool = False) -> AsyncIterator[Kit]:
    """A kit that may change what is in a directory, which nobody else has meanwhile.

    Raises:
        DirectoryInUseError: somebody has; the message says who.
        StorageError: there is no store, and not ``create``, so that a name that was misspelt makes none.
    """
    import streamkit

    if not create and not _holds_a_store(directory):
        raise StorageError(f"{directory} holds no streamkit data: give the directory of a store, or --create one")
    async with streamkit.open(directory) as kit:
        yield kit


def _holds_a_store(directory: Path) -> bool:
    return (directory / "MANIFEST").exists() or (directory / "journal").exists()


async def check_stream(engine: ReadOnlyEngine, name: str) -> None:
    """Say what there is instead of a stream that is not there.

    Raises:
        NotFoundError: it is not there.
    """
    from streamkit.cli.printing import named

    streams = await engine.streams.list_streams()
    if name not in streams:
        there = f"there are {named(streams)}" if streams else "there are no streams in this directory"
        queues = {queue.name for queue in await engine.queues.describe_queues()}
        is_queue = "; it is the name of a queue: streamkit peek shows its messages" if name in queues else ""
        raise NotFoundError("stream", name, there + is_queue)


async def check_queue(engine: ReadOnlyEngine, name: str) -> None:
    """Say what there is instead of a queue that is not there.

    Raises:
        NotFoundError: it is not there.
    """
    from streamkit.cli.printing import named

    queues = [queue.name for queue in await engine.queues.describe_queues()]
    if name not in queues:
        there = f"there are {named(queues)}" if queues else "there are no queues in this directory"
        is_stream = name in await engine.streams.list_streams()
        raise NotFoundError(
            "queue", name, there + ("; it is the name of a stream: streamkit tail shows its records" * is_stream)
        )

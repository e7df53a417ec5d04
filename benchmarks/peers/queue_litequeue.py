"""litequeue: a queue in a SQLite table, one message a call.

As it comes it asks for ``synchronous = NORMAL``: an answer survives a crash of the process, but is on the disk only at
the next checkpoint, so a power loss takes what was acknowledged since. ``litequeue, synced`` is the same with
``synchronous = FULL`` set on its connection, and promises what the others promise.

It has no batches, nothing that wakes a receiver, and no timeout: a message whose receiver died stays locked until
somebody calls ``retry`` on it. Done messages stay in the table; pruning them now and then made it no faster. It
is called inline, on one connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import PACKAGES, Delivery, Peer, WorkQueue


class _LiteQueue:
    def __init__(self, queue: Any) -> None:
        self._queue = queue

    async def send(self, data: bytes) -> None:
        self._queue.put(data.decode())  # It takes text.

    async def receive(self, most: int) -> Sequence[Delivery]:
        message = self._queue.pop()
        return [(message.message_id, message.data.encode())]

    async def delete(self, handles: Sequence[Any]) -> None:
        for message_id in handles:
            self._queue.done(message_id)

    async def left(self) -> int:
        return int(self._queue.qsize())


def _opens(synchronous: str) -> Callable[[Path], AbstractAsyncContextManager[WorkQueue]]:
    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[WorkQueue]:
        from litequeue import LiteQueue

        with closing(LiteQueue(directory / "lite.sqlite")) as queue:
            queue.conn.execute(f"PRAGMA synchronous = {synchronous}")
            yield _LiteQueue(queue)

    return opened


LITEQUEUE = Peer("litequeue", "WAL, NORMAL: not synced", PACKAGES, ["litequeue"], _opens("NORMAL"), share=0.5)
LITEQUEUE_SYNCED = Peer(
    "litequeue, synced", "WAL, synchronous=FULL", PACKAGES, ["litequeue"], _opens("FULL"), share=0.5
)

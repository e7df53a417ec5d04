"""litequeue: a queue in a SQLite table, one message a call.

It has no batches and nothing that wakes a receiver. Done messages stay in the table; pruning them now and then made it
no faster.
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


_USE = (
    "There is no timeout: what was received is locked until somebody calls retry. Called inline, on one connection, "
    "one message a call."
)

AS_IT_COMES = Peer(
    "litequeue",
    "queue",
    "WAL, NORMAL: not synced",
    "in the page cache (it asks for synchronous=NORMAL): what was sent, received and deleted survives the process, and "
    f"a power loss takes what came since the last checkpoint. {_USE}",
    PACKAGES,
    _opens("NORMAL"),
    ["litequeue"],
    share=0.5,
)
SYNCED = Peer(
    "litequeue, synced",
    "queue",
    "WAL, synchronous=FULL",
    f"synced, each send, receive and delete, with synchronous=FULL set on its connection. {_USE}",
    PACKAGES,
    _opens("FULL"),
    ["litequeue"],
    share=0.25,
)

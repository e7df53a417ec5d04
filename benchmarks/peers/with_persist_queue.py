"""persist-queue's ``SQLiteAckQueue``: a queue in a SQLite table, one message a call.

It has no batches. Bodies are pickled. Acknowledged messages stay in the table and are cleared every now and then, since
receiving looks at all of them. It has one connection for sending and one for the rest (``multithreading=True``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import PACKAGES, Delivery, Peer, WorkQueue

_CLEAR_AFTER = 100


class _PersistQueue:
    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._acknowledged = 0

    async def send(self, data: bytes) -> None:
        self._queue.put(data)

    async def receive(self, most: int) -> Sequence[Delivery]:
        found = self._queue.get(block=False, raw=True)
        return [(found["pqid"], found["data"])]

    async def delete(self, handles: Sequence[Any]) -> None:
        for number in handles:
            self._queue.ack(id=number)
        self._acknowledged += len(handles)
        if self._acknowledged >= _CLEAR_AFTER:
            self._acknowledged = 0
            self._queue.clear_acked_data(keep_latest=0)

    async def left(self) -> int:
        return int(self._queue.size + self._queue.unack_count())


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[WorkQueue]:
    from persistqueue import SQLiteAckQueue

    with closing(SQLiteAckQueue(str(directory / "persist"), multithreading=True)) as queue:
        yield _PersistQueue(queue)


PERSIST_QUEUE = Peer(
    "persist-queue",
    "queue",
    "WAL, synchronous=FULL",
    "synced, each send, receive and delete (SQLiteAckQueue, with SQLite's own default). There is no timeout: what was "
    "received and not acknowledged comes again when the queue is opened again. Called inline, one message a call.",
    PACKAGES,
    _open,
    ["persistqueue"],
    share=0.25,
)

"""The plain sqlite3 queue that everybody writes: a table, an index on when messages are visible, a transaction a call.

An answer is on the disk. Nothing wakes a receiver that waits: it would have to ask again and again; no workload has it
wait. Clients are tasks that call it inline, on one connection. A thread and a connection for each is slower: SQLite
writes one transaction at a time, and those that wait for their turn sleep longer than it takes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import BatchQueue, Delivery, Peer

_TIMEOUT = 30.0
_RECEIVE = """
    UPDATE messages SET visible_at = ?, receives = receives + 1
    WHERE id IN (SELECT id FROM messages WHERE visible_at <= ? ORDER BY visible_at, id LIMIT ?)
    RETURNING id, receives, body
"""


class _SqliteQueue:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        with self._connection:
            self._connection.execute("INSERT INTO messages (visible_at, body) VALUES (?, ?)", (time.time(), data))

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        now = time.time()
        with self._connection:
            self._connection.executemany(
                "INSERT INTO messages (visible_at, body) VALUES (?, ?)", [(now, data) for data in batch]
            )

    async def receive(self, most: int) -> Sequence[Delivery]:
        now = time.time()
        with self._connection:
            rows = self._connection.execute(_RECEIVE, (now + _TIMEOUT, now, most)).fetchall()
        return [((number, receives), body) for number, receives, body in rows]

    async def delete(self, handles: Sequence[Any]) -> None:
        # A message that somebody received meanwhile is theirs.
        with self._connection:
            self._connection.executemany("DELETE FROM messages WHERE id = ? AND receives = ?", handles)

    async def left(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM messages").fetchone()[0])


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[BatchQueue]:
    with closing(sqlite3.connect(directory / "queue.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, visible_at REAL NOT NULL,"
            " receives INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL)"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS by_visibility ON messages (visible_at)")
        yield _SqliteQueue(connection)


SQLITE_QUEUE = Peer("sqlite", "WAL, synchronous=FULL", "it comes with Python", ["sqlite3"], _open, share=0.5)

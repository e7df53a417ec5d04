"""The plain sqlite3 that everybody writes: one file, one connection, a transaction per call."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import SHARDS, BatchQueue, Delivery, Item, Log, Peer, Table

_TIMEOUT = 30.0
_RECEIVE = """
    UPDATE messages SET visible_at = ?, receives = receives + 1
    WHERE id IN (SELECT id FROM messages WHERE visible_at <= ? ORDER BY visible_at, id LIMIT ?)
    RETURNING id, receives, body
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
T = TypeVar("T")


class _SqliteLog:
    """One table and one index."""

    SCHEMA = (
        "CREATE TABLE IF NOT EXISTS log (shard INTEGER, seq INTEGER, key TEXT, data BLOB)",
        "CREATE INDEX IF NOT EXISTS by_place ON log (shard, seq)",
    )

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._next = [count().__next__ for _ in range(SHARDS)]

    def _row(self, key: str, data: bytes) -> tuple[int, int, str, bytes]:
        shard = shard_of(key)
        return shard, self._next[shard](), key, data

    async def append(self, batch: Sequence[Pair]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?)", [self._row(key, data) for key, data in batch]
            )

    async def put(self, key: str, data: bytes) -> None:
        # In line: a thread for each put costs more than the sync that it would take off the loop.
        with self._connection:
            self._connection.execute("INSERT INTO log VALUES (?, ?, ?, ?)", self._row(key, data))

    async def read(self) -> Sequence[Any]:
        return [
            row
            for shard in range(SHARDS)
            for row in self._connection.execute("SELECT key, data FROM log WHERE shard = ? ORDER BY seq", (shard,))
        ]

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return ((key, data) for key, data in raw)


class _SqliteQueue:
    """One table whose rows say when they can be received."""

    SCHEMA = (
        "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, visible_at REAL NOT NULL,"
        " receives INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL)",
        "CREATE INDEX IF NOT EXISTS by_visibility ON messages (visible_at)",
    )

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


class _SqliteTable:
    """A primary key of two columns, and the item as one msgpack blob."""

    SCHEMA = (
        "CREATE TABLE IF NOT EXISTS items (pk TEXT, sk INTEGER, item BLOB NOT NULL, PRIMARY KEY (pk, sk))"
        " WITHOUT ROWID",
    )

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put_batch(self, items: Sequence[Item]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?)",
                [(item["pk"], item["sk"], _encode(item)) for item in items],
            )

    def get(self, partition: str, sort: int) -> Item | None:
        row = self._connection.execute("SELECT item FROM items WHERE pk = ? AND sk = ?", (partition, sort)).fetchone()
        return None if row is None else _decode(row[0])

    def query(self, partition: str, first: int, last: int) -> list[Item]:
        rows = self._connection.execute(
            "SELECT item FROM items WHERE pk = ? AND sk BETWEEN ? AND ? ORDER BY sk", (partition, first, last)
        )
        return [_decode(data) for (data,) in rows]

    def scan(self) -> list[Item]:
        return [_decode(data) for (data,) in self._connection.execute("SELECT item FROM items ORDER BY pk, sk")]


def _opens(
    make: Callable[[sqlite3.Connection], T], schema: Sequence[str]
) -> Callable[[Path], AbstractAsyncContextManager[T]]:
    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[T]:
        with closing(sqlite3.connect(directory / "data.sqlite")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            for statement in schema:
                connection.execute(statement)
            yield make(connection)

    return opened


_DURABILITY = "WAL, synchronous=FULL"
_INSTALL = "it comes with Python"
_open_log: Callable[[Path], AbstractAsyncContextManager[Log]] = _opens(_SqliteLog, _SqliteLog.SCHEMA)
_open_queue: Callable[[Path], AbstractAsyncContextManager[BatchQueue]] = _opens(_SqliteQueue, _SqliteQueue.SCHEMA)
_open_table: Callable[[Path], AbstractAsyncContextManager[Table]] = _opens(_SqliteTable, _SqliteTable.SCHEMA)

LOG = Peer(
    "sqlite",
    "log",
    _DURABILITY,
    "synced: a transaction per call, whose commit syncs the write-ahead log. One table and an index on shard and "
    "number; called inline, on one connection.",
    _INSTALL,
    _open_log,
    ["sqlite3"],
)
QUEUE = Peer(
    "sqlite",
    "batch queue",
    _DURABILITY,
    "synced, each send, receive and delete: a transaction per call, whose commit syncs the write-ahead log. One table, "
    "in which what was received is hidden for 30 s; nothing wakes a receiver; called inline, on one connection.",
    _INSTALL,
    _open_queue,
    ["sqlite3"],
    share=0.5,
)
TABLE = Peer(
    "sqlite",
    "table",
    _DURABILITY,
    "synced: a transaction per batch, whose commit syncs the write-ahead log. PRIMARY KEY (pk, sk) WITHOUT ROWID, the "
    "item as a msgpack blob; called inline, on one connection.",
    _INSTALL,
    _open_table,
    ["sqlite3"],
)

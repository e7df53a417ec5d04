"""The plain sqlite3 log that everybody writes: one table, one index, one transaction per call."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import SHARDS, Log, Peer


class _SqliteLog:
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


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Log]:
    with closing(sqlite3.connect(directory / "log.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS log (shard INTEGER, seq INTEGER, key TEXT, data BLOB)")
        connection.execute("CREATE INDEX IF NOT EXISTS by_place ON log (shard, seq)")
        yield _SqliteLog(connection)


SQLITE = Peer("sqlite", "WAL, synchronous=FULL", "it comes with Python", ["sqlite3"], _open)

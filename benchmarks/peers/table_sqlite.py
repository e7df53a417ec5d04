"""The plain sqlite3 table that everybody writes: a primary key of two columns, the item as one msgpack blob.

A batch is a transaction, and on the disk when it was committed. It is called inline, on one connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

Item = dict[str, Any]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class SqliteTable:
    """Items by ``pk`` and ``sk``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put_batch(self, items: Sequence[Item]) -> None:
        """Store items in one transaction."""
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?)",
                [(item["pk"], item["sk"], _encode(item)) for item in items],
            )

    def get(self, partition: str, sort: int) -> Item | None:
        """The item of a key."""
        row = self._connection.execute("SELECT item FROM items WHERE pk = ? AND sk = ?", (partition, sort)).fetchone()
        return None if row is None else _decode(row[0])

    def query(self, partition: str, first: int, last: int) -> list[Item]:
        """A range of a partition, in order."""
        rows = self._connection.execute(
            "SELECT item FROM items WHERE pk = ? AND sk BETWEEN ? AND ? ORDER BY sk", (partition, first, last)
        )
        return [_decode(data) for (data,) in rows]

    def scan(self) -> list[Item]:
        """Everything, in order."""
        return [_decode(data) for (data,) in self._connection.execute("SELECT item FROM items ORDER BY pk, sk")]


@contextmanager
def open_table(directory: Path) -> Iterator[SqliteTable]:
    """The table in a directory; made if it is not there."""
    with closing(sqlite3.connect(directory / "table.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS items (pk TEXT, sk INTEGER, item BLOB NOT NULL, PRIMARY KEY (pk, sk))"
            " WITHOUT ROWID"
        )
        yield SqliteTable(connection)

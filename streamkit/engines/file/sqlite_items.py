"""Items that left memory: one SQLite file per table, which any SQLite tool can open while the process runs.

``items(pk, sk, item)``: key values as SQLite's own integers, texts and blobs, which it orders as DynamoDB does; the
item as msgpack. ``about(name, value)``: the table's name and key attributes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from streamkit.engines.embedded.items import SortKey
from streamkit.errors import StorageError
from streamkit.tables.item import Key, KeyValue, TableSchema

_NO_SORT_KEY = ""  # A real sort key is never empty, and a key column cannot be NULL.

_CREATE = """
CREATE TABLE IF NOT EXISTS items (pk NOT NULL, sk NOT NULL, item BLOB NOT NULL, PRIMARY KEY (pk, sk)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
"""


class SqliteItems:
    """Implements ``ColdItems`` for readers on the event loop; ``apply`` is for the settling thread."""

    def __init__(self, path: str, schema: TableSchema) -> None:
        self._path = path
        self._schema = schema
        self._reader: sqlite3.Connection | None = None

    # ---- reading

    def get(self, key: Key) -> bytes | None:
        """See ColdItems."""
        for (item,) in self._select("SELECT item FROM items WHERE pk = ? AND sk = ?", (key[0], _stored(key[1]))):
            found: bytes = item
            return found
        return None

    def partition(self, partition: KeyValue) -> Iterator[tuple[SortKey, bytes]]:
        """See ColdItems."""
        for sort, item in self._select("SELECT sk, item FROM items WHERE pk = ? ORDER BY sk", (partition,)):
            yield (None if sort == _NO_SORT_KEY else sort), item

    def partitions(self) -> Iterator[KeyValue]:
        """See ColdItems."""
        for (partition,) in self._select("SELECT DISTINCT pk FROM items ORDER BY pk", ()):
            yield partition

    def _select(self, query: str, values: tuple[object, ...]) -> Iterator[Any]:
        if self._reader is None:
            self._reader = self._connect()
        try:
            yield from self._reader.execute(query, values)
        except sqlite3.Error as error:
            raise StorageError(f"reading {self._path} failed: {error}") from error

    # ---- writing

    def apply(self, entries: Iterable[tuple[Key, bytes | None]]) -> None:
        """Store and remove items in one synced transaction."""
        puts: list[tuple[KeyValue, KeyValue, bytes]] = []
        deletes: list[tuple[KeyValue, KeyValue]] = []
        for (partition, sort), item in entries:
            if item is None:
                deletes.append((partition, _stored(sort)))
            else:
                puts.append((partition, _stored(sort), item))
        try:
            connection = self._connect()
            try:
                connection.executescript(_CREATE)
                with connection:
                    connection.executemany("DELETE FROM items WHERE pk = ? AND sk = ?", deletes)
                    connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", puts)
                    connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", self._about())
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StorageError(f"writing {self._path} failed: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _about(self) -> list[tuple[str, str | None]]:
        schema = self._schema
        return [("table", schema.name), ("partition_key", schema.partition_key), ("sort_key", schema.sort_key)]

    def _connect(self) -> sqlite3.Connection:
        # The reader is opened on the event loop and closed there; the settling thread opens its own.
        connection = sqlite3.connect(self._path, check_same_thread=False)
        os.chmod(self._path, 0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def _stored(sort: SortKey) -> KeyValue:
    return _NO_SORT_KEY if sort is None else sort

"""Items that left memory: one SQLite file per table, which any SQLite tool can open while the process runs.

``items(pk, sk, item)``: key values as SQLite's own integers, texts and blobs, which it orders as DynamoDB does; the
item as msgpack. ``about(name, value)``: the table's name and key attributes. ``plain``: a view of a table's items with
a column for each attribute (plain_view); files of an index have none.

SQLite does its own input and output, past the seam of ``files``: faults that tests inject there do not reach it. That
is sound because a file counts only once the manifest names it, and replay brings an older or newer one to the same end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from streamkit.engines.embedded.layer import Bounds, SortKey
from streamkit.engines.file.plain_view import PlainView, Row, portions, put_rows
from streamkit.errors import ClosedError, CorruptLogError, StorageError
from streamkit.limits import MIB
from streamkit.tables.item import Key, KeyValue, TableSchema

_PARTITIONS_AT_A_TIME = 256
_FIRST_BLOCK, _LARGEST_BLOCK = 64, 1024
"""Items that one SELECT reads: few at first, since they may be large."""
_LARGEST = 2**63 - 1
_NO_SORT_KEY = ""  # A real sort key is never empty, and a key column cannot be NULL.

_CREATE = """
CREATE TABLE IF NOT EXISTS items (pk NOT NULL, sk NOT NULL, item BLOB NOT NULL, PRIMARY KEY (pk, sk)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
"""


class SqliteItems:
    """Implements ``ColdItems`` for readers on the event loop; ``apply`` is for the settling thread."""

    steady = True

    def __init__(self, path: str, schema: TableSchema, *, of_index: bool = False) -> None:
        """``of_index``: it holds entries of an index, whose keys are made of others' bytes."""
        self._of_index = of_index
        self._path = path
        self._schema = schema
        self._reader: sqlite3.Connection | None = None
        self._closed = False

    # ---- reading

    def get(self, key: Key) -> bytes | None:
        """See ColdItems."""
        for (item,) in self._select("SELECT item FROM items WHERE pk = ? AND sk = ?", (key[0], _stored(key[1]))):
            found: bytes = item
            return found
        return None

    def range(self, partition: KeyValue, bounds: Bounds, *, forward: bool, limit: int) -> Iterator[tuple[Key, bytes]]:
        """See ColdItems."""
        where, values = _within(partition, bounds)
        order, beyond = ("ASC", ">") if forward else ("DESC", "<")
        query = f"SELECT sk, item FROM items WHERE {where} {{}} ORDER BY sk {order} LIMIT ?"
        block = min(limit, _FIRST_BLOCK)
        found = self._select(query.format(""), (*values, block))
        while True:
            # HOT: only a partition of one item may have no sort key.
            if len(found) == 1 and found[0][0] == _NO_SORT_KEY:
                yield (partition, None), found[0][1]
            else:
                for sort, item in found:
                    yield (partition, sort), item
            if len(found) < block:
                return
            limit -= len(found)
            block = _following(limit, sum(len(item) for _, item in found) // len(found))
            found = self._select(query.format(f"AND sk {beyond} ?"), (*values, found[-1][0], block))

    def items_in(
        self,
        partition: KeyValue,
        bounds: Bounds,
        *,
        forward: bool,
        limit: int,
        sort_key_of: Callable[[bytes], SortKey],
    ) -> Iterator[list[bytes]]:
        """See ColdItems."""
        # HOT: a column less, and no Python for each item.
        where, values = _within(partition, bounds)
        order, beyond = ("ASC", ">") if forward else ("DESC", "<")
        query = f"SELECT item FROM items WHERE {where} {{}} ORDER BY sk {order} LIMIT ?"
        block = min(limit, _FIRST_BLOCK)
        found: list[bytes] = list(chain.from_iterable(self._select(query.format(""), (*values, block))))
        while found:
            yield found
            if len(found) < block:
                return
            limit -= len(found)
            block = _following(limit, sum(map(len, found)) // len(found))
            last = _stored(sort_key_of(found[-1]))
            rows = self._select(query.format(f"AND sk {beyond} ?"), (*values, last, block))
            found = list(chain.from_iterable(rows))

    def entries_from(self, after: Key | None, *, limit: int) -> Iterator[tuple[Key, bytes]]:
        """See ColdItems."""
        query = "SELECT pk, sk, item FROM items {} ORDER BY pk, sk LIMIT ?"
        block = min(limit, _FIRST_BLOCK)
        last = None if after is None else (after[0], _stored(after[1]))
        while True:
            if last is None:
                found = self._select(query.format(""), (block,))
            else:
                found = self._select(query.format("WHERE (pk, sk) > (?, ?)"), (*last, block))
            for partition, sort, item in found:
                yield (partition, None if sort == _NO_SORT_KEY else sort), item
            if len(found) < block:
                return
            block = min(2 * block, _LARGEST_BLOCK)
            last = found[-1][:2]

    def partitions(self, start: KeyValue | None = None) -> Iterator[KeyValue]:
        """See ColdItems."""
        query = "SELECT DISTINCT pk FROM items WHERE pk {} ? ORDER BY pk LIMIT ?"
        if start is None:
            found = self._select("SELECT DISTINCT pk FROM items ORDER BY pk LIMIT ?", (_PARTITIONS_AT_A_TIME,))
        else:
            found = self._select(query.format(">="), (start, _PARTITIONS_AT_A_TIME))
        while found:
            for (partition,) in found:
                yield partition
            found = self._select(query.format(">"), (found[-1][0], _PARTITIONS_AT_A_TIME))

    def _select(self, query: str, values: tuple[object, ...]) -> list[Any]:
        """All rows: a query that stays open would show the others on this connection the items of its own time."""
        if self._closed:
            raise ClosedError("the engine")
        try:
            if self._reader is None:
                self._reader = self._connect()
                self._check_owner(self._reader)
            return self._reader.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"reading {self._path} failed: {error}") from error

    # ---- writing

    def apply(self, entries: Iterable[tuple[Key, bytes | None]], *, afresh: bool) -> None:
        """Store and remove items in one synced transaction; ``afresh``: these are all the items there are.

        Raises:
            StorageError: nothing was stored.
        """
        deletes: list[tuple[KeyValue, KeyValue]] = []

        def puts() -> Iterator[Row]:
            # One by one: a list of them would take as much memory again as their keys.
            for (partition, sort), item in entries:
                if item is None:
                    deletes.append((partition, _stored(sort)))
                else:
                    yield partition, _stored(sort), item

        try:
            connection = self._connect()
            try:
                connection.executescript(_CREATE)
                with connection:
                    # Of which the view is a part: Python would begin one with the first row that is written.
                    connection.execute("BEGIN IMMEDIATE")
                    if afresh:
                        # A crash, or a settling that failed later on, may have left items of a time before.
                        connection.execute("DELETE FROM items")
                    view = None if self._of_index else PlainView(connection, self._schema, afresh=afresh)
                    for portion in portions(puts()):
                        put_rows(connection, "items", portion)
                        if view is not None:
                            view.put(portion)
                    connection.executemany("DELETE FROM items WHERE pk = ? AND sk = ?", deletes)
                    if view is not None:
                        view.delete(deletes)
                        view.finish()
                    connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", self._about())
                    # Those who read without locks (settled_items) see by this that something happened.
                    (version,) = connection.execute("PRAGMA user_version").fetchone()
                    connection.execute(f"PRAGMA user_version = {(version + 1) % 2**31}")
                # They also need all of it in the file itself. A tool that reads just now keeps it from there; so be it.
                connection.execute("PRAGMA busy_timeout = 0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"writing {self._path} failed: {error}") from error

    def close(self) -> None:
        """See ColdItems. Reading ends; ``apply`` has a connection of its own."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _about(self) -> list[tuple[str, str | None]]:
        schema = self._schema
        return [("table", schema.name), ("partition_key", schema.partition_key), ("sort_key", schema.sort_key)]

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        found = dict(connection.execute("SELECT name, value FROM about"))
        if found != dict(self._about()):
            raise CorruptLogError(self._path, 0, f"this is the file of table {found.get('table')!r}: it was misplaced")

    def _connect(self) -> sqlite3.Connection:
        # The reader is opened on the event loop and closed there; the settling thread opens its own.
        connection = sqlite3.connect(self._path, check_same_thread=False)
        try:
            os.chmod(self._path, 0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection


def _stored(sort: SortKey) -> KeyValue:
    return _NO_SORT_KEY if sort is None else sort


def _within(partition: KeyValue, bounds: Bounds) -> tuple[str, list[KeyValue]]:
    """The part of a partition as a condition and its values."""
    where, values = "pk = ?", [partition]
    for value, operator, is_low in (
        (bounds.low, ">" if bounds.low_open else ">=", True),
        (bounds.high, "<" if bounds.high_open else "<=", False),
    ):
        if value is not None:
            # Above the largest int there is text, the empty one first; below the smallest there is nothing.
            if isinstance(value, int) and value > _LARGEST:
                value = ""
            elif isinstance(value, int) and value < -_LARGEST - 1:
                value, operator = -_LARGEST - 1, ">=" if is_low else "<"
            where += f" AND sk {operator} ?"
            values.append(value)
    return where, values


def _following(limit: int, average: int) -> int:
    """How many items the next SELECT reads: a page ends at 1 MiB, and the items of one partition are often alike."""
    return max(1, min(limit if limit > 0 else _LARGEST_BLOCK, MIB // (average + 1), _LARGEST_BLOCK))

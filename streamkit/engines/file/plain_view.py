"""The view ``plain`` in a table's SQLite file, and what stands behind it.

``documents(pk, sk, document)`` has each item once more, as JSON, and ``plain_columns(attribute, name)`` what the
columns are called. It is a table beside ``items``, which is as small to read as it was (docs/adr/0024). All of it is
written in the transaction of the items, so it never shows others than there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from streamkit.engines.file.plain_items import Columns, documents, plain_items
from streamkit.limits import KIB
from streamkit.tables.item import KeyValue, TableSchema

Row = tuple[KeyValue, KeyValue, bytes]
"""A row of ``items``: partition key, sort key, stored item."""

_MOST_ROWS, _MOST_BYTES = 256, 256 * KIB
"""Of a portion, beyond which a larger item may go: a call into C holds the GIL for as long as it takes. Three values of
each row are in one statement, which older SQLites give 999."""

_FORGET = ("DROP VIEW IF EXISTS plain", "DROP TABLE IF EXISTS documents", "DROP TABLE IF EXISTS plain_columns")
_CREATE = (
    "CREATE TABLE documents (pk NOT NULL, sk NOT NULL, document TEXT, PRIMARY KEY (pk, sk)) WITHOUT ROWID",
    "CREATE TABLE plain_columns (attribute TEXT PRIMARY KEY, name TEXT NOT NULL)",
)


def portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows, some at a time."""
    portion: list[Row] = []
    size = 0
    for row in rows:
        portion.append(row)
        size += len(row[2])
        if len(portion) >= _MOST_ROWS or size >= _MOST_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def put_rows(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, object, object]]) -> None:
    """Store rows of three columns in place of those with their keys."""
    # HOT: each statement gives the GIL away and waits for it again: beside a busy loop that is most of the work.
    values = ", ".join(["(?, ?, ?)"] * len(rows))
    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {values}", list(chain.from_iterable(rows)))


class PlainView:
    """The view of one table, within one transaction that changes its items."""

    def __init__(self, connection: sqlite3.Connection, schema: TableSchema, *, afresh: bool) -> None:
        """``afresh``: there are no items now, and of what was there nothing counts."""
        self._connection = connection
        self._schema = schema
        if afresh:
            self._run(*_FORGET)
        found = connection.execute("SELECT name FROM sqlite_master WHERE name IN ('documents', 'plain')").fetchall()
        self._columns = Columns(schema)
        self._is_new = len(found) < 2
        if self._is_new:
            # A file of a time before there was this view: it has items already.
            self._run(*_FORGET, *_CREATE)
            for portion in portions(connection.execute("SELECT pk, sk, item FROM items ORDER BY pk, sk")):
                self.put(portion)
        else:
            known = connection.execute("SELECT attribute, name FROM plain_columns ORDER BY rowid").fetchall()
            self._columns = Columns(schema, known)
        self._known = len(self._columns.names) if not self._is_new else 0

    def put(self, rows: Sequence[Row]) -> None:
        """Show these items."""
        items = plain_items([item for _, _, item in rows])
        self._columns.see(items)
        shown = [(pk, sk, document) for (pk, sk, _), document in zip(rows, documents(items), strict=True)]
        put_rows(self._connection, "documents", shown)

    def delete(self, keys: Iterable[tuple[KeyValue, KeyValue]]) -> None:
        """Show items of these keys no more."""
        self._connection.executemany("DELETE FROM documents WHERE pk = ? AND sk = ?", keys)

    def finish(self) -> None:
        """Once all is put: the view has a column for what came new."""
        names = list(self._columns.names.items())
        if self._is_new or len(names) > self._known:
            self._connection.executemany("INSERT INTO plain_columns VALUES (?, ?)", names[self._known :])
            self._run("DROP VIEW IF EXISTS plain", self._columns.view("plain", "documents"))

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._connection.execute(statement)

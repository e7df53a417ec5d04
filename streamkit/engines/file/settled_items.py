"""Settled items as somebody reads them who does not own them: without a lock, and without leaving a file.

SQLite readers of a file in WAL mode lock it, and create what they share with the writer if it is not there. So the
file is opened as one that nobody changes, and whether that was so is looked at afterwards: the owner raises
``user_version`` with every change and checkpoints at once, so the file is whole while its WAL is empty. A WAL that is
not empty belongs to an owner that writes just now or died while it did; then SQLite reads both, with what is there.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any
from urllib.parse import quote

from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import ClosedError, StorageError
from streamkit.tables.item import TableSchema

Version = tuple[int, int, int]
"""How often the file was changed; and the size and the last change of its WAL."""
_WAL_HEADER = 32
"""Bytes ("The WAL file format" of SQLite's documentation)."""


class BeingWrittenError(StorageError):
    """The file could not be read just now."""

    retryable = True

    def __init__(self, path: str, reason: object) -> None:
        self.path = path
        super().__init__(
            f"reading {path} failed ({reason}): its owner is writing it, and it can be read soon; or the owner ended "
            "while it wrote: then open the directory once without ?mode=ro, which puts it right"
        )


class SettledItems(SqliteItems):
    """Implements ``ColdItems``. What was read between two equal versions is one state of the file."""

    steady = False

    def __init__(self, path: str, schema: TableSchema) -> None:
        super().__init__(path, schema)
        self._version: Version | None = None

    def version(self) -> Version:
        """Which state of the file is read from now on.

        Raises:
            BeingWrittenError: none can be read just now.
            StorageError: the file is gone, or cannot be read.
        """
        if self._closed:
            raise ClosedError("the engine")
        # The order matters: see ``is_still``.
        changes = self._changes()
        version = (changes, *self._wal())
        if version != self._version:
            self._let_go()
            self._version = version
        return version

    def is_still(self, version: Version) -> bool:
        """Whether the file is as it was. The WAL is looked at first here, and last above.

        So whoever writes between the two, in whatever order, is seen either by a WAL that is not empty or, once the WAL
        is empty again, by the number of changes.
        """
        wal = self._wal()
        same = (self._changes(), *wal) == version
        if version[1]:
            # While the owner is alive this connection holds a lock on what they share.
            self._let_go()
        return same

    def _select(self, query: str, values: tuple[object, ...]) -> list[Any]:
        """All rows."""
        if self._closed:
            raise ClosedError("the engine")
        try:
            if self._reader is None:
                self._reader = self._connect()
                self._check_owner(self._reader)
            return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            # Whoever reads a file that is being changed may find anything.
            self._let_go()
            raise BeingWrittenError(self._path, error) from error

    def close(self) -> None:
        """See ColdItems."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _changes(self) -> int:
        try:
            with contextlib.closing(self._connect()) as connection:
                (changes,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise BeingWrittenError(self._path, error) from error
        return int(changes)

    def _wal(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path + "-wal")
        except FileNotFoundError:
            return 0, 0
        except OSError as error:
            raise StorageError(f"reading {self._path} failed: {error}") from error
        # One that ends with its header has nothing in it: its writer was killed just then, and SQLite, which cannot
        # begin it anew here, would wait for ten seconds and fail ("locking protocol").
        # INVARIANT: test_a_wal_of_its_header_alone_is_none
        return (found.st_size, found.st_mtime_ns) if found.st_size > _WAL_HEADER else (0, 0)

    def _connect(self) -> sqlite3.Connection:
        # With readonly_shm SQLite uses what the owner shares, creates nothing, and makes do without if the owner is
        # dead. Only if the WAL vanishes within these microseconds it may leave an empty one, which means nothing.
        how = "mode=ro&readonly_shm=1" if self._wal()[0] else "mode=ro&immutable=1"
        return sqlite3.connect(
            f"file:{quote(os.fsencode(self._path))}?{how}", uri=True, check_same_thread=False, timeout=0
        )

"""The table port: what an engine does for tables, at the height of the service's own API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.item import Item, Key, TableSchema
from streamkit.tables.write import Write


class TableDescription(msgspec.Struct, frozen=True):
    """One table."""

    schema: TableSchema
    table_id: int
    created_ms: int


class SortKeyRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which sort keys a query wants; None is open. ``prefix`` (str or bytes keys) excludes the other two."""

    at_least: str | int | bytes | None = None
    at_most: str | int | bytes | None = None
    prefix: str | bytes | None = None


class Segment(msgspec.Struct, frozen=True):
    """One of the parts of a parallel scan (``Segment`` and ``TotalSegments`` of Scan): every item is in exactly one."""

    number: int
    """0 to ``of - 1``."""
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.of <= 1_000_000 or not 0 <= self.number < self.of:
            raise ValidationError(
                f"segment {self.number} of {self.of} is none: use 1 to 1,000,000 segments, numbered from 0"
            )


class ItemPage(msgspec.Struct, frozen=True):
    """One page of a query or scan."""

    items: list[Item]
    last_key: Key | None
    """Pass it as ``after`` to get the next page; None: there is none."""


class TableStore(Protocol):
    """The port. Every method may raise ``NotFoundError``, ``StorageError`` and ``ClosedError`` beside what it names.

    Durability: what a method returned, or an item it read, is as durable as the engine's policy says.
    Isolation: ``write`` is serialisable; ``get``, ``query`` and ``scan`` see whole writes only.
    Cancellation: a cancelled write may or may not have happened, never in part.
    """

    @property
    def session(self) -> str | None:
        """Stands for everybody who uses the tables as long as the engine is open: who had another one is gone.

        None where other processes may use the same tables at the same time.
        """
        ...

    async def create_table(self, schema: TableSchema) -> TableDescription:
        """Create a table.

        Raises:
            AlreadyExistsError: there is a table of this name.
        """
        ...

    async def delete_table(self, name: str) -> None:
        """Delete a table and its items."""
        ...

    async def describe_tables(self, names: Sequence[str] | None = None) -> list[TableDescription]:
        """These tables in this order, or all, sorted by name."""
        ...

    async def write(self, writes: Sequence[Write]) -> None:
        """Do all the writes, to any tables, or none of them. At most one write per item.

        Raises:
            ConditionFailedError: the condition of the only write is false.
            TransactionCanceledError: the condition of one of several writes is false.
            ValidationError: a write is malformed or over a limit.
        """
        ...

    async def get(self, name: str, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        """The items with these keys, in this order; None where there is none. Strongly consistent."""
        ...

    async def query(
        self,
        name: str,
        partition_key: str | int | bytes,
        sort_keys: SortKeyRange | None = None,
        *,
        forward: bool = True,
        limit: int = 1000,
        after: Key | None = None,
    ) -> ItemPage:
        """Items of one partition in the order of their sort keys (str by UTF-8 bytes, int by value, bytes as bytes)."""
        ...

    async def scan(
        self, name: str, *, limit: int = 1000, after: Key | None = None, segment: Segment | None = None
    ) -> ItemPage:
        """Items of the whole table or of a segment, in an order that stays the same between calls.

        A page of a segment may be empty and still not be the last one.
        """
        ...

"""The table port: what an engine does for tables, at the height of the service's own API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.attributes import NOTHING_MORE, TableAttributes
from streamkit.tables.item import Item, Key, TableSchema
from streamkit.tables.transact_get import Get
from streamkit.tables.write import Write


class TableDescription(msgspec.Struct, frozen=True):
    """One table."""

    schema: TableSchema
    table_id: int
    created_ms: int
    attributes: TableAttributes = TableAttributes()
    building: tuple[str, ...] = ()
    """The names of indexes that are being filled and cannot be queried yet (CREATING); others are ACTIVE."""

    def _repr_html_(self) -> str:
        from streamkit.showing.html import card, table
        from streamkit.showing.words import instant

        attributes, schema = self.attributes, self.schema
        facts = {
            "key": ", ".join(schema.key_names),
            "expires by": attributes.ttl,
            "change feed": attributes.stream or None,
            "capacity": None if attributes.capacity is None else attributes.capacity.mode,
            "created": f"{instant(self.created_ms)} UTC",
        }
        rows = [
            (
                index.name,
                ", ".join(name for name in (index.partition_key or schema.partition_key, index.sort_key) if name),
                index.kind,
                index.projection,
                "being filled" if index.name in self.building else "ready",
            )
            for index in attributes.indexes
        ]
        return card("Table", schema.name, facts, table(["index", "key", "kind", "projection", "state"], rows))


class SortKeyRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which sort keys a query wants; None is open. ``prefix`` (str or bytes keys) excludes the other two."""

    at_least: str | int | bytes | None = None
    at_most: str | int | bytes | None = None
    prefix: str | bytes | None = None


class Consumed(msgspec.Struct, frozen=True, gc=False):
    """Capacity units that a call consumed of a table or a global index, or how often it was refused."""

    table: str
    index: str | None = None
    read: float = 0.0
    write: float = 0.0
    refused_reads: int = 0
    refused_writes: int = 0


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
    Isolation: ``write`` and ``transact_get`` are serialisable; ``get``, ``query`` and ``scan`` see whole writes only.
    Cancellation: a cancelled write may or may not have happened, never in part.
    """

    consumed: Callable[[Consumed], None] | None
    """Who is told what is consumed of tables that have a ``capacity``; set by whoever wants to know. Called within the
    call that consumes; it must not raise."""

    session: str | None
    """Stands for everybody who uses the tables as long as the engine is open: who had another one is gone.

    None where other processes may use the same tables at the same time."""

    async def create_table(self, schema: TableSchema, attributes: TableAttributes = NOTHING_MORE) -> TableDescription:
        """Create a table, its indexes, and the stream of its change feed if that is not there.

        Raises:
            AlreadyExistsError: there is a table of this name.
            ValidationError: an attribute is not valid.
        """
        ...

    async def update_table(self, name: str, attributes: TableAttributes) -> TableDescription:
        """Give a table other attributes; all of it counts at once.

        A global index that is new is in ``building`` until ``build_indexes`` has gone through the items; from now on
        each write keeps it. One that is gone is gone at once, with its entries.

        Raises:
            ValidationError: it is a change that a table cannot make.
        """
        ...

    async def build_indexes(self, name: str, limit: int = 256) -> bool:
        """Fill in up to ``limit`` more items of an index that is being built; whether there is more to do.

        Call it until it returns False; also after a reopening, where it begins again. Others write meanwhile. An item
        whose index key has a wrong type is left out (AWS: a violation of the backfill).
        """
        ...

    async def expire_items(self, name: str, limit: int = 256) -> int:
        """Delete up to ``limit`` items whose time to live is over; how many there were. Fewer than ``limit``: no more.

        Isolation: an item goes only if it is expired as it is then; looking and deleting are one step.
        """
        ...

    async def delete_table(self, name: str) -> None:
        """Delete a table and its items."""
        ...

    async def describe_tables(self, names: Sequence[str] | None = None) -> list[TableDescription]:
        """These tables in this order, or all, sorted by name."""
        ...

    async def write(self, writes: Sequence[Write], client_request_token: str | None = None) -> list[Item | None]:
        """Do all the writes, to any tables, or none of them. At most one write per item.

        Answers with what each write's ``returns`` asks for, in order; None where that is nothing.

        With a token, 1 to 36 characters, the same writes in the same order are done once, however often they are asked
        for within ten minutes after the first call has finished; later it is a new call. A repetition is answered when
        the first one is durable. The token is part of the change, durable with the writes; a call that was refused
        leaves none. What is kept is in the table ``streamkit-tokens`` until ``expire_items`` of that table.

        Raises:
            ConditionFailedError: the condition of the only write is false.
            TransactionCanceledError: the condition of one of several writes is false.
            IdempotentParameterMismatchError: the token is that of other writes.
            ValidationError: a write is malformed or over a limit; or the token is, or a write with one has ``returns``.
        """
        ...

    async def get(self, name: str, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        """The items with these keys, in this order; None where there is none. Strongly consistent."""
        ...

    async def transact_get(self, gets: Sequence[Get]) -> list[Item | None]:
        """The items of these gets, of any tables, all as they were at one moment; None where there is none.

        In the order of the gets, of each what its projection wants. A write is seen wholly or not at all.

        Raises:
            ValidationError: a get is malformed or over a limit, two are of one item, or the items are too large.
            ExpressionError: a projection is not valid; with the position.
        """
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
        index: str | None = None,
    ) -> ItemPage:
        """Items of one partition in the order of their sort keys (str by UTF-8 bytes, int by value, bytes as bytes).

        With ``index`` by the keys of that index, and what it projects of the items; those of equal index keys in the
        order of their own keys. ``after`` is a page's ``last_key`` of the same index.

        Raises:
            ValidationError: the key or the range cannot be one; or the index is still being built.
            NotFoundError: there is no such index.
        """
        ...

    async def scan(
        self,
        name: str,
        *,
        limit: int = 1000,
        after: Key | None = None,
        index: str | None = None,
        segment: Segment | None = None,
    ) -> ItemPage:
        """Items of the whole table, of one of its indexes or of a segment, in an order that stays between calls.

        A page of a segment may be empty and still not be the last one.
        """
        ...

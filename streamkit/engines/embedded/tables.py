"""The table port over items in memory, a colder base, and a log. HOT: `python -m benchmarks --only table`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import ItemsWritten, TableCreated, TableDeleted, storable
from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.table_reads import query_page, scan_page
from streamkit.errors import AlreadyExistsError, NotFoundError
from streamkit.limits import Limits
from streamkit.tables.item import Item, Key, KeyValue, TableSchema, decode_item
from streamkit.tables.store import ItemPage, Segment, SortKeyRange, TableDescription
from streamkit.tables.transaction import Outcome, decide
from streamkit.tables.write import Write


class EmbeddedTable:
    """One table: what it is, what it holds, and the group of its newest write."""

    def __init__(self, description: TableDescription, items: Items) -> None:
        self.description = description
        self.schema = description.schema
        self.items = items
        self.last_group = 0


class EmbeddedTables:
    """Implements ``TableStore``."""

    def __init__(self, log: Log, clock: Clock, limits: Limits, next_id: Callable[[], int]) -> None:
        self.session: str | None = uuid.uuid4().hex
        """See TableStore."""
        self._log = log
        self._clock = clock
        self._limits = limits
        self._next_id = next_id
        self._by_name: dict[str, EmbeddedTable] = {}
        self.by_id: dict[int, EmbeddedTable] = {}

    async def create_table(self, schema: TableSchema) -> TableDescription:
        """See TableStore."""
        if schema.name in self._by_name:
            raise AlreadyExistsError("table", schema.name)
        self._log.check()
        change = storable(TableCreated(self._next_id(), schema, self._clock.now_ms()))
        group = self._log.append(change)
        table = self.table_created(change)
        await self._log.durable(group)
        return table.description

    async def delete_table(self, name: str) -> None:
        """See TableStore."""
        change = TableDeleted(self._table(name).description.table_id)
        self._log.check()
        group = self._log.append(change)
        self.table_deleted(change)
        await self._log.durable(group)

    async def describe_tables(self, names: Sequence[str] | None = None) -> list[TableDescription]:
        """See TableStore."""
        return [self._table(name).description for name in (sorted(self._by_name) if names is None else names)]

    # ---- writing

    async def write(self, writes: Sequence[Write]) -> None:
        """See TableStore."""
        # ATOMIC: conditions are true of what is written, because nothing happens between
        group = self.stage(self.decide(writes))
        # end ATOMIC
        await self._log.durable(group)

    def decide(self, writes: Sequence[Write]) -> list[Outcome]:
        """What the items become; stage it before anything else happens."""
        self._log.check()
        return decide(writes, lambda name: self._table(name).schema, self._read, self._limits)

    def stage(self, outcomes: Sequence[Outcome]) -> int:
        """Apply and log what was decided; it is durable with the returned group."""
        changes: dict[str, ItemsWritten] = {}
        for outcome in outcomes:
            table = self._by_name[outcome.table]
            change = changes.get(outcome.table)
            if change is None:
                change = changes[outcome.table] = ItemsWritten(table.description.table_id, [], [], [])
            change.partition_keys.append(outcome.key[0])
            change.sort_keys.append(outcome.key[1])
            change.items.append(outcome.item)
        group = 0
        for name, change in changes.items():
            self.items_written(change)
            group = self._by_name[name].last_group = self._log.append(change)
        return group

    def _read(self, name: str, key: Key) -> Item | None:
        data = self._table(name).items.get(key)
        return None if data is None else decode_item(data)

    # ---- reading

    async def get(self, name: str, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        """See TableStore."""
        table = self._table(name)
        wanted = [table.schema.key_of(key) for key in keys]
        found = [table.items.get(key) for key in wanted]
        # What is read is durable, or becomes so before it is returned.
        await self._log.durable(table.last_group)
        return [None if data is None else decode_item(data) for data in found]

    async def query(
        self,
        name: str,
        partition_key: KeyValue,
        sort_keys: SortKeyRange | None = None,
        *,
        forward: bool = True,
        limit: int = 1000,
        after: Key | None = None,
    ) -> ItemPage:
        """See TableStore."""
        table = self._table(name)
        table.schema.check_partition(partition_key)
        page = query_page(table.items, partition_key, sort_keys, forward=forward, limit=limit, after=after)
        await self._log.durable(table.last_group)
        return page

    async def scan(
        self, name: str, *, limit: int = 1000, after: Key | None = None, segment: Segment | None = None
    ) -> ItemPage:
        """See TableStore."""
        table = self._table(name)
        page = scan_page(table.items, limit=limit, after=after, segment=segment)
        await self._log.durable(table.last_group)
        return page

    def _table(self, name: str) -> EmbeddedTable:
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFoundError("table", name, "create it with kit.create_table") from None

    # ---- what happened (live and in replay)

    def table_created(self, change: TableCreated) -> EmbeddedTable:
        """A table is there."""
        return self.adopt(TableDescription(change.schema, change.table_id, change.created_ms), Items())

    def adopt(self, description: TableDescription, items: Items) -> EmbeddedTable:
        """Take over a table that recovery loaded."""
        table = EmbeddedTable(description, items)
        self._by_name[description.schema.name] = table
        self.by_id[description.table_id] = table
        return table

    def table_deleted(self, change: TableDeleted) -> None:
        """A table is gone."""
        table = self.by_id.pop(change.table_id)
        del self._by_name[table.schema.name]
        table.items.close()

    def items_written(self, change: ItemsWritten) -> None:
        """Items are as they are afterwards."""
        items = self.by_id[change.table_id].items
        for partition, sort, item in zip(change.partition_keys, change.sort_keys, change.items, strict=True):
            items.set((partition, sort), item)

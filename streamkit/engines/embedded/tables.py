"""The table port over items in memory, a colder base, and a log.

HOT: `python -m benchmarks --only table_put`, `--only table_get`, `--only table_query`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import (
    IndexFilled,
    ItemsWritten,
    TableCreated,
    TableDeleted,
    TableUpdated,
    storable,
)
from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.table_capacity import Metering
from streamkit.engines.embedded.table_indexes import EmbeddedIndex, EmbeddedTable, entries_within
from streamkit.engines.embedded.table_reads import query_page, scan_page
from streamkit.engines.embedded.table_writes import Decided, FeedStreams, TableWrites
from streamkit.engines.embedded.write_tokens import WriteTokens
from streamkit.errors import AlreadyExistsError, DiskFullError, NotFoundError
from streamkit.limits import Limits
from streamkit.tables.attributes import NOTHING_MORE, TableAttributes, check_attributes, check_change
from streamkit.tables.idempotency import TOKEN_ATTRIBUTES, TOKENS, check_repeatable, check_token
from streamkit.tables.item import Item, Key, KeyValue, TableSchema, decode_item
from streamkit.tables.store import Consumed, ItemPage, Segment, SortKeyRange, TableDescription
from streamkit.tables.transact_get import Get, answers, check_gets, found_items
from streamkit.tables.write import Delete, Put, Write


class EmbeddedTables:
    """Implements ``TableStore``."""

    def __init__(self, log: Log, clock: Clock, limits: Limits, next_id: Callable[[], int], feeds: FeedStreams) -> None:
        self.session: str | None = uuid.uuid4().hex
        """See TableStore."""
        self._log = log
        self._clock = clock
        self._limits = limits
        self._next_id = next_id
        self._by_name: dict[str, EmbeddedTable] = {}
        self.by_id: dict[int, EmbeddedTable] = {}
        self._feeds = feeds
        self._metering = Metering(clock)
        self._writes = TableWrites(log, clock, limits, self._table, feeds, self._metering)
        self._tokens = WriteTokens(
            clock,
            self._writes,
            lambda: self._by_name.get(TOKENS.name),
            lambda: self._stage_created(TOKENS, TOKEN_ATTRIBUTES)[0],
        )

    @property
    def consumed(self) -> Callable[[Consumed], None] | None:
        """See TableStore."""
        return self._metering.report

    @consumed.setter
    def consumed(self, report: Callable[[Consumed], None] | None) -> None:
        self._metering.report = report

    async def create_table(self, schema: TableSchema, attributes: TableAttributes = NOTHING_MORE) -> TableDescription:
        """See TableStore."""
        check_attributes(schema, attributes)
        if schema.name in self._by_name:
            raise AlreadyExistsError("table", schema.name)
        self._log.check()
        table, group = self._stage_created(schema, attributes)
        await self._log.durable(group)
        return table.description

    def _stage_created(self, schema: TableSchema, attributes: TableAttributes) -> tuple[EmbeddedTable, int]:
        ids = [self._next_id() for _ in attributes.all_indexes()]
        change = storable(TableCreated(self._next_id(), schema, self._clock.now_ms(), attributes, ids))
        if attributes.stream_view is not None:
            self._feeds.ensure(attributes.stream)
        group = self._log.append(change)
        return self.table_created(change), group

    async def update_table(self, name: str, attributes: TableAttributes) -> TableDescription:
        """See TableStore."""
        table = self._table(name)
        check_change(table.schema, table.attributes, attributes)
        self._log.check()
        known = {index.index: index.index_id for index in table.indexes}
        ids = [known.get(index) or self._next_id() for index in attributes.all_indexes()]
        change = storable(TableUpdated(table.table_id, attributes, ids))
        if attributes.stream_view is not None:
            self._feeds.ensure(attributes.stream)
        group = table.last_group = self._log.append(change)
        self.table_updated(change)
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

    # ---- indexes, and what expires

    async def build_indexes(self, name: str, limit: int = 256) -> bool:
        """See TableStore."""
        table = self._table(name)
        index = next((index for index in table.indexes if not index.active), None)
        if index is None:
            return False
        self._log.check()
        # ATOMIC: entries are of the items as they are now, whatever they were when their keys were found
        # INVARIANT: test_an_index_equals_its_items_whatever_happens
        change = table.more_entries(index, limit)
        group = table.last_group = self._log.append(change)
        table.filled(change)
        # end ATOMIC
        await self._log.durable(group)
        return any(not other.active for other in table.indexes)

    async def expire_items(self, name: str, limit: int = 256) -> int:
        """See TableStore."""
        table = self._table(name)
        # ATOMIC: what goes is expired as it is now
        # INVARIANT: test_an_item_that_was_given_more_time_stays
        keys = table.expired(self._clock.now_ms(), min(limit, self._limits.write_actions))
        if not keys:
            return 0
        deletes = [Delete(key, name) for key in keys]
        group = self.stage(self._writes.decide(deletes, by_time_to_live=True))
        # end ATOMIC
        await self._log.durable(group)
        return len(keys)

    # ---- writing

    async def write(self, writes: Sequence[Write], client_request_token: str | None = None) -> list[Item | None]:
        """See TableStore."""
        if client_request_token is not None:
            await self._write_once(writes, client_request_token)
            return [None] * len(writes)
        put = self._writes.put(writes)
        if put is not None:
            await self._log.durable(put)
            return [None] * len(writes)
        # ATOMIC: conditions are true of what is written, because nothing happens between
        decided = self._writes.decide(writes, refusing=True)
        group = self.stage(decided)
        # end ATOMIC
        await self._log.durable(group)
        answers: list[Item | None] = [None] * len(writes)
        for outcome in decided.outcomes:
            if outcome.answer is not None:
                answers[outcome.at] = outcome.answer
        return answers

    async def _write_once(self, writes: Sequence[Write], token: str) -> None:
        check_token(token)
        check_repeatable(writes)
        # ATOMIC: whoever comes with the same token finds it together with what was written, and one group has both
        # INVARIANT: test_two_calls_at_once_with_one_token_write_once
        with contextlib.suppress(DiskFullError):
            self._log.check()  # What was done can be repeated while the disk is full.
        group = self._tokens.known(token, writes)
        if group is not None:
            self._count_again(writes)
        else:
            decided = self._writes.decide(writes, refusing=True, transactional=True)
            kept = self._tokens.decide(token, writes)
            group = max(self.stage(decided), self._tokens.stage(kept))
        # end ATOMIC
        await self._log.durable(group)
        await self._log.durable(self._tokens.group_of(token))

    def _count_again(self, writes: Sequence[Write]) -> None:
        """AWS: a repetition consumes what reading its items does."""
        read: dict[str, list[Item | None]] = {}
        for write in writes:
            table = self._by_name.get(write.table)
            if table is not None and table.attributes.capacity is not None:
                data = table.items.get(table.schema.key_of(write.item if isinstance(write, Put) else write.key))
                read.setdefault(write.table, []).append(None if data is None else decode_item(data))
        for name in read:
            self._metering.before_reading(self._table(name), transactional=True)
        for name, items in read.items():
            self._metering.got(self._table(name), items, transactional=True)

    def decide(self, writes: Sequence[Write], progress: Sequence[Write] = ()) -> Decided:
        """What the items become; stage it before anything else happens. No table is too busy for it.

        ``progress`` are more writes, which do not count towards the number that one call may have.
        """
        return self._writes.decide(writes, progress)

    def stage(self, decided: Decided) -> int:
        """Apply and log what was decided; it is durable with the returned group."""
        return self._writes.stage(decided)

    # ---- reading

    async def get(self, name: str, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        """See TableStore."""
        table = self._table(name)
        if len(keys) == 1 and table.is_plain:
            # HOT: most calls are of one key.
            data = table.items.get(table.schema.key_of(keys[0]))
            await self._log.durable(table.last_group)
            return [None if data is None else decode_item(data)]
        wanted = [table.schema.key_of(key) for key in keys]
        if not table.is_plain:
            self._metering.before_reading(table)
        found = [table.items.get(key) for key in wanted]
        # What is read is durable, or becomes so before it is returned.
        await self._log.durable(table.last_group)
        items = [None if data is None else decode_item(data) for data in found]
        if not table.is_plain:
            self._metering.got(table, items)
        return items

    async def transact_get(self, gets: Sequence[Get]) -> list[Item | None]:
        """See TableStore."""
        wanted = check_gets(gets, lambda name: self._table(name).schema, self._limits)
        # ATOMIC: all items are of one moment
        # INVARIANT: test_an_atomic_read_sees_each_write_whole
        tables = {get.table: self._table(get.table) for get in wanted}
        metered = [table for table in tables.values() if not table.is_plain]
        for table in metered:
            self._metering.before_reading(table, transactional=True)
        stored = [tables[get.table].items.get(get.key) for get in wanted]
        group = max(table.last_group for table in tables.values())
        # end ATOMIC
        items = found_items(stored, self._limits)
        await self._log.durable(group)
        for table in metered:
            name = table.schema.name
            of_table = [item for get, item in zip(wanted, items, strict=True) if get.table == name]
            self._metering.got(table, of_table, transactional=True)
        return answers(wanted, items)

    async def query(
        self,
        name: str,
        partition_key: KeyValue,
        sort_keys: SortKeyRange | None = None,
        *,
        forward: bool = True,
        limit: int = 1000,
        after: Key | None = None,
        index: str | None = None,
    ) -> ItemPage:
        """See TableStore."""
        table = self._table(name)
        if table.is_plain:
            return await self._query(table, partition_key, sort_keys, forward, limit, after, index)
        self._metering.before_reading(table, index)
        page = await self._query(table, partition_key, sort_keys, forward, limit, after, index)
        self._metering.paged(table, index, page.items)
        return page

    async def _query(
        self,
        table: EmbeddedTable,
        partition_key: KeyValue,
        sort_keys: SortKeyRange | None,
        forward: bool,
        limit: int,
        after: Key | None,
        index: str | None,
    ) -> ItemPage:
        items = table.items
        key_of = None
        if index is None:
            table.schema.check_partition(partition_key)
            key_of = table.schema.key_of
        else:
            found = table.index(index)
            items = found.items
            partition_key, sort_keys = entries_within(found.index, partition_key, sort_keys)
        page = query_page(items, partition_key, sort_keys, forward=forward, limit=limit, after=after, key_of=key_of)
        await self._log.durable(table.last_group)
        return page

    async def scan(
        self,
        name: str,
        *,
        limit: int = 1000,
        after: Key | None = None,
        index: str | None = None,
        segment: Segment | None = None,
    ) -> ItemPage:
        """See TableStore."""
        table = self._table(name)
        source = table.items if index is None else table.index(index).items
        if not table.is_plain:
            self._metering.before_reading(table, index)
        page = scan_page(source, limit=limit, after=after, segment=segment)
        await self._log.durable(table.last_group)
        if not table.is_plain:
            self._metering.paged(table, index, page.items)
        return page

    def _table(self, name: str) -> EmbeddedTable:
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFoundError("table", name, "create it with kit.create_table") from None

    def items_of(self, table_id: int, index_id: int) -> Items | None:
        """A table's items, or the entries of an index of it; None: they are gone."""
        table = self.by_id.get(table_id)
        if table is None or not index_id:
            return None if table is None else table.items
        return next((index.items for index in table.indexes if index.index_id == index_id), None)

    # ---- what happened (live and in replay)

    def table_created(self, change: TableCreated) -> EmbeddedTable:
        """A table is there."""
        description = TableDescription(change.schema, change.table_id, change.created_ms, change.attributes)
        indexes = [
            EmbeddedIndex(index, index_id, Items(), active=True)
            for index, index_id in zip(change.attributes.all_indexes(), change.index_ids, strict=True)
        ]
        return self.adopt(EmbeddedTable(description, Items(), indexes))

    def adopt(self, table: EmbeddedTable) -> EmbeddedTable:
        """Take over a table that recovery loaded."""
        self._by_name[table.schema.name] = table
        self.by_id[table.table_id] = table
        return table

    def table_updated(self, change: TableUpdated) -> None:
        """A table has other attributes."""
        self.by_id[change.table_id].updated(change.attributes, change.index_ids)

    def table_deleted(self, change: TableDeleted) -> None:
        """A table is gone."""
        table = self.by_id.pop(change.table_id)
        del self._by_name[table.schema.name]
        self._metering.forget(table)
        table.close()

    def items_written(self, change: ItemsWritten) -> None:
        """Items are as they are afterwards (in replay)."""
        self.by_id[change.table_id].written(change)

    def index_filled(self, change: IndexFilled) -> None:
        """An index that is being built has more entries (in replay)."""
        self.by_id[change.table_id].filled(change)

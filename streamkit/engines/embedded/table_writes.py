"""The writing half of the table port: what is decided, what that means for indexes and feeds, and staging it.

HOT: `python -m benchmarks --only table_put`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import ItemsWritten
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.table_capacity import Entry, Metering
from streamkit.engines.embedded.table_indexes import EmbeddedIndex, EmbeddedTable
from streamkit.errors import ConditionFailedError, TransactionCanceledError, ValidationError
from streamkit.limits import Limits
from streamkit.tables import feed
from streamkit.tables.index import TTL_INDEX, EntryKey, entry_of
from streamkit.tables.item import Item, Key, decode_item
from streamkit.tables.store import Consumed
from streamkit.tables.transaction import Outcome, decide, plain_puts
from streamkit.tables.write import Check, Put, Write

ITEM_BYTES = 2 * 280
"""Of an item in memory beside what it holds: its key's tuple and two values, an object's head, an entry of a dict.
Counted twice, since as many come while those before them are being settled."""


class FeedStreams(Protocol):
    """Where the records of change feeds go."""

    def route(self, records: Sequence[tuple[str, str, bytes]]) -> Callable[[], int]:
        """Check records (each a stream's name, a partition key and data without its number) and number them.

        Returns what stages them, without an ``await`` in between; that returns the group they are durable with.

        Raises:
            NotFoundError: a stream was deleted.
            ValidationError: a record is over a limit.
        """

    def ensure(self, name: str) -> None:
        """Stage the creation of a stream that is not there."""


class _Entries(msgspec.Struct, gc=False):
    """What one outcome changes in the indexes of its table."""

    both: list[tuple[EmbeddedIndex, Entry, Entry]]
    """What was there and what is, in each index."""
    removed: list[tuple[EmbeddedIndex, EntryKey]]
    added: list[tuple[EmbeddedIndex, EntryKey, bytes]]


class Decided(msgspec.Struct):
    """What a call does; ``stage`` it before anything else happens."""

    outcomes: list[Outcome]
    entries: dict[int, _Entries] | None = None
    """By position of the outcome, of tables that have indexes."""
    put_records: Callable[[], int] | None = None
    consumed: Sequence[tuple[EmbeddedTable, Consumed]] = ()


class TableWrites:
    """Decides and stages; whoever staged waits for the group."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        limits: Limits,
        table_of: Callable[[str], EmbeddedTable],
        feeds: FeedStreams,
        metering: Metering,
    ) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._table = table_of
        self._feeds = feeds
        self._metering = metering

    def decide(
        self,
        writes: Sequence[Write],
        progress: Sequence[Write] = (),
        *,
        by_time_to_live: bool = False,
        refusing: bool = False,
        transactional: bool = False,
    ) -> Decided:
        """What items, indexes and feeds become; ``refusing``: unless a provisioned table has not the units for it.

        ``progress`` are more writes, which do not count towards the number that one call may have. Several writes cost
        as a transaction in any case, a single one if it is ``transactional``.

        Raises:
            ValidationError: a write is malformed or over a limit, or an index key of an item has a wrong type.
            ConditionFailedError, TransactionCanceledError: see TableStore.write.
        """
        self._log.check()
        limits = self._limits
        if progress:
            if len(writes) > limits.write_actions:
                raise ValidationError(f"a commit has {limits.write_actions:,} writes at most, not {len(writes):,}")
            writes = (*writes, *progress)
            if len(writes) > limits.write_actions:
                limits = msgspec.structs.replace(limits, write_actions=len(writes))
        transactional = transactional or len(writes) > 1
        try:
            outcomes = decide(writes, lambda name: self._table(name).schema, self._read, limits)
        except (ConditionFailedError, TransactionCanceledError):
            # AWS: what was refused by its condition has consumed capacity all the same.
            self._metering.wrote(self._looked_at(writes, transactional=transactional))
            raise
        # HOT: most calls are of plain tables, and of a few
        if len(outcomes) == 1:
            plain = self._table(outcomes[0].table).is_plain
        else:
            plain = all(self._table(name).is_plain for name in {outcome.table for outcome in outcomes})
        if plain:
            return Decided(outcomes)
        checks = [write for write in writes if isinstance(write, Check)]
        consumed = self._looked_at(checks, transactional=transactional)
        entries, records = self._follow(
            outcomes, consumed, by_time_to_live=by_time_to_live, transactional=transactional
        )
        if refusing and consumed:
            self._metering.admit(consumed)
        return Decided(outcomes, entries, self._feeds.route(records) if records else None, consumed)

    def _follow(
        self,
        outcomes: Sequence[Outcome],
        consumed: list[tuple[EmbeddedTable, Consumed]],
        *,
        by_time_to_live: bool,
        transactional: bool,
    ) -> tuple[dict[int, _Entries], list[tuple[str, str, bytes]]]:
        """What outcomes change in indexes, and the records of change feeds; what they consume joins ``consumed``."""
        entries: dict[int, _Entries] = {}
        records: list[tuple[str, str, bytes]] = []
        for position, outcome in enumerate(outcomes):
            table = self._table(outcome.table)
            if table.is_plain:
                continue
            data = table.items.get(outcome.key)
            before = None if data is None else decode_item(data)
            after = None if outcome.item is None else decode_item(outcome.item)
            if table.indexes:
                entries[position] = self._entries(table, outcome, before, data, after)
            # AWS: what time to live deletes consumes nothing.
            if table.attributes.capacity is not None and not by_time_to_live:
                consumed.append(self._metering.write(table, before, after, transactional=transactional))
                if table.indexes:
                    consumed += self._entries_consumed(table, entries[position], transactional=transactional)
            view = table.attributes.stream_view
            if view is not None:
                change = feed.Change(outcome.key, before, after, self._clock.now_ms(), by_time_to_live)
                record = feed.record_of(table.schema, view, change)
                if record is not None:
                    records.append((table.attributes.stream, feed.partition_key_of(outcome.key), record))
        return entries, records

    def stage(self, decided: Decided, on_durable: Callable[[], None] | None = None) -> int:
        """Apply and log what was decided; it is durable with the returned group. ``on_durable``: see ``Log.append``."""
        changes: dict[str, tuple[EmbeddedTable, ItemsWritten]] = {}
        unindexed: dict[str, list[tuple[int, bytes, bytes]]] = {}
        entries = decided.entries
        for position, outcome in enumerate(decided.outcomes):
            held = changes.get(outcome.table)
            if held is None:
                table = self._table(outcome.table)
                change = ItemsWritten(table.table_id, [], [], [])
                if table.indexes:
                    change.indexes = tuple(index.index_id for index in table.indexes)
                held = changes[outcome.table] = table, change
            table, change = held
            change.partition_keys.append(outcome.key[0])
            change.sort_keys.append(outcome.key[1])
            change.items.append(outcome.item)
            table.items.set(outcome.key, outcome.item)
            if entries is not None and position in entries:
                unindexed.setdefault(outcome.table, []).extend(_apply(entries[position]))
        group = 0
        for name, removed in unindexed.items():
            changes[name][1].unindexed = tuple(removed)
        for table, change in changes.values():
            group = table.last_group = self._log.append(change, on_durable)
            self._weigh(table)
        if decided.put_records is not None:
            group = decided.put_records()
            for table, _ in changes.values():
                table.last_group = max(table.last_group, group)
        if decided.consumed:
            self._metering.wrote(decided.consumed)
        return group

    def put(self, writes: Sequence[Write]) -> int | None:
        """Decide and stage puts into one plain table, without what others need; None: they are not that, or wrong."""
        first = writes[0] if writes else None
        if not isinstance(first, Put) or not first.table:
            return None
        self._log.check()
        table = self._table(first.table)
        if not table.is_plain:
            return None
        stored = plain_puts(writes, table.schema, self._limits)
        if stored is None:
            return None
        partition_keys, sort_keys = map(list, zip(*stored, strict=True))
        change = ItemsWritten(table.table_id, partition_keys, sort_keys, list(stored.values()))
        table.items.update(stored)
        group = table.last_group = self._log.append(change)
        self._weigh(table)
        return group

    def _weigh(self, table: EmbeddedTable) -> None:
        """Small items take several times in memory what they take in the log; what is written again takes no more."""
        self._log.weigh(table.items.newest.grown() * ITEM_BYTES)
        for index in table.indexes:
            self._log.weigh(index.items.newest.grown() * ITEM_BYTES)

    def _entries(
        self, table: EmbeddedTable, outcome: Outcome, before: Item | None, data: bytes | None, after: Item | None
    ) -> _Entries:
        entries = _Entries([], [], [])
        size = 0
        for index in table.indexes:
            new = None
            if after is not None and outcome.item is not None:
                new = entry_of(table.schema, index.index, after, outcome.key, outcome.item)
            old = None
            if before is not None and data is not None:
                old = index.entry(table.schema, before, outcome.key, data)
            entries.both.append((index, old, new))
            if old is not None and (new is None or new[0] != old[0]):
                entries.removed.append((index, old[0]))
            # One that is still being filled may not have the entry, though it is the same as before.
            if new is not None and (new != old or not index.active):
                entries.added.append((index, *new))
            if new is not None and index.index.kind == "LOCAL":
                size += len(new[1])
        if size and outcome.item is not None and size + len(outcome.item) > self._limits.item_bytes:
            # AWS: an item and what local indexes have of it count together.
            raise ValidationError(
                f"the item and its copies in local indexes of table {outcome.table!r} have "
                f"{size + len(outcome.item):,} bytes and the limit is {self._limits.item_bytes:,}: project less"
            )
        return entries

    def _entries_consumed(
        self, table: EmbeddedTable, entries: _Entries, *, transactional: bool
    ) -> list[tuple[EmbeddedTable, Consumed]]:
        found = []
        for index, old, new in entries.both:
            if index.index.name != TTL_INDEX:
                units = self._metering.entry(table, index, old, new, transactional=transactional)
                if units is not None:
                    found.append(units)
        return found

    def _looked_at(self, writes: Sequence[Write], *, transactional: bool) -> list[tuple[EmbeddedTable, Consumed]]:
        """What writes that changed nothing consume: they looked at an item, and cost as much as writing it."""
        found = []
        for write in writes:
            table = self._table(write.table)
            if table.attributes.capacity is not None:
                item = self._read(write.table, table.schema.key_of(write.item if isinstance(write, Put) else write.key))
                found.append(self._metering.write(table, item, None, transactional=transactional))
        return found

    def _read(self, name: str, key: Key) -> Item | None:
        data = self._table(name).items.get(key)
        return None if data is None else decode_item(data)


def _apply(entries: _Entries) -> list[tuple[int, bytes, bytes]]:
    """Change the indexes; what was removed, as it is logged."""
    for index, at in entries.removed:
        index.items.set(at, None)
    for index, at, data in entries.added:
        index.items.set(at, data)
        index.first = min(index.first, at[0])
    return [(index.index_id, *at) for index, at in entries.removed]

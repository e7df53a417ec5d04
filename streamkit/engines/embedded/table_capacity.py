"""Capacity of the tables of an engine: what each call consumes, and what a provisioned table refuses.

Sizes are computed for tables whose capacity is counted, and for no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from streamkit.clock import Clock
from streamkit.engines.embedded.table_indexes import EmbeddedIndex, EmbeddedTable
from streamkit.errors import ThroughputExceededError
from streamkit.tables.capacity import Bucket, Meter, index_write_units, read_units, write_units
from streamkit.tables.index import EntryKey
from streamkit.tables.item import Item, decode_item
from streamkit.tables.size import item_size
from streamkit.tables.store import Consumed

Entry = tuple[EntryKey, bytes] | None


class Metering:
    """Counts, asks buckets, and tells whoever wants to know."""

    def __init__(self, clock: Clock) -> None:
        self.report: Callable[[Consumed], None] | None = None
        self._clock = clock
        self._meters: dict[int, tuple[object, Meter]] = {}

    # ---- reading

    def before_reading(self, table: EmbeddedTable, index: str | None = None, *, transactional: bool = False) -> None:
        """Refuse a read of a provisioned table that has nothing left. What it costs is known afterwards.

        Raises:
            ThroughputExceededError: says when to try again.
        """
        bucket = self._read_bucket(table, index)
        if bucket is None:
            return
        least = read_units(0, consistent=self._global(table, index) is None, transactional=transactional)
        if wait := bucket.wait_for(least, self._clock.now_ms()):
            self._tell(Consumed(table.schema.name, self._global(table, index), refused_reads=1))
            raise _exceeded(table, index, bucket, "read", wait)

    def got(self, table: EmbeddedTable, items: Iterable[Item | None], *, transactional: bool = False) -> None:
        """Count items that were read by their keys, each for itself."""
        if table.attributes.capacity is not None:
            sizes = (0 if item is None else item_size(item) for item in items)
            self._read(table, None, sum(read_units(size, transactional=transactional) for size in sizes))

    def paged(self, table: EmbeddedTable, index: str | None, items: Iterable[Item]) -> None:
        """Count a page of a query or scan. AWS: reading a global index is eventually consistent, and costs half."""
        if table.attributes.capacity is not None:
            consistent = self._global(table, index) is None
            self._read(table, index, read_units(sum(map(item_size, items)), consistent=consistent))

    def _read(self, table: EmbeddedTable, index: str | None, units: float) -> None:
        bucket = self._read_bucket(table, index)
        if bucket is not None:
            bucket.take(units)
        self._tell(Consumed(table.schema.name, self._global(table, index), read=units))

    # ---- writing

    def admit(self, consumed: Sequence[tuple[EmbeddedTable, Consumed]]) -> None:
        """Refuse a call that a provisioned table has not the units for. A global index's writes refuse nothing.

        Raises:
            ThroughputExceededError: says when to try again.
        """
        totals: dict[int, tuple[EmbeddedTable, float]] = {}
        for table, each in consumed:
            if each.index is None:
                totals[table.table_id] = table, totals.get(table.table_id, (table, 0.0))[1] + each.write
        for table, units in totals.values():
            meter = self._meter(table)
            if meter is not None and (wait := meter.write.wait_for(units, self._clock.now_ms())):
                self._tell(Consumed(table.schema.name, refused_writes=1))
                raise _exceeded(table, None, meter.write, "write", wait)

    def wrote(self, consumed: Sequence[tuple[EmbeddedTable, Consumed]]) -> None:
        """Count what was staged, or was refused by its condition."""
        for table, each in consumed:
            meter = self._meter(table)
            if meter is not None and each.index is None:
                meter.write.take(each.write)
            self._tell(each)

    def write(
        self, table: EmbeddedTable, before: Item | None, after: Item | None, *, transactional: bool
    ) -> tuple[EmbeddedTable, Consumed]:
        """What one write consumes of its table."""
        sizes = (None if item is None else item_size(item) for item in (before, after))
        units = write_units(*sizes, transactional=transactional)
        return table, Consumed(table.schema.name, write=units)

    def entry(
        self, table: EmbeddedTable, index: EmbeddedIndex, old: Entry, new: Entry, *, transactional: bool
    ) -> tuple[EmbeddedTable, Consumed] | None:
        """What one write consumes in an index; of a local one it is its table's."""
        units = index_write_units(_sized(old), _sized(new), same=old == new) * (2 if transactional else 1)
        name = None if index.index.kind == "LOCAL" else index.index.name
        return (table, Consumed(table.schema.name, name, write=units)) if units else None

    # ---- buckets

    def forget(self, table: EmbeddedTable) -> None:
        """The table was deleted."""
        self._meters.pop(table.table_id, None)

    def _meter(self, table: EmbeddedTable) -> Meter | None:
        capacity = table.attributes.capacity
        if capacity is None or capacity.mode != "PROVISIONED":
            return None
        held = self._meters.get(table.table_id)
        # An update of anything leaves what was banked, unless it is one of the capacity or the indexes.
        now = (capacity, table.attributes.indexes)
        if held is None or held[0] != now:
            names = [index.name for index in table.attributes.indexes if index.kind == "GLOBAL"]
            meter = Meter(capacity.read, capacity.write, names, self._clock.now_ms())
            held = self._meters[table.table_id] = now, meter
        return held[1]

    def _read_bucket(self, table: EmbeddedTable, index: str | None) -> Bucket | None:
        meter = self._meter(table)
        return None if meter is None else meter.read.get(self._global(table, index))

    @staticmethod
    def _global(table: EmbeddedTable, index: str | None) -> str | None:
        return next((i.name for i in table.attributes.indexes if i.name == index and i.kind == "GLOBAL"), None)

    def _tell(self, consumed: Consumed) -> None:
        if self.report is not None:
            self.report(consumed)


def _sized(entry: Entry) -> tuple[EntryKey, int] | None:
    return None if entry is None else (entry[0], item_size(decode_item(entry[1])))


def _exceeded(
    table: EmbeddedTable, index: str | None, bucket: Bucket, what: str, wait: float
) -> ThroughputExceededError:
    name = f"table {table.schema.name!r}" if index is None else f"index {index!r} of table {table.schema.name!r}"
    return ThroughputExceededError(name, f"{bucket.rate:,.0f} {what} capacity units/s", wait)

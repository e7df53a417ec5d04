"""A table and its indexes as an engine holds them: an index is items of its own, whose keys are entries' keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from streamkit.engines.embedded.changes import IndexFilled, ItemsWritten
from streamkit.engines.embedded.items import Items
from streamkit.errors import NotFoundError, ValidationError
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.index import TTL_INDEX, EntryKey, Index, bounds, encode_value, entry_of
from streamkit.tables.item import Item, Key, KeyValue, TableSchema, decode_item
from streamkit.tables.store import SortKeyRange, TableDescription
from streamkit.tables.ttl import expired_seconds, is_expired


class EmbeddedIndex:
    """One index. While it is not active it is kept in step as every other, but does not have all entries yet."""

    def __init__(self, index: Index, index_id: int, items: Items, *, active: bool) -> None:
        self.index = index
        self.index_id = index_id
        self.items = items
        self.active = active
        self.unseen: Iterator[Key] | None = None
        """Keys of items that the filling has not come to; it begins again after a reopening."""
        self.first = b""
        """No partition key in it is smaller; kept by the hidden index of the time to live alone."""

    def entry(self, schema: TableSchema, item: Item, key: Key, data: bytes) -> tuple[EntryKey, bytes] | None:
        """The item's entry; None also if the item came before the index and cannot be in it."""
        try:
            return entry_of(schema, self.index, item, key, data)
        except ValidationError:
            return None


class EmbeddedTable:
    """One table: what it is, what it holds, and the group of its newest write."""

    def __init__(self, description: TableDescription, items: Items, indexes: Sequence[EmbeddedIndex] = ()) -> None:
        self.schema = description.schema
        self.table_id = description.table_id
        self.items = items
        self.indexes = list(indexes)
        self.last_group = 0
        self._about = description
        self.attributes = description.attributes
        # HOT: a table that needs nothing beside its items pays one look at this.
        self.is_plain = self._is_plain()

    @property
    def description(self) -> TableDescription:
        """What the port says of it."""
        building = tuple(
            index.index.name for index in self.indexes if not index.active and index.index.name != TTL_INDEX
        )
        return msgspec.structs.replace(self._about, attributes=self.attributes, building=building)

    def index(self, name: str) -> EmbeddedIndex:
        """An index that can be queried.

        Raises:
            NotFoundError: there is none of this name.
            ValidationError: it is being built.
        """
        for index in self.indexes:
            if index.index.name == name != TTL_INDEX:
                if not index.active:
                    raise ValidationError(
                        f"index {name!r} of table {self.schema.name!r} is still being built: wait until the table's "
                        "description does not name it in `building` any more"
                    )
                return index
        raise NotFoundError("index", f"{self.schema.name}/{name}", "add it with kit.update_table")

    def updated(self, attributes: TableAttributes, index_ids: Sequence[int]) -> None:
        """It has other attributes."""
        known = {index.index_id: index for index in self.indexes}
        self.attributes = attributes
        self.indexes = [
            known.pop(index_id) if index_id in known else EmbeddedIndex(index, index_id, Items(), active=False)
            for index, index_id in zip(attributes.all_indexes(), index_ids, strict=True)
        ]
        for gone in known.values():
            gone.items.close()
        self.is_plain = self._is_plain()

    def written(self, change: ItemsWritten) -> None:
        """Items are as they are afterwards, and their entries with them (in replay)."""
        indexes = [index for index in self.indexes if index.index_id in change.indexes]
        by_id = {index.index_id: index for index in indexes}
        for index_id, partition, sort in change.unindexed:
            if index_id in by_id:
                by_id[index_id].items.set((partition, sort), None)
        for partition, sort, data in zip(change.partition_keys, change.sort_keys, change.items, strict=True):
            key = (partition, sort)
            self.items.set(key, data)
            if data is not None and indexes:
                item = decode_item(data)
                for index in indexes:
                    entry = index.entry(self.schema, item, key, data)
                    if entry is not None:
                        index.items.set(*entry)

    def filled(self, change: IndexFilled) -> None:
        """An index that is being built has more entries."""
        for index in self.indexes:
            if index.index_id == change.index_id:
                for partition, sort, data in zip(change.partition_keys, change.sort_keys, change.items, strict=True):
                    index.items.set((partition, sort), data)
                index.first = b""
                index.active = index.active or change.done
                if index.active:
                    index.unseen = None

    def more_entries(self, index: EmbeddedIndex, limit: int) -> IndexFilled:
        """Entries of the next items for an index that is being built. Apply it before anything else happens."""
        if index.unseen is None:
            index.unseen = _keys_of(self.items)
        change = IndexFilled(self.table_id, index.index_id, [], [], [], False)
        keys = list(islice(index.unseen, limit))
        for key in keys:
            data = self.items.get(key)
            entry = None if data is None else index.entry(self.schema, decode_item(data), key, data)
            if entry is not None:
                change.partition_keys.append(entry[0][0])
                change.sort_keys.append(entry[0][1])
                change.items.append(entry[1])
        change.done = len(keys) < limit
        return change

    def expired(self, now_ms: int, limit: int) -> list[dict[str, KeyValue]]:
        """The keys of up to ``limit`` items whose time to live is over."""
        ttl = self.attributes.ttl
        index = next((index for index in self.indexes if index.index.name == TTL_INDEX and index.active), None)
        if ttl is None or index is None:
            return []
        oldest, newest = (encode_value(second) for second in expired_seconds(now_ms))
        if index.first > newest:
            return []
        found: list[dict[str, KeyValue]] = []
        passed = True  # What was looked at has nothing any more, so it is not looked at again.
        for second in index.items.partitions(max(oldest, index.first)):
            assert isinstance(second, bytes)
            if passed:
                index.first = second
            if second > newest:
                return found
            for _, data in index.items.partition(second):
                passed = False
                key = decode_item(data)
                item = self.items.get(self.schema.key_of(key))
                if item is not None and is_expired(decode_item(item), ttl, now_ms):
                    found.append({name: key[name] for name in self.schema.key_names})
                if len(found) == limit:
                    return found
        if passed:
            index.first = b"\xff"
        return found

    def close(self) -> None:
        """Let go of files."""
        self.items.close()
        for index in self.indexes:
            index.items.close()

    def _is_plain(self) -> bool:
        return not self.indexes and self.attributes.stream_view is None and self.attributes.capacity is None


def _keys_of(items: Items) -> Iterator[Key]:
    for partition in items.unordered():
        for sort, _ in items.partition(partition):
            yield partition, sort


def entries_within(
    index: Index, partition_key: KeyValue, sort_keys: SortKeyRange | None
) -> tuple[bytes, SortKeyRange | None]:
    """A query of an index as one of its entries.

    Raises:
        ValidationError: the index has no sort key, or the range cannot be one.
    """
    partition = encode_value(partition_key)
    if sort_keys is None:
        return partition, None
    if index.sort_key is None:
        raise ValidationError(f"index {index.name!r} has no sort key: query it by its partition key alone")
    least, most, prefix = bounds(sort_keys.at_least, sort_keys.at_most, sort_keys.prefix)
    return partition, SortKeyRange(at_least=least, at_most=most, prefix=prefix)

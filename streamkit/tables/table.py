"""A table as its users hold it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from streamkit.clock import Clock
from streamkit.errors import ConditionFailedError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.tables.condition import Condition
from streamkit.tables.item import Item, Key, KeyValue, TableSchema
from streamkit.tables.store import SortKeyRange, TableDescription, TableStore
from streamkit.tables.write import Delete, Put, Update, Write

_PAGE = 1000


class Table:
    """Items by key, with conditional and atomic writes. A handle: cheap to make, holds nothing.

    A key is given as the key attributes' mapping, ``{"carrier": "UA", "line": 7}``, or as the bare values in their
    order, ``"UA", 7``. Mirrors PutItem, GetItem, UpdateItem, DeleteItem, Query, Scan (Amazon DynamoDB API Reference).
    """

    def __init__(self, schema: TableSchema, store: TableStore, clock: Clock, metrics: Metrics) -> None:
        self.schema = schema
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._written = Metric.of("streamkit", "ItemsWritten", TableName=schema.name)
        self._refused = Metric.of("AWS/DynamoDB", "ConditionalCheckFailedRequests", TableName=schema.name)

    @property
    def name(self) -> str:
        """The table's name."""
        return self.schema.name

    def __repr__(self) -> str:
        return f"Table({self.name!r}, key={'/'.join(self.schema.key_names)})"

    async def describe(self) -> TableDescription:
        """Its key, indexes and other attributes, and which indexes are still being built (DescribeTable)."""
        (description,) = await self._store.describe_tables([self.name])
        return description

    async def put(self, item: Mapping[str, Any], *, condition: Condition | None = None) -> None:
        """Store an item, replacing the one with its key; durable when it returns.

        Raises:
            ValidationError: the item cannot be stored.
            ConditionFailedError: the condition is false of the item that is there (or of none); nothing was written.
        """
        await self._write([Put(item, table=self.name, condition=condition)])

    async def put_batch(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Store several items in one atomic write.

        Raises:
            ValidationError: an item cannot be stored, or two have one key; nothing was written.
        """
        await self._write([Put(item, table=self.name) for item in items])

    async def get(self, *key: Any) -> Item | None:
        """The item of a key; None if there is none. Strongly consistent.

        Raises:
            ValidationError: the key has another shape, or a value that cannot be a key.
        """
        (item,) = await self._store.get(self.name, [self._key(key)])
        return item

    async def update(
        self,
        *key: Any,
        set: Mapping[str, Any] | None = None,
        add: Mapping[str, int | float] | None = None,
        remove: Iterable[str] = (),
        condition: Condition | None = None,
    ) -> None:
        """Change some attributes of an item, creating it if there is none; see ``Update``.

        Raises:
            ValidationError: the update is malformed.
            ConditionFailedError: the condition is false; nothing was written.
        """
        if isinstance(remove, str):
            raise ValidationError(f"remove= takes several attribute names: pass [{remove!r:.80}]")
        update = Update(
            key=self._key(key),
            set=set or {},
            add=add or {},
            remove=tuple(remove),
            table=self.name,
            condition=condition,
        )
        await self._write([update])

    async def delete(self, *key: Any, condition: Condition | None = None) -> None:
        """Remove an item; fine if there is none.

        Raises:
            ValidationError: the key has another shape, or a value that cannot be a key.
            ConditionFailedError: the condition is false; nothing was removed.
        """
        await self._write([Delete(self._key(key), table=self.name, condition=condition)])

    async def query(
        self,
        partition_key: KeyValue,
        sort_keys: SortKeyRange | None = None,
        *,
        forward: bool = True,
        index: str | None = None,
    ) -> AsyncIterator[Item]:
        """Items of one partition in the order of their sort keys, page after page; ``async for`` over it.

        With ``index`` the keys are those of that index, and an item has what the index projects.

        Raises:
            ValidationError: the partition key cannot be one; or ``sort_keys`` has a prefix and a bound, or is given
                although the table has no sort key.
        """
        if sort_keys is not None:
            self._check_range(sort_keys, index)
        after: Key | None = None
        while True:
            page = await self._store.query(
                self.name, partition_key, sort_keys, forward=forward, limit=_PAGE, after=after, index=index
            )
            for item in page.items:
                yield item
            if page.last_key is None:
                return
            after = page.last_key

    async def scan(self, *, index: str | None = None) -> AsyncIterator[Item]:
        """Every item, in the order of the keys, page after page; items written meanwhile may or may not be seen.

        With ``index`` every item that is in it, in the order of its keys.
        """
        after: Key | None = None
        while True:
            page = await self._store.scan(self.name, limit=_PAGE, after=after, index=index)
            for item in page.items:
                yield item
            if page.last_key is None:
                return
            after = page.last_key

    def _check_range(self, wanted: SortKeyRange, index: str | None) -> None:
        if index is None and self.schema.sort_key is None:
            raise ValidationError(f"table {self.name!r} has no sort key: query it by the partition key alone")
        if wanted.prefix is not None and (wanted.at_least is not None or wanted.at_most is not None):
            raise ValidationError(f"a range of sort keys has a prefix or bounds, not both: {wanted!r:.200}")

    def _key(self, key: tuple[Any, ...]) -> Mapping[str, Any]:
        if len(key) == 1 and isinstance(key[0], Mapping):
            return key[0]
        names = self.schema.key_names
        if len(key) != len(names):
            raise ValidationError(f"table {self.name!r} has the key {', '.join(names)}: pass {len(names)} value(s)")
        return dict(zip(names, key, strict=True))

    async def _write(self, writes: list[Write]) -> None:
        try:
            await self._store.write(writes)
        except ConditionFailedError:
            self._metrics.put(self._refused, 1, self._clock.now_ms())
            raise
        self._metrics.put(self._written, len(writes), self._clock.now_ms())

"""A table as its users hold it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from streamkit.clock import Clock
from streamkit.errors import NotFoundError, StreamKitError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.spans import Tracing
from streamkit.tables.condition import Condition
from streamkit.tables.expression import Expression, as_condition, as_projection
from streamkit.tables.item import Item, Key, KeyValue, TableSchema
from streamkit.tables.key_condition import KeyCondition, as_key_condition
from streamkit.tables.reading import (
    Page,
    Pages,
    Reading,
    check_filter,
    check_range,
    checked_after,
    checked_key,
    checked_range,
    without,
)
from streamkit.tables.store import ItemPage, SortKeyRange, TableDescription, TableStore
from streamkit.tables.table_metrics import Operation, TableMetrics, register_provisioned, table_metric
from streamkit.tables.write import AnyCondition, Delete, Put, Returns, Update, Write

Wanted = Expression | str | None
"""A projection: the paths that are wanted of each item; None: all of it."""

_FIRST = Reading()
_OPERATIONS: dict[type[Write], Operation] = {Put: "PutItem", Update: "UpdateItem", Delete: "DeleteItem"}


class Table:
    """Items by key, with conditional and atomic writes. A handle: cheap to make, holds nothing.

    A key is given as the key attributes' mapping, ``{"carrier": "UA", "line": 7}``, or as the bare values in their
    order, ``"UA", 7``. Mirrors PutItem, GetItem, UpdateItem, DeleteItem, Query, Scan (Amazon DynamoDB API Reference).
    """

    def __init__(
        self,
        schema: TableSchema,
        store: TableStore,
        clock: Clock,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self.schema = schema
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._written = Metric.of("streamkit", "ItemsWritten", TableName=schema.name)
        self._calls = TableMetrics((schema.name,), clock, metrics)
        self._gets = self._calls.latencies("GetItem")
        register_provisioned(schema.name, store, metrics)

    @property
    def name(self) -> str:
        """The table's name."""
        return self.schema.name

    def metric(self, name: str, **dimensions: str) -> Metric:
        """One of this table's metrics, for an alarm: ``table.metric("ThrottledRequests", Operation="Query")``.

        Raises:
            ValidationError: it is no name for a metric, or a dimension is not allowed.
        """
        return table_metric(self.name, name, **dimensions)

    def __repr__(self) -> str:
        return f"Table({self.name!r}, key={'/'.join(self.schema.key_names)})"

    def _repr_html_(self) -> str:
        from streamkit.metrics.picture import written_html

        return written_html(self._metrics, self._clock.now_ms(), self._written, self.name, self.schema.key_names)

    async def describe(self) -> TableDescription:
        """Its key, indexes and other attributes, and which indexes are still being built (DescribeTable)."""
        (description,) = await self._store.describe_tables([self.name])
        return description

    # ---- writing

    async def put(
        self, item: Mapping[str, Any], *, condition: AnyCondition | None = None, returns: Returns = "NONE"
    ) -> Item | None:
        """Store an item, replacing the one with its key; durable when it returns.

        Answers with the item that was there for ``returns="ALL_OLD"``.

        Raises:
            ValidationError: the item cannot be stored.
            ConditionFailedError: the condition is false of the item that is there (or of none); nothing was written.
        """
        return await self._write(Put(item, table=self.name, condition=condition, returns=returns))

    async def put_batch(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Store several items in one atomic write.

        Raises:
            ValidationError: an item cannot be stored, or two have one key; nothing was written.
        """
        name = self.schema.name
        writes = [Put(item, name) for item in items]
        with self._tracing.write("TransactWriteItems", name, len(writes)):
            await self._calls.call("TransactWriteItems", self._store.write(writes), writes)
        self._metrics.put(self._written, len(writes), self._clock.now_ms(), 1, "Count")

    async def write_batch(
        self, *, put: Iterable[Mapping[str, Any]] = (), delete: Iterable[Any] = ()
    ) -> list[StreamKitError | None]:
        """Store and delete items, each on its own; an error or None for each, puts first. Mirrors BatchWriteItem.

        Raises:
            ValidationError: two are of one item; nothing was written.
        """
        writes: list[Write] = [Put(item, table=self.name) for item in put]
        writes += [Delete(self._key(_values(key)), table=self.name) for key in delete]
        errors: list[StreamKitError | None] = [None] * len(writes)
        good: dict[Key, int] = {}
        for at, write in enumerate(writes):
            try:
                key = self.schema.key_of(write.item if isinstance(write, Put) else write.key)
            except ValidationError as error:
                errors[at] = error
                continue
            if good.setdefault(key, at) != at:
                raise ValidationError(f"two writes of the batch are of item {key!r} of table {self.name!r}: merge them")
        # What is written in one turn of the event loop shares a sync.
        with self._tracing.write("BatchWriteItem", self.name, len(good)) as writing:
            done = await asyncio.gather(*(self._write_one(writes[at]) for at in good.values()), return_exceptions=True)
            for at, answer in zip(good.values(), done, strict=True):
                if isinstance(answer, StreamKitError):
                    errors[at] = answer
                elif isinstance(answer, BaseException):
                    raise answer
            if refused := next(filter(None, errors), None):
                writing.failed(refused)
        return errors

    async def update(
        self,
        *key: Any,
        expression: Expression | str | None = None,
        set: Mapping[str, Any] | None = None,
        add: Mapping[str, Any] | None = None,
        remove: Iterable[str] = (),
        delete: Mapping[str, Any] | None = None,
        condition: AnyCondition | None = None,
        returns: Returns = "NONE",
    ) -> Item | None:
        """Change some attributes of an item, creating it if there is none; see ``Update``.

        Answers as ``returns`` asks: the item as it was (ALL_OLD) or is (ALL_NEW), or of either what was touched
        (UPDATED_OLD, UPDATED_NEW).

        Raises:
            ExpressionError: the expression is not valid; with the position.
            ValidationError: the update is malformed, or a path or a value of the item does not fit it.
            ConditionFailedError: the condition is false; nothing was written.
        """
        if isinstance(remove, str):
            raise ValidationError(f"remove= takes several attribute names: pass [{remove!r:.80}]")
        update = Update(
            key=self._key(key),
            set=set or {},
            add=add or {},
            remove=tuple(remove),
            delete=delete or {},
            expression=expression,
            table=self.name,
            condition=condition,
            returns=returns,
        )
        return await self._write(update)

    async def delete(self, *key: Any, condition: AnyCondition | None = None, returns: Returns = "NONE") -> Item | None:
        """Remove an item; fine if there is none. Answers with the one that was there for ``returns="ALL_OLD"``.

        Raises:
            ValidationError: the key has another shape, or a value that cannot be a key.
            ConditionFailedError: the condition is false; nothing was removed.
        """
        return await self._write(Delete(self._key(key), table=self.name, condition=condition, returns=returns))

    # ---- reading

    async def get(self, *key: Any, projection: Wanted = None) -> Item | None:
        """The item of a key; None if there is none. Strongly consistent.

        Raises:
            ExpressionError: the projection is not valid; with the position.
            ValidationError: the key has another shape, or a value that cannot be a key.
        """
        mapping = self._key(key)
        began_ms = self._clock.now_ms()
        try:
            (item,) = await self._store.get(self.schema.name, (mapping,))
        except StreamKitError as error:
            self._calls.failed("GetItem", error)
            raise
        self._gets.took(began_ms, self._clock.now_ms())
        wanted = as_projection(projection) if projection is not None else None
        return item if wanted is None or item is None else wanted.of(item)

    async def get_batch(self, keys: Iterable[Any], *, projection: Wanted = None) -> list[Item | None]:
        """The items of several keys, in their order; None where there is none. Mirrors BatchGetItem, but for the order.

        Raises:
            ValidationError: a key is there twice, has another shape, or a value that cannot be a key.
        """
        wanted = as_projection(projection)
        mappings = [self._key(_values(key)) for key in keys]
        if len(mappings) > 1 and len({self.schema.key_of(key) for key in mappings}) < len(mappings):
            raise ValidationError(f"a key of table {self.name!r} is asked for twice in a call: ask once")
        items = await self._calls.call("BatchGetItem", self._store.get(self.name, mappings))
        return items if wanted is None else [None if item is None else wanted.of(item) for item in items]

    async def query(
        self,
        partition_key: KeyValue | Expression,
        sort_keys: SortKeyRange | None = None,
        *,
        forward: bool = True,
        index: str | None = None,
        where: Condition | Expression | str | None = None,
        projection: Wanted = None,
    ) -> AsyncIterator[Item]:
        """Items of one partition in the order of their sort keys, page after page; ``async for`` over it.

        With ``index`` the keys are those of that index, and an item has what the index projects.

        Args:
            partition_key: whose items; or a whole key condition, ``Expression("pk = :p AND sk > :s", {...})``.
            sort_keys: which of them; None: all.
            forward: False: from the last to the first.
            index: the name of an index.
            where: which of the items, by other attributes (FilterExpression).
            projection: the paths that are wanted of each item.

        Raises:
            ExpressionError: an expression is not valid; with the position.
            ValidationError: the partition key cannot be one; or ``sort_keys`` has a prefix and a bound, or is given
                although the table has no sort key; or the filter is about a key.
        """
        wanted = await self._wanted(partition_key, sort_keys, index)
        pages = await self._pages(where, projection, of_query=True, index=index)
        first = Reading(forward=forward, index=index)
        async for items in pages.all(lambda reading: self._query(wanted, reading), first):
            for item in items:
                yield item

    async def query_page(
        self,
        partition_key: KeyValue | Expression,
        sort_keys: SortKeyRange | None = None,
        *,
        reading: Reading = _FIRST,
        where: Condition | Expression | str | None = None,
        projection: Wanted = None,
    ) -> Page:
        """One page of a query: up to ``reading.limit`` items are looked at, from after ``reading.after`` on.

        Mirrors Query (Amazon DynamoDB API Reference): the limit, and 1 MiB, count before the filter.

        Raises:
            ValidationError: see ``query``.
        """
        wanted = await self._wanted(partition_key, sort_keys, reading.index)
        pages = await self._pages(where, projection, of_query=True, index=reading.index)
        return pages.one(await self._query(wanted, reading))

    async def scan(
        self,
        *,
        index: str | None = None,
        where: Condition | Expression | str | None = None,
        projection: Wanted = None,
    ) -> AsyncIterator[Item]:
        """Every item, in the order of the keys, page after page; items written meanwhile may or may not be seen.

        With ``index`` every item that is in it, in the order of its keys.

        Raises:
            ExpressionError: an expression is not valid; with the position.
        """
        pages = await self._pages(where, projection)
        async for items in pages.all(self._scan, Reading(index=index)):
            for item in items:
                yield item

    async def scan_page(
        self,
        *,
        reading: Reading = _FIRST,
        where: Condition | Expression | str | None = None,
        projection: Wanted = None,
    ) -> Page:
        """One page of a scan. Mirrors Scan (Amazon DynamoDB API Reference).

        Raises:
            ExpressionError: an expression is not valid; with the position.
        """
        return (await self._pages(where, projection)).one(await self._scan(reading))

    async def _query(self, wanted: KeyCondition, reading: Reading) -> ItemPage:
        of_index = reading.index is not None
        partition = checked_key(wanted.partition_key, of_index=of_index)
        asked = self._store.query(
            self.name,
            partition,
            checked_range(wanted.sort_keys, of_index=of_index),
            forward=reading.forward,
            limit=reading.limit,
            after=checked_after(self.schema, reading, partition),
            index=reading.index,
        )
        page = await self._calls.call("Query", asked)
        return page if wanted.but is None else without(page, (await self._key_names(reading.index))[1], wanted.but)

    async def _scan(self, reading: Reading) -> ItemPage:
        asked = self._store.scan(
            self.name,
            limit=reading.limit,
            after=checked_after(self.schema, reading),
            index=reading.index,
            segment=reading.segment,
        )
        return await self._calls.call("Scan", asked)

    async def _wanted(
        self, partition_key: KeyValue | Expression, sort_keys: SortKeyRange | None, index: str | None
    ) -> KeyCondition:
        if isinstance(partition_key, Expression):
            if sort_keys is not None:
                raise ValidationError("a query has a key condition or a range of sort keys, not both")
            return as_key_condition(partition_key, *await self._key_names(index))
        if sort_keys is not None:
            has_sort_key = index is not None or self.schema.sort_key is not None
            check_range(sort_keys, has_sort_key=has_sort_key, table=self.name)
        return KeyCondition(partition_key, sort_keys)

    async def _pages(
        self,
        where: Condition | Expression | str | None,
        projection: Wanted,
        *,
        of_query: bool = False,
        index: str | None = None,
    ) -> Pages:
        condition = as_condition(where)
        if of_query and condition is not None:
            check_filter(condition, [name for name in await self._key_names(index) if name is not None])
        return Pages(condition, as_projection(projection), self.schema.key_names)

    async def _key_names(self, index: str | None) -> tuple[str, str | None]:
        if index is None:
            return self.schema.partition_key, self.schema.sort_key
        for one in (await self.describe()).attributes.indexes:
            if one.name == index:
                return one.partition_key or self.schema.partition_key, one.sort_key
        raise NotFoundError("index", index, f"table {self.name!r} has none of that name")

    def _key(self, key: tuple[Any, ...]) -> Mapping[str, Any]:
        if len(key) == 1 and isinstance(key[0], Mapping):
            return key[0]
        schema = self.schema
        if len(key) == 2 and schema.sort_key is not None:
            return {schema.partition_key: key[0], schema.sort_key: key[1]}
        names = schema.key_names
        if len(key) != len(names):
            raise ValidationError(f"table {self.name!r} has the key {', '.join(names)}: pass {len(names)} value(s)")
        return dict(zip(names, key, strict=True))

    async def _write(self, write: Write) -> Item | None:
        with self._tracing.write(_operation_of(write), self.schema.name, 1):
            return await self._write_one(write)

    async def _write_one(self, write: Write) -> Item | None:
        (answer,) = await self._calls.call(_operation_of(write), self._store.write([write]), (write,))
        self._metrics.put(self._written, 1, self._clock.now_ms(), 1, "Count")
        return answer


def _operation_of(write: Write) -> Operation:
    return _OPERATIONS.get(type(write), "TransactWriteItems")


def _values(key: Any) -> tuple[Any, ...]:
    """A key of a batch: a mapping, a bare value, or several in a tuple."""
    return key if isinstance(key, tuple) else (key,)

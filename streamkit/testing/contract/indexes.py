"""What every table store does with indexes: kept in step with the items, filled while others write, read in pages."""

from __future__ import annotations

from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import NotFoundError, ValidationError
from streamkit.tables.attributes import Capacity, TableAttributes
from streamkit.tables.index import Index, entry_of
from streamkit.tables.item import Item, Key, TableSchema, decode_item, encode_item
from streamkit.tables.store import SortKeyRange, TableStore
from streamkit.tables.write import Delete, Put, Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.tables import ORDERS
from streamkit.testing.contract.terms import Contract, raises

BY_STATUS = Index("by-status", "status", "total")
BY_TOTAL = Index.local("by-total", "total", projection="KEYS_ONLY")
BY_PLACE = Index("by-place", "place", projection="INCLUDE", non_key_attributes=("note",))
ALL = TableAttributes(indexes=(BY_STATUS, BY_TOTAL, BY_PLACE))


async def entries(tables: TableStore, index: str, limit: int = 1000) -> list[Item]:
    """Everything an index shows, page by page."""
    found: list[Item] = []
    after: Key | None = None
    while True:
        page = await tables.scan("orders", limit=limit, after=after, index=index)
        assert len(page.items) <= limit
        found += page.items
        after = page.last_key
        if after is None:
            return found


async def derived(tables: TableStore, schema: TableSchema, index: Index) -> list[Item]:
    """What the index must show, made from the items alone."""
    found = []
    after: Key | None = None
    while True:
        page = await tables.scan(schema.name, after=after)
        for item in page.items:
            entry = entry_of(schema, index, item, schema.key_of(item), encode_item(item, 2**30))
            if entry is not None:
                found.append(entry)
        after = page.last_key
        if after is None:
            return [decode_item(data) for _, data in sorted(found)]


async def in_step(tables: TableStore) -> None:
    """Every index equals what its items make of it."""
    (table,) = await tables.describe_tables(["orders"])
    for index in table.attributes.indexes:
        if index.name not in table.building:
            assert await entries(tables, index.name) == await derived(tables, table.schema, index)


def order(number: int, **attributes: Any) -> Put:
    """A put of one order."""
    return Put({"customer": f"c{number % 3}", "order": number, **attributes}, "orders")


async def build(tables: TableStore, limit: int = 256) -> None:
    """Fill every index that is being built."""
    while await tables.build_indexes("orders", limit):
        pass


class IndexContract(Contract):
    """Local and global secondary indexes."""

    async def test_an_index_is_in_step_with_every_write(self, engine: Engine, clock: ManualClock) -> None:
        """Puts, updates and deletes, of keys, of what is projected and of what is not."""
        tables = engine.tables
        await tables.create_table(ORDERS, ALL)
        await tables.write([order(n, status="new", total=n % 4, place=f"p{n % 2}", note=n) for n in range(20)])
        await in_step(tables)
        await tables.write([order(3, status="paid", total=9), order(4, total=1), order(5)])
        await in_step(tables)
        await tables.write([Update(key={"customer": "c0", "order": 6}, set={"status": "paid"}, table="orders")])
        await tables.write([Update(key={"customer": "c1", "order": 7}, remove=("status", "place"), table="orders")])
        await tables.write([Delete({"customer": "c2", "order": 8}, "orders"), order(50, place="p0")])
        await in_step(tables)
        paid = await tables.query("orders", "paid", index="by-status")
        assert [item["order"] for item in paid.items] == [6, 3]

    async def test_an_index_is_sparse_and_projects_what_it_says(self, engine: Engine, clock: ManualClock) -> None:
        """An item without a key of the index is not in it; KEYS_ONLY and INCLUDE show no more than they say."""
        tables = engine.tables
        await tables.create_table(ORDERS, ALL)
        item = {"customer": "c", "order": 1, "total": 5, "place": "x", "note": "n", "more": 1}
        await tables.write([Put(item, "orders"), Put({"customer": "c", "order": 2, "note": "n"}, "orders")])
        assert await entries(tables, "by-status") == []
        assert await entries(tables, "by-total") == [{"customer": "c", "order": 1, "total": 5}]
        assert await entries(tables, "by-place") == [{"customer": "c", "order": 1, "place": "x", "note": "n"}]

    async def test_a_wrong_type_of_an_index_key_refuses_the_whole_write(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """Nothing else of the call is written either."""
        tables = engine.tables
        await tables.create_table(ORDERS, ALL)
        for wrong in (True, None, [1], {"a": 1}, "", b"", "x" * 2049):
            with raises(ValidationError):
                await tables.write([order(1), order(2, status=wrong, total=1)])
            with raises(ValidationError):
                await tables.write([order(1), order(2, total=wrong)])
        assert (await tables.scan("orders")).items == []

    async def test_pages_of_an_index_over_equal_keys(self, engine: Engine, clock: ManualClock) -> None:
        """A page may end between entries of one index key, in both directions."""
        tables = engine.tables
        await tables.create_table(ORDERS, ALL)
        for start in range(0, 40, 10):
            await tables.write([order(n, status="new", total=n // 20) for n in range(start, start + 10)])
        for forward in (True, False):
            found: list[Item] = []
            after: Key | None = None
            while True:
                page = await tables.query("orders", "new", index="by-status", limit=7, forward=forward, after=after)
                found += page.items
                after = page.last_key
                if after is None:
                    break
            keys = [(item["total"], item["customer"], item["order"]) for item in found]
            assert keys == sorted(keys, reverse=not forward)
            assert len(set(keys)) == 40
        assert await entries(tables, "by-status", limit=3) == await entries(tables, "by-status")

    async def test_a_range_of_index_sort_keys(self, engine: Engine, clock: ManualClock) -> None:
        """Bounds are included, also beside values that begin with them."""
        tables = engine.tables
        await tables.create_table(ORDERS, ALL)
        totals: list[Any] = [-10, -1.5, -1, 0, 0.25, 1, 2, 10, 100, "a", "a\x00", "ab", "b", b"a", b"\xff"]
        await tables.write([order(n, status="new", total=total) for n, total in enumerate(totals)])

        async def found(**bounds: Any) -> list[Any]:
            page = await tables.query("orders", "new", SortKeyRange(**bounds), index="by-status")
            return [item["total"] for item in page.items]

        assert [item["total"] for item in (await tables.query("orders", "new", index="by-status")).items] == totals
        assert await found(at_least=-1, at_most=1) == [-1, 0, 0.25, 1]
        assert await found(at_least=2, at_most=99) == [2, 10]
        assert await found(at_least="a", at_most="a") == ["a"]
        assert await found(at_least="a", at_most="az") == ["a", "a\x00", "ab"]
        assert await found(prefix="a") == ["a", "a\x00", "ab"]
        assert await found(prefix=b"\xff") == [b"\xff"]
        with raises(ValidationError):
            await tables.query("orders", "x", SortKeyRange(at_least=1), index="by-place")

    async def test_an_index_that_is_not_there(self, engine: Engine, clock: ManualClock) -> None:
        """The hidden one of a table without time to live is not there either."""
        await engine.tables.create_table(ORDERS)
        with raises(NotFoundError):
            await engine.tables.query("orders", "x", index="by-status")
        with raises(NotFoundError):
            await engine.tables.scan("orders", index=":ttl")

    async def test_an_index_is_added_while_others_write(self, engine: Engine, clock: ManualClock) -> None:
        """It cannot be queried while it is filled, and has everything afterwards."""
        tables = engine.tables
        await tables.create_table(ORDERS)
        # What cannot be in the index, because it came before it, stays out of it.
        await tables.write([order(n, status="new", total=n) for n in range(50)] + [order(99, status=True)])
        description = await tables.update_table("orders", TableAttributes(indexes=(BY_STATUS, BY_PLACE)))
        assert description.building == ("by-status", "by-place")
        with raises(ValidationError):
            await tables.query("orders", "new", index="by-status")
        step = 0
        while await tables.build_indexes("orders", 7):
            # Before and behind the place that the filling has come to.
            await tables.write(
                [order(step, status="paid", total=step), Delete({"customer": "c1", "order": 49 - step * 3}, "orders")]
            )
            await tables.write([order(100 + step, status="late", total=step, place="p")])
            step += 1
        assert step > 5
        (description,) = await tables.describe_tables(["orders"])
        assert description.building == ()
        await tables.write([Delete({"customer": "c0", "order": 99}, "orders")])
        await in_step(tables)
        assert len(await entries(tables, "by-place")) == step
        assert not await tables.build_indexes("orders")

    async def test_an_index_is_removed_and_another_of_its_name_added(self, engine: Engine, clock: ManualClock) -> None:
        """The other one has nothing of the first."""
        tables = engine.tables
        await tables.create_table(ORDERS, TableAttributes(indexes=(BY_STATUS,)))
        await tables.write([order(n, status="new", total=n, place="p") for n in range(9)])
        with raises(ValidationError):
            await tables.update_table("orders", TableAttributes(indexes=(Index("by-status", "place"),)))
        await tables.update_table("orders", TableAttributes())
        with raises(NotFoundError):
            await tables.query("orders", "new", index="by-status")
        await tables.write([order(0)])
        await tables.update_table("orders", TableAttributes(indexes=(Index("by-status", "place"),)))
        await build(tables)
        assert len(await entries(tables, "by-status")) == 8

    async def test_local_indexes_come_with_the_table(self, engine: Engine, clock: ManualClock) -> None:
        """They cannot be added or removed, and need a table with a sort key."""
        tables = engine.tables
        await tables.create_table(ORDERS, TableAttributes(indexes=(BY_TOTAL,)))
        for attributes in (TableAttributes(), TableAttributes(indexes=(BY_TOTAL, Index.local("more", "x")))):
            with raises(ValidationError):
                await tables.update_table("orders", attributes)
        with raises(ValidationError):
            await tables.create_table(TableSchema("totals", "customer"), TableAttributes(indexes=(BY_TOTAL,)))

    async def test_too_many_indexes(self, engine: Engine, clock: ManualClock) -> None:
        """Five local ones and twenty global ones are allowed; two of one name are not."""
        local = tuple(Index.local(f"local-{n}", f"s{n}") for n in range(6))
        several = tuple(Index(f"global-{n}", f"p{n}") for n in range(21))
        for indexes in (local, several, (BY_STATUS, BY_STATUS)):
            with raises(ValidationError):
                await engine.tables.create_table(ORDERS, TableAttributes(indexes=indexes))
        description = await engine.tables.create_table(ORDERS, TableAttributes(indexes=local[:5] + several[:20]))
        assert len(description.attributes.indexes) == 25

    async def test_an_item_and_its_local_copies_count_together(self, engine: Engine, clock: ManualClock) -> None:
        """They share the limit of an item's size."""
        tables = engine.tables
        await tables.create_table(ORDERS, TableAttributes(indexes=(Index.local("by-total", "total"),)))
        large = "x" * (self.limits.item_bytes * 2 // 3)
        await tables.write([order(1, large=large)])
        with raises(ValidationError):
            await tables.write([order(1, large=large, total=1)])

    async def test_what_a_table_has_beside_its_items_is_described(self, engine: Engine, clock: ManualClock) -> None:
        """As it was given at the creation or by an update."""
        attributes = TableAttributes((BY_STATUS,), "expires", "NEW_IMAGE", "changes", Capacity("PROVISIONED", 5, 5))
        await engine.tables.create_table(ORDERS, attributes)
        (description,) = await engine.tables.describe_tables(["orders"])
        assert description.attributes == attributes
        changed = TableAttributes((BY_STATUS, BY_PLACE))
        await engine.tables.update_table("orders", changed)
        (description,) = await engine.tables.describe_tables(["orders"])
        assert description.attributes == changed
        with raises(NotFoundError):
            await engine.tables.update_table("nowhere", changed)

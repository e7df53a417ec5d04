"""What every table store does when it is asked for many items."""

from __future__ import annotations

from random import Random
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import ValidationError
from streamkit.tables.item import Item, Key
from streamkit.tables.store import SortKeyRange, TableStore
from streamkit.tables.write import Delete
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.tables import create, put
from streamkit.testing.contract.terms import Contract, raises

MOST_PAGES = 1_000


async def query(
    tables: TableStore, sort_keys: SortKeyRange | None = None, *, forward: bool = True, limit: int = 1000
) -> list[Any]:
    """The sort keys of customer "a", page by page."""
    found: list[Item] = []
    after: Key | None = None
    for _ in range(MOST_PAGES):
        page = await tables.query("orders", "a", sort_keys, forward=forward, limit=limit, after=after)
        assert len(page.items) <= limit
        found.extend(page.items)
        after = page.last_key
        if after is None:
            return [item["order"] for item in found]
    raise AssertionError("the pages do not end")


async def scan(tables: TableStore, table: str, limit: int) -> list[Item]:
    """Every item of a table, page by page."""
    found: list[Item] = []
    after: Key | None = None
    for _ in range(MOST_PAGES):
        page = await tables.scan(table, limit=limit, after=after)
        assert len(page.items) <= limit
        found.extend(page.items)
        after = page.last_key
        if after is None:
            return found
    raise AssertionError("the pages do not end")


class QueryContract(Contract):
    """Queries and scans: their order, ranges and pages."""

    async def test_sort_keys_are_in_order(self, engine: Engine, clock: ManualClock) -> None:
        """Text by its UTF-8 bytes, ints by value, bytes as unsigned bytes; and the other way round."""
        tables = engine.tables
        orders: list[list[Any]] = [
            ["\x00", " ", "10", "9", "A", "Z", "a", "a\x00", "aa", "z", "\x7f", "é", "\uffff", "\U0001f600"],
            [-(2**63), -10, -9, -1, 0, 1, 9, 10, 2**53 + 1, 2**63 - 1],
            [b"\x00", b"\x00\x00", b"\x7f", b"\x80", b"\xff", b"\xff\x00", b"\xff\xff"],
        ]
        await create(tables)
        for order in orders:
            shuffled = order[:]
            Random(1).shuffle(shuffled)
            await put(tables, *({"customer": "a", "order": sort} for sort in shuffled))
            assert await query(tables) == order
            assert await query(tables, forward=False) == order[::-1]
            for sort in order:
                await tables.write([Delete({"customer": "a", "order": sort}, table="orders")])
            assert await query(tables) == []

    async def test_a_query_stays_in_its_partition(self, engine: Engine, clock: ManualClock) -> None:
        """Keys of another type or that begin alike are other partitions."""
        tables = engine.tables
        await create(tables)
        partitions: list[Any] = ["a", "aa", "A", "a\x00", b"a", 1, "1", b"1"]
        for partition in partitions:
            await put(tables, {"customer": partition, "order": 1}, {"customer": partition, "order": 2})
        for partition in partitions:
            items = (await tables.query("orders", partition)).items
            assert [(item["customer"], item["order"]) for item in items] == [(partition, 1), (partition, 2)]
            assert {type(item["customer"]) for item in items} == {type(partition)}
        assert (await tables.query("orders", "nobody")).items == []

    async def test_a_range_includes_its_ends(self, engine: Engine, clock: ManualClock) -> None:
        """Either may be open, neither must exist, and an empty range is empty."""
        await create(engine.tables)
        await put(engine.tables, *({"customer": "a", "order": sort} for sort in (-5, 0, 5, 10)))
        for at_least, at_most, found in (
            (None, None, [-5, 0, 5, 10]),
            (0, None, [0, 5, 10]),
            (None, 0, [-5, 0]),
            (0, 5, [0, 5]),
            (1, 9, [5]),
            (5, 5, [5]),
            (6, 9, []),
            (9, 1, []),
            (-100, 100, [-5, 0, 5, 10]),
        ):
            wanted = SortKeyRange(at_least=at_least, at_most=at_most)
            assert await query(engine.tables, wanted) == found
            assert await query(engine.tables, wanted, forward=False) == found[::-1]
            assert await query(engine.tables, wanted, limit=1) == found

    async def test_a_range_of_text_and_of_bytes(self, engine: Engine, clock: ManualClock) -> None:
        """In the order of the sort keys, ends included."""
        await create(engine.tables)
        await put(
            engine.tables, *({"customer": "a", "order": sort} for sort in ("2024-01", "2024-02", "2024-1", "2025"))
        )
        wanted = SortKeyRange(at_least="2024-02", at_most="2024-1")
        assert await query(engine.tables, wanted) == ["2024-02", "2024-1"]
        await engine.tables.delete_table("orders")
        await engine.tables.delete_table("totals")
        await create(engine.tables)
        await put(engine.tables, *({"customer": "a", "order": sort} for sort in (b"\x01", b"\x7f", b"\x80", b"\xff")))
        assert await query(engine.tables, SortKeyRange(at_least=b"\x7f", at_most=b"\x80")) == [b"\x7f", b"\x80"]

    async def test_a_prefix(self, engine: Engine, clock: ManualClock) -> None:
        """Of text or bytes, at the very end of what sorts too, and no character of it is special."""
        tables = engine.tables
        await create(tables)
        texts = ["a", "a%", "a%b", "a_", "ab", "abc", "b", "\U0010ffff", "\U0010ffff\U0010ffff", "\uffff", "é", "éa"]
        await put(tables, *({"customer": "a", "order": sort} for sort in texts))
        for prefix in ("a", "a%", "a_", "ab", "abcd", "\U0010ffff", "\uffff", "é", "x"):
            found = sorted(sort for sort in texts if sort.startswith(prefix))
            assert await query(tables, SortKeyRange(prefix=prefix)) == found
            assert await query(tables, SortKeyRange(prefix=prefix), forward=False) == found[::-1]
            assert await query(tables, SortKeyRange(prefix=prefix), limit=1) == found
        await tables.delete_table("orders")
        await tables.delete_table("totals")
        await create(tables)
        blobs = [b"\x00", b"a", b"ab", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\x01"]
        await put(tables, *({"customer": "a", "order": sort} for sort in blobs))
        for start in (b"\x00", b"a", b"\xff", b"\xff\xff", b"\xfe"):
            assert await query(tables, SortKeyRange(prefix=start)) == [sort for sort in blobs if sort.startswith(start)]

    async def test_pages_forward_and_backward(self, engine: Engine, clock: ManualClock) -> None:
        """Of any size, they join up to the whole answer, and only the last has no key to go on with."""
        await create(engine.tables)
        keys = list(range(0, 20, 2))
        await put(engine.tables, *({"customer": "a", "order": sort} for sort in keys))
        await put(engine.tables, {"customer": "b", "order": 1})
        for limit in (1, 2, 3, 9, 10, 11):
            assert await query(engine.tables, limit=limit) == keys
            assert await query(engine.tables, forward=False, limit=limit) == keys[::-1]
            wanted = SortKeyRange(at_least=4, at_most=14)
            assert await query(engine.tables, wanted, limit=limit) == keys[2:8]
            assert await query(engine.tables, wanted, forward=False, limit=limit) == keys[2:8][::-1]
        first = await engine.tables.query("orders", "a", limit=3)
        assert first.last_key == ("a", 4)
        for limit in (0, -1):
            with raises(ValidationError):
                await engine.tables.query("orders", "a", limit=limit)
            with raises(ValidationError):
                await engine.tables.scan("orders", limit=limit)

    async def test_a_page_goes_on_where_its_last_item_was(self, engine: Engine, clock: ManualClock) -> None:
        """Also if that item was deleted meanwhile, and others came on both sides of it."""
        await create(engine.tables)
        await put(engine.tables, *({"customer": "a", "order": sort} for sort in (10, 20, 30, 40)))
        for forward, rest in ((True, [25, 30, 40]), (False, [25, 20, 15, 10])):
            page = await engine.tables.query("orders", "a", limit=2, forward=forward)
            last = page.items[-1]["order"]
            await engine.tables.write([Delete({"customer": "a", "order": last}, table="orders")])
            await put(engine.tables, {"customer": "a", "order": 15}, {"customer": "a", "order": 25})
            following = await engine.tables.query("orders", "a", forward=forward, after=page.last_key)
            assert [item["order"] for item in following.items] == rest
            await put(engine.tables, {"customer": "a", "order": last})
            for added in (15, 25):
                await engine.tables.write([Delete({"customer": "a", "order": added}, table="orders")])

    async def test_a_table_without_a_sort_key_has_one_item_per_partition(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """A query finds that one."""
        await create(engine.tables)
        await put(engine.tables, {"customer": "a", "n": 1}, {"customer": "b"}, table="totals")
        for forward in (True, False):
            page = await engine.tables.query("totals", "a", forward=forward, limit=1)
            assert page.items == [{"customer": "a", "n": 1}]
            if page.last_key is not None:
                following = await engine.tables.query("totals", "a", forward=forward, limit=1, after=page.last_key)
                assert (following.items, following.last_key) == ([], None)

    async def test_a_scan_is_complete_and_without_duplicates(self, engine: Engine, clock: ManualClock) -> None:
        """In pages of any size, always in the same order, over keys of every type."""
        await create(engine.tables)
        customers: list[Any] = ["a", "b", "é", b"a", b"\xff", -1, 0, 7, "7"]
        for several, customer in enumerate(customers):
            await put(engine.tables, *({"customer": customer, "order": sort} for sort in range(several)))
            await put(engine.tables, {"customer": customer}, table="totals")
        count = sum(range(len(customers)))
        for table, size in (("orders", count), ("totals", len(customers))):
            whole = await scan(engine.tables, table, 1000)
            assert len({repr((item["customer"], item.get("order"))) for item in whole}) == len(whole) == size
            for limit in (1, 2, 5, size - 1, size, size + 1):
                assert await scan(engine.tables, table, limit) == whole

    async def test_a_scan_goes_on_after_a_deleted_item(self, engine: Engine, clock: ManualClock) -> None:
        """Deleting each page after it was read finds and removes everything."""
        await create(engine.tables)
        for customer in ("a", "b", "c"):
            await put(engine.tables, *({"customer": customer, "order": sort} for sort in range(5)))
        removed = 0
        after: Key | None = None
        for _ in range(MOST_PAGES):
            page = await engine.tables.scan("orders", limit=4, after=after)
            removed += len(page.items)
            for item in page.items:
                await engine.tables.write([Delete(item, table="orders")])
            after = page.last_key
            if after is None:
                break
        assert removed == 15
        assert (await engine.tables.scan("orders")).items == []

    async def test_large_items_come_page_by_page(self, engine: Engine, clock: ManualClock) -> None:
        """A page may end before its limit, and goes on."""
        await create(engine.tables)
        text = "x" * (min(self.limits.item_bytes, 400_000) - 200)
        await put(engine.tables, *({"customer": "a", "order": sort, "text": text} for sort in range(8)))
        assert await query(engine.tables) == list(range(8))
        assert await query(engine.tables, forward=False) == list(range(7, -1, -1))
        assert sorted(item["order"] for item in await scan(engine.tables, "orders", 1000)) == list(range(8))

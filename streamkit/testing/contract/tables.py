"""What every table store does with tables, items and writes."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import (
    AlreadyExistsError,
    NotFoundError,
    ValidationError,
)
from streamkit.tables.condition import attribute
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.store import TableStore
from streamkit.tables.write import Check, Delete, Put, Update, Write
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.terms import Contract, raises

ORDERS = TableSchema("orders", "customer", "order")
TOTALS = TableSchema("totals", "customer")

VALUES: Item = {
    "text": "é\U0001f600\x00",
    "empty": "",
    "bytes": b"\x00\xff",
    "no bytes": b"",
    "true": True,
    "none": None,
    "zero": 0,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "float": 1.5,
    "whole float": 2.0,
    "tiny": 5e-324,
    "huge": -1.7976931348623157e308,
    "list": [1, "1", b"1", [], {}, None, True],
    "dict": {"a.b": {"": 1}, "é": [2]},
}
"""One of everything an item may hold."""


def nested(levels: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def exactly(value: Any) -> str:
    """A text that tells values of different types apart, whatever the order of their attributes."""
    if isinstance(value, dict):
        return repr(sorted((name, exactly(member)) for name, member in value.items()))
    return repr([exactly(member) for member in value]) if isinstance(value, list) else repr(value)


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


UNSTORABLE: dict[str, Any] = {
    "NaN": math.nan,
    "an infinity": math.inf,
    "a nested infinity": [{"deep": -math.inf}],
    "an int of more than 38 digits": 10**38 + 1,
    "a Decimal of more than 38 digits": Decimal("0." + "1" * 39),
    "a nested int of more than 38 digits": {"deep": [-(10**40) - 1]},
    "a number that is too large": Decimal("1E+126"),
    "a number that is too small": Decimal("1E-131"),
    "no number": Decimal("NaN"),
    "an empty set": set(),
    "a set of several kinds": {1, "a"},
    "a set of sets": {frozenset({1})},
    "a set with an infinity": {math.inf},
    "a tuple": (1, 2),
    "an object": object(),
    "a datetime": datetime(2024, 1, 1, tzinfo=UTC),
    "a complex number": 1j,
    "keys that are not str": {1: "one"},
    "text without a UTF-8 form": "\ud800",
    "a name without a UTF-8 form": {"\ud800": 1},
    "too many levels": nested(32),
    "far too many levels": nested(10_000),
    "a circle": _circle(),
}
"""Values that no item holds, by what is wrong with them."""


async def create(tables: TableStore) -> None:
    """The two tables of these tests."""
    await tables.create_table(ORDERS)
    await tables.create_table(TOTALS)


async def put(tables: TableStore, *items: Item, table: str = "orders") -> None:
    """Store items, one call each."""
    for item in items:
        await tables.write([Put(item, table=table)])


async def total(tables: TableStore, customer: Any) -> Item | None:
    """The item of one customer in the table of totals."""
    (item,) = await tables.get("totals", [{"customer": customer}])
    return item


class TableContract(Contract):
    """Tables, items, keys, and writes that happen all or not at all."""

    async def test_a_table_is_described(self, engine: Engine, clock: ManualClock) -> None:
        """All of them by name, or those asked for in the order asked for."""
        tables = engine.tables
        assert await tables.describe_tables() == []
        totals = await tables.create_table(TOTALS)
        orders = await tables.create_table(ORDERS)
        assert (orders.schema, orders.created_ms) == (ORDERS, clock.now_ms())
        assert await tables.describe_tables() == [orders, totals]
        assert await tables.describe_tables(["totals", "orders", "totals"]) == [totals, orders, totals]
        assert await tables.describe_tables([]) == []
        with raises(AlreadyExistsError) as taken:
            await tables.create_table(ORDERS)
        assert (taken.error.kind, taken.error.name) == ("table", "orders")

    async def test_a_deleted_table_is_gone(self, engine: Engine, clock: ManualClock) -> None:
        """A later one of its name has another id and none of its items; other tables keep theirs."""
        tables = engine.tables
        await create(tables)
        (first,) = await tables.describe_tables(["totals"])
        await put(tables, {"customer": "a", "n": 1}, table="totals")
        await put(tables, {"customer": "a", "order": 1})
        await tables.delete_table("totals")
        assert [table.schema.name for table in await tables.describe_tables()] == ["orders"]
        second = await tables.create_table(TOTALS)
        assert second.table_id != first.table_id
        assert await total(tables, "a") is None
        assert (await tables.scan("totals")).items == []
        assert (await tables.scan("orders")).items == [{"customer": "a", "order": 1}]

    async def test_an_unknown_table_is_not_found(self, engine: Engine, clock: ManualClock) -> None:
        """By every method that names one."""
        tables = engine.tables
        for call in (
            tables.delete_table("nowhere"),
            tables.describe_tables(["nowhere"]),
            tables.write([Put({"customer": "a"}, table="nowhere")]),
            tables.get("nowhere", [{"customer": "a"}]),
            tables.query("nowhere", "a"),
            tables.scan("nowhere"),
        ):
            with raises(NotFoundError) as missing:
                await call
            assert (missing.error.kind, missing.error.name) == ("table", "nowhere")

    async def test_an_item_comes_back_as_it_was_put(self, engine: Engine, clock: ManualClock) -> None:
        """Value and type of everything in it."""
        await create(engine.tables)
        item = {"customer": "a", "order": 1, **VALUES}
        await put(engine.tables, item)
        (found,) = await engine.tables.get("orders", [{"customer": "a", "order": 1}])
        assert found == item
        assert exactly(found) == exactly(item), "1, 1.0 and True are equal and not the same"

    async def test_a_get_answers_in_the_order_of_the_keys(self, engine: Engine, clock: ManualClock) -> None:
        """None where there is no item; more than the key in a key is harmless."""
        await create(engine.tables)
        await put(engine.tables, {"customer": "a", "order": 1}, {"customer": "a", "order": 2})
        keys = [
            {"customer": "a", "order": 2},
            {"customer": "b", "order": 1},
            {"customer": "a", "order": 1, "more": object()},
            {"customer": "a", "order": 2},
        ]
        found = await engine.tables.get("orders", keys)
        assert [item and item["order"] for item in found] == [2, None, 1, 2]
        assert await engine.tables.get("orders", []) == []

    async def test_items_are_copies(self, engine: Engine, clock: ManualClock) -> None:
        """Changing a dict that was passed or returned changes nothing that is stored."""
        tables = engine.tables
        await create(tables)
        item: Item = {"customer": "a", "list": [1], "dict": {"x": 1}}
        wanted = {"customer": "a", "list": [1], "dict": {"x": 1}}
        await put(tables, item, table="totals")
        appended = [2]
        await tables.write([Update(key={"customer": "b"}, set={"list": appended}, table="totals")])
        item["list"].append(2)
        item["dict"]["x"] = 2
        item["new"] = 1
        appended.append(3)
        for _ in range(2):
            pages = [await tables.query("totals", "a"), await tables.scan("totals", limit=1)]
            for found in [await total(tables, "a"), *(page.items[0] for page in pages)]:
                assert found == wanted
                found["list"].append(3)
                found["dict"].clear()
                found["new"] = 1
        assert await total(tables, "b") == {"customer": "b", "list": [2]}

    async def test_a_put_replaces_the_whole_item(self, engine: Engine, clock: ManualClock) -> None:
        """Attributes it does not name are gone."""
        await create(engine.tables)
        await put(engine.tables, {"customer": "a", "n": 1, "m": 1}, {"customer": "a", "n": 2}, table="totals")
        assert await total(engine.tables, "a") == {"customer": "a", "n": 2}

    async def test_a_delete_succeeds_without_an_item(self, engine: Engine, clock: ManualClock) -> None:
        """And removes one that is there."""
        await create(engine.tables)
        await put(engine.tables, {"customer": "a"}, {"customer": "b"}, table="totals")
        for _ in range(2):
            await engine.tables.write([Delete({"customer": "a"}, table="totals")])
            assert await total(engine.tables, "a") is None
        assert await total(engine.tables, "b") == {"customer": "b"}

    async def test_an_update_changes_some_attributes(self, engine: Engine, clock: ManualClock) -> None:
        """It creates the item if need be, adds to numbers from 0, and removes what may not be there."""
        tables = engine.tables
        await create(tables)
        update = Update(key={"customer": "a"}, set={"s": "x"}, add={"n": 2, "f": 0.5}, remove=("gone",), table="totals")
        await tables.write([update])
        assert await total(tables, "a") == {"customer": "a", "s": "x", "n": 2, "f": 0.5}
        await tables.write([Update(key={"customer": "a"}, add={"n": -3, "f": 1}, remove=("s",), table="totals")])
        assert await total(tables, "a") == {"customer": "a", "n": -1, "f": 1.5}
        await tables.write([Update(key={"customer": "b"}, table="totals")])
        assert await total(tables, "b") == {"customer": "b"}

    async def test_an_update_that_makes_no_sense_is_refused(self, engine: Engine, clock: ManualClock) -> None:
        """It touches a key, names an attribute twice, adds what is no number or to none, or makes it too large."""
        tables = engine.tables
        await create(tables)
        before = {"customer": "a", "n": 2**63 - 1, "s": "x", "t": True, "none": None}
        await put(tables, before, table="totals")
        changes: list[dict[str, Any]] = [
            {"set": {"customer": "b"}},
            {"add": {"customer": 1}},
            {"remove": ("customer",)},
            {"set": {"n": 1}, "add": {"n": 1}},
            {"set": {"n": 1}, "remove": ("n",)},
            {"remove": ("s", "s")},
            {"add": {"s": 1}},
            {"add": {"t": 1}},
            {"add": {"none": 1}},
            {"add": {"new": "1"}},
            {"add": {"new": True}},
            {"add": {"n": 10**39 + 1}},
            {"add": {"new": math.inf}},
            {"set": {"new": math.nan}},
            {"set": {"new": "x" * (self.limits.item_bytes + 1)}},
        ]
        for change in changes:
            with raises(ValidationError):
                await tables.write([Update(key={"customer": "a"}, table="totals", **change)])
        assert await total(tables, "a") == before

    async def test_what_cannot_be_stored_is_refused(self, engine: Engine, clock: ManualClock) -> None:
        """In a put and in an update, at whatever depth; nothing is stored."""
        tables = engine.tables
        await create(tables)
        for wrong, value in UNSTORABLE.items():
            for write in (
                Put({"customer": "a", "value": value}, table="totals"),
                Update(key={"customer": "a"}, set={"value": value}, table="totals"),
            ):
                try:
                    with raises(ValidationError):
                        await tables.write([write])
                except Exception as error:
                    raise AssertionError(f"{wrong} was not refused as it should be: {error!r}") from error
        names: list[Any] = [1, None, b"name", "\ud800"]
        for name in names:
            with raises(ValidationError):
                await put(tables, {"customer": "a", name: 1}, table="totals")
        assert (await tables.scan("totals")).items == []

    async def test_items_have_a_size_and_a_depth(self, engine: Engine, clock: ManualClock) -> None:
        """The engine's limit in bytes, and 32 levels, the item itself being the first."""
        tables = engine.tables
        await create(tables)
        with raises(ValidationError):
            await put(tables, {"customer": "a", "s": "x" * self.limits.item_bytes}, table="totals")
        large = {"customer": "a", "s": "x" * (self.limits.item_bytes - 100)}
        await put(tables, large, table="totals")
        assert await total(tables, "a") == large
        await put(tables, {"customer": "a", "deep": nested(31)}, table="totals")
        assert await total(tables, "a") == {"customer": "a", "deep": nested(31)}

    # ---- keys

    async def test_what_may_be_a_key(self, engine: Engine, clock: ManualClock) -> None:
        """str and bytes of 1 to 2,048 (partition) and 1,024 (sort) bytes, and ints of 64 bits."""
        await create(engine.tables)
        partitions: list[Any] = ["a", "1", "é" * 1024, b"\x00", b"x" * 2048, 0, 1, -(2**63), 2**63 - 1, "\x00", b"1"]
        sorts: list[Any] = ["a", "1", "é" * 512, b"\x00", b"x" * 1024, 0, 1, -(2**63), 2**63 - 1, "\x00", b"1"]
        for partition, sort in zip(partitions, sorts, strict=True):
            await put(engine.tables, {"customer": partition, "order": sort})
            await put(engine.tables, {"customer": "all", "order": sort})
        for partition, sort in zip(partitions, sorts, strict=True):
            keys = [{"customer": partition, "order": sort}, {"customer": "all", "order": sort}]
            found = await engine.tables.get("orders", keys)
            assert found == keys
            assert [type(item["order"]) for item in found if item] == [type(sort), type(sort)]
            assert (await engine.tables.query("orders", partition)).items == keys[:1]
        assert len((await engine.tables.scan("orders")).items) == 2 * len(sorts)

    async def test_what_may_not_be_a_key(self, engine: Engine, clock: ManualClock) -> None:
        """Refused wherever a key is asked for."""
        tables = engine.tables
        await create(tables)
        common: list[Any] = ["", b"", True, False, None, 1.0, 2**63, -(2**63) - 1, "\ud800", [1], (1,)]
        keys: list[dict[str, Any]] = [{}, {"customer": "a"}, {"order": 1}]
        keys += [{"customer": wrong, "order": 1} for wrong in [*common, "é" * 1024 + "x", b"x" * 2049]]
        keys += [{"customer": "a", "order": wrong} for wrong in [*common, "é" * 512 + "x", b"x" * 1025]]
        for key in keys:
            writes: list[Write] = [
                Put(key, table="orders"),
                Update(key=key, table="orders"),
                Delete(key, table="orders"),
                Check(key, attribute("x").absent(), table="orders"),
            ]
            for write in writes:
                with raises(ValidationError):
                    await tables.write([write])
            with raises(ValidationError):
                await tables.get("orders", [{"customer": "a", "order": 1}, key])
        for wrong in common:
            with raises(ValidationError):
                await tables.query("orders", wrong)
        assert (await tables.scan("orders")).items == []

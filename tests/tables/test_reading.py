"""Where pages and ranges begin and end: values that no key can be, and places that are none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.condition import Condition, attribute
from streamkit.tables.expression import Expression
from streamkit.tables.index import Index
from streamkit.tables.item import TableSchema
from streamkit.tables.reading import Reading
from streamkit.tables.store import SortKeyRange
from streamkit.tables.table import Table
from streamkit.testing.clock import ManualClock

HEIGHTS: list[Any] = [Decimal("0.1"), 0.1, 1, 2]


@pytest.fixture
async def table(clock: ManualClock) -> AsyncIterator[Table]:
    engine = MemoryEngine(clock, Limits.relaxed())
    schema = TableSchema("items", "p", "s")
    indexes = (Index("by-height", "g", "h"), Index.local("by-n", "n"))
    await engine.tables.create_table(schema, TableAttributes(indexes=indexes))
    table = Table(schema, engine.tables, clock, Metrics())
    for at, height in enumerate(HEIGHTS):
        await table.put({"p": "a", "s": at, "g": "x", "h": height, "n": -at})
    yield table
    await engine.aclose()


async def found(table: Table, text: str, value: Any, **how: Any) -> list[int]:
    partition = "x" if how.get("index") == "by-height" else "a"
    condition = Expression(text, {":p": partition, ":v": value})
    return [item["s"] async for item in table.query(condition, **how)]


async def test_a_local_index_has_the_partition_key_of_its_table(table: Table) -> None:
    assert await found(table, "p = :p AND n < :v", -1, index="by-n") == [3, 2]
    with pytest.raises(ValidationError, match="the filter is about the key attribute 'p'"):
        await found(table, "p = :p AND n < :v", -1, index="by-n", where="p = q")


@pytest.mark.parametrize("end", [0.1, Decimal("0.1"), Decimal("0.10")])
async def test_a_range_leaves_out_its_end_as_a_number(table: Table, end: Any) -> None:
    assert await found(table, "g = :p AND h > :v", end, index="by-height") == [2, 3]
    assert await found(table, "g = :p AND h >= :v", end, index="by-height") == [0, 1, 2, 3]
    assert await found(table, "g = :p AND h < :v", end, index="by-height", forward=False) == []


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("s > :v", 1.5, [2, 3]),
        ("s > :v", Decimal(1), [2, 3]),
        ("s >= :v", 1.0, [1, 2, 3]),
        ("s < :v", Decimal("1.5"), [0, 1]),
        ("s <= :v", -0.5, []),
        ("s = :v", 1.5, []),
        ("s = :v", Decimal("1.0"), [1]),
    ],
)
async def test_a_sort_key_is_compared_with_any_number(table: Table, text: str, value: Any, expected: list[int]) -> None:
    assert await found(table, f"p = :p AND {text}", value) == expected


UNFIT = [10**5000, Decimal("1E+999999"), Decimal("NaN"), float("inf"), True, None, [], {"x"}, "\ud800"]


@pytest.mark.parametrize("value", UNFIT, ids=lambda value: type(value).__name__)
async def test_no_key_is_compared_with_what_no_key_can_be(table: Table, value: Any) -> None:
    for index in (None, "by-height"):
        with pytest.raises(ValidationError):
            await table.query_page(value, reading=Reading(index=index))
        if value is not None:
            with pytest.raises(ValidationError):
                await table.query_page("a", SortKeyRange(at_most=value), reading=Reading(index=index))
            with pytest.raises(ValidationError):
                await found(table, "g = :p AND h = :v" if index else "p = :p AND s = :v", value, index=index)


async def test_an_integer_that_cannot_be_a_key_is_refused_whatever_its_length(table: Table) -> None:
    with pytest.raises(ValidationError, match="does not fit 64 bits"):
        await table.get("a", 10**5000)


@pytest.mark.parametrize("after", [5, "ab", ("a",), ("a", None), {"p": "a", "s": 1}, ("a", 2.5), ("a", True)])
@pytest.mark.parametrize("index", [None, "by-height"])
async def test_a_page_begins_only_where_one_ended(table: Table, after: Any, index: str | None) -> None:
    reading = Reading(after=after, index=index)
    with pytest.raises(ValidationError):
        await table.query_page("x" if index else "a", reading=reading)
    with pytest.raises(ValidationError):
        await table.scan_page(reading=reading)


async def test_a_page_of_another_partition_is_no_place_to_go_on_from(table: Table) -> None:
    with pytest.raises(ValidationError, match="pass the last_key of the page before"):
        await table.query_page("a", reading=Reading(after=("b", 1)))


@pytest.mark.parametrize("joined", ["AND", "OR"])
async def test_a_condition_may_be_as_long_as_an_expression(table: Table, joined: str) -> None:
    condition = attribute("h") >= 1
    for _ in range(3000):
        condition = condition & (attribute("h") >= 1) if joined == "AND" else condition | (attribute("h") >= 1)
    text = Expression(f" {joined} ".join(["h>=:v"] * 350), {":v": 1})
    where: Condition | Expression
    for where in (condition, text):
        assert [item["s"] async for item in table.query("a", where=where)] == [2, 3]

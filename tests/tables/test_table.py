from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from unittest.mock import ANY

import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ConditionFailedError, NotFoundError, ValidationError
from streamkit.limits import Limits
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.tables.condition import attribute
from streamkit.tables.expression import Expression
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.reading import Reading
from streamkit.tables.store import Segment, SortKeyRange
from streamkit.tables.table import Table
from streamkit.tables.write import Returns
from streamkit.testing.clock import ManualClock

MakeTable = Callable[..., Awaitable[Table]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def make_table(clock: ManualClock, metrics: Metrics) -> AsyncIterator[MakeTable]:
    engine = MemoryEngine(clock, Limits.relaxed())

    async def make(partition_key: str = "id", sort_key: str | None = None) -> Table:
        schema = TableSchema("items", partition_key, sort_key)
        await engine.tables.create_table(schema)
        return Table(schema, engine.tables, clock, metrics)

    yield make
    await engine.aclose()


async def test_put_get_delete(make_table: MakeTable) -> None:
    table = await make_table()
    await table.put({"id": "a", "n": 1, "deep": {"list": [1, None, b"x", 2.5, True]}})
    assert await table.get("a") == {"id": "a", "n": 1, "deep": {"list": [1, None, b"x", 2.5, True]}}
    assert await table.get({"id": "a", "more": "is ignored"}) == await table.get("a")
    await table.delete("a")
    await table.delete("a")
    assert await table.get("a") is None


async def test_conditions(make_table: MakeTable, metrics: Metrics) -> None:
    table = await make_table()
    await table.put({"id": 1, "version": 1}, condition=attribute("id").absent())
    with pytest.raises(ConditionFailedError, match=r"the condition on item \(1, None\) of table 'items' is false"):
        await table.put({"id": 1, "version": 1}, condition=attribute("id").absent())
    await table.update(1, add={"version": 1}, condition=attribute("version") == 1)
    with pytest.raises(ConditionFailedError):
        await table.delete(1, condition=attribute("version") == 1)
    assert await table.get(1) == {"id": 1, "version": 2}
    refused = metrics.total(Metric.of("AWS/DynamoDB", "ConditionalCheckFailedRequests", TableName="items"))
    written = metrics.total(Metric.of("streamkit", "ItemsWritten", TableName="items"))
    assert refused is not None
    assert written is not None
    assert (refused.sum, written.sum) == (2, 2)


async def test_update_creates_adds_sets_and_removes(make_table: MakeTable) -> None:
    table = await make_table("carrier", "line")
    await table.update("UA", 7, add={"flights": 1}, set={"name": "United"})
    await table.update({"carrier": "UA", "line": 7}, add={"flights": 2.5}, remove=["name"])
    assert await table.get("UA", 7) == {"carrier": "UA", "line": 7, "flights": 3.5}


async def test_a_batch_is_atomic(make_table: MakeTable) -> None:
    table = await make_table()
    with pytest.raises(ValidationError, match="needs the key attribute 'id': it is missing"):
        await table.put_batch([{"id": 1}, {"no": 2}])
    with pytest.raises(ValidationError, match="is written twice in a call"):
        await table.put_batch([{"id": 1}, {"id": 1}])
    assert [item async for item in table.scan()] == []
    await table.put_batch({"id": n} for n in range(3))
    assert [item["id"] async for item in table.scan()] == [0, 1, 2]


async def test_query_and_scan_go_through_all_pages(make_table: MakeTable) -> None:
    table = await make_table("carrier", "line")
    await table.put_batch({"carrier": c, "line": n, "pad": "x" * 50} for c in ("AA", "UA") for n in range(2500))
    assert [item["line"] async for item in table.query("UA")] == list(range(2500))
    assert [item["line"] async for item in table.query("UA", forward=False)] == list(reversed(range(2500)))
    wanted = SortKeyRange(at_least=10, at_most=12)
    assert [item["line"] async for item in table.query("AA", wanted)] == [10, 11, 12]
    assert len([1 async for _ in table.scan()]) == 5000


async def test_a_prefix_of_the_sort_key(make_table: MakeTable) -> None:
    table = await make_table("carrier", "day")
    await table.put_batch({"carrier": "UA", "day": day} for day in ("2013-01-01", "2013-01-02", "2013-02-01"))
    found = [item["day"] async for item in table.query("UA", SortKeyRange(prefix="2013-01"))]
    assert found == ["2013-01-01", "2013-01-02"]


async def test_a_range_of_sort_keys_fits_the_table(make_table: MakeTable) -> None:
    table = await make_table("carrier", "day")
    with pytest.raises(ValidationError, match="has a prefix or bounds, not both"):
        _ = [item async for item in table.query("UA", SortKeyRange(prefix="2013", at_most="2014"))]
    with pytest.raises(ValidationError, match="key attribute 'carrier' of table 'items' must be str, int or bytes"):
        _ = [item async for item in table.query(1.5)]  # type: ignore[arg-type]


async def test_a_table_without_a_sort_key_has_no_range(make_table: MakeTable) -> None:
    table = await make_table()
    await table.put({"id": 1})
    assert [item async for item in table.query(1)] == [{"id": 1}]
    with pytest.raises(ValidationError, match="has no sort key: query it by the partition key alone"):
        _ = [item async for item in table.query(1, SortKeyRange(at_least=1))]


async def test_what_is_read_is_the_reader_s_own(make_table: MakeTable) -> None:
    table = await make_table()
    written: Item = {"id": 1, "list": [1]}
    await table.put(written)
    written["list"].append(2)
    read = await table.get(1)
    assert read == {"id": 1, "list": [1]}
    read["list"].append(3)
    async for item in table.scan():
        item["list"].append(4)
    assert await table.get(1) == {"id": 1, "list": [1]}


async def test_items_written_has_one_sample_per_call(make_table: MakeTable, metrics: Metrics) -> None:
    table = await make_table()
    await table.put_batch({"id": n} for n in range(5))
    await table.delete(1)
    with pytest.raises(ValidationError):
        await table.put_batch([])
    written = metrics.total(Metric.of("streamkit", "ItemsWritten", TableName="items"))
    assert written is not None
    assert (written.sum, written.sample_count) == (6, 2)


async def test_names_to_remove_are_several(make_table: MakeTable) -> None:
    table = await make_table()
    await table.put({"id": 1, "n": 1, "name": "x"})
    with pytest.raises(ValidationError, match=r"remove= takes several attribute names: pass \['name'\]"):
        await table.update(1, remove="name")
    await table.update(1, remove=["name"])
    assert await table.get(1) == {"id": 1, "n": 1}


async def test_a_table_that_is_gone(make_table: MakeTable) -> None:
    table = await make_table()
    await table._store.delete_table("items")
    for call in (table.put({"id": 1}), table.get(1), table.update(1, add={"n": 1}), table.delete(1)):
        with pytest.raises(NotFoundError, match="table 'items' does not exist"):
            await call
    with pytest.raises(NotFoundError):
        _ = [item async for item in table.scan()]


async def test_a_key_of_the_wrong_shape_says_what_is_needed(make_table: MakeTable) -> None:
    table = await make_table("carrier", "line")
    with pytest.raises(ValidationError, match=r"has the key carrier, line: pass 2 value\(s\)"):
        await table.get("UA")
    assert repr(table) == "Table('items', key=carrier/line)"


async def test_what_a_write_answers_with(make_table: MakeTable) -> None:
    table = await make_table()
    assert await table.put({"id": 1, "n": 1}, returns="ALL_OLD") is None
    assert await table.put({"id": 1, "n": 2, "m": {"k": 1}}, returns="ALL_OLD") == {"id": 1, "n": 1}
    assert await table.update(1, add={"n": 1}) is None
    assert await table.update(1, add={"n": 1}, returns="ALL_OLD") == {"id": 1, "n": 3, "m": {"k": 1}}
    assert await table.update(1, add={"n": 1}, returns="ALL_NEW") == {"id": 1, "n": 5, "m": {"k": 1}}
    update = Expression("SET m.k = m.k + :one, fresh = :one", {":one": 1})
    assert await table.update(1, expression=update, returns="UPDATED_OLD") == {"m": {"k": 1}}
    assert await table.update(1, expression=update, returns="UPDATED_NEW") == {"m": {"k": 3}, "fresh": 1}
    with pytest.raises(ValidationError, match="a Put returns NONE or ALL_OLD, not 'ALL_NEW'"):
        await table.put({"id": 1}, returns="ALL_NEW")
    assert await table.delete(1, returns="ALL_OLD") == {"id": 1, "n": 5, "m": {"k": 3}, "fresh": 1}
    assert await table.delete(1, returns="ALL_OLD") is None


async def test_a_false_condition_tells_what_was_there(make_table: MakeTable) -> None:
    table = await make_table()
    await table.put({"id": 1, "n": 1})
    with pytest.raises(ConditionFailedError) as failed:
        await table.put({"id": 1, "n": 2}, condition="attribute_not_exists(id)")
    assert failed.value.item == {"id": 1, "n": 1}
    with pytest.raises(ConditionFailedError) as failed:
        await table.update(2, add={"n": 1}, condition=Expression("n = :one", {":one": 1}))
    assert failed.value.item is None


async def test_batches_of_keys_and_of_writes(make_table: MakeTable) -> None:
    table = await make_table("carrier", "line")
    items = [{"carrier": "UA", "line": line} for line in range(3)]
    assert await table.write_batch(put=[*items, {"carrier": "", "line": 1}]) == [None, None, None, ANY]
    assert await table.get_batch([("UA", 2), ("UA", 9), {"carrier": "UA", "line": 0}]) == [items[2], None, items[0]]
    assert await table.write_batch(delete=[("UA", 0), ("UA", 9)]) == [None, None]
    assert [item async for item in table.scan()] == items[1:]
    with pytest.raises(ValidationError, match="asked for twice"):
        await table.get_batch([("UA", 1), ("UA", 1)])
    with pytest.raises(ValidationError, match="are of item"):
        await table.write_batch(put=items[:1], delete=[("UA", 0)])


async def test_pages_count_what_is_looked_at(make_table: MakeTable) -> None:
    table = await make_table("carrier", "line")
    await table.put_batch(
        [{"carrier": "UA", "line": line, "late": line % 3 == 0, "m": {"k": line}} for line in range(10)]
    )
    late = Expression("late = :true", {":true": True})
    page = await table.query_page("UA", reading=Reading(limit=4), where=late, projection="m.k")
    assert (page.items, page.count, page.scanned) == ([{"m": {"k": 0}}, {"m": {"k": 3}}], 2, 4)
    lines = []
    reading = Reading(limit=4)
    while True:
        page = await table.query_page("UA", reading=reading, where=late)
        lines += [item["line"] for item in page.items]
        if page.last_key is None:
            break
        reading = Reading(limit=4, after=page.last_key)
    assert lines == [0, 3, 6, 9]
    assert [item["line"] async for item in table.query("UA", forward=False, where=late)] == [9, 6, 3, 0]
    assert [item["line"] async for item in table.scan(where=late, projection="line")] == [0, 3, 6, 9]
    page = await table.scan_page(reading=Reading(limit=7), where=attribute("late") == True)  # noqa: E712
    assert (page.count, page.scanned) == (3, 7)


async def test_a_key_condition_as_text(make_table: MakeTable) -> None:
    table = await make_table("carrier", "line")
    await table.put_batch([{"carrier": "UA", "line": line} for line in range(6)])

    async def lines(text: str, **values: object) -> list[int]:
        condition = Expression(text, {f":{name}": value for name, value in values.items()})
        return [item["line"] async for item in table.query(condition)]

    assert await lines("carrier = :c", c="UA") == list(range(6))
    assert await lines("carrier = :c AND line > :l", c="UA", l=3) == [4, 5]
    assert await lines("carrier = :c AND line < :l", c="UA", l=2) == [0, 1]
    assert await lines("carrier = :c AND line BETWEEN :l AND :h", c="UA", l=2, h=3) == [2, 3]
    with pytest.raises(ValidationError, match="the filter is about the key attribute 'line'"):
        _ = [item async for item in table.query("UA", where="attribute_exists(line)")]
    with pytest.raises(ValidationError, match="not both"):
        _ = [item async for item in table.query(Expression("carrier = :c", {":c": 1}), SortKeyRange(at_least=1))]


async def test_segments_of_a_scan_share_the_table(make_table: MakeTable) -> None:
    table = await make_table()
    await table.put_batch([{"id": f"item-{at}"} for at in range(200)])
    found = []
    for number in range(4):
        reading = Reading(limit=10, segment=Segment(number, 4))
        while True:
            page = await table.scan_page(reading=reading)
            found.append([item["id"] for item in page.items])
            if page.last_key is None:
                break
            reading = Reading(limit=10, segment=Segment(number, 4), after=page.last_key)
    assert sorted(one for page in found for one in page) == sorted(f"item-{at}" for at in range(200))
    assert len(found) >= 20


@pytest.mark.parametrize("returns", ["ALL_NEW", "UPDATED_NEW"])
async def test_an_answer_shares_nothing(make_table: MakeTable, returns: Returns) -> None:
    table = await make_table()
    given = {"x": [1]}
    answer = await table.update("a", set={"m": given, "n": given}, returns=returns)
    assert answer is not None
    answer["m"]["x"].append(2)
    assert answer["n"] == given == {"x": [1]}
    assert await table.get("a") == {"id": "a", "m": {"x": [1]}, "n": {"x": [1]}}

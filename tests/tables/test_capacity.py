"""Capacity units: how many a call consumes, who is told, and what a provisioned table refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

import streamkit
from streamkit import Delete, Kit, Put, Update
from streamkit.errors import ConditionFailedError, ThroughputExceededError, TransactionCanceledError
from streamkit.functions.effects import Effects
from streamkit.metrics.metric import Metric
from streamkit.tables.attributes import Capacity
from streamkit.tables.capacity import BURST_SECONDS, Bucket, index_write_units, read_units, write_units
from streamkit.tables.condition import attribute
from streamkit.tables.index import Index
from streamkit.tables.size import item_size, value_size
from streamkit.tables.transact_get import Get
from streamkit.tables.write import Check
from streamkit.testing.clock import ManualClock


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("é", 2),
        (b"abc", 3),
        (True, 1),
        (None, 1),
        (0, 1),
        (7, 2),
        (100, 2),
        (-7, 3),
        (123, 3),
        (12345, 4),
        (1.5, 2),
        (0.001, 2),
        (Decimal("1.50"), 2),
        (-(2**63), 12),
        ([], 3),
        ([1, "ab"], 3 + 1 + 2 + 1 + 2),
        ({}, 3),
        ({"a": "bc"}, 3 + 1 + 1 + 2),
        ({"x", "yz"}, 3),
    ],
)
def test_sizes_are_dynamodbs(value: Any, size: int) -> None:
    assert value_size(value) == size
    assert item_size({"né": value}) == 3 + size


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (4096, 1), (4097, 2), (400 * 1024, 100)])
def test_read_units(size: int, units: float) -> None:
    assert read_units(size) == units
    assert read_units(size, consistent=False) == units / 2


@pytest.mark.parametrize(
    ("before", "after", "units"),
    [(None, 1, 1), (None, 1024, 1), (None, 1025, 2), (5000, 10, 5), (10, 5000, 5), (2049, None, 3), (None, None, 1)],
)
def test_write_units(before: int | None, after: int | None, units: float) -> None:
    assert write_units(before, after) == units
    assert write_units(before, after, transactional=True) == 2 * units


def test_index_write_units() -> None:
    assert index_write_units(None, None, same=True) == 0
    assert index_write_units(("k", 10), ("k", 10), same=True) == 0
    assert index_write_units(None, ("k", 1500), same=False) == 2
    assert index_write_units(("k", 1500), None, same=False) == 2
    assert index_write_units(("k", 3000), ("k", 10), same=False) == 3
    assert index_write_units(("k", 1500), ("l", 10), same=False) == 3


def test_a_bucket_banks_what_was_not_used_for_300_seconds() -> None:
    bucket = Bucket(10, 0)
    assert bucket.wait_for(10, 0) == 0
    bucket.take(10)
    assert bucket.wait_for(5, 0) == 0.5
    assert bucket.wait_for(5, 500) == 0
    assert bucket.wait_for(10 * BURST_SECONDS, 301_000) == 0
    bucket.take(10 * BURST_SECONDS)
    assert bucket.wait_for(1, 301_000) == pytest.approx(0.1)
    # More than it can hold is let through when it is full, and leaves a debt.
    assert bucket.wait_for(10**6, 602_000) == 0
    bucket.take(10**6)
    assert bucket.wait_for(1, 602_000) > 9_000
    assert bucket.wait_for(1, 0) > 9_000


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


class Counted:
    """How many units were reported since one asked last."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.seen: dict[Metric, float] = {}

    def __call__(self, name: str, index: str | None = None) -> float:
        dimensions = {"TableName": "orders"} | ({} if index is None else {"GlobalSecondaryIndexName": index})
        metric = Metric.of("AWS/DynamoDB", name, **dimensions)
        total = self.kit.metrics.total(metric)
        now = 0.0 if total is None else total.sum
        before = self.seen.get(metric, 0.0)
        self.seen[metric] = now
        return now - before

    def reads(self, index: str | None = None) -> float:
        return self("ConsumedReadCapacityUnits", index)

    def writes(self, index: str | None = None) -> float:
        return self("ConsumedWriteCapacityUnits", index)


def order(number: int, size: int = 10, **attributes: Any) -> dict[str, Any]:
    return {"customer": "c", "order": number, "text": "x" * size, **attributes}


INDEXES = [Index("by-status", "status"), Index.local("by-total", "total", projection="KEYS_ONLY")]


async def test_every_kind_of_call_is_counted(kit: Kit) -> None:
    table = await kit.create_table("orders", partition_key="customer", sort_key="order", capacity=Capacity())
    counted = Counted(kit)
    await table.put(order(1))
    assert counted.writes() == 1
    await table.put(order(1, 3000))
    assert counted.writes() == 3
    await table.put(order(1))
    assert counted.writes() == 3
    await table.update("c", 1, set={"text": "y" * 2000})
    assert counted.writes() == 2
    await table.delete("c", 1)
    assert counted.writes() == 2
    await table.delete("c", 1)
    assert counted.writes() == 1
    with pytest.raises(ConditionFailedError):
        await table.put(order(9, 5000), condition=attribute("customer").exists())
    assert counted.writes() == 1
    await table.put(order(1, 5000))
    assert counted.writes() == 5
    with pytest.raises(ConditionFailedError):
        await table.delete("c", 1, condition=attribute("text") == "")
    assert counted.writes() == 5
    assert counted.reads() == 0
    assert await table.get("c", 1)
    assert counted.reads() == 2
    assert await table.get("c", 77) is None
    assert counted.reads() == 1
    await kit.engine.tables.get("orders", [{"customer": "c", "order": 1}, {"customer": "c", "order": 2}])
    assert counted.reads() == 3
    await table.put(order(2, 5000))
    assert len([item async for item in table.query("c")]) == 2
    assert counted.reads() == 3  # Together, and not each for itself.
    assert len([item async for item in table.scan()]) == 2
    assert counted.reads() == 3
    assert [item async for item in table.query("nobody")] == []
    assert counted.reads() == 1


async def test_transactions_cost_twice(kit: Kit) -> None:
    await kit.create_table("orders", partition_key="customer", sort_key="order", capacity=Capacity())
    counted = Counted(kit)
    await kit.write(Put(order(1), "orders"), Put(order(2, 1500), "orders"))
    assert counted.writes() == 2 * (1 + 2)
    await kit.write(
        Delete({"customer": "c", "order": 1}, "orders"),
        Check({"customer": "c", "order": 2}, attribute("text").exists(), "orders"),
    )
    assert counted.writes() == 2 * (1 + 2)
    with pytest.raises(TransactionCanceledError):
        await kit.write(
            Put(order(3), "orders", attribute("text").exists()),
            Update(key={"customer": "c", "order": 2}, set={"a": 1}, table="orders"),
        )
    assert counted.writes() == 2 * (1 + 2)
    await kit.engine.commit(Effects(writes=(Put(order(7), "orders"),)))
    assert counted.writes() == 1


async def test_indexes_are_counted(kit: Kit) -> None:
    table = await kit.create_table(
        "orders", partition_key="customer", sort_key="order", capacity=Capacity(), indexes=INDEXES, ttl="expires"
    )
    counted = Counted(kit)
    await table.put(order(1, 1500, status="new"))
    assert (counted.writes(), counted.writes("by-status")) == (2, 2)
    await table.update("c", 1, set={"total": 5})  # A copy in the local index is the table's own.
    assert (counted.writes(), counted.writes("by-status")) == (3, 2)
    await table.update("c", 1, set={"status": "paid"})
    assert (counted.writes(), counted.writes("by-status")) == (2, 4)
    await table.update("c", 1, set={"status": "paid"})
    assert (counted.writes(), counted.writes("by-status")) == (2, 0)
    await table.update("c", 1, remove=["status"])
    assert (counted.writes(), counted.writes("by-status")) == (2, 2)
    await table.put(order(2, 5000, status="new", total=1))
    counted.writes(), counted.writes("by-status")
    await kit.engine.tables.query("orders", "new", index="by-status")
    assert (counted.reads(), counted.reads("by-status")) == (0, 1)
    await kit.engine.tables.query("orders", "c", index="by-total")
    assert (counted.reads(), counted.reads("by-status")) == (1, 0)


async def test_what_the_kit_does_by_itself_costs_nothing(kit: Kit, clock: ManualClock) -> None:
    table = await kit.create_table("orders", partition_key="customer", sort_key="order", capacity=Capacity())
    await table.put(order(1, expires=clock.now_ms() // 1000 - 5, status="new"))
    counted = Counted(kit)
    counted.writes()
    await kit.update_table("orders", ttl="expires", add_indexes=[INDEXES[0]])
    await clock.advance(10)
    assert (counted.writes(), counted.reads(), counted.writes("by-status")) == (0, 0, 0)
    assert await table.get("c", 1) is None


async def test_nothing_is_counted_unless_it_is_asked_for(kit: Kit) -> None:
    table = await kit.create_table("orders", partition_key="customer", sort_key="order", indexes=INDEXES)
    await table.put(order(1, status="new"))
    await table.get("c", 1)
    counted = Counted(kit)
    assert (counted.writes(), counted.reads()) == (0, 0)
    await kit.update_table("orders", capacity=Capacity())
    await table.get("c", 1)
    assert counted.reads() == 1


async def test_a_provisioned_table_refuses_what_is_over_its_capacity(kit: Kit, clock: ManualClock) -> None:
    capacity = Capacity("PROVISIONED", read=10, write=5)
    table = await kit.create_table("orders", partition_key="customer", sort_key="order", capacity=capacity)
    for number in range(5):
        await table.put(order(number))
    with pytest.raises(ThroughputExceededError, match="table 'orders' is over its limit") as caught:
        await table.put(order(5))
    assert caught.value.retryable
    assert caught.value.retry_after == pytest.approx(0.2)
    assert await table.get("c", 5) is None
    counted = Counted(kit)
    assert (counted.writes(), counted("WriteThrottleEvents")) == (5, 1)
    await clock.advance(0.2)
    await table.put(order(5))
    # What was not used for five minutes can be used at once, and not what is older.
    await clock.advance(1_000)
    for _ in range(5 * BURST_SECONDS):
        await table.put(order(5))
    with pytest.raises(ThroughputExceededError):
        await table.put(order(5))
    for _ in range(10 * BURST_SECONDS):
        await table.get("c", 5)
    with pytest.raises(ThroughputExceededError, match="10 read capacity units/s"):
        await table.get("c", 5)
    with pytest.raises(ThroughputExceededError):
        [item async for item in table.query("c")]
    assert counted("ReadThrottleEvents") == 2


async def test_what_a_mapping_commits_is_counted_and_never_refused(kit: Kit) -> None:
    capacity = Capacity("PROVISIONED", read=1, write=1)
    table = await kit.create_table("orders", partition_key="customer", sort_key="order", capacity=capacity)
    for number in range(3):
        await kit.engine.commit(Effects(writes=(Put(order(number), "orders"),)))
    assert Counted(kit).writes() == 3
    with pytest.raises(ThroughputExceededError):
        await table.put(order(5))


async def test_a_busy_index_never_refuses_a_write_of_its_table(kit: Kit) -> None:
    capacity = Capacity("PROVISIONED", read=2, write=5)
    table = await kit.create_table(
        "orders", partition_key="customer", sort_key="order", capacity=capacity, indexes=INDEXES
    )
    for number in range(5):
        # Two writes in the index for one in the table.
        await table.put(order(0, status=f"s{number}"))
    counted = Counted(kit)
    assert (counted.writes(), counted.writes("by-status")) == (5, 9)
    for _ in range(4):
        await kit.engine.tables.query("orders", "s4", index="by-status")
    with pytest.raises(ThroughputExceededError, match="index 'by-status' of table 'orders'"):
        await kit.engine.tables.query("orders", "s4", index="by-status")
    assert await table.get("c", 0)


async def test_atomic_reads_and_writes_with_a_token_cost_twice(kit: Kit) -> None:
    """A repetition costs what reading its items atomically does."""
    table = await kit.create_table("orders", partition_key="customer", sort_key="order", capacity=Capacity())
    counted = Counted(kit)
    await table.put(order(1, 5000))
    assert counted.writes() == 5
    gets = [Get({"customer": "c", "order": number}, "orders") for number in (1, 2)]
    assert [item is None for item in await kit.get(*gets)] == [False, True]
    assert (counted.reads(), counted.writes()) == (2 * (2 + 1), 0)
    for again in (False, True):
        await kit.write(Put(order(3, 1500), "orders"), client_request_token="token")
        assert (counted.reads(), counted.writes()) == ((2, 0) if again else (0, 4))


async def test_a_throttled_table_refuses_an_atomic_read(kit: Kit, clock: ManualClock) -> None:
    """Also if only one of the tables has nothing left; it says which."""
    await kit.create_table(
        "orders", partition_key="customer", sort_key="order", capacity=Capacity("PROVISIONED", read=1, write=100)
    )
    await kit.create_table("others", partition_key="id")
    await kit.table("others").put({"id": 1})
    gets = [Get({"id": 1}, "others"), Get({"customer": "c", "order": 1}, "orders")]

    async def all_there_is() -> None:
        for _ in range(1000):
            await kit.get(*gets)

    with pytest.raises(ThroughputExceededError) as refused:
        await all_there_is()
    assert "orders" in str(refused.value)
    assert await kit.get(gets[0]) == [{"id": 1}]
    assert refused.value.retry_after
    await clock.advance(refused.value.retry_after)
    assert await kit.get(*gets) == [{"id": 1}, None]

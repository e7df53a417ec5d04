"""What calls of a table publish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import Check, Delete, Kit, Put, Update
from streamkit.errors import (
    ConditionFailedError,
    NotFoundError,
    StorageError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.functions.effect_metrics import MeasuredEffects
from streamkit.functions.effects import Effects
from streamkit.metrics.metric import Metric
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.attributes import Capacity
from streamkit.tables.condition import attribute
from streamkit.tables.transact_get import Get
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_table("items", partition_key="id")
        await kit.create_table("others", partition_key="id")
        yield kit


def said(kit: Kit, name: str, table: str = "items", **dimensions: str) -> tuple[int, float] | None:
    total = kit.metrics.total(Metric.of("AWS/DynamoDB", name, TableName=table, **dimensions))
    return None if total is None else (total.sample_count, total.sum)


async def test_each_call_has_its_operation(kit: Kit) -> None:
    items = kit.table("items")
    await items.put({"id": 1})
    await items.update(1, set={"a": 1})
    await items.put_batch([{"id": 2}, {"id": 3}])
    await items.get(1)
    await items.get_batch([1, 2])
    assert len([item async for item in items.scan()]) == 3
    assert len([item async for item in items.query(2)]) == 1
    await items.delete(1)
    await kit.write(Put({"id": 4}, table="items"), Put({"id": 4}, table="others"))
    await kit.get(Get({"id": 4}, "items"))
    operations = [
        *("PutItem", "UpdateItem", "DeleteItem", "GetItem", "BatchGetItem", "Query", "Scan"),
        "TransactGetItems",
    ]
    for operation in operations:
        found = said(kit, "SuccessfulRequestLatency", Operation=operation)
        assert found is not None, operation
        assert found[0] == 1, operation
    assert said(kit, "SuccessfulRequestLatency", Operation="TransactWriteItems") == (2, 0)
    assert said(kit, "SuccessfulRequestLatency", "others", Operation="TransactWriteItems") == (1, 0)
    assert said(kit, "ReturnedItemCount", Operation="Scan") == (1, 3)
    assert said(kit, "ReturnedItemCount", Operation="Query") == (1, 1)
    assert items.metric("ReturnedItemCount", Operation="Scan") in kit.metrics.raw.list_metrics()


async def test_false_conditions_are_of_their_tables(kit: Kit) -> None:
    items = kit.table("items")
    await items.put({"id": 1})
    with pytest.raises(ConditionFailedError):
        await items.put({"id": 1}, condition=attribute("id").absent())
    assert said(kit, "ConditionalCheckFailedRequests") == (1, 1)
    with pytest.raises(TransactionCanceledError):
        await kit.write(
            Put({"id": 2}, table="items"),
            Update(key={"id": 1}, set={"a": 1}, table="items", condition=attribute("a") == 5),
            Check({"id": 9}, attribute("id").exists(), table="others"),
        )
    assert said(kit, "ConditionalCheckFailedRequests") == (2, 2)
    assert said(kit, "ConditionalCheckFailedRequests", "others") == (1, 1)


async def test_errors_are_the_engines_or_the_callers(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    items = kit.table("items")

    async def broken(*args: Any, **options: Any) -> Any:
        raise StorageError("planned")

    with monkeypatch.context() as patch:
        patch.setattr(kit.engine.tables, "get", broken)
        with pytest.raises(StorageError):
            await items.get(1)
    assert said(kit, "SystemErrors", Operation="GetItem") == (1, 1)
    assert said(kit, "SuccessfulRequestLatency", Operation="GetItem") is None
    with pytest.raises(ValidationError):
        await items.put({"no": "key"})
    with pytest.raises(NotFoundError):
        await kit.write(Put({"id": 1}, table="missing"))
    total = kit.metrics.total(Metric("AWS/DynamoDB", "UserErrors"))
    assert total is not None
    assert total.sum == 2


async def test_latency_is_in_milliseconds(kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    real = kit.engine.tables.get

    async def slow(*args: Any) -> Any:
        await clock.sleep_until(clock.now_ms() + 40)
        return await real(*args)

    monkeypatch.setattr(kit.engine.tables, "get", slow)
    reading = kit.table("items").get(1)
    task = asyncio.create_task(reading)
    await clock.advance(0.04)
    await task
    assert said(kit, "SuccessfulRequestLatency", Operation="GetItem") == (1, 40)
    assert kit.metrics.raw.units(kit.table("items").metric("SuccessfulRequestLatency", Operation="GetItem")) == [
        "Milliseconds"
    ]


async def test_what_a_table_is_provisioned_with_is_a_gauge_while_it_is(kit: Kit) -> None:
    table = await kit.create_table("paid", partition_key="id", capacity=Capacity("PROVISIONED", read=7, write=3))
    await kit.metrics.sample()
    assert kit.metrics.latest(table.metric("ProvisionedReadCapacityUnits")) == 7
    assert kit.metrics.latest(table.metric("ProvisionedWriteCapacityUnits")) == 3
    assert kit.metrics.latest(kit.table("items").metric("ProvisionedReadCapacityUnits")) is None
    await kit.delete_table("paid")
    await kit.metrics.sample()
    assert table.metric("ProvisionedReadCapacityUnits") not in [metric for metric, _ in kit.metrics.raw.gauges()]


async def test_commits_of_mappings_count_for_whom_they_are_of(kit: Kit, clock: ManualClock) -> None:
    jobs = await kit.create_queue("jobs")
    await kit.create_stream("copies")
    await jobs.send(1)
    (message,) = await jobs.receive()
    measured = MeasuredEffects(kit.engine, kit.engine.queues, clock, kit.metrics.raw)
    await measured.commit(
        Effects(
            sends=(("jobs", (SendEntry(b"12"), SendEntry(b"3"))),),
            puts=(("copies", (PutEntry("k", b"12345"),)),),
            deletes=(("jobs", (message.receipt_handle,)),),
        )
    )
    sent = kit.metrics.total(jobs.metric("NumberOfMessagesSent"))
    size = kit.metrics.total(jobs.metric("SentMessageSize"))
    deleted = kit.metrics.total(jobs.metric("NumberOfMessagesDeleted"))
    incoming = kit.metrics.total(kit.stream("copies").metric("IncomingBytes"))
    assert sent is not None
    assert size is not None
    assert deleted is not None
    assert incoming is not None
    assert (sent.sum, size.sample_count, deleted.sum, incoming.sum) == (3, 3, 1, 5)
    write = Delete({"id": 1}, table="items", condition=attribute("id").exists())
    with pytest.raises(ConditionFailedError):
        await measured.commit(Effects(writes=(write,)))
    assert said(kit, "ConditionalCheckFailedRequests") == (1, 1)
    assert measured.limits == kit.engine.limits

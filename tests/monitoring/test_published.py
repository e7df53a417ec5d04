"""docs/metrics.md: what its tables say is published is published, that and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Put, Record, Send, each
from streamkit.backoff import Retry
from streamkit.errors import (
    ConditionFailedError,
    StorageError,
    StreamKitError,
    ThroughputExceededError,
    ValidationError,
)
from streamkit.functions.function import Function, Invoker
from streamkit.limits import Limits
from streamkit.service import Stop
from streamkit.streams.reader import ShardReader
from streamkit.streams.stream_metrics import GetMetrics
from streamkit.tables.attributes import Capacity
from streamkit.tables.condition import attribute
from streamkit.tables.index import Index
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import batch_of

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()

Published = tuple[str, str, str, str]
"""Namespace, name, unit, and names of dimensions."""


def documented() -> set[Published]:
    found: set[Published] = set()
    for section in PAGE.split("\n### ")[1:]:
        namespace = section.split("`")[1]
        for name, unit, dimensions in re.findall(r"^\| `([\w.]+)` \| (\w+) \| ([\w, –]+) \|", section, re.MULTILINE):
            found.add((namespace, name, unit, dimensions.strip(" –")))
    return found


async def published(kit: Kit) -> set[Published]:
    await kit.metrics.sample()
    raw = kit.metrics.raw
    return {
        (metric.namespace, metric.name, unit, ", ".join(name for name, _ in metric.dimensions))
        for metric in raw.list_metrics()
        for unit in raw.units(metric)
    }


async def settle(clock: ManualClock, seconds: float = 10) -> None:
    for _ in range(round(seconds)):
        await clock.advance(1)


async def refused(call: Awaitable[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await call


@each
async def done(item: object) -> None:
    pass


class FailingService:
    name = "failing"

    async def run(self, stop: Stop) -> None:
        raise RuntimeError("planned")


async def use_streams(kit: Kit, clock: ManualClock) -> None:
    numbers = await kit.create_stream("numbers")
    await numbers.put(1, partition_key="k")
    await numbers.put_batch([("k", 2), ("k", 3)])
    async with numbers.consumer("reader") as consumer:
        async for batch in consumer.batches():
            await consumer.checkpoint(batch)
            break
        await settle(clock)
    first = (await numbers.describe()).shards[0]
    reader = ShardReader(
        kit.engine.streams,
        "numbers",
        first.shard_id,
        "TRIM_HORIZON",
        metrics=GetMetrics("numbers", clock, kit.metrics.raw),
    )
    with suppress(ThroughputExceededError):
        for _ in range(20):
            await reader.read(10)
    await numbers.put_batch([("k", "x" * 999_000)])
    (one,) = await numbers.put_batch([("k", "x" * 999_000)])
    assert isinstance(one.error, ThroughputExceededError)


async def use_retention(kit: Kit, clock: ManualClock) -> None:
    short = await kit.create_stream("short", retention=60)
    await short.put(0, partition_key="k")
    lagging = EventSourceMapping("lagging", source=short, function=done)
    live = kit.start(lagging)
    async with short.consumer("late") as consumer:
        async for batch in consumer.batches():
            await consumer.checkpoint(batch)
            break
    await settle(clock)
    await kit.stop(live)
    await short.put_batch([("k", 1), ("k", 2)])
    await clock.advance(100)
    await short.put(3, partition_key="k")
    kit.start(lagging)
    async with short.consumer("late") as consumer:
        async for _ in consumer.batches():
            break
    await settle(clock)


async def use_queues(kit: Kit, clock: ManualClock) -> None:
    fifo = await kit.create_queue("orders.fifo", fifo=True)
    for _ in range(2):
        await fifo.send(1, group_id="g", deduplication_id="d")
    jobs = await kit.create_queue("jobs")
    await jobs.receive()
    await jobs.send_batch([Send(value=at, group_id="tenant") for at in range(3)])
    (message,) = await jobs.receive()
    await jobs.delete(message)
    # A message that was received often counts for no age.
    await kit.metrics.sample()

    async def fail(message: Any) -> None:
        raise ValueError("planned")

    worker = kit.start(jobs.worker(fail))
    await settle(clock)
    await kit.stop(worker)
    failing = kit.start(FailingService())
    await clock.advance(1)
    assert failing.name in kit.health().errors


async def use_functions(kit: Kit, clock: ManualClock) -> None:
    source = await kit.create_stream("source")
    await source.put_batch([("k", 1), ("skipped", 2)])
    failed = await kit.create_queue("failed")

    @each
    async def picky(record: Record[int]) -> None:
        raise ValueError("planned")

    giving_up = EventSourceMapping(
        "giving-up",
        source=source,
        function=picky,
        filters=[{"partitionKey": ["k"]}],
        maximum_retry_attempts=0,
        on_failure=failed,
        retry=Retry(first=1, jitter=False),
    )
    kit.start(giving_up)

    async def summing(batch: Batch[int]) -> dict[str, Any]:
        if not batch:
            raise ValueError("planned, at the end of the window")
        return {"state": {"count": len(batch)}}

    kit.start(
        EventSourceMapping("windows", source=source, function=summing, tumbling_window=5, maximum_retry_attempts=0)
    )
    jobs = await kit.create_queue("handled")
    await jobs.send(1)
    kit.start(EventSourceMapping("jobs", source=jobs, function=done))
    await settle(clock, 30)

    async def slow(batch: Batch[int]) -> None:
        await clock.sleep_until(clock.now_ms() + 5_000)

    invoker = Invoker(Function(slow, concurrency=1), clock=clock, metrics=kit.metrics.raw)
    calls = [asyncio.create_task(invoker.invoke(batch_of(1))) for _ in range(2)]
    await settle(clock)
    assert [call.result().throttled for call in calls] == [False, True]


async def use_tables(kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index("by-state", partition_key="state")
    items = await kit.create_table(
        "items",
        partition_key="id",
        capacity=Capacity("PROVISIONED", read=1, write=1),
        ttl="expires",
        indexes=[index],
    )
    await items.put({"id": "a", "state": "new", "expires": clock.now_ms() // 1000 + 2})
    await refused(items.put({"id": "a"}, condition=attribute("id").absent()), ConditionFailedError)
    assert [item async for item in items.query("new", index="by-state")]
    await settle(clock)
    with suppress(StreamKitError):
        await kit.write(Put({"id": "b"}, table="items"), Put({"id": "c"}, table="items"))
    with suppress(ThroughputExceededError):
        for _ in range(1_000):
            await items.put({"id": "b"})
    with suppress(ThroughputExceededError):
        for _ in range(1_000):
            await items.get("b")
    await refused(items.put({"wrong": 1}), ValidationError)

    async def broken(*args: Any, **options: Any) -> Any:
        raise StorageError("planned")

    with monkeypatch.context() as patch:
        patch.setattr(kit.engine.tables, "scan", broken)
        await refused(items.scan_page(), StorageError)


async def test_what_its_tables_say_is_published(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[Published] = set()
    async with streamkit.open("memory:", clock=clock, limits=Limits.aws()) as kit:
        await use_streams(kit, clock)
        await use_tables(kit, clock, monkeypatch)
        found |= await published(kit)
    with suppress(StreamKitError):
        async with streamkit.open("memory:", clock=clock) as kit:
            await use_retention(kit, clock)
            await use_queues(kit, clock)
            await use_functions(kit, clock)
            found |= await published(kit)
    assert sorted(documented() - found) == []
    assert sorted(found - documented()) == []

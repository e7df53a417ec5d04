"""The main pipeline: stream, filter, transform, table, each record exactly once; and how it scales."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.measure import Chart, Figures, Lane, Setting, Workload, chunks, rate, verify
from benchmarks.store import open_store
from benchmarks.stream import BATCH, NAME, SHARDS, SYNCED
from streamkit import EventSourceMapping, Kit, Message, Record, Stream, Table, Update, each

CUSTOMERS = 5_000
KEPT = 10
"""One record of so many is kept."""
FILTER = {"data": {"status": ["paid"], "total": [{"numeric": [">=", 100]}]}}
MAPPING_BATCH = 1_000
_FILLER = "x" * 822
_KINDS = ["viewed", "added", "removed", "searched", "returned"]

Order = dict[str, Any]
Pair = tuple[str, Order]


def order(at: int) -> Order:
    """The order at a place: 1 KiB of JSON, kept by the filter if its place is a multiple of ``KEPT``."""
    kept = at % KEPT == 0
    return {
        "order": at,
        # Of those that are dropped every other one fails by its status, the rest by their total.
        "status": "paid" if kept or at % 2 else _KINDS[at % len(_KINDS)],
        "total": 100 + at % 900 if kept else at % 100,
        "customer": {"id": at % CUSTOMERS, "name": f"customer {at % CUSTOMERS}", "tags": ["a", "b", "c"]},
        "lines": [
            {"sku": f"sku-{at % 97}", "count": 1 + at % 3, "price": 9.5},
            {"sku": "sku-x", "count": 1, "price": 1},
        ],
        "note": _FILLER,
    }


def orders(count: int) -> list[list[Pair]]:
    """Prepared, in batches, keyed by customer."""
    return [[(f"customer-{at % CUSTOMERS}", order(at)) for at in chunk] for chunk in chunks(count, BATCH)]


def item_of(found: Order) -> Update:
    """The item of a kept order; ``seen`` counts how often it took effect."""
    lines = sum(line["count"] for line in found["lines"])
    return Update(
        key={"order": found["order"]},
        set={"customer": found["customer"]["name"], "total": found["total"], "lines": lines},
        add={"seen": 1},
    )


@each
async def total(record: Record[Order]) -> Update:
    """Of a record."""
    return item_of(record.value)


@each
async def total_of_message(message: Message[Order]) -> Update:
    """Of a message."""
    return item_of(message.value)


def expected(count: int) -> dict[int, dict[str, Any]]:
    """What must be in the table, derived without the library."""
    return {
        at: {
            "order": at,
            "customer": f"customer {at % CUSTOMERS}",
            "total": 100 + at % 900,
            "lines": 2 + at % 3,
            "seen": 1,
        }
        for at in range(0, count, KEPT)
    }


async def verify_table(setting: Setting, name: str, count: int) -> None:
    """Open the store once more and see that each kept order is there and took effect once, and nothing else is."""
    async with open_store(setting) as kit:
        found = {item["order"]: item async for item in kit.table(name).scan()}
    wanted = expected(count)
    wrong = [at for at in wanted.keys() | found.keys() if wanted.get(at) != found.get(at)]
    verify(not wrong, f"table {name}: {len(wrong):,} of {len(wanted):,} orders are missing, wrong, or counted twice")


def mapping(name: str, stream: Stream[Order], table: Table) -> EventSourceMapping:
    """What is measured."""
    return EventSourceMapping(
        name, source=stream, filters=[FILTER], function=total, sink=table, batch_size=MAPPING_BATCH
    )


async def _tables(kit: Kit, names: Sequence[str]) -> list[Table]:
    return [await kit.create_table(name, partition_key="order") for name in names]


async def _beside(setting: Setting) -> Figures:
    """From the first put until the last kept order is in the table, put and handled side by side."""
    count = setting.sized(120, 3) * BATCH
    batches = orders(count)
    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS)
        (table,) = await _tables(kit, ["paid"])
        started = time.perf_counter()
        service = kit.start(mapping("paid", stream, table))
        for batch in batches:
            await stream.put_batch(batch)
        await service.wait_caught_up()
        seconds = time.perf_counter() - started
    await verify_table(setting, "paid", count)
    return {"put and mapped": rate(count, seconds)}


def _drain(row: str, *, shards: int = SHARDS, mappings: int = 1) -> Lane:
    """What is in the stream already, handled by so many mappings, each with a table of its own."""

    async def run(setting: Setting) -> Figures:
        count = setting.sized(120, 3) * BATCH
        names = [f"paid-{at}" for at in range(mappings)]
        async with open_store(setting) as kit:
            stream = await kit.create_stream(NAME, shards=shards)
            tables = await _tables(kit, names)
            for batch in orders(count):
                await stream.put_batch(batch)
            started = time.perf_counter()
            services = [kit.start(mapping(table.name, stream, table)) for table in tables]
            await asyncio.gather(*(service.wait_caught_up() for service in services))
            seconds = time.perf_counter() - started
        for name in names:
            await verify_table(setting, name, count)
        return {row: rate(count * mappings, seconds)}

    return Lane(run, SYNCED)


async def _by_hand(setting: Setting) -> Figures:
    """The same with a consumer and a loop of one's own: no retries, and at least once."""
    count = setting.sized(120, 3) * BATCH
    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS)
        (table,) = await _tables(kit, ["paid"])
        for batch in orders(count):
            await stream.put_batch(batch)
        raw = kit.stream(NAME, type=bytes)
        decode = msgspec.json.Decoder().decode
        started = time.perf_counter()
        seen = 0
        async with raw.consumer("by-hand") as consumer:
            async for found in consumer.batches(max_records=MAPPING_BATCH):
                writes = []
                for data_of in found.values:
                    value = decode(data_of)
                    if value["status"] == "paid" and value["total"] >= 100:
                        lines = sum(line["count"] for line in value["lines"])
                        item = {"customer": value["customer"]["name"], "total": value["total"], "lines": lines}
                        writes.append({"order": value["order"], **item, "seen": 1})
                if writes:
                    await table.put_batch(writes)
                await consumer.checkpoint(found)
                seen += len(found)
                if seen == count:
                    break
        seconds = time.perf_counter() - started
    await verify_table(setting, "paid", count)
    return {"by hand, at least once": rate(count, seconds)}


async def _from_queue(setting: Setting) -> Figures:
    """Messages that wait, handled and deleted by one mapping: its effect and the deletion are one commit."""
    count = setting.sized(40, 3) * BATCH
    async with open_store(setting) as kit:
        queue = await kit.create_queue("orders", visibility_timeout=600)
        (table,) = await _tables(kit, ["paid"])
        for batch in orders(count):
            await queue.send_batch([value for _, value in batch])
        from_queue = EventSourceMapping(
            "paid",
            source=queue,
            filters=[{"body": FILTER["data"]}],
            function=total_of_message,
            sink=table,
        )
        started = time.perf_counter()
        service = kit.start(from_queue)
        await service.wait_caught_up()
        seconds = time.perf_counter() - started
    await verify_table(setting, "paid", count)
    return {"from a queue": rate(count, seconds, "messages/s")}


_SHARD_COUNTS = (1, 4, 16, 64)
_MAPPING_COUNTS = (1, 2, 4, 8)

END_TO_END = (
    Workload(
        "end_to_end",
        f"stream, filter, transform, table: 1 KiB JSON, {100 // KEPT} % kept, exactly once, {SHARDS} shards",
        [Lane(_beside, SYNCED), _drain("mapped, put before"), Lane(_by_hand, SYNCED)],
        compared=("by hand, at least once",),
    ),
    Workload(
        "end_to_end",
        "the same by shards: records/s of one mapping",
        [_drain(f"{shards} shards", shards=shards) for shards in _SHARD_COUNTS],
        charts=[
            Chart(
                "Records/s of one mapping by the number of shards",
                "shards",
                {"mapped": {shards: f"{shards} shards" for shards in _SHARD_COUNTS}},
            )
        ],
    ),
    Workload(
        "end_to_end",
        "the same by mappings: records/s handled by all of them",
        [_drain(f"{mappings} mappings", mappings=mappings) for mappings in _MAPPING_COUNTS],
        charts=[
            Chart(
                "Records/s of all mappings together by how many there are",
                "mappings",
                {"mapped": {mappings: f"{mappings} mappings" for mappings in _MAPPING_COUNTS}},
            )
        ],
    ),
    Workload("mapping_queue", "the same from a queue, in batches of ten", [Lane(_from_queue, SYNCED)]),
)

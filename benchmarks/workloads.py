"""The hot paths of step one: append, single puts, read back, queue cycle, table put; and what an import costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import streamkit
from benchmarks.measure import Round, Setting, Workload, verify
from streamkit import Kit, Stream

KEYS = 1000
PAYLOAD = 1024
SHARDS = 4


def _payloads(first: int, count: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Records whose payload begins with their place in the order of all."""
    for at in range(first, first + count):
        yield f"key-{at % KEYS}", b"%020d" % at + b"x" * (size - 20)


async def _verify_stream(setting: Setting, expected: int) -> None:
    """Reopen, read everything: nothing lost or doubled, and every key in the order of its puts."""
    async with streamkit.open(setting.directory / "data") as kit:
        last: dict[str, int] = {}
        count = 0
        async for record in kit.stream("orders", type=bytes).records():
            at = int(record.data[:20])
            verify(at > last.get(record.partition_key, -1), f"record {at} of {record.partition_key} is out of order")
            last[record.partition_key] = at
            count += 1
        verify(count == expected, f"{expected:,} records were acknowledged and {count:,} are there")


async def _orders(kit: Kit) -> Stream[bytes]:
    return await kit.create_stream("orders", shards=SHARDS, type=bytes)


def append(size: int) -> Workload:
    """Batches of 500 on 4 shards, one after another."""

    async def run(setting: Setting) -> Round:
        batches = setting.sized(200, 4)
        prepared = [list(_payloads(at * 500, 500, size)) for at in range(batches)]
        async with streamkit.open(setting.directory / "data", durability=setting.durability) as kit:
            orders = await _orders(kit)
            started = time.perf_counter()
            for batch in prepared:
                await orders.put_batch(batch)
            seconds = time.perf_counter() - started
        await _verify_stream(setting, batches * 500)
        return Round(batches * 500, seconds)

    return Workload("append", f"put_batch of 500 x {size} B, {SHARDS} shards", "records/s", run)


async def puts(setting: Setting) -> Round:
    """256 tasks, each awaiting one put after another."""
    each = setting.sized(100, 2)
    async with streamkit.open(setting.directory / "data", durability=setting.durability) as kit:
        orders = await _orders(kit)

        async def one(task: int) -> None:
            for at in range(each):
                payload = b"%020d" % at + b"x" * (PAYLOAD - 20)
                await orders.put(payload, partition_key=f"key-{task}")

        started = time.perf_counter()
        await asyncio.gather(*(one(task) for task in range(256)))
        seconds = time.perf_counter() - started
    await _verify_stream(setting, each * 256)
    return Round(each * 256, seconds)


async def read(setting: Setting) -> Round:
    """Everything back as records, from memory and from files, shard by shard."""
    count = setting.sized(200_000, 2000) // 500 * 500
    async with streamkit.open(setting.directory / "data", durability="memory") as kit:
        orders = await _orders(kit)
        for at in range(0, count, 500):
            await orders.put_batch(list(_payloads(at, 500, PAYLOAD)))
        started = time.perf_counter()
        seen = [record async for record in orders.records()]
        seconds = time.perf_counter() - started
    last: dict[str, int] = {}
    for record in seen:
        at = int(record.data[:20])
        verify(at > last.get(record.partition_key, -1), f"record {at} of {record.partition_key} is out of order")
        last[record.partition_key] = at
    verify(len(seen) == count, f"{count:,} records were put and {len(seen):,} were read")
    return Round(count, seconds)


async def queue(setting: Setting) -> Round:
    """32 clients, each sending, receiving and deleting one message after another."""
    each = setting.sized(150, 3)
    received: list[bytes] = []
    async with streamkit.open(setting.directory / "data", durability=setting.durability) as kit:
        jobs = await kit.create_queue("jobs", type=bytes)

        async def one(client: int) -> None:
            for at in range(each):
                await jobs.send(b"%06d-%013d" % (client, at) + b"x" * (PAYLOAD - 20))
                (message,) = await jobs.receive(wait=20)
                received.append(message.body[:20])
                await jobs.delete(message)

        started = time.perf_counter()
        await asyncio.gather(*(one(client) for client in range(32)))
        seconds = time.perf_counter() - started
    verify(len(received) == len(set(received)) == each * 32, "a message was lost or handed out twice")
    async with streamkit.open(setting.directory / "data") as kit:
        left = await kit.queue("jobs").describe()
        verify(left.visible + left.not_visible == 0, "a deleted message came back")
    return Round(each * 32, seconds)


async def table(setting: Setting) -> Round:
    """Atomic batches of 500 items."""
    batches = setting.sized(60, 3)
    prepared = [[{"id": at * 500 + i, "value": "x" * 80} for i in range(500)] for at in range(batches)]
    async with streamkit.open(setting.directory / "data", durability=setting.durability) as kit:
        items = await kit.create_table("items", partition_key="id")
        started = time.perf_counter()
        for batch in prepared:
            await items.put_batch(batch)
        seconds = time.perf_counter() - started
    async with streamkit.open(setting.directory / "data") as kit:
        found = [item["id"] async for item in kit.table("items").scan()]
        verify(found == list(range(batches * 500)), f"{batches * 500:,} items were put and {len(found):,} are there")
    return Round(batches * 500, seconds)


async def import_cost(setting: Setting) -> Round:
    """How often ``import asyncio, msgspec`` fits into ``import streamkit``: at most 1.5 times."""

    def seconds(modules: str) -> float:
        code = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout)

    def measure() -> float:
        pairs = [(seconds("streamkit"), seconds("asyncio, msgspec")) for _ in range(setting.sized(9, 3))]
        return statistics.median(ours / theirs for ours, theirs in pairs)

    ratio = await asyncio.to_thread(measure)
    return Round(100, 100 / ratio)


WORKLOADS = (
    append(PAYLOAD),
    append(100),
    Workload("puts", "256 tasks of single awaited puts of 1 KiB", "records/s", puts),
    Workload("read", "read back as Records, 1 KiB", "records/s", read),
    Workload("queue", "send, receive, delete: 32 clients, 1 KiB", "messages/s", queue),
    Workload("table", "put_batch of 500 items of 100 B", "items/s", table),
    Workload("import", "import streamkit / import asyncio, msgspec", "x", import_cost),
)

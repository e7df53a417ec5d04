"""The other services: a queue's cycle, a table's puts; and what an import costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

import streamkit
from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, chunks, rate, verify
from benchmarks.stream import BATCH, SYNCED

_CLIENTS = 32
_SIZE = 1024


async def _queue(setting: Setting) -> Figures:
    """Clients that each send, receive and delete one message after another."""
    each = setting.sized(150, 3)
    count = each * _CLIENTS
    received: list[bytes] = []
    async with streamkit.open(setting.directory / "data", durability=setting.durability) as kit:
        jobs = await kit.create_queue("jobs", type=bytes)

        async def one(client: int) -> None:
            for at in range(each):
                await jobs.send(b"%020d" % (client * each + at) + b"x" * (_SIZE - 20))
                (message,) = await jobs.receive(wait=20)
                received.append(message.body[:20])
                await jobs.delete(message)

        started = time.perf_counter()
        await asyncio.gather(*map(one, range(_CLIENTS)))
        seconds = time.perf_counter() - started
    expected = [b"%020d" % place for place in range(count)]
    verify(sorted(received) == expected, "a message was lost, changed or handed out twice")
    async with streamkit.open(setting.directory / "data") as kit:
        left = await kit.queue("jobs").describe()
        verify(left.visible + left.not_visible == 0, "a deleted message came back")
    return {"streamkit": rate(count, seconds, "messages/s")}


async def _table(setting: Setting) -> Figures:
    """Atomic batches of items."""
    count = setting.sized(60, 3) * BATCH
    prepared = [[{"id": at, "value": f"{at:080d}"} for at in chunk] for chunk in chunks(count, BATCH)]
    async with streamkit.open(setting.directory / "data", durability=setting.durability) as kit:
        items = await kit.create_table("items", partition_key="id")
        started = time.perf_counter()
        for batch in prepared:
            await items.put_batch(batch)
        seconds = time.perf_counter() - started
    async with streamkit.open(setting.directory / "data") as kit:
        found = [dict(item) async for item in kit.table("items").scan()]
        expected = [item for batch in prepared for item in batch]
        verify(found == expected, f"{count:,} items were put, and the {len(found):,} that are there are others")
    return {"streamkit": rate(count, seconds, "items/s")}


def _import_seconds(modules: str) -> float:
    code = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _import(name: str, modules: str) -> Lane:
    async def run(setting: Setting) -> Figures:
        times = await asyncio.to_thread(lambda: [_import_seconds(modules) for _ in range(setting.sized(5, 1))])
        return {name: Figure(statistics.median(times) * 1000, "ms")}

    return Lane(run, "")


SERVICES = (
    Workload("queue", f"send, receive, delete: {_CLIENTS} clients, {_SIZE} B", [Lane(_queue, SYNCED)]),
    Workload("table", f"put_batch of {BATCH} items of 100 B", [Lane(_table, SYNCED)]),
    Workload(
        "import",
        "what importing costs",
        [_import("import streamkit", "streamkit"), _import("import asyncio, msgspec", "asyncio, msgspec")],
        (Target("import asyncio, msgspec", at_most=1.5),),
    ),
)

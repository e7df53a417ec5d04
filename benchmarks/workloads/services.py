"""A table's puts; and what an import costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

import streamkit
from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, chunks, rate, verify
from benchmarks.stream import BATCH, SYNCED


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
    Workload("table", f"put_batch of {BATCH} items of 100 B", [Lane(_table, SYNCED)]),
    Workload(
        "import",
        "what importing costs",
        [_import("import streamkit", "streamkit"), _import("import asyncio, msgspec", "asyncio, msgspec")],
        (Target("import asyncio, msgspec", at_most=1.5),),
    ),
)

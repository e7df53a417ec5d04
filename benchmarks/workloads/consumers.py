"""Consumers of one stream in one process: what each costs the others."""

from __future__ import annotations

import asyncio
import gc
import time

from benchmarks.measure import Chart, Figures, Lane, Setting, Workload, rate
from benchmarks.order import Pair, Records
from benchmarks.store import open_store
from benchmarks.stream import BATCH, SHARDS, create, fill
from streamkit import Stream

_RECORDS = Records(100)
_COUNTS = (1, 2, 4, 8, 16)
_PAGE = 1000


async def _consumed(stream: Stream[bytes], name: str, count: int) -> list[Pair]:
    """All of it, under a name of its own, and a checkpoint at the end."""
    found: list[Pair] = []
    async with stream.consumer(name) as consumer:
        batches = consumer.batches(max_records=_PAGE)
        while len(found) < count:
            batch = await anext(batches)
            found += [(record.partition_key, record.data) for record in batch]
        await consumer.checkpoint(batch)
    return found


def _over(consumers: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        count = setting.sized(100, 2) * BATCH
        async with open_store(setting) as kit:
            stream = await create(kit)
            await fill(stream, _RECORDS, range(count))
            gc.collect()
            started = time.perf_counter()
            all_found = await asyncio.gather(*(_consumed(stream, f"consumer-{at}", count) for at in range(consumers)))
            seconds = time.perf_counter() - started
        for found in all_found:
            _RECORDS.verify(found, count)
        return {_together(consumers): rate(count * consumers, seconds), _each(consumers): rate(count, seconds)}

    return Lane(run, "")


def _together(consumers: int) -> str:
    return f"{consumers} consumer{'s' if consumers > 1 else ''}, together"


def _each(consumers: int) -> str:
    return f"{consumers} consumer{'s' if consumers > 1 else ''}, each"


CONSUMERS = (
    Workload(
        "consumers",
        f"the same records, 100 B on {SHARDS} shards, read by consumers at once, {_PAGE:,} a batch",
        [_over(consumers) for consumers in _COUNTS],
        compared=[_together(consumers) for consumers in _COUNTS[1:]],
        charts=[
            Chart(
                "By consumers of the same stream",
                "consumers",
                {
                    "together": {consumers: _together(consumers) for consumers in _COUNTS},
                    "each": {consumers: _each(consumers) for consumers in _COUNTS},
                },
            )
        ],
    ),
)

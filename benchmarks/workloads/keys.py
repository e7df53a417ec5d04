"""Keys that are not all as frequent: what a hot one costs those who put, and those who read."""

from __future__ import annotations

import gc
import time

from benchmarks.keys import ZIPF, Distribution, hot, uniform, zipf
from benchmarks.measure import Chart, Figures, Lane, Setting, Workload, chunks, rate
from benchmarks.store import open_store
from benchmarks.stream import BATCH, SHARDS, SYNCED, create, verify_stream

_KEYS = 10_000
_SIZE = 100
_UNIFORM = uniform(_KEYS)
_DISTRIBUTIONS = (_UNIFORM, zipf(_KEYS), hot(_KEYS, 0.9), hot(_KEYS, 1.0))


def _over(distribution: Distribution) -> Lane:
    async def run(setting: Setting) -> Figures:
        count = setting.sized(200, 4) * BATCH
        records = distribution.records(_SIZE, count)
        prepared = [records.batch(chunk) for chunk in chunks(count, BATCH)]
        async with open_store(setting) as kit:
            stream = await create(kit)
            gc.collect()
            started = time.perf_counter()
            for batch in prepared:
                await stream.put_batch(batch)
            put = time.perf_counter() - started
            gc.collect()
            started = time.perf_counter()
            found = [record async for record in stream.records()]
            read = time.perf_counter() - started
            records.verify(((record.partition_key, record.data) for record in found), count)
            del found
        await verify_stream(setting, records, count)
        return {_put(distribution): rate(count, put), _read(distribution): rate(count, read)}

    return Lane(run, SYNCED)


def _put(distribution: Distribution) -> str:
    return f"put, {distribution.name}"


def _read(distribution: Distribution) -> str:
    return f"read, {distribution.name}"


KEYS = (
    Workload(
        "keys",
        f"put_batch of {BATCH} x {_SIZE} B and reading back, {SHARDS} shards, by the distribution of {_KEYS:,} keys",
        [_over(distribution) for distribution in _DISTRIBUTIONS],
        compared=[_put(distribution) for distribution in _DISTRIBUTIONS[1:]],
        charts=[
            Chart(
                f"By what the most frequent of {_KEYS:,} keys has: as much as any, as by Zipf (s = {ZIPF}), most, all",
                "of all records (%)",
                {
                    what: {distribution.hottest: row(distribution) for distribution in _DISTRIBUTIONS}
                    for what, row in (("put", _put), ("read", _read))
                },
            )
        ],
    ),
)

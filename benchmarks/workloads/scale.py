"""Much of it: shards, streams, and gigabytes that pass through."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

from benchmarks.child import RECORDS
from benchmarks.measure import ON_DISK, Chart, Figure, Figures, Lane, Setting, Target, Workload, chunks, verify
from benchmarks.order import Records
from benchmarks.samples import costs, memory, peak, samples_of
from benchmarks.store import open_store
from benchmarks.stream import BATCH, SYNCED, create, verify_stream

_SMALL = Records(100)
_MIB = 1024 * 1024
_RETENTION = 5.0  # Longer than a disk that is written to at full speed stands still, or records expire unread.
_SHORT = f"retention {_RETENTION:g} s"


# ---- shards


def _over_shards(shards: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        count = setting.sized(200, 8) * BATCH
        prepared = [_SMALL.batch(chunk) for chunk in chunks(count, BATCH)]
        async with open_store(setting) as kit:
            stream = await create(kit, shards)
            gc.collect()
            started = time.perf_counter()
            for batch in prepared:
                await stream.put_batch(batch)
            put = time.perf_counter() - started
            started = time.perf_counter()
            found = [record async for record in stream.records()]
            read = time.perf_counter() - started
            _SMALL.verify(((record.partition_key, record.data) for record in found), count)
        await verify_stream(setting, _SMALL, count)
        return {
            f"put, {shards} shards": Figure(put / count * 1e9, "ns/record"),
            f"read, {shards} shards": Figure(read / count * 1e9, "ns/record"),
        }

    return Lane(run, SYNCED)


# ---- streams

_AT_ONCE = 50
_EACH = 50


def _over_streams(streams: int) -> Lane:
    """Batches of 50 records, 50 of them at once, taking turns through all streams."""

    async def run(setting: Setting) -> Figures:
        many = setting.sized(streams, max(1, streams // 100))
        turns = setting.sized(10_000, 100)
        records = Records(100, 1)
        names = [f"stream-{at}" for at in range(many)]
        # Record n of a stream is the n-th that it gets, whoever else gets one between.
        batches = [
            (at % many, records.batch(range(at // many * _EACH, (at // many + 1) * _EACH))) for at in range(turns)
        ]
        async with open_store(setting) as kit:
            started = time.perf_counter()
            handles = []
            for chunk in chunks(many, _AT_ONCE):
                handles += await asyncio.gather(
                    *(kit.create_stream(name, type=bytes) for name in names[chunk.start : chunk.stop])
                )
            created = time.perf_counter() - started
            gc.collect()
            started = time.perf_counter()
            for chunk in chunks(turns, _AT_ONCE):
                await asyncio.gather(*(handles[at].put_batch(batch) for at, batch in batches[chunk.start : chunk.stop]))
            put = time.perf_counter() - started
        started = time.perf_counter()
        async with open_store(setting) as kit:
            opened = time.perf_counter() - started
            for at, name in enumerate(names):
                found = [(record.partition_key, record.data) async for record in kit.stream(name, type=bytes).records()]
                records.verify(found, len(range(at, turns, many)) * _EACH)
        return {
            f"put, {streams:,} streams": Figure(put / (turns * _EACH) * 1e9, "ns/record"),
            f"creating one of {streams:,}": Figure(created / many * 1e6, "us"),
            f"reopening {streams:,}": Figure(opened * 1e3, "ms"),
        }

    return Lane(run, SYNCED)


# ---- memory


def _passing(named: str, retention: float | None) -> Lane:
    async def run(setting: Setting) -> Figures:
        total = 0.03 if setting.small else setting.gigabytes
        count = int(total * 1e9 / RECORDS.size) // BATCH * BATCH
        command = ("passing", str(setting.directory / "data"), str(count), "" if retention is None else str(retention))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.child", *command, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        verify(process.returncode == 0, f"the process that passed records on ended with {process.returncode}")
        said = json.loads(output)
        verify(said["seen"] == count, f"{count:,} records were put and {said['seen']:,} came out")
        samples = samples_of(said)
        on_disk = sum(path.stat().st_size for path in (setting.directory / "data").rglob("*") if path.is_file())
        second, last = peak(samples, 2), peak(samples, 4)
        return {
            f"{named}: peak, last quarter": Figure(last / _MIB, "MiB"),
            f"{named}: peak, second quarter": Figure(second / _MIB, "MiB"),
            f"{named}: last / second": Figure(last / second, ""),
            f"{named}: through": Figure(count * RECORDS.size / _MIB / said["seconds"], "MiB/s"),
            f"{named}: on disk when closed": Figure(on_disk / _MIB, "MiB"),
            **{_quarter(named, at): Figure(cost * 1e9, "ns/record") for at, cost in enumerate(costs(samples), 1)},
            f"{named}: resident memory": memory(samples),
        }

    return Lane(run, SYNCED, engines=ON_DISK)


def _quarter(named: str, quarter: int) -> str:
    return f"{named}: put and consumed, quarter {quarter}"


_SHARD_COUNTS = (256, 64, 16, 4, 1)
_STREAM_COUNTS = (10_000, 100, 1)

SCALE = (
    Workload(
        "shards",
        f"put_batch of {BATCH} x 100 B, and reading all back, by the number of shards",
        [_over_shards(shards) for shards in _SHARD_COUNTS],
        (),
        [f"put, {shards} shards" for shards in _SHARD_COUNTS[1:]],
        [
            Chart(
                "Cost of a record by the number of shards, ns",
                "shards",
                {
                    what: {shards: f"{what}, {shards} shards" for shards in _SHARD_COUNTS[::-1]}
                    for what in ("put", "read")
                },
            )
        ],
    ),
    Workload(
        "streams",
        f"{_AT_ONCE} put_batch of {_EACH} x 100 B at once, by the number of streams",
        [_over_streams(streams) for streams in _STREAM_COUNTS],
        (),
        [f"put, {streams:,} streams" for streams in _STREAM_COUNTS[1:]],
        [
            Chart(title, "streams", {what: {streams: f"{what} {streams:,}{of}" for streams in _STREAM_COUNTS[::-1]}})
            for title, what, of in (
                ("Cost of a record by the number of streams, ns", "put,", " streams"),
                ("Creating a stream by how many there are, us", "creating one of", ""),
                ("Reopening a store by the number of streams, ms", "reopening", ""),
            )
        ],
    ),
    Workload(
        "memory",
        "resident memory of a process while --gigabytes pass through it, put and consumed",
        [_passing("kept", None), _passing(_SHORT, _RETENTION)],
        tuple(
            Target(f"{named}: last / second", at_most=1.1, ratio=False, all_counts=True) for named in ("kept", _SHORT)
        ),
        charts=[
            Chart(
                "Cost of a record, put and consumed, by what the store has taken before, ns",
                "of --gigabytes (%)",
                {
                    named: {quarter * 25: _quarter(named, quarter) for quarter in range(1, 5)}
                    for named in ("kept", _SHORT)
                },
            )
        ],
    ),
)

"""Waiting: from a put to its consumer, and for a commit while the event loop or the disk is busy."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from benchmarks import bare
from benchmarks.measure import ON_DISK, Figure, Figures, Lane, Latencies, Setting, Target, Workload, percentile
from benchmarks.order import Records
from benchmarks.store import open_store
from benchmarks.stream import SYNCED, create, verify_open, verify_stream
from streamkit import Kit, Stream
from streamkit.engines.file.files import DiskFiles

_RECORDS = Records(1024)
_RATE = 1000
_SLOW_SYNC = 0.02
_GAP = "event-loop gap, between turns of the task that spins"


def _us(values: Sequence[float], share: float) -> Figure:
    return Figure(percentile(sorted(values), share) * 1e6, "us")


def _ms(values: Sequence[float], share: float = 1.0) -> Figure:
    return Figure(percentile(sorted(values), share) * 1e3, "ms")


# ---- put to consumer


async def _deliver(setting: Setting) -> Figures:
    """Puts at their own pace, whether or not the ones before were answered; one consumer that waits."""
    count = setting.sized(3 * _RATE, 100)
    put_at = [0.0] * count
    latencies: list[float] = []
    found: list[tuple[str, bytes]] = []

    async def consume(stream: Stream[bytes], entered: asyncio.Event) -> None:
        async with stream.consumer("waiting") as consumer:
            entered.set()
            batches = consumer.batches()
            while len(found) < count:
                batch = await anext(batches)
                now = time.perf_counter()
                for record in batch:
                    latencies.append(now - put_at[int(record.data[:20])])
                    found.append((record.partition_key, record.data))

    async def put(stream: Stream[bytes], place: int) -> None:
        put_at[place] = time.perf_counter()
        await stream.put(_RECORDS.payload(place), partition_key=_RECORDS.key(place))

    async with open_store(setting) as kit:
        stream = await create(kit)
        async with asyncio.TaskGroup() as tasks:
            entered = asyncio.Event()
            tasks.create_task(consume(stream, entered))
            await entered.wait()
            due = time.perf_counter()
            for place in range(count):
                due += 1 / _RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(put(stream, place))
        _RECORDS.verify(found, count)
    await verify_stream(setting, _RECORDS, count)
    return {
        "put to consumer, p50": _us(latencies, 0.5),
        "put to consumer, p99": _us(latencies, 0.99),
        "put to consumer": Latencies(latencies),
    }


async def _paced_syncs(setting: Setting) -> Figures:
    """The same pace of records, written and synced by nobody else's rules."""
    times = bare.sync_seconds(setting.directory, count=setting.sized(3 * _RATE, 100), pause=1 / _RATE)
    return {
        "bare sync at that pace, p50": _us(times, 0.5),
        "bare sync at that pace, p99": _us(times, 0.99),
        "bare sync at that pace": Latencies(times),
    }


# ---- commits beside a busy loop


class _SlowFiles(DiskFiles):
    """A disk whose syncs take their time in the thread that asks for them."""

    def sync(self, fd: int) -> None:
        time.sleep(_SLOW_SYNC)
        super().sync(fd)


@contextlib.asynccontextmanager
async def _busy_loop(gaps: list[float]) -> AsyncIterator[None]:
    """The event loop spins as long as the block lasts; ``gaps`` gets the seconds between its turns."""

    async def spin() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    spinning = asyncio.create_task(spin())
    try:
        yield
    finally:
        spinning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await spinning


async def _commits(kit: Kit, count: int) -> tuple[list[float], list[float]]:
    """Times of single puts one after another, and gaps of the busy loop beside them."""
    stream = await create(kit)
    times: list[float] = []
    gaps: list[float] = []
    async with _busy_loop(gaps):
        for place in range(count):
            before = time.perf_counter()
            await stream.put(_RECORDS.payload(place), partition_key=_RECORDS.key(place))
            times.append(time.perf_counter() - before)
    await verify_open(stream, _RECORDS, count)
    return times, gaps


async def _commit(setting: Setting) -> Figures:
    count = setting.sized(3000, 100)
    async with open_store(setting) as kit:
        times, gaps = await _commits(kit, count)
    await verify_stream(setting, _RECORDS, count)
    return {
        "commit, p50": _us(times, 0.5),
        "commit, p99": _us(times, 0.99),
        "slowest commit": _ms(times),
        "commit": Latencies(times),
        _GAP: Latencies(gaps),
    }


async def _bare_commits(setting: Setting) -> Figures:
    times = bare.sync_seconds(setting.directory, count=setting.sized(3000, 100))
    return {"bare sync, p50": _us(times, 0.5), "slowest bare sync": _ms(times), "bare sync": Latencies(times)}


async def _slow_commit(setting: Setting) -> Figures:
    count = setting.sized(150, 10)
    async with open_store(setting, durability="fsync", files=_SlowFiles()) as kit:
        times, gaps = await _commits(kit, count)
    await verify_stream(setting, _RECORDS, count)
    return {
        "commit on a slow disk, p50": _ms(times, 0.5),
        "slowest commit on it": _ms(times),
        "longest the loop stood still": _ms(gaps),
        "commit on a slow disk": Latencies(times),
        _GAP: Latencies(gaps),
    }


async def _slow_sync(setting: Setting) -> Figures:
    return {"that disk's sync": Figure(_SLOW_SYNC * 1000, "ms")}


LATENCY = (
    Workload(
        "deliver",
        f"from put to consumer, {_RATE:,} records of 1024 B a second",
        [Lane(_deliver, SYNCED), Lane(_paced_syncs, "fdatasync of 4 KiB", engines=ON_DISK)],
        (Target("bare sync at that pace, p50", at_most=3.0),),
    ),
    Workload(
        "commit",
        "a put while the event loop is busy (a task that spins)",
        [Lane(_commit, SYNCED), Lane(_bare_commits, "fdatasync of 4 KiB", engines=ON_DISK)],
        (Target("slowest commit", at_most=5.0, ratio=False),),
        ["bare sync, p50"],
    ),
    Workload(
        "commit",
        f"the same on a disk whose sync takes {_SLOW_SYNC * 1000:.0f} ms",
        [Lane(_slow_commit, SYNCED, engines=ON_DISK), Lane(_slow_sync, "", engines=ON_DISK)],
        (Target("longest the loop stood still", at_most=50.0, ratio=False),),
        ["that disk's sync"],
    ),
)

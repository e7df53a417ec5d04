"""Everything at once: what each part reaches, what slow consumers cost a fast one, how long the loop stands still."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import pairwise

from benchmarks.child import resident_bytes
from benchmarks.figures import Measured
from benchmarks.measure import Checked, Figure, Figures, Lane, Latencies, Setting, Timeline, Workload, percentile, rate
from benchmarks.mix import BATCH, FAST, PRODUCERS, RESTS, TABLES, Mix, open_mix, verify_mix
from benchmarks.order import tasks_verify
from benchmarks.pace import OpenLoop, arrivals, real_time, watched
from benchmarks.stream import SYNCED
from streamkit.limits import MIB

_ALONE = ", no slow ones"
_MEMORY = "resident memory, over time"
_UNDER = "mixed load"
_EVERY = 0.05
"""Seconds between two looks at the memory and at what was done."""


Points = list[tuple[float, float]]
"""(seconds, value)."""


@contextlib.asynccontextmanager
async def sampled(looked_at: Mapping[str, Callable[[], float]], found: dict[str, Points]) -> AsyncIterator[None]:
    """Look at these again and again while the block lasts; ``found`` gets the points of each."""

    began = time.perf_counter()

    def note() -> None:
        for name, value in looked_at.items():
            found.setdefault(name, []).append((time.perf_counter() - began, value()))

    async def look() -> None:
        with real_time() as pace:
            while True:
                note()
                await pace.until(pace.now() + _EVERY)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        note()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def rates(points: Points) -> Points:
    """Of a count that was looked at: how much more it was per second at the end of each time between two looks."""
    return [
        (later, (more - less) / (later - earlier))
        for (earlier, less), (later, more) in pairwise(points)
        if later > earlier
    ]


async def _timed(done: Awaitable[object], started: float) -> float:
    await done
    return time.perf_counter() - started


async def _saturated(mix: Mix, batches: range, named: str) -> tuple[Figures, float]:
    """As fast as everybody can; then the rate of the slowest of those that are to keep up."""
    count = len(batches) * BATCH
    mix.prepare(batches)
    gc.collect()
    started = time.perf_counter()
    put = asyncio.create_task(_timed(mix.produce(batches), started))
    consumed = asyncio.create_task(_timed(mix.seen[FAST].reaches(count), started))
    put_seconds = await put
    slow = {name: tally.count for name, tally in mix.seen.items() if name != FAST}
    mapped, handled, consumed_seconds = await asyncio.gather(
        _timed(mix.all_mapped(), started), _timed(mix.all_handled(), started), consumed
    )
    figures = {
        f"{FAST}{named}": rate(count, consumed_seconds),
        f"put{named}": rate(count, put_seconds),
        f"each mapping{named}": rate(count, mapped),
        f"the worker{named}": rate(len(batches), handled, "messages/s"),
        **{f"{name}{named}": rate(max(seen, 1), put_seconds) for name, seen in slow.items()},
    }
    return figures, count / max(put_seconds, consumed_seconds, mapped, handled)


async def _at_half_the_rate(mix: Mix, batches: range, reached: float, named: str) -> Figures:
    """Batches that are due at random moments, from then until the fast consumer has all of their records."""
    mix.prepare(batches)
    with real_time() as pace:
        mix.measured = loop = OpenLoop(pace, arrivals(reached / BATCH / 2, len(batches), seed=1), batches.start)
        gc.collect()
        await loop.run(mix.put_batch)
        await mix.seen[FAST].reaches(batches.stop * BATCH)
    in_order = sorted(loop.latencies)
    return {
        f"put to {FAST}, p50{named}": Figure(percentile(in_order, 0.5) * 1e6, "us"),
        f"put to {FAST}, p99{named}": Figure(percentile(in_order, 0.99) * 1e6, "us"),
        f"put to {FAST}, at half the rate{named}": Latencies(loop.latencies),
    }


def _lane(rests: Sequence[float], named: str) -> Lane:
    async def run(setting: Setting) -> Figures:
        fast, paced = setting.sized(800, 16), setting.sized(240, 8)
        count = (fast + paced) * BATCH
        figures: dict[str, Measured] = {}
        late: list[float] = []
        with tasks_verify():
            async with open_mix(setting, rests) as mix:
                looked: dict[str, Points] = {}
                async with sampled(_looked_at(mix), looked):
                    with real_time() as pace:
                        async with watched(pace, late):
                            reached, slowest = await _saturated(mix, range(fast), named)
                    figures |= reached
                    figures |= await _at_half_the_rate(mix, range(fast, fast + paced), slowest, named)
                    await mix.finish()
        await verify_mix(setting, count)
        if not named:
            figures |= _watched(late, looked)
            figures |= _checked(count, len(rests) + 1)
        return figures

    return Lane(run, SYNCED)


def _looked_at(mix: Mix) -> dict[str, Callable[[], float]]:
    return {
        _MEMORY: lambda: resident_bytes() / MIB,
        "put": lambda: mix.put.count,
        f"seen by {FAST}": lambda: mix.seen[FAST].count,
        "mapped": lambda: sum(tally.count for tally in mix.mapped.values()),
        "handled by the worker": lambda: len(mix.handled),
    }


def _watched(late: Sequence[float], looked: dict[str, Points]) -> Figures:
    memory = looked.pop(_MEMORY)
    units = {name: "messages/s" if "worker" in name else "records/s" for name in looked}
    return {
        "event-loop gap, p99.9": Figure(percentile(sorted(late), 0.999) * 1e3, "ms"),
        "longest the loop stood still": Figure(max(late) * 1e3, "ms"),
        "event-loop gap, as each millisecond waited": Latencies(late),
        _MEMORY: Timeline("MiB", memory),
        **{f"{name}, over time": Timeline(units[name], rates(points)) for name, points in looked.items()},
    }


def _checked(count: int, consumers: int) -> Figures:
    """What ``Mix.finish`` and ``verify_mix`` found to hold."""
    return {
        "order": Checked("order per key, each record once", _UNDER, count * consumers),
        "tables": Checked("exactly-once counters", _UNDER, count),
        "messages": Checked("each message handled once", _UNDER, count // BATCH),
    }


MIXED = (
    Workload(
        "mixed",
        f"{PRODUCERS} producers, {1 + len(RESTS)} consumers, a worker, {len(TABLES)} mappings at once, {BATCH} x 200 B",
        [_lane(RESTS, ""), _lane((), _ALONE)],
        compared=[f"{FAST}{_ALONE}"],
    ),
)

"""Metrics that are stored: what a minute of ten thousand series costs."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path

from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, verify
from streamkit.engines.base import Engine
from streamkit.engines.registry import open_engine
from streamkit.limits import Limits
from streamkit.metrics.forgetting import MAX_BYTES
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.monitoring.stored import StoredMetrics
from streamkit.testing.clock import ManualClock

_MINUTE_MS = 60_000
_START_MS = 1_700_000_000_000 // _MINUTE_MS * _MINUTE_MS
_MINUTES = 3


class _Turns:
    """How long others had to wait for their turn on the loop, at most."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now

    async def end(self) -> float:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self.longest


async def _open(setting: Setting, clock: ManualClock) -> Engine:
    url = f"file:{setting.directory / 'data'}"
    return await open_engine(url, clock=clock, limits=Limits.relaxed(), durability=setting.durability)


async def _verify(setting: Setting, clock: ManualClock, series: list[Metric], per_minute: int) -> None:
    """Everything is there for who opens it again: of a hundred series each minute, of all that they are there."""
    engine = await _open(setting, clock)
    try:
        stored = StoredMetrics(Metrics(), engine.tables, clock)
        found = await stored.list_metrics()
        verify(set(found) == set(series), f"{len(found)} of {len(series)} series are there")
        expected = [(_START_MS + minute * _MINUTE_MS, per_minute, float(per_minute)) for minute in range(_MINUTES)]
        for metric in series[:: max(1, len(series) // 100)]:
            rows = await stored.rows(metric, "None", 1, (_START_MS, clock.now_ms()))
            verify([row[:3] for row in rows] == expected, f"{metric} has {rows}")
    finally:
        await engine.aclose()


def _lane(row: str, every_seconds: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        series = [Metric.of("bench", "Depth", Queue=f"queue-{at}") for at in range(setting.sized(10_000, 20))]
        clock = ManualClock(_START_MS)
        engine = await _open(setting, clock)
        metrics = Metrics()
        stored = StoredMetrics(metrics, engine.tables, clock)
        used = longest = 0.0
        for minute in range(_MINUTES):
            for second in range(60):
                if second % every_seconds == 0:
                    for metric in series:
                        metrics.put(metric, 1.0, clock.now_ms())
                await clock.advance(1)
            gc.collect()
            started = time.process_time()
            if minute < _MINUTES - 1:
                await stored.flush(clock.now_ms())
                used += time.process_time() - started
            else:
                turns = _Turns()  # It keeps the processor busy, so this minute is not counted.
                await stored.flush(clock.now_ms())
                longest = await turns.end()
            verify(metrics.used_bytes <= MAX_BYTES, f"{metrics.used_bytes:,} bytes of memory are too many")
        await engine.aclose()
        await _verify(setting, clock, series, 60 // every_seconds)
        size = await asyncio.to_thread(_size, setting.directory / "data")
        return {
            row: Figure(used / (_MINUTES - 1), "s/minute"),
            "longest turn": Figure(longest * 1000, "ms"),
            "on disk, per series and minute": Figure(size / len(series) / _MINUTES, "bytes"),
        }

    return Lane(run, "")


def _size(directory: Path) -> int:
    files = [Path(folder) / name for folder, _, names in os.walk(directory / "tables") for name in names]
    return sum(file.stat().st_size for file in files)


_EACH_SECOND = "a sample a second"
METRICS = (
    Workload(
        "metrics",
        "10,000 series are stored: CPU for the flush of a minute, verified when the store is opened again",
        [_lane(_EACH_SECOND, 1), _lane("a sample a minute", 60)],
        [Target(_EACH_SECOND, at_most=4.0, ratio=False)],
    ),
)

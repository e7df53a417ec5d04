"""A crash, or an error, at every single call to the disk: what was flushed is there, and nothing twice."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.engines.file.engine import FileEngine
from streamkit.errors import StorageError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.monitoring.layout import merged
from streamkit.monitoring.stored import StoredMetrics
from streamkit.testing.clock import ManualClock
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import after_crash, close_broken, kept, lost, open_file, opened, torn
from tests.monitoring.storing import HOUR, MINUTE, SENT, START, known

OTHERS = [Metric.of("shop", "Latency", Page=f"page-{number}") for number in range(25)]
"""So many that a flush takes several writes."""


class Run:
    """Puts, flushes and rolls up on a disk that may fail; what of it was answered."""

    def __init__(self, path: Path, files: FaultyFiles) -> None:
        self.path = path
        self.files = files
        self.clock = ManualClock(START)
        self.put = 0
        self.flushed = 0

    async def __call__(self) -> None:
        try:
            engine = await open_file(self.path, self.clock, files=self.files)
        except StorageError:
            return
        try:
            await self._work(engine)
            await engine.aclose()
        except StorageError:
            await close_broken(engine)

    async def _work(self, engine: FileEngine) -> None:
        metrics = Metrics()
        stored = StoredMetrics(metrics, engine.tables, self.clock)
        for step, wait in enumerate((30, 30, 60, 3600, 1)):
            for metric in (SENT, *OTHERS):
                metrics.put(metric, step, self.clock.now_ms())
                metrics.put(metric, 10, self.clock.now_ms() - step * MINUTE)
            self.put += 2
            await self.clock.advance(wait)
            try:
                await stored.flush(self.clock.now_ms() // MINUTE * MINUTE + MINUTE)
            except StorageError:
                # As the service does: it is tried again. A journal that failed fails for good.
                await stored.flush(self.clock.now_ms() // MINUTE * MINUTE + MINUTE)
            self.flushed = self.put
            while await stored.roll_up():
                pass


async def check(run: Run, path: Path) -> None:
    clock = ManualClock(run.clock.now_ms() + 1000)
    async with opened(path, clock) as engine:
        stored = StoredMetrics(Metrics(), engine.tables, clock)
        for _ in range(2):
            for metric in (SENT, *OTHERS[::12]):
                span = START - HOUR, START + 3 * HOUR
                minutes = await stored.rows(metric, "None", 1, span)
                assert run.flushed <= sum(row[1] for row in minutes) <= run.put
                for resolution, width in ((2, 5 * MINUTE), (3, HOUR)):
                    rows = await stored.rows(metric, "None", resolution, span)
                    assert known(rows) == known(merged(minutes, width))
            # And again, when what the process that crashed left was rolled up.
            while await stored.roll_up():
                pass


async def calls_of(path: Path) -> int:
    files = FaultyFiles()
    run = Run(path, files)
    await run()
    assert run.flushed == run.put == 10
    await check(run, path)
    return len(files.calls)


@pytest.mark.parametrize(("name", "survives"), [("lost", lost), ("kept", kept), ("torn", torn(7))])
async def test_a_crash_at_every_call(name: str, survives: Callable[[], bool], tmp_path: Path) -> None:
    calls = await calls_of(tmp_path / "whole")
    assert calls > 40
    flushed = set()
    # Not the same calls each time, so that together they meet more of them.
    for number in range({"lost": 0, "kept": 1, "torn": 2}[name], calls, calls // 16):
        files = FaultyFiles(crash_at=number)
        run = Run(tmp_path / f"{number}", files)
        await run()
        flushed.add(run.flushed)
        await after_crash(files, run.path, tmp_path / f"{number}-after", survives)
        await check(run, tmp_path / f"{number}-after")
    assert len(flushed) > 2


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_an_error_at_every_call(code: int, tmp_path: Path) -> None:
    calls = await calls_of(tmp_path / "whole")
    done = 0
    for number in range(1 if code == errno.EIO else 3, calls, calls // 16):
        run = Run(tmp_path / f"{number}", FaultyFiles(fail={number: code}))
        await run()
        done += run.flushed == run.put == 10
        await check(run, run.path)
    assert done

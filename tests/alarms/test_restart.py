"""An alarm goes on where it was when its kit is opened again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import streamkit
from streamkit import Alarm, Metric
from streamkit.alarms.transition import AlarmTransition
from streamkit.testing.clock import ManualClock

START = 1_700_000_040_000  # on a minute
METRIC = Metric.of("shop", "Errors")


async def test_what_was_put_before_is_looked_at(tmp_path: Path) -> None:
    clock = ManualClock(START)
    alarm = Alarm(
        "errors",
        metric=METRIC,
        statistic="Sum",
        period=300,
        evaluation_periods=3,
        datapoints_to_alarm=2,
        threshold=0,
        comparison="GreaterThanThreshold",
        treat_missing_data="notBreaching",
    )
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        kit.start(alarm)
        for _ in range(2):
            kit.metrics.put(METRIC, 1)
            await clock.advance(300)
    calls: list[AlarmTransition] = []
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        watcher = kit.start(alarm, on_alarm=calls.append)
        async with asyncio.timeout(20):
            while "not evaluated yet" in watcher.explain():  # noqa: ASYNC110 - what comes is no event
                await asyncio.sleep(0)
        assert watcher.state == "ALARM"
        assert watcher.changed_ms == START + 360_000
        assert "All of the latest 2 datapoints breached: 1.0 at 22:15:00, 1.0 at 22:10:00" in watcher.explain()
        await clock.advance(1)
        # The same state again is no change.
        assert calls == []

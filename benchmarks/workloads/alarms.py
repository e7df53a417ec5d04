"""Alarms: what a minute of ten thousand of them costs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import streamkit
from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, verify
from streamkit import Alarm, Kit, Metric
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.metrics.math_query import MetricQuery
from streamkit.testing.clock import ManualClock

_START_MS = 1_700_000_040_000
_EVERY = 10
"""One alarm of so many goes into ALARM and back."""
_MINUTES = 4
"""One good, one bad, then good ones until all are OK again: these are measured."""

Watched = Callable[[int], dict[str, Any]]
"""What the alarm of this number watches."""


def _metric(at: int) -> Metric:
    return Metric.of("bench", "Depth", Queue=f"queue-{at}")


def _plain(statistic: str) -> Watched:
    return lambda at: {"metric": _metric(at), "statistic": statistic, "period": 60}


def _math(at: int) -> dict[str, Any]:
    return {
        "metrics": [
            MetricQuery(id="depth", metric=_metric(at), statistic="Maximum", period=60, return_data=False),
            MetricQuery(id="twice", expression="depth * 2"),
        ]
    }


def _verify_states(watchers: list[AlarmWatcher], minute: int, bad: tuple[int, ...]) -> None:
    for at, watcher in enumerate(watchers):
        expected = "ALARM" if minute in bad and at % _EVERY == 0 else "OK"
        verify(watcher.state == expected, f"{watcher.name} is {watcher.state} and not {expected}, minute {minute}")


async def _minutes(
    kit: Kit, clock: ManualClock, watchers: list[AlarmWatcher], put: Callable[[float], None], bad: tuple[int, ...]
) -> float:
    """Seconds of this process's CPU for one minute; at the end of those that are ``bad`` alarms are in ALARM."""
    values = [1.0, 1.0, 9.0, 1.0, 1.0]
    put(values[0])
    await clock.advance(60)
    _verify_states(watchers, 0, bad)
    gc.collect()
    used = 0.0
    for minute in range(1, 1 + _MINUTES):
        put(values[minute])
        started = time.process_time()
        await clock.advance(60)
        used += time.process_time() - started
        _verify_states(watchers, minute, bad)
    expected = sum(1 + 2 * (at % _EVERY == 0) for at in range(len(watchers)))
    verify(sum(len(watcher.history) for watcher in watchers) == expected, "an alarm changed its state too often")
    verify(kit.health().services == {"alarms": "running"}, "there is not one service that evaluates all")
    return used / _MINUTES


def _lane(row: str, watched: Watched, *, gauges: bool) -> Lane:
    async def run(setting: Setting) -> Figures:
        count = setting.sized(10_000, 50)
        clock = ManualClock(_START_MS)
        async with streamkit.open("memory:", clock=clock) as kit:
            values = [0.0] * count

            def gauge(at: int) -> Callable[[], float]:
                return lambda: values[at]

            def put(value: float) -> None:
                for at in range(count):
                    values[at] = value if at % _EVERY == 0 else 1.0
                    if not gauges:
                        kit.metrics.put(metrics[at], values[at])

            metrics = [_metric(at) for at in range(count)]
            if gauges:
                for at in range(count):
                    kit.metrics.register_gauge(metrics[at], gauge(at))
            more: dict[str, Any] = {"threshold": 5, "comparison": "GreaterThanThreshold"}
            alarms = [Alarm(f"alarm-{at}", **watched(at), **more) for at in range(count)]
            started = time.process_time()
            watchers = [kit.start(alarm) for alarm in alarms]
            await asyncio.sleep(0)
            starting = time.process_time() - started
            # A gauge is read at the edge, where it still is as it was: that counts for the minute which begins.
            used = await _minutes(kit, clock, watchers, put, (2, 3) if gauges else (2,))
        figures = {row: Figure(used, "s/minute")}
        if gauges:
            figures["starting them"] = Figure(starting, "s")
        return figures

    return Lane(run, "")


_OWN_GAUGES = "each has a gauge of its own"
_PUT = "one sample a minute is put for each"
ALARMS = (
    Workload(
        "alarms",
        "10,000 alarms of one minute, a tenth of which change twice in four minutes: CPU for a minute of them",
        [
            _lane(_OWN_GAUGES, _plain("Maximum"), gauges=True),
            _lane(_PUT, _plain("Sum"), gauges=False),
            _lane("percentiles of these", _plain("p90"), gauges=False),
            _lane("metric math on these", _math, gauges=False),
        ],
        [Target(_OWN_GAUGES, at_most=1.0, ratio=False), Target(_PUT, at_most=1.0, ratio=False)],
    ),
)

"""Metric filters on the log of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import Alarm, Kit
from streamkit.metrics.filter_pattern import FilterPattern
from streamkit.metrics.metric import Metric
from streamkit.metrics.metric_filter import MetricFilter, MetricTransformation
from streamkit.monitoring import log_filters
from streamkit.monitoring.log_filters import LogFilters
from streamkit.testing.clock import ManualClock

ERRORS = Metric.of("app", "Errors")
log = logging.getLogger("tests.shop.orders")


def errors(pattern: str = "ERROR", **options: Any) -> MetricFilter:
    options = {"metric_value": 1, "unit": "Count", **options}
    transformation = MetricTransformation(metric_namespace="app", metric_name="Errors", **options)
    return MetricFilter("errors", FilterPattern(pattern), transformation)


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


def count(kit: Kit) -> int:
    total = kit.metrics.total(ERRORS)
    return 0 if total is None else total.sample_count


async def test_what_is_logged_becomes_samples_at_its_instant(kit: Kit, clock: ManualClock) -> None:
    kit.start(LogFilters(kit.metrics, [errors()], logger="tests.shop"))
    await clock.advance(1)
    log.error("disk %s", "full")
    log.warning("fine")
    logging.getLogger("elsewhere").error("not ours")
    await clock.advance(0.3)
    at_ms = clock.now_ms()
    log.error("again")
    await clock.advance(5)
    assert count(kit) == 2
    assert kit.metrics.raw.units(ERRORS) == ["Count"]
    minute = at_ms // 60_000 * 60_000
    (found,) = kit.metrics.raw.statistics(ERRORS, minute, minute + 60_000, 60_000)
    assert (found[0], found[1].sum) == (minute, 2)


async def test_a_minute_has_its_default_value_once_however_often_lines_are_looked_at(
    kit: Kit, clock: ManualClock
) -> None:
    kit.start(LogFilters(kit.metrics, [errors(default_value=0)], logger="tests.shop"))
    await clock.advance(60 - clock.now_ms() % 60_000 / 1000 + 1)
    for minute in (["error", *["warning"] * 8], ["warning"] * 9, ["warning", "error", *["warning"] * 7]):
        for level in minute:
            getattr(log, level)("told")
            await clock.advance(6)
        await clock.advance(6)
    end_ms = clock.now_ms() // 60_000 * 60_000
    found = kit.metrics.raw.statistics(ERRORS, end_ms - 180_000, end_ms, 60_000)
    assert [(each.sample_count, each.sum) for _, each in found] == [(1, 1.0), (1, 0.0), (2, 1.0)]


async def test_an_alarm_when_error_is_logged(kit: Kit, clock: ManualClock) -> None:
    kit.start(LogFilters(kit.metrics, [errors()], logger="tests.shop"))
    alarm = Alarm(
        "errors",
        metric=ERRORS,
        statistic="Sum",
        period=60,
        threshold=1,
        comparison="GreaterThanOrEqualToThreshold",
        treat_missing_data="notBreaching",
    )
    watcher = kit.start(alarm)
    await clock.advance(120)
    assert [change.state for change in watcher.history] == ["OK"]
    log.error("disk full")
    await clock.advance(120)
    assert [change.state for change in watcher.history] == ["OK", "ALARM"]


async def test_exceptions_and_levels_and_formats(kit: Kit, clock: ManualClock) -> None:
    service = LogFilters(kit.metrics, [errors("ZeroDivisionError")], logger="tests.shop", level=logging.ERROR)
    kit.start(service)
    await clock.advance(1)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("it failed")
        log.warning("below the level", exc_info=True)
    await clock.advance(2)
    assert count(kit) == 1
    assert service.counts.events == 1
    service.handler.setFormatter(logging.Formatter("%(message)s"))
    log.error("ZeroDivisionError")
    await clock.advance(2)
    assert count(kit) == 2


async def test_threads_may_log(kit: Kit, clock: ManualClock) -> None:
    kit.start(LogFilters(kit.metrics, [errors()], logger="tests.shop"))
    await clock.advance(1)
    await asyncio.gather(*(asyncio.to_thread(log.error, "from a thread") for _ in range(20)))
    await clock.advance(2)
    assert count(kit) == 20


async def test_the_handler_comes_and_goes_and_nothing_is_left(kit: Kit, clock: ManualClock) -> None:
    logger = logging.getLogger("tests.shop")
    before = list(logger.handlers)
    service = kit.start(LogFilters(kit.metrics, [errors()], logger="tests.shop"))
    await clock.advance(1)
    log.error("just before the stop")
    await kit.stop(service)
    assert count(kit) == 1
    assert logger.handlers == before
    log.error("after it")
    # It may be started again.
    kit.start(service)
    await clock.advance(1)
    log.error("again")
    await clock.advance(2)
    assert count(kit) == 2


async def test_what_there_is_no_room_for_is_dropped_and_counted(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_filters, "MAX_LINES", 10)
    service = kit.start(LogFilters(kit.metrics, [errors()], logger="tests.shop"))
    await clock.advance(1)
    for _ in range(25):
        log.error("flood")
    await clock.advance(2)
    assert (count(kit), service.handler.dropped) == (10, 15)


async def test_what_is_logged_about_lines_is_no_line(kit: Kit, clock: ManualClock) -> None:
    # Each match over the limit of dimensions is told of: that must not become another line to match.
    service = kit.start(
        LogFilters(kit.metrics, [errors("[level, name, word]", dimensions={"Word": "$word"})], logger="")
    )
    await clock.advance(1)
    for at in range(1_100):
        log.error("w%d", at)
    await clock.advance(20)
    assert service.counts.dropped == 100
    assert service.counts.events == 1_100


async def test_a_line_that_cannot_be_formatted_harms_nobody(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    kit.start(LogFilters(kit.metrics, [errors()], logger="tests.shop"))
    await clock.advance(1)
    monkeypatch.setattr(log, "propagate", True)
    record = logging.LogRecord("tests.shop", logging.ERROR, "", 0, "%d", ("no number",), None)
    for handler in logging.getLogger("tests.shop").handlers:
        handler.handle(record)
    log.error("fine")
    await clock.advance(2)
    assert count(kit) == 1

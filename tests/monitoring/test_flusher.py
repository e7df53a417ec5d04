"""A kit on disk stores its metrics each minute and at its end, and has them when it is opened again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

import streamkit
from streamkit import Kit
from streamkit.clock import to_datetime
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.metric import Metric
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.monitoring.flusher import FLUSHES_FAILED
from streamkit.monitoring.layout import rows_of, series_key
from streamkit.testing.clock import ManualClock
from tests.monitoring.storing import full

LATENCY = Metric.of("shop", "Latency", Page="cart")
SENT = Metric.of("AWS/SQS", "NumberOfMessagesSent", QueueName="orders")


async def sums(kit: Kit, metric: Metric, clock: ManualClock) -> list[float]:
    now = to_datetime(clock.now_ms())
    found = await kit.metrics.statistics(metric, now - timedelta(hours=3), now + timedelta(minutes=1), 60)
    return [statistics.sum for _, statistics in found]


async def until_stored(kit: Kit, metric: Metric, many: int) -> None:
    """Writes go through a thread, which the clock does not wait for."""
    for _ in range(2000):
        if "streamkit-metrics" in await kit.tables():
            page = await kit.engine.tables.query("streamkit-metrics", series_key(metric, "None"))
            minutes = [item for item in page.items if item["bucket"].startswith("1m")]
            if sum(row[1] for item in minutes for row in rows_of(item)) >= many:
                return
        await asyncio.sleep(0)
    raise AssertionError("it was never stored")


async def test_metrics_outlive_their_kit(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        queue = await kit.create_queue("orders")
        await queue.send({"n": 1})
        kit.metrics.put(LATENCY, 12, unit="Milliseconds")
    async with streamkit.open(tmp_path, clock=clock) as kit:
        await kit.queue("orders").send({"n": 2})
        assert await sums(kit, SENT, clock) == [2]
        assert await sums(kit, LATENCY, clock) == [12]
        now = to_datetime(clock.now_ms())
        span = now - timedelta(hours=1), now + timedelta(hours=1)
        (point,) = await kit.metrics.datapoints(LATENCY, ["p99", "Sum"], *span, 300)
        assert (point.unit, point.values) == ("Milliseconds", {"p99": 12, "Sum": 12})
        (result,) = await kit.metrics.get_data([MetricQuery(id="m", metric=SENT, statistic="Sum", period=60)], *span)
        assert list(result.series.points.values()) == [2]
        assert {LATENCY, SENT} <= set(await kit.metrics.list_metrics())
        assert kit.metrics.total(SENT) == StatisticSet(1, 1, 1, 1)
        await kit.metrics.warm([SENT], clock.now_ms() - 3_600_000)
        found = kit.metrics.raw.statistics(SENT, clock.now_ms(), clock.now_ms() + 1, 60_000)
        assert [statistics.sum for _, statistics in found] == [2]


async def test_each_minute_is_stored_when_it_is_over(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.metrics.put(LATENCY, 12)
        await clock.advance(61)
        await until_stored(kit, LATENCY, 1)
        assert await sums(kit, LATENCY, clock) == [12]
        assert kit.health().services["streamkit-metrics"] == "running"


async def test_an_idle_kit_writes_nothing(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        await clock.advance(7200)
        assert await kit.tables() == []
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert await kit.tables() == []


async def test_a_kit_that_only_looks_has_the_metrics_of_the_other(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.metrics.put(LATENCY, 12)
        await kit.metrics.flush()
        async with streamkit.open(f"file:{tmp_path}?mode=ro", clock=clock) as looking:
            assert await sums(looking, LATENCY, clock) == [12]
            assert looking.metrics.flusher is None
            looking.metrics.put(LATENCY, 1)
            assert await sums(looking, LATENCY, clock) == [13]
        assert await sums(kit, LATENCY, clock) == [12]


async def test_a_flush_that_fails_is_counted_logged_once_and_done_again(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.metrics.put(LATENCY, 12)
        with monkeypatch.context() as patch:

            async def fails(*_: object) -> None:
                raise full()

            patch.setattr(kit.engine.tables, "create_table", fails)
            await clock.advance(121)
        failed = kit.metrics.total(FLUSHES_FAILED)
        assert failed is not None
        assert failed.sample_count == 2
        assert caplog.text.count("metrics could not be stored") == 1
        assert kit.health().healthy
        await clock.advance(60)
        await until_stored(kit, FLUSHES_FAILED, 2)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert await sums(kit, LATENCY, clock) == [12]
        assert sum(await sums(kit, FLUSHES_FAILED, clock)) == 2


async def test_a_kit_whose_metrics_cannot_be_stored_closes(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kit = await streamkit.open(tmp_path, clock=clock)
    kit.metrics.put(LATENCY, 12)

    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(kit.engine.tables, "create_table", fails)
    await kit.close()
    assert "metrics could not be stored at the end" in caplog.text
    async with streamkit.open(tmp_path, clock=clock) as again:
        assert await again.tables() == []


async def test_the_table_of_metrics_has_no_keeper_and_no_metrics_of_its_own(tmp_path: Path, clock: ManualClock) -> None:
    """Or each deletion of what expired would be a sample that expires."""
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.metrics.put(LATENCY, 12)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert "table:streamkit-metrics" not in kit.health().services
        await clock.advance(4 * 3600)
        assert kit.metrics.raw.list_metrics() == []


async def test_what_a_service_puts_at_its_end_is_stored(tmp_path: Path, clock: ManualClock) -> None:
    class Last:
        name = "last"

        async def run(self, stop: streamkit.Stop) -> None:
            with stop.interruptible():
                await clock.sleep_until(clock.now_ms() + 10**9)
            kit.metrics.put(LATENCY, 7)

    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.start(Last())
        await clock.advance(1)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert await sums(kit, LATENCY, clock) == [7]

"""A metric's last hours as a plot, and the sampler that gives gauges a history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

import streamkit
from streamkit import Kit, Metric, ValidationError
from streamkit.clock import to_datetime
from streamkit.metrics.datapoints import MOST_POINTS, Datapoints, fitting_period_ms
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.periods import DAY_MS, HOUR_MS, resolution_of
from streamkit.metrics.window import Metrics
from streamkit.monitoring.face import KitMetrics
from streamkit.testing.clock import ManualClock

DEPTH = Metric.of("shop", "Depth")


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


@pytest.mark.parametrize(
    "span_ms", [1, 60_000, 10 * 60_000, HOUR_MS, 3 * HOUR_MS, 3 * HOUR_MS + 1, DAY_MS, 400 * DAY_MS]
)
def test_a_period_that_suits_a_plot(span_ms: int) -> None:
    period_ms = fitting_period_ms(span_ms)
    resolution_of(period_ms)  # There is such a period.
    assert span_ms <= MOST_POINTS * period_ms or period_ms == DAY_MS
    assert period_ms >= 60_000 or span_ms <= 3 * HOUR_MS


async def test_datapoints_are_a_list_a_table_and_a_plot(kit: Kit, clock: ManualClock) -> None:
    for value in (3, 9, 4):
        kit.metrics.put(DEPTH, value, unit="Count", storage_resolution=1)
        await clock.advance(1)
    now = to_datetime(clock.now_ms())
    found = await kit.metrics.datapoints(DEPTH, ["Maximum", "p50"], now - timedelta(seconds=10), now, 1)
    assert [point.values["Maximum"] for point in found] == [3, 9, 4]
    assert found == list(found)
    frame = found.to_polars()
    assert frame.columns == ["start", "unit", "sample_count", "Maximum", "p50"]
    assert frame["start"].to_list() == [point.start for point in found]
    html = found._repr_html_()
    assert html.count("<polyline") == 2
    assert "count" in html
    assert "Maximum: 9 count" in html
    assert "<table" in found[:1]._repr_html_()
    assert "no samples" in found[:0]._repr_html_()
    other = await kit.metrics.datapoints(DEPTH, ["Sum"], now - timedelta(seconds=10), now, 1, unit="Bytes")
    assert other == []


async def test_recent_begins_with_the_first_sample_and_ends_now(kit: Kit, clock: ManualClock) -> None:
    assert await kit.metrics.recent(DEPTH) == []
    for value in range(600):
        kit.metrics.put(DEPTH, value, storage_resolution=1)
        await clock.advance(1)
    found = await kit.metrics.recent(DEPTH)
    assert isinstance(found, Datapoints)
    assert found.statistics == ("Maximum",)
    assert found.period_ms == 5000
    assert 120 <= len(found) <= 121
    assert max(point.values["Maximum"] for point in found) == 599
    assert found.span_ms[1] > clock.now_ms()
    last = await kit.metrics.recent(DEPTH, "Sum", "Average", last=60)
    assert last.period_ms == 1000
    assert len(last) == 60
    assert last.statistics == ("Sum", "Average")
    for wrong in (0, -5):
        with pytest.raises(ValidationError, match="look back for more than 0 seconds"):
            await kit.metrics.recent(DEPTH, last=wrong)


async def test_a_sampler_gives_the_depth_of_a_queue_a_history(kit: Kit, clock: ManualClock) -> None:
    jobs = await kit.create_queue("jobs")
    depth = jobs.metric("ApproximateNumberOfMessagesVisible")
    sampler = kit.start(kit.metrics.sampler(every=1))
    for _ in range(5):
        await jobs.send("job")
        await clock.advance(1)
    found = await kit.metrics.recent(depth)
    assert [point.values["Maximum"] for point in found] == [1, 1, 2, 3, 4, 5]
    assert repr(sampler) == "Sampler(every=1 s)"
    await kit.stop(sampler)
    await clock.advance(10)
    assert await kit.metrics.recent(depth) == found


@pytest.mark.parametrize("every", [0, 0.01, -1, 100_000, True, "1"])
def test_how_often_a_sampler_cannot_look(every: float, clock: ManualClock) -> None:
    kit_metrics = KitMetrics(Metrics(), clock)
    with pytest.raises(ValidationError, match=r"gauges are read each 0\.1 to 86,400 seconds"):
        kit_metrics.sampler(every)


async def test_what_queries_give_is_a_plot_and_a_table(kit: Kit, clock: ManualClock) -> None:
    for value in (3, 9, 4):
        kit.metrics.put(DEPTH, value)
        await clock.advance(60)
    now = to_datetime(clock.now_ms())
    found = await kit.metrics.get_data(
        [
            MetricQuery(id="depth", metric=DEPTH, statistic="Maximum", period=60),
            MetricQuery(id="twice", expression="depth * 2", label="<twice>"),
        ],
        now - timedelta(minutes=5),
        now,
    )
    assert [each.id for each in found] == ["depth", "twice"]
    assert found._repr_html_().count("<polyline") == 2
    assert "&lt;twice&gt;" in found._repr_html_()
    assert found.to_polars().filter(id="twice")["value"].to_list() == [6, 18, 8]
    assert "no points" in found[:0]._repr_html_()

"""``kit.metrics`` as a program uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

import streamkit
from streamkit import Kit
from streamkit.clock import to_datetime
from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.metrics.datum import MetricDatum
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.metric import Metric
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.testing.clock import ManualClock

LATENCY = Metric.of("shop", "Latency", Page="cart")
ERRORS = Metric.of("shop", "Errors", Page="cart")


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


def now(clock: ManualClock) -> datetime:
    return to_datetime(clock.now_ms())


def minute_of(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


async def test_what_is_put_is_put_now(kit: Kit, clock: ManualClock) -> None:
    kit.metrics.put(LATENCY, 12.5)
    kit.metrics.put(LATENCY, 7.5, count=3)
    found = await kit.metrics.statistics(LATENCY, now(clock), now(clock) + timedelta(seconds=1), 60)
    assert found == [(minute_of(now(clock)), StatisticSet(4, 35.0, 7.5, 12.5))]
    assert kit.metrics.latest(LATENCY) == 7.5


async def test_a_kit_has_as_many_series_as_its_limits_say(clock: ManualClock) -> None:
    limits = replace(Limits.relaxed(), metric_series=2)
    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        for page in ("a", "b", "c", "b"):
            kit.metrics.put(Metric.of("shop", "Latency", Page=page), 1)
        assert len(await kit.metrics.list_metrics("shop")) == 2
        assert kit.metrics.raw.dropped == 1


async def test_what_is_put_at_an_instant_is_there(kit: Kit, clock: ManualClock) -> None:
    earlier = now(clock) - timedelta(hours=1)
    kit.metrics.put(LATENCY, 1, at=earlier)
    kit.metrics.put(LATENCY, 2, at=earlier, storage_resolution=1)
    found = await kit.metrics.statistics(LATENCY, earlier, earlier + timedelta(seconds=1), 60)
    assert found == [(minute_of(earlier), StatisticSet(2, 3, 1, 2))]


@pytest.mark.parametrize("away", [timedelta(days=-14, seconds=-1), timedelta(hours=2, seconds=1)])
@pytest.mark.parametrize("storage_resolution", [1, 60])
async def test_too_far_away_is_refused(kit: Kit, clock: ManualClock, away: timedelta, storage_resolution: int) -> None:
    with pytest.raises(ValidationError, match="two weeks back to two hours ahead"):
        kit.metrics.put(LATENCY, 1, at=now(clock) + away, storage_resolution=storage_resolution)  # type: ignore[arg-type]


async def test_an_instant_without_a_time_zone_is_refused(kit: Kit) -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        kit.metrics.put(LATENCY, 1, at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


async def test_high_resolution_has_seconds_and_standard_has_not(kit: Kit, clock: ManualClock) -> None:
    kit.metrics.put(LATENCY, 1, storage_resolution=1)
    kit.metrics.put(ERRORS, 1)
    span = now(clock) - timedelta(minutes=1), now(clock) + timedelta(minutes=1)
    assert len(await kit.metrics.statistics(LATENCY, *span, 1)) == 1
    assert await kit.metrics.statistics(ERRORS, *span, 1) == []


async def test_datapoints_tell_units_apart(kit: Kit, clock: ManualClock) -> None:
    kit.metrics.put_data([MetricDatum(LATENCY, values=(1, 2, 3, 4), unit="Milliseconds"), MetricDatum(LATENCY, 5)])
    span = now(clock), now(clock) + timedelta(seconds=1)
    found = await kit.metrics.datapoints(LATENCY, ["Sum", "p50"], *span, 60)
    assert [(point.unit, point.values) for point in found] == [
        ("Milliseconds", {"Sum": 10.0, "p50": 2.0}),
        ("None", {"Sum": 5.0, "p50": 5.0}),
    ]
    assert found[0].start == minute_of(now(clock))
    (only,) = await kit.metrics.datapoints(LATENCY, ["Sum"], *span, 60, unit="Milliseconds")
    assert only.unit == "Milliseconds"


async def test_expressions_are_evaluated(kit: Kit, clock: ManualClock) -> None:
    kit.metrics.put(LATENCY, 10, count=40)
    kit.metrics.put(ERRORS, 3)
    minute = minute_of(now(clock))
    found = await kit.metrics.get_data(
        [
            MetricQuery(id="n", metric=LATENCY, statistic="SampleCount", period=60, return_data=False),
            MetricQuery(id="errors", metric=ERRORS, statistic="Sum", period=60, return_data=False),
            MetricQuery(id="p", metric=LATENCY, statistic="p90", period=60),
            MetricQuery(id="rate", expression="errors / n * 100"),
        ],
        minute - timedelta(minutes=5),
        minute + timedelta(minutes=1),
    )
    start_ms = round(minute.timestamp() * 1000)
    assert [(each.id, each.series.points) for each in found] == [("p", {start_ms: 10.0}), ("rate", {start_ms: 7.5})]


async def test_metrics_are_listed(kit: Kit) -> None:
    other = Metric.of("shop", "Latency", Page="home", Region="eu")
    elsewhere = Metric.of("bank", "Latency")
    for metric in (other, LATENCY, elsewhere, ERRORS):
        kit.metrics.put(metric, 1)
    metrics = kit.metrics
    assert await metrics.list_metrics() == [elsewhere, ERRORS, LATENCY, other]
    assert await metrics.list_metrics("shop") == [ERRORS, LATENCY, other]
    assert await metrics.list_metrics(name="Latency") == [elsewhere, LATENCY, other]
    assert await metrics.list_metrics("shop", dimensions={"Page": None}) == [ERRORS, LATENCY, other]
    assert await metrics.list_metrics("shop", dimensions={"Page": "home"}) == [other]
    assert await metrics.list_metrics(dimensions={"Region": None}) == [other]


async def test_gauges_are_sampled(kit: Kit, clock: ManualClock) -> None:
    kit.metrics.register_gauge(LATENCY, lambda: 4.0)
    await kit.metrics.sample()
    await kit.metrics.sample(LATENCY)
    assert kit.metrics.total(LATENCY) == StatisticSet(2, 8.0, 4.0, 4.0)
    kit.metrics.unregister(LATENCY)
    await kit.metrics.sample()
    assert kit.metrics.total(LATENCY) == StatisticSet(2, 8.0, 4.0, 4.0)

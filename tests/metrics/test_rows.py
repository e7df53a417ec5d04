from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import MAX_ROWS, Column
from streamkit.metrics.series import MAX_COLLECTED
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics

NOW = 1_700_000_000_000
RECORDS = Metric.of("AWS/Kinesis", "IncomingRecords", StreamName="orders")
SIZES = Metric.of("AWS/SQS", "SentMessageSize", QueueName="orders")
LATENCY = Metric.of("AWS/Kinesis", "PutRecord.Latency", StreamName="orders")
COLUMNS = (Column(RECORDS, "Count"), Column(SIZES, "Bytes", "values"), Column(LATENCY, "Milliseconds", "counted"))

ROWS = st.lists(
    st.tuples(
        st.integers(0, 4_000),
        st.integers(0, 100),
        st.lists(st.integers(1, 9), max_size=5),
        st.tuples(st.integers(0, 5), st.integers(0, 3)),
    ),
    max_size=60,
)


def all_of(metrics: Metrics) -> Any:
    return [
        (metric, unit, metrics.samples(metric, NOW, NOW + 60_000, 1_000, unit), metrics.total(metric, unit))
        for metric in (RECORDS, SIZES, LATENCY)
        for unit in metrics.units(metric)
    ]


@given(ROWS)
def test_rows_are_what_single_puts_are(rows: list[tuple[int, int, list[int], tuple[int, int]]]) -> None:
    together, apart = Metrics(), Metrics()
    for after_ms, records, sizes, (latency, times) in rows:
        now_ms = NOW + after_ms
        together.rows(*COLUMNS).add((records, sizes, (latency, times)), now_ms)
        apart.put(RECORDS, records, now_ms, 1, "Count")
        for size in sizes:
            apart.put(SIZES, size, now_ms, 1, "Bytes")
        if times:
            apart.put(LATENCY, latency, now_ms, times, "Milliseconds")
    found, wanted = all_of(together), all_of(apart)
    for metric, unit, samples, total in wanted:
        assert (metric, unit, total) in [(each, its, whole) for each, its, _, whole in found]
        (other,) = [has for each, its, has, _ in found if (each, its) == (metric, unit)]
        assert [(start, one.set) for start, one in other] == [(start, one.set) for start, one in samples]


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from([-3, 0, 0, 0, 0, 1, 40]), st.booleans()), max_size=60))
def test_quick_calls_are_counted_as_if_each_were_put(calls: list[tuple[int, int, bool]]) -> None:
    """In the second in which they end, whenever somebody asks."""
    quick, apart = Metrics(), Metrics()
    now_ms = NOW
    for after_ms, took_ms, asks in calls:
        now_ms += after_ms
        quick.latencies(LATENCY).took(now_ms - took_ms, now_ms)
        apart.put(LATENCY, max(0, took_ms), now_ms, 1, "Milliseconds")
        if asks:
            quick.total(LATENCY)
    for metrics in (quick, apart):
        assert metrics.units(LATENCY) == (["Milliseconds"] if calls else [])
    found, wanted = (
        [(start, one.set) for start, one in each.samples(LATENCY, NOW, NOW + 60_000, 1_000)] for each in (quick, apart)
    )
    assert found == wanted


def test_every_question_sees_what_waits() -> None:
    questions: list[Any] = [
        lambda metrics: metrics.latest(RECORDS) == 3,
        lambda metrics: metrics.total(RECORDS).sum == 3,
        lambda metrics: RECORDS in metrics.list_metrics(),
        lambda metrics: metrics.units(RECORDS) == ["Count"],
        lambda metrics: next(each for each in metrics.series() if each.metric == RECORDS).latest == 3,
        lambda metrics: metrics.statistics(RECORDS, NOW, NOW + 1_000, 1_000)[0][1].sum == 3,
        lambda metrics: metrics.datapoints(RECORDS, ["Sum"], (NOW, NOW + 1_000), 1_000, NOW)[0].values == {"Sum": 3},
    ]
    for question in questions:
        metrics = Metrics()
        rows = metrics.rows(*COLUMNS)
        rows.add((3, [5], (7, 1)), NOW)
        assert question(metrics)
        rows.add((4, [5], (7, 1)), NOW)
        assert metrics.latest(RECORDS) == 4


def test_what_waits_is_bounded() -> None:
    metrics = Metrics()
    rows = metrics.rows(*COLUMNS)
    for _ in range(10 * MAX_ROWS):
        rows.add((1, [1] * 50, (1, 1)), NOW)
        assert len(rows._rows) < MAX_ROWS
    metrics.spread()
    assert all(len(series.collected) < MAX_COLLECTED for series in metrics._first.values())
    total = metrics.total(SIZES)
    assert total is not None
    assert total.sample_count == 500 * MAX_ROWS


def test_what_there_is_no_room_for_is_counted() -> None:
    metrics = Metrics(max_series=1)
    metrics.rows(*COLUMNS).add((1, [1, 2, 3], (1, 4)), NOW)
    assert metrics.list_metrics() == [RECORDS]
    assert metrics.dropped == 7


def test_the_same_columns_have_the_same_rows() -> None:
    metrics = Metrics()
    assert metrics.rows(*COLUMNS) is metrics.rows(*COLUMNS)
    assert metrics.rows(*COLUMNS[:2]) is not metrics.rows(*COLUMNS)


def test_an_unknown_unit_is_refused() -> None:
    unknown: Any = "Parsecs"
    with pytest.raises(ValidationError, match="Parsecs"):
        Column(RECORDS, unknown)
    with pytest.raises(ValidationError, match="Parsecs"):
        Metrics().register_gauge(RECORDS, lambda: 1, unknown)


@pytest.mark.parametrize("first", ["None", "Count"])
def test_each_unit_has_its_own_series_whichever_came_first(first: Unit) -> None:
    other: Unit = "Count" if first == "None" else "None"
    metrics = Metrics()
    metrics.put(RECORDS, 1, NOW, 1, first)
    for _ in range(3):
        metrics.put(RECORDS, 5, NOW, 1, other)
        metrics.put(RECORDS, 1, NOW, 1, first)
    sums = {unit: found.sum for unit in metrics.units(RECORDS) if (found := metrics.total(RECORDS, unit))}
    assert sums == {first: 4, other: 15}


async def test_a_gauge_has_its_unit() -> None:
    metrics = Metrics()
    metrics.register_gauge(RECORDS, lambda: 7, "Count")
    await metrics.sample(NOW)
    assert metrics.units(RECORDS) == ["Count"]
    assert list(metrics.gauges()) == [(RECORDS, 7)]
    assert metrics.is_gauge(RECORDS)

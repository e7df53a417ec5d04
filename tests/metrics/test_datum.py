from __future__ import annotations

from typing import Any

import pytest

from streamkit.errors import ValidationError
from streamkit.metrics.datum import MAX_VALUES, NEWEST_MS, OLDEST_MS, MetricDatum
from streamkit.metrics.metric import Metric
from streamkit.metrics.statistic_set import StatisticSet

NOW = 1_700_000_000_000
LATENCY = Metric.of("app", "Latency")
SET = StatisticSet(2, 3.0, 1.0, 2.0)


def test_one_value_is_one_sample() -> None:
    datum = MetricDatum(LATENCY, 3.0, unit="Seconds")
    assert datum.samples().set == StatisticSet(1, 3.0, 3.0, 3.0)
    assert datum.samples().values() == [(3.0, 1)]
    assert datum.latest == 3.0
    assert (datum.storage_resolution, datum.instant_ms(NOW)) == (60, NOW)


def test_values_without_counts_are_there_once() -> None:
    samples = MetricDatum(LATENCY, values=(3.0, 1.0, 3.0)).samples()
    assert samples.set == StatisticSet(3, 7.0, 1.0, 3.0)
    assert samples.values() == [(1.0, 1), (3.0, 2)]


def test_values_with_counts() -> None:
    datum = MetricDatum(LATENCY, values=(3.0, 1.0), counts=(10, 20))
    assert datum.samples().set == StatisticSet(30, 50.0, 1.0, 3.0)
    assert datum.samples().values() == [(1.0, 20), (3.0, 10)]
    assert datum.latest == 1.0


def test_a_statistic_set_has_values_only_if_they_are_one() -> None:
    assert MetricDatum(LATENCY, statistic_values=SET).samples().values() is None
    assert MetricDatum(LATENCY, statistic_values=SET).latest is None
    for one in (StatisticSet(3, 6.0, 2.0, 2.0), StatisticSet(1, 2.0, 2.0, 2.0)):
        datum = MetricDatum(LATENCY, statistic_values=one)
        assert datum.samples().values() == [(2.0, one.sample_count)]
        assert datum.latest == 2.0


def test_accepts_the_most_of_everything() -> None:
    datum = MetricDatum(LATENCY, values=tuple(map(float, range(MAX_VALUES))), storage_resolution=1)
    assert datum.samples().count == 150


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "0 of value, statistic_values and values are given: give exactly one"),
        ({"value": 1.0, "values": (1.0,)}, "2 of value"),
        ({"value": 1.0, "statistic_values": SET}, "2 of value"),
        ({"values": (1.0, 2.0), "counts": (1,)}, "1 counts of 2 values: give one for each, or none"),
        ({"value": 1.0, "counts": (1,)}, "1 counts of 0 values"),
        ({"values": (1.0,) * 151}, "151 values: put 150 at most"),
        ({"values": (1.0, float("nan"))}, "nan is not a number within"),
        ({"values": (1.0,), "counts": (0,)}, "a count of 0"),
        ({"value": 2.0**361}, "not a number within"),
        ({"value": float("inf")}, "not a number within"),
        ({"statistic_values": StatisticSet(2, 3.0, 2.0, 1.0)}, "swap them"),
        ({"value": 1.0, "unit": "Minutes"}, "unit 'Minutes' is not known"),
        ({"value": 1.0, "storage_resolution": 10}, r"choose 60 \(standard\) or 1 \(high\)"),
    ],
)
def test_refuses_what_cloudwatch_refuses(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MetricDatum(LATENCY, **fields)


def test_timestamps_are_from_two_weeks_back_to_two_hours_ahead() -> None:
    for instant in (NOW - OLDEST_MS, NOW + NEWEST_MS):
        assert MetricDatum(LATENCY, 1.0, timestamp_ms=instant).instant_ms(NOW) == instant
    with pytest.raises(ValidationError, match=r"336\.\d hours back: put samples from two weeks back"):
        MetricDatum(LATENCY, 1.0, timestamp_ms=NOW - OLDEST_MS - 1).instant_ms(NOW)
    with pytest.raises(ValidationError, match=r"2\.0 hours ahead"):
        MetricDatum(LATENCY, 1.0, timestamp_ms=NOW + NEWEST_MS + 1).instant_ms(NOW)

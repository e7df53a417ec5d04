"""From lines and records to samples."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ExpressionError, ValidationError
from streamkit.functions.pattern import Pattern
from streamkit.metrics.filter_pattern import FilterPattern, RegexFilter
from streamkit.metrics.metric import Metric
from streamkit.metrics.metric_filter import (
    MAX_DIMENSION_PAIRS,
    MAX_HOURS,
    FilterState,
    MetricFilter,
    MetricTransformation,
    Sample,
)
from streamkit.metrics.unit import UNITS

HOUR = 3_600_000
METRIC = Metric.of("app", "m")
LOG = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'
FIELDS = "[ip, user, username, timestamp, request, status_code, bytes]"


def filter_of(pattern: Any, value: str | float = 1, **options: Any) -> MetricFilter:
    transformation = MetricTransformation(metric_namespace="app", metric_name="m", metric_value=value, **options)
    return MetricFilter("f", FilterPattern(pattern) if isinstance(pattern, str) else pattern, transformation)


def values(found: MetricFilter, *events: Any) -> list[float]:
    return [sample.value for sample in found.extract([(0, event) for event in events]).samples]


def test_each_match_is_a_sample_at_its_own_time() -> None:
    extraction = filter_of("ERROR").extract([(5, "ERROR a"), (70_000, "fine"), (3, "an ERROR")])
    assert extraction.samples == [Sample(METRIC, 1.0, 5), Sample(METRIC, 1.0, 3)]
    assert (extraction.matched, extraction.unpublished, extraction.dropped) == (2, 0, 0)


@pytest.mark.parametrize(
    ("pattern", "value", "event", "expected"),
    [
        ("", 1, "x", [1.0]),
        ("", "1", "x", [1.0]),
        ("", "-2.5e1", "x", [-25.0]),
        ("", 0, "x", [0.0]),
        (FIELDS, "$bytes", LOG, [1534.0]),
        (FIELDS, "$status_code", LOG, [404.0]),
        (FIELDS, "$ip", LOG, []),
        (FIELDS, "$user", LOG, []),
        ("[...]", "$7", LOG, [1534.0]),
        ("[...]", "$8", LOG, []),
        ("[..., bytes]", "$6", LOG, [404.0]),
        ("{ $.latency > 50 }", "$.latency", '{"latency": 51.5}', [51.5]),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": 7}', [7.0]),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": "7.5"}', [7.5]),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": null}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": true}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": [1]}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": "nan"}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": "Infinity"}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": "1_0"}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": " 1"}', []),
        ("{ $.latency > 50 }", "$.other", '{"latency": 51, "other": 1e200}', []),
        ("{ $.latency > 50 }", "$.other", {"latency": 51, "other": float("nan")}, []),
        ("{ $.latency > 50 }", "$.a[1]['b.c']", {"latency": 51, "a": [0, {"b.c": 9}]}, [9.0]),
        (RegexFilter(r"took (?P<ms>\d+)"), "$ms", "it took 12 ms", [12.0]),
        (RegexFilter(r"took (?P<ms>\w+)"), "$ms", "it took long", []),
        (RegexFilter(r"took( (?P<ms>\d+))?"), "$ms", "it took long", []),
        (Pattern({"state": ["failed"]}), 1, '{"state": "failed"}', [1.0]),
        (Pattern({"state": ["failed"]}), "$.cost", {"state": "failed", "cost": 3}, [3.0]),
        (Pattern({"state": ["failed"]}), "$.cost", {"state": "done", "cost": 3}, []),
        (Pattern({"state": ["failed"]}), 1, "state failed", []),
    ],
)
def test_the_value_is_a_number_or_what_it_refers_to(
    pattern: Any, value: str | float, event: Any, expected: list[float]
) -> None:
    assert values(filter_of(pattern, value), event) == expected


def test_a_value_that_is_no_number_publishes_nothing_and_is_counted() -> None:
    extraction = filter_of("[level, n]", "$n", default_value=0).extract([(0, "INFO 3"), (60_000, "INFO x")])
    assert extraction.samples == [Sample(METRIC, 3.0, 0)]
    assert (extraction.matched, extraction.unpublished) == (2, 1)


class Order(msgspec.Struct):
    state: str
    cost: float


def test_decoded_records_give_samples() -> None:
    orders = [Order("failed", 2.5), Order("done", 9)]
    assert values(filter_of("{ $.state = failed }", "$.cost"), *orders) == [2.5]
    assert values(filter_of(Pattern({"state": ["failed"]}), "$.cost"), *orders) == [2.5]
    assert values(filter_of("failed"), *orders) == [1.0]


# ---- the default value


def test_the_default_is_published_for_minutes_without_a_match() -> None:
    found = filter_of("ERROR", default_value=0)
    events = [(1, "fine"), (59_999, "ERROR"), (60_000, "fine"), (61_000, "fine"), (240_001, "fine")]
    assert found.extract(events).samples == [
        Sample(METRIC, 1.0, 59_999),
        Sample(METRIC, 0.0, 60_000),
        Sample(METRIC, 0.0, 240_000),
    ]
    assert found.extract([]).samples == []


def test_without_a_default_nothing_is_published() -> None:
    assert filter_of("ERROR").extract([(0, "fine")]).samples == []


# ---- dimensions


def test_dimensions_are_taken_from_the_match() -> None:
    fields = filter_of(FIELDS, "$bytes", dimensions={"Status": "$status_code", "User": "$username"})
    assert fields.extract([(7, LOG)]).samples == [Sample(Metric.of("app", "m", Status="404", User="frank"), 1534.0, 7)]
    on_json = filter_of("{ $.a = 1 }", dimensions={"B": "$.b", "C": "$.c[0]"})
    assert on_json.extract([(7, '{"a": 1, "b": true, "c": [2]}')]).samples == [
        Sample(Metric.of("app", "m", B="true", C="2"), 1.0, 7)
    ]
    regex = filter_of(RegexFilter("(?P<level>[A-Z]+)"), dimensions={"Level": "$level"})
    assert regex.extract([(7, "a WARN")]).samples == [Sample(Metric.of("app", "m", Level="WARN"), 1.0, 7)]


@pytest.mark.parametrize("b", [None, [], "", " ", "é", "x" * 1025])
def test_without_its_dimensions_nothing_is_published(b: Any) -> None:
    extraction = filter_of("{ $.a = 1 }", dimensions={"B": "$.b"}).extract([(0, {"a": 1, "b": b}), (0, {"a": 1})])
    assert extraction.samples == []
    assert (extraction.matched, extraction.unpublished, extraction.dropped) == (2, 2, 0)


def test_more_than_1000_pairs_in_an_hour_are_dropped_and_counted() -> None:
    found = filter_of("[n, rest]", dimensions={"N": "$n"})
    count = FilterState()
    lines = [(HOUR - 1, f"{n} x") for n in range(MAX_DIMENSION_PAIRS + 5)]
    extraction = found.extract(lines, count)
    assert len(extraction.samples) == MAX_DIMENSION_PAIRS
    assert (extraction.matched, extraction.dropped, extraction.unpublished) == (1005, 5, 0)
    # Those that are known go on; the next hour begins anew.
    again = found.extract([(0, "3 x"), (0, "1000 x"), (HOUR, "1000 x")], count)
    assert [sample.metric.dimensions for sample in again.samples] == [(("N", "3"),), (("N", "1000"),)]
    assert again.dropped == 1
    assert len(count) == MAX_DIMENSION_PAIRS + 1


def test_what_is_dropped_takes_no_room() -> None:
    count = FilterState()
    assert count.admit([("a", str(n)) for n in range(MAX_DIMENSION_PAIRS - 1)], 0)
    assert not count.admit([("b", "1"), ("b", "2")], 0)
    assert count.admit([("b", "3"), ("a", "0")], 0)


def test_only_the_newest_hours_are_remembered() -> None:
    count = FilterState()
    for hour in range(1, MAX_HOURS + 2):
        assert count.admit([("a", "1")], hour * HOUR)
    assert len(count) == MAX_HOURS
    assert not count.admit([("a", "1")], HOUR)
    assert count.admit([("a", "2")], 2 * HOUR)


@given(st.lists(st.tuples(st.integers(0, 40 * HOUR), st.integers(0, 3)), max_size=80))
def test_the_memory_of_dimensions_is_bounded(asked: list[tuple[int, int]]) -> None:
    count = FilterState()
    for timestamp_ms, many in asked:
        count.admit([(str(timestamp_ms), str(n)) for n in range(many * 400)], timestamp_ms)
        assert len(count) <= MAX_HOURS * MAX_DIMENSION_PAIRS


@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(-2, 3)), max_size=20))
def test_samples_equal_a_naive_count(events: list[tuple[int, int]]) -> None:
    found = filter_of("{ $.n > 0 }", "$.n", default_value=-1)
    lines = [(at, json.dumps({"n": n})) for at, n in events]
    matched = [(float(n), at) for at, n in events if n > 0]
    busy = {at // 60_000 for _, at in matched}
    idle = {at // 60_000 for at, _ in events} - busy
    samples = [(sample.value, sample.timestamp_ms) for sample in found.extract(lines).samples]
    assert samples[: len(matched)] == matched
    assert sorted(samples[len(matched) :]) == sorted((-1.0, minute * 60_000) for minute in idle)
    assert found.extract(lines) == found.extract(lines)


# ---- what is not allowed


@pytest.mark.parametrize("name", ["", "a:b", "a*", "a" * 513, None])
def test_the_name_of_a_filter_is_checked(name: Any) -> None:
    transformation = MetricTransformation(metric_namespace="n", metric_name="m", metric_value=1)
    assert MetricFilter("a" * 512, FilterPattern(""), transformation).name == "a" * 512
    with pytest.raises(ValidationError, match="use 1 to 512 characters"):
        MetricFilter(name, FilterPattern(""), transformation)


@pytest.mark.parametrize(
    ("pattern", "value", "options", "message"),
    [
        ("", "one", {}, "metric_value is 'one': use a reference"),
        ("", "", {}, "use a reference"),
        ("", float("nan"), {}, "must be a finite number"),
        ("", 1e300, {}, "must be a finite number"),
        ("", "$x", {}, "which the pattern does not have: it has none"),
        ("ERROR", "$.x", {}, "only JSON and event patterns have"),
        ("ERROR", "$1", {}, "which the pattern does not have"),
        ("[a, b]", "$c", {}, r"it has \$a, \$b"),
        ("[a, b]", "$.a", {}, "only JSON and event patterns have"),
        ("{ $.a = 1 }", "$a", {}, "which the pattern does not have"),
        (RegexFilter("(?P<a>x)"), "$b", {}, r"it has \$a"),
        (RegexFilter("(?P<a>x)"), "$.a", {}, "only JSON and event patterns have"),
        (Pattern({"a": [1]}), "$a", {}, "which the pattern does not have"),
        ("", 1, {"default_value": float("inf")}, "default_value is inf"),
        ("", 1, {"unit": "Furlongs"}, "unit 'Furlongs' is not known: choose one of Seconds"),
        ("ERROR", 1, {"dimensions": {"A": "$a"}}, "dimension 'A' is '\\$a', which the pattern does not have"),
        ("{ $.a = 1 }", 1, {"dimensions": {"A": "1"}}, "use a reference"),
        ("{ $.a = 1 }", 1, {"dimensions": {":A": "$.a"}}, "starts with a colon"),
        ("[a, b]", 1, {"dimensions": {"A": "$a"}, "default_value": 0}, "not allowed together with dimensions"),
        ("[a, b]", 1, {"dimensions": dict.fromkeys("ABCD", "$a")}, "at most 3"),
    ],
)
def test_a_wrong_transformation_is_refused(
    pattern: Any, value: str | float, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        filter_of(pattern, value, **options)


def test_a_wrong_selector_names_the_position() -> None:
    with pytest.raises(ExpressionError, match="must end here") as caught:
        filter_of("{ $.a = 1 }", "$.a b")
    assert caught.value.position == 3


def test_the_namespace_and_name_are_checked() -> None:
    for namespace, name in ((":n", "m"), ("", "m"), ("n", "")):
        with pytest.raises(ValidationError):
            MetricTransformation(metric_namespace=namespace, metric_name=name, metric_value=1)


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_those_of_cloudwatch(unit: str) -> None:
    assert filter_of("", unit=unit).transformation.unit == unit
    assert len(set(UNITS)) == 27


def test_a_filter_reads_well() -> None:
    assert repr(filter_of("ERROR")) == "MetricFilter('f', FilterPattern('ERROR'))"

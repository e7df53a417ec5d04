"""Requests of several metrics and expressions, and what of them an alarm can watch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.errors import ExpressionError, ValidationError
from streamkit.metrics.expression import MathExpression
from streamkit.metrics.math_query import MAX_QUERIES, MetricDataResult, MetricQueries, MetricQuery, check_alarm
from streamkit.metrics.math_series import MAX_DATAPOINTS, Series, TimeRange
from streamkit.metrics.metric import Metric

MINUTE_MS = 60_000
RANGE = TimeRange(0, 4 * MINUTE_MS)
SENT = Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders")


def metric(name: str, period: float = 60, **more: Any) -> MetricQuery:
    return MetricQuery(id=name, metric=SENT, statistic="Sum", period=period, **more)


def expression(name: str, text: str, **more: Any) -> MetricQuery:
    return MetricQuery(id=name, expression=text, **more)


def series(*values: float | None, period_ms: int = MINUTE_MS, label: str = "") -> Series:
    return Series(period_ms, {at * period_ms: each for at, each in enumerate(values) if each is not None}, label)


def answered(results: list[MetricDataResult]) -> list[tuple[str, str, list[float]]]:
    return [(each.id, each.label, list(each.series.points.values())) for each in results]


# ---- one query


@pytest.mark.parametrize("name", ["m", "m1", "errors_4xx", "aB_9", "a" * 255])
def test_an_id_may_be(name: str) -> None:
    assert metric(name).id == name


@pytest.mark.parametrize("name", ["", "M1", "1m", "_m", "m-1", "m 1", "m.1", "é", "mé", "a" * 256, "m\n", "m1 "])
def test_an_id_may_not_be(name: str) -> None:
    with pytest.raises(ValidationError, match="the first a lower-case letter"):
        metric(name)


@pytest.mark.parametrize("period", [1, 5, 10, 20, 30, 60, 120, 300, 3600, 86_400, 60.0])
def test_a_period_may_be(period: float) -> None:
    assert metric("m", period).period_ms == period * 1000
    assert expression("e", "m", period=period).period_ms == period * 1000


@pytest.mark.parametrize("period", [0, -60, 2, 15, 45, 61, 90, 0.5, 60.5, float("inf"), float("nan")])
def test_a_period_may_not_be(period: float) -> None:
    with pytest.raises(ValidationError, match=r"use 1, 5, 10, 20, 30 or a multiple of 60"):
        metric("m", period)
    with pytest.raises(ValidationError, match=r"query 'e': the period is"):
        expression("e", "m", period=period)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "either a metric or an expression"),
        ({"metric": SENT, "statistic": "Sum", "period": 60, "expression": "m1"}, "either a metric or an expression"),
        ({"metric": SENT, "period": 60}, "needs a statistic and a period"),
        ({"metric": SENT, "statistic": "Sum"}, "needs a statistic and a period"),
        ({"metric": SENT, "statistic": "Median", "period": 60}, "Median"),
        ({"expression": "m1", "statistic": "Sum"}, "a statistic is of a metric"),
    ],
)
def test_a_query_is_a_metric_or_an_expression(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        MetricQuery(id="q", **fields)


# ---- a request


def test_what_returns_data_is_answered_in_the_order_of_the_request() -> None:
    queries = MetricQueries(
        [
            expression("rate", "failed / sent * 100"),
            metric("sent", return_data=False),
            metric("errors"),
            expression("failed", "errors + timeouts", return_data=False),
            metric("timeouts", return_data=False),
            expression("doubled", "rate * 2", label="twice"),
        ]
    )
    assert [query.id for query in queries.metrics] == ["sent", "errors", "timeouts"]
    results = queries.evaluate(
        {"sent": series(10, 20, 0, 40), "errors": series(1, 2, 3, 4), "timeouts": series(0, 3, None, 4)}, RANGE
    )
    assert answered(results) == [
        ("rate", "rate", [10, 25, 20]),
        ("errors", "errors", [1, 2, 3, 4]),
        ("doubled", "twice", [20, 50, 40]),
    ]


def test_an_array_is_answered_with_several_of_one_id() -> None:
    queries = MetricQueries(
        [
            metric("a", label="first", return_data=False),
            metric("b", return_data=False),
            expression("halves", "METRICS() / 2", label="half of"),
            expression("plain", "METRICS()", label=""),
            expression("nothing", 'METRICS("zzz")'),
        ]
    )
    assert answered(queries.evaluate({"a": series(2, 4), "b": series(6)}, RANGE)) == [
        ("halves", "half of first", [1, 2]),
        ("halves", "half of b", [3]),
        ("plain", "first", [2, 4]),
        ("plain", "b", [6]),
    ]


def test_metrics_are_all_metrics_and_no_expressions() -> None:
    queries = MetricQueries(
        [
            expression("total", "SUM(METRICS())"),
            metric("errors_a", return_data=False),
            expression("errors_twice", "errors_a * 2", return_data=False),
            metric("other", return_data=False),
            expression("errors", 'SUM(METRICS("errors"))'),
            expression("count", 'TIME_SERIES(METRIC_COUNT(METRICS("r")))'),
        ]
    )
    given = {"errors_a": series(1), "other": series(10)}
    # "r" is in the middle of errors_a, and at the end of other.
    assert answered(queries.evaluate(given, TimeRange(0, MINUTE_MS))) == [
        ("total", "total", [11]),
        ("errors", "errors", [1]),
        ("count", "count", [2]),
    ]


def test_a_metric_that_is_left_out_has_no_points() -> None:
    queries = MetricQueries([metric("a"), expression("e", "FILL(a, 3)")])
    assert answered(queries.evaluate({}, RANGE)) == [("a", "a", []), ("e", "e", [3, 3, 3, 3])]


def test_only_what_is_in_the_range_is_answered() -> None:
    queries = MetricQueries([metric("a"), expression("e", "a * 2")])
    within = TimeRange(MINUTE_MS, 3 * MINUTE_MS)
    assert answered(queries.evaluate({"a": series(1, 2, 3, 4)}, within)) == [("a", "a", [2, 3]), ("e", "e", [4, 6])]


def test_time_series_has_the_shortest_period_of_the_request_unless_it_says_another() -> None:
    queries = MetricQueries(
        [
            metric("a", 120, return_data=False),
            metric("b", 60, return_data=False),
            expression("e", "TIME_SERIES(1)"),
            expression("f", "TIME_SERIES(1)", period=120),
        ]
    )
    results = queries.evaluate({}, TimeRange(0, 4 * MINUTE_MS, 240_000))
    assert [(each.id, each.series.period_ms, len(each.series.points)) for each in results] == [
        ("e", 60_000, 4),
        ("f", 120_000, 2),
    ]
    alone = MetricQueries([expression("e", "TIME_SERIES(1)")]).evaluate({}, TimeRange(0, 4 * MINUTE_MS, 240_000))
    assert [each.series.period_ms for each in alone] == [240_000]


def test_a_series_of_another_period_is_refused() -> None:
    queries = MetricQueries([metric("a", 60)])
    with pytest.raises(ValidationError, match="series of 'a' has a period of 120000 ms"):
        queries.evaluate({"a": series(1, period_ms=120_000)}, RANGE)


@pytest.mark.parametrize(
    ("queries", "reason"),
    [
        ([], f"1 to {MAX_QUERIES} queries, not 0"),
        ([metric("m")] * (MAX_QUERIES + 1), f"1 to {MAX_QUERIES} queries, not {MAX_QUERIES + 1}"),
        ([metric("m"), expression("m", "m")], "two queries have the id 'm'"),
        ([metric("m"), expression("e", "m + n")], "query 'e' names 'n', and there is no such id: there are m, e"),
        ([metric("m"), expression("e", "x + m + y")], "names 'x', 'y'"),
        ([expression("e", "e")], "need each other: e <- e"),
        (
            [metric("m"), expression("e", "m + f"), expression("f", "e * 2")],
            "need each other: (e <- f <- e|f <- e <- f)",
        ),
        ([expression("e", "f"), expression("f", "g + 1"), expression("g", "-e")], "need each other: "),
    ],
)
def test_a_request_that_cannot_be_resolved_is_refused(queries: list[MetricQuery], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        MetricQueries(queries)


@pytest.mark.parametrize(
    ("texts", "position", "reason"),
    [
        ({"e": "AVG("}, 4, "expected a number"),
        ({"e": "SEARCH('x', 'Sum', 60)"}, 0, "SEARCH is not supported"),
        ({"e": "ANOMALY_DETECTION_BAND(m, 2)"}, 0, "ANOMALY_DETECTION_BAND is not supported"),
        # What an id stands for is known here.
        ({"e": "AVG(m)"}, 0, "this is a scalar"),
        ({"e": "m - AVG(f)", "f": "m * 2", "g": "FIRST(m)"}, 6, "FIRST takes (TS[]), and this is a metric"),
        ({"e": "f > 1", "f": "METRICS()"}, 2, "> does not work between an array of time series and a scalar"),
        ({"e": "m / PERIOD(f)", "f": "m * 2"}, 11, "PERIOD takes (metric), and this is a time series"),
        ({"e": "f + g", "f": "[m]", "g": "[f, m]"}, 2, "+ does not work between an array"),
    ],
)
def test_an_expression_that_cannot_be_evaluated_is_refused_without_data(
    texts: dict[str, str], position: int, reason: str
) -> None:
    with pytest.raises(ExpressionError) as raised:
        MetricQueries([metric("m"), *(expression(name, text) for name, text in texts.items())])
    assert reason in raised.value.reason
    assert raised.value.position == position


def test_what_each_id_stands_for_is_known_without_data() -> None:
    queries = MetricQueries(
        [
            expression("sum", "SUM(all)"),
            metric("m"),
            expression("all", "METRICS() * 2"),
            expression("pair", "[m, sum]"),
            expression("first", "FIRST(pair)"),
        ]
    )
    assert queries.kinds == {"sum": "TS", "m": "TS", "all": "TS[]", "pair": "TS[]", "first": "TS"}


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(8)), st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_the_order_of_a_request_does_not_matter(order: list[int], needs: list[int]) -> None:
    """Expression e3 is one more than an earlier one, or than the metric."""
    values = [1.0]
    texts: list[str] = []
    for at, need in enumerate(needs):
        earlier = need % (at + 1)
        texts.append("m + 1" if earlier == 0 else f"e{earlier - 1} + 1")
        values.append(values[earlier] + 1)
    made = [expression(f"e{at}", texts[at]) for at in order]
    queries = MetricQueries([*made[:3], metric("m", return_data=False), *made[3:]])
    results = queries.evaluate({"m": series(1)}, RANGE)
    assert answered(results) == [(f"e{at}", f"e{at}", [values[at + 1]]) for at in order]


# ---- alarms


def test_an_alarm_watches_one_series_of_up_to_ten_metrics() -> None:
    ten = [metric(f"m{at}", 300, return_data=False) for at in range(10)]
    steps = [expression(f"s{at}", f"m{at} * 2", return_data=False) for at in range(10)]
    queries = MetricQueries([*ten, *steps, expression("total", "SUM(METRICS()) + s1")])
    assert check_alarm(queries) == 300_000
    assert check_alarm(MetricQueries([metric("m", 10)])) == 10_000


@pytest.mark.parametrize(
    ("queries", "reason"),
    [
        (
            [*(metric(f"m{at}", return_data=False) for at in range(11)), expression("e", "SUM(METRICS())")],
            "1 to 10 metrics, not 11",
        ),
        ([expression("e", "TIME_SERIES(1)")], "1 to 10 metrics, not 0"),
        ([metric("a"), metric("b", 300, return_data=False)], "one period, and here are 60, 300 s"),
        ([metric("a"), expression("e", "a", period=120, return_data=False)], "one period, and here are 60, 120 s"),
        ([metric("a"), metric("b")], "exactly one entry of an alarm has return_data=True, and here it is a, b"),
        ([metric("a"), expression("e", "a * 2")], "and here it is a, e"),
        ([metric("a", return_data=False)], "and here it is none"),
        ([metric("a", return_data=False), expression("e", "[a, a]")], "'e' is an array of them: take one with FIRST"),
        ([metric("a", return_data=False), expression("e", "METRICS()")], "'e' is an array of them"),
        (
            [
                metric("a", return_data=False),
                expression("all", "METRICS()", return_data=False),
                expression("e", "SLICE(all, 0, 1)"),
            ],
            "'e' is an array of them",
        ),
    ],
)
def test_what_an_alarm_cannot_watch_is_refused(queries: list[MetricQuery], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        check_alarm(MetricQueries(queries))


# ---- ranges and series


@pytest.mark.parametrize(("start_ms", "end_ms"), [(5, 5), (6, 5), (-1, 5), (0, 253_402_300_800_001)])
def test_a_range_ends_after_it_starts(start_ms: int, end_ms: int) -> None:
    with pytest.raises(ValidationError, match="it must end after it starts"):
        TimeRange(start_ms, end_ms)


@pytest.mark.parametrize("period_ms", [0, -1000])
def test_a_period_is_positive(period_ms: int) -> None:
    with pytest.raises(ValidationError, match="it must be positive"):
        TimeRange(0, 1000, period_ms)
    with pytest.raises(ValidationError, match="it must be positive"):
        MathExpression("a").evaluate({"a": Series(period_ms)}, RANGE)


def test_a_range_has_only_so_many_periods() -> None:
    TimeRange(0, MAX_DATAPOINTS * 1000, 1000)
    with pytest.raises(ValidationError, match=r"has 100,801 periods of 1000 ms, and 100,800 at most"):
        TimeRange(0, MAX_DATAPOINTS * 1000 + 1, 1000)
    month = TimeRange(0, 31 * 86_400_000)
    queries = MetricQueries([metric("a", 1), expression("e", "FILL(a, 0)")])
    with pytest.raises(ValidationError, match="ask for less time, or a longer period"):
        queries.evaluate({}, month)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ({1: 1.0}, "the point at 1 is not at the start of a period of 60000 ms"),
        ({0: float("nan")}, "leave out what has no value"),
        ({0: float("inf")}, "leave out what has no value"),
    ],
)
def test_a_point_is_at_the_start_of_a_period_and_finite(points: dict[int, float], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        MetricQueries([metric("a")]).evaluate({"a": Series(MINUTE_MS, points)}, RANGE)

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamkit.alarms.alarm import Alarm
from streamkit.errors import ValidationError
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.metric import Metric

VISIBLE = Metric.of("streamkit/sqs", "ApproximateNumberOfMessagesVisible", QueueName="dead")
FIELDS: dict[str, Any] = {
    "metric": VISIBLE,
    "statistic": "Maximum",
    "period": 60,
    "threshold": 0,
    "comparison": "GreaterThanThreshold",
}
MATH = [
    MetricQuery(id="errors", metric=VISIBLE, statistic="Sum", period=60, return_data=False),
    MetricQuery(id="calls", metric=Metric.of("n", "calls"), statistic="p99", period=60, return_data=False),
    MetricQuery(id="percent", expression="100 * errors / calls"),
]


def alarm(name: str = "dying", **changes: Any) -> Alarm:
    return Alarm(name, **{**FIELDS, **changes})


def test_has_cloudwatchs_defaults() -> None:
    made = alarm()
    assert made.name == "dying"
    assert (made.evaluation_periods, made.datapoints_to_alarm, made.treat_missing_data) == (1, None, "missing")
    assert alarm(evaluation_periods=3).needed == 3
    assert alarm(evaluation_periods=3, datapoints_to_alarm=2).needed == 2
    assert alarm(evaluation_periods=3).range_periods == 5


def test_only_the_name_goes_without_a_keyword() -> None:
    with pytest.raises(TypeError):
        Alarm("dying", VISIBLE, **{key: value for key, value in FIELDS.items() if key != "metric"})  # type: ignore[call-arg]


def test_is_a_value() -> None:
    assert alarm() == alarm()
    assert hash(alarm()) == hash(alarm())
    assert msgspec.json.decode(msgspec.json.encode(alarm()), type=Alarm) == alarm()
    with pytest.raises(AttributeError):
        alarm().threshold = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "1 to 255 characters"),
        ({"name": "a" * 256}, "1 to 255 characters"),
        ({"statistic": "average"}, "SampleCount, Sum, Average, Minimum, Maximum"),
        ({"statistic": "p101"}, "from 0 to 100"),
        ({"evaluate_low_sample_count_percentile": "no"}, "choose one of evaluate, ignore"),
        ({"evaluate_low_sample_count_percentile": "ignore"}, "statistic is 'Maximum': choose a percentile"),
        ({"evaluate_low_sample_count_percentile": "ignore", "statistic": "tm99"}, "choose a percentile"),
        ({"evaluate_low_sample_count_percentile": "ignore", "statistic": "p100"}, "between p0 and p100"),
        ({"period": 0}, "10, 20, 30 or a multiple of 60"),
        ({"period": -60}, "10, 20, 30 or a multiple of 60"),
        ({"period": 5}, "10, 20, 30 or a multiple of 60"),
        ({"period": 90}, "period is 90 seconds"),
        ({"period": 60.0}, "10, 20, 30 or a multiple of 60"),
        ({"evaluation_periods": 0}, "evaluation_periods is 0"),
        ({"datapoints_to_alarm": 2}, "evaluation_periods, which is 1"),
        ({"datapoints_to_alarm": 0}, "datapoints_to_alarm is 0"),
        ({"evaluation_periods": 1441}, "86460 seconds: choose at most 1 day"),
        ({"period": 3600, "evaluation_periods": 169}, "at most 7 day"),
        ({"period": 10, "evaluation_periods": 1079}, "kept 3 hours: choose at most 10780 seconds"),
        ({"threshold": float("nan")}, "finite number"),
        ({"threshold": "7"}, "finite number"),
        ({"comparison": ">"}, "choose one of GreaterThanOrEqualToThreshold, "),
        ({"treat_missing_data": "not_breaching"}, "missing, notBreaching, breaching, ignore"),
        ({"description": "a" * 1025}, "use up to 1,024 characters"),
        ({"actions_enabled": "yes"}, "choose True or False"),
        ({"unit": "Second"}, "unit 'Second' is not known: choose one of Seconds, "),
        ({"metric": None}, "it has no metric: give metric, statistic and period, or metrics"),
        ({"metric": None, "period": None}, "no metric and no period"),
        ({"metrics": [MATH[0]]}, "metrics and also metric, statistic, period: leave one of both out"),
    ],
)
def test_refuses_what_could_not_be_evaluated_and_says_what_to_choose(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        alarm(**changes)


@pytest.mark.parametrize(("period", "periods"), [(60, 1440), (3600, 168), (10, 1078), (30, 358), (604_800, 1)])
def test_accepts_the_longest_spans(period: int, periods: int) -> None:
    assert alarm(period=period, evaluation_periods=periods).needed == periods


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ("GreaterThanOrEqualToThreshold", (False, True, True)),
        ("GreaterThanThreshold", (False, False, True)),
        ("LessThanThreshold", (True, False, False)),
        ("LessThanOrEqualToThreshold", (True, True, False)),
    ],
)
def test_compares_as_its_operator_says(comparison: str, expected: tuple[bool, ...]) -> None:
    made = alarm(comparison=comparison, threshold=5)
    assert tuple(made.breaches(value) for value in (4.0, 5.0, 6.0)) == expected


@pytest.mark.parametrize("statistic", ["Average", "p99.9", "TM(10%:90%)", "PR(:300)", "IQM"])
def test_takes_every_statistic(statistic: str) -> None:
    compiled = alarm(statistic=statistic).compiled
    assert compiled is not None
    assert compiled.text == statistic
    assert alarm(statistic=statistic).evaluate_low_sample_count_percentile == "evaluate"


def of_math(*queries: MetricQuery, **changes: Any) -> Alarm:
    return Alarm("much", metrics=list(queries), threshold=5, comparison="GreaterThanThreshold", **changes)


def test_takes_metric_math() -> None:
    made = of_math(*MATH, evaluation_periods=3)
    assert made.metrics == tuple(MATH)
    assert (made.period, made.period_ms, made.compiled) == (None, 60_000, None)
    assert hash(made) == hash(of_math(*MATH, evaluation_periods=3))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Alarm) == made


@pytest.mark.parametrize(
    ("queries", "changes", "words"),
    [
        ([*MATH, MetricQuery(id="x", expression="errors")], {}, "'much': exactly one entry .* percent, x"),
        ([MATH[0], msgspec.structs.replace(MATH[1], period=300), MATH[2]], {}, "one period, and here are 60, 300 s"),
        ([MetricQuery(id="x", expression="1 + y")], {}, "'much': query 'x' names 'y'"),
        (
            [MetricQuery(id="x", metric=VISIBLE, statistic="Sum", period=5)],
            {},
            "period is 5 seconds: choose 10, 20, 30",
        ),
        (MATH, {"period": 60}, "metrics and also period"),
        (MATH, {"unit": "Count"}, "metrics and also unit"),
        (MATH, {"evaluation_periods": 1441}, "at most 1 day"),
        (MATH, {"evaluate_low_sample_count_percentile": "ignore"}, "statistic is None"),
        (
            [MetricQuery(id=f"m{at}", metric=VISIBLE, statistic="Sum", period=60) for at in range(11)],
            {},
            "1 to 10 metrics",
        ),
    ],
)
def test_refuses_math_that_is_no_alarm(queries: list[MetricQuery], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        of_math(*queries, **changes)

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.alarms.alarm import Alarm, AlarmState, TreatMissingData
from streamkit.alarms.evaluate import Reading, decide
from streamkit.alarms.explain import explain, reason_data
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.metric import Metric

NEWEST = 1_700_000_040_000  # 14/11/23 22:14:00
VALUES = {"0": 0.0, "X": 9.0, "-": None}
ERRORS = Metric.of("shop", "Errors", Service="pay")


def alarm(periods: int = 3, needed: int | None = None, treat: TreatMissingData = "missing", **changes: Any) -> Alarm:
    fields: dict[str, Any] = {"metric": ERRORS, "statistic": "Sum", "period": 60}
    return Alarm(
        "errors",
        evaluation_periods=periods,
        datapoints_to_alarm=needed,
        treat_missing_data=treat,
        threshold=5,
        comparison="GreaterThanThreshold",
        **{**fields, **changes},
    )


def reading(data: str, **changes: Any) -> Reading:
    return msgspec.structs.replace(Reading(NEWEST, tuple(VALUES[each] for each in data)), **changes)


def test_says_all_of_it() -> None:
    assert explain(alarm(needed=2), reading("00X0X"), "OK") == (
        "It is in ALARM when 2 of the latest 3 datapoints are over 5.0: Sum of shop Errors{Service=pay} in periods of "
        "60 seconds. The 5 periods from 2023-11-14 22:10:00 to 22:15:00 UTC were looked at, and all had data. Of the "
        "latest 3 datapoints 2 breached (9.0 at 22:14:00, 9.0 at 22:12:00) and 1 did not (0.0 at 22:13:00). That is 2 "
        "breaches of the 2 needed: ALARM."
    )


@pytest.mark.parametrize(
    ("asked", "data", "previous", "words"),
    [
        (alarm(), "XXXXX", "OK", "All of the latest 3 datapoints breached: 9.0 at 22:14:00, 9.0 at 22:13:00, 9.0 at"),
        (alarm(), "00000", "OK", "None of the latest 3 datapoints breached: 0.0 at 22:14:00"),
        (alarm(), "00000", "OK", "That is only 0 breaches of the 3 needed: OK."),
        (alarm(1), "--0", "OK", "when the latest datapoint is over 5.0"),
        (
            alarm(1),
            "--0",
            "OK",
            "1 of them had data. The latest datapoint, 0.0 at 22:14:00, did not breach. No data in ",
        ),
        (
            alarm(1),
            "0-X",
            "OK",
            "No data in 22:13:00, which does not matter, as there were enough datapoints. That is 1",
        ),
        (alarm(3, 1), "000", "OK", "when 1 of the latest 3 datapoints is over 5.0"),
        (alarm(), "XXX", "OK", "when each of the latest 3 datapoints is over 5.0"),
        (
            alarm(3, 2, "breaching"),
            "---X-",
            "OK",
            "so 2 missing datapoints counted as breaching. That is 3 breaches of",
        ),
        (
            alarm(3, 2, "notBreaching"),
            "---X-",
            "ALARM",
            "so 2 missing datapoints counted as not breaching. That is only",
        ),
        (
            alarm(3, 2, "ignore"),
            "---X-",
            "OK",
            "missing data is ignored, so 2 datapoints stayed missing. That does not",
        ),
        (alarm(3, 2, "ignore"), "---X-", "OK", "That does not decide, so the state stays OK."),
        (
            alarm(),
            "--X--",
            "OK",
            "nothing good came in the 3 periods since the first of it: ALARM, though that is only 1",
        ),
        (alarm(), "----X", "OK", "1 breach of the 3 needed, and more data may come, so the state stays OK."),
        (alarm(), "----X", "ALARM", "more data may come, so the state stays ALARM."),
        (
            alarm(),
            "-----",
            "OK",
            "and none had data. No data in 22:14:00, 22:13:00, 22:12:00, 22:11:00, 22:10:00, so 3",
        ),
        (alarm(), "-----", "OK", "Without any data nothing can be said: INSUFFICIENT_DATA."),
        (alarm(unit="Count"), "00000", "OK", "Sum of shop Errors{Service=pay} in Count in periods"),
        (alarm(11), "-" + "X" * 12, "OK", "at 22:05:00 and 1 more. No data in 22:02:00, which does not matter"),
    ],
)
def test_says_what_decided(asked: Alarm, data: str, previous: AlarmState, words: str) -> None:
    assert words in explain(asked, reading(data), previous)


def test_says_that_there_were_too_few_samples() -> None:
    asked = alarm(statistic="p99", evaluate_low_sample_count_percentile="ignore")
    found = reading("XX0", low=True, counts=(1000, 1000, 7))
    words = "The newest period has only 7 samples, too few for p99, so the state stays ALARM."
    assert explain(asked, found, "ALARM").endswith(words)


def test_says_what_of_metric_math() -> None:
    queries = [
        MetricQuery(id="errors", metric=ERRORS, statistic="Sum", period=60, return_data=False),
        MetricQuery(id="calls", metric=Metric.of("shop", "Calls"), statistic="p99", period=60, return_data=False),
        MetricQuery(id="both", expression="errors + calls", return_data=False),
        MetricQuery(id="percent", expression="100 * errors / both"),
    ]
    asked = alarm(metric=None, statistic=None, period=None, metrics=queries)
    assert (
        "100 * errors / both in periods of 60 seconds, where errors is Sum of shop Errors{Service=pay}, calls is p99 "
        "of shop Calls, both is errors + calls."
    ) in explain(asked, reading("00000"), "OK")
    data = json.loads(reason_data(asked, reading("00000"), NEWEST + 60_000))
    assert "statistic" not in data
    assert data["evaluatedDatapoints"][0] == {"timestamp": "2023-11-14T22:14:00.000+0000", "value": 0.0}
    alone = [msgspec.structs.replace(queries[0], return_data=True)]
    asked = alarm(metric=None, statistic=None, period=None, metrics=alone)
    assert "over 5.0: Sum of shop Errors{Service=pay} in periods of 60 seconds." in explain(asked, reading("00"), "OK")


@given(
    needed_periods=st.integers(1, 4).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    treat=st.sampled_from(get_args(TreatMissingData)),
    previous=st.sampled_from(get_args(AlarmState)),
    data=st.data(),
)
def test_ends_with_the_state_that_was_decided(
    needed_periods: tuple[int, int], treat: TreatMissingData, previous: AlarmState, data: st.DataObject
) -> None:
    needed, periods = needed_periods
    text = data.draw(st.text("0X-", min_size=periods + 2, max_size=periods + 2))
    asked = alarm(periods, needed, treat)
    found = explain(asked, reading(text), previous)
    state = decide(asked, reading(text).datapoints, previous)
    assert found.endswith(f" {state}.") or (state == "ALARM" and ": ALARM, though that is only" in found)
    if "stays" in found:
        assert state == previous


class TestReasonData:
    """StateReasonData, as in the CloudWatch API reference."""

    def test_has_what_was_evaluated(self) -> None:
        found = reading("0-X-X", counts=(2, None, 3, None, 1))
        assert json.loads(reason_data(alarm(needed=2, unit="Count"), found, NEWEST + 60_123)) == {
            "version": "1.0",
            "queryDate": "2023-11-14T22:15:00.123+0000",
            "startDate": "2023-11-14T22:10:00.000+0000",
            "unit": "Count",
            "statistic": "Sum",
            "period": 60,
            "recentDatapoints": [0.0, 9.0, 9.0],
            "threshold": 5.0,
            "evaluatedDatapoints": [
                {"timestamp": "2023-11-14T22:14:00.000+0000", "sampleCount": 1.0, "value": 9.0},
                {"timestamp": "2023-11-14T22:12:00.000+0000", "sampleCount": 3.0, "value": 9.0},
                {"timestamp": "2023-11-14T22:10:00.000+0000", "sampleCount": 2.0, "value": 0.0},
            ],
        }

    def test_has_what_was_missing(self) -> None:
        data = json.loads(reason_data(alarm(treat="breaching"), reading("--X--"), NEWEST + 60_000))
        assert data["recentDatapoints"] == [9.0]
        assert data["evaluatedDatapoints"] == [
            {"timestamp": "2023-11-14T22:14:00.000+0000"},
            {"timestamp": "2023-11-14T22:13:00.000+0000"},
            {"timestamp": "2023-11-14T22:12:00.000+0000", "value": 9.0},
        ]

    def test_is_as_short_as_cloudwatchs(self) -> None:
        values = tuple(float(value) for value in range(1442))
        data = reason_data(alarm(1440), Reading(NEWEST, values, tuple(range(1442))), NEWEST + 60_000)
        assert len(data) < 4000
        assert json.loads(data)["recentDatapoints"][-1] == 1441.0
        assert len(json.loads(data)["recentDatapoints"]) == 25

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.alarms.alarm import Alarm, AlarmState, ComparisonOperator, TreatMissingData
from streamkit.alarms.evaluate import decide, decided_early, evaluate, has_low_sample_count
from streamkit.metrics.metric import STATISTICS, Metric, Statistic
from streamkit.metrics.statistic_set import StatisticSet

STATES: tuple[AlarmState, ...] = get_args(AlarmState)
TREATMENTS: tuple[TreatMissingData, ...] = ("missing", "ignore", "breaching", "notBreaching")
VALUES = {"0": 0.0, "X": 9.0, "-": None}
NEWEST = 1_700_000_040_000  # 14/11/23 22:14:00


def alarm(
    needed: int | None = None,
    periods: int = 3,
    treat: TreatMissingData = "missing",
    comparison: ComparisonOperator = "GreaterThanThreshold",
    statistic: Statistic = "Average",
    threshold: float = 5,
) -> Alarm:
    return Alarm(
        "a",
        metric=Metric.of("n", "m"),
        statistic=statistic,
        period=60,
        evaluation_periods=periods,
        datapoints_to_alarm=needed,
        threshold=threshold,
        comparison=comparison,
        treat_missing_data=treat,
    )


def points(data: str) -> list[float | None]:
    return [VALUES[each] for each in data.split()]


# "Configuring how CloudWatch alarms treat missing data", CloudWatch user guide: range 5, N = 3.
# Columns: M, data, then the state under missing, ignore, breaching and notBreaching.
MISSING_DATA_TABLES = [
    (3, "0 - X - X", "OK", "OK", "OK", "OK"),
    (3, "- - - - 0", "OK", "OK", "OK", "OK"),
    (3, "- - - - -", "INSUFFICIENT_DATA", "keep", "ALARM", "OK"),
    (3, "0 X X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
    (3, "- - X - -", "ALARM", "keep", "ALARM", "OK"),
    (2, "0 - X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
    (2, "0 0 X 0 X", "ALARM", "ALARM", "ALARM", "ALARM"),
    (2, "0 - X - -", "OK", "OK", "ALARM", "OK"),
    (2, "- - - - 0", "OK", "OK", "ALARM", "OK"),
    (2, "- - - X -", "ALARM", "keep", "ALARM", "OK"),
]


@pytest.mark.parametrize("row", MISSING_DATA_TABLES, ids=lambda row: f"M={row[0]} {row[1]}")
@pytest.mark.parametrize("previous", STATES)
def test_the_missing_data_tables(row: tuple[int, str, str, str, str, str], previous: AlarmState) -> None:
    needed, data, *expected = row
    for treat, state in zip(TREATMENTS, expected, strict=True):
        found = evaluate(alarm(needed, treat=treat), points(data), previous)
        assert found.state == (previous if state == "keep" else state), treat


@pytest.mark.parametrize("data", ["- - - - X", "- - - X -", "- - - X X"])
@pytest.mark.parametrize("previous", STATES)
def test_breaching_datapoints_younger_than_m_periods_wait(data: str, previous: AlarmState) -> None:
    assert evaluate(alarm(3), points(data), previous).state == previous
    a_period_later = points(data + " -")[1:]
    expected = previous if data == "- - - - X" else "ALARM"
    assert evaluate(alarm(3), a_period_later, previous).state == expected


def naive(needed: int, periods: int, treat: TreatMissingData, data: str, previous: AlarmState) -> AlarmState:
    """The rules of the user guide, written for reading alone. Position 1 is the newest."""
    positions = [(position, what) for position, what in enumerate(reversed(data), start=1) if what != "-"]
    if len(positions) >= periods:
        return "ALARM" if [what for _, what in positions[:periods]].count("X") >= needed else "OK"
    real = "".join(what for _, what in positions)
    if treat == "breaching":
        return "ALARM" if (real + "X" * (periods - len(real))).count("X") >= needed else "OK"
    if treat == "notBreaching":
        return "ALARM" if real.count("X") >= needed else "OK"
    if real == "":
        return previous if treat == "ignore" else "INSUFFICIENT_DATA"
    if real.count("X") >= needed:
        return "ALARM"
    if "0" in real:
        return "OK"
    if treat == "missing" and max(position for position, _ in positions) >= needed:
        return "ALARM"
    return previous


@given(
    needed_periods=st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    treat=st.sampled_from(TREATMENTS),
    previous=st.sampled_from(STATES),
    data=st.data(),
)
def test_equals_a_naive_evaluator(
    needed_periods: tuple[int, int], treat: TreatMissingData, previous: AlarmState, data: st.DataObject
) -> None:
    needed, periods = needed_periods
    text = data.draw(st.text("0X-", min_size=periods + 2, max_size=periods + 2))
    made = alarm(needed, periods, treat)
    found = evaluate(made, points(" ".join(text)), previous, NEWEST)
    assert found.state == naive(needed, periods, treat, text, previous)
    assert decide(made, points(" ".join(text)), previous) == found.state
    real = [VALUES[each] for each in text if each != "-"]
    assert list(found.datapoints) == real[-periods:]
    assert found.breaching == found.datapoints.count(9.0)
    assert found.reason.endswith(".")


class TestReason:
    """The wording of state reasons that CloudWatch sends."""

    def test_alarm(self) -> None:
        assert evaluate(alarm(2), points("0 0 X 0 X"), "OK", NEWEST).reason == (
            "Threshold Crossed: 2 out of the last 3 datapoints [9.0 (14/11/23 22:14:00), 9.0 (14/11/23 22:12:00)] "
            "were greater than the threshold (5.0) (minimum 2 datapoints for OK -> ALARM transition)."
        )

    def test_ok(self) -> None:
        assert evaluate(alarm(3), points("X X X X 0"), "ALARM", NEWEST).reason == (
            "Threshold Crossed: 1 out of the last 3 datapoints [0.0 (14/11/23 22:14:00)] was not greater than the "
            "threshold (5.0) (minimum 1 datapoint for ALARM -> OK transition)."
        )

    @pytest.mark.parametrize(
        ("comparison", "words"),
        [
            ("GreaterThanOrEqualToThreshold", "was greater than or equal to the threshold"),
            ("LessThanThreshold", "was less than the threshold"),
            ("LessThanOrEqualToThreshold", "was less than or equal to the threshold"),
        ],
    )
    def test_comparisons(self, comparison: ComparisonOperator, words: str) -> None:
        assert (
            words
            in evaluate(alarm(periods=1, comparison=comparison), [5.0 if "Equal" in comparison else 4], "OK").reason
        )

    def test_without_times(self) -> None:
        assert "datapoints [9.0] was greater" in evaluate(alarm(periods=1), [9.0], "OK").reason

    def test_missing_data_treated(self) -> None:
        assert evaluate(alarm(treat="breaching"), points("- - - - -"), "OK", NEWEST).reason == (
            "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as "
            "[Breaching]."
        )
        assert evaluate(alarm(treat="notBreaching"), points("- 0 - - X"), "ALARM").reason == (
            "Threshold Crossed: 2 datapoints [9.0, 0.0] were received for 3 periods and 1 missing datapoint was "
            "treated as [NonBreaching]."
        )

    def test_insufficient_data(self) -> None:
        assert evaluate(alarm(), points("- - - - -"), "OK").reason == "Insufficient Data: 3 datapoints were unknown."
        assert evaluate(alarm(periods=1), points("- - -"), "OK").reason == "Insufficient Data: 1 datapoint was unknown."

    def test_premature(self) -> None:
        assert evaluate(alarm(3), points("- - X - -"), "OK").reason == (
            "Threshold Crossed: 1 out of the last 1 datapoints [9.0] was greater than the threshold (5.0) "
            "(minimum 3 datapoints for OK -> ALARM transition). 2 datapoints were unknown."
        )

    def test_a_long_one_lists_the_newest_ten(self) -> None:
        reason = evaluate(alarm(periods=1440), [float(value) for value in range(10, 1452)], "OK").reason
        assert "1440 out of the last 1440 datapoints [1451.0, 1450.0, " in reason
        assert "1442.0, ...] were" in reason


class TestDecidedEarly:
    @pytest.mark.parametrize(
        ("statistic", "comparison"),
        [
            ("Maximum", "GreaterThanThreshold"),
            ("Maximum", "GreaterThanOrEqualToThreshold"),
            ("SampleCount", "GreaterThanThreshold"),
            ("SampleCount", "GreaterThanOrEqualToThreshold"),
            ("Minimum", "LessThanThreshold"),
            ("Minimum", "LessThanOrEqualToThreshold"),
        ],
    )
    def test_a_breach_that_stays_one_counts_at_once(self, statistic: Statistic, comparison: ComparisonOperator) -> None:
        made = alarm(statistic=statistic, comparison=comparison)
        bad, good = (9.0, 1.0) if "Greater" in comparison else (1.0, 9.0)
        assert decided_early(made, bad)
        assert not decided_early(made, good)
        assert not decided_early(made, None)

    @pytest.mark.parametrize("comparison", get_args(ComparisonOperator))
    @pytest.mark.parametrize("statistic", ["Sum", "Average"])
    def test_sums_and_averages_wait_for_the_whole_period(
        self, statistic: Statistic, comparison: ComparisonOperator
    ) -> None:
        assert not decided_early(alarm(statistic=statistic, comparison=comparison), 5.0)
        assert not decided_early(alarm(statistic=statistic, comparison=comparison), 9.0)
        assert not decided_early(alarm(statistic=statistic, comparison=comparison), 1.0)

    @given(
        statistic=st.sampled_from(STATISTICS),
        comparison=st.sampled_from(get_args(ComparisonOperator)),
        threshold=st.integers(-3, 8),
        so_far=st.lists(st.integers(-10, 10), min_size=1, max_size=8),
        later=st.lists(st.integers(-10, 10), max_size=8),
    )
    def test_no_later_sample_undoes_it(
        self,
        statistic: Statistic,
        comparison: ComparisonOperator,
        threshold: int,
        so_far: list[int],
        later: list[int],
    ) -> None:
        def value(samples: list[int]) -> float:
            return StatisticSet(len(samples), sum(samples), min(samples), max(samples)).value(statistic)

        made = alarm(statistic=statistic, comparison=comparison, threshold=threshold)
        if decided_early(made, value(so_far)):
            assert made.breaches(value(so_far + later))


@pytest.mark.parametrize(
    ("percentile", "enough"), [("p99", 1000), ("p90", 100), ("p50", 20), ("p49", 21), ("p10", 100), ("p99.99", 100_000)]
)
def test_too_few_samples_are_those_cloudwatch_names(percentile: str, enough: int) -> None:
    asked = msgspec.structs.replace(alarm(), statistic=percentile, evaluate_low_sample_count_percentile="ignore")
    assert has_low_sample_count(asked, enough - 1)
    assert not has_low_sample_count(asked, enough)
    assert not has_low_sample_count(msgspec.structs.replace(alarm(), statistic=percentile), 1)

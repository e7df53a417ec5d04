from __future__ import annotations

from typing import Any

import pytest

from streamkit.errors import ValidationError
from streamkit.metrics.metric import Statistic
from streamkit.metrics.statistic_set import LARGEST_COUNT, StatisticSet, check_sample, check_statistic_set


@pytest.mark.parametrize(
    ("statistic", "value"), [("SampleCount", 4), ("Sum", 10), ("Average", 2.5), ("Minimum", 1), ("Maximum", 6)]
)
def test_answers_each_statistic(statistic: Statistic, value: float) -> None:
    assert StatisticSet(4, 10.0, 1.0, 6.0).value(statistic) == value


def test_refuses_another() -> None:
    with pytest.raises(ValidationError, match="Average"):
        StatisticSet(1, 1.0, 1.0, 1.0).value("p50")  # type: ignore[arg-type]


def test_merges() -> None:
    merged = StatisticSet(2, 5.0, 1.0, 4.0).merge(StatisticSet(1, -3.0, -3.0, -3.0))
    assert merged == StatisticSet(3, 2.0, -3.0, 4.0)


@pytest.mark.parametrize("value", [2.0**360, -(2.0**360), 2**360, 0, -0.5])
def test_accepts_values_up_to_the_largest(value: float) -> None:
    check_sample("m", value, LARGEST_COUNT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2.0**361, -(2**361), "1", None, True])
def test_refuses_what_is_no_sample(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"m: .*not a number within ±2\^360"):
        check_sample("m", value)


@pytest.mark.parametrize("count", [0, -1, 1.5, LARGEST_COUNT + 1, True, "1"])
def test_refuses_what_is_no_count(count: Any) -> None:
    with pytest.raises(ValidationError, match=r"m: a count of .*: put a whole number from 1 to 2\^40"):
        check_sample("m", 1.0, count)


@pytest.mark.parametrize(
    "found",
    [
        StatisticSet(1, 5.0, 5.0, 5.0),
        StatisticSet(3, 0.1 + 0.1 + 0.1, 0.1, 0.1),
        StatisticSet(2, -6.0, -5.0, -1.0),
        StatisticSet(2, 0.0, -5.0, 5.0),
    ],
)
def test_accepts_what_samples_can_have(found: StatisticSet) -> None:
    check_statistic_set("m", found)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (StatisticSet(0, 0.0, 0.0, 0.0), "a count of 0"),
        (StatisticSet(2, 3.0, 2.0, 1.0), "minimum 2.0 is over maximum 1.0: swap them"),
        (StatisticSet(1, 1.0, 1.0, 2.0), None),
        (StatisticSet(2, 5.0, 1.0, 2.0), "give one from 2.0 to 4.0"),
        (StatisticSet(2, 1.0, 1.0, 2.0), "cannot have the sum 1.0"),
        (StatisticSet(2, float("nan"), 1.0, 2.0), "cannot have the sum nan"),
        (StatisticSet(2, 3.0, float("nan"), 2.0), "not a number"),
        (StatisticSet(2, 3.0, 1.0, float("inf")), "not a number"),
    ],
)
def test_refuses_what_no_samples_have(found: StatisticSet, words: str | None) -> None:
    with pytest.raises(ValidationError, match=words or "one sample has one value"):
        check_statistic_set("m", found)

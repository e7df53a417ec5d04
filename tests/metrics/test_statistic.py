from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.metrics.metric import STATISTICS
from streamkit.metrics.statistic import compile_statistic
from streamkit.metrics.statistic_set import StatisticSet

ANY = StatisticSet(1, 1.0, 1.0, 1.0)
ONE_TO_TEN = [(float(value), 1) for value in range(1, 11)]


def over(text: str, *samples: float) -> float | None:
    return compile_statistic(text).value(ANY, sorted(Counter(samples).items()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p0", 1),
        ("p10", 1),
        ("p10.0000000001", 2),
        ("p50", 5),
        ("p90", 9),
        ("p90.5", 10),
        ("P100", 10),
        ("tm90", 5),
        ("TM(:90%)", 5),
        ("TM(10%:90%)", 5.5),
        ("tm(80%:)", 9.5),
        ("TM(80%:100%)", 9.5),
        ("TM(3:6)", 5),
        ("TM(3:)", 7),
        ("TM(:6)", 3.5),
        ("TM(2.5:3.5)", 3),
        ("TM(3:3.5)", None),
        ("IQM", 5.5),
        ("iqm", 5.5),
        ("TM(25%:75%)", 5.5),
        ("wm80", (36 + 8 + 8) / 10),
        ("WM(10%:90%)", (2 + 44 + 9) / 10),
        ("WM(3:6)", (9 + 4 + 5 + 6 * 5) / 10),
        ("WM(:6)", (21 + 6 * 4) / 10),
        ("WM(9:)", (9 * 9 + 10) / 10),
        ("WM(20:30)", 20),
        ("tc90", 9),
        ("TC(3:6)", 3),
        ("TC(20:)", 0),
        ("TC(10%:90%)", 8),
        ("ts50", 15),
        ("TS(80%:)", 19),
        ("TS(3:6)", 15),
        ("TS(20:)", 0),
        ("PR(:3)", 30),
        ("PR(3:6)", 30),
        ("PR(9:)", 10),
        ("PR(20:30)", 0),
    ],
)
def test_of_one_to_ten(text: str, expected: float | None) -> None:
    found = compile_statistic(text).value(ANY, ONE_TO_TEN)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_one_sample_is_its_own_everything() -> None:
    for text in ("p0", "p50", "p100", "tm1", "tm99", "IQM", "WM(10%:90%)", "TS(49%:51%)"):
        assert over(text, 7.0) == 7.0, text


def test_percents_of_ten_decimals_are_exact() -> None:
    samples = [(float(value), 10**9) for value in range(100)]
    assert compile_statistic("p50").value(ANY, samples) == 49
    assert compile_statistic("p50.0000000001").value(ANY, samples) == 50
    finer = [(float(value), 10**10) for value in range(100)]
    assert compile_statistic("TC(:50.0000000001%)").value(ANY, finer) == 50 * 10**10 + 1


def test_the_plain_ones_need_no_values() -> None:
    found = StatisticSet(4, 10.0, 1.0, 6.0)
    for statistic in STATISTICS:
        compiled = compile_statistic(statistic)
        assert not compiled.extended
        assert compiled.value(found, None) == found.value(statistic)


def test_an_extended_one_without_values_has_none() -> None:
    for text in ("p99", "IQM", "PR(:3)", "TC(:3)", "WM(:3)"):
        assert compile_statistic(text).extended
        assert compile_statistic(text).value(ANY, None) is None
        assert compile_statistic(text).value(ANY, []) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p101", "over 100: write a number from 0 to 100"),
        ("p100.0000000001", "over 100"),
        ("tm101", "over 100"),
        ("TM(5%:101%)", "over 100"),
        ("p99.12345678901", "at most 10 decimals"),
        ("tm0", "leaves nothing: write a number over 0, such as tm99"),
        ("TM(:0%)", "leaves nothing"),
        ("TM(100%:)", "leaves nothing"),
        ("TM(90%:10%)", "lower bound must be less"),
        ("TM(5:5)", "lower bound must be less"),
        ("PR(9:3)", "lower bound must be less"),
        ("TM(:)", "has no bound: write one at least, such as TM"),
        ("PR(:)", r"such as PR\(:300\)"),
        ("TM(5%:100)", "mixes a percent with a value"),
        ("WM(5:100%)", "write % after both bounds or after neither"),
        ("PR(10%:90%)", r"PR takes values, such as PR\(100:2000\)"),
        ("PR(:90%)", "PR takes values"),
        ("TC(:" + "9" * 110 + ")", r"over 2\^360"),
        ("pr90", "is not known: write one of SampleCount"),
        ("average", "is not known"),
        ("p", "is not known"),
        ("p-1", "no sign"),
        ("TM(-5:5)", "no sign"),
        ("TM(5)", "is not known"),
        ("TM 5:6", "is not known"),
        ("p٣", "is not known"),
        ("p99\n", "is not known"),
        ("", "is not known"),
        (99, "is not known"),
    ],
)
def test_refuses_another_and_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        compile_statistic(text)


def in_order(low: int | None, high: int | None) -> bool:
    return low is None or high is None or low < high


percents = st.integers(0, 10**12).map(lambda scaled: Fraction(scaled, 10**10)) | st.integers(0, 100).map(Fraction)


def written(percent: Fraction) -> str:
    return f"{int(percent)}.{int(percent % 1 * 10**10):010d}"


def naive(kind: str, samples: list[float], low: Fraction, high: Fraction) -> float:
    """A sample stays if any of its share of the whole, which is [(rank - 1) / n, rank / n], is inside the bounds."""
    count = len(samples)
    ranked = [(Fraction(rank, count) * 100, value) for rank, value in enumerate(sorted(samples), 1)]
    inside = [value for end, value in ranked if end > low and end - Fraction(100, count) < high]
    match kind:
        case "TM":
            return sum(inside) / len(inside)
        case "TC":
            return len(inside)
        case "TS":
            return sum(inside)
    return sum(min(max(value, inside[0]), inside[-1]) for value in samples) / count


@given(
    samples=st.lists(st.integers(0, 20).map(float) | st.floats(0, 1e6), min_size=1, max_size=60),
    ends=st.tuples(percents, percents).filter(lambda ends: ends[0] != ends[1]),
    kind=st.sampled_from(["TM", "WM", "TC", "TS"]),
)
def test_percents_as_bounds_equal_a_look_at_every_sample(
    samples: list[float], ends: tuple[Fraction, Fraction], kind: str
) -> None:
    low, high = sorted(ends)
    expected = naive(kind, samples, low, high)
    assert over(f"{kind}({written(low)}%:{written(high)}%)", *samples) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(samples=st.lists(st.integers(0, 20).map(float) | st.floats(0, 1e6), min_size=1, max_size=60), percent=percents)
def test_a_percentile_is_the_smallest_value_that_enough_samples_do_not_exceed(
    samples: list[float], percent: Fraction
) -> None:
    enough = [
        value
        for value in sorted(samples)
        if Fraction(100 * sum(each <= value for each in samples), len(samples)) >= percent
    ]
    assert over(f"p{written(percent)}", *samples) == enough[0]


@given(
    samples=st.lists(st.integers(0, 20).map(float), min_size=1, max_size=60),
    bounds=st.sampled_from(
        [
            (low, high)
            for low in (None, *range(21))
            for high in (None, *range(21))
            if low != high and in_order(low, high)
        ]
    ),
)
def test_values_as_bounds_equal_a_look_at_every_sample(
    samples: list[float], bounds: tuple[int | None, int | None]
) -> None:
    low, high = bounds
    text = f"({'' if low is None else low}:{'' if high is None else high})"
    least, most = (-math.inf if low is None else low), (math.inf if high is None else high)
    inside = [value for value in samples if least < value <= most]
    assert over("TC" + text, *samples) == len(inside)
    assert over("TS" + text, *samples) == sum(inside)
    assert over("TM" + text, *samples) == (pytest.approx(sum(inside) / len(inside)) if inside else None)
    assert over("PR" + text, *samples) == pytest.approx(100 * len(inside) / len(samples))
    clamped = [min(max(value, least), most) for value in samples]
    assert over("WM" + text, *samples) == pytest.approx(sum(clamped) / len(samples))

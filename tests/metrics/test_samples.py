from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic import compile_statistic
from streamkit.metrics.statistic_set import StatisticSet

part = st.one_of(
    st.lists(st.integers(-1, 5).map(float), min_size=1, max_size=4),
    st.tuples(st.integers(2, 3), st.integers(-1, 5), st.integers(0, 2)),
)
"""A list of values, or a statistic set of so many from there by so much."""


@given(st.lists(part, min_size=1, max_size=6))
def test_values_are_lost_with_the_first_that_is_not_known(parts: list[list[float] | tuple[int, int, int]]) -> None:
    found: Samples | None = None
    values: Counter[float] = Counter()
    known = True
    for each in parts:
        if isinstance(each, list):
            values.update(each)
            samples = Samples.of_list(list(each))
            assert samples.set == Samples.of_counts(Counter(each)).set
        else:
            count, least, spread = each
            values.update([float(least)] * (count - 1) + [float(least + spread)])
            known = known and spread == 0
            total = float(count * least + spread)
            samples = Samples.of_set(StatisticSet(count, total, float(least), float(least + spread)))
        if found is None:
            found = samples.copy()
        else:
            found.merge(samples)
    assert found is not None
    everything = sorted(values.elements())
    assert found.set == StatisticSet(len(everything), sum(everything), everything[0], everything[-1])
    assert found.values() == (sorted(values.items()) if known and everything[0] >= 0 else None)


def test_a_copy_is_independent() -> None:
    one = Samples.of_list([1.0, 2.0])
    other = one.copy()
    other.merge(Samples.of_list([3.0, 4.0]))
    assert one.values() == [(1.0, 1), (2.0, 1)]
    assert other.values() == [(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)]


def test_whole_numbers_of_any_size_are_kept() -> None:
    samples = Samples.of_list([1, 2**300])
    assert samples.distribution is not None
    assert samples.distribution.unpack(samples.distribution.pack()).values(1, 2.0**300) == [(1, 1), (2.0**300, 1)]


def test_answers_with_what_the_samples_have() -> None:
    asked = [compile_statistic(text) for text in ("Sum", "p50", "TM(9:)")]
    assert Samples.of_list([1.0, 2.0]).answers(asked) == {"Sum": 3.0, "p50": 1.0}
    assert Samples.of_list([-1.0, 2.0]).answers(asked) == {"Sum": 1.0}
    assert Samples.of_list([1.0, 2.0]).value(asked[1]) == 1.0


def test_samples_of_one_negative_value_have_no_values() -> None:
    samples = Samples.of_list([-1.0, -1.0])
    assert samples.values() is None
    assert Samples.of_counts({-1.0: 3}).values() is None
    samples.merge(Samples.of_list([-1.0]))
    assert samples.set == StatisticSet(3, -3.0, -1.0, -1.0)
    assert samples.values() is None

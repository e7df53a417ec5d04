from __future__ import annotations

import random
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.metrics.distribution import MAX_BINS, MAX_DISTINCT, MAX_UNCOUNTED, Distribution, coarsened

Counts = dict[float, int]

wide = st.floats(1e-250, 1e100)
counts_of = st.dictionaries(wide | st.just(0.0) | st.integers(0, 10**6), st.integers(1, 5), min_size=1, max_size=400)


def spread(number: int, factor: float = 1e4) -> Counts:
    """So many distinct values from 1 up to ``factor``."""
    chosen = random.Random(1)
    return {factor ** chosen.random(): 1 + at % 3 for at in range(number)}


def listed(found: Distribution, counts: Counts) -> list[tuple[float, int]]:
    return found.values(min(counts), max(counts))


def each(values: list[tuple[float, int]]) -> list[float]:
    return [value for value, count in values for _ in range(count)]


def one_by_one(counts: Counts) -> list[float]:
    values = each([*counts.items()])
    random.Random(2).shuffle(values)
    return values


def test_few_distinct_values_are_exact() -> None:
    counts = spread(MAX_DISTINCT)
    found = Distribution.of(counts)
    assert listed(found, counts) == sorted(counts.items())
    assert found.relative_error == 0


def test_many_distinct_values_are_within_one_percent() -> None:
    counts = spread(5000)
    found = Distribution.of(counts)
    assert found.relative_error == pytest.approx(0.01)
    values = listed(found, counts)
    assert len(values) <= MAX_BINS
    for exact, approximate in zip(each(sorted(counts.items())), each(values), strict=True):
        assert abs(approximate - exact) <= 0.0100001 * exact


@pytest.mark.parametrize(("factor", "error"), [(27_000, 0.01), (7e8, 0.02), (6e17, 0.04)])
def test_the_error_doubles_with_the_square_of_the_factor(factor: float, error: float) -> None:
    assert Distribution.of(spread(20_000, factor)).relative_error == pytest.approx(error, rel=0.01)


@given(counts_of)
def test_the_relative_error_holds(counts: Counts) -> None:
    found = Distribution.of(counts)
    values = listed(found, counts)
    assert len(found.bins) <= MAX_BINS
    assert values == sorted(values)
    for exact, approximate in zip(each(sorted(counts.items())), each(values), strict=True):
        assert abs(approximate - exact) <= (found.relative_error + 1e-9) * exact


@given(st.lists(counts_of, min_size=1, max_size=4), st.data())
def test_merging_is_adding_everything(parts: list[Counts], data: st.DataObject) -> None:
    found = Distribution()
    together: Counter[float] = Counter()
    for part in parts:
        together.update(part)
        other = Distribution.of(part) if data.draw(st.booleans()) else Distribution.of_list(one_by_one(part))
        for _ in range(data.draw(st.integers(0, 3))):
            other.coarsen()
        before = listed(other.copy(), part)
        found.merge(other)
        assert listed(other, part) == before
    values = listed(found, dict(together))
    assert sum(count for _, count in values) == together.total()
    for exact, approximate in zip(each(sorted(together.items())), each(values), strict=True):
        assert abs(approximate - exact) <= (found.relative_error + 1e-9) * exact


@given(counts_of, st.integers(0, 5))
def test_packing_loses_nothing(counts: Counts, coarser: int) -> None:
    found = Distribution.of(counts)
    for _ in range(coarser):
        found.coarsen()
    again = Distribution.unpack(found.pack())
    assert listed(again, counts) == listed(found, counts)
    assert again.relative_error == found.relative_error
    assert again.pack() == found.pack()


@pytest.mark.parametrize("number", [3, 70, 150, 151, 2000])
def test_what_comes_one_by_one_is_the_same_as_counts(number: int) -> None:
    counts = spread(number)
    found = Distribution.of_list(one_by_one(counts))
    assert listed(found.copy(), counts) == listed(Distribution.of(counts), counts)
    assert listed(Distribution.unpack(found.pack()), counts) == listed(Distribution.of(counts), counts)


def test_what_waits_to_be_counted_is_bounded() -> None:
    found = Distribution()
    for at in range(100):
        found.merge(Distribution.of_list([float(at), float(at + 1)] * 100))
        assert len(found._uncounted) <= MAX_UNCOUNTED
    assert sum(count for _, count in found.values(0, 100)) == 20_000


def test_zeros_are_exact_beside_bins() -> None:
    counts = {0.0: 7, **spread(1000)}
    for found in (Distribution.of(counts), Distribution.of_list(one_by_one(counts))):
        assert listed(found, counts)[0] == (0.0, 7)
        assert listed(Distribution.unpack(found.pack()), counts)[0] == (0.0, 7)


def test_nothing_is_outside_of_what_was_put() -> None:
    counts = spread(3000)
    found = Distribution.of(counts)
    for _ in range(6):
        found.coarsen()
    values = [value for value, _ in listed(found, counts)]
    assert min(counts) <= values[0]
    assert values[-1] <= max(counts)


def test_memory_is_as_it_says() -> None:
    assert len(Distribution.of(dict.fromkeys(spread(MAX_DISTINCT), 127)).pack()) <= 1600
    full = Distribution.of(dict.fromkeys(spread(100_000, 27_000), 1))
    assert len(full.bins) > MAX_BINS * 0.9
    assert len(full.pack()) <= 2100
    full._uncounted = [float(at) for at in range(MAX_UNCOUNTED)]
    objects = [*full.bins, *full.bins.values(), *full._uncounted]
    assert sum(map(sys.getsizeof, [full, full.bins, full._uncounted, *objects])) < 120_000
    full._uncounted = []
    full.bins = dict.fromkeys(range(-40_000, -40_000 + 70_000, 137), 2**60)
    assert len(full.bins) == 511
    assert len(full.pack()) <= 6500


def test_what_is_coarser_is_smaller_down_to_a_few_bins() -> None:
    counts = spread(3000, 1e100)
    packed = Distribution.of(counts).pack()
    sizes = [len(packed)]
    while (smaller := coarsened(packed)) != packed:
        packed = smaller
        sizes.append(len(packed))
        assert sizes[-1] <= sizes[-2] * 0.75 or len(Distribution.unpack(packed).bins) <= 14
    assert len(sizes) > 5
    assert len(Distribution.unpack(packed).bins) <= 14
    assert sum(count for _, count in Distribution.unpack(packed).values(1, 1e100)) == sum(counts.values())


def test_the_widest_samples_can_be_made_as_coarse_as_can_be() -> None:
    counts = {5e-324: 1, 2.0**360: 1, **spread(200)}
    packed = Distribution.of(counts).pack()
    while (smaller := coarsened(packed)) != packed:
        packed = smaller
    assert sum(count for _, count in listed(Distribution.unpack(packed), counts)) == sum(counts.values())

"""The loads that are not the simplest one: whose the records are, and what is verified of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from benchmarks.figures import WrongResultError
from benchmarks.keys import Distribution, hot, uniform, zipf
from benchmarks.order import Check, Pair, Records

DISTRIBUTIONS = [uniform(50), zipf(50), hot(50, 0.9), hot(50, 1.0)]


# ---- keys


def frequencies(distribution: Distribution, count: int) -> list[float]:
    """Shares of all, by key."""
    found = Counter(distribution.turns(count))
    return [found[at] / count for at in range(len(distribution.weights))]


def test_uniform_keys_are_as_frequent_as_each_other() -> None:
    assert frequencies(uniform(10), 50_000) == pytest.approx([0.1] * 10, rel=0.1)
    assert uniform(10).hottest == pytest.approx(10.0)


def test_by_zipf_the_nth_key_has_an_nth_of_the_first() -> None:
    found = frequencies(zipf(1000, 1.0), 200_000)
    for at in (2, 3, 5, 10):
        assert found[0] / found[at - 1] == pytest.approx(at, rel=0.1)
    # The weight of the first of 1,000 keys is 1 over the 1,000th harmonic number.
    assert zipf(1000, 1.0).hottest == pytest.approx(100 / 7.4855, rel=1e-4)


def test_a_hot_key_has_its_share_and_the_others_the_rest() -> None:
    found = frequencies(hot(11, 0.9), 50_000)
    assert found[0] == pytest.approx(0.9, rel=0.02)
    assert found[1:] == pytest.approx([0.01] * 10, rel=0.2)
    assert frequencies(hot(11, 1.0), 100) == [1.0, *[0.0] * 10]
    assert hot(1, 1.0).turns(3) == [0, 0, 0]


def test_keys_are_drawn_the_same_in_every_run() -> None:
    assert zipf(100).turns(1000) == zipf(100).turns(1000)


# ---- verification, whosever the records are


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: str(each.name))
def test_records_have_the_keys_that_were_drawn(distribution: Distribution) -> None:
    turns = distribution.turns(60)
    records = distribution.records(100, 60)
    # What comes after those that were drawn has their keys once more.
    assert [key for key, _ in records.batch(range(150))] == [records.keys[turns[at % 60]] for at in range(150)]


def by_key(records: Records, count: int) -> list[Pair]:
    """What a right run gives back: those of a key in their order, keys in any."""
    return sorted(records.batch(range(count)), key=lambda pair: (pair[0], pair[1]))


@pytest.mark.parametrize("count", [0, 1, 59, 60, 61, 150])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: str(each.name))
def test_verification_accepts_a_right_run(distribution: Distribution, count: int) -> None:
    records = distribution.records(100, 60)
    records.verify(by_key(records, count), count)
    records.verify(records.batch(range(count)), count)


def lost(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[51:]


def doubled(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[49:]


def lost_and_doubled(pairs: list[Pair]) -> list[Pair]:
    return pairs[:50] + pairs[49:50] + pairs[51:]


def swapped(pairs: list[Pair]) -> list[Pair]:
    """Two neighbours of one key."""
    key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    first, second = [place for place, pair in enumerate(pairs) if pair[0] == key][:2]
    changed = list(pairs)
    changed[first], changed[second] = pairs[second], pairs[first]
    return changed


def under_a_key_that_nobody_drew(pairs: list[Pair]) -> list[Pair]:
    return [*pairs[:50], ("key-50", pairs[50][1]), *pairs[51:]]


SPOILED = [lost, doubled, lost_and_doubled, swapped, under_a_key_that_nobody_drew]


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: str(spoil.__name__))
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: str(each.name))
def test_verification_catches(distribution: Distribution, spoil: Callable[[list[Pair]], list[Pair]]) -> None:
    records = distribution.records(100, 60)
    with pytest.raises(WrongResultError):
        records.verify(spoil(records.batch(range(150))), 150)


def test_a_record_under_a_key_that_gets_none_is_caught() -> None:
    records = hot(50, 1.0).records(100, 60)
    with pytest.raises(WrongResultError, match="under 'key-3', which nobody put"):
        Check(records).see("key-3", records.payload(3))


def test_a_record_that_nobody_acknowledged_does_not_make_up_for_one_that_is_lost() -> None:
    records = Records(100, keys=16)
    with pytest.raises(WrongResultError, match="record 199 of key-7 was acknowledged and is not there"):
        records.verify([*records.batch(range(199)), *records.batch([200])], 200)

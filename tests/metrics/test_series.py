"""What is taken of a series to be stored, given back, and loaded again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from streamkit.metrics.buckets import Row, samples_of
from streamkit.metrics.metric import Metric
from streamkit.metrics.samples import Samples
from streamkit.metrics.series import AFTER_ALL, BEFORE_ALL, Added, Series
from streamkit.metrics.statistic_set import StatisticSet

MINUTE = 60_000
START = 1_700_000_000_000 // MINUTE * MINUTE
METRIC = Metric.of("shop", "Latency")


def put(series: Series, after_ms: int, value: float) -> None:
    series.turn_to(START + after_ms)
    series.collected.append(value)


def values_of(rows: Iterable[Row]) -> Counter[tuple[int, float]]:
    found: Counter[tuple[int, float]] = Counter()
    for row in rows:
        for value, count in samples_of(row).values() or ():
            found[row[0], value] += count
    return found


def merged(parts: Iterable[Added]) -> tuple[Counter[tuple[int, float]], Counter[tuple[int, float]]]:
    seconds: Counter[tuple[int, float]] = Counter()
    minutes: Counter[tuple[int, float]] = Counter()
    for part in parts:
        seconds += values_of(part.seconds)
        minutes += values_of(part.minutes)
    return seconds, minutes


_steps = st.one_of(
    st.tuples(st.just("put"), st.integers(-200_000, 400_000), st.integers(0, 20)),
    st.tuples(st.just("minute"), st.integers(-3, 6), st.integers(0, 20)),
    st.tuples(st.just("take"), st.integers(0, 6), st.booleans()),
    st.tuples(st.just("look"), st.integers(0, 2), st.just(0)),
)


@given(steps=st.lists(_steps, max_size=40))
def test_what_is_taken_is_what_was_added(steps: list[tuple[str, int, int]]) -> None:
    """Once, whatever comes late, is given back and is looked at meanwhile; and the buckets hold all of it."""
    series = Series(METRIC, "None", START)
    seconds: Counter[tuple[int, float]] = Counter()
    minutes: Counter[tuple[int, float]] = Counter()
    stored: list[Added] = []
    for kind, at, more in steps:
        if kind == "put":
            put(series, at, more)
            seconds[(START + at) // 1000 * 1000, more] += 1
            minutes[(START + at) // MINUTE * MINUTE, more] += 1
        elif kind == "minute":
            series.add(START + at * MINUTE, Samples(1, more, more, more), MINUTE)
            minutes[START + at * MINUTE, more] += 1
        elif kind == "take":
            added = series.take(START + at * MINUTE)
            if added is not None and more:
                series.give_back(added)
            elif added is not None:
                assert all(row[0] < series.taken_ms for row in (*added.seconds, *added.minutes))
                stored.append(added)
        else:
            series.buckets(at)
        assert merged([*stored, series.not_taken()]) == (seconds, minutes)
    rest = series.take(AFTER_ALL)
    assert series.take(AFTER_ALL) is None
    assert merged([*stored, *([rest] if rest else [])]) == (seconds, minutes)
    assert values_of(series.buckets(1).rows(BEFORE_ALL, AFTER_ALL)) == minutes
    assert values_of(series.buckets(0).rows(BEFORE_ALL, AFTER_ALL)) == seconds


def test_the_minute_that_runs_is_not_taken_and_not_handed_on() -> None:
    series = Series(METRIC, "None", START)
    put(series, 0, 1)
    put(series, MINUTE, 2)
    added = series.take(START + MINUTE)
    assert added is not None
    assert [row[0] for row in added.minutes] == [START]
    added = series.take(START + 2 * MINUTE)
    assert added is not None
    assert [row[0] for row in added.minutes] == [START + MINUTE]


def test_what_is_loaded_stands_for_what_was_there_and_is_not_new() -> None:
    series = Series(METRIC, "None", START)
    for second in range(90):
        put(series, second * 1000, 1)
    assert series.take(START + 2 * MINUTE) is not None
    row = (START + MINUTE, 7, 70.0, 10.0, 10.0, b"")
    series.load(1, START + MINUTE, START + 2 * MINUTE, [row])
    assert series.take(AFTER_ALL) is None
    found = dict(series.buckets(1).sets(START, AFTER_ALL))
    assert {start: each.sum for start, each in found.items()} == {START: 60, START + MINUTE: 70}
    put(series, 2 * MINUTE, 5)
    assert [row[0] for row in (series.take(AFTER_ALL) or Added([], [])).minutes] == [START + 2 * MINUTE]
    total = series.total
    assert total is not None
    assert total.sample_count == 91


def test_samples_of_a_minute_wait_and_are_counted_with_the_rest() -> None:
    series = Series(Metric.of("n", "m"), "None", START)
    for second, value in ((0, 1.0), (59, 5.0), (60, 2.0)):
        series.put_minutely(START + second * 1000, value)
    assert (series.count, series.latest) == (3, 2.0)
    assert series.running() == (3, 8.0, 1.0)
    series.put_minutely(START + 30_000, 7.0)
    sums: Counter[int] = Counter()
    for at, found in series.buckets(1).sets(0, 2**62):
        sums[at - START] += int(found.sum)
    assert sums == {0: 13, MINUTE: 2}
    assert series.count == 4
    assert series.total == StatisticSet(4, 15.0, 1.0, 7.0)
    assert list(series.buckets(0).sets(0, 2**62)) == []

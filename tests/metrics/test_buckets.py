from __future__ import annotations

import random

from streamkit.metrics.buckets import Buckets
from streamkit.metrics.periods import RESOLUTIONS, Resolution
from streamkit.metrics.samples import Samples

SECONDS = Resolution(1000, 200_000, 30_000)


def dense(seed: int) -> Samples:
    chosen = random.Random(seed)
    return Samples.of_list([chosen.lognormvariate(3, 1) for _ in range(400)])


def test_distributions_keep_to_their_budget() -> None:
    buckets = Buckets(SECONDS)
    for second in range(500):
        buckets.add(second * 1000, dense(second))
        buckets.close()
        assert buckets.used == sum(map(len, buckets.distributions))
        assert buckets.used <= SECONDS.values_bytes
    assert len(buckets.starts) >= 200
    for _, samples in buckets.samples(0, 500_000):
        values = samples.values()
        assert values is not None
        assert sum(count for _, count in values) == samples.count == 400
    newest = next(buckets.samples(499_000, 500_000))[1].distribution
    assert newest is not None
    assert newest.relative_error < 0.011


def test_within_its_budget_nothing_is_made_coarser() -> None:
    buckets = Buckets(SECONDS._replace(values_bytes=3 << 20))
    for second in range(200):
        buckets.add(second * 1000, dense(second))
    errors = [each.distribution.relative_error for _, each in buckets.samples(0, 500_000) if each.distribution]
    assert len(errors) == 200
    assert max(errors) < 0.011


def test_the_smallest_distributions_fit_any_budget() -> None:
    # Of 14 bins at most, each 3 bytes and a count of 9: see MAX_JOINS.
    for resolution in RESOLUTIONS:
        buckets = resolution.kept_ms // resolution.width_ms * 17 / 16 + 1
        assert buckets * (14 * 12 + 16) <= resolution.values_bytes


def test_what_is_late_goes_into_its_bucket_and_is_handed_on_once() -> None:
    minutes = Buckets(RESOLUTIONS[1])
    buckets = Buckets(SECONDS, minutes)
    for instant in (1000, 5000, 1500, 61_000, 1999, 0):
        buckets.add(instant, Samples.of_list([float(instant), 1.0]))
    buckets.close()
    buckets.hand_on()
    assert [(start, found.sample_count) for start, found in buckets.sets(0, 100_000)] == [
        (0, 2),
        (1000, 6),
        (5000, 2),
        (61_000, 2),
    ]
    found = dict(minutes.samples(60_000, 100_000))
    assert found[60_000].values() == [(1.0, 1), (61_000.0, 1)]
    minutes.close()
    first = next(minutes.samples(0, 60_000))[1]
    assert first.values() == [(0.0, 1), (1.0, 5), (1000.0, 1), (1500.0, 1), (1999.0, 1), (5000.0, 1)]


def test_the_open_bucket_is_asked_with_the_others_and_not_changed_by_it() -> None:
    buckets = Buckets(SECONDS)
    buckets.add(1000, Samples.of_list([1.0, 2.0]))
    for _, samples in buckets.samples(0, 9000):
        samples.merge(Samples.of_list([9.0, 8.0]))
    assert [found.sample_count for _, found in buckets.sets(0, 9000)] == [2]
    assert next(buckets.samples(0, 9000))[1].values() == [(1.0, 1), (2.0, 1)]

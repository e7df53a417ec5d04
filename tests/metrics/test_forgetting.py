"""All series together keep to their bytes, and what goes first."""

from __future__ import annotations

import gc
import random
import tracemalloc

import pytest

from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import DAY_MS, HOUR_MS, MINUTE_MS
from streamkit.metrics.series import AFTER_ALL, BEFORE_ALL
from streamkit.metrics.window import Metrics

START = 1_700_000_000_000 // HOUR_MS * HOUR_MS
MIB = 1 << 20


def queue(number: int) -> Metric:
    return Metric.of("AWS/SQS", "NumberOfMessagesSent", QueueName=f"queue-{number}")


def everything(metrics: Metrics, metric: Metric, period_ms: int) -> list[int]:
    return [start for start, _ in metrics.statistics(metric, START - DAY_MS, START + 30 * DAY_MS, period_ms)]


@pytest.mark.parametrize("distinct", [False, True])
def test_memory_of_all_series_is_bounded(*, distinct: bool) -> None:
    """A fiftieth of 10,000 series and of 64 MiB, a sample a second, flushed each minute.

    What is counted is what there is, and nothing is lost before it is stored.
    """
    chosen = random.Random(1)
    metrics_of = [queue(number) for number in range(200)]
    gc.collect()
    tracemalloc.start()
    try:
        metrics = Metrics(max_bytes=64 * MIB // 50)
        metrics.stored = True
        taken = 0
        for second in range(5 * 60 + 1):
            for metric in metrics_of:
                metrics.put(metric, chosen.random() if distinct else 1.0, START + second * 1000)
            assert metrics.used_bytes <= 64 * MIB // 50
            if second % 60 == 0 and second:
                for series in metrics.series():
                    added = series.take(START + second * 1000)
                    assert added is not None
                    assert len(added.seconds) == 60
                    taken += sum(row[1] for row in added.minutes)
                metrics.forget()
        assert taken == 5 * 60 * 200
        assert metrics.lost == 0
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 64 * MIB // 50 * 1.1
    finally:
        tracemalloc.stop()


def test_seconds_of_what_was_longest_not_reported_go_first() -> None:
    metrics = Metrics(max_bytes=30_000)
    for second in range(3 * 60):
        metrics.put(queue(0), 1, START + second * 1000)
    for second in range(3 * 60, 9 * 60):
        metrics.put(queue(1), 1, START + second * 1000)
    assert metrics.used_bytes <= 30_000
    assert len(everything(metrics, queue(0), 1000)) < 10
    assert len(everything(metrics, queue(1), 1000)) == 6 * 60
    assert len(everything(metrics, queue(0), MINUTE_MS)) == 3


def test_then_go_older_minutes() -> None:
    metrics = Metrics(max_bytes=100_000)
    for minute in range(3 * 1440):
        metrics.put(queue(0), 1, START + minute * MINUTE_MS)
    assert metrics.used_bytes <= 100_000
    minutes = everything(metrics, queue(0), MINUTE_MS)
    assert minutes[-1] == START + (3 * 1440 - 1) * MINUTE_MS
    assert 180 <= len(minutes) < 1440
    assert len(everything(metrics, queue(0), HOUR_MS)) == 72


def test_what_somebody_needs_stays_as_long_as_there_is_anything_else() -> None:
    metrics = Metrics(max_bytes=60_000)
    metrics.put(queue(0), 1, START)
    (series,) = metrics.series()
    series.wanted_ms = HOUR_MS
    for second in range(120):
        metrics.put(queue(0), 1, START + second * 1000)
    for minute in range(3 * 1440):
        metrics.put(queue(1), 1, START + minute * MINUTE_MS)
    assert len(everything(metrics, queue(0), 1000)) == 120
    for number in range(2, 20):
        for second in range(600):
            metrics.put(queue(number), 1, START + second * 1000)
    assert metrics.used_bytes <= 70_000


def test_what_is_not_stored_stays_as_long_as_there_is_anything_else() -> None:
    metrics = Metrics(max_bytes=24_000)
    metrics.stored = True
    for second in range(120):
        metrics.put(queue(0), 1, START + second * 1000)
    (series,) = metrics.series()
    series.take(START + MINUTE_MS)
    for second in range(120, 240):
        metrics.put(queue(0), 1, START + second * 1000)
        metrics.put(queue(1), 1, START + second * 1000)
    assert [start for start in everything(metrics, queue(0), 1000) if start < START + MINUTE_MS] == []
    assert [row[0] for row in series.not_taken().seconds] == [START + second * 1000 for second in range(60, 240)]
    assert metrics.lost == 0


def test_what_cannot_be_stored_is_lost_at_last_and_counted() -> None:
    metrics = Metrics(max_bytes=20_000)
    metrics.stored = True
    many = 0
    for minute in range(2000):
        metrics.put(queue(0), 1, START + minute * MINUTE_MS, 5)
        many += 5
        if minute % 500 == 0:
            (series,) = metrics.series()
            added = series.take(START + minute * MINUTE_MS)
            if added is not None:
                series.give_back(added)
    assert metrics.used_bytes <= 20_000 * 17 / 16
    kept = sum(row[1] for row in series.not_taken().minutes)
    assert kept > 0
    assert metrics.lost + kept == many
    assert series.buckets(0).rows(BEFORE_ALL, AFTER_ALL)

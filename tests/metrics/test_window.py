from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics import window
from streamkit.metrics.metric import Metric, Statistic
from streamkit.metrics.window import Metrics, StatisticSet

NOW = 1_700_000_000_000  # not on a minute: 20 seconds past one
MINUTE = 60_000
SENT = Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders")
VISIBLE = Metric.of("streamkit/sqs", "ApproximateNumberOfMessagesVisible", QueueName="orders")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class TestStatisticSet:
    @pytest.mark.parametrize(
        ("statistic", "value"), [("SampleCount", 4), ("Sum", 10), ("Average", 2.5), ("Minimum", 1), ("Maximum", 6)]
    )
    def test_answers_each_statistic(self, statistic: Statistic, value: float) -> None:
        assert StatisticSet(4, 10.0, 1.0, 6.0).value(statistic) == value

    def test_refuses_another(self) -> None:
        with pytest.raises(ValidationError, match="Average"):
            StatisticSet(1, 1.0, 1.0, 1.0).value("p50")  # type: ignore[arg-type]

    def test_merges(self) -> None:
        merged = StatisticSet(2, 5.0, 1.0, 4.0).merge(StatisticSet(1, -3.0, -3.0, -3.0))
        assert merged == StatisticSet(3, 2.0, -3.0, 4.0)


class TestPut:
    def test_samples_of_a_period_become_one_statistic_set(self, metrics: Metrics) -> None:
        for after, value in ((0, 3.0), (10, 5.0), (999, 1.0)):
            metrics.put(SENT, value, NOW + after)
        assert metrics.statistics(SENT, NOW, NOW + 1000, 1000) == [(NOW, StatisticSet(3, 9.0, 1.0, 5.0))]

    def test_a_count_is_that_many_samples(self, metrics: Metrics) -> None:
        metrics.put(SENT, 2.0, NOW, count=5)
        assert metrics.total(SENT) == StatisticSet(5, 10.0, 2.0, 2.0)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2.0**361, -(2**361)])
    def test_refuses_what_is_not_a_finite_number(self, metrics: Metrics, value: float) -> None:
        with pytest.raises(ValidationError, match=r"NumberOfMessagesSent.*not a number within"):
            metrics.put(SENT, value, NOW)
        assert metrics.list_metrics() == []

    def test_refuses_a_count_of_nothing(self, metrics: Metrics) -> None:
        with pytest.raises(ValidationError, match="count of 0"):
            metrics.put(SENT, 1.0, NOW, count=0)

    def test_a_late_sample_goes_where_it_belongs(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW)
        metrics.put(SENT, 2.0, NOW + 2000)
        metrics.put(SENT, 3.0, NOW + 500)
        metrics.put(SENT, 4.0, NOW + 1000)
        assert metrics.statistics(SENT, NOW, NOW + 3000, 1000) == [
            (NOW, StatisticSet(2, 4.0, 1.0, 3.0)),
            (NOW + 1000, StatisticSet(1, 4.0, 4.0, 4.0)),
            (NOW + 2000, StatisticSet(1, 2.0, 2.0, 2.0)),
        ]
        assert metrics.latest(SENT) == 4.0

    def test_further_metrics_are_dropped_and_counted(self) -> None:
        metrics = Metrics(max_series=1)
        metrics.put(SENT, 1.0, NOW)
        metrics.put(VISIBLE, 1.0, NOW, count=3)
        metrics.put(SENT, 1.0, NOW)
        assert metrics.list_metrics() == [SENT]
        assert metrics.dropped == 3
        assert metrics.total(VISIBLE) is None


class TestStatistics:
    def test_periods_are_aligned_to_the_epoch_and_half_open(self, metrics: Metrics) -> None:
        edge = NOW // MINUTE * MINUTE + MINUTE
        metrics.put(SENT, 1.0, edge - 1)
        metrics.put(SENT, 2.0, edge)
        metrics.put(SENT, 3.0, edge + MINUTE - 1)
        assert metrics.statistics(SENT, edge - MINUTE, edge + MINUTE, MINUTE) == [
            (edge - MINUTE, StatisticSet(1, 1.0, 1.0, 1.0)),
            (edge, StatisticSet(2, 5.0, 2.0, 3.0)),
        ]

    def test_every_period_that_overlaps_the_range_is_there_whole(self, metrics: Metrics) -> None:
        edge = NOW // 10_000 * 10_000
        for second in range(30):
            metrics.put(SENT, 1.0, edge + second * 1000)
        found = metrics.statistics(SENT, edge + 9_999, edge + 10_001, 10_000)
        assert [(start - edge, each.sample_count) for start, each in found] == [(0, 10), (10_000, 10)]
        assert len(metrics.statistics(SENT, edge, edge + 10_000, 10_000)) == 1

    def test_a_period_without_samples_is_absent(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW)
        metrics.put(SENT, 1.0, NOW + 5 * MINUTE)
        assert len(metrics.statistics(SENT, NOW, NOW + 6 * MINUTE, MINUTE)) == 2
        assert metrics.statistics(SENT, NOW + MINUTE, NOW + 4 * MINUTE, MINUTE) == []
        assert metrics.statistics(VISIBLE, NOW, NOW + 1, MINUTE) == []

    @pytest.mark.parametrize("period_ms", [0, -60_000, 500, 2000, 15_000, 61_000, 90_000])
    def test_refuses_a_period_cloudwatch_does_not_have(self, metrics: Metrics, period_ms: int) -> None:
        with pytest.raises(ValidationError, match="1, 5, 10, 20 or 30 seconds or a multiple of 60"):
            metrics.statistics(SENT, NOW, NOW + 1, period_ms)

    def test_refuses_an_empty_range(self, metrics: Metrics) -> None:
        with pytest.raises(ValidationError, match="not after"):
            metrics.statistics(SENT, NOW, NOW, MINUTE)

    @given(
        samples=st.lists(st.tuples(st.integers(0, 400_000), st.integers(-100, 100), st.integers(1, 3)), max_size=60),
        period_ms=st.sampled_from([1000, 5000, 10_000, 20_000, 30_000, 60_000, 120_000]),
        span=st.tuples(st.integers(0, 400_000), st.integers(1, 400_000)),
    )
    def test_equals_a_look_at_every_sample(
        self, samples: list[tuple[int, int, int]], period_ms: int, span: tuple[int, int]
    ) -> None:
        metrics = Metrics()
        for after, value, count in samples:
            metrics.put(SENT, value, NOW + after, count)
        start, end = NOW + span[0], NOW + span[0] + span[1]
        expected = []
        for period in range(start // period_ms * period_ms, end, period_ms):
            inside = [
                value
                for after, value, count in samples
                for _ in range(count)
                if period <= NOW + after < period + period_ms
            ]
            if inside:
                expected.append((period, StatisticSet(len(inside), sum(inside), min(inside), max(inside))))
        assert metrics.statistics(SENT, start, end, period_ms) == expected
        every = [value for _, value, count in samples for _ in range(count)]
        total = metrics.total(SENT)
        assert total == (StatisticSet(len(every), sum(every), min(every), max(every)) if every else None)


class TestRetention:
    def test_seconds_are_kept_three_hours_and_minutes_fifteen_days(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW)
        metrics.put(SENT, 2.0, NOW + window.SECONDS_KEPT_MS + 1000)
        everything = (NOW - MINUTE, NOW + window.MINUTES_KEPT_MS + 2 * MINUTE)
        assert len(metrics.statistics(SENT, *everything, 1000)) == 1
        assert len(metrics.statistics(SENT, *everything, MINUTE)) == 2
        metrics.put(SENT, 3.0, NOW + window.MINUTES_KEPT_MS + MINUTE)
        assert len(metrics.statistics(SENT, *everything, MINUTE)) == 2
        assert metrics.total(SENT) == StatisticSet(3, 6.0, 1.0, 3.0)

    def test_a_sample_older_than_what_is_kept_only_counts_in_the_total(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW)
        metrics.put(SENT, 1.0, NOW - window.MINUTES_KEPT_MS - MINUTE)
        assert len(metrics.statistics(SENT, 0, NOW + MINUTE, MINUTE)) == 1
        assert metrics.total(SENT) == StatisticSet(2, 2.0, 1.0, 1.0)

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window, "SECONDS_KEPT_MS", 160_000)
        monkeypatch.setattr(window, "MINUTES_KEPT_MS", 160 * MINUTE)
        metrics = Metrics()
        for second in range(160 * 60 * 2):
            metrics.put(SENT, 1.0, NOW + second * 1000)
            metrics.put(SENT, 1.0, NOW + second * 1000 - 700_000)
        series = metrics._series[SENT]
        assert 160 <= len(series.seconds.starts) <= 171
        assert 160 <= len(series.minutes.starts) <= 171
        assert len(series.seconds.maximums) == len(series.seconds.starts)


class TestGauges:
    async def test_each_gauge_is_read_once_per_sample(self, metrics: Metrics) -> None:
        reads: list[str] = []

        def read(name: str, value: float) -> float:
            reads.append(name)
            return value

        metrics.register_gauge(SENT, lambda: read("sent", 1.0))
        metrics.register_gauge(VISIBLE, lambda: read("visible", 7))
        await metrics.sample(NOW)
        assert reads == ["sent", "visible"]
        assert metrics.latest(VISIBLE) == 7
        await metrics.sample(NOW, VISIBLE)
        assert reads == ["sent", "visible", "visible"]
        await metrics.sample(NOW, Metric.of("n", "m"))
        assert metrics.total(VISIBLE) == StatisticSet(2, 14.0, 7.0, 7.0)

    async def test_an_async_gauge_is_awaited(self, metrics: Metrics) -> None:
        async def read() -> float:
            return 3

        metrics.register_gauge(VISIBLE, read)
        assert list(metrics.gauges()) == []
        await metrics.sample(NOW)
        assert list(metrics.gauges()) == [(VISIBLE, 3)]

    async def test_none_is_no_sample(self, metrics: Metrics) -> None:
        metrics.register_gauge(VISIBLE, lambda: None)
        await metrics.sample(NOW)
        assert metrics.latest(VISIBLE) is None
        assert metrics.is_gauge(VISIBLE)

    @pytest.mark.parametrize("error", [KeyError("orders"), NotFoundError("queue", "orders")])
    async def test_a_gauge_whose_subject_is_gone_is_unregistered(self, metrics: Metrics, error: Exception) -> None:
        def read() -> float:
            raise error

        metrics.register_gauge(VISIBLE, read)
        metrics.register_gauge(SENT, lambda: 1)
        await metrics.sample(NOW)
        assert not metrics.is_gauge(VISIBLE)
        assert metrics.latest(SENT) == 1

    async def test_what_was_sampled_stays_known_as_a_gauge(self, metrics: Metrics) -> None:
        metrics.register_gauge(VISIBLE, lambda: 1)
        await metrics.sample(NOW)
        metrics.unregister(VISIBLE)
        metrics.unregister(VISIBLE)
        assert metrics.is_gauge(VISIBLE)
        assert list(metrics.gauges()) == []

    async def test_a_failing_gauge_is_skipped_and_logged_once_until_it_works(
        self, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        answers: list[float] = []

        def read() -> float:
            return answers.pop() / 0 if not answers else answers.pop()

        metrics.register_gauge(VISIBLE, read)
        metrics.register_gauge(SENT, lambda: 1)
        with caplog.at_level(logging.WARNING, "streamkit.metrics"):
            await metrics.sample(NOW)
            await metrics.sample(NOW)
            assert len(caplog.records) == 1
            assert "ApproximateNumberOfMessagesVisible" in caplog.text
            answers.append(5.0)
            await metrics.sample(NOW)
            assert metrics.latest(VISIBLE) == 5.0
            answers.append(float("nan"))
            await metrics.sample(NOW)
            assert len(caplog.records) == 2
        assert metrics.total(SENT) == StatisticSet(4, 4.0, 1.0, 1.0)

    async def test_registering_again_replaces(self, metrics: Metrics) -> None:
        metrics.register_gauge(VISIBLE, lambda: 1)
        metrics.register_gauge(VISIBLE, lambda: 2)
        await metrics.sample(NOW)
        assert metrics.total(VISIBLE) == StatisticSet(1, 2.0, 2.0, 2.0)

    async def test_a_gauge_may_unregister_itself_or_another_while_read(self, metrics: Metrics) -> None:
        metrics.register_gauge(VISIBLE, lambda: metrics.unregister(SENT))
        metrics.register_gauge(SENT, lambda: 1)
        await metrics.sample(NOW)
        await metrics.sample(NOW)
        assert metrics.total(SENT) == StatisticSet(1, 1.0, 1.0, 1.0)


def test_importing_is_cheap() -> None:
    code = (
        "import sys, streamkit.metrics.window as w; print('anyio' in sys.modules, 'prometheus_client' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["False", "False"]

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics import periods, series
from streamkit.metrics.datum import MetricDatum
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import Resolution
from streamkit.metrics.statistic import compile_statistic
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Datapoint, Metrics

NOW = 1_700_000_000_000  # not on a minute: 20 seconds past one
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SENT = Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders")
VISIBLE = Metric.of("streamkit/sqs", "ApproximateNumberOfMessagesVisible", QueueName="orders")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


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
        assert metrics.list_metrics() == []
        metrics.put(SENT, 1.0, NOW)
        for count in (0, -1, 1.5, 2**41):
            with pytest.raises(ValidationError, match="put a whole number from 1"):
                metrics.put(SENT, 2.0, NOW, count=count)  # type: ignore[arg-type]
        assert metrics.total(SENT) == StatisticSet(1, 1.0, 1.0, 1.0)
        assert metrics.latest(SENT) == 1.0

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
        metrics.put(SENT, 2.0, NOW + periods.SECONDS_KEPT_MS + 1000)
        everything = (NOW - MINUTE, NOW + periods.MINUTES_KEPT_MS + 2 * MINUTE)
        assert len(metrics.statistics(SENT, *everything, 1000)) == 1
        assert len(metrics.statistics(SENT, *everything, MINUTE)) == 2
        metrics.put(SENT, 3.0, NOW + periods.MINUTES_KEPT_MS + MINUTE)
        assert len(metrics.statistics(SENT, *everything, MINUTE)) == 2
        assert metrics.total(SENT) == StatisticSet(3, 6.0, 1.0, 3.0)

    def test_a_sample_older_than_what_is_kept_only_counts_in_the_total(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW)
        metrics.put(SENT, 1.0, NOW - periods.MINUTES_KEPT_MS - MINUTE)
        assert len(metrics.statistics(SENT, 0, NOW + MINUTE, MINUTE)) == 1
        assert metrics.total(SENT) == StatisticSet(2, 2.0, 1.0, 1.0)

    @pytest.mark.parametrize(("period_ms", "days"), [(MINUTE, 15), (5 * MINUTE, 63), (60 * MINUTE, 455)])
    def test_each_resolution_is_kept_as_long_as_cloudwatch_does(
        self, metrics: Metrics, period_ms: int, days: int
    ) -> None:
        start = NOW // HOUR * HOUR
        for value, after in ((1.0, 0), (2.0, period_ms), (3.0, days * DAY)):
            metrics.put(SENT, value, start + after)
        found = metrics.statistics(SENT, start, start + days * DAY + HOUR, period_ms)
        assert [each.sum for _, each in found] == [2.0, 3.0]
        assert metrics.statistics(SENT, start - HOUR, start, period_ms) == []

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        resolutions = [Resolution(width, 160 * width, 10_000) for width in (1000, MINUTE, 5 * MINUTE, HOUR)]
        monkeypatch.setattr(series, "RESOLUTIONS", resolutions)
        made = series.Series(SENT, "None", NOW)
        for hour in range(400):
            for second in (*range(4), *range(300, 304)):
                made.turn_to(NOW + hour * HOUR + second * 1000)
                made.collected += [1.0, 2.0, float(hour)]
                made.turn_to(NOW + hour * HOUR + second * 1000 - 700_000)
                made.collected.append(4.0)
        for at in range(4):
            buckets = made.buckets(at)
            assert len(buckets.rows(series.BEFORE_ALL, series.AFTER_ALL)) == len(buckets.starts) <= 171, at
            assert buckets.used == sum(map(len, buckets.distributions))
        assert len(made.buckets(3).starts) >= 160


class TestUnits:
    def test_samples_of_different_units_are_never_mixed(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW, unit="Seconds")
        metrics.put(SENT, 900.0, NOW, unit="Milliseconds")
        metrics.put(SENT, 3.0, NOW, 2)
        assert metrics.list_metrics() == [SENT]
        assert metrics.units(SENT) == ["Seconds", "Milliseconds", "None"]
        span = (NOW, NOW + 1000, 1000)
        assert metrics.statistics(SENT, *span, unit="Seconds") == [(NOW, StatisticSet(1, 1.0, 1.0, 1.0))]
        assert metrics.statistics(SENT, *span, unit="Milliseconds") == [(NOW, StatisticSet(1, 900.0, 900.0, 900.0))]
        assert metrics.statistics(SENT, *span, unit="None") == [(NOW, StatisticSet(2, 6.0, 3.0, 3.0))]
        assert metrics.statistics(SENT, *span, unit="Bytes") == []

    def test_without_a_unit_the_first_one_answers(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW, unit="Seconds")
        metrics.put(SENT, 900.0, NOW)
        assert metrics.statistics(SENT, NOW, NOW + 1, 1000) == [(NOW, StatisticSet(1, 1.0, 1.0, 1.0))]
        assert metrics.total(SENT) == StatisticSet(1, 1.0, 1.0, 1.0)
        assert metrics.latest(SENT) == 1.0
        assert metrics.latest(SENT, "None") == 900.0
        assert metrics.total(SENT, "Count") is None

    def test_a_question_without_a_unit_tells_them_apart(self, metrics: Metrics) -> None:
        units: list[tuple[Unit, float]] = [("Seconds", 1.0), ("Milliseconds", 900.0)]
        for unit, value in units:
            metrics.put(SENT, value, NOW, unit=unit)
            metrics.put(SENT, value, NOW + 1000, unit=unit)
        found = metrics.datapoints(SENT, ["Maximum"], (NOW, NOW + 2000), 1000, NOW)
        assert [(each.start_ms - NOW, each.unit, each.values) for each in found] == [
            (0, "Milliseconds", {"Maximum": 900.0}),
            (0, "Seconds", {"Maximum": 1.0}),
            (1000, "Milliseconds", {"Maximum": 900.0}),
            (1000, "Seconds", {"Maximum": 1.0}),
        ]
        one = metrics.datapoints(SENT, ["Maximum"], (NOW, NOW + 1000), 1000, NOW, unit="Seconds")
        assert one == [Datapoint(NOW, "Seconds", 1, {"Maximum": 1.0})]
        assert metrics.datapoints(SENT, ["Maximum"], (NOW, NOW + 1000), 1000, NOW, unit="Bytes") == []

    def test_refuses_another(self, metrics: Metrics) -> None:
        with pytest.raises(ValidationError, match="unit 'Minutes' is not known"):
            metrics.put(SENT, 1.0, NOW, unit="Minutes")  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="unit 'Minutes' is not known"):
            metrics.datapoints(SENT, ["p50"], (NOW, NOW + 1), MINUTE, NOW, unit="Minutes")  # type: ignore[arg-type]
        assert metrics.list_metrics() == []

    def test_each_unit_counts_as_a_series(self) -> None:
        metrics = Metrics(max_series=2)
        metrics.put(SENT, 1.0, NOW)
        metrics.put(SENT, 1.0, NOW, unit="Count")
        metrics.put(SENT, 1.0, NOW, 5, unit="Bytes")
        assert metrics.units(SENT) == ["None", "Count"]
        assert metrics.dropped == 5


class TestPutData:
    def test_standard_resolution_goes_into_its_minute(self, metrics: Metrics) -> None:
        metrics.put_data([MetricDatum(SENT, 1.0), MetricDatum(SENT, 5.0)], NOW)
        minute = NOW // MINUTE * MINUTE
        assert metrics.statistics(SENT, NOW, NOW + 1, MINUTE) == [(minute, StatisticSet(2, 6.0, 1.0, 5.0))]
        assert metrics.statistics(SENT, minute, minute + MINUTE, 1000) == []
        assert metrics.latest(SENT) == 5.0

    def test_high_resolution_goes_into_its_second(self, metrics: Metrics) -> None:
        metrics.put_data([MetricDatum(SENT, 1.0, storage_resolution=1, timestamp_ms=NOW - 5000)], NOW)
        assert metrics.statistics(SENT, NOW - 9000, NOW, 1000) == [(NOW - 5000, StatisticSet(1, 1.0, 1.0, 1.0))]
        assert len(metrics.statistics(SENT, NOW - 9000, NOW, 60 * MINUTE)) == 1

    def test_takes_all_or_nothing(self, metrics: Metrics) -> None:
        late = MetricDatum(SENT, 1.0, timestamp_ms=NOW - 15 * DAY)
        with pytest.raises(ValidationError, match="two weeks back"):
            metrics.put_data([MetricDatum(SENT, 1.0), late], NOW)
        with pytest.raises(ValidationError, match="1001 data: put 1,000 at most"):
            metrics.put_data([MetricDatum(SENT, 1.0)] * 1001, NOW)
        assert metrics.list_metrics() == []

    def test_further_metrics_are_dropped_and_counted(self) -> None:
        metrics = Metrics(max_series=1)
        metrics.put_data([MetricDatum(SENT, 1.0), MetricDatum(VISIBLE, values=(1.0, 2.0), counts=(3, 4))], NOW)
        assert metrics.list_metrics() == [SENT]
        assert metrics.dropped == 7


class TestDatapoints:
    def test_answers_plain_and_extended_statistics_together(self, metrics: Metrics) -> None:
        minute = NOW // MINUTE * MINUTE + MINUTE
        for value in range(1, 101):
            metrics.put(SENT, float(value), minute + value * 500)
        found = metrics.datapoints(SENT, ["Average", "p90", "tm50", "PR(:30)"], (minute, minute + 1), MINUTE, NOW)
        assert found == [Datapoint(minute, "None", 100, {"Average": 50.5, "p90": 90.0, "tm50": 25.5, "PR(:30)": 30.0})]
        compiled = metrics.datapoints(SENT, [compile_statistic("p90")], (minute, minute + 1), MINUTE, NOW)
        assert compiled[0].values == {"p90": 90.0}
        hour = metrics.datapoints(SENT, ["p90"], (minute, minute + 1), HOUR, NOW)
        assert [point.values for point in hour] == [{"p90": 90.0}]

    def test_counts_are_in_the_distribution(self, metrics: Metrics) -> None:
        metrics.put(SENT, 1.0, NOW, 90)
        metrics.put(SENT, 7.0, NOW)
        metrics.put(SENT, 9.0, NOW, 9)
        metrics.put_data([MetricDatum(VISIBLE, values=(1.0, 7.0, 9.0), counts=(90, 1, 9))], NOW)
        for metric in (SENT, VISIBLE):
            point = metrics.datapoints(metric, ["p90", "p91", "p92"], (NOW, NOW + 1), MINUTE, NOW)[0]
            assert point.values == {"p90": 1.0, "p91": 7.0, "p92": 9.0}
            assert point.sample_count == 100

    def test_what_waits_to_be_counted_is_bounded(self, metrics: Metrics) -> None:
        for value in range(3000):
            metrics.put(SENT, float(value), NOW)
            metrics.put(VISIBLE, float(value), NOW, 2)
        assert len(metrics._first[SENT].collected) < series.MAX_COLLECTED
        assert len(metrics._first[VISIBLE].weighted) < series.MAX_COLLECTED
        for metric, count in ((SENT, 3000), (VISIBLE, 6000)):
            point = metrics.datapoints(metric, ["p50"], (NOW, NOW + 1), MINUTE, NOW)[0]
            assert point.sample_count == count
            assert point.values["p50"] == pytest.approx(1500, rel=0.011)

    def test_a_period_whose_values_are_not_known_has_no_extended_statistic(self, metrics: Metrics) -> None:
        metrics.put_data([MetricDatum(SENT, statistic_values=StatisticSet(2, 3.0, 1.0, 2.0))], NOW)
        metrics.put_data([MetricDatum(SENT, 4.0)], NOW)
        metrics.put_data([MetricDatum(SENT, statistic_values=StatisticSet(2, 10.0, 5.0, 5.0))], NOW + MINUTE)
        metrics.put_data([MetricDatum(SENT, statistic_values=StatisticSet(1, 6.0, 6.0, 6.0))], NOW + MINUTE)
        metrics.put_data([MetricDatum(SENT, values=(-1.0, 4.0))], NOW + 2 * MINUTE)
        found = metrics.datapoints(SENT, ["Sum", "p50"], (NOW, NOW + 3 * MINUTE - 30_000), MINUTE, NOW)
        assert [point.values for point in found] == [{"Sum": 7.0}, {"Sum": 16.0, "p50": 5.0}, {"Sum": 3.0}]

    @given(
        samples=st.lists(st.tuples(st.integers(0, 8_000_000), st.integers(0, 100), st.integers(1, 3)), max_size=80),
        period_ms=st.sampled_from([1000, 30_000, 60_000, 120_000, 300_000, 3_600_000]),
        asked=st.lists(st.integers(0, 80), max_size=5),
    )
    def test_extended_statistics_equal_a_look_at_every_sample(
        self, samples: list[tuple[int, int, int]], period_ms: int, asked: list[int]
    ) -> None:
        metrics = Metrics()
        statistics = ["p50", "p99", "TC(20:80)"]
        span = (NOW, NOW + 9_000_000)
        periods: dict[int, Counter[float]] = {}
        for at, (after, value, count) in enumerate(samples):
            metrics.put(SENT, value, NOW + after, count)
            periods.setdefault((NOW + after) // period_ms * period_ms, Counter())[value] += count
            if at in asked:
                metrics.datapoints(SENT, statistics, span, period_ms, NOW)
        found = metrics.datapoints(SENT, statistics, span, period_ms, NOW)
        assert [point.start_ms for point in found] == sorted(periods)
        for point in found:
            inside = periods[point.start_ms]
            assert point.sample_count == inside.total()
            ranked = sorted(inside.elements())
            middle = sum(count for value, count in inside.items() if 20 < value <= 80)
            ranks = [-(-len(ranked) * percent // 100) - 1 for percent in (50, 99)]
            assert point.values == dict(zip(statistics, [*(ranked[at] for at in ranks), middle], strict=True))

    @pytest.mark.parametrize(
        ("age_ms", "period_ms", "least"),
        [
            (3 * HOUR, 30_000, "60 seconds"),
            (15 * DAY, MINUTE, "300 seconds"),
            (63 * DAY, 5 * MINUTE, "3600 seconds"),
        ],
    )
    def test_an_old_start_needs_a_period_that_is_still_kept(
        self, metrics: Metrics, age_ms: int, period_ms: int, least: str
    ) -> None:
        metrics.datapoints(SENT, ["Sum"], (NOW - age_ms, NOW), period_ms, NOW)
        with pytest.raises(ValidationError, match=f"choose a period that is a multiple of {least}, or a later start"):
            metrics.datapoints(SENT, ["Sum"], (NOW - age_ms - 1, NOW), period_ms, NOW)
        metrics.datapoints(SENT, ["Sum"], (NOW - age_ms - 1, NOW), HOUR, NOW)

    def test_older_than_everything_needs_hours(self, metrics: Metrics) -> None:
        with pytest.raises(ValidationError, match="multiple of 3600 seconds"):
            metrics.datapoints(SENT, ["Sum"], (NOW - 500 * DAY, NOW), 10 * MINUTE, NOW)
        assert metrics.datapoints(SENT, ["Sum"], (NOW - 500 * DAY, NOW), HOUR, NOW) == []

    def test_refuses_a_statistic_that_is_none(self, metrics: Metrics) -> None:
        with pytest.raises(ValidationError, match="p101"):
            metrics.datapoints(SENT, ["p101"], (NOW, NOW + 1), MINUTE, NOW)


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

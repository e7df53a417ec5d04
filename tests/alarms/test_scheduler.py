from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.alarms.alarm import Alarm, AlarmState, ComparisonOperator, TreatMissingData
from streamkit.alarms.datapoints import Datapoints
from streamkit.alarms.evaluate import decided_early, evaluate
from streamkit.alarms.runner import RetryingRunner
from streamkit.alarms.scheduler import AlarmScheduler
from streamkit.alarms.started import EVALUATIONS_FAILED
from streamkit.alarms.transition import StateActions
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.clock import Clock
from streamkit.metrics.buckets import Buckets
from streamkit.metrics.datum import MetricDatum
from streamkit.metrics.metric import STATISTICS, Metric
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.window import Metrics
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

START = 1_700_000_040_000  # on a minute
METRIC = Metric.of("n", "m")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def alarm(name: str = "a", **changes: Any) -> Alarm:
    fields: dict[str, Any] = {
        "metric": METRIC,
        "statistic": "Sum",
        "period": 60,
        "threshold": 0,
        "comparison": "GreaterThanThreshold",
    }
    return Alarm(name, **{**fields, **changes})


def watch(asked: Alarm, metrics: Metrics, clock: Clock) -> AlarmWatcher:
    return AlarmWatcher(
        asked, metrics, clock, StateActions(), RetryingRunner(metrics, clock, MemoryHistory()), MemoryHistory()
    )


def runner_of(metrics: Metrics, clock: Clock) -> RetryingRunner:
    return RetryingRunner(metrics, clock, MemoryHistory())


def states(*watchers: AlarmWatcher) -> list[str]:
    return [watcher.state for watcher in watchers]


@asynccontextmanager
async def scheduling(metrics: Metrics, clock: Clock, *watchers: AlarmWatcher) -> AsyncIterator[AlarmScheduler]:
    scheduler = AlarmScheduler(metrics, clock, runner_of(metrics, clock), MemoryHistory())
    for watcher in watchers:
        scheduler.add(watcher)
    task = asyncio.create_task(scheduler.run(Stop()))
    try:
        yield scheduler
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Evaluations:
    """When a watcher was evaluated, in seconds since the start."""

    def __init__(self, watcher: AlarmWatcher, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: list[float] = []
        evaluate = watcher.evaluate

        def noted(now_ms: int) -> None:
            self.at.append((now_ms - START) / 1000)
            evaluate(now_ms)

        monkeypatch.setattr(watcher, "evaluate", noted)

    def take(self) -> list[float]:
        taken, self.at[:] = list(self.at), []
        return taken


class SettableClock(ManualClock):
    """One that somebody can set, whose timers go on for as long as they were to."""

    offset_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_ms

    def call_at(self, when_ms: int, callback: Callable[[], object]) -> Any:
        return super().call_at(when_ms - self.offset_ms, callback)


# ---- when


async def test_each_is_evaluated_at_the_edges_of_its_own_period(
    clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = watch(alarm("short", period=30), metrics, clock), watch(alarm("long"), metrics, clock)
    shorts, longs = Evaluations(short, monkeypatch), Evaluations(long, monkeypatch)
    await clock.advance(7.5)
    async with scheduling(metrics, clock, short, long) as scheduler:
        await clock.advance(120)
        assert (shorts.take(), longs.take()) == ([7.5, 30, 60, 90, 120], [7.5, 60, 120])
        scheduler.remove(short, 30_000)
        await clock.advance(60)
        assert (shorts.take(), longs.take()) == ([], [180])
        scheduler.add(short)
        await clock.advance(30)
        assert shorts.take() == [187.5, 210]


async def test_days_pass_in_a_moment(clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = watch(alarm(period=3600, treat_missing_data="notBreaching"), metrics, clock)
    seen = Evaluations(watcher, monkeypatch)
    async with scheduling(metrics, clock, watcher):
        await clock.advance(600)
        metrics.put(METRIC, 1.0, clock.now_ms())
        await clock.advance(2 * 86_400)
    assert len(seen.at) == 1 + 48
    assert [each.state for each in watcher.history] == ["OK", "ALARM", "OK"]


async def test_a_clock_set_forward_catches_up_with_nothing(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a machine was suspended."""
    clock = SettableClock(START)
    watcher = watch(alarm(), metrics, clock)
    seen = Evaluations(watcher, monkeypatch)
    async with scheduling(metrics, clock, watcher):
        await clock.advance(90)
        assert seen.take() == [0, 60]
        clock.offset_ms = 86_400_000
        await clock.advance(1)
        assert seen.take() == [86_491]
        await clock.advance(59)
        assert seen.take() == [86_520]


async def test_a_clock_set_back_evaluates_nothing_twice(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SettableClock(START)
    watcher = watch(alarm(), metrics, clock)
    seen = Evaluations(watcher, monkeypatch)
    async with scheduling(metrics, clock, watcher):
        await clock.advance(120.5)
        assert seen.take() == [0, 60, 120]
        clock.offset_ms = -1000  # By a moment: the edge comes again, and was evaluated.
        await clock.advance(59.5)
        assert (clock.now_ms(), seen.take()) == (START + 179_000, [])
        await clock.advance(1)
        assert seen.take() == [180]
        clock.offset_ms = -86_400_000  # By a day, which is to be watched as any other, from its next edge on.
        await clock.advance(57)
        assert seen.take() == []
        await clock.advance(62)
        assert seen.take() == [-86_400 + 240, -86_400 + 300]


@pytest.mark.parametrize(("source", "period"), [("gauge", 10), ("gauge", 60), ("put", 10), ("put", 60), ("data", 60)])
@pytest.mark.parametrize("seconds", [600, 4 * 3600, 30 * 86_400, -30 * 86_400])
async def test_a_clock_set_back_by_more_than_is_kept_leaves_no_alarm_blind(
    metrics: Metrics, seconds: int, period: int, source: str
) -> None:
    clock = SettableClock(START)
    value = [0.0]
    if source == "gauge":
        metrics.register_gauge(METRIC, lambda: value[0])
    watcher = watch(alarm(statistic="Maximum", period=period, treat_missing_data="notBreaching"), metrics, clock)

    async def two_minutes() -> None:
        for _ in range(24):
            if source == "put":
                metrics.put(METRIC, value[0], clock.now_ms())
            elif source == "data":
                metrics.put_data([MetricDatum(METRIC, value[0])], clock.now_ms())
            await clock.advance(5)

    async with scheduling(metrics, clock, watcher):
        await two_minutes()
        clock.offset_ms -= seconds * 1000
        await two_minutes()
        for value[0], expected in ((1.0, "ALARM"), (0.0, "OK"), (1.0, "ALARM")):
            await two_minutes()
            assert states(watcher) == [expected]


async def test_many_alarms_are_looked_at_less_often_and_ten_times_a_period_still(
    clock: ManualClock, metrics: Metrics
) -> None:
    reads: dict[str, list[int]] = {"short": [], "long": []}

    def gauge(name: str) -> Callable[[], float]:
        def read() -> float:
            reads[name].append(clock.now_ms() - START)
            return 0.0

        return read

    watched: list[AlarmWatcher] = []
    for name, period in (("short", 20), ("long", 60)):
        metric = Metric.of("n", name)
        metrics.register_gauge(metric, gauge(name))
        watched.append(watch(alarm(name, metric=metric, period=period), metrics, clock))
        watched += [watch(alarm(f"{name}{at}", period=period), metrics, clock) for at in range(4000)]
    async with scheduling(metrics, clock, *watched[:2]) as scheduler:
        await clock.advance(3)
        assert reads["short"] == [0, 1000, 2000, 3000]
        for watcher in watched[2:]:
            scheduler.add(watcher)
        await clock.advance(21)
    assert reads["short"] == [0, 1000, 2000, 3000, *range(4000, 24_001, 2000)]
    assert reads["long"][-3:] == [12_000, 18_000, 24_000]


async def test_a_gauge_is_read_once_for_all_its_alarms(clock: ManualClock, metrics: Metrics) -> None:
    metrics.register_gauge(METRIC, lambda: 1.0)
    watchers = [watch(alarm(str(at), period=period), metrics, clock) for at, period in enumerate((10, 10, 60))]
    async with scheduling(metrics, clock, *watchers):
        await clock.advance(5)
    assert metrics.total(METRIC) == StatisticSet(6, 6.0, 1.0, 1.0)


# ---- what goes wrong


async def test_a_gauge_that_hangs_delays_alarms_by_one_look(clock: ManualClock, metrics: Metrics) -> None:
    answer = asyncio.Event()
    begun: list[int] = []
    hanging, prompt = Metric.of("n", "hanging"), Metric.of("n", "prompt")

    async def hang() -> float:
        begun.append(clock.now_ms() - START)
        await answer.wait()
        return 7.0

    async def respond() -> float:
        return 1.0

    metrics.register_gauge(hanging, hang)
    metrics.register_gauge(prompt, respond)
    stuck = watch(alarm("stuck", metric=hanging, statistic="Maximum", treat_missing_data="breaching"), metrics, clock)
    other = watch(alarm("other", metric=prompt, statistic="Maximum"), metrics, clock)
    async with scheduling(metrics, clock, stuck, other):
        await clock.advance(0.9)
        assert states(stuck, other) == ["INSUFFICIENT_DATA", "INSUFFICIENT_DATA"]
        await clock.advance(0.1)
        assert states(stuck, other) == ["ALARM", "ALARM"]
        await clock.advance(5)
        assert begun == [0], "it is not read again while it hangs"
        total = metrics.total(prompt)
        assert total is not None
        assert total.sample_count == 7
        answer.set()
        await clock.advance(1)
        assert begun == [0, 7000]
        total = metrics.total(hanging)
        assert total is not None
        assert total.sample_count == 2


async def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watchers = [watch(alarm(str(at)), metrics, clock) for at in range(3)]
    evaluate, failures = AlarmWatcher.evaluate, [MemoryError("no room")]

    def fail_once(watcher: AlarmWatcher, now_ms: int) -> None:
        if watcher is watchers[1] and failures:
            raise failures.pop()
        evaluate(watcher, now_ms)

    monkeypatch.setattr(AlarmWatcher, "evaluate", fail_once)
    metrics.put(METRIC, 1.0, START - 60_000)
    async with scheduling(metrics, clock, *watchers):
        await clock.advance(0)
        assert states(*watchers) == ["ALARM", "INSUFFICIENT_DATA", "INSUFFICIENT_DATA"]
        assert "a look at alarms failed" in caplog.text
        await clock.advance(1)
        assert states(*watchers) == ["ALARM", "INSUFFICIENT_DATA", "ALARM"]
        metrics.put(METRIC, 1.0, clock.now_ms())
        await clock.advance(59)
        assert states(*watchers) == ["ALARM"] * 3


async def test_a_wake_does_not_give_up_a_gauge_that_was_only_just_asked(clock: ManualClock, metrics: Metrics) -> None:
    async def slowly() -> float:
        await clock.sleep_until(clock.now_ms() + 400)
        return 1.0

    metrics.register_gauge(METRIC, slowly)
    first, second = watch(alarm(statistic="Maximum"), metrics, clock), watch(alarm("b", period=30), metrics, clock)
    async with scheduling(metrics, clock, first) as scheduler:
        await clock.advance(0.2)
        scheduler.add(second)
        await clock.advance(0.1)
        assert states(first, second) == ["INSUFFICIENT_DATA", "INSUFFICIENT_DATA"]
        assert scheduler._slow == {}
        await clock.advance(0.6)
        assert states(first) == ["ALARM"]


async def test_an_alarm_that_cannot_be_evaluated_stops_no_other(
    clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = watch(alarm("broken"), metrics, clock)
    other = watch(alarm("other", treat_missing_data="notBreaching"), metrics, clock)

    def fail(now_ms: int) -> Any:
        raise ArithmeticError("no such number")

    with monkeypatch.context() as patch:
        patch.setattr(broken.datapoints, "read", fail)
        async with scheduling(metrics, clock, broken, other):
            await clock.advance(120)
            assert (broken.state, other.state) == ("INSUFFICIENT_DATA", "OK")
            assert broken.evaluation_state == "EVALUATION_ERROR"
            assert "cannot be evaluated" in broken.explain()
            assert metrics.total(EVALUATIONS_FAILED) == StatisticSet(3, 3.0, 1.0, 1.0)
            assert [record.message for record in caplog.records if "no such number" in record.message] != []
            assert len(caplog.records) == 1
            patch.undo()
            await clock.advance(60)
            assert "cannot be evaluated" not in broken.explain()
            assert broken.updated_ms == START + 180_000


class Store:
    """Metrics that were stored, and are there a while after they were asked for."""

    def __init__(self, clock: ManualClock, metrics: Metrics, seconds: float) -> None:
        self._clock, self._metrics, self._seconds = clock, metrics, seconds
        self.asked: list[tuple[list[Metric], int]] = []

    async def warm(self, metrics: Iterable[Metric], since_ms: int) -> None:
        found = list(metrics)
        self.asked.append((found, (since_ms - START) // 1000))
        await self._clock.sleep_until(self._clock.now_ms() + round(self._seconds * 1000))
        if self._seconds > 5:
            raise OSError("the disk is slow, and then it fails")
        for metric in found:
            self._metrics.put(metric, 1.0, START - 60_000)


async def test_metrics_of_before_are_in_memory_when_an_alarm_is_first_evaluated(
    clock: ManualClock, metrics: Metrics
) -> None:
    first, second = watch(alarm("first"), metrics, clock), watch(alarm("second", period=30), metrics, clock)
    gone = watch(alarm("gone"), metrics, clock)
    store = Store(clock, metrics, 2)
    scheduler = AlarmScheduler(metrics, clock, runner_of(metrics, clock), MemoryHistory(), warm=store)
    for watcher in (first, gone):
        scheduler.add(watcher)
    stop = Stop()
    running = asyncio.create_task(scheduler.run(stop))
    await clock.advance(1)
    scheduler.add(second)
    gone.stopped = True
    scheduler.remove(gone, 60_000)
    await clock.advance(0.9)
    assert "not evaluated yet" in first.explain()
    await clock.advance(0.1)
    assert states(first, second, gone) == ["ALARM", "INSUFFICIENT_DATA", "INSUFFICIENT_DATA"]
    await clock.advance(2)
    assert states(first, second, gone) == ["ALARM", "ALARM", "INSUFFICIENT_DATA"]
    assert store.asked == [([METRIC], -240), ([METRIC], 2 - 120)]
    await clock.advance(240)
    assert "not evaluated yet" in gone.explain()
    stop.request()
    await running


async def test_metrics_that_cannot_be_read_hold_up_no_alarm_for_ever(
    clock: ManualClock, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watch(alarm(treat_missing_data="breaching"), metrics, clock)
    scheduler = AlarmScheduler(
        metrics, clock, runner_of(metrics, clock), MemoryHistory(), warm=Store(clock, metrics, 6)
    )
    scheduler.add(watcher)
    stop = Stop()
    running = asyncio.create_task(scheduler.run(stop))
    await clock.advance(6)
    assert states(watcher) == ["ALARM"]
    assert "metrics that were stored cannot be read" in caplog.text
    scheduler.add(watcher)
    await clock.advance(1)
    stop.request()
    await running


async def test_stopping_does_not_wait_for_a_gauge(clock: ManualClock, metrics: Metrics) -> None:
    async def hang() -> float:
        await asyncio.Event().wait()
        return 0.0

    metrics.register_gauge(METRIC, hang)
    scheduler = AlarmScheduler(metrics, clock, runner_of(metrics, clock), MemoryHistory())
    for name in "ab":
        scheduler.add(watch(alarm(name), metrics, clock))
    stop = Stop()
    task = asyncio.create_task(scheduler.run(stop))
    await clock.advance(3)
    stop.request()
    await task


# ---- the same as evaluating all the time


def naive(asked: Alarm, samples: Sequence[tuple[int, float]], now_ms: int, previous: AlarmState) -> AlarmState:
    """From the samples themselves, and all of them each time."""
    period_ms = asked.period_ms

    def value(start: int) -> float | None:
        found = [each for at, each in samples if start <= at < start + period_ms]
        if not found:
            return None
        made = {
            "SampleCount": len(found),
            "Sum": sum(found),
            "Average": sum(found) / len(found),
            "Minimum": min(found),
            "Maximum": max(found),
        }
        return made[asked.statistic or ""]

    filling = now_ms // period_ms * period_ms
    newest = filling if decided_early(asked, value(filling)) else filling - period_ms
    starts = range(newest - (asked.range_periods - 1) * period_ms, newest + 1, period_ms)
    return evaluate(asked, [value(start) for start in starts], previous).state


@settings(max_examples=60, deadline=None)
@given(
    needed_periods=st.integers(1, 4).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    treat=st.sampled_from(get_args(TreatMissingData)),
    comparison=st.sampled_from(get_args(ComparisonOperator)),
    statistic=st.sampled_from(STATISTICS),
    puts=st.lists(st.tuples(st.integers(1, 25), st.lists(st.integers(0, 4), max_size=3)), max_size=20),
    gauge=st.booleans(),
)
def test_looks_find_what_evaluations_would(
    needed_periods: tuple[int, int],
    treat: TreatMissingData,
    comparison: ComparisonOperator,
    statistic: str,
    puts: list[tuple[int, list[int]]],
    gauge: bool,
) -> None:
    needed, periods = needed_periods
    asked = alarm(
        period=10,
        evaluation_periods=periods,
        datapoints_to_alarm=needed,
        treat_missing_data=treat,
        comparison=comparison,
        statistic=statistic,
        threshold=2,
    )

    async def run() -> None:
        clock, metrics = ManualClock(START), Metrics()
        watcher = watch(asked, metrics, clock)
        samples: list[tuple[int, float]] = []
        reading: float | None = None

        def read() -> float | None:
            if reading is not None:
                samples.append((clock.now_ms(), reading))
            return reading

        if gauge:
            metrics.register_gauge(METRIC, read)
        expected: AlarmState = "INSUFFICIENT_DATA"
        async with scheduling(metrics, clock, watcher):
            await clock.advance(0)
            expected = naive(asked, samples, clock.now_ms(), expected)
            for seconds, values in puts:
                for value in values:
                    metrics.put(METRIC, value, clock.now_ms())
                    samples.append((clock.now_ms(), value))
                reading = values[0] if values else None
                for _ in range(seconds):
                    await clock.advance(1)
                    expected = naive(asked, samples, clock.now_ms(), expected)
                    assert watcher.state == expected, (clock.now_ms() - START, samples)

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(
    statistic=st.sampled_from([*STATISTICS, "p50"]),
    steps=st.lists(
        st.tuples(
            st.integers(0, 50),
            st.lists(st.tuples(st.integers(-80, 20), st.integers(0, 4), st.integers(1, 3)), max_size=3),
        ),
        max_size=12,
    ),
)
def test_what_was_seen_before_is_what_there_is(
    statistic: str, steps: list[tuple[int, list[tuple[int, int, int]]]]
) -> None:
    """Also when samples come late, or are of times to come."""
    asked, metrics, now_ms = alarm(period=10, evaluation_periods=3, statistic=statistic), Metrics(), START
    datapoints = Datapoints(asked, metrics)
    for seconds, samples in steps:
        now_ms += seconds * 1000
        for ago, value, count in samples:
            metrics.put(METRIC, value, now_ms + ago * 1000, count)
        found, anew = datapoints.read(now_ms), Datapoints(asked, metrics)
        assert found == anew.read(now_ms)
        assert datapoints.with_counts(found) == anew.with_counts(found)


async def test_a_breach_among_several_new_samples_counts_early(clock: ManualClock, metrics: Metrics) -> None:
    watcher = watch(alarm(statistic="Maximum", threshold=2, treat_missing_data="notBreaching"), metrics, clock)
    async with scheduling(metrics, clock, watcher):
        await clock.advance(5)
        for value in (1, 3, 1):
            metrics.put(METRIC, value, clock.now_ms())
        await clock.advance(1)
        assert states(watcher) == ["ALARM"]


def test_what_was_seen_before_is_not_read_again(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    from_ms: list[int] = []
    sets = Buckets.sets

    def noted(self: Buckets, start_ms: int, end_ms: int) -> Any:
        from_ms.append(start_ms - START)
        return sets(self, start_ms, end_ms)

    monkeypatch.setattr(Buckets, "sets", noted)
    datapoints = Datapoints(alarm(evaluation_periods=1440), metrics)
    for minute in range(4):
        metrics.put(METRIC, 1, START + minute * 60_000 + 7)
        datapoints.read(START + minute * 60_000 + 60_000)
    assert from_ms == [-1441 * 60_000, 60_000, 120_000, 180_000]


def test_what_came_from_a_store_is_read_though_it_counts_as_no_new_sample(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    datapoints = Datapoints(alarm(), metrics)
    metrics.put(METRIC, 1, START)
    datapoints.read(START)
    series = metrics.find(METRIC, None)
    assert series is not None
    metrics.put(METRIC, 1, START - 60_000)
    total = StatisticSet(1, 1, 1, 1)
    monkeypatch.setattr(type(series), "total", property(lambda self: total))
    assert datapoints.read(START).datapoints == (None, None, None)
    datapoints.read_anew()
    assert datapoints.read(START).datapoints == (None, None, 1.0)


async def test_a_percentile_counts_once_enough_samples_came_late(clock: ManualClock, metrics: Metrics) -> None:
    asked = alarm(statistic="p90", threshold=5, evaluate_low_sample_count_percentile="ignore")
    watcher = watch(asked, metrics, clock)
    metrics.put(METRIC, 9, START, 99)
    await clock.advance(60)
    assert await watcher.evaluate_now() == "INSUFFICIENT_DATA"
    assert "only 99 samples, too few for p90" in watcher.explain()
    metrics.put(METRIC, 9, START, 1)
    assert await watcher.evaluate_now() == "ALARM"

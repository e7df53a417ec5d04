from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from streamkit.alarms import started as started_module
from streamkit.alarms.alarm import Alarm
from streamkit.alarms.runner import ACTIONS_FAILED, RetryingRunner
from streamkit.alarms.scheduler import AlarmScheduler
from streamkit.alarms.transition import Actions, AlarmTransition, StateActions
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.metrics.metric import Metric
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.window import Metrics
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

START = 1_700_000_040_000  # on a minute
VISIBLE = Metric.of("streamkit/sqs", "ApproximateNumberOfMessagesVisible", QueueName="dead")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def alarm(**changes: Any) -> Alarm:
    fields: dict[str, Any] = {
        "metric": VISIBLE,
        "statistic": "Maximum",
        "period": 60,
        "threshold": 0,
        "comparison": "GreaterThanThreshold",
    }
    return Alarm("dying", **{**fields, **changes})


def state(watcher: AlarmWatcher) -> str:
    """As a plain string: mypy takes what was asserted of an attribute once for true ever after."""
    return watcher.state


def watch(
    alarm: Alarm,
    metrics: Metrics,
    clock: ManualClock,
    on_alarm: Actions = None,
    on_ok: Actions = None,
    on_insufficient_data: Actions = None,
) -> AlarmWatcher:
    actions = StateActions.of(on_alarm, on_ok, on_insufficient_data)
    return AlarmWatcher(
        alarm, metrics, clock, actions, RetryingRunner(metrics, clock, MemoryHistory()), MemoryHistory()
    )


@asynccontextmanager
async def running(watcher: AlarmWatcher) -> AsyncIterator[asyncio.Task[None]]:
    scheduler = AlarmScheduler(watcher._metrics, watcher._clock, watcher._runner, watcher._records)
    scheduler.add(watcher)
    task = asyncio.create_task(scheduler.run(Stop()))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_begins_without_data_and_without_a_change(clock: ManualClock, metrics: Metrics) -> None:
    calls: list[AlarmTransition] = []
    watcher = watch(alarm(), metrics, clock, calls.append, calls.append, calls.append)
    assert (watcher.name, watcher.state, watcher.history) == ("dying", "INSUFFICIENT_DATA", [])
    assert watcher.changed_ms == START
    assert watcher.changed_at == datetime(2023, 11, 14, 22, 14, tzinfo=UTC)
    assert await watcher.evaluate_now() == "INSUFFICIENT_DATA"
    assert calls == []


async def test_an_action_gets_the_transition_and_only_at_a_change(clock: ManualClock, metrics: Metrics) -> None:
    alarms: list[AlarmTransition] = []
    oks: list[AlarmTransition] = []
    watcher = watch(alarm(treat_missing_data="notBreaching"), metrics, clock, alarms.append, oks.append)
    assert await watcher.evaluate_now() == "OK"
    metrics.put(VISIBLE, 2.0, clock.now_ms())
    await clock.advance(5)
    assert await watcher.evaluate_now() == "ALARM"
    assert await watcher.evaluate_now() == "ALARM"
    await clock.advance(0)
    assert alarms == [
        AlarmTransition(
            alarm="dying",
            previous="OK",
            state="ALARM",
            reason="Threshold Crossed: 1 out of the last 1 datapoints [2.0 (14/11/23 22:14:00)] was greater than the "
            "threshold (0.0) (minimum 1 datapoint for OK -> ALARM transition).",
            at_ms=START + 5000,
            reason_data=alarms[0].reason_data,
            previous_reason=oks[0].reason,
            previous_reason_data=oks[0].reason_data,
            previous_at_ms=START,
            configuration=watcher.alarm,
            actions=watcher.actions,
        )
    ]
    assert oks[0].previous_reason == "Unchecked: Initial alarm creation"
    assert alarms[0].at == watcher.changed_at == datetime(2023, 11, 14, 22, 14, 5, tzinfo=UTC)
    assert len(oks) == 1
    assert watcher.history == oks + alarms


async def test_an_alarm_fires_at_once_and_ends_after_a_whole_good_period(clock: ManualClock, metrics: Metrics) -> None:
    depth = 0.0
    metrics.register_gauge(VISIBLE, lambda: depth)
    watcher = watch(alarm(), metrics, clock)
    async with running(watcher):
        await clock.advance(60)
        assert state(watcher) == "OK"
        depth = 1.0
        await clock.advance(1)
        assert state(watcher) == "ALARM"
        depth = 0.0
        await clock.advance(118)
        assert state(watcher) == "ALARM"
        await clock.advance(1)
        assert state(watcher) == "OK"
    assert [each.at_ms - START for each in watcher.history] == [60_000, 61_000, 180_000]


async def test_a_sum_is_evaluated_at_the_edge_of_its_period(clock: ManualClock, metrics: Metrics) -> None:
    watcher = watch(alarm(statistic="Sum", threshold=10), metrics, clock)
    async with running(watcher):
        metrics.put(VISIBLE, 100.0, clock.now_ms())
        await clock.advance(59.999)
        assert state(watcher) == "INSUFFICIENT_DATA"
        await clock.advance(0.001)
        assert state(watcher) == "ALARM"
    assert watcher.changed_ms == START + 60_000


async def test_a_gauge_is_read_at_every_edge_and_each_second(clock: ManualClock, metrics: Metrics) -> None:
    await clock.advance(8.3)
    reads: list[int] = []
    others: list[int] = []

    def read() -> float:
        reads.append(clock.now_ms() - START)
        return 0

    metrics.register_gauge(VISIBLE, read)
    metrics.register_gauge(Metric.of("n", "m"), lambda: others.append(1))
    async with running(watch(alarm(period=10), metrics, clock)):
        await clock.advance(4)
    assert reads == [8300, 9000, 10_000, 11_000, 12_000]
    assert others == []


async def test_two_of_three_and_missing_data_as_its_alarm_says(clock: ManualClock, metrics: Metrics) -> None:
    watcher = watch(alarm(statistic="Sum", period=10, evaluation_periods=3, datapoints_to_alarm=2), metrics, clock)
    async with running(watcher):
        for values in (1, 0, 0, 1, 0, 1):
            metrics.put(VISIBLE, values, clock.now_ms())
            await clock.advance(10)
        assert [each.state for each in watcher.history] == ["OK", "ALARM"]
        await clock.advance(60)
    # As in CloudWatch, what stays in the range after the metric stopped is evaluated again as it moves out: first two
    # datapoints of which one is good, then a single old one that breaches, then none.
    assert [each.state for each in watcher.history] == ["OK", "ALARM", "OK", "ALARM", "INSUFFICIENT_DATA"]


async def test_each_state_has_its_action(clock: ManualClock, metrics: Metrics) -> None:
    seen: list[str] = []
    watcher = watch(
        alarm(period=10),
        metrics,
        clock,
        on_alarm=lambda change: seen.append(f"alarm {change.state}"),
        on_ok=lambda change: seen.append(f"ok {change.state}"),
        on_insufficient_data=lambda change: seen.append(f"insufficient {change.state}"),
    )
    async with running(watcher):
        metrics.put(VISIBLE, 1.0, clock.now_ms())
        await clock.advance(10)
        metrics.put(VISIBLE, 0.0, clock.now_ms())
        await clock.advance(60)
    assert seen == ["alarm ALARM", "ok OK", "insufficient INSUFFICIENT_DATA"]


async def test_a_slow_action_delays_no_evaluation_and_the_next_one_of_its_alarm_waits(
    clock: ManualClock, metrics: Metrics
) -> None:
    seen: list[str] = []

    async def page(change: AlarmTransition) -> None:
        assert watcher.history == [change]
        await clock.sleep_until(clock.now_ms() + 25_000)
        seen.append(f"{change.state} {clock.now_ms() - START}")

    watcher = watch(alarm(period=10), metrics, clock, page, lambda change: seen.append(change.state))
    metrics.put(VISIBLE, 1.0, clock.now_ms())
    async with running(watcher):
        await clock.advance(10)
        metrics.put(VISIBLE, 0.0, clock.now_ms())
        await clock.advance(14.999)
        assert (watcher.state, seen) == ("OK", [])
        await clock.advance(0.001)
    assert seen == ["ALARM 25000", "OK"]


async def test_an_action_that_raises_is_logged_and_counted_and_stops_nothing(
    clock: ManualClock, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(change: AlarmTransition) -> None:
        raise OSError("no route to the pager")

    def fail_plainly(change: AlarmTransition) -> None:
        raise ZeroDivisionError

    async def await_what_was_cancelled(change: AlarmTransition) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiter.cancel()
        await waiter

    watcher = watch(alarm(period=10), metrics, clock, fail, fail_plainly, await_what_was_cancelled)
    with caplog.at_level(logging.ERROR, "streamkit.alarms"):
        async with running(watcher) as task:
            metrics.put(VISIBLE, 1.0, clock.now_ms())
            await clock.advance(10)
            metrics.put(VISIBLE, 0.0, clock.now_ms())
            await clock.advance(60)
            assert not task.done()
    assert [each.state for each in watcher.history] == ["ALARM", "OK", "INSUFFICIENT_DATA"]
    assert "no route to the pager" in caplog.text
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert metrics.total(ACTIONS_FAILED) == StatisticSet(3, 3.0, 1.0, 1.0)


async def test_cancelling_ends_it_even_in_an_action(clock: ManualClock, metrics: Metrics) -> None:
    entered = asyncio.Event()

    async def hang(change: AlarmTransition) -> None:
        entered.set()
        await asyncio.get_running_loop().create_future()

    watcher = watch(alarm(), metrics, clock, on_alarm=hang)
    metrics.put(VISIBLE, 1.0, clock.now_ms())
    async with running(watcher):
        await entered.wait()
    await clock.advance(0)
    assert watcher.state == "ALARM"
    assert metrics.total(ACTIONS_FAILED) == StatisticSet(1, 1.0, 1.0, 1.0)
    # The change was told; evaluating it again tells nothing twice.
    assert await watcher.evaluate_now() == "ALARM"
    await clock.advance(0)


async def test_survives_a_jump_of_the_clock(clock: ManualClock, metrics: Metrics) -> None:
    class Jumping(ManualClock):
        offset_ms = 0

        def now_ms(self) -> int:
            return super().now_ms() + self.offset_ms

    jumping = Jumping(START)
    reads: list[int] = []
    metrics.register_gauge(VISIBLE, lambda: reads.append(jumping.now_ms() - START))
    async with running(watch(alarm(), metrics, jumping)):
        await jumping.advance(2)
        jumping.offset_ms = 86_400_000
        await jumping.advance(1)
        assert reads[-1] == 86_403_000
        assert len(reads) == 4
        jumping.offset_ms = 0
        reads.clear()
        await jumping.advance(86_402)
        assert reads[0] == 86_404_000


class TestWaitFor:
    async def test_returns_at_once_what_is_so_already(self, clock: ManualClock, metrics: Metrics) -> None:
        watcher = watch(alarm(treat_missing_data="notBreaching"), metrics, clock)
        assert await watcher.wait_for("INSUFFICIENT_DATA") is None
        await watcher.evaluate_now()
        assert await watcher.wait_for("OK") == watcher.history[0]

    async def test_wakes_at_the_change(self, clock: ManualClock, metrics: Metrics) -> None:
        watcher = watch(alarm(), metrics, clock)
        waits = [asyncio.create_task(watcher.wait_for("ALARM")) for _ in range(2)]
        other = asyncio.create_task(watcher.wait_for("OK"))
        async with running(watcher):
            await clock.advance(3)
            assert not any(wait.done() for wait in waits)
            metrics.put(VISIBLE, 1.0, clock.now_ms())
            await clock.advance(1)
            assert [await wait for wait in waits] == watcher.history * 2
            assert not other.done()
            metrics.put(VISIBLE, 0.0, clock.now_ms() + 60_000)
            await clock.advance(120)
            assert await other == watcher.history[-1]

    async def test_is_safe_to_cancel(self, clock: ManualClock, metrics: Metrics) -> None:
        watcher = watch(alarm(), metrics, clock)
        wait = asyncio.create_task(watcher.wait_for("ALARM"))
        await clock.advance(0)
        wait.cancel()
        metrics.put(VISIBLE, 1.0, clock.now_ms())
        await watcher.evaluate_now()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert watcher._waiting == []

    async def test_the_action_may_wait_for_another_state(self, clock: ManualClock, metrics: Metrics) -> None:
        waits: list[asyncio.Task[AlarmTransition | None]] = []
        watcher = watch(
            alarm(period=10),
            metrics,
            clock,
            on_alarm=lambda change: waits.append(asyncio.create_task(watcher.wait_for("INSUFFICIENT_DATA"))),
        )
        async with running(watcher):
            metrics.put(VISIBLE, 1.0, clock.now_ms())
            await clock.advance(60)
        assert await waits[0] == watcher.history[-1]


async def test_history_is_bounded(clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started_module, "HISTORY_LENGTH", 3)
    watcher = watch(alarm(period=10), metrics, clock)
    async with running(watcher):
        for value in range(8):
            metrics.put(VISIBLE, value % 2, clock.now_ms())
            await clock.advance(10)
    assert len(watcher.history) == 3
    assert watcher.history[-1].state == watcher.state


async def test_an_extended_statistic_is_evaluated_over_whole_periods(clock: ManualClock, metrics: Metrics) -> None:
    watcher = watch(alarm(statistic="p90", threshold=5), metrics, clock)
    metrics.put(VISIBLE, 1.0, clock.now_ms(), 10)
    metrics.put(VISIBLE, 9.0, clock.now_ms(), 2)
    assert await watcher.evaluate_now() == "INSUFFICIENT_DATA"
    await clock.advance(60)
    assert await watcher.evaluate_now() == "ALARM"
    metrics.put(VISIBLE, 1.0, clock.now_ms(), 18)
    metrics.put(VISIBLE, 9.0, clock.now_ms(), 2)
    await clock.advance(60)
    assert await watcher.evaluate_now() == "OK"


async def test_a_period_without_percentiles_is_missing_data(clock: ManualClock, metrics: Metrics) -> None:
    watcher = watch(alarm(statistic="p90", treat_missing_data="breaching"), metrics, clock)
    metrics.put(VISIBLE, -1.0, clock.now_ms())
    metrics.put(VISIBLE, -2.0, clock.now_ms())
    await clock.advance(60)
    assert await watcher.evaluate_now() == "ALARM"


@pytest.mark.parametrize(("low", "expected"), [("evaluate", "OK"), ("ignore", "ALARM")])
async def test_a_percentile_of_few_samples_may_keep_the_state(
    clock: ManualClock, metrics: Metrics, low: str, expected: str
) -> None:
    asked = alarm(statistic="p90", threshold=5, evaluate_low_sample_count_percentile=low)
    watcher = watch(asked, metrics, clock)
    metrics.put(VISIBLE, 9.0, clock.now_ms(), 100)
    await clock.advance(60)
    assert await watcher.evaluate_now() == "ALARM"
    metrics.put(VISIBLE, 1.0, clock.now_ms(), 99)
    await clock.advance(60)
    assert await watcher.evaluate_now() == expected
    metrics.put(VISIBLE, 1.0, clock.now_ms(), 100)
    await clock.advance(60)
    assert await watcher.evaluate_now() == "OK"

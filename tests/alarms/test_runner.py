from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.alarms.actions import Attempts, Trying
from streamkit.alarms.history import HistoryItem
from streamkit.alarms.runner import (
    ACTION_RETRIES,
    ACTIONS_FAILED,
    ACTIONS_SUCCEEDED,
    MOST_PENDING,
    RetryingRunner,
)
from streamkit.alarms.transition import AlarmTransition
from streamkit.backoff import Retry
from streamkit.errors import ActionError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

STEADY = Retry(first=1.0, factor=2.0, longest=60.0, jitter=False)
OURS = __name__


class Written(MemoryHistory):
    """A history, the oldest first."""

    @property
    def found(self) -> list[HistoryItem]:
        return self._items

    @property
    def summaries(self) -> list[str]:
        return [item.summary for item in self.found]


class Bench:
    """A runner with all that it needs."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.history = Written()
        self.runner = RetryingRunner(self.metrics, self.clock, self.history)

    def dispatch(self, *actions: Any, alarm: str = "a", number: int = 0) -> AlarmTransition:
        transition = AlarmTransition(
            alarm=alarm, previous="OK", state="ALARM", reason="it is", at_ms=self.clock.now_ms() + number
        )
        self.runner.dispatch(transition, actions)
        return transition

    def count(self, metric: Metric) -> float:
        total = self.metrics.total(metric)
        return 0 if total is None else total.sum


@pytest.fixture
async def bench() -> Bench:
    return Bench()


class Failing:
    """Raises so many times, then works."""

    label = "failing"

    def __init__(self, clock: ManualClock, times: int, error: Callable[[], Exception], attempts: Attempts) -> None:
        self.clock = clock
        self.left = times
        self.error = error
        self.attempts = attempts
        self.called: list[int] = []

    async def __call__(self, transition: AlarmTransition) -> None:
        self.called.append(self.clock.now_ms() - 1_700_000_000_000)
        if self.left:
            self.left -= 1
            raise self.error()


def sync_action(transition: AlarmTransition) -> None:
    """Does nothing."""


async def test_functions_of_both_kinds_are_called_and_written_down(bench: Bench) -> None:
    calls: list[AlarmTransition] = []

    async def later(transition: AlarmTransition) -> None:
        await asyncio.sleep(0)
        calls.append(transition)

    transition = bench.dispatch(calls.append, later, sync_action)
    assert calls == []  # In the background.
    await bench.runner.drain()
    assert calls == [transition, transition]
    assert "Successfully executed action list.append" in bench.history.summaries
    assert f"Successfully executed action {OURS}.sync_action" in bench.history.summaries
    assert bench.count(ACTIONS_SUCCEEDED) == 3
    (item,) = [item for item in bench.history.found if "sync_action" in item.summary]
    assert (item.alarm, item.alarm_type, item.item_type) == ("a", "MetricAlarm", "Action")
    assert json.loads(item.data) == {
        "version": "1.0",
        "actionState": "Succeeded",
        "notificationResource": f"{OURS}.sync_action",
        "stateUpdateTimestamp": transition.at_ms,
        "stateValue": "ALARM",
        "attempts": 1,
    }


async def test_one_that_fails_is_tried_again_with_growing_waits(bench: Bench) -> None:
    action = Failing(bench.clock, 3, lambda: OSError("no route"), Attempts(retry=STEADY))
    bench.dispatch(action)
    await bench.clock.advance(60)
    assert action.called == [0, 1_000, 3_000, 7_000]
    assert (bench.count(ACTION_RETRIES), bench.count(ACTIONS_FAILED), bench.count(ACTIONS_SUCCEEDED)) == (3, 0, 1)
    assert json.loads(bench.history.found[0].data)["attempts"] == 4
    assert len(bench.history.found) == 1


async def test_one_that_always_fails_is_given_up_after_five_attempts_counted_and_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    action = Failing(bench.clock, 99, lambda: OSError("no route"), Attempts(retry=STEADY))
    with caplog.at_level(logging.WARNING, "streamkit.alarms"):
        bench.dispatch(action)
        await bench.clock.advance(3600)
    assert len(action.called) == 5
    assert (bench.count(ACTION_RETRIES), bench.count(ACTIONS_FAILED), bench.count(ACTIONS_SUCCEEDED)) == (4, 1, 0)
    assert bench.history.summaries == ['Failed to execute action failing. Received error: "OSError: no route"']
    assert json.loads(bench.history.found[0].data)["actionState"] == "Failed"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4 + ["ERROR"]
    assert "action failing of alarm 'a' for ALARM was not done, attempts: 5: OSError: no route" in caplog.text


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (lambda: ValidationError("no"), 1),
        (lambda: ActionError("no"), 1),
        (lambda: ActionError("later", retryable=True), 2),
        (lambda: asyncio.CancelledError(), 2),
        (lambda: KeyError("x"), 2),
    ],
)
async def test_only_what_may_succeed_is_tried_again(bench: Bench, error: Callable[[], Exception], calls: int) -> None:
    action = Failing(bench.clock, 1, error, Attempts(retry=STEADY))
    bench.dispatch(action)
    await bench.clock.advance(10)
    assert len(action.called) == calls
    assert bench.count(ACTIONS_FAILED) == (calls == 1)


async def test_retry_after_is_waited_for(bench: Bench) -> None:
    action = Failing(
        bench.clock, 1, lambda: ActionError("busy", retryable=True, retry_after=30), Attempts(retry=STEADY)
    )
    bench.dispatch(action)
    await bench.clock.advance(60)
    assert action.called == [0, 30_000]


async def test_an_attempt_that_hangs_is_cancelled_and_made_again(bench: Bench) -> None:
    begun: list[int] = []
    cancelled: list[int] = []

    async def hangs(transition: AlarmTransition) -> None:
        begun.append(bench.clock.now_ms())
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(bench.clock.now_ms() - begun[-1])

    bench.dispatch(Trying(hangs, Attempts(most=2, timeout=7, retry=STEADY)))
    await bench.clock.advance(60)
    assert cancelled == [7_000, 7_000]
    assert bench.history.summaries[0].endswith('hangs. Received error: "it took longer than 7 s"')


async def test_actions_of_one_change_run_side_by_side_and_changes_one_after_the_other(bench: Bench) -> None:
    order: list[str] = []
    released = asyncio.Event()

    async def slow(transition: AlarmTransition) -> None:
        await released.wait()
        order.append(f"slow {transition.at_ms % 10}")

    async def quick(transition: AlarmTransition) -> None:
        order.append(f"quick {transition.at_ms % 10}")

    bench.dispatch(slow, quick, number=1)
    bench.dispatch(quick, number=2)
    bench.dispatch(quick, alarm="other", number=3)
    await bench.clock.advance(1)
    assert sorted(order) == ["quick 1", "quick 3"]
    released.set()
    await bench.runner.drain()
    assert order[2:] == ["slow 1", "quick 2"]


async def test_of_many_changes_that_wait_the_oldest_are_given_up(bench: Bench) -> None:
    seen: list[int] = []
    released = asyncio.Event()

    async def slow(transition: AlarmTransition) -> None:
        await released.wait()
        seen.append(transition.at_ms - bench.clock.now_ms())

    bench.dispatch(slow, number=0)
    await bench.clock.advance(0)  # It is in hand, and does not count.
    for number in range(1, MOST_PENDING + 3):
        bench.dispatch(slow, number=number)
    assert bench.count(ACTIONS_FAILED) == 2
    assert "more than 100 later changes wait" in bench.history.summaries[0]
    released.set()
    await bench.runner.drain()
    assert seen == [0, *range(3, MOST_PENDING + 3)]


async def test_what_is_dispatched_as_a_lane_ends_is_done(bench: Bench) -> None:
    """By an action itself, and in each of the turns of the loop after it."""
    calls: list[int] = []

    def again(transition: AlarmTransition) -> None:
        calls.append(len(calls))
        if len(calls) < 5:
            bench.dispatch(again)

    bench.dispatch(again)
    await bench.clock.advance(0)
    assert len(calls) == 5
    for turns in range(8):
        bench.dispatch(again)
        for _ in range(turns):
            await asyncio.sleep(0)
        bench.dispatch(again)
        await bench.clock.advance(0)
    assert len(calls) == 5 + 16


async def test_drain_waits_for_one_alarm_or_for_all(bench: Bench) -> None:
    released = asyncio.Event()

    async def slow(transition: AlarmTransition) -> None:
        await released.wait()

    bench.dispatch(slow)
    bench.dispatch(sync_action, alarm="b")
    await bench.runner.drain("b")
    await bench.runner.drain("c")
    waiting = asyncio.create_task(bench.runner.drain())
    await bench.clock.advance(10)
    assert not waiting.done()
    released.set()
    await waiting


# ---- closing


async def test_closing_lets_what_is_in_hand_finish_with_what_waits_behind_it(bench: Bench) -> None:
    done: list[int] = []

    async def takes_a_second(transition: AlarmTransition) -> None:
        await bench.clock.sleep_until(bench.clock.now_ms() + 1000)
        done.append(transition.at_ms)

    for number in range(3):
        bench.dispatch(takes_a_second, number=number)
    closing = asyncio.create_task(bench.runner.close())
    await bench.clock.advance(3)
    await closing
    assert len(done) == 3


async def test_closing_ends_and_says_what_was_not_done(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def hangs(transition: AlarmTransition) -> None:
        await asyncio.Event().wait()

    bench.dispatch(hangs, sync_action, number=1)
    bench.dispatch(sync_action, number=2)
    closing = asyncio.create_task(bench.runner.close())
    await bench.clock.advance(3.999)
    assert not closing.done()
    await bench.clock.advance(0.001)
    await closing
    assert len(bench.history.found) == 3
    assert bench.history.summaries[0].startswith("Successfully executed")
    assert bench.history.summaries[1].endswith(
        'hangs. Received error: "it was not done before the alarms were stopped. It is called once this alarm is '
        'started again"'
    )
    assert bench.history.summaries[2].endswith(
        '"it was not begun before the alarms were stopped. It is called once this alarm is started again"'
    )
    assert "attempts: 1: it was not done" in caplog.text
    assert "attempts: 0: it was not begun" in caplog.text
    assert bench.count(ACTIONS_FAILED) == 2


async def test_closing_does_not_wait_for_an_attempt_that_would_come_too_late(bench: Bench) -> None:
    late = Retry(first=60, jitter=False)
    soon = Retry(first=2, jitter=False)
    bench.dispatch(Failing(bench.clock, 1, lambda: OSError("no"), Attempts(retry=late)))
    await bench.clock.advance(1)
    await bench.runner.close()  # At once.
    assert bench.history.summaries == [
        'Failed to execute action failing. Received error: "OSError: no. It is called once this alarm is started again"'
    ]
    bench.dispatch(Failing(bench.clock, 1, lambda: OSError("no"), Attempts(retry=soon)), alarm="b")
    await bench.clock.advance(0)
    closing = asyncio.create_task(bench.runner.close())
    await bench.clock.advance(2)
    await closing
    assert bench.history.summaries[1:] == ["Successfully executed action failing"]


@pytest.mark.parametrize("turns", range(4))
async def test_cancelling_ends_everything_wherever_it_is(bench: Bench, turns: int) -> None:
    async def hangs(transition: AlarmTransition) -> None:
        await asyncio.Event().wait()

    bench.dispatch(hangs)
    bench.dispatch(hangs, hangs)
    for _ in range(turns):
        await asyncio.sleep(0)
    bench.runner.cancel()
    await bench.runner.drain()
    assert len(bench.history.found) == 3
    assert bench.count(ACTIONS_FAILED) == 3


async def test_what_is_wrong_with_attempts_is_said() -> None:
    for wrong in ({"most": 0}, {"most": True}, {"timeout": 0}, {"timeout": float("nan")}, {"retry": 3}):
        with pytest.raises(ValidationError):
            Attempts(**wrong)
    with pytest.raises(ValidationError, match="cannot be called"):
        Trying(3, Attempts())  # type: ignore[arg-type]

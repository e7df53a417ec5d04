"""States that are set, actions that are switched, and alarms that are replaced or begin where they were."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.history import HistoryItem
from streamkit.alarms.ports import StoredState
from streamkit.alarms.runner import RetryingRunner
from streamkit.alarms.transition import AlarmTransition, StateActions
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.errors import ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

START = 1_700_000_040_000  # on a minute
METRIC = Metric.of("n", "m")


def alarm(**changes: Any) -> Alarm:
    fields: dict[str, Any] = {
        "metric": METRIC,
        "statistic": "Sum",
        "period": 60,
        "threshold": 0,
        "comparison": "GreaterThanThreshold",
        "treat_missing_data": "notBreaching",
    }
    return Alarm("a", **{**fields, **changes})


class Watched:
    """A watcher, and what came of it."""

    def __init__(self, asked: Alarm | None = None) -> None:
        self.clock, self.metrics, self.history = ManualClock(START), Metrics(), MemoryHistory()
        self.calls: list[str] = []
        runner = RetryingRunner(self.metrics, self.clock, self.history)
        actions = StateActions.of([self._called, self._called], self._called, self._called)
        self.watcher = AlarmWatcher(asked or alarm(), self.metrics, self.clock, actions, runner, self.history)

    def _called(self, change: AlarmTransition) -> None:
        self.calls.append(change.state)

    async def evaluate(self, after: float = 60) -> str:
        await self.clock.advance(after)
        state = await self.watcher.evaluate_now()
        await self.clock.advance(0)
        return state

    async def items(self) -> list[HistoryItem]:
        return await self.history.items("a")


async def test_a_state_that_is_set_calls_actions_and_lasts_until_the_next_evaluation() -> None:
    made = Watched()
    watcher = made.watcher
    assert watcher.reason == "Unchecked: Initial alarm creation"
    assert await made.evaluate(0) == "OK"
    await made.clock.advance(5)
    watcher.set_state("ALARM", "a rehearsal", '{"who": "ada"}')
    await made.clock.advance(0)
    assert (watcher.state, watcher.reason, watcher.reason_data) == ("ALARM", "a rehearsal", '{"who": "ada"}')
    assert made.calls == ["OK", "ALARM", "ALARM"]
    assert watcher.explain() == (
        "Alarm 'a' is in ALARM since 2023-11-14 22:14:05 UTC. It was set by hand, until the next evaluation: a "
        "rehearsal"
    )
    assert watcher.history[-1].previous_at_ms == START
    # Though nothing came that had not been there before.
    assert await made.evaluate(55) == "OK"
    assert made.calls == ["OK", "ALARM", "ALARM", "OK"]
    assert "notBreaching" not in watcher.explain()
    assert "counted as not breaching" in watcher.explain()
    newest = next(item for item in await made.items() if item.item_type != "Action")
    assert (newest.item_type, newest.summary) == ("StateUpdate", "Alarm updated from ALARM to OK")
    data = json.loads(newest.data)
    assert data["oldState"] == {
        "stateValue": "ALARM",
        "stateReason": "a rehearsal",
        "stateReasonData": {"who": "ada"},
    }
    assert data["newState"]["stateReasonData"] == json.loads(watcher.reason_data or "")


async def test_the_state_it_has_is_no_change() -> None:
    made = Watched()
    await made.evaluate(0)
    changed = made.watcher.changed_ms
    await made.clock.advance(7)
    made.watcher.set_state("OK", "looked at it")
    await made.clock.advance(0)
    assert made.calls == ["OK"]
    assert (made.watcher.changed_ms, made.watcher.updated_ms) == (changed, START + 7000)
    assert (made.watcher.reason, len(made.watcher.history)) == ("looked at it", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ALERT", "x"), "choose one of OK, ALARM, INSUFFICIENT_DATA"),
        (("ALARM", "x" * 1024), "up to 1,023 characters"),
        (("ALARM", "x", "{"), "reason_data is no JSON"),
        (("ALARM", "x", '"' + "x" * 4000 + '"'), "up to 4,000 characters"),
    ],
)
async def test_refuses_what_cannot_be_a_state(arguments: tuple[Any, ...], words: str) -> None:
    made = Watched()
    with pytest.raises(ValidationError, match=words):
        made.watcher.set_state(*arguments)
    assert made.watcher.history == []


async def test_without_actions_the_state_changes_and_later_nothing_is_made_up_for() -> None:
    made = Watched(alarm(actions_enabled=False))
    assert not made.watcher.actions_enabled
    assert await made.evaluate(0) == "OK"
    made.metrics.put(METRIC, 1, made.clock.now_ms())
    assert await made.evaluate() == "ALARM"
    assert made.calls == []
    made.watcher.enable_actions()
    assert await made.evaluate(1) == "ALARM"
    assert made.calls == []
    assert await made.evaluate(180) == "OK"
    assert made.calls == ["OK"]
    made.watcher.disable_actions()
    made.watcher.set_state("ALARM", "")
    await made.clock.advance(0)
    assert (made.watcher.state, made.calls) == ("ALARM", ["OK"])


async def test_one_that_begins_where_it_was_calls_nothing_for_that() -> None:
    made = Watched()
    made.watcher.restore(StoredState(state="OK", reason="it was", changed_ms=START - 9000, reason_data="{}"))
    assert await made.evaluate(0) == "OK"
    assert made.calls == []
    assert made.watcher.stored().changed_ms == made.watcher.changed_ms == START - 9000
    assert (made.watcher.reason, made.watcher.history) == ("it was", [])
    made.metrics.put(METRIC, 1, made.clock.now_ms())
    assert await made.evaluate() == "ALARM"
    assert made.calls == ["ALARM", "ALARM"]
    assert made.watcher.history[0].previous_reason == "it was"


async def test_one_that_is_replaced_keeps_its_state_until_it_is_evaluated() -> None:
    made = Watched()
    made.metrics.put(METRIC, 3, made.clock.now_ms())
    assert await made.evaluate() == "ALARM"
    changed = made.watcher.changed_ms
    await made.clock.advance(5)
    made.watcher.replace(alarm(threshold=5, actions_enabled=False, description="less"), StateActions())
    assert (made.watcher.state, made.watcher.changed_ms) == ("ALARM", changed)
    assert made.watcher.configured_ms == START + 65_000
    assert await made.evaluate(1) == "OK"
    assert made.calls == ["ALARM", "ALARM"]


def test_each_state_has_five_actions_at_most() -> None:
    assert StateActions.of(print).on_alarm == (print,)
    assert StateActions.of([print] * 5).of_state("ALARM") == (print,) * 5
    assert StateActions.of(on_ok=print).of_state("OK") == (print,)
    assert StateActions.of(on_insufficient_data=print).of_state("INSUFFICIENT_DATA") == (print,)
    with pytest.raises(ValidationError, match="on_ok has 6 actions: give 5 at most"):
        StateActions.of(on_ok=[print] * 6)
    with pytest.raises(ValidationError, match="'page', which cannot be called"):
        StateActions.of(["page"])  # type: ignore[list-item]

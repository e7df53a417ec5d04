"""``kit.alarms``, and what ``kit.start`` and ``kit.stop`` do for alarms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

import streamkit
from streamkit import Alarm, Kit, Metric, NotFoundError, ValidationError
from streamkit.alarms.face import Alarms
from streamkit.alarms.ports import StoredState
from streamkit.alarms.runner import RetryingRunner
from streamkit.alarms.transition import AlarmTransition, StateActions
from streamkit.errors import ClosedError
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.window import Metrics
from streamkit.service import Service, Stop
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

METRIC = Metric.of("shop", "Errors")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_040_000)  # on a minute


def alarm(name: str = "errors", **changes: Any) -> Alarm:
    fields: dict[str, Any] = {
        "metric": METRIC,
        "statistic": "Sum",
        "period": 60,
        "threshold": 0,
        "comparison": "GreaterThanThreshold",
        "treat_missing_data": "notBreaching",
    }
    return Alarm(name, **{**fields, **changes})


async def test_lists_by_prefix_and_state(kit: Kit, clock: ManualClock) -> None:
    orders, billing = kit.start(alarm("shop-orders")), kit.start(alarm("shop-billing", metric=Metric.of("shop", "B")))
    other = kit.start(alarm("other"))
    await clock.advance(0)
    kit.metrics.put(METRIC, 1)
    await clock.advance(60)
    assert kit.alarms.list() == [other, billing, orders]
    assert kit.alarms.list("shop-") == [billing, orders]
    assert kit.alarms.list("shop-", "ALARM") == [orders]
    assert kit.alarms.list(state="OK") == [billing]
    assert kit.alarms.get("other") is other
    assert (len(kit.alarms), "other" in kit.alarms, "none" in kit.alarms) == (3, True, False)
    assert kit.health().alarms == {"shop-orders": "ALARM", "shop-billing": "OK", "other": "ALARM"}
    assert kit.health().services == {"alarms": "running"}
    with pytest.raises(NotFoundError, match="none"):
        kit.alarms.get("none")


async def test_a_name_is_taken_until_it_is_stopped(kit: Kit, clock: ManualClock) -> None:
    watcher = kit.start(alarm())
    with pytest.raises(ValidationError, match=r"'errors' is running already: stop it first, or .* kit.alarms.update"):
        kit.start(alarm())
    await kit.stop(watcher)
    await kit.stop(watcher)
    assert watcher.stopped
    assert kit.alarms.list() == []
    again = kit.start(alarm())
    await kit.stop("errors")
    assert again.stopped
    with pytest.raises(ValidationError, match="no service named 'errors' was started"):
        await kit.stop("errors")
    with pytest.raises(NotFoundError):
        await kit.alarms.stop("errors")


async def test_one_that_is_stopped_is_not_evaluated_and_begins_again_where_it_was(kit: Kit, clock: ManualClock) -> None:
    calls: list[AlarmTransition] = []
    watcher = kit.start(alarm(), on_alarm=calls.append)
    kit.metrics.put(METRIC, 1)
    await clock.advance(60)
    since = watcher.changed_ms
    await kit.stop(watcher)
    await clock.advance(600)
    assert watcher.state == "ALARM"
    kit.metrics.raw.put(METRIC, 1, clock.now_ms() - 60_000)
    again = kit.start(alarm(), on_alarm=calls.append)
    assert (again.state, again.changed_ms) == ("ALARM", since)
    await clock.advance(0)
    assert (again.state, len(calls)) == ("ALARM", 1)


async def test_an_alarm_of_another_kit_is_not_stopped(kit: Kit, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as other:
        watcher = other.start(alarm())
        kit.start(alarm())
        with pytest.raises(ValidationError, match="of another kit"):
            await kit.stop(watcher)


async def test_update_replaces_the_configuration_and_keeps_the_state(kit: Kit, clock: ManualClock) -> None:
    calls: list[str] = []
    watcher = kit.start(alarm(), on_alarm=lambda change: calls.append("old"), on_ok=lambda change: calls.append("old"))
    kit.metrics.put(METRIC, 1)
    await clock.advance(60)
    assert kit.alarms.update(alarm(period=10, threshold=5), on_ok=lambda change: calls.append("new")) is watcher
    assert (watcher.state, watcher.alarm.threshold) == ("ALARM", 5)
    await clock.advance(1)
    assert (watcher.state, calls) == ("OK", ["old", "old", "new"])
    kit.metrics.put(METRIC, 7, storage_resolution=1)
    await clock.advance(9)
    assert (kit.health().alarms, calls) == ({"errors": "ALARM"}, ["old", "old", "new"])
    kit.alarms.update(alarm(period=10, threshold=5))
    summaries = [item.summary for item in await kit.alarms.history("errors", item_type="ConfigurationUpdate")]
    assert summaries == ['Alarm "errors" updated', 'Alarm "errors" created']
    with pytest.raises(NotFoundError):
        kit.alarms.update(alarm("none"))


async def test_states_and_actions_by_name(kit: Kit, clock: ManualClock) -> None:
    calls: list[str] = []
    for name in "ab":
        kit.start(alarm(name), on_alarm=lambda change: calls.append(change.alarm))
    await clock.advance(0)
    kit.alarms.disable_actions("a")
    for name in "ab":
        kit.alarms.set_state(name, "ALARM", "a rehearsal")
    await clock.advance(0)
    assert calls == ["b"]
    with pytest.raises(NotFoundError):
        kit.alarms.enable_actions("a", "none")
    assert not kit.alarms.get("a").actions_enabled
    kit.alarms.enable_actions("a", "b")
    await clock.advance(60)
    kit.alarms.set_state("a", "ALARM", "once more")
    await clock.advance(0)
    assert calls == ["b", "a"]


async def test_deletes_and_keeps_the_history(kit: Kit, clock: ManualClock) -> None:
    kit.start(alarm())
    kit.metrics.put(METRIC, 1)
    await clock.advance(60)
    with pytest.raises(NotFoundError, match="none"):
        await kit.alarms.delete("errors", "none")
    assert kit.alarms.list() == []
    items = await kit.alarms.history("errors")
    assert [item.summary for item in items] == [
        'Alarm "errors" deleted',
        "Alarm updated from OK to ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        'Alarm "errors" created',
    ]
    created = json.loads(items[-1].data)
    assert (created["type"], created["createdAlarm"]["threshold"]) == ("Create", 0)
    assert await kit.alarms.history("other") == []
    again = kit.start(alarm())
    assert again.state == "INSUFFICIENT_DATA"


async def test_metric_math_is_evaluated_over_whole_periods(kit: Kit, clock: ManualClock) -> None:
    calls = Metric.of("shop", "Calls")
    watcher = kit.start(
        Alarm(
            "percent",
            metrics=[
                MetricQuery(id="errors", metric=METRIC, statistic="Sum", period=60, return_data=False),
                MetricQuery(id="calls", metric=calls, statistic="Sum", period=60, return_data=False),
                MetricQuery(id="percent", expression="100 * FILL(errors, 0) / calls"),
            ],
            threshold=5,
            comparison="GreaterThanThreshold",
            evaluation_periods=2,
            datapoints_to_alarm=1,
        )
    )
    kit.metrics.put(calls, 100)
    await clock.advance(60)
    assert kit.health().alarms == {"percent": "OK"}
    kit.metrics.put(calls, 100)
    kit.metrics.put(METRIC, 6)
    await clock.advance(59)
    assert kit.health().alarms == {"percent": "OK"}
    await clock.advance(1)
    assert kit.health().alarms == {"percent": "ALARM"}
    assert watcher.reason.startswith("Threshold Crossed: 1 out of the last 2 datapoints [6.0 (")
    assert "100 * FILL(errors, 0) / calls in periods of 60 seconds, where errors is Sum of shop" in watcher.explain()
    assert "1 breached (6.0 at " in watcher.explain()


async def test_gauges_of_metric_math_are_read(kit: Kit, clock: ManualClock) -> None:
    queue = await kit.create_queue("jobs")
    await queue.send({"id": 1})
    visible = queue.metric("ApproximateNumberOfMessagesVisible")
    queries = [
        MetricQuery(id="visible", metric=visible, statistic="Maximum", period=60, return_data=False),
        MetricQuery(id="twice", expression="visible * 2"),
    ]
    kit.start(Alarm("depth", metrics=queries, threshold=2, comparison="GreaterThanOrEqualToThreshold"))
    await clock.advance(60)
    assert kit.health().alarms == {"depth": "ALARM"}


class StoredHistory(MemoryHistory):
    """A history that was there before."""

    def __init__(self, states: Mapping[str, StoredState]) -> None:
        super().__init__()
        self._states = states

    async def states(self) -> Mapping[str, StoredState]:
        return self._states


async def test_stored_states_go_on_and_call_nothing(clock: ManualClock) -> None:
    metrics, calls = Metrics(), list[AlarmTransition]()
    same = json.dumps({})
    stored = {
        "errors": StoredState(state="OK", reason="it was", changed_ms=1000, configuration=same),
        "later": StoredState(state="OK", reason="it was", changed_ms=2000, configuration=same),
    }
    history, started = StoredHistory(stored), list[Service]()
    alarms = Alarms(metrics, clock, started.append, RetryingRunner(metrics, clock, history), history)
    first = alarms.start(alarm(), StateActions.of(on_ok=calls.append))
    new = alarms.start(alarm("new"), StateActions.of(on_ok=calls.append))
    stop = Stop()
    running = asyncio.create_task(started[0].run(stop))
    await clock.advance(0)
    later = alarms.start(alarm("later"), StateActions.of(on_ok=calls.append))
    assert later.changed_ms == 2000
    await clock.advance(1)
    assert (first.state, first.changed_ms, first.reason) == ("OK", 1000, "it was")
    assert [change.alarm for change in calls] == ["new"]
    assert new.history != []
    stop.request()
    await running
    created = [item.summary for item in await history.items(item_type="ConfigurationUpdate")]
    assert created == ['Alarm "later" updated', 'Alarm "new" created', 'Alarm "errors" updated']


async def test_who_waits_for_a_state_is_told_that_it_was_stored(clock: ManualClock) -> None:
    metrics, started = Metrics(), list[Service]()
    stored = {"errors": StoredState(state="ALARM", reason="it was", changed_ms=1000)}
    history = StoredHistory(stored)
    alarms = Alarms(metrics, clock, started.append, RetryingRunner(metrics, clock, history), history)
    watcher = alarms.start(alarm(treat_missing_data="ignore"), StateActions())
    waits = asyncio.create_task(watcher.wait_for("ALARM")), asyncio.create_task(watcher.wait_for("OK"))
    stop = Stop()
    running = asyncio.create_task(started[0].run(stop))
    await clock.advance(0)
    assert waits[0].done()
    assert await waits[0] is None
    assert not waits[1].done()
    waits[1].cancel()
    stop.request()
    await running


async def test_a_state_that_is_set_before_the_stored_one_is_known_stays(clock: ManualClock) -> None:
    metrics, started = Metrics(), list[Service]()
    history = StoredHistory({"errors": StoredState(state="OK", reason="it was", changed_ms=1000)})
    alarms = Alarms(metrics, clock, started.append, RetryingRunner(metrics, clock, history), history)
    watcher = alarms.start(alarm(treat_missing_data="ignore"), StateActions())
    watcher.set_state("ALARM", "a rehearsal")
    stop = Stop()
    running = asyncio.create_task(started[0].run(stop))
    await clock.advance(1)
    assert (watcher.state, watcher.reason) == ("ALARM", "a rehearsal")
    stop.request()
    await running


async def test_states_that_cannot_be_read_stop_no_alarm(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryHistory):
        async def states(self) -> Mapping[str, StoredState]:
            raise OSError("the disk is gone")

    metrics, started = Metrics(), list[Service]()
    alarms = Alarms(metrics, clock, started.append, RetryingRunner(metrics, clock, MemoryHistory()), Broken())
    watcher = alarms.start(alarm(), StateActions())
    stop = Stop()
    running = asyncio.create_task(started[0].run(stop))
    await clock.advance(0)
    assert watcher.state == "OK"
    assert "cannot be read" in caplog.text
    stop.request()
    await running


async def test_the_gauge_of_a_queue_is_read_anew_at_each_look(kit: Kit, clock: ManualClock) -> None:
    queue = await kit.create_queue("jobs")
    watcher = kit.start(alarm(metric=queue.metric("ApproximateNumberOfMessagesVisible"), statistic="Maximum"))
    await clock.advance(90)
    assert watcher.state == "OK"
    await queue.send({"id": 1})
    await clock.advance(1)
    assert kit.health().alarms == {"errors": "ALARM"}


async def test_alarms_on_metrics_of_tables_ignore_missing_data(kit: Kit, clock: ManualClock) -> None:
    metric = Metric.of("AWS/DynamoDB", "ThrottledRequests", TableName="t")
    watcher = kit.start(alarm(metric=metric, treat_missing_data="breaching"))
    await clock.advance(300)
    assert watcher.state == "INSUFFICIENT_DATA"


async def test_one_that_is_stopped_within_its_own_action_does_not_wait_for_that(kit: Kit, clock: ManualClock) -> None:
    stopped: list[str] = []

    async def stop(transition: AlarmTransition) -> None:
        await kit.stop(transition.alarm)
        stopped.append(transition.alarm)

    kit.start(alarm(), on_alarm=[stop, lambda _: None]).set_state("ALARM", "by hand")
    await clock.advance(1)
    assert stopped == ["errors"]


async def test_a_kit_that_is_closing_starts_no_alarm(clock: ManualClock) -> None:
    refused: list[bool] = []
    kit = await streamkit.open("memory:", clock=clock)

    async def start(transition: AlarmTransition) -> None:
        await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            kit.start(alarm("late"))
        refused.append(True)

    kit.start(alarm(), on_alarm=start).set_state("ALARM", "by hand")
    await kit.close()
    assert refused == [True]

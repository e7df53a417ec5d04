"""Composite alarms in a kit: their actions are held, and let go."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit
from streamkit import Kit
from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.transition import AlarmTransition
from streamkit.testing.clock import ManualClock
from tests.alarms.sites import (
    START,
    SUPPRESSED,
    Calls,
    composite,
    errors,
    metric,
    set_states,
    start,
    start_by_hand,
)


async def test_actions_wait_for_the_suppressor_and_are_called_when_the_period_ends(
    kit: Kit, clock: ManualClock
) -> None:
    start_by_hand(kit, "web", "maintenance")
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    calls.clear()
    await set_states(kit, clock, web="ALARM")
    assert (site.state, site.suppressed_by, site.suppressed_until_ms) == ("ALARM", "WaitPeriod", START + 120_000)
    assert site.suppressed_reason == "Actions suppressed by WaitPeriod"
    assert "Its actions are suppressed by WaitPeriod: until 2023-11-14 22:16:00 UTC" in site.explain()
    await clock.advance(19.999)
    assert calls == []
    await clock.advance(0.001)
    assert calls == [(120, "ALARM")]
    assert (site.suppressed_by, site.suppressed_reason, site.suppressed_until_ms) == (None, "", None)


async def test_a_deadline_is_met_where_nothing_else_is_ever_due(kit: Kit, clock: ManualClock) -> None:
    kit.start(composite("FALSE", "maintenance"))
    site, calls = start(kit, clock, composite("TRUE", **{**SUPPRESSED, "actions_suppressor_wait_period": 1.5}))
    await clock.advance(10)
    assert site.state == "ALARM"
    assert calls == [(1.5, "ALARM")]


async def test_a_deadline_is_met_to_the_millisecond_though_metrics_are_looked_at_each_second(
    kit: Kit, clock: ManualClock
) -> None:
    start_by_hand(kit, "web", "maintenance")
    await set_states(kit, clock, web="ALARM", maintenance="ALARM")
    alarm = composite("ALARM(web)", **{**SUPPRESSED, "actions_suppressor_extension_period": 0.25})
    _, calls = start(kit, clock, alarm)
    await clock.advance(100)
    await set_states(kit, clock, maintenance="OK")
    await clock.advance(10)
    assert calls == [(100.25, "ALARM")]


async def test_a_suppressor_in_alarm_holds_actions_and_some_time_longer(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    calls.clear()
    await set_states(kit, clock, web="ALARM")
    await clock.advance(10)
    await set_states(kit, clock, maintenance="ALARM")
    assert (site.suppressed_by, site.suppressed_until_ms) == ("Alarm", None)
    await clock.advance(100)
    assert calls == []
    await set_states(kit, clock, maintenance="OK")
    assert (site.suppressed_by, site.suppressed_until_ms) == ("ExtensionPeriod", START + 240_000)
    await clock.advance(100)
    assert calls == [(240, "ALARM")]
    items = reversed(await kit.alarms.history("site", item_type="Action"))
    summaries = [item.summary for item in items if "executed" not in item.summary]
    assert summaries == [
        "Actions for OK are suppressed by WaitPeriod",
        "Actions for OK are no longer suppressed",
        "Actions for ALARM are suppressed by WaitPeriod",
        "Actions for ALARM are suppressed by Alarm",
        "Actions for ALARM are suppressed by ExtensionPeriod",
        "Actions for ALARM are no longer suppressed",
    ]


async def test_where_there_are_no_actions_none_are_written_down_as_held(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    site = kit.start(composite("ALARM(web)", **SUPPRESSED))
    await set_states(kit, clock, web="ALARM")
    assert site.suppressed_by == "WaitPeriod"
    await clock.advance(100)
    assert [
        item for item in await kit.alarms.history("site", item_type="Action") if "executed" not in item.summary
    ] == []


async def test_a_change_in_the_extension_period_begins_a_wait_period(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    calls.clear()
    await set_states(kit, clock, maintenance="ALARM", web="ALARM")
    await clock.advance(50)
    await set_states(kit, clock, maintenance="OK")
    await clock.advance(10)
    await set_states(kit, clock, web="OK")
    assert (site.suppressed_by, site.suppressed_until_ms) == ("WaitPeriod", START + 180_000)
    await clock.advance(100)
    assert calls == [(180, "OK")]


async def test_a_suppressor_that_changes_at_the_edge_at_which_the_period_ends_still_suppresses(
    kit: Kit, clock: ManualClock
) -> None:
    for name in ("web", "maintenance"):
        # What is too little is only known when its minute has ended.
        kit.start(errors(name, comparison="LessThanThreshold", threshold=5))
    site, calls = start(kit, clock, composite("ALARM(web)", **{**SUPPRESSED, "actions_suppressor_wait_period": 60}))
    await clock.advance(90)
    calls.clear()
    kit.metrics.put(metric("web"), 1)
    await clock.advance(30)
    assert (site.changed_ms, site.suppressed_by) == (START + 120_000, "WaitPeriod")
    kit.metrics.put(metric("web"), 1)
    kit.metrics.put(metric("maintenance"), 1)
    await clock.advance(60)
    assert kit.alarms.get("maintenance").changed_ms == START + 180_000
    assert (site.state, site.suppressed_by, calls) == ("ALARM", "Alarm", [])


async def test_a_composite_alarm_may_be_a_suppressor(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "deploy")
    kit.start(composite("ALARM(deploy)", "maintenance"))
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    calls.clear()
    await set_states(kit, clock, web="ALARM", deploy="ALARM")
    assert (site.state, site.suppressed_by) == ("ALARM", "Alarm")
    await clock.advance(100)
    assert calls == []


async def test_actions_that_are_disabled_are_not_called_later(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    calls.clear()
    await set_states(kit, clock, web="ALARM")
    kit.alarms.disable_actions("site")
    kit.alarms.enable_actions("site")
    await clock.advance(100)
    assert (site.state, calls) == ("ALARM", [])
    kit.alarms.disable_actions("site")
    await set_states(kit, clock, web="OK")
    kit.alarms.enable_actions("site")
    await clock.advance(100)
    assert (site.state, calls) == ("OK", [])
    await set_states(kit, clock, web="ALARM")
    await clock.advance(100)
    assert [state for _, state in calls] == ["ALARM"]


async def test_an_update_without_actions_forgets_those_that_are_held(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    await set_states(kit, clock, web="ALARM")
    calls: list[AlarmTransition] = []
    kit.alarms.update(composite("ALARM(web)", actions_enabled=False, **SUPPRESSED), on_alarm=calls.append)
    kit.alarms.enable_actions("site")
    await clock.advance(100)
    assert calls == []


@pytest.mark.parametrize(("night", "called_at"), [("OK", 105), ("ALARM", 180)])
async def test_another_suppressor_ends_the_period_that_runs(
    kit: Kit, clock: ManualClock, night: AlarmState, called_at: float
) -> None:
    start_by_hand(kit, "web", "maintenance", "night")
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(100)
    calls.clear()
    await set_states(kit, clock, web="ALARM", night=night)
    await clock.advance(5)
    called: Calls = []
    kit.alarms.update(
        composite("ALARM(web)", **{**SUPPRESSED, "actions_suppressor": "night"}),
        on_alarm=lambda change: called.append(((clock.now_ms() - START) / 1000, change.state)),
    )
    await clock.advance(0)
    assert site.suppressed_by == ("Alarm" if night == "ALARM" else None)
    await clock.advance(45)
    await set_states(kit, clock, night="OK")
    await clock.advance(50)
    assert (calls, called) == ([], [(called_at, "ALARM")])


@pytest.mark.parametrize("with_metrics", [True, False])
async def test_a_clock_that_is_set_back_holds_actions_for_one_period_more_at_most(with_metrics: bool) -> None:
    clock = _SettableClock(START)
    async with streamkit.open("memory:", clock=clock) as kit:
        if with_metrics:
            start_by_hand(kit, "web")
        kit.start(composite("FALSE", "maintenance"))
        site, calls = start(kit, clock, composite("FALSE", **SUPPRESSED))
        await clock.advance(100)
        calls.clear()
        await set_states(kit, clock, site="ALARM")
        assert calls == []
        clock.offset_ms = -86_400_000
        await clock.advance(40)
        assert ([state for _, state in calls], site.suppressed_by) == (["ALARM"], None)


class _SettableClock(ManualClock):
    """Timers run as before, but the time that it tells is another."""

    offset_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_ms

    def call_at(self, when_ms: int, callback: Any) -> Any:
        return super().call_at(when_ms - self.offset_ms, callback)

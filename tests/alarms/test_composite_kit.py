"""Composite alarms in a kit: started, evaluated when their children change, looked at."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

import streamkit
from streamkit import Kit, NotFoundError, ValidationError
from streamkit.alarms.composite import decide
from streamkit.alarms.composite_watcher import CompositeWatcher
from streamkit.alarms.started import EVALUATIONS_FAILED
from streamkit.testing.clock import ManualClock
from tests.alarms.sites import (
    START,
    SUPPRESSED,
    composite,
    errors,
    metric,
    set_states,
    start,
    start_by_hand,
)

# ---- evaluated


async def test_is_without_data_until_it_is_evaluated_and_then_in_alarm_or_ok(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    site, calls = start(kit, clock, composite("ALARM(web)"))
    assert (site.state, site.reason) == ("INSUFFICIENT_DATA", "Unchecked: Initial alarm creation")
    assert "was not evaluated yet" in site.explain()
    await clock.advance(0)
    assert kit.alarms.get("web").state == "INSUFFICIENT_DATA"
    assert site.state == "OK"
    assert calls == [(0, "OK")]


async def test_goes_with_alarms_on_metrics_at_the_same_instant(kit: Kit, clock: ManualClock) -> None:
    kit.start(errors("web"))
    site, calls = start(kit, clock, composite("ALARM(web)"))
    await clock.advance(1)
    kit.metrics.put(metric("web"), 1)
    await clock.advance(240)
    web = kit.alarms.get("web")
    assert [(change.at_ms, change.state) for change in site.history] == [
        (change.at_ms, change.state) for change in web.history
    ]
    assert [state for _, state in calls] == ["OK", "ALARM", "OK"]


async def test_shows_in_health_and_among_the_alarms(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "db")
    site, _ = start(kit, clock, composite("ALARM(web) AND ALARM(db)"))
    kit.start(composite("ALARM(web)", "web-too"))
    await set_states(kit, clock, web="OK", db="ALARM")
    assert kit.health().alarms == {"web": "OK", "db": "ALARM", "site": "OK", "web-too": "OK"}
    await set_states(kit, clock, web="ALARM")
    assert kit.health().alarms["site"] == "ALARM"
    assert not kit.health().healthy
    assert list(kit.health().services) == ["alarms"]
    assert kit.alarms.get("site") is site
    assert [each.name for each in kit.alarms.list(prefix="s", state="ALARM")] == ["site"]
    assert [each.name for each in kit.alarms.list(parents_of="web")] == ["site", "web-too"]
    assert [each.name for each in kit.alarms.list(children_of="site")] == ["db", "web"]
    assert kit.alarms.list(children_of="web") == []
    with pytest.raises(NotFoundError):
        kit.alarms.list(parents_of="gone")


async def test_says_why(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "db")
    site, _ = start(kit, clock, composite("ALARM(web) OR ALARM(db)"))
    await clock.advance(5)
    await set_states(kit, clock, web="ALARM")
    assert site.reason == "The rule is true: web is in ALARM since 2023-11-14 22:14:05 UTC."
    assert site.reason_data is not None
    assert msgspec.json.decode(site.reason_data) == {
        "triggeringAlarms": [{"name": "web", "state": {"value": "ALARM", "timestamp": "2023-11-14T22:14:05.000+0000"}}]
    }
    assert site.explain() == (
        "Alarm 'site' is in ALARM since 2023-11-14 22:14:05 UTC. It is in ALARM when ALARM(web) OR ALARM(db). "
        "The rule is true: web is in ALARM since 2023-11-14 22:14:05 UTC. "
        "It made no difference that db is in INSUFFICIENT_DATA since 2023-11-14 22:14:00 UTC."
    )


async def test_its_history_is_that_of_a_composite_alarm(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    start(kit, clock, composite("ALARM(web)"))
    await clock.advance(0)
    await set_states(kit, clock, web="ALARM")
    found = await kit.alarms.history("site")
    assert {item.alarm_type for item in found} == {"CompositeAlarm"}
    called = "Successfully executed action tests.alarms.sites.start.<locals>.called"
    assert [item.summary for item in found] == [
        called,
        "Alarm updated from OK to ALARM",
        called,
        "Alarm updated from INSUFFICIENT_DATA to OK",
        'Alarm "site" created',
    ]
    assert msgspec.json.decode(found[-1].data)["createdAlarm"]["rule"] == "ALARM(web)"
    assert {item.alarm_type for item in await kit.alarms.history("web")} == {"MetricAlarm"}


async def test_alarms_that_change_together_change_it_once(kit: Kit, clock: ManualClock) -> None:
    for name in ("a", "b"):
        kit.start(errors(name))
    both, _ = start(kit, clock, composite("ALARM(a) AND NOT ALARM(b)", "a without b"))
    other, _ = start(kit, clock, composite("ALARM(b) AND NOT ALARM(a)", "b without a"))
    await clock.advance(1)
    for name in ("a", "b"):
        kit.metrics.put(metric(name), 1)
    await clock.advance(240)
    assert [change.state for change in kit.alarms.get("a").history] == ["OK", "ALARM", "OK"]
    assert [change.state for change in both.history] == ["OK"]
    assert [change.state for change in other.history] == ["OK"]


async def test_alarms_of_other_periods_that_change_together_change_it_once(kit: Kit, clock: ManualClock) -> None:
    # What is too little is only known when its period has ended.
    kit.start(errors("a", comparison="LessThanThreshold", threshold=5))
    kit.start(errors("b", comparison="LessThanThreshold", threshold=5, period=30))
    one = kit.start(composite("ALARM(a) AND NOT ALARM(b)", "a without b"))
    other = kit.start(composite("ALARM(b) AND NOT ALARM(a)", "b without a"))
    await clock.advance(50)
    for name in ("a", "b"):
        kit.metrics.put(metric(name), 1, storage_resolution=1)
    await clock.advance(10)
    assert [kit.alarms.get(name).changed_ms for name in ("a", "b")] == [START + 60_000] * 2
    assert [change.state for change in one.history] == ["OK"]
    assert [change.state for change in other.history] == ["OK"]


async def test_those_of_composite_alarms_are_evaluated_after_them_and_once(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_by_hand(kit, "a", "b")
    kit.start(composite("ALARM(a)", "z"))
    kit.start(composite("ALARM(a) AND OK(z)", "never"))
    top = kit.start(composite("ALARM(z) AND ALARM(a)", "top"))
    kit.start(composite("ALARM(b)", "other"))
    await clock.advance(0)
    evaluated: list[str] = []
    evaluate = CompositeWatcher.evaluate

    def noted(watcher: CompositeWatcher, *arguments: Any) -> None:
        evaluated.append(watcher.name)
        evaluate(watcher, *arguments)

    monkeypatch.setattr(CompositeWatcher, "evaluate", noted)
    await set_states(kit, clock, a="ALARM")
    assert sorted(evaluated) == ["never", "top", "z"]
    assert evaluated[0] == "z"
    assert (top.state, kit.alarms.get("never").state) == ("ALARM", "OK")
    assert [change.state for change in kit.alarms.get("never").history] == ["OK"]


async def test_thousands_that_start_together_are_all_evaluated_and_leave_turns_to_others(
    kit: Kit, clock: ManualClock
) -> None:
    start_by_hand(kit, "web")
    watchers = [kit.start(composite("ALARM(web)", "x1"))]
    watchers += [kit.start(composite(f"OK(x{n // 2})", f"x{n}")) for n in range(2, 2000)]
    turns = 0
    while watchers[-1].state == "INSUFFICIENT_DATA":
        turns += 1
        await asyncio.sleep(0)
    assert turns > 2000 / 64
    await clock.advance(0)
    assert all(len(watcher.history) == 1 for watcher in watchers)


async def test_a_rule_of_constants_needs_no_other_alarm(kit: Kit, clock: ManualClock) -> None:
    site, calls = start(kit, clock, composite("TRUE"))
    await clock.advance(0)
    assert calls == [(0, "ALARM")]
    assert kit.alarms.update(composite("FALSE")) is site
    await clock.advance(0)
    assert site.state == "OK"


async def test_somebody_can_wait_for_a_state(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    site, _ = start(kit, clock, composite("ALARM(web)"))
    kit.alarms.set_state("web", "ALARM", "by hand")
    change = await site.wait_for("ALARM")
    assert change is not None
    assert change.alarm == "site"


async def test_its_state_can_be_set_by_hand_until_a_child_changes(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "db")
    site, calls = start(kit, clock, composite("ALARM(web)"))
    parent = kit.start(composite("ALARM(site)", "parent"))
    await clock.advance(0)
    await set_states(kit, clock, site="ALARM")
    assert calls == [(0, "OK"), (0, "ALARM")]
    assert parent.state == "ALARM"
    assert "It was set by hand, until the next evaluation: by hand" in site.explain()
    await clock.advance(300)
    await set_states(kit, clock, db="ALARM")
    assert site.state == "ALARM"
    await set_states(kit, clock, web="OK")
    assert (site.state, parent.state) == ("OK", "OK")
    assert "by hand" not in site.explain()


async def test_what_was_set_by_hand_stays_while_no_child_changes(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    kit.start(composite("ALARM(web) AND FALSE", "never"))
    site, _ = start(kit, clock, composite("ALARM(never)"))
    await clock.advance(0)
    await set_states(kit, clock, site="ALARM")
    await set_states(kit, clock, web="ALARM")
    assert site.state == "ALARM"


async def test_one_that_cannot_be_evaluated_stays_as_it_is_and_stops_no_other(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start_by_hand(kit, "web")
    broken, _ = start(kit, clock, composite("ALARM(web)", "broken"))
    site, _ = start(kit, clock, composite("ALARM(web)"))
    await clock.advance(0)

    def fail(rule: Any, children: Any) -> Any:
        if rule is broken._rule:
            raise LookupError("lost")
        return decide(rule, children)

    monkeypatch.setattr("streamkit.alarms.composite_watcher.decide", fail)
    await set_states(kit, clock, web="ALARM")
    assert (broken.state, broken.evaluation_state, site.state) == ("OK", "EVALUATION_ERROR", "ALARM")
    assert "alarm 'broken' cannot be evaluated and stays OK until it can: lost" in caplog.text
    total = kit.metrics.total(EVALUATIONS_FAILED)
    assert total is not None
    assert total.sum == 1
    monkeypatch.undo()
    await set_states(kit, clock, web="OK")
    assert broken.evaluation_state is None


# ---- references


async def test_those_it_refers_to_have_to_run(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    with pytest.raises(ValidationError, match="'site': its rule refers to 'db', which does not exist: start that one"):
        kit.start(composite("ALARM(web) OR ALARM(db)"))
    with pytest.raises(ValidationError, match="its actions_suppressor is 'maintenance', which does not exist"):
        kit.start(composite("ALARM(web)", **SUPPRESSED))
    assert kit.health().alarms == {"web": "INSUFFICIENT_DATA"}
    kit.start(composite("ALARM(web)"))


async def test_names_are_unique_among_all_alarms(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    with pytest.raises(ValidationError, match="an alarm named 'web' is running already"):
        kit.start(composite("TRUE", "web"))
    kit.start(composite("TRUE"))
    with pytest.raises(ValidationError, match="an alarm named 'site' is running already"):
        start_by_hand(kit, "site")
    with pytest.raises(ValidationError, match="cannot replace each other"):
        kit.alarms.update(composite("TRUE", "web"))
    with pytest.raises(ValidationError, match="cannot replace each other"):
        kit.alarms.update(errors("site"))


async def test_a_circle_is_refused_and_leaves_all_as_it_was(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web")
    site, _ = start(kit, clock, composite("ALARM(web)"))
    kit.start(composite("ALARM(site)", "parent"))
    with pytest.raises(ValidationError, match="'site': its rule refers to itself: site -> parent -> site"):
        kit.alarms.update(composite("ALARM(parent)"))
    await set_states(kit, clock, web="ALARM")
    assert site.state == "ALARM"
    assert site.alarm.rule == "ALARM(web)"


async def test_one_that_others_refer_to_cannot_be_stopped_or_deleted(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    site, _ = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(0)
    with pytest.raises(ValidationError, match="'web' cannot be stopped or deleted: it is in the rule of 'site'"):
        await kit.alarms.delete("web")
    with pytest.raises(ValidationError, match="it is in actions_suppressor of 'site'"):
        await kit.stop("maintenance")
    await set_states(kit, clock, web="ALARM")
    assert site.state == "ALARM"
    await kit.alarms.delete("web", "site")
    assert list(kit.health().alarms) == ["maintenance"]
    assert (await kit.alarms.history("site", item_type="ConfigurationUpdate"))[0].summary == 'Alarm "site" deleted'
    # Nobody hears of one that is gone.
    with pytest.raises(NotFoundError, match="'site' does not exist: it was stopped"):
        site.set_state("OK", "by hand")
    await clock.advance(60)


async def test_an_update_refers_to_others(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "db")
    kit.start(composite("ALARM(web)"))
    await set_states(kit, clock, db="ALARM")
    assert kit.health().alarms["site"] == "OK"
    kit.alarms.update(composite("ALARM(db)"))
    await clock.advance(0)
    assert kit.health().alarms["site"] == "ALARM"
    await kit.alarms.delete("web")
    await set_states(kit, clock, db="OK")
    assert kit.health().alarms["site"] == "OK"


async def test_started_again_it_goes_on_in_its_last_state(kit: Kit, clock: ManualClock) -> None:
    start_by_hand(kit, "web", "maintenance")
    site, calls = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    await clock.advance(60)
    await set_states(kit, clock, web="ALARM")
    await kit.stop(site)
    await clock.advance(5)
    again, later = start(kit, clock, composite("ALARM(web)", **SUPPRESSED))
    assert again.state == "ALARM"
    await clock.advance(60)
    assert [change.state for change in again.history] == []
    # What was held when it was stopped is let go when it would have been.
    assert (calls, later) == ([(20, "OK")], [(80, "ALARM")])


async def test_a_change_just_before_it_is_stopped_has_its_actions(kit: Kit, clock: ManualClock) -> None:
    site, calls = start(kit, clock, composite("FALSE"))
    await clock.advance(1)
    site.set_state("ALARM", "by hand")
    await kit.stop(site)
    again, later = start(kit, clock, composite("TRUE"))
    await clock.advance(1)
    assert again.state == "ALARM"
    assert (calls, later) == ([(0, "OK"), (1, "ALARM")], [])
    again.set_state("OK", "by hand")
    await kit.alarms.delete("site")
    assert later == [(2, "OK")]


async def test_a_change_just_before_the_kit_closes_has_its_actions(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        site, calls = start(kit, clock, composite("FALSE"))
        await clock.advance(1)
        site.set_state("ALARM", "by hand")
    assert calls == [(0, "OK"), (1, "ALARM")]
    assert repr(site) == "CompositeWatcher('site', ALARM)"


async def test_a_new_one_is_evaluated_after_new_alarms_it_refers_to(kit: Kit, clock: ManualClock) -> None:
    kit.start(errors("web"))
    site, calls = start(kit, clock, composite("NOT OK(web)"))
    await clock.advance(1)
    assert (site.state, [state for _, state in calls]) == ("OK", ["OK"])


async def test_a_gauge_that_awaits_what_is_cancelled_fails_like_any_other(kit: Kit, clock: ManualClock) -> None:
    gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    gone.cancel()

    async def read() -> float:
        return await gone

    kit.metrics.register_gauge(metric("web"), read)
    watcher = kit.start(errors("web"))
    await clock.advance(61)
    assert watcher.state == "OK"
    assert kit.health().services == {"alarms": "running"}

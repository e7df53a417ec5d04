"""What was still to be done about alarms when a process ended is done by the next, once."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

import streamkit
from streamkit import Kit, NotFoundError, ValidationError
from streamkit.alarms.actions import Attempts
from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.history_store import StoredHistory
from streamkit.alarms.left import (
    MOST_PENDING_STORED,
    Pending,
    pending_of,
    suppression_of,
    text_of_pending,
    text_of_suppression,
)
from streamkit.alarms.ports import StoredState
from streamkit.alarms.suppression import Suppression
from streamkit.alarms.transition import AlarmTransition
from streamkit.backoff import Retry
from streamkit.errors import StorageError
from streamkit.testing.clock import ManualClock
from tests.alarms.sites import (
    START,
    SUPPRESSED,
    Calls,
    KeptHistory,
    composite,
    errors,
    set_states,
    start,
    start_by_hand,
)


@pytest.mark.parametrize(
    ("before", "while_away", "called_at"),
    [
        # The end of a WaitPeriod, as if nothing had been.
        ({"web": "ALARM"}, 5, [(120, "ALARM")]),
        # It ended meanwhile.
        ({"web": "ALARM"}, 500, [(600, "ALARM")]),
        # The suppressor still is in ALARM.
        ({"web": "ALARM", "maintenance": "ALARM"}, 5, []),
        # Nothing is held.
        ({}, 5, []),
    ],
)
async def test_what_was_held_when_the_process_ended_is_let_go_by_the_next(
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, AlarmState],
    while_away: float,
    called_at: Calls,
) -> None:
    history = KeptHistory()
    monkeypatch.setattr("streamkit.starting.StoredHistory", lambda *_: history)
    alarm = composite("ALARM(web)", **SUPPRESSED)
    async with streamkit.open("memory:", clock=clock) as kit:
        start_by_hand(kit, "web", "maintenance")
        start(kit, clock, alarm)
        await clock.advance(100)
        await set_states(kit, clock, **before)
    await clock.advance(while_away)
    async with streamkit.open("memory:", clock=clock) as kit:
        start_by_hand(kit, "web", "maintenance")
        site, calls = start(kit, clock, alarm)
        await clock.advance(100)
        assert site.state == before.get("web", "OK")
        assert site.history == []
        assert calls == called_at


async def test_what_was_forgotten_stays_forgotten(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    history = KeptHistory()
    monkeypatch.setattr("streamkit.starting.StoredHistory", lambda *_: history)
    alarm = composite("ALARM(web)", **SUPPRESSED)
    async with streamkit.open("memory:", clock=clock) as kit:
        start_by_hand(kit, "web", "maintenance")
        start(kit, clock, alarm)
        await clock.advance(100)
        await set_states(kit, clock, web="ALARM")
        kit.alarms.disable_actions("site")
    async with streamkit.open("memory:", clock=clock) as kit:
        start_by_hand(kit, "web", "maintenance")
        site, calls = start(kit, clock, alarm)
        await clock.advance(100)
        assert site.state == "ALARM"
        assert calls == []


async def test_what_is_let_go_together_with_a_change_is_called_once(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = KeptHistory()
    monkeypatch.setattr("streamkit.starting.StoredHistory", lambda *_: history)
    at_once = {**SUPPRESSED, "actions_suppressor_wait_period": 0, "actions_suppressor_extension_period": 0}
    async with streamkit.open("memory:", clock=clock) as kit:
        start_by_hand(kit, "web", "maintenance")
        _, calls = start(kit, clock, composite("ALARM(web)", **at_once))
        await clock.advance(100)
        await set_states(kit, clock, maintenance="ALARM", web="ALARM")
        assert [state for _, state in calls] == ["OK"]
        kit.alarms.set_state("maintenance", "OK", "by hand")
        await set_states(kit, clock, web="OK")
        assert [state for _, state in calls] == ["OK", "OK"]
    async with streamkit.open("memory:", clock=clock) as kit:
        start_by_hand(kit, "web", "maintenance")
        _, calls = start(kit, clock, composite("ALARM(web)", **at_once))
        await clock.advance(100)
        assert calls == []


# ---- actions that were cut off


class Failing:
    """An action that raises until it is told not to."""

    label = "failing"
    attempts = Attempts(most=1000, retry=Retry(first=10, factor=1, jitter=False))

    def __init__(self, *, works: bool = False) -> None:
        self.works = works
        self.calls: list[AlarmTransition] = []

    def __call__(self, transition: AlarmTransition) -> None:
        self.calls.append(transition)
        if not self.works:
            raise OSError("nobody is there")


@pytest.mark.parametrize("killed", [False, True])
async def test_what_was_not_done_is_done_by_the_next_process(
    tmp_path: Path, clock: ManualClock, killed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "data"
    lasting = errors("web", treat_missing_data="ignore")
    failing, done = Failing(), list[AlarmTransition]()
    async with streamkit.open(directory, clock=clock) as kit:
        watcher = kit.start(lasting, on_alarm=[failing, done.append])
        await kit.alarms.left_over()
        watcher.set_state("ALARM", "the site is down", '{"how": "completely"}')
        watcher.set_state("OK", "for a moment")
        watcher.set_state("ALARM", "again")
        await clock.advance(25)
        assert [each.reason for each in failing.calls] == ["the site is down"] * 3
        if killed:
            await kit.alarms.history()  # Until then it is known.
            directory = tmp_path / "copy"
            shutil.copytree(tmp_path / "data", directory, ignore=shutil.ignore_patterns("*lock*"))
    assert ("It is called once this alarm is started again" in caplog.text) or killed
    called, before = Failing(works=True), len(done)
    async with streamkit.open(directory, clock=clock) as kit:
        watcher = kit.start(lasting, on_alarm=[called, done.append])
        await kit.alarms.left_over()
        await clock.advance(1)
        assert [each.reason for each in called.calls] == ["the site is down", "again"]
        (first, second) = called.calls
        assert (first.previous, first.state, first.reason_data) == (
            "INSUFFICIENT_DATA",
            "ALARM",
            '{"how": "completely"}',
        )
        assert first.configuration == lasting
        assert second.previous_reason == "for a moment"
        # The other action was called for the second change too while the kit closed, unless it was killed before.
        assert [each.reason for each in done[before:]] == ["again"] * killed
    async with streamkit.open(directory, clock=clock) as kit:
        kit.start(lasting, on_alarm=[called, done.append])
        await kit.alarms.left_over()
        await clock.advance(100)
        assert (len(called.calls), len(done)) == (2, before + killed)


async def test_what_nobody_has_any_more_or_is_switched_off_is_not_called(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    lasting = errors("web", treat_missing_data="ignore")

    async def fails_once() -> None:
        async with streamkit.open(tmp_path, clock=clock) as kit:
            watcher = kit.start(lasting, on_alarm=Failing())
            await kit.alarms.left_over()
            watcher.set_state("OK", "quiet")
            watcher.set_state("ALARM", "loud")
            await clock.advance(1)

    async def calls_of(action: Any, **changes: Any) -> Any:
        async with streamkit.open(tmp_path, clock=clock) as kit:
            kit.start(errors("web", treat_missing_data="ignore", **changes), on_alarm=action)
            await kit.alarms.left_over()
            await clock.advance(1)

    await fails_once()
    other: list[AlarmTransition] = []
    await calls_of(other.append)
    assert other == []
    assert "what was still to be called for it is no action of it any more: failing" in caplog.text
    late = Failing(works=True)
    await calls_of(late)
    assert late.calls == []
    await fails_once()
    await calls_of(late, actions_enabled=False)
    assert late.calls == []
    await calls_of(late)
    assert late.calls == []


async def test_an_alarm_that_was_deleted_leaves_nothing_to_the_next_of_its_name(
    tmp_path: Path, clock: ManualClock
) -> None:
    lasting = errors("web", treat_missing_data="ignore")
    slow = asyncio.Event()

    async def slowly(transition: AlarmTransition) -> None:
        await slow.wait()
        raise ValidationError("nobody is there")

    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting, on_alarm=[slowly, Failing()])
        await kit.alarms.left_over()
        watcher.set_state("ALARM", "loud")
        await clock.advance(0)
        deleting = asyncio.create_task(kit.alarms.delete("web"))
        await clock.advance(1)
        slow.set()
        await clock.advance(1)
        assert not deleting.done()
    await asyncio.wait([deleting])
    await clock.advance(60)
    late = Failing(works=True)
    for _ in range(2):
        async with streamkit.open(tmp_path, clock=clock) as kit:
            kit.start(lasting, on_alarm=[slowly, late])
            await kit.alarms.left_over()
            await clock.advance(100)
    assert late.calls == []


async def test_of_two_actions_of_one_name_only_that_is_called_again_which_was_not_done(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def calls_of(*works: bool, alarm: str | None = None) -> list[int]:
        actions = [Failing(works=each) for each in works]
        async with streamkit.open(tmp_path, clock=clock) as kit:
            watcher = kit.start(errors("web", treat_missing_data="ignore"), on_alarm=actions)
            await kit.alarms.left_over()
            if alarm is not None:
                watcher.set_state("ALARM", alarm)
            await clock.advance(1)
        return [len(each.calls) for each in actions]

    assert await calls_of(True, False, True, alarm="loud") == [1, 1, 1]
    assert await calls_of(True, True, True) == [0, 1, 0]
    assert await calls_of(True, True, True) == [0, 0, 0]


async def test_what_was_left_is_not_overwritten_before_it_is_read(tmp_path: Path, clock: ManualClock) -> None:
    lasting = errors("web", treat_missing_data="ignore")
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting, on_alarm=Failing())
        await kit.alarms.left_over()
        watcher.set_state("ALARM", "down")
        watcher.disable_actions()
        watcher.enable_actions()
        await clock.advance(1)
    late = Failing(works=True)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting, on_alarm=late, on_ok=late)
        watcher.set_state("OK", "by hand")  # In the same turn.
        await kit.alarms.left_over()
        await clock.advance(1)
    assert sorted(each.reason for each in late.calls) == ["by hand", "down"]


async def test_what_was_left_when_another_change_came_while_it_closed_is_not_forgotten(
    tmp_path: Path, clock: ManualClock
) -> None:
    lasting, other = (errors(name, treat_missing_data="ignore") for name in ("web", "other"))
    async with streamkit.open(tmp_path, clock=clock) as kit:
        closing = asyncio.Event()

        async def ends(transition: AlarmTransition) -> None:
            await closing.wait()
            kit.alarms.set_state("web", "OK", "up")

        kit.start(lasting, on_alarm=Failing(), on_ok=lambda _: None)
        kit.start(other, on_alarm=ends)
        await kit.alarms.left_over()
        kit.alarms.set_state("web", "ALARM", "down")
        kit.alarms.set_state("other", "ALARM", "down")
        await clock.advance(1)
        ending = asyncio.create_task(kit.close())
        await clock.advance(0.1)
        closing.set()
        await ending
    late = Failing(works=True)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.start(lasting, on_alarm=late)
        await kit.alarms.left_over()
        await clock.advance(1)
    assert [each.reason for each in late.calls] == ["down"]


async def test_actions_that_were_disabled_are_so_from_the_first_turn_on_that_it_is_known(
    tmp_path: Path, clock: ManualClock
) -> None:
    lasting, changed = (errors("web", treat_missing_data="ignore", threshold=each) for each in (0, 1))
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting)
        await kit.alarms.left_over()
        watcher.disable_actions()
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting)
        watcher.set_state("OK", "by hand")
        await kit.alarms.left_over()
        assert [watcher.actions_enabled] == [False]
        kit.alarms.update(lasting)
        assert [watcher.actions_enabled] == [True]
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting)
        await kit.alarms.left_over()
        assert [watcher.actions_enabled] == [True]
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.start(changed).disable_actions()
        await kit.alarms.left_over()
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(changed)
        await kit.alarms.left_over()
        assert [watcher.actions_enabled] == [False]


async def test_what_was_held_is_not_called_once_actions_were_off(tmp_path: Path, clock: ManualClock) -> None:
    each: list[tuple[bool, dict[str, AlarmState]]] = [(True, {"web": "ALARM"}), (False, {"web": "OK"}), (True, {})]
    for enabled, states in each:
        async with streamkit.open(tmp_path, clock=clock) as kit:
            start_by_hand(kit, "web", "maintenance")
            _, calls = start(kit, clock, composite("ALARM(web)", actions_enabled=enabled, **SUPPRESSED))
            await kit.alarms.left_over()
            await clock.advance(1)
            await set_states(kit, clock, **states)
            calls.clear()
            if not states:
                await clock.advance(100)
                assert calls == []


async def test_states_that_cannot_be_read_take_nothing_from_the_next_process(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting = errors("web", treat_missing_data="ignore")
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(lasting, on_alarm=Failing())
        await kit.alarms.left_over()
        watcher.set_state("ALARM", "down")
        await clock.advance(1)

    async def unreadable(history: StoredHistory) -> dict[str, StoredState]:
        raise StorageError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(StoredHistory, "states", unreadable)
        async with streamkit.open(tmp_path, clock=clock) as kit:
            kit.start(lasting)
            await kit.alarms.left_over()
            await clock.advance(1)
    late = Failing(works=True)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        kit.start(lasting, on_alarm=late)
        await kit.alarms.left_over()
        await clock.advance(1)
        assert [item.summary for item in await kit.alarms.history("web", item_type="ConfigurationUpdate")] == [
            'Alarm "web" created'
        ]
    assert [each.reason for each in late.calls] == ["down"]


def test_what_cannot_be_read_is_logged_and_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert pending_of("[{}]") == ()
    assert suppression_of('{"by": "WaitPeriod"}') is None
    assert "cannot be read, and they are not called" in caplog.text
    assert "what was held of the actions of an alarm cannot be read" in caplog.text


def test_of_many_changes_the_latest_are_left() -> None:
    def change(number: int) -> AlarmTransition:
        return AlarmTransition(alarm="a", previous="OK", state="ALARM", reason=str(number), at_ms=START + number)

    everything = [Pending(change(number), ("one", "two")) for number in range(30)]
    assert pending_of(text_of_pending(everything)) == tuple(everything[-MOST_PENDING_STORED:])
    assert text_of_pending([]) is None
    held = Suppression("WaitPeriod", START, change(29))
    assert suppression_of(text_of_suppression(held)) == held
    assert suppression_of(text_of_suppression(held), everything) == Suppression("WaitPeriod", START, None)
    assert text_of_suppression(Suppression()) is None


# ---- by hand


async def test_actions_that_are_switched_off_stay_so_until_the_configuration_changes(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def called(*, switch: bool | None = None, **changes: Any) -> bool:
        calls: list[AlarmTransition] = []
        async with streamkit.open(tmp_path, clock=clock) as kit:
            watcher = kit.start(errors("web", treat_missing_data="ignore", **changes), on_alarm=calls.append)
            await kit.alarms.left_over()
            if switch is not None:
                (watcher.enable_actions if switch else watcher.disable_actions)()
            watcher.set_state("OK", "quiet")
            watcher.set_state("ALARM", "loud")
            await clock.advance(1)
        return calls != []

    assert await called()
    assert not await called(switch=False)
    assert not await called()
    assert await called(threshold=1)
    assert not await called(switch=False, threshold=1)
    assert await called(switch=True, threshold=1)
    assert await called(threshold=1)
    assert await called(switch=True, threshold=1, actions_enabled=False)
    assert await called(threshold=1, actions_enabled=False)
    async with streamkit.open(tmp_path, clock=clock) as kit:
        items = await kit.alarms.history("web", item_type="ConfigurationUpdate")
        switched = [data for item in items if "actionsEnabled" in (data := msgspec.json.decode(item.data))]
        assert [data["updatedAlarm"]["actions_enabled"] for data in switched] == [True, True, False, False]
        assert items[0].summary == 'Alarm "web" updated'


async def test_stopped_and_started_again_its_actions_are_as_they_were_switched(kit: Kit, clock: ManualClock) -> None:
    watcher = kit.start(errors("web"))
    await clock.advance(0)
    watcher.disable_actions()
    await kit.stop(watcher)
    assert not kit.start(errors("web")).actions_enabled


async def test_one_that_is_no_more_in_the_code_can_be_deleted(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        start_by_hand(kit, "web", "old")
        kit.start(composite("ALARM(old)", "older"))
        await set_states(kit, clock, web="OK", old="ALARM")
        await kit.alarms.left_over()
    async with streamkit.open(tmp_path, clock=clock) as kit:
        start_by_hand(kit, "web")
        assert await kit.alarms.left_over() == ["old", "older"]
        await kit.alarms.delete("old", "older")
        assert await kit.alarms.left_over() == []
        with pytest.raises(NotFoundError, match="left_over"):
            await kit.alarms.delete("old")
        deleted = await kit.alarms.history("older")
        assert (deleted[0].summary, deleted[0].alarm_type) == ('Alarm "older" deleted', "CompositeAlarm")
    async with streamkit.open(tmp_path, clock=clock) as kit:
        assert await kit.alarms.left_over() == ["web"]


async def test_evaluated_out_of_turn_it_knows_its_state_and_data_of_before(tmp_path: Path, clock: ManualClock) -> None:
    calls: list[AlarmTransition] = []
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(errors("web"), on_alarm=calls.append)
        await kit.alarms.left_over()
        kit.metrics.put(watcher.datapoints.metrics[0], 1)
        await clock.advance(60)
        assert await watcher.evaluate_now() == "ALARM"
    async with streamkit.open(tmp_path, clock=clock) as kit:
        watcher = kit.start(errors("web"), on_alarm=calls.append)
        assert await watcher.evaluate_now() == "ALARM"
        await clock.advance(1)
        assert len(calls) == 1
    with pytest.raises(NotFoundError, match="its kit closed"):
        await watcher.evaluate_now()

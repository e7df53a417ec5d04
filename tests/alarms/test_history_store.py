from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import encode as json_of
from msgspec.structs import replace

import streamkit
from streamkit import Kit
from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.history import HISTORY, RETENTION_SECONDS, HistoryItem, HistoryQuestion
from streamkit.alarms.history_items import action_result, configuration_update, state_update
from streamkit.alarms.history_store import HISTORY_LOST, MOST_WAITING, StoredHistory
from streamkit.alarms.ports import StoredState
from streamkit.alarms.transition import AlarmTransition
from streamkit.errors import StorageError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.tables.write import Put, Write
from streamkit.testing.clock import ManualClock

NOW = 1_700_000_000_000
METRIC = Metric.of("n", "m")


def alarm(name: str = "a", threshold: float = 1) -> Alarm:
    return Alarm(
        name, metric=METRIC, statistic="Sum", period=60, threshold=threshold, comparison="GreaterThanThreshold"
    )


def created(name: str = "a", at_ms: int = NOW, threshold: float = 1) -> HistoryItem:
    return configuration_update("Create", alarm(name, threshold), at_ms)


def changed(name: str = "a", state: AlarmState = "ALARM", at_ms: int = NOW, reason: str = "it is") -> HistoryItem:
    previous: AlarmState = "OK" if state != "OK" else "ALARM"
    data = json.dumps({"period": 60})
    return state_update(
        AlarmTransition(alarm=name, previous=previous, state=state, reason=reason, at_ms=at_ms, reason_data=data)
    )


def numbered(numbers: Sequence[int], name: str = "a", at_ms: int = NOW) -> list[HistoryItem]:
    return [changed(name, at_ms=at_ms, reason=str(number)) for number in numbers]


def reasons(items: Sequence[HistoryItem]) -> list[int]:
    return [int(json.loads(item.data)["newState"]["stateReason"]) for item in items]


@pytest.fixture(params=["memory", "file"])
async def kit(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:" if request.param == "memory" else tmp_path / "data", clock=clock) as kit:
        yield kit


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


def history_of(kit: Kit) -> StoredHistory:
    return StoredHistory(kit.engine.tables, kit.clock, kit.metrics.raw)


async def test_what_is_recorded_is_found_the_newest_first(kit: Kit) -> None:
    history = history_of(kit)
    action = action_result(
        AlarmTransition(alarm="a", previous="OK", state="ALARM", reason="it is", at_ms=NOW),
        "queue pages",
        attempts=1,
        error=None,
        now_ms=NOW + 3,
    )
    told = [created(), changed(at_ms=NOW + 2), action, created("b", NOW + 1)]
    for item in told:
        history.record(item)
    await history.drain()
    assert await history.items() == [told[2], told[1], told[3], told[0]]
    assert await history.items("a") == [told[2], told[1], told[0]]
    assert await history.items("a", item_type="Action") == [action]
    assert await history.items("nobody") == []
    await asyncio.sleep(0)


async def test_nothing_is_made_before_there_is_something_to_store(kit: Kit) -> None:
    history = history_of(kit)
    assert await history.items() == []
    assert await history.items("a") == []
    assert await history.states() == {}
    await history.drain()
    assert await kit.tables() == []


async def test_states_follow_from_what_happened(kit: Kit) -> None:
    history = history_of(kit)
    history.record(created())
    history.record(created("b"))
    history.record(created("c"))
    await history.drain()
    configuration = (await history.states())["a"].configuration
    assert json.loads(configuration)["threshold"] == 1
    first = StoredState(
        state="INSUFFICIENT_DATA",
        reason="Unchecked: Initial alarm creation",
        changed_ms=NOW,
        configuration=configuration,
    )
    assert (await history.states())["a"] == first
    for item in (
        changed("a", "ALARM", NOW + 5),
        configuration_update("Update", alarm("a", 7), NOW + 6),
        changed("b", "OK", NOW + 7),
        configuration_update("Delete", alarm("b"), NOW + 8),
        configuration_update("Delete", alarm("c"), NOW + 8),
        created("c", NOW + 9, threshold=3),
        changed("c", "OK", NOW + 10),
    ):
        history.record(item)
    await history.drain()
    states = await history.states()
    assert list(states) == ["a", "c"]
    assert states["a"] == StoredState(
        state="ALARM",
        reason="it is",
        changed_ms=NOW + 5,
        configuration=states["a"].configuration,
        reason_data='{"period": 60}',
    )
    assert json.loads(states["a"].configuration)["threshold"] == 7
    assert (states["c"].state, states["c"].changed_ms) == ("OK", NOW + 10)
    assert json.loads(states["c"].configuration)["threshold"] == 3
    assert [item.summary for item in await history.items("b")] == [
        'Alarm "b" deleted',
        "Alarm updated from ALARM to OK",
        'Alarm "b" created',
    ]


@pytest.mark.parametrize("cut", [False, True])
async def test_a_state_that_was_set_before_an_alarm_is_known_to_be_new_stays(kit: Kit, cut: bool) -> None:
    history = history_of(kit)
    history.record(changed("a", "ALARM", NOW + 5))
    if cut:
        await history.drain()
    history.record(created("a", NOW + 6))
    await history.drain()
    state = (await history.states())["a"]
    assert (state.state, state.changed_ms, json.loads(state.configuration)["name"]) == ("ALARM", NOW + 5, "a")


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (1, 2, 3)])
async def test_states_are_the_same_however_the_commits_are_cut(kit: Kit, cuts: Sequence[int]) -> None:
    history = history_of(kit)
    told = [changed("a", "OK", NOW), configuration_update("Delete", alarm(), NOW), created(), changed("a", "ALARM")]
    for at, item in enumerate(told):
        if at in cuts:
            await history.drain()
        history.record(item)
    await history.drain()
    state = (await history.states())["a"]
    assert (state.state, state.reason_data) == ("ALARM", '{"period": 60}')
    assert json.loads(state.configuration)["name"] == "a"


async def test_a_configuration_is_stored_as_a_watcher_writes_it(kit: Kit) -> None:
    """Otherwise each opening would say that it was updated."""
    history = history_of(kit)
    history.record(created())
    await history.drain()
    assert (await history.states())["a"].configuration == json_of(alarm()).decode()


async def test_what_was_recorded_is_seen_without_a_drain(kit: Kit) -> None:
    history = history_of(kit)
    for item in numbered(range(120)):
        history.record(item)
    assert len(await history.items()) == 120
    history.record(changed("b", "ALARM"))
    assert (await history.states())["b"].state == "ALARM"


async def test_a_look_does_not_wait_for_a_store_that_fails(kit: Kit, clock: ManualClock) -> None:
    tables = Tables(kit)
    history = StoredHistory(tables, clock, kit.metrics.raw)  # type: ignore[arg-type]
    for item in numbered(range(3)):
        history.record(item)
    assert len(await history.items()) == 3
    tables.before = refuse
    history.record(changed())
    assert len(await history.items()) == 3
    await history.drain()


async def test_things_of_one_instant_keep_their_order(kit: Kit) -> None:
    history = history_of(kit)
    for item in numbered(range(130)):
        history.record(item)
    await history.drain()
    for item in numbered(range(130, 140)):
        history.record(item)
    await history.drain()
    assert reasons(await history.items("a")) == list(range(139, -1, -1))
    assert reasons(await history.items()) == list(range(139, -1, -1))


async def test_a_state_is_that_of_the_last_change_of_an_instant(kit: Kit) -> None:
    history = history_of(kit)
    for state in ("ALARM", "OK", "ALARM", "OK"):
        history.record(changed("a", state))
    await history.drain()
    assert (await history.states())["a"].state == "OK"


# ---- pages


async def test_pages_and_their_tokens(kit: Kit) -> None:
    history = history_of(kit)
    for number in range(250):
        for item in numbered([number], "ab"[number % 2], NOW + number // 10):
            history.record(item)
    await history.drain()
    for name, numbers in ((None, range(250)), ("a", range(0, 250, 2))):
        for newest_first in (True, False):
            for limit in (100, 7):
                question = HistoryQuestion(name=name, newest_first=newest_first)
                found: list[int] = []
                token: str | None = None
                while True:
                    page = await history.page(question, limit=limit, next_token=token)
                    found += reasons(page.items)
                    assert len(page.items) == limit or page.next_token is None
                    assert page.items
                    if (token := page.next_token) is None:
                        break
                assert found == sorted(numbers, reverse=newest_first)


async def test_a_page_that_ends_exactly_has_none_after_it(kit: Kit) -> None:
    history = history_of(kit)
    for item in numbered(range(100)):
        history.record(item)
    await history.drain()
    page = await history.page(HistoryQuestion())
    assert (len(page.items), page.next_token) == (100, None)
    page = await history.page(HistoryQuestion(name="a"), limit=99)
    assert len(page.items) == 99
    last = await history.page(HistoryQuestion(name="a"), limit=99, next_token=page.next_token)
    assert (reasons(last.items), last.next_token) == ([0], None)


async def test_filters_by_time_and_type(kit: Kit) -> None:
    history = history_of(kit)
    for number in range(300):
        history.record(changed(at_ms=NOW + number, reason=str(number)))
        if number % 100 == 0:
            history.record(created(at_ms=NOW + number))
    await history.drain()

    async def found(**parts: Any) -> list[HistoryItem]:
        return (await history.page(HistoryQuestion(**parts))).items

    assert reasons(await found(start_ms=NOW + 5, end_ms=NOW + 7, item_type="StateUpdate")) == [7, 6, 5]
    assert reasons(await found(name="a", start_ms=NOW + 295)) == [299, 298, 297, 296, 295]
    assert len(await found(item_type="ConfigurationUpdate")) == 3
    assert await found(alarm_types=("CompositeAlarm",)) == []
    assert await found(start_ms=NOW + 5, end_ms=NOW + 4) == []
    assert await found(end_ms=-5) == []


async def test_what_is_wrong_with_a_question_is_said(kit: Kit) -> None:
    history = history_of(kit)
    with pytest.raises(ValidationError, match="choose one of ConfigurationUpdate"):
        HistoryQuestion(item_type="State")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="MetricAlarm, CompositeAlarm"):
        HistoryQuestion(alarm_types=("Metric",))  # type: ignore[arg-type]
    for limit in (0, 101, True):
        with pytest.raises(ValidationError, match="use 1 to 100"):
            await history.page(HistoryQuestion(), limit=limit)
    for token in ("", "x", "ü", "bm9uZQ=="):
        with pytest.raises(ValidationError, match="next_token"):
            await history.page(HistoryQuestion(), next_token=token)


# ---- retention


async def test_history_is_gone_after_thirty_days_and_states_stay(kit: Kit, clock: ManualClock) -> None:
    history = history_of(kit)
    history.record(created())
    await history.drain()
    await clock.advance(RETENTION_SECONDS)
    history.record(changed(at_ms=clock.now_ms()))
    await history.drain()
    assert len(await history.items("a")) == 2
    await clock.advance(1)
    assert [item.item_type for item in await history.items("a")] == ["StateUpdate"]
    assert [item.item_type for item in await history.items()] == ["StateUpdate"]
    await clock.advance(3600)
    history.record(changed(at_ms=clock.now_ms()))
    await history.drain()
    page = await kit.engine.tables.scan(HISTORY.name)
    assert sorted(item["entry"][:7] for item in page.items) == ["history", "history", "opening", "state"]


# ---- the store fails


class Tables:
    """The kit's tables, of which somebody can take the writes away."""

    def __init__(self, kit: Kit) -> None:
        self._tables = kit.engine.tables
        self.written: list[int] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def write(self, writes: Sequence[Write]) -> Any:
        self.before()
        answer = await self._tables.write(writes)
        if isinstance(writes[0], Put):
            self.written.append(sum(isinstance(write, Put) for write in writes))
        self.after()
        return answer


def refuse() -> None:
    raise StorageError("the disk is full")


async def test_one_commit_for_all_that_has_gathered(kit: Kit) -> None:
    tables = Tables(kit)
    history = StoredHistory(tables, kit.clock, kit.metrics.raw)  # type: ignore[arg-type]
    for item in numbered(range(120)):
        history.record(item)
    await history.drain()
    assert tables.written == [50, 50, 20]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_whose_answer_is_lost_is_stored_once(kit: Kit, clock: ManualClock, when: str) -> None:
    tables = Tables(kit)
    history = StoredHistory(tables, clock, kit.metrics.raw)  # type: ignore[arg-type]
    setattr(tables, when, refuse)
    for item in numbered(range(3)):
        history.record(item)
    await clock.advance(3)
    for item in numbered(range(3, 6)):
        history.record(item)
    tables.before = tables.after = lambda: None
    task = history._task
    assert task is not None
    while not task.done():
        await clock.advance(60)
        await asyncio.sleep(0.001)  # The file engine has threads, which no clock of ours moves.
    assert reasons(await history.items("a")) == [5, 4, 3, 2, 1, 0]
    assert kit.metrics.total(HISTORY_LOST) is None


async def test_closing_tries_once_more_and_says_what_is_lost(
    kit: Kit, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    tables = Tables(kit)
    tables.before = refuse
    history = StoredHistory(tables, clock, kit.metrics.raw)  # type: ignore[arg-type]
    for item in numbered(range(3)):
        history.record(item)
    await clock.advance(1)
    with caplog.at_level(logging.ERROR, "streamkit.alarms"):
        await history.drain()
    assert "the history of alarms has a gap, of 3 items at first: the disk is full" in caplog.text
    lost = kit.metrics.total(HISTORY_LOST)
    assert lost is not None
    assert lost.sum == 3
    tables.before = lambda: None
    history.record(changed(reason="9"))
    await history.drain()
    assert reasons(await history.items()) == [9]


async def test_what_waits_is_bounded(kit: Kit, clock: ManualClock) -> None:
    tables = Tables(kit)
    tables.before = refuse
    history = StoredHistory(tables, clock, kit.metrics.raw)  # type: ignore[arg-type]
    one = changed()
    for _ in range(MOST_WAITING + 5):
        history.record(one)
    lost = kit.metrics.total(HISTORY_LOST)
    assert lost is not None
    assert lost.sum == 5
    history.cancel()
    await history.drain()
    lost = kit.metrics.total(HISTORY_LOST)
    assert lost is not None
    assert lost.sum == MOST_WAITING + 5


async def test_what_cannot_be_stored_takes_nothing_else_with_it(kit: Kit, clock: ManualClock) -> None:
    history = history_of(kit)
    told = numbered(range(7))
    for at, item in enumerate(told):
        history.record(item)
        if at == 3:
            history.record(replace(item, data="\ud800"))
    await history.drain()
    assert reasons(await history.items()) == [6, 5, 4, 3, 2, 1, 0]


async def test_what_is_recorded_as_a_commit_ends_is_stored(kit: Kit) -> None:
    history = history_of(kit)
    number = 0
    for turns in range(12):
        for _ in range(2):
            history.record(changed(reason=str(number)))
            number += 1
            for _ in range(turns):
                await asyncio.sleep(0)
    await history.drain()
    assert reasons(await history.items()) == list(range(number - 1, -1, -1))


# ---- another process


async def test_all_is_there_when_the_store_is_opened_again_and_order_holds(tmp_path: Path, clock: ManualClock) -> None:
    for opening in range(3):
        async with streamkit.open(tmp_path / "data", clock=clock) as kit:
            history = history_of(kit)
            assert reasons(await history.items("a")) == list(range(10 * opening - 1, -1, -1))
            for item in numbered(range(10 * opening, 10 * opening + 10)):
                history.record(item)
            await history.drain()
    async with streamkit.open(f"{tmp_path / 'data'}?mode=ro", clock=clock) as kit:
        history = history_of(kit)
        assert reasons(await history.items("a")) == list(range(29, -1, -1))
        assert reasons(await history.items()) == list(range(29, -1, -1))
        assert (await history.states())["a"].reason == "29"


WRITER = """
import asyncio, sys, streamkit
sys.path.insert(0, sys.argv[2])
from test_history_store import changed, created, history_of

async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        history = history_of(kit)
        for number in range(1_000_000):
            history.record(changed("a", ("OK", "ALARM")[number % 2], kit.clock.now_ms(), str(number)))
            await history.drain()
            print(number, flush=True)

asyncio.run(main())
"""


def killed(directory: Path, lines: int) -> int:
    """How many things a writer had stored when it was killed, a while after it had said that it had this many."""
    command = [sys.executable, "-c", WRITER, str(directory), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    return len([line for line in said if line.endswith("\n")])


@pytest.mark.parametrize("lines", [1, 40])
async def test_what_is_drained_survives_kill_9(tmp_path: Path, lines: int) -> None:
    count = killed(tmp_path / "data", lines)
    assert count >= lines
    async with streamkit.open(tmp_path / "data") as kit:
        history = StoredHistory(kit.engine.tables, kit.clock, Metrics())
        found = reasons(await history.items("a"))
        assert len(found) in (count, count + 1)
        assert found == list(range(len(found) - 1, -1, -1))
        state = (await history.states())["a"]
        # A state and the item that tells of it are one commit.
        assert (state.reason, state.state) == (str(found[0]), ("OK", "ALARM")[found[0] % 2])

"""Alarms over alarms for tests: a site, and those that somebody sets by hand."""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit import Alarm, Kit
from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.composite_watcher import CompositeWatcher
from streamkit.alarms.ports import StoredState
from streamkit.alarms.transition import AlarmTransition
from streamkit.metrics.metric import Metric
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

START = 1_700_000_040_000  # on a minute
SUPPRESSED: dict[str, Any] = {
    "actions_suppressor": "maintenance",
    "actions_suppressor_wait_period": 20,
    "actions_suppressor_extension_period": 30,
}
Calls = list[tuple[float, AlarmState]]


def metric(name: str) -> Metric:
    return Metric.of("n", name)


def errors(name: str, **changes: Any) -> Alarm:
    """In ALARM for a minute after each minute with a datapoint over 0."""
    fields: dict[str, Any] = {
        "metric": metric(name),
        "statistic": "Sum",
        "period": 60,
        "threshold": 0,
        "comparison": "GreaterThanThreshold",
        "treat_missing_data": "notBreaching",
    }
    return Alarm(name, **{**fields, **changes})


def start_by_hand(kit: Kit, *names: str) -> None:
    """Alarms that have no data and stay in the state that somebody sets."""
    for name in names:
        kit.start(errors(name, treat_missing_data="ignore"))


def composite(rule: str, name: str = "site", **changes: Any) -> CompositeAlarm:
    return CompositeAlarm(name, rule, **changes)


def start(kit: Kit, clock: ManualClock, alarm: CompositeAlarm) -> tuple[CompositeWatcher, Calls]:
    """The alarm, and when its actions were called for which state, in seconds since the start."""
    calls: Calls = []

    def called(transition: AlarmTransition) -> None:
        calls.append(((clock.now_ms() - START) / 1000, transition.state))

    return kit.start(alarm, on_alarm=called, on_ok=called, on_insufficient_data=called), calls


async def set_states(kit: Kit, clock: ManualClock, **states: AlarmState) -> None:
    for name, state in states.items():
        kit.alarms.set_state(name, state, "by hand")
    await clock.advance(0)


class KeptHistory(MemoryHistory):
    """What a durable one knows when another process goes on."""

    async def states(self) -> dict[str, StoredState]:
        found: dict[str, StoredState] = {}
        for item in reversed(await self.items(item_type="StateUpdate")):
            (created,) = (
                each for each in await self.items(item.alarm, item_type="ConfigurationUpdate") if "Create" in each.data
            )
            new = msgspec.json.decode(item.data)["newState"]
            found[item.alarm] = StoredState(
                state=new["stateValue"],
                reason=new["stateReason"],
                changed_ms=item.timestamp_ms,
                configuration=msgspec.json.encode(msgspec.json.decode(created.data)["createdAlarm"]).decode(),
                suppression=self.suppressions.get(item.alarm),
                pending=self.pending.get(item.alarm, ()),
            )
        return found

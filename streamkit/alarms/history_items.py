"""What is written down when an alarm changes. Pure.

Follows the ``HistoryData`` of ``DescribeAlarmHistory`` (Amazon CloudWatch API Reference).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.history import AlarmType, HistoryItem
from streamkit.alarms.suppression import SuppressedBy
from streamkit.alarms.transition import AlarmTransition

MAX_SUMMARY_LENGTH = 255
ConfigurationChange = Literal["Create", "Update", "Delete"]


def state_update(transition: AlarmTransition, alarm_type: AlarmType = "MetricAlarm") -> HistoryItem:
    """A change of its state."""
    old = _state(transition.previous, transition.previous_reason, transition.previous_reason_data)
    new = _state(transition.state, transition.reason, transition.reason_data)
    return HistoryItem(
        alarm=transition.alarm,
        alarm_type=alarm_type,
        timestamp_ms=transition.at_ms,
        item_type="StateUpdate",
        summary=f"Alarm updated from {transition.previous} to {transition.state}",
        data=_json({"version": "1.0", "oldState": old, "newState": new}),
    )


def configuration_update(change: ConfigurationChange, alarm: Alarm | CompositeAlarm, now_ms: int) -> HistoryItem:
    """It was created, its configuration was replaced, or it was deleted."""
    return _configuration_update(change, alarm.name, type_of(alarm), now_ms, msgspec.to_builtins(alarm))


def actions_switched(alarm: Alarm | CompositeAlarm, enabled: bool, now_ms: int) -> HistoryItem:
    """Somebody enabled or disabled its actions by hand."""
    changed = msgspec.to_builtins(msgspec.structs.replace(alarm, actions_enabled=enabled))
    return _configuration_update("Update", alarm.name, type_of(alarm), now_ms, changed, actionsEnabled=enabled)


def stored_deleted(name: str, configuration: str, now_ms: int) -> HistoryItem:
    """One was deleted that is known by what was stored of it: its configuration as JSON."""
    alarm = msgspec.json.decode(configuration) if configuration else {"name": name}
    return _configuration_update("Delete", name, "CompositeAlarm" if "rule" in alarm else "MetricAlarm", now_ms, alarm)


def _configuration_update(
    change: ConfigurationChange, name: str, kind: AlarmType, now_ms: int, alarm: Any, **more: Any
) -> HistoryItem:
    words = {"Create": "created", "Update": "updated", "Delete": "deleted"}[change]
    return HistoryItem(
        alarm=name,
        alarm_type=kind,
        timestamp_ms=now_ms,
        item_type="ConfigurationUpdate",
        summary=f'Alarm "{name}" {words}',
        data=_json({"type": change, "version": "1.0", f"{words}Alarm": alarm, **more}),
    )


def suppression_update(transition: AlarmTransition, by: SuppressedBy | None, now_ms: int) -> HistoryItem:
    """The actions for a change of a composite alarm are held, or (by nothing) are not held any more."""
    what = "are no longer suppressed" if by is None else f"are suppressed by {by}"
    return HistoryItem(
        alarm=transition.alarm,
        alarm_type="CompositeAlarm",
        timestamp_ms=now_ms,
        item_type="Action",
        summary=f"Actions for {transition.state} {what}",
        data=_json({"version": "1.0", "stateValue": transition.state, "actionsSuppressedBy": by}),
    )


def type_of(alarm: Alarm | CompositeAlarm | None) -> AlarmType:
    """As CloudWatch names it."""
    return "CompositeAlarm" if isinstance(alarm, CompositeAlarm) else "MetricAlarm"


def action_result(
    transition: AlarmTransition, action: str, *, attempts: int, error: str | None, now_ms: int
) -> HistoryItem:
    """An action for a change was done, or was given up with this error; ``action`` is what it is called."""
    summary = f"Successfully executed action {action}"
    data: dict[str, Any] = {
        "version": "1.0",
        "actionState": "Succeeded" if error is None else "Failed",
        "notificationResource": action,
        "stateUpdateTimestamp": transition.at_ms,
        "stateValue": transition.state,
        "attempts": attempts,
    }
    if error is not None:
        summary = f'Failed to execute action {action}. Received error: "{error}"'
        data["error"] = error
    return HistoryItem(
        alarm=transition.alarm,
        alarm_type=type_of(transition.configuration),
        timestamp_ms=now_ms,
        item_type="Action",
        summary=summary if len(summary) <= MAX_SUMMARY_LENGTH else f"{summary[: MAX_SUMMARY_LENGTH - 1]}…",
        data=_json(data),
    )


def _state(value: str, reason: str, reason_data: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"stateValue": value, "stateReason": reason}
    if reason_data is not None:
        found["stateReasonData"] = msgspec.Raw(reason_data.encode())
    return found


def _json(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()

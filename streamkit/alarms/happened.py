"""What happened to alarms, as a sequence, a table and a picture of their states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.history import HistoryItem
from streamkit.showing.listing import Listing

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType
    from streamkit.showing.html import Tone
    from streamkit.showing.svg import State

TONES: Mapping[str, Tone] = {"OK": "good", "ALARM": "bad", "INSUFFICIENT_DATA": "quiet"}


class History(Listing[HistoryItem]):
    """What happened to an alarm or to all, the newest first.

    As a table its columns are ``at`` (UTC), ``alarm``, ``item_type``, ``summary`` and ``reason``.
    """

    kind = "Alarm history"
    noun = "item"

    def __init__(self, items: Iterable[HistoryItem], name: str, until_ms: int) -> None:
        super().__init__(items, name)
        self.until_ms = until_ms
        """When somebody asked."""

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name; an instant is in milliseconds since the epoch."""
        return {
            "at": [item.timestamp_ms for item in self],
            "alarm": [item.alarm for item in self],
            "item_type": [item.item_type for item in self],
            "summary": [item.summary for item in self],
            "reason": [_new_state(item).get("stateReason") for item in self],
        }

    def column_types(self) -> Mapping[str, ColumnType]:
        """Of all of them."""
        return {"at": "instant", "alarm": "text", "item_type": "text", "summary": "text", "reason": "text"}

    def states(self) -> dict[str, list[tuple[AlarmState, int, int, str]]]:
        """By alarm, what it was in one after the other: the state, from when to when (ms), and why."""
        found: dict[str, list[tuple[AlarmState, int, int, str]]] = {}
        now: dict[str, tuple[AlarmState, int, str]] = {}
        for item in sorted(self, key=lambda item: item.timestamp_ms):
            at_ms = item.timestamp_ms
            before = now.get(item.alarm)
            change = _data(item).get("type")
            if item.item_type == "ConfigurationUpdate" and change == "Create" and before is None:
                now[item.alarm] = ("INSUFFICIENT_DATA", at_ms, "")
            ends = item.item_type == "StateUpdate" or (item.item_type == "ConfigurationUpdate" and change == "Delete")
            if not ends:
                continue
            if before is not None:
                state, since_ms, why = before
                found.setdefault(item.alarm, []).append((state, since_ms, at_ms, why))
                del now[item.alarm]
            if item.item_type == "StateUpdate":
                new = _new_state(item)
                now[item.alarm] = (new.get("stateValue", "INSUFFICIENT_DATA"), at_ms, new.get("stateReason", ""))
        for alarm, (state, since_ms, why) in now.items():
            found.setdefault(alarm, []).append((state, since_ms, max(self.until_ms, since_ms), why))
        return found

    def _picture(self) -> str:
        from streamkit.showing.svg import states

        return states([(alarm, bands(found)) for alarm, found in sorted(self.states().items())])


def bands(states: Iterable[tuple[AlarmState, int, int, str]]) -> list[State]:
    """States as a picture has them."""
    from streamkit.showing.svg import State

    return [State(state, TONES.get(state, "quiet"), since, until, why) for state, since, until, why in states]


def _data(item: HistoryItem) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(item.data)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _new_state(item: HistoryItem) -> dict[str, Any]:
    new = _data(item).get("newState") if item.item_type == "StateUpdate" else None
    return new if isinstance(new, dict) else {}

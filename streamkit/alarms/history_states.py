"""How an alarm is, told from what happened to it: what a process that begins needs to go on. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streamkit.alarms.history import HISTORY, STATE, HistoryItem
from streamkit.alarms.left import pending_of, suppression_of
from streamkit.alarms.ports import StoredState
from streamkit.tables.item import Item
from streamkit.tables.write import Delete, Put, Update, Write

INITIAL_REASON = "Unchecked: Initial alarm creation"


_NONE = msgspec.Raw()


class Left(msgspec.Struct, frozen=True):
    """What an alarm has left to do: no history, but part of how it is."""

    alarm: str
    kind: Literal["pending", "suppression"]
    text: str | None
    """See ``alarms.left``; None: nothing."""


class _NewState(msgspec.Struct):
    state: str = msgspec.field(name="stateValue")
    reason: str = msgspec.field(name="stateReason", default="")
    reason_data: msgspec.Raw = msgspec.field(name="stateReasonData", default=_NONE)


class _Data(msgspec.Struct):
    """Of HistoryData, what says how the alarm is from then on."""

    new_state: _NewState | None = msgspec.field(name="newState", default=None)
    type: str = ""
    created: msgspec.Raw = msgspec.field(name="createdAlarm", default=_NONE)
    updated: msgspec.Raw = msgspec.field(name="updatedAlarm", default=_NONE)
    actions_enabled: bool | None = msgspec.field(name="actionsEnabled", default=None)


_decode = msgspec.json.Decoder(_Data).decode


class Changes:
    """What the things that happened make of each alarm: at most one write for each."""

    def __init__(self) -> None:
        self._changes: dict[str, dict[str, Any]] = {}
        self._deleted: dict[str, None] = {}
        """Of what was there of these before, nothing stays."""

    def add(self, happened: HistoryItem) -> None:
        """In the order in which they happened. What says nothing of the state, or cannot be read, changes nothing."""
        if happened.item_type == "Action":
            return
        try:
            data = _decode(happened.data)
        except (msgspec.DecodeError, UnicodeError):
            return
        name = happened.alarm
        if happened.item_type == "StateUpdate":
            if data.new_state is not None:
                self._set(happened, _of_state(data.new_state, happened.timestamp_ms))
        elif data.type == "Delete":
            self._changes.pop(name, None)
            self._deleted[name] = None
        elif data.type == "Create":
            # No state: somebody may have set it by hand before it was known that there is no alarm of this name yet.
            # INVARIANT: test_a_state_that_was_set_before_an_alarm_is_known_to_be_new_stays
            self._set(happened, {**_configuration(data.created), "created": happened.timestamp_ms})
        elif data.type == "Update" and data.actions_enabled is not None:
            # By hand: the configuration that it is started with is another.
            self._set(happened, {"actions_enabled": data.actions_enabled})
        elif data.type == "Update":
            self._set(happened, {**_configuration(data.updated), "actions_enabled": None})

    def leave(self, left: Left) -> None:
        """In its order among the things that happened."""
        # Without what the index needs: of an alarm that was deleted meanwhile nothing is listed again.
        self._changes.setdefault(left.alarm, {})[left.kind] = left.text

    def writes(self) -> list[Write]:
        """What makes them so in the table."""
        found: list[Write] = []
        for name in {**self._deleted, **self._changes}:
            key = {"alarm": name, "entry": STATE}
            changes = self._changes.get(name)
            if changes is None:
                found.append(Delete(key, table=HISTORY.name))
            elif name in self._deleted:
                found.append(Put({**key, **changes}, table=HISTORY.name))
            else:
                found.append(Update(key=key, set=changes, table=HISTORY.name))
        return found

    def _set(self, happened: HistoryItem, values: dict[str, Any]) -> None:
        changes = self._changes.setdefault(happened.alarm, {})
        # The index lists states by name.
        changes.update(values, kind=STATE, moment=happened.alarm, type=happened.alarm_type)


def _of_state(state: _NewState, at_ms: int) -> dict[str, Any]:
    data = bytes(state.reason_data).decode() or None
    return {"state": state.state, "reason": state.reason, "reason_data": data, "changed": at_ms}


def _configuration(raw: msgspec.Raw) -> dict[str, Any]:
    return {"configuration": bytes(raw).decode()}


def stored_state(item: Item) -> StoredState:
    """From the table."""
    pending = pending_of(item.get("pending"))
    return StoredState(
        state=item.get("state", "INSUFFICIENT_DATA"),
        reason=item.get("reason", INITIAL_REASON),
        changed_ms=int(item.get("changed", item.get("created", 0)) or 0),
        configuration=item.get("configuration", ""),
        reason_data=item.get("reason_data"),
        actions_enabled=item.get("actions_enabled"),
        suppression=suppression_of(item.get("suppression"), pending),
        pending=pending,
    )

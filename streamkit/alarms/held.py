"""What was held of the actions of composite alarms when the process ended, as their history tells."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.history import HistoryItem
from streamkit.alarms.ports import AlarmHistory, StoredState
from streamkit.alarms.suppression import SuppressedBy, Suppression
from streamkit.alarms.transition import AlarmTransition

logger = logging.getLogger("streamkit.alarms")


class _Configuration(msgspec.Struct):
    actions_suppressor: str | None = None


class _Suppressed(msgspec.Struct, rename="camel"):
    actions_suppressed_by: SuppressedBy | None
    """Items of other kinds have no such field, and are no such struct."""


class _State(msgspec.Struct, rename="camel"):
    state_value: AlarmState
    state_reason: str
    state_reason_data: msgspec.Raw = msgspec.Raw()

    @property
    def data(self) -> str | None:
        return bytes(self.state_reason_data).decode() or None


class _Update(msgspec.Struct, rename="camel"):
    old_state: _State
    new_state: _State


async def with_held(stored: Mapping[str, StoredState], history: AlarmHistory) -> dict[str, StoredState]:
    """These states, with what was held of each alarm that has a suppressor: else nobody would ever hear of it."""
    found = dict(stored)
    for name, state in stored.items():
        if state.suppression is None and _is_suppressed(state):
            try:
                suppression = await _held(name, history)
            except Exception:
                logger.exception("what was held of the actions of alarm %r cannot be read, and is not called", name)
            else:
                found[name] = msgspec.structs.replace(state, suppression=suppression)
    return found


def _is_suppressed(state: StoredState) -> bool:
    try:
        return msgspec.json.decode(state.configuration, type=_Configuration).actions_suppressor is not None
    except msgspec.DecodeError:
        return False


async def _held(name: str, history: AlarmHistory) -> Suppression | None:
    for item in await history.items(name, item_type="Action"):
        try:
            by = msgspec.json.decode(item.data, type=_Suppressed).actions_suppressed_by
        except msgspec.DecodeError:
            continue
        if by is None:
            return None
        updates = await history.items(name, item_type="StateUpdate")
        return Suppression(by, item.timestamp_ms, _transition(updates[0])) if updates else None
    return None


def _transition(item: HistoryItem) -> AlarmTransition:
    update = msgspec.json.decode(item.data, type=_Update)
    old, new = update.old_state, update.new_state
    return AlarmTransition(
        alarm=item.alarm,
        previous=old.state_value,
        state=new.state_value,
        reason=new.state_reason,
        at_ms=item.timestamp_ms,
        reason_data=new.data,
        previous_reason=old.state_reason,
        previous_reason_data=old.data,
    )

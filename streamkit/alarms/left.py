"""What is still to be done about changes of an alarm, as text that the next process reads. Pure."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from msgspec.structs import asdict

from streamkit.alarms.suppression import SuppressedBy, Suppression
from streamkit.alarms.transition import AlarmTransition, StateChange

logger = logging.getLogger("streamkit.alarms")

MOST_PENDING_STORED = 10
"""Changes of one alarm; of more the latest. Each may be 10 kB, and a state is one item."""


class Pending(msgspec.Struct, frozen=True):
    """A change of which some actions have not come to their end: not done, and not given up."""

    transition: AlarmTransition
    labels: tuple[str, ...]
    """What they are called: see ``names_of``."""


class _Left(msgspec.Struct, frozen=True):
    change: StateChange
    labels: tuple[str, ...]


class _Held(msgspec.Struct, frozen=True):
    by: SuppressedBy | None
    since_ms: int
    change: StateChange | None


def text_of_pending(pending: Sequence[Pending]) -> str | None:
    """As it is stored; None: nothing is left to do."""
    left = [_Left(_change(each.transition), each.labels) for each in pending[-MOST_PENDING_STORED:]]
    return _text(left) if left else None


def pending_of(text: str | None) -> tuple[Pending, ...]:
    """As it was, oldest first; nothing, and a line in the log, if it cannot be read."""
    try:
        left = msgspec.json.decode(text, type=list[_Left]) if text else []
    except msgspec.DecodeError:
        logger.exception("which actions of an alarm were left to call cannot be read, and they are not called")
        return ()
    return tuple(Pending(_transition(each.change), each.labels) for each in left)


def text_of_suppression(suppression: Suppression) -> str | None:
    """As it is stored; None: nothing is held."""
    if suppression == Suppression():
        return None
    held = None if suppression.held is None else _change(suppression.held)
    return _text(_Held(suppression.by, suppression.since_ms, held))


def suppression_of(text: str | None, pending: Sequence[Pending] = ()) -> Suppression | None:
    """As it was; None: nothing was held. What is pending is held no more, though that could not be stored."""
    try:
        found = msgspec.json.decode(text, type=_Held) if text else None
    except msgspec.DecodeError:
        logger.exception("what was held of the actions of an alarm cannot be read, and is not called")
        return None
    if found is None:
        return None
    held = None if found.change is None else _transition(found.change)
    if held in [each.transition for each in pending]:
        held = None
    return Suppression(found.by, found.since_ms, held)


def _change(transition: AlarmTransition) -> StateChange:
    # Without what is code, which the next process has of its own.
    return StateChange(**{field: getattr(transition, field) for field in StateChange.__struct_fields__})


def _transition(change: StateChange) -> AlarmTransition:
    return AlarmTransition(**asdict(change))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()

"""One change of an alarm's state, and what may be called about it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypedDict

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.clock import to_datetime
from streamkit.errors import ValidationError

MAX_ACTIONS = 5
"""Of one state."""


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of an alarm's state consists of, all of which can be stored."""

    alarm: str
    """The alarm's name."""
    previous: AlarmState
    state: AlarmState
    """The state from then on; never ``previous``."""
    reason: str
    """A sentence, in CloudWatch's words."""
    at_ms: int
    reason_data: str | None = None
    """The same for programs, as JSON (``StateReasonData``); None: somebody set the state, and gave none."""
    previous_reason: str = ""
    previous_reason_data: str | None = None
    previous_at_ms: int = 0
    """Since when it was in ``previous``."""


class AlarmTransition(StateChange, frozen=True, kw_only=True):
    """One change of an alarm's state."""

    configuration: Any = None
    """The alarm: an ``Alarm`` or a ``CompositeAlarm``; None: whoever made this does not say."""
    actions: StateActions | None = None
    """All that the alarm has, not only those for this change."""

    @property
    def at(self) -> datetime:
        """When it changed, in UTC."""
        return to_datetime(self.at_ms)


Action = Callable[[AlarmTransition], Awaitable[object] | object]
"""What happens when an alarm changes: a function or coroutine function. What it returns is of no interest."""


def label_of(action: Action) -> str:
    """What an action is called in histories, documents and logs: its ``label``, or the name of the function."""
    # Never its repr, in which arguments may be that are nobody's business.
    label = getattr(action, "label", None)
    if isinstance(label, str):
        return label
    inner = action
    while isinstance(inner, partial):
        inner = inner.func
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else str(named.__qualname__)


def names_of(actions: Sequence[Action]) -> list[str]:
    """What to know each of an alarm's actions for one state by: its label, and which of several of that label it is."""
    found: list[str] = []
    seen: Counter[str] = Counter()
    for label in map(label_of, actions):
        seen[label] += 1
        found.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return found


Actions = Action | Sequence[Action] | None
"""What is given for one state: one action, up to five, or none."""


class AlarmActions(TypedDict, total=False):
    """What ``kit.start`` takes beside an alarm."""

    on_alarm: Actions
    on_ok: Actions
    on_insufficient_data: Actions


class StateActions(msgspec.Struct, frozen=True):
    """What happens for each state that an alarm comes to.

    Raises:
        ValidationError: There are more than five for one state, or one cannot be called.
    """

    on_alarm: tuple[Action, ...] = ()
    on_ok: tuple[Action, ...] = ()
    on_insufficient_data: tuple[Action, ...] = ()

    @classmethod
    def of(cls, on_alarm: Actions = None, on_ok: Actions = None, on_insufficient_data: Actions = None) -> StateActions:
        """From what users write."""
        given = {"on_alarm": on_alarm, "on_ok": on_ok, "on_insufficient_data": on_insufficient_data}
        return cls(*(_checked(name, actions) for name, actions in given.items()))

    def of_state(self, state: AlarmState) -> tuple[Action, ...]:
        """Those for one state."""
        match state:
            case "ALARM":
                return self.on_alarm
            case "OK":
                return self.on_ok
            case "INSUFFICIENT_DATA":
                return self.on_insufficient_data


def _checked(name: str, actions: Actions) -> tuple[Action, ...]:
    if actions is None:
        return ()
    found: tuple[Action, ...] = (actions,) if callable(actions) else tuple(actions)
    if len(found) > MAX_ACTIONS:
        raise ValidationError(f"{name} has {len(found)} actions: give {MAX_ACTIONS} at most")
    for action in found:
        if not callable(action):
            raise ValidationError(f"{name} has {action!r}, which cannot be called: give functions of a transition")
    return found

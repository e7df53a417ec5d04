"""One change of an alarm's state, and what may be called about it. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.clock import to_datetime


class AlarmTransition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an alarm's state."""

    alarm: str
    """The alarm's name."""
    previous: AlarmState
    state: AlarmState
    """The state from then on; never ``previous``."""
    reason: str
    """A sentence, in CloudWatch's words."""
    at_ms: int

    @property
    def at(self) -> datetime:
        """When it changed, in UTC."""
        return to_datetime(self.at_ms)


Action = Callable[[AlarmTransition], Awaitable[object] | object]
"""What happens when an alarm changes: a function or coroutine function. What it returns is of no interest."""

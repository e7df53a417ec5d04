"""When the actions of a composite alarm are held, and when they are let go. Pure: it is told what time it is.

Follows "Suppressing composite alarm actions" of the Amazon CloudWatch user guide. The alarm's state is never held, only
what is done about it:

- While the suppressor is in ALARM, nothing is done.
- A change of the alarm's state begins a WaitPeriod in which nothing is done, so that the suppressor can follow. Another
  change before its end begins a new one.
- The suppressor's leaving ALARM begins an ExtensionPeriod in which nothing is done, so that the alarm can follow.
  A change of the alarm before its end ends it, and begins a WaitPeriod.
- At the end of either, what is to be done for the latest change that was held is done: earlier ones are forgotten.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streamkit.alarms.transition import AlarmTransition

SuppressedBy = Literal["Alarm", "WaitPeriod", "ExtensionPeriod"]
"""Why actions are held: the suppressor is in ALARM, it may be soon, or it was until just now."""


class Periods(msgspec.Struct, frozen=True):
    """How long to wait, in milliseconds."""

    wait_ms: int = 0
    extension_ms: int = 0


class Suppression(msgspec.Struct, frozen=True):
    """What is held, and why."""

    by: SuppressedBy | None = None
    since_ms: int = 0
    """When ``by`` began."""
    held: AlarmTransition | None = None
    """The latest change whose actions are held."""

    def until_ms(self, periods: Periods) -> int | None:
        """When to ``step`` at the latest; None: only when an alarm changes."""
        match self.by:
            case "WaitPeriod":
                return self.since_ms + periods.wait_ms
            case "ExtensionPeriod":
                return self.since_ms + periods.extension_ms
            case _:
                return None

    def with_other_suppressor(self) -> Suppression:
        """Once the suppressor is another alarm: a period that was begun for the old one ends at the next step."""
        return Suppression(held=self.held)


def step(
    suppression: Suppression,
    periods: Periods,
    now_ms: int,
    is_suppressor_in_alarm: bool,
    transition: AlarmTransition | None = None,
) -> tuple[Suppression, AlarmTransition | None]:
    """What is held from now on, and the change whose actions are to be called now.

    To be called at each change of the alarm or of its suppressor, and at ``until_ms``. Where all comes at one instant,
    or late, what is so now counts: a suppressor that is in ALARM holds what would have been let go just now.

    Args:
        suppression: What was held until now.
        periods: The alarm's settings; without a suppressor both are 0.
        now_ms: The time. If it was set back, a period that runs begins anew.
        is_suppressor_in_alarm: Whether it is now.
        transition: The alarm's change, if it changed now.
    """
    by, since_ms, held = suppression.by, min(suppression.since_ms, now_ms), transition or suppression.held
    if is_suppressor_in_alarm:
        return Suppression("Alarm", since_ms if by == "Alarm" else now_ms, held), None
    if transition is not None:
        by, since_ms = "WaitPeriod", now_ms
    elif by == "Alarm":
        by, since_ms = "ExtensionPeriod", now_ms
    running = Suppression(by, since_ms, held)
    until_ms = running.until_ms(periods)
    if until_ms is not None and now_ms < until_ms:
        return running, None
    return Suppression(), held

"""What alarms need of others: who calls actions, who remembers what happened, and who remembers metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.history import HistoryItem, HistoryItemType
from streamkit.alarms.left import Pending
from streamkit.alarms.suppression import Suppression
from streamkit.alarms.transition import Action, AlarmTransition
from streamkit.metrics.metric import Metric


class StoredState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an alarm from before."""

    state: AlarmState
    reason: str
    changed_ms: int
    configuration: str = ""
    """The alarm as JSON."""
    reason_data: str | None = None
    actions_enabled: bool | None = None
    """What somebody set by hand since this configuration came; None: nobody did."""
    suppression: Suppression | None = None
    """Of a composite alarm: what is held of its actions. None: nothing is."""
    pending: tuple[Pending, ...] = ()
    """Changes some of whose actions were not called to their end, oldest first."""


class Warm(Protocol):
    """Brings back to memory what was stored of metrics before this process began."""

    async def warm(self, metrics: Iterable[Metric], since_ms: int) -> None:
        """Have all of these metrics since an instant in memory.

        Raises:
            StorageError: What is stored cannot be read.
        """


class ActionRunner(Protocol):
    """Calls actions in the background: one alarm's in their order, failures retried, counted and logged."""

    def dispatch(self, transition: AlarmTransition, actions: Sequence[Action]) -> None:
        """Have them called. Never awaits and never raises."""

    def forget(self, alarm: str) -> None:
        """The alarm was deleted: what is still being called is nothing that the next process is to call."""

    async def drain(self, alarm: str | None = None) -> None:
        """Return once all that was dispatched has been called, of one alarm or of all."""

    def cancel(self) -> None:
        """Cancel whatever is still being called. Never awaits."""

    async def close(self) -> None:
        """Let what was dispatched go on for some seconds at most, and cancel the rest. May be used again."""


class AlarmHistory(Protocol):
    """Remembers what happened to alarms, also when the process has ended."""

    def record(self, item: HistoryItem) -> None:
        """Write one thing down. Never awaits and never raises."""

    def remember_pending(self, alarm: str, pending: Sequence[Pending]) -> None:
        """Have the next process know which actions are still to be called. Never awaits and never raises."""

    def remember_suppression(self, alarm: str, suppression: Suppression) -> None:
        """Have the next process know what is held of a composite alarm. Never awaits and never raises."""

    async def drain(self) -> None:
        """Return once all is written down; what cannot be written now is lost then."""

    def cancel(self) -> None:
        """Write nothing more down of what waits. Never awaits."""

    async def items(self, name: str | None = None, *, item_type: HistoryItemType | None = None) -> list[HistoryItem]:
        """What is written down, of one alarm or of all, the newest first."""

    async def states(self) -> Mapping[str, StoredState]:
        """How each alarm was when it was last heard of, by name."""

"""A history of alarms without a store, for tests of what is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamkit.alarms.history import HistoryItem, HistoryItemType
from streamkit.alarms.left import Pending
from streamkit.alarms.ports import StoredState
from streamkit.alarms.suppression import Suppression


class MemoryHistory:
    """An ``AlarmHistory`` that ends with the process."""

    def __init__(self) -> None:
        self._items: list[HistoryItem] = []
        self.pending: dict[str, tuple[Pending, ...]] = {}
        self.suppressions: dict[str, Suppression] = {}

    async def drain(self) -> None:
        """See AlarmHistory."""

    def cancel(self) -> None:
        """See AlarmHistory."""

    def record(self, item: HistoryItem) -> None:
        """See AlarmHistory."""
        self._items.append(item)

    def remember_pending(self, alarm: str, pending: Sequence[Pending]) -> None:
        """See AlarmHistory."""
        self.pending[alarm] = tuple(pending)

    def remember_suppression(self, alarm: str, suppression: Suppression) -> None:
        """See AlarmHistory."""
        self.suppressions[alarm] = suppression

    async def items(self, name: str | None = None, *, item_type: HistoryItemType | None = None) -> list[HistoryItem]:
        """See AlarmHistory."""
        return [
            item for item in reversed(self._items) if name in (None, item.alarm) and item_type in (None, item.item_type)
        ]

    async def states(self) -> Mapping[str, StoredState]:
        """See AlarmHistory."""
        return {}

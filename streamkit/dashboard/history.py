"""What happened to alarms, a page at a time, also to those of a kit that only looks on."""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.alarms.history import HistoryItem, HistoryQuestion
from streamkit.alarms.history_store import StoredHistory
from streamkit.kit import Kit


class Happened(msgspec.Struct, frozen=True):
    """One thing that happened to an alarm."""

    alarm: str
    at_ms: int
    kind: str
    """HistoryItemType."""
    summary: str
    state: str | None
    """Of a change of its state: the new one."""
    previous: str | None
    reason: str


class HappenedPage(msgspec.Struct, frozen=True):
    """Some of it, the newest first."""

    items: list[Happened]
    next_token: str | None


class AlarmHistoryPages:
    """Reads the history of a kit's alarms, and makes nothing."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._stored = StoredHistory(kit.engine.tables, kit.clock, kit.metrics.raw)

    async def page(self, name: str | None, token: str | None) -> HappenedPage:
        """Up to 100 things that happened to an alarm, or (None) changes of the states of all.

        Raises:
            ValidationError: the token is none.
        """
        question = HistoryQuestion(name=name, item_type="StateUpdate" if name is None else None)
        page = await self._stored.page(question, next_token=token)
        return HappenedPage([happened(item) for item in page.items], page.next_token)


def happened(item: HistoryItem) -> Happened:
    """As it is shown."""
    data: Any = msgspec.json.decode(item.data) if item.data else {}
    new, old = data.get("newState"), data.get("oldState")
    is_change = item.item_type == "StateUpdate" and isinstance(new, dict)
    return Happened(
        item.alarm,
        item.timestamp_ms,
        item.item_type,
        item.summary,
        new.get("stateValue") if is_change else None,
        old.get("stateValue") if is_change and isinstance(old, dict) else None,
        str(new.get("stateReason", "")) if is_change else str(data.get("error") or ""),
    )

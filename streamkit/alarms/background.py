"""Actions as tasks in the background, and a history in memory: what alarms run on where there is nothing better."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Mapping, Sequence

from streamkit.alarms.history import HistoryItem, HistoryItemType
from streamkit.alarms.ports import StoredState
from streamkit.alarms.transition import Action, AlarmTransition
from streamkit.clock import Clock
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics

logger = logging.getLogger("streamkit.alarms")

ACTIONS_FAILED = Metric.of("streamkit", "ActionsFailed")
"""How many actions of alarms raised."""
MOST_ITEMS = 10_000


class BackgroundRunner:
    """An ``ActionRunner`` that tries each action once, and logs and counts those that raise."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}

    def dispatch(self, transition: AlarmTransition, actions: Sequence[Action]) -> None:
        """See ActionRunner."""
        before = self._running.get(transition.alarm)
        task = asyncio.create_task(self._run(before, transition, actions), name=f"actions of {transition.alarm}")
        self._running[transition.alarm] = task
        task.add_done_callback(lambda done: self._ended(transition.alarm, done))

    async def drain(self, alarm: str | None = None) -> None:
        """See ActionRunner."""
        while left := [task for name, task in self._running.items() if alarm in (None, name)]:
            await asyncio.wait(left)

    def cancel(self) -> None:
        """See ActionRunner."""
        for task in self._running.values():
            task.cancel()

    def _ended(self, alarm: str, task: asyncio.Task[None]) -> None:
        if self._running.get(alarm) is task:
            del self._running[alarm]

    async def _run(
        self, before: asyncio.Task[None] | None, transition: AlarmTransition, actions: Sequence[Action]
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
            if before.cancelled():
                return
        for action in actions:
            try:
                answer = action(transition)
                if inspect.isawaitable(answer):
                    await answer
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # Nobody cancelled us: the action awaited something that was cancelled, which is its own failure.
                self._failed(transition)
            except Exception:
                self._failed(transition)

    def _failed(self, transition: AlarmTransition) -> None:
        logger.exception("an action of alarm %r for %s failed", transition.alarm, transition.state)
        self._metrics.put(ACTIONS_FAILED, 1.0, self._clock.now_ms())


class MemoryHistory:
    """An ``AlarmHistory`` that ends with the process."""

    def __init__(self) -> None:
        self._items: deque[HistoryItem] = deque(maxlen=MOST_ITEMS)

    def record(self, item: HistoryItem) -> None:
        """See AlarmHistory."""
        self._items.append(item)

    async def items(self, name: str | None = None, *, item_type: HistoryItemType | None = None) -> list[HistoryItem]:
        """See AlarmHistory."""
        return [
            item for item in reversed(self._items) if name in (None, item.alarm) and item_type in (None, item.item_type)
        ]

    async def states(self) -> Mapping[str, StoredState]:
        """See AlarmHistory."""
        return {}

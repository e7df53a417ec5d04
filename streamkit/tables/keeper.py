"""What a table needs done in the background: its indexes filled, what has expired deleted."""

from __future__ import annotations

import asyncio
import logging

from streamkit.clock import Clock
from streamkit.errors import NotFoundError, StreamKitError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.service import Stop
from streamkit.tables.store import TableDescription, TableStore

SWEEP_SECONDS = 5.0
"""Between two looks at what has expired. AWS: typically within two days."""
_BATCH = 256

_log = logging.getLogger("streamkit.tables")


def service_name(table: str) -> str:
    """What ``kit.health()`` calls the keeper of a table."""
    return f"table:{table}"


def needs_keeper(description: TableDescription) -> bool:
    """Whether there is something to do for the table."""
    return bool(description.building) or description.attributes.ttl is not None


class TableKeeper:
    """A ``Service`` of one table, which the kit starts when there is something to do for it.

    Both are done in steps that do not keep others waiting. Deletions follow "Time to live" (Amazon DynamoDB Developer
    Guide): they show in the change feed with a ``userIdentity``, and in the metric TimeToLiveDeletedItemCount.
    """

    def __init__(self, table: str, store: TableStore, clock: Clock, metrics: Metrics) -> None:
        self.table = table
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._deleted = Metric.of("AWS/DynamoDB", "TimeToLiveDeletedItemCount", TableName=table)
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """See Service."""
        return service_name(self.table)

    def changed(self) -> None:
        """The table's attributes have changed: look at once."""
        self._changed.set()

    async def run(self, stop: Stop) -> None:
        """See Service. Ends with the table."""
        while not stop.requested:
            self._changed.clear()
            try:
                await self._work(stop)
            except StreamKitError as error:
                if isinstance(error, NotFoundError) and error.kind == "table":
                    return
                # A disk that is full, a feed whose stream is gone: others are told by their own calls.
                _log.warning("table %s could not be kept in order, and it is tried again: %s", self.table, error)
            timer = self._clock.call_at(self._clock.now_ms() + round(SWEEP_SECONDS * 1000), self._changed.set)
            try:
                with stop.interruptible():
                    await self._changed.wait()
            finally:
                timer.cancel()

    async def _work(self, stop: Stop) -> None:
        building = True
        while building and not stop.requested:
            building = await self._store.build_indexes(self.table, _BATCH)
            await asyncio.sleep(0)
        while not stop.requested:
            deleted = await self._store.expire_items(self.table, _BATCH)
            if deleted:
                self._metrics.put(self._deleted, deleted, self._clock.now_ms(), 1, "Count")
                await asyncio.sleep(0)
            else:
                return

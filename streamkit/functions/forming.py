"""Forms a lane's batches: what matches, until there is enough, or nobody wants to wait any more."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.functions.committing import Committing
from streamkit.functions.function import Function
from streamkit.functions.lambda_handler import LambdaHandler
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.source import Source
from streamkit.functions.tally import Tally
from streamkit.functions.tumbling import Tumbling
from streamkit.service import Stop
from streamkit.streams.record import Record, StoredRecord

# Any wait will do, because the append ends it; one shorter than an iterator's life keeps the iterator in use.
_WAIT_MS = 240_000
# AWS: a batch is handed over at 6 MB of event, in which data is base64 and every record has an envelope.
BATCH_BYTES = 6_000_000
_ENVELOPE_BYTES = 500
# Filtering so many holds the loop for a few milliseconds at most.
_AT_ONCE = 1_000


def event_bytes(stored: StoredRecord) -> int:
    """What a record takes of an event, about."""
    return (len(stored.data) + 2) // 3 * 4 + len(stored.partition_key) + _ENVELOPE_BYTES


class Forming:
    """The reading half of a lane."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        shard_id: str,
        source: Source,
        committing: Committing,
        *,
        windows: Tumbling | None,
        clock: Clock,
        tally: Tally,
    ) -> None:
        self.window_over = False
        """The window that is open ends after the batch that was formed last."""
        self._mapping = mapping
        self._shard_id = shard_id
        self._source = source
        self._committing = committing
        self._windows = windows
        self._clock = clock
        self._tally = tally
        self._codec: Codec[Any] = mapping.source.codec
        function = mapping.function.handler if isinstance(mapping.function, Function) else mapping.function
        # Whoever is given no event has no limit of events.
        self._record_bytes = BATCH_BYTES if isinstance(function, LambdaHandler) else None
        # Read, and neither in a batch nor filtered out yet.
        self._pending: list[StoredRecord] = []
        self.taken_to = committing.checkpoint
        """The last record that is in a batch or was filtered out."""

    @property
    def position(self) -> int:
        """Every record of the lane up to this number was taken."""
        return self.taken_to if self._pending else max(self.taken_to, self._source.position)

    @property
    def drained(self) -> bool:
        """Every record that was read is in a batch or was filtered out."""
        return not self._pending

    @property
    def idle(self) -> bool:
        """Every record that was read is settled and checkpointed."""
        return not self._pending and self.taken_to <= self._committing.checkpoint

    @property
    def at_end(self) -> bool:
        """There is nothing left, and will not be."""
        return self._source.at_end and not self._pending

    def too_large(self, record: Record[Any]) -> bool:
        """Whether no event can hold it."""
        return self._record_bytes is not None and event_bytes(record.stored) > self._record_bytes

    async def form(self, stop: Stop) -> list[Record[Any]]:
        """Matching records for one invocation; none if there was nothing but filtered ones, or a stop came."""
        batch: list[Record[Any]] = []
        size = 0
        deadline_ms: int | None = None
        self.window_over = False
        while True:
            size, full = await self._take(batch, size)
            if full or self.window_over or self.at_end:
                self.window_over = self.window_over or (self.at_end and not full)
                return batch
            if batch and deadline_ms is None:
                deadline_ms = self._clock.now_ms() + round(self._mapping.batch_window * 1000)
            found = await self._source.read(self._wait_ms(deadline_ms), stop)
            self._pending.extend(found)
            self._tally.counts.polled += len(found)
            self._tally.publish("PolledEventCount", len(found))
            if stop.requested:
                return batch
            if not found and not self._pending and not self.at_end:
                if self._windows is not None and self._windows.over(self._clock.now_ms()):
                    self.window_over = True
                    return batch
                if not batch or self._clock.now_ms() >= (deadline_ms or 0):
                    return batch

    def _wait_ms(self, deadline_ms: int | None) -> int:
        now_ms = self._clock.now_ms()
        if deadline_ms is not None:
            wait_ms = max(0, deadline_ms - now_ms)
        elif (due_in_ms := self._committing.due_in_ms()) is not None:
            wait_ms = min(due_in_ms, _WAIT_MS)
        else:
            # Before waiting for records, what was filtered out is committed.
            wait_ms = 0 if self.taken_to > self._committing.checkpoint else _WAIT_MS
        if self._windows is not None and (end_ms := self._windows.end_ms) is not None:
            wait_ms = min(wait_ms, max(0, end_ms - now_ms))
        return wait_ms

    async def _take(self, batch: list[Record[Any]], size: int) -> tuple[int, bool]:
        """Move matching records from what is pending to the batch, until it is full or its window is over."""
        while self._pending:
            size, full = self._take_some(batch, size)
            if full or self.window_over:
                return size, full
            if self._pending:
                await asyncio.sleep(0)
        return size, False

    def _take_some(self, batch: list[Record[Any]], size: int) -> tuple[int, bool]:
        filters, windows, limit = self._mapping.record_filters, self._windows, self._mapping.batch_limit
        taken = filtered = 0
        full = False
        for stored in self._pending[:_AT_ONCE]:
            if windows is not None and not windows.admits(stored.arrival_ms):
                self.window_over = True
                break
            if filters is None or filters.matches(stored):
                bytes_ = event_bytes(stored)
                if batch and size + bytes_ > BATCH_BYTES:
                    full = True
                    break
                if windows is not None:
                    windows.open(stored.arrival_ms)
                batch.append(Record(stored, self._shard_id, self._codec))
                size += bytes_
                full = len(batch) >= limit
            else:
                filtered += 1
            taken += 1
            if full:
                break
        if taken:
            self.taken_to = self._pending[taken - 1].sequence_number
            del self._pending[:taken]
        self._tally.counts.filtered_out += filtered
        self._tally.publish("FilteredOutEventCount", filtered)
        return size, full

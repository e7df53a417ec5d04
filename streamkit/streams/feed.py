"""One shard of a consumer: its lease, its checkpoint, and what was read ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Generic, TypeVar

from streamkit.codecs import Codec
from streamkit.errors import LeaseLostError, NotFoundError, ValidationError
from streamkit.streams.aggregation import any_aggregated, user_records
from streamkit.streams.lease import WHOLE, Lease, Position, position_of
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import Batch, Record, StoredRecord
from streamkit.streams.store import StreamStore
from streamkit.streams.stream_metrics import GetMetrics

T = TypeVar("T")

logger = logging.getLogger("streamkit.streams")

# Any wait will do, because the append ends it; one shorter than an iterator's life keeps the iterator in use.
_WAIT_MS = 240_000
# Of so many aggregated records before the checkpoint it is known how many user records they have.
_MOST_ENDS = 10_000


class ShardFeed(Generic[T]):
    """Reads a shard one batch ahead of what was handed out, and no further, in a task of its own."""

    def __init__(
        self,
        lease: Lease,
        store: StreamStore,
        leases: LeaseTable,
        codec: Codec[T],
        *,
        changed: Callable[[ShardFeed[T]], None],
        missed: Callable[[int], None],
        reads: GetMetrics | None = None,
        formerly: Position = (0, 0),
    ) -> None:
        """The lease is ours.

        ``changed`` is called when there is something to hand out, when a shard that is drained had a checkpoint, and
        when the task has ended; ``missed`` with the number of records that were trimmed unread. ``formerly``: up to
        where the shard was handed out under leases that we lost. ``reads`` are told what is read.
        """
        self.lease = lease
        self.ahead: list[Record[T]] = []
        """Read and not handed out: what one call of the store returned, and what was handed back before it."""
        self.lost = False
        """Somebody else has the lease."""
        self.expired = False
        """The shard is not there any more."""
        self.draining = False
        """Nothing more is handed out: somebody else will have the lease."""
        self.error: Exception | None = None
        """What the task failed with. It can be started again."""
        self._began = self.handed_out = self.position
        """Up to where this feed has handed out."""
        self.formerly = formerly
        self._in_hand_to = self.position
        self._behind_ms = 0
        self._leases = leases
        self._codec = codec
        self._missed = missed
        # Before which records how many were trimmed unread, and was not told yet.
        self._gaps: dict[int, int] = {}
        # The last user record of aggregated records; after it, all of the record is done.
        self._ends: dict[int, int] = {}
        self._read_to = self.position
        self._reader = ShardReader(
            store,
            lease.stream,
            lease.shard_id,
            "AFTER_SEQUENCE_NUMBER",
            sequence_number=lease.done_to,
            stream_id=lease.stream_id,
            metrics=reads,
        )
        self._notify = changed
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._moved = asyncio.Event()

    @property
    def shard_id(self) -> str:
        """Of the shard."""
        return self.lease.shard_id

    @property
    def position(self) -> Position:
        """Everything up to here is done."""
        return self.lease.position

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that reads, while it does."""
        return self._task if self._task is not None and not self._task.done() else None

    @property
    def in_hand(self) -> bool:
        """Whether something was handed out that has no checkpoint and was not handed back."""
        return self._in_hand_to > self.position

    @property
    def has_something(self) -> bool:
        """Whether there is something to hand out now."""
        return bool(self.ahead) and not self.draining

    def start(self, max_records: Callable[[], int]) -> None:
        """Read, ``max_records()`` at a time, until the shard is closed and wholly checkpointed."""
        self.error = None
        self._task = asyncio.create_task(self._read(max_records), name=f"{self.lease.consumer} {self.shard_id}")
        # Not at the end of the coroutine: one that is cancelled before its first step never comes there.
        self._task.add_done_callback(lambda _: self._notify(self))

    def hand_out(self, max_records: int) -> Batch[T]:
        """The next of ``ahead``, which is not empty."""
        count = min(max_records, len(self.ahead))
        trimmed = 0
        if self._gaps:
            trimmed = self._gaps.pop(self.ahead[0].sequence_number, 0)
            count = next((at for at in range(1, count) if self.ahead[at].sequence_number in self._gaps), count)
        records, self.ahead = self.ahead[:count], self.ahead[count:]
        self._in_hand_to = position_of(records[-1])
        self.handed_out = max(self.handed_out, self._in_hand_to)
        self._moved.set()
        return Batch(self.shard_id, records, self._behind_ms, trimmed)

    def hand_back(self, batch: Batch[T]) -> None:
        """What of a batch has no checkpoint is to be handed out again, before anything later.

        It is all that is in hand.
        """
        if self.lost:
            return
        # What another feed handed out, before the lease was lost and gained again, this one reads itself.
        left = [record for record in batch if self.position < position_of(record) <= self.handed_out]
        if left:
            self.ahead = [*left, *self.ahead]
            if batch.trimmed and left[0] is batch.records[0]:
                self._gaps[left[0].sequence_number] = batch.trimmed
        self._in_hand_to = self.position

    async def checkpoint(self, done: Batch[T] | Record[T]) -> None:
        """See Consumer.checkpoint."""
        position = position_of(done)
        if not self.lost and position > self.handed_out:
            self._check_not_former(position)
            raise ValidationError(f"{done!r} was not handed out by this consumer: checkpoint what its batches() gave")
        if self._ends.get(position[0]) == position[1]:
            position = position[0], WHOLE
        # One after the other, so that of two that overlap the lower cannot come last.
        async with self._writing:
            if self.lost:
                raise LeaseLostError(self.lease.consumer, self.shard_id)
            if position < self.position:
                self._check_not_former(position)
                raise ValidationError(f"{done!r} is behind the checkpoint {self.position[0]}, which only moves forward")
            number, subsequence = position
            try:
                self.lease = await self._leases.checkpoint(
                    self.lease, number, None if subsequence == WHOLE else subsequence, finished=self.lease.finished
                )
            except LeaseLostError:
                self.lose()
                raise
        if self._ends:
            self._ends = {each: end for each, end in self._ends.items() if each >= number}
        self._moved.set()
        if self.draining:
            self._notify(self)

    def _check_not_former(self, position: Position) -> None:
        if position <= self.formerly and not self._began < position <= self.handed_out:
            # Handed out before we lost the lease, and not since we have it again.
            raise LeaseLostError(self.lease.consumer, self.shard_id)

    def lose(self) -> None:
        """The lease is not ours any more."""
        if not self.lost:
            self.lost = True
            self.ahead = []
            if self.task is not None and self.task is not asyncio.current_task():
                self.task.cancel()
            self._notify(self)

    async def _read(self, max_records: Callable[[], int]) -> None:
        try:
            while not self._reader.at_end:
                await self._until(lambda: not self.ahead)
                found = await self._reader.read(max_records(), _WAIT_MS)
                if found.trimmed:
                    self._note_trimmed(found.trimmed, found.records)
                if found.records:
                    # After what was handed back while this was read.
                    # INVARIANT: test_what_is_handed_back_while_the_next_is_read_is_not_lost
                    self.ahead += self._records(found.records)
                    self._behind_ms = found.millis_behind_latest
                    self._notify(self)
            await self._until(lambda: self.position >= self._read_to)
            async with self._writing:
                number = max(self.position[0], self._reader.sequence_number)
                self.lease = await self._leases.checkpoint(self.lease, number, finished=True)
        except LeaseLostError:
            self.lose()
        except NotFoundError as error:
            self.expired = error.kind == "shard"
            self.error = None if self.expired else error
        except Exception as error:
            self.error = error

    def _records(self, stored: Sequence[StoredRecord]) -> list[Record[T]]:
        """What was read, as it is handed out. HOT: `python -m benchmarks --only read`."""
        if not any_aggregated(stored):
            self._read_to = stored[-1].sequence_number, WHOLE
            records = list(map(Record, stored, repeat(self.shard_id), repeat(self._codec)))
        else:
            records = []
            for outer in stored:
                # Without the shard's range: a straddler of a reshard is in one shard only, and nothing of it is lost.
                inner = user_records(outer)
                if inner is None:
                    records.append(Record(outer, self.shard_id, self._codec))
                else:
                    at = outer.sequence_number
                    self._ends[at] = len(inner) - 1
                    records.extend(Record(each, self.shard_id, self._codec, sub) for sub, each in enumerate(inner))
            while len(self._ends) > _MOST_ENDS:
                # A consumer that writes no checkpoints. One within such a record will not say that it was all of it.
                del self._ends[next(iter(self._ends))]
            if records:
                self._read_to = position_of(records[-1])
        if self.lease.subsequence is not None and stored[0].sequence_number == self.lease.checkpoint:
            records = [record for record in records if position_of(record) > self.position]
        return records

    def _note_trimmed(self, count: int, following: Sequence[StoredRecord]) -> None:
        logger.warning(
            "consumer %s missed %d records of %s: the retention of stream %s took them before they were read",
            self.lease.consumer,
            count,
            self.shard_id,
            self.lease.stream,
            extra={"consumer": self.lease.consumer, "stream": self.lease.stream, "shard": self.shard_id},
        )
        if following:
            self._gaps[following[0].sequence_number] = count
        self._missed(count)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for what a checkpoint or a hand-out brings about. Only the task waits here."""
        while not condition():
            self._moved.clear()
            await self._moved.wait()

"""One shard of a consumer: its lease, its checkpoint, and what was read ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from streamkit.codecs import Codec
from streamkit.errors import LeaseLostError, ValidationError
from streamkit.streams.lease import Lease, LeaseTable
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import Batch, Record
from streamkit.streams.store import StreamStore

T = TypeVar("T")

# Any wait will do, because the append ends it; one shorter than an iterator's life keeps the iterator in use.
_WAIT_MS = 240_000


class ShardFeed(Generic[T]):
    """Reads a shard one batch ahead of what was handed out, and no further, in a task of its own."""

    def __init__(
        self,
        lease: Lease,
        parents: tuple[str, ...],
        store: StreamStore,
        leases: LeaseTable,
        codec: Codec[T],
        *,
        changed: Callable[[ShardFeed[T]], None],
    ) -> None:
        """``changed`` is called when there is something to hand out, and when the task has ended."""
        self.lease = lease
        self.parents = parents
        self.ahead: list[Record[T]] = []
        """Read and not handed out: at most one batch, and what was handed back before it."""
        self.lost = False
        """Somebody else has the lease."""
        self.error: Exception | None = None
        """What the task failed with. It can be started again."""
        self._handed_out = self.checkpoint_number
        self._behind_ms = 0
        self._leases = leases
        self._codec = codec
        self._reader = ShardReader(
            store,
            lease.stream,
            lease.shard_id,
            "AFTER_SEQUENCE_NUMBER",
            sequence_number=self.checkpoint_number,
            stream_id=lease.stream_id,
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
    def checkpoint_number(self) -> int:
        """Everything up to this sequence number is done."""
        return self.lease.checkpoint or 0

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that reads, while it does."""
        return self._task if self._task is not None and not self._task.done() else None

    def start(self, max_records: Callable[[], int], at_end: Callable[[], Awaitable[None]]) -> None:
        """Read, ``max_records()`` at a time. ``at_end`` is awaited when the shard is closed and wholly checkpointed."""
        self.error = None
        self._task = asyncio.create_task(self._read(max_records, at_end), name=f"{self.lease.consumer} {self.shard_id}")
        # Not at the end of the coroutine: one that is cancelled before its first step never comes there.
        self._task.add_done_callback(lambda _: self._notify(self))

    def hand_out(self, max_records: int) -> Batch[T]:
        """The next of ``ahead``, which is not empty."""
        records, self.ahead = self.ahead[:max_records], self.ahead[max_records:]
        self._handed_out = max(self._handed_out, records[-1].sequence_number)
        self._moved.set()
        return Batch(self.shard_id, records, self._behind_ms)

    def hand_back(self, batch: Batch[T]) -> None:
        """What of a batch has no checkpoint is to be handed out again, before anything later."""
        if not self.lost:
            self.ahead = [*(r for r in batch if r.sequence_number > self.checkpoint_number), *self.ahead]

    async def checkpoint(self, done: Batch[T] | Record[T]) -> None:
        """See Consumer.checkpoint."""
        number = done.last_sequence_number if isinstance(done, Batch) else done.sequence_number
        if number > self._handed_out:
            raise ValidationError(f"{done!r} was not handed out by this consumer: checkpoint what its batches() gave")
        # One after the other, so that of two that overlap the lower cannot come last.
        async with self._writing:
            if self.lost:
                raise LeaseLostError(self.lease.consumer, self.shard_id)
            if number < self.checkpoint_number:
                raise ValidationError(
                    f"{done!r} is behind the checkpoint {self.checkpoint_number}, which only moves forward"
                )
            try:
                self.lease = await self._leases.checkpoint(self.lease, number, finished=self.lease.finished)
            except LeaseLostError:
                self._lose()
                raise
        self._moved.set()

    def _lose(self) -> None:
        self.lost = True
        self.ahead = []
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        self._notify(self)

    async def _read(self, max_records: Callable[[], int], at_end: Callable[[], Awaitable[None]]) -> None:
        try:
            while not self._reader.at_end:
                await self._until(lambda: not self.ahead)
                found = await self._reader.read(max_records(), _WAIT_MS)
                if found.records:
                    self.ahead = [Record(stored, self.shard_id, self._codec) for stored in found.records]
                    self._behind_ms = found.millis_behind_latest
                    self._notify(self)
            await self._until(lambda: self.checkpoint_number >= self._reader.sequence_number)
            await at_end()
            async with self._writing:
                self.lease = await self._leases.checkpoint(self.lease, self.checkpoint_number, finished=True)
        except LeaseLostError as error:
            self.error = error
            self._lose()
        except Exception as error:
            self.error = error

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for what a checkpoint or a hand-out brings about. Only the task waits here."""
        while not condition():
            self._moved.clear()
            await self._moved.wait()

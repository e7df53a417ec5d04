"""A named reader of a whole stream: order per shard, a checkpoint per shard, nothing lost.

Follows the Kinesis Client Library (Amazon Kinesis Data Streams Developer Guide, "Use Kinesis Client Library"):
at-least-once, children of a closed shard after their parents, checkpoints fenced by leases.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from types import TracebackType
from typing import Generic, TypeVar

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import ClosedError, LeaseLostError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.streams.feed import ShardFeed
from streamkit.streams.handling import Handler, Handling
from streamkit.streams.lease import LeaseTable, Start
from streamkit.streams.record import Batch, Record
from streamkit.streams.store import StreamStore

T = TypeVar("T")

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_RECORDS = "SubscribeToShardEvent.Records"
_BEHIND = "SubscribeToShardEvent.MillisBehindLatest"


class Consumer(Generic[T]):
    """Hands out every record of a stream, in batches. Made by ``stream.consumer(name)``, used as ``async with``.

    Entering takes the leases of all shards. Each shard goes on from its checkpoint; where a name begins that was never
    there before is decided when it first enters, and kept. Consumers of different names have nothing to do with each
    other. Of two that live under one name the newer one goes on, and the older gets ``LeaseLostError`` from its next
    checkpoint.

    Ordering: by sequence number within a shard; a shard made by a split or a merge comes after its parents, once they
    are read and checkpointed to their end.
    Delivery: at least once. What is not checkpointed is read again by the next consumer of this name.
    Memory: each shard is read by a task of its own, one batch ahead of what was handed out and no further.
    Cancellation: anywhere, with nothing lost.
    """

    def __init__(
        self,
        name: str,
        stream: str,
        codec: Codec[T],
        store: StreamStore,
        leases: LeaseTable,
        clock: Clock,
        metrics: Metrics,
        *,
        start: Start = "TRIM_HORIZON",
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError(f"consumer name {name!r} is not valid: use 1 to 128 letters, digits, '_', '.' or '-'")
        if start not in ("TRIM_HORIZON", "LATEST"):
            raise ValidationError(f"start={start!r} is not a place to start a consumer: use TRIM_HORIZON or LATEST")
        self.name = name
        self.stream = stream
        """The stream's name."""
        self._codec = codec
        self._store = store
        self._leases = leases
        self._clock = clock
        self._metrics = metrics
        self._start: Start = start
        self._owner = uuid.uuid4().hex
        self._open: bool | None = None
        self._feeds: dict[str, ShardFeed[T]] = {}
        self._adopting = asyncio.Lock()
        self._max_records = 1
        # Shards with something to hand out, the one that waits longest first; and those whose task has ended.
        self._ready: dict[str, ShardFeed[T]] = {}
        self._ended: set[str] = set()
        self._changed = asyncio.Event()
        self._samples: tuple[Metric, Metric] | None = None

    def __repr__(self) -> str:
        return f"Consumer({self.name!r} of stream {self.stream!r})"

    async def __aenter__(self) -> Consumer[T]:
        if self._open is not None:
            raise ClosedError(repr(self))
        await self._adopt()
        # Not before there is such a stream: then its name is one that a metric can have.
        self._samples = (self.metric(_RECORDS), self.metric(_BEHIND))
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        tasks = [feed.task for feed in self._feeds.values() if feed.task is not None]
        for task in tasks:
            task.cancel()
        # The tasks end at once, so a cancellation that comes meanwhile can wait for them. Their end wakes who waits.
        cancelled: asyncio.CancelledError | None = None
        while not all(task.done() for task in tasks):
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled

    def metric(self, name: str) -> Metric:
        """One of this consumer's metrics, for an alarm.

        ``SubscribeToShardEvent.Records`` and ``SubscribeToShardEvent.MillisBehindLatest`` have one sample per batch.
        """
        return Metric.of("AWS/Kinesis", name, StreamName=self.stream, ConsumerName=self.name)

    def batches(self, *, max_records: int = 500) -> AsyncIterator[Batch[T]]:
        """Batches of up to ``max_records``, each of one shard and in order, waiting for more; ``async for`` over it.

        The append ends the wait; nothing polls. Each batch is handed out once: a later call goes on after it. It
        ends when every shard is closed, read and checkpointed, so with open shards never.

        Cancellation: while waiting, no batch is lost.

        Raises:
            ValidationError: ``max_records`` is out of the engine's range.
            NotFoundError: the stream was deleted.
            LeaseLostError: every shard was lost to a newer consumer of this name.
            ClosedError: the block was left, or not entered; or the engine is closed.
            StorageError: a shard could not be read; asking again tries again.
        """
        return _Batches(self._next, max_records, ())

    async def checkpoint(self, done: Batch[T] | Record[T]) -> None:
        """Everything of its shard up to this batch or record is done; durable when it returns.

        Cancellation: the checkpoint was moved or it was not; asking again is harmless.

        Raises:
            LeaseLostError: a newer consumer of this name has the shard. Nothing was stored, and this consumer hands
                out nothing more of the shard.
            ValidationError: it was not handed out by this consumer, or the checkpoint is further on already.
            ClosedError: the block was left, or not entered.
        """
        self._check_open()
        feed = self._feeds.get(done.shard_id)
        if feed is None:
            raise ValidationError(f"{done!r} was not handed out by this consumer: it has no {done.shard_id}")
        await feed.checkpoint(done)

    async def run(
        self,
        handler: Handler[T],
        *,
        max_records: int = 500,
        retry: Retry | None = None,
        attempts: int | None = None,
    ) -> None:
        """Call ``handler`` with batch after batch and checkpoint each when it returned. Runs until cancelled.

        Shards go side by side, the batches of one shard one after the other. A handler that raises is called again
        with the same batch after a wait; its shard waits with it, the others go on. So does a checkpoint that failed
        with a retryable error.

        Args:
            handler: a coroutine function, or a plain function, which runs in a worker thread.
            max_records: most of a batch.
            retry: the waits between attempts; None: ``Retry()``.
            attempts: how often a batch is tried before its error is raised. None: for ever, as the Kinesis Client
                Library and Lambda do.

        Cancellation: asynchronous handlers are cancelled, those in threads are waited for. Batches without a
        checkpoint are handed out again, by this consumer or the next.

        Raises:
            Exception: what ``handler`` raised at the last of its attempts; the handlers of other shards were cancelled.
            LeaseLostError: a newer consumer of this name has a shard.
            StreamKitError: as of ``batches`` and ``checkpoint``.
        """
        if attempts is not None and attempts < 1:
            raise ValidationError(f"attempts must be at least 1, or None for no end, not {attempts}")
        handling = Handling(handler, self._clock, retry or Retry(), attempts)
        busy: dict[str, Batch[T]] = {}
        try:
            await handling.run(_Batches(self._next, max_records, busy), busy, self.checkpoint, self._wake)
        finally:
            for batch in busy.values():
                feed = self._feeds[batch.shard_id]
                feed.hand_back(batch)
                self._feed_changed(feed)

    # ---- handing out

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError(f"{self!r} (outside its async with block)")

    async def _next(self, max_records: int, busy: Container[str]) -> Batch[T] | None:
        """The next batch of a shard that is not ``busy``; None: there is none and there will be none."""
        if max_records < 1:
            raise ValidationError(f"max_records must be at least 1, not {max_records}")
        self._max_records = max_records
        while True:
            self._check_open()
            self._look_after_ended()
            for shard_id, feed in self._ready.items():
                if shard_id not in busy:
                    return self._hand_out(feed, max_records)
            if not any(feed.task for feed in self._feeds.values()):
                for shard_id, feed in self._feeds.items():
                    if feed.lost:
                        raise LeaseLostError(self.name, shard_id)
                return None
            await self._changed.wait()

    def _hand_out(self, feed: ShardFeed[T], max_records: int) -> Batch[T]:
        # ATOMIC: nothing awaits from here to the caller, so a batch that is taken arrives
        # INVARIANT: test_cancelling_a_consumer_anywhere_loses_nothing
        batch = feed.hand_out(max_records)
        del self._ready[feed.shard_id]
        if feed.ahead:
            self._ready[feed.shard_id] = feed
        if self._samples is not None:
            records, behind = self._samples
            now_ms = self._clock.now_ms()
            self._metrics.put(records, len(batch), now_ms)
            self._metrics.put(behind, batch.millis_behind_latest, now_ms)
        return batch

    # ---- reading

    def _feed_changed(self, feed: ShardFeed[T]) -> None:
        if feed.ahead:
            self._ready[feed.shard_id] = feed
        else:
            self._ready.pop(feed.shard_id, None)
        if feed.task is None:
            self._ended.add(feed.shard_id)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _look_after_ended(self) -> None:
        """Raise what a task failed with; see that every shard whose turn has come is read."""
        if not self._ended:
            return
        errors = [feed.error for feed in self._feeds.values() if feed.error is not None]
        if errors:
            for feed in self._feeds.values():
                feed.error = None
            raise errors[0]
        self._ended.clear()
        for feed in self._feeds.values():
            if feed.task is None and not feed.lost and not feed.lease.finished:
                parents = [self._feeds[parent] for parent in feed.parents if parent in self._feeds]
                if all(parent.lease.finished for parent in parents):
                    feed.start(lambda: self._max_records, self._adopt)

    async def _adopt(self) -> None:
        """Take the leases of all shards that are not ours yet. Children's come before their parent is finished."""
        async with self._adopting:
            stream = await self._store.describe_stream(self.stream)
            parents = {
                shard.shard_id: shard.parent_shard_ids for shard in stream.shards if shard.shard_id not in self._feeds
            }
            leases = await self._leases.take_all(
                self.name, stream, self._owner, start=self._start, shard_ids=list(parents)
            )
            for shard_id, lease in leases.items():
                self._feeds[shard_id] = ShardFeed(
                    lease, parents[shard_id], self._store, self._leases, self._codec, changed=self._feed_changed
                )
                self._ended.add(shard_id)


class _Batches(AsyncIterator[Batch[T]]):
    """``async for`` over a consumer's batches. Not a generator, so leaving the loop leaves nothing behind."""

    def __init__(
        self,
        following: Callable[[int, Container[str]], Awaitable[Batch[T] | None]],
        max_records: int,
        busy: Container[str],
    ) -> None:
        self._following = following
        self._max_records = max_records
        self._busy = busy

    async def __anext__(self) -> Batch[T]:
        batch = await self._following(self._max_records, self._busy)
        if batch is None:
            raise StopAsyncIteration
        return batch

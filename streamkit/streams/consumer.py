"""A named reader of a whole stream: order per shard, a checkpoint per shard, nothing lost.

Follows the Kinesis Client Library (Amazon Kinesis Data Streams Developer Guide, "Use Kinesis Client Library"):
at-least-once, children of a closed shard after their parents, checkpoints fenced by leases.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Container
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import ClosedError, ReadOnlyError, StorageError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import Column, Rows
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.spans import Tracing
from streamkit.streams import traced
from streamkit.streams.balance import Leasing
from streamkit.streams.coordinator import Coordinator, Holder
from streamkit.streams.feed import ShardFeed
from streamkit.streams.feeds import Batches, Feeds
from streamkit.streams.handling import Handler, Handling, Hold
from streamkit.streams.lag import Lag, lag_of
from streamkit.streams.lease import Lease, Start
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch, Record
from streamkit.streams.store import StreamStore
from streamkit.streams.stream_metrics import GetMetrics

T = TypeVar("T")

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_SUCCESS = "SubscribeToShardEvent.Success"
_EVENT: tuple[tuple[str, Unit], ...] = (
    ("SubscribeToShardEvent.Records", "Count"),
    ("SubscribeToShardEvent.Bytes", "Bytes"),
    ("SubscribeToShardEvent.MillisBehindLatest", "Milliseconds"),
    (_SUCCESS, "Count"),
)
_TRIMMED = "RecordsTrimmed"
_BEHIND_RECORDS = "RecordsBehindLatest"


class Consumer(Generic[T]):
    """Hands out every record of a stream, in batches. Made by ``stream.consumer(name)``, used as ``async with``.

    Several may be entered under one name, in one process or, where the tables are shared, in several: they are workers
    that share the stream's shards evenly, each shard with one of them at a time. A worker that enters takes the shards
    that are free, and asks others for some of theirs until all have as many; they finish what is in hand, checkpoint
    and hand over. One that leaves its block lets its shards go at once; one that dies is noticed after
    ``Leasing.failover`` (at once, if the engine was opened anew since). A worker that lost a shard gets nothing more of
    it, and ``LeaseLostError`` from a checkpoint of it; it goes on with its others. A worker that is entered keeps its
    shards, also while it asks for no batches.

    Each shard goes on from its checkpoint; where a name begins that was never there before is decided when it first
    enters, and kept. Consumers of different names have nothing to do with each other.

    Ordering: by sequence number within a shard; a shard made by a split or a merge comes after its parents, once they
    are read and checkpointed to their end, whoever reads them.
    Delivery: at least once. What is not checkpointed is read again by whoever has the shard next.
    Retention: records that were trimmed before they were read are counted in the next batch's ``trimmed``, in a warning
    of the log and in the metric ``RecordsTrimmed``.
    Memory: each shard is read by a task of its own, one read of ``max_records`` ahead of what was handed out and no
    further, however long nobody asks for it.
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
        leasing: Leasing | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError(f"consumer name {name!r} is not valid: use 1 to 128 letters, digits, '_', '.' or '-'")
        if start not in ("TRIM_HORIZON", "LATEST"):
            raise ValidationError(f"start={start!r} is not a place to start a consumer: use TRIM_HORIZON or LATEST")
        self.name = name
        self.stream = stream
        """The stream's name."""
        self._store = store
        self._leases = leases
        self._feeds: Feeds[T] = Feeds(
            store,
            leases,
            codec,
            ended=self._ended,
            idle=lambda: self._coordinator.wake(),
            missed=lambda count: self._sample(_TRIMMED, count, "Count"),
            reads=GetMetrics(stream, clock, metrics),
        )
        self._coordinator = Coordinator(
            name,
            stream,
            start,
            leasing or Leasing(),
            store=store,
            leases=leases,
            clock=clock,
            holder=Holder(
                self._gained,
                self._feeds.lose,
                self._feeds.drain,
                self._feeds.resume,
                self._looked,
                self._feeds.wake,
            ),
        )
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._open: bool | None = None
        self._samples: dict[str, Metric] = {}
        self._events: Rows | None = None

    def __repr__(self) -> str:
        return f"Consumer({self.name!r} of stream {self.stream!r})"

    def _repr_html_(self) -> str:
        from streamkit.metrics.picture import latest, level
        from streamkit.showing.html import badge, card

        state = (
            badge("reading", "good") if self._open else badge("not entered" if self._open is None else "left", "quiet")
        )
        behind = partial(self.metric, _BEHIND_RECORDS)
        facts = {"stream": self.stream, "": state, "records behind": latest(self._metrics, behind)}
        picture = level(self._metrics, self._clock.now_ms(), behind, "Maximum", "records behind")
        return card("Consumer", self.name, facts, picture, hint="`await consumer.lag()` says how far it is behind, now")

    async def __aenter__(self) -> Consumer[T]:
        if self._open is not None:
            raise ClosedError(repr(self))
        try:
            await self._coordinator.enter()
        except ReadOnlyError as error:
            await self._stop()
            action = (
                f"enter consumer {self.name!r}, which keeps its checkpoints there; stream.tail(follow=True) keeps none"
            )
            raise ReadOnlyError(error.url, action) from None
        except BaseException:
            await self._stop()
            raise
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        await self._stop()

    async def _stop(self) -> None:
        """End all tasks and let go of all leases. A cancellation that comes meanwhile waits for that."""
        leaving = asyncio.create_task(self._leave(), name=f"{self.name} leaves {self.stream}")
        cancelled: asyncio.CancelledError | None = None
        while not leaving.done():
            try:
                await asyncio.wait([leaving])
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled
        if not leaving.cancelled():
            leaving.result()

    async def _leave(self) -> None:
        await self._feeds.close()
        await self._coordinator.leave()
        self._feeds.wake()

    def metric(self, name: str) -> Metric:
        """One of this consumer's metrics, for an alarm.

        ``SubscribeToShardEvent.Records``, ``.Bytes``, ``.MillisBehindLatest`` and ``.Success`` have one sample per
        batch; ``SubscribeToShard.Success`` has one per shard that a worker begins to read;
        ``RecordsTrimmed`` has one whenever retention took records before they were read; ``RecordsBehindLatest`` has
        one at each look around of each worker, with what all of them together are behind (so look at its Maximum).
        """
        namespace = "AWS/Kinesis" if name.startswith("SubscribeToShard") else "streamkit"
        return Metric.of(namespace, name, StreamName=self.stream, ConsumerName=self.name)

    async def lag(self) -> Lag:
        """How far the consumer is behind, all its workers together, by shard. It need not be entered.

        Raises:
            NotFoundError: there is no such stream, or no consumer of this name has ever entered.
        """
        return await lag_of(self.name, self.stream, self._store, self._leases, self._clock)

    def batches(self, *, max_records: int = 500) -> AsyncIterator[Batch[T]]:
        """Batches of up to ``max_records``, each of one shard and in order, waiting for more; ``async for`` over it.

        The append ends the wait; nothing polls. Each batch is handed out once: a later call goes on after it. It
        ends when every shard of the stream is closed, read and checkpointed, so with open shards never: a worker that
        has none of them waits until it does.

        Cancellation: while waiting, no batch is lost.

        Raises:
            ValidationError: ``max_records`` is out of the engine's range.
            NotFoundError: the stream was deleted.
            ClosedError: the block was left, or not entered; or the engine is closed.
            StorageError: a shard could not be read; asking again tries again.
        """
        return Batches(self._next_told, max_records, ())

    async def checkpoint(self, done: Batch[T] | Record[T]) -> None:
        """Everything of its shard up to this batch or record is done; durable when it returns.

        Cancellation: the checkpoint was moved or it was not; asking again is harmless.

        Raises:
            LeaseLostError: another worker of this name has the shard, or had it in between. Nothing was stored, and
                this one hands out nothing more of the shard until it has it again. Drop the batch, and go on.
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
        concurrency: int = 1,
        retry: Retry | None = None,
        attempts: int | None = None,
    ) -> None:
        """Call ``handler`` with batch after batch and move the checkpoint when it returned. Runs until cancelled.

        Shards go side by side. With a ``concurrency`` of 1 the batches of a shard go one after the other, each with its
        checkpoint. With more, that many calls of a shard go at once, each with records that have no partition key in
        common with another's: records of one key never overlap and keep their order, and a slow key does not hold up
        the others, until ``2 * concurrency * max_records`` records of the shard are in hand, counted from the
        checkpoint on. The checkpoint moves up to the first record that is not done, one write at a time, so what comes
        after it is handled again after a crash. Do not write checkpoints in such a handler: they would cover records
        of other calls. (Lambda's ParallelizationFactor divides a shard by a hash of the key; here any key may go when
        it is free.)

        A handler that raises is called again with the same batch after a wait; its shard, or its keys, wait with it,
        the others go on. Such a failure is logged with the exception's type and traceback but without its text, which
        may quote the data: to see it, log it in the handler, or give ``attempts``, after which it is raised. A
        checkpoint that fails with a retryable error is tried again without the handler. What is in hand of a shard
        whose lease is lost is dropped, because its new owner does it; the others go on.

        Args:
            handler: a coroutine function, or a plain function, which runs in a worker thread.
            max_records: most of a batch.
            concurrency: most calls at once per shard.
            retry: the waits between attempts; None: ``Retry()``.
            attempts: how often a batch is tried before its error is raised. None: for ever, as the Kinesis Client
                Library and Lambda do.

        Cancellation: asynchronous handlers are cancelled, those in threads are waited for. Records without a
        checkpoint are handed out again, by this consumer or the next.

        Raises:
            Exception: what ``handler`` raised at the last of its attempts; the other handlers were cancelled.
            LeaseLostError: as of ``batches``.
            StreamKitError: as of ``batches`` and ``checkpoint``.
            ValidationError: an argument is out of range.
        """

        def held(shard_id: str) -> ShardFeed[T] | None:
            feed = self._feeds.get(shard_id)
            return None if feed is None or feed.lost else feed

        def hand_back(batch: Batch[T]) -> None:
            if (feed := held(batch.shard_id)) is not None:
                feed.hand_back(batch)
                self._feeds.changed(feed)

        handling = Handling(
            handler,
            Hold(self.name, self.stream, held, self.checkpoint, hand_back, self._feeds.wake),
            self._clock,
            concurrency=concurrency,
            max_records=max_records,
            retry=retry,
            attempts=attempts,
            around=self._around,
        )
        await handling.run(Batches(self._next, max_records, handling.busy))

    # ---- handing out

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError(f"{self!r} (outside its async with block)")

    async def _next_told(self, max_records: int, busy: Container[str]) -> Batch[T] | None:
        batch = await self._next(max_records, busy)
        if batch is not None and self._tracing.spans is not None:
            traced.handed_out(self._tracing.spans, batch, self.stream, self.name)
        return batch

    def _around(self, batch: Batch[T]) -> AbstractContextManager[object]:
        spans = self._tracing.spans
        return nullcontext() if spans is None else traced.processing(spans, batch, self.stream, self.name)

    async def _next(self, max_records: int, busy: Container[str]) -> Batch[T] | None:
        """The next batch of a shard that is not ``busy``; None: there is none and there will be none."""
        if max_records < 1:
            raise ValidationError(f"max_records must be at least 1, not {max_records}")
        while True:
            self._check_open()
            if (error := self._coordinator.error) is not None:
                self._coordinator.error = None
                raise error
            try:
                batch = self._feeds.take(max_records, busy)
            except StorageError:
                self._sample(_SUCCESS, 0, "Count")
                raise
            if batch is not None:
                if self._events is None:
                    self._events = self._metrics.rows(*(Column(self.metric(name), unit) for name, unit in _EVENT))
                size = sum([len(record.stored.data) for record in batch.records])
                self._events.add((len(batch), size, batch.millis_behind_latest, 1), self._clock.now_ms())
                return batch
            if self._coordinator.at_end:
                return None
            await self._feeds.wait()

    def _sample(self, name: str, value: float, unit: Unit) -> None:
        # A metric is made when there is such a stream: then its name is one that a metric can have.
        metric = self._samples.get(name)
        if metric is None:
            metric = self._samples[name] = self.metric(name)
        self._metrics.put(metric, value, self._clock.now_ms(), 1, unit)

    def _gained(self, lease: Lease) -> None:
        self._sample("SubscribeToShard.Success", 1, "Count")
        self._feeds.gain(lease)

    def _ended(self, feed: ShardFeed[T]) -> None:
        if feed.lost or feed.expired:
            self._coordinator.forget(feed.shard_id)
        else:
            self._coordinator.finished(feed.shard_id)

    def _looked(self, behind: int) -> None:
        self._sample(_BEHIND_RECORDS, behind, "Count")
        if self._coordinator.at_end:
            self._feeds.wake()

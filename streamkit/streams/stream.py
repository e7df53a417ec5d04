"""A stream as its users hold it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import EllipsisType
from typing import Generic, Literal, TypeVar, overload

from msgspec.structs import replace

from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import NotFoundError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.spans import Tracing
from streamkit.streams import traced
from streamkit.streams.balance import Leasing
from streamkit.streams.buffer import Batching
from streamkit.streams.consumer import Consumer
from streamkit.streams.follow import Follow
from streamkit.streams.gather import Gathering
from streamkit.streams.lag import Lag, lag_of
from streamkit.streams.lease import Start
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.look import Look
from streamkit.streams.producer import Producer
from streamkit.streams.record import Record
from streamkit.streams.reshard import next_step
from streamkit.streams.sample import Sample
from streamkit.streams.store import (
    Merge,
    ProducerSequences,
    PutColumns,
    PutEntry,
    PutResult,
    Split,
    StreamDescription,
    StreamMode,
    StreamStore,
    retention_ms_of,
)
from streamkit.streams.stream_metrics import Operation, PutMetrics, stream_metric
from streamkit.tables.store import TableStore

T = TypeVar("T")


class Stream(Generic[T]):
    """A sharded log of typed records: put, consume, look at. A handle: cheap to make, and the stream need not exist.

    Mirrors Kinesis Data Streams (PutRecord, PutRecords, DescribeStream) and the Kinesis Client Library (consumers).
    Every method may raise ``NotFoundError`` (there is no such stream), ``StorageError`` and ``ClosedError``.
    Its metrics have AWS's names, units and meanings (docs/metrics.md): one update per call of the store.
    """

    def __init__(
        self,
        name: str,
        codec: Codec[T],
        store: StreamStore,
        tables: TableStore,
        clock: Clock,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self.name = name
        self.codec = codec
        self._store = store
        self._leases = LeaseTable(tables)
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._puts = PutMetrics(name, clock, metrics)
        self._gathering = Gathering(lambda entries: self._put_records(entries, operation="PutRecord"))
        self._look = Look(name, codec, store, clock, metrics)

    def __repr__(self) -> str:
        return f"Stream({self.name!r}, {self.codec!r})"

    def _repr_html_(self) -> str:
        from streamkit.metrics.picture import total, traffic
        from streamkit.showing.html import card
        from streamkit.showing.words import size, type_name

        put = total(self._metrics, lambda: self.metric("IncomingRecords"))
        volume = total(self._metrics, lambda: self.metric("IncomingBytes"))
        facts = {
            "values": type_name(self.codec.type),
            "put since the kit was opened": None if put is None else f"{put:,} records, {size(volume or 0)}",
        }
        picture = traffic(self._metrics, self._clock.now_ms(), lambda: self.metric("IncomingRecords"), "records")
        hint = "`await stream.head()` shows its records, `await stream.describe()` its shards"
        return card("Stream", self.name, facts, picture, hint=hint)

    async def put(
        self,
        value: T,
        *,
        partition_key: str,
        explicit_hash_key: int | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> PutResult:
        """Store one record; it is durable when this returns.

        Args:
            value: what the stream's ``type=`` says.
            partition_key: 1 to 256 characters; records of one key go to one shard and keep their order.
            explicit_hash_key: replaces the MD5 of the partition key when the shard is chosen; 0 to 2**128 - 1.
            attributes: up to ten named texts beside the value, 1 KiB together; see ``Record.attributes``.

        Cancellation: the record was stored or it was not.

        Raises:
            EncodeError: the value does not fit the stream's type.
            ValidationError: a key or an attribute is malformed or the record is over a limit.
            ThroughputExceededError: the shard refused it; try again.
        """
        data = self.codec.encode(value)
        spans = self._tracing.spans
        if spans is not None:
            gathered = partial(self._gathered, partition_key, data, explicit_hash_key)
            return await traced.put_one(spans, self.name, attributes, gathered)
        try:
            # As `_gathered`, without the call. HOT: `python -m benchmarks --only puts`.
            stored: Awaitable[PutResult] = self._gathering.put(partition_key, data, explicit_hash_key, attributes)
        except RuntimeError as error:
            stored = self._not_gathered(PutEntry(partition_key, data, explicit_hash_key, attributes), error)
        return await stored

    async def put_batch(self, values: Iterable[tuple[str, T]]) -> Sequence[PutResult]:
        """Store (partition key, value) pairs in one call; one result per pair, in order.

        A result has where its record went, or the ``error`` that refused it alone; what was not refused is durable.
        No pairs, no call. For more than one call takes, use a ``producer``. What ``put`` was called with before goes
        to the store first.

        Cancellation: each record was stored or it was not.

        Raises:
            EncodeError: a value does not fit the stream's type; nothing was stored.
            ValidationError: a pair is malformed, or one or all together are over a limit; nothing was stored.
        """
        pairs = list(values)
        if not pairs:
            return []
        # Two passes cost less than one ``zip(*pairs)``.
        keys = [key for key, _ in pairs]
        entries = PutColumns(keys, self.codec.encode_all([value for _, value in pairs]))
        if self._gathering.is_holding:
            await self._gathering.handed_over()
        spans = self._tracing.spans
        if spans is not None:
            return await traced.put_columns(spans, self.name, entries, self._put_records)
        return await self._put_records(entries)

    def producer(self, batching: Batching | None = None, *, id: str | None = None) -> Producer[T]:
        """For many puts: batched, ordered per key, waiting when full. Use it as ``async with``.

        With an ``id`` it is idempotent: what was stored under one of its sequences is never stored again, also by a
        later producer of that id; see ``Producer``.

        Raises:
            ValidationError: the id is not 1 to 128 characters.
        """
        return Producer(
            self.name,
            self.codec,
            self._put_gathered,
            self.describe,
            self._clock,
            batching or Batching(),
            id,
            self._tracing,
        )

    def consumer(self, name: str, *, start: Start = "TRIM_HORIZON", leasing: Leasing | None = None) -> Consumer[T]:
        """Every record of the stream, once per consumer name, from where that name left off. Use it as ``async with``.

        Several at once under one name share the shards.

        Args:
            name: 1 to 128 letters, digits, '_', '.' or '-'. Each name has its own checkpoints.
            start: where a name begins that was never there before: TRIM_HORIZON with the oldest record, LATEST after
                the newest at the moment its first block is entered.
            leasing: how they share them; None: ``Leasing()``.

        Raises:
            ValidationError: the name or ``start`` is not valid.
        """
        return Consumer(
            name,
            self.name,
            self.codec,
            self._store,
            self._leases,
            self._clock,
            self._metrics,
            start=start,
            leasing=leasing,
            tracing=self._tracing,
        )

    # ---- looking, without a name and a checkpoint: for notebooks and tools

    def records(self, *, start: Literal["TRIM_HORIZON"] | datetime = "TRIM_HORIZON") -> AsyncIterator[Record[T]]:
        """Every record that is durable when the iteration begins, shard by shard, each in order; then it ends.

        Args:
            start: TRIM_HORIZON for all, or an aware ``datetime``: those that arrived at that instant or later.

        Raises:
            ValidationError: ``start`` is something else, or in the future.
        """
        return self._look.records(start)

    async def head(self, n: int = 10) -> Sample[T]:
        """The ``n`` oldest records of all shards, by arrival: a sequence, and a table for pandas, polars, DuckDB.

        ``(await stream.head(100)).to_pandas()``; see ``Sample`` for its columns.
        """
        return Sample(await self._look.head(n), self.name)

    @overload
    def tail(self, n: int = 10, *, follow: Literal[False] = False) -> Awaitable[Sample[T]]: ...

    @overload
    def tail(self, n: int = 10, *, follow: Literal[True]) -> Follow[T]: ...

    def tail(self, n: int = 10, *, follow: bool = False) -> Awaitable[Sample[T]] | Follow[T]:
        """The ``n`` newest records of all shards, by arrival: ``await stream.tail()``. As ``head``, a table too.

        With ``follow`` an iterator over them and all that come, ``async for record in stream.tail(follow=True)``: woken
        by the append, through splits and merges, each key in order.
        """
        return Follow(self._look, n) if follow else self._tail(n)

    async def _tail(self, n: int) -> Sample[T]:
        return Sample(await self._look.tail(n), self.name)

    async def lag(self, consumer: str) -> Lag:
        """How far a consumer of this name is behind, per shard: in records, exactly, and in milliseconds."""
        return await lag_of(consumer, self.name, self._store, self._leases, self._clock)

    # ---- shards and retention

    async def split(self, shard_id: str, new_starting_hash_key: int | None = None) -> StreamDescription:
        """Close an open shard and open two instead, while puts and reads go on (SplitShard).

        Records of one key keep their order for consumers, which read a shard to its end before its children.

        Args:
            shard_id: of an open shard.
            new_starting_hash_key: the first hash key of the upper child; None: the middle of the range.

        Raises:
            ValidationError: the shard is closed, or the key does not split its range.
        """
        if new_starting_hash_key is None:
            shards = {shard.shard_id: shard for shard in (await self.describe()).shards}
            if shard_id not in shards:
                raise NotFoundError("shard", shard_id, f"stream {self.name!r} has {len(shards)} shards")
            keys = shards[shard_id].hash_key_range
            new_starting_hash_key = (keys.start + keys.end) // 2 + 1
        return await self._store.reshard(self.name, Split(shard_id, new_starting_hash_key))

    async def merge(self, shard_id: str, adjacent_shard_id: str) -> StreamDescription:
        """Close two open shards whose hash keys touch, the lower named first, and open one instead (MergeShards).

        Raises:
            ValidationError: a shard is closed, or the second range does not begin where the first ends.
        """
        return await self._store.reshard(self.name, Merge(shard_id, adjacent_shard_id))

    async def update_shard_count(self, target: int) -> StreamDescription:
        """Split and merge until ``target`` open shards of equal width are there (UpdateShardCount).

        Each step is whole and durable by itself. Cancellation, or a failure: some steps are done; calling it again goes
        on. AWS allows half to twice the number in one call; here any number is fine.

        Raises:
            ValidationError: ``target`` is out of range, or the stream is ON_DEMAND.
        """
        description = await self.describe()
        while (step := next_step(description.open_shards, target)) is not None:
            description = await self._store.reshard(self.name, step)
        return description

    async def update(self, *, retention: float | EllipsisType | None = ..., mode: StreamMode | None = None) -> None:
        """Change how long records stay, or who decides how many shards there are.

        Args:
            retention: seconds from a record's arrival on; None: for ever; left out: as it is. A shorter one trims at
                once, a longer one brings nothing back (Increase- and DecreaseStreamRetentionPeriod).
            mode: PROVISIONED, or ON_DEMAND: shards split while they are hot (UpdateStreamMode).

        Raises:
            ValidationError: one of them is out of range; nothing was changed.
        """
        attributes = (await self.describe()).attributes
        if not isinstance(retention, EllipsisType):
            attributes = replace(attributes, retention_ms=retention_ms_of(retention))
        if mode is not None:
            attributes = replace(attributes, mode=mode)
        await self._store.update_stream(self.name, attributes)

    async def describe(self) -> StreamDescription:
        """The stream as it is now: its shards, their ranges of hash keys and sequence numbers."""
        return await self._store.describe_stream(self.name)

    def metric(self, name: str) -> Metric:
        """One of this stream's metrics, such as ``IncomingRecords``, for an alarm.

        Raises:
            ValidationError: it is no name for a metric.
        """
        return stream_metric(self.name, name)

    def _gathered(
        self, partition_key: str, data: bytes, explicit_hash_key: int | None, attributes: Mapping[str, str] | None
    ) -> Awaitable[PutResult]:
        try:
            return self._gathering.put(partition_key, data, explicit_hash_key, attributes)
        except RuntimeError as error:
            return self._not_gathered(PutEntry(partition_key, data, explicit_hash_key, attributes), error)

    async def _not_gathered(self, entry: PutEntry, error: RuntimeError) -> PutResult:
        # There is no running loop, so this is a forked child of one, which the store refuses.
        await self._put_records([entry], operation="PutRecord")
        raise error

    async def _put_gathered(
        self, entries: Sequence[PutEntry], producer: ProducerSequences | None, newest_shard_id: str | None
    ) -> Sequence[PutResult]:
        """What a producer puts."""
        spans = self._tracing.spans
        if spans is None:
            return await self._put_records(entries, producer, newest_shard_id)
        put = partial(self._put_records, producer=producer, newest_shard_id=newest_shard_id)
        return await traced.put_entries(spans, self.name, entries, put)

    async def _put_records(
        self,
        entries: Sequence[PutEntry],
        producer: ProducerSequences | None = None,
        newest_shard_id: str | None = None,
        *,
        operation: Operation = "PutRecords",
    ) -> Sequence[PutResult]:
        began_ms = self._clock.now_ms()
        try:
            results = await self._store.put_records(self.name, entries, producer, newest_shard_id)
        except Exception as error:
            self._puts.failed(operation, len(entries), error)
            raise
        data = entries.data if isinstance(entries, PutColumns) else [entry.data for entry in entries]
        self._puts.put(operation, list(map(len, data)), results, began_ms)
        return results

"""A stream as its users hold it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Generic, Literal, TypeVar

from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.streams.buffer import Batching
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease import LeaseTable, Start
from streamkit.streams.producer import Producer
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import Record
from streamkit.streams.store import PutEntry, PutResult, StreamDescription, StreamStore
from streamkit.tables.store import TableStore

T = TypeVar("T")

_PAGE = 1000


class Stream(Generic[T]):
    """A sharded log of typed records: put, consume, look at. A handle: cheap to make, and the stream need not exist.

    Mirrors Kinesis Data Streams (PutRecord, PutRecords, DescribeStream) and the Kinesis Client Library (consumers).
    Every method may raise ``NotFoundError`` (there is no such stream), ``StorageError`` and ``ClosedError``.
    Puts are counted in the metrics ``IncomingRecords`` and ``IncomingBytes``, one sample per batch, as in AWS.
    """

    def __init__(
        self, name: str, codec: Codec[T], store: StreamStore, tables: TableStore, clock: Clock, metrics: Metrics
    ) -> None:
        self.name = name
        self.codec = codec
        self._store = store
        self._leases = LeaseTable(tables)
        self._clock = clock
        self._metrics = metrics
        self._incoming: tuple[Metric, Metric] | None = None

    def __repr__(self) -> str:
        return f"Stream({self.name!r}, {self.codec!r})"

    async def put(self, value: T, *, partition_key: str, explicit_hash_key: int | None = None) -> PutResult:
        """Store one record; it is durable when this returns.

        Args:
            value: what the stream's ``type=`` says.
            partition_key: 1 to 256 characters; records of one key go to one shard and keep their order.
            explicit_hash_key: replaces the MD5 of the partition key when the shard is chosen; 0 to 2**128 - 1.

        Cancellation: the record was stored or it was not.

        Raises:
            EncodeError: the value does not fit the stream's type.
            ValidationError: a key is malformed or the record is over a limit.
            ThroughputExceededError: the shard refused it; try again.
        """
        (result,) = await self._put_records([PutEntry(partition_key, self.codec.encode(value), explicit_hash_key)])
        if result.error is not None:
            raise result.error
        return result

    async def put_batch(self, values: Iterable[tuple[str, T]]) -> list[PutResult]:
        """Store (partition key, value) pairs in one call; one result per pair, in order.

        A result has where its record went, or the ``error`` that refused it alone; what was not refused is durable.
        No pairs, no call. For more than one call takes, use a ``producer``.

        Cancellation: each record was stored or it was not.

        Raises:
            EncodeError: a value does not fit the stream's type; nothing was stored.
            ValidationError: a pair is malformed, or one or all together are over a limit; nothing was stored.
        """
        encode = self.codec.encode
        entries = [PutEntry(partition_key, encode(value)) for partition_key, value in values]
        return await self._put_records(entries) if entries else []

    def producer(self, batching: Batching | None = None) -> Producer[T]:
        """For many puts: batched, ordered per key, waiting when full. Use it as ``async with``."""
        return Producer(self.name, self.codec, self._put_records, self._clock, batching or Batching())

    def consumer(self, name: str, *, start: Start = "TRIM_HORIZON") -> Consumer[T]:
        """Every record of the stream, once per consumer name, from where that name left off. Use it as ``async with``.

        Args:
            name: 1 to 128 letters, digits, '_', '.' or '-'. Each name has its own checkpoints.
            start: where a name begins that was never there before: TRIM_HORIZON with the oldest record, LATEST after
                the newest at the moment its first block is entered.

        Raises:
            ValidationError: the name or ``start`` is not valid.
        """
        return Consumer(name, self.name, self.codec, self._store, self._leases, self._clock, self._metrics, start=start)

    async def records(self, *, start: Literal["TRIM_HORIZON"] | datetime = "TRIM_HORIZON") -> AsyncIterator[Record[T]]:
        """Every record that is durable when the iteration begins, shard by shard, each in order; then it ends.

        For notebooks and tools: it has no name and no checkpoint, and moves nobody else's.

        Args:
            start: TRIM_HORIZON for all, or an aware ``datetime``: those that arrived at that instant or later.

        Raises:
            ValidationError: ``start`` is something else, or in the future.
        """
        if isinstance(start, datetime):
            if start.tzinfo is None:
                raise ValidationError(f"start={start!r} has no time zone: pass an aware datetime, e.g. with tzinfo=UTC")
            timestamp_ms = round(start.timestamp() * 1000)
            if timestamp_ms > self._clock.now_ms():
                raise ValidationError(f"start={start!r} is in the future: a consumer waits for what will come")
        elif start == "TRIM_HORIZON":
            timestamp_ms = 0
        else:
            raise ValidationError(f"start={start!r} is not TRIM_HORIZON or a datetime: a consumer can start at LATEST")
        description = await self._store.describe_stream(self.name)
        for shard in description.shards:
            reader = ShardReader(
                self._store,
                self.name,
                shard.shard_id,
                "AT_TIMESTAMP" if isinstance(start, datetime) else "TRIM_HORIZON",
                timestamp_ms=timestamp_ms,
                stream_id=description.stream_id,
            )
            while reader.sequence_number < shard.latest_sequence_number and not reader.at_end:
                batch = await reader.read(_PAGE)
                for stored in batch.records:
                    if stored.sequence_number <= shard.latest_sequence_number:
                        yield Record(stored, shard.shard_id, self.codec)
                if not batch.records and batch.millis_behind_latest == 0:
                    break

    async def describe(self) -> StreamDescription:
        """The stream as it is now: its shards, their ranges of hash keys and sequence numbers."""
        return await self._store.describe_stream(self.name)

    def metric(self, name: str) -> Metric:
        """One of this stream's metrics, such as ``IncomingRecords``, for an alarm.

        Raises:
            ValidationError: it is no name for a metric.
        """
        return Metric.of("AWS/Kinesis", name, StreamName=self.name)

    async def _put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        results = await self._store.put_records(self.name, entries)
        if self._incoming is None:
            # Not before a put succeeded: then the name is one that a stream, and so a metric, can have.
            self._incoming = (self.metric("IncomingRecords"), self.metric("IncomingBytes"))
        count = size = 0
        for entry, result in zip(entries, results, strict=True):
            if result.error is None:
                count += 1
                size += len(entry.data)
        if count:
            records, size_of = self._incoming
            now_ms = self._clock.now_ms()
            self._metrics.put(records, count, now_ms)
            self._metrics.put(size_of, size, now_ms)
        return results

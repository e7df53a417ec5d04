"""Looking at a stream without a consumer's name: its oldest records, its newest, and all of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from heapq import merge
from itertools import repeat
from typing import Generic, Literal, TypeVar

from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import NotFoundError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.streams.aggregation import any_aggregated, user_records
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import Record, StoredRecord
from streamkit.streams.store import ShardDescription, StreamDescription, StreamStore
from streamkit.streams.stream_metrics import GetMetrics

T = TypeVar("T")

logger = logging.getLogger("streamkit.streams")

_PAGE = 5000
# Where a page of each shard is held at a time.
_MERGED_PAGE = 1000
# A read that may wait is one of enhanced fan-out: it takes nothing of what a shard's polling readers share. Where
# records are known to be, it does not wait.
_PUSH_MS = 1


class Look(Generic[T]):
    """Reads of one stream that have no name and no checkpoint, and move nobody else's."""

    def __init__(self, stream: str, codec: Codec[T], store: StreamStore, clock: Clock, metrics: Metrics) -> None:
        self.stream = stream
        """The stream's name."""
        self.codec = codec
        self.store = store
        self._clock = clock
        self._reads = GetMetrics(stream, clock, metrics)

    async def records(self, start: Literal["TRIM_HORIZON"] | datetime = "TRIM_HORIZON") -> AsyncIterator[Record[T]]:
        """See Stream.records. HOT: `python -m benchmarks --only read`."""
        timestamp_ms = self._timestamp_ms(start)
        stream = await self.store.describe_stream(self.stream)
        for shard in stream.shards:
            reader = self.reader(shard.shard_id, shard.trim_horizon, timestamp_ms, stream)
            walk = _Walk(self, shard, reader, shard.trim_horizon, searching=timestamp_ms is not None)
            while not walk.at_end:
                for record in await walk.read(_PAGE):
                    yield record

    async def in_order(
        self, stream: StreamDescription, start: Literal["TRIM_HORIZON"] | datetime = "TRIM_HORIZON"
    ) -> AsyncIterator[list[Record[T]]]:
        """Every record up to where a stream's shards were when it was described, by arrival, some at a time.

        A shard begins when its parents are done, whatever the clock said: so each key is in its order.
        """
        timestamp_ms = self._timestamp_ms(start)
        ahead: dict[str, tuple[_Walk[T], list[Record[T]]]] = {}
        waiting = {shard.shard_id: shard for shard in stream.shards}
        while True:
            for shard in list(waiting.values()):
                if not any(parent in waiting or parent in ahead for parent in shard.parent_shard_ids):
                    del waiting[shard.shard_id]
                    reader = self.reader(shard.shard_id, shard.trim_horizon, timestamp_ms, stream)
                    walk = _Walk(self, shard, reader, shard.trim_horizon, searching=timestamp_ms is not None)
                    ahead[shard.shard_id] = walk, []
            ended = False
            for shard_id, (walk, page) in list(ahead.items()):
                while not page and not walk.at_end:
                    page += await walk.read(_MERGED_PAGE)
                if not page:
                    del ahead[shard_id]
                    ended = True
            if ended and waiting:
                continue
            if not ahead:
                return
            # What comes later has arrived later than this, in every shard.
            until_ms = min(max(record.arrival_ms for record in page) for _, page in ahead.values())
            parts: list[list[Record[T]]] = []
            for _, page in ahead.values():
                count = next((at for at, one in enumerate(page) if one.arrival_ms > until_ms), len(page))
                parts.append(page[:count])
                del page[:count]
            yield by_arrival(*parts)

    async def head(self, n: int) -> list[Record[T]]:
        """See Stream.head."""
        check_count(n)
        stream = await self.store.describe_stream(self.stream)
        return await self._of_one(stream, self._oldest(n, stream))

    async def _oldest(self, n: int, stream: StreamDescription) -> list[Record[T]]:
        oldest: list[Record[T]] = []
        for shard in stream.shards:
            walk = _Walk(self, shard, self.reader(shard.shard_id, shard.trim_horizon), shard.trim_horizon)
            found: list[Record[T]] = []
            while len(found) < n and not walk.at_end:
                found += await walk.read(min(_PAGE, n - len(found)))
            oldest = by_arrival(oldest, found)[:n]
        return oldest

    async def tail(self, n: int) -> list[Record[T]]:
        """See Stream.tail."""
        check_count(n)
        return await self.newest(n, await self.store.describe_stream(self.stream))

    async def newest(self, n: int, stream: StreamDescription) -> list[Record[T]]:
        """The newest records of a stream as it was described."""
        return await self._of_one(stream, self._newest(n, stream)) if n else []

    async def _newest(self, n: int, stream: StreamDescription) -> list[Record[T]]:
        newest: list[Record[T]] = []
        for shard in stream.shards:
            # Numbers have no gap, so this is where the newest n of the shard begin.
            after = max(shard.trim_horizon, shard.latest_sequence_number - n)
            walk = _Walk(self, shard, self.reader(shard.shard_id, after), after)
            found: list[Record[T]] = []
            while not walk.at_end:
                found += await walk.read(_PAGE)
            newest = by_arrival(newest, found)[-n:]
        return newest

    async def _of_one(self, stream: StreamDescription, found: Awaitable[list[Record[T]]]) -> list[Record[T]]:
        """What was found, all in the stream that was described. Asked once at the end, and not for each shard."""
        try:
            records = await found
        except ValidationError:  # A number that another stream of this name does not have.
            self.check_same(stream, await self.store.describe_stream(self.stream))
            raise
        self.check_same(stream, await self.store.describe_stream(self.stream))
        return records

    def check_same(self, before: StreamDescription, now: StreamDescription) -> None:
        """Streams may have the same name one after the other.

        Raises:
            NotFoundError: these two are not the same.
        """
        if before.stream_id != now.stream_id:
            raise NotFoundError("stream", self.stream, "it was deleted, and a new one has its name")

    def reader(
        self, shard_id: str, after: int, timestamp_ms: int | None = None, stream: StreamDescription | None = None
    ) -> ShardReader:
        """Reads a shard from after a number on, or from an instant on; with ``stream`` of that very stream."""
        return ShardReader(
            self.store,
            self.stream,
            shard_id,
            "AFTER_SEQUENCE_NUMBER" if timestamp_ms is None else "AT_TIMESTAMP",
            sequence_number=after,
            timestamp_ms=timestamp_ms or 0,
            stream_id=None if stream is None else stream.stream_id,
            metrics=self._reads,
        )

    def made(self, stored: Sequence[StoredRecord], shard_id: str) -> list[Record[T]]:
        """Records as users see them, those of an aggregate one by one."""
        if not any_aggregated(stored):
            return list(map(Record, stored, repeat(shard_id), repeat(self.codec)))
        records: list[Record[T]] = []
        for outer in stored:
            inner = user_records(outer)
            if inner is None:
                records.append(Record(outer, shard_id, self.codec))
            else:
                records.extend(Record(each, shard_id, self.codec, place) for place, each in enumerate(inner))
        return records

    def tell_missed(self, shard_id: str, count: int | None) -> None:
        """Say that the stream's retention took records before they were read."""
        records = "its last records" if count is None else f"{count} record{'s'[: count != 1]}"
        logger.warning("%s of stream %r: retention took %s before they were read", shard_id, self.stream, records)

    def _timestamp_ms(self, start: Literal["TRIM_HORIZON"] | datetime) -> int | None:
        if start == "TRIM_HORIZON":
            return None
        if not isinstance(start, datetime):
            raise ValidationError(f"start={start!r} is not TRIM_HORIZON or a datetime: a consumer can start at LATEST")
        if start.tzinfo is None:
            raise ValidationError(f"start={start!r} has no time zone: pass an aware datetime, e.g. with tzinfo=UTC")
        timestamp_ms = round(start.timestamp() * 1000)
        if timestamp_ms > self._clock.now_ms():
            raise ValidationError(f"start={start!r} is in the future: a consumer waits for what will come")
        return timestamp_ms


class _Walk(Generic[T]):
    """One shard from a place on, up to what was its newest record when it was described."""

    def __init__(
        self, look: Look[T], shard: ShardDescription, reader: ShardReader, at: int, *, searching: bool = False
    ) -> None:
        self._look = look
        self._shard_id = shard.shard_id
        self._latest = shard.latest_sequence_number
        self._reader = reader
        self._at = at
        """Everything up to this number was read, or is not asked for, or is gone."""
        self._searching = searching
        """Where to begin is known with the first records only."""

    @property
    def at_end(self) -> bool:
        """There is nothing more to read."""
        return self._at >= self._latest

    async def read(self, limit: int) -> list[Record[T]]:
        """The next records, which are of up to ``limit`` stored ones; none is legal before the end."""
        try:
            batch = await self._reader.read(limit, 0 if self._searching else _PUSH_MS)
        except NotFoundError as error:
            if error.kind != "shard":
                raise
            self._look.tell_missed(self._shard_id, self._latest - self._at)
            self._at = self._latest
            return []
        if batch.trimmed:
            self._look.tell_missed(self._shard_id, min(batch.trimmed, self._latest - self._at))
        if batch.records:
            self._searching = False
            self._at = batch.records[-1].sequence_number
        elif batch.millis_behind_latest == 0:
            self._at = self._latest  # It is the tip: the rest was trimmed, or nothing arrived since.
        else:
            self._at += batch.trimmed
        over = self._at - self._latest
        stored = batch.records if over <= 0 else batch.records[: max(0, len(batch.records) - over)]
        return self._look.made(stored, self._shard_id)


def by_arrival(*shards: Sequence[Record[T]]) -> list[Record[T]]:
    """Records of several shards as one list, by arrival and then by number. Those of a shard stay in their order."""
    if len(shards) == 1:
        return list(shards[0])
    return list(merge(*shards, key=_order))


def _order(record: Record[T]) -> tuple[int, int, int]:
    return record.arrival_ms, record.sequence_number, record.subsequence_number or 0


def check_count(n: int) -> None:
    """How many records somebody asks for.

    Raises:
        ValidationError: it is no number from 0 on.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ValidationError(f"n is a number of records, 0 or more, not {n!r}")

"""Reading a shard: iterators, waiting for what comes, and what is told about what was missed.

HOT: `python -m benchmarks --only read`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from streamkit.clock import Clock, wait_until, wake
from streamkit.engines.embedded.retention import ColdRecords, Retention
from streamkit.engines.embedded.turns import Turns
from streamkit.errors import (
    ClosedError,
    ExpiredIteratorError,
    NotFoundError,
    StorageError,
    ThroughputExceededError,
    ValidationError,
)
from streamkit.limits import Limits
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import Shard
from streamkit.streams.state import StreamState
from streamkit.streams.store import RecordBatch, StartingPosition

ITERATOR_LIFE_MS = 300_000
_INVALID = "Invalid ShardIterator: use one that this store gave out"


class StreamReads:
    """The reading half of ``StreamStore``, over streams that somebody else writes."""

    def __init__(
        self,
        streams: Mapping[int, StreamState],
        clock: Clock,
        limits: Limits,
        retention: Retention,
        cold: ColdRecords | None,
    ) -> None:
        self._streams = streams
        self._clock = clock
        self._limits = limits
        self._retention = retention
        self._cold = cold
        self._waiters: dict[tuple[int, int], list[asyncio.Future[bool]]] = {}
        self._turns = Turns()
        self._closed = False

    # ---- what the writing half tells

    def wake(self, stream: StreamState, index: int) -> None:
        """Something changed in a shard that somebody may wait for."""
        for waiter in self._waiters.pop((stream.stream_id, index), ()):
            wake(waiter)

    def close(self) -> None:
        """End every wait: the engine closes."""
        self._closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                wake(waiter)

    def interrupt(self, error: Exception) -> None:
        """Every wait that is under way ends with an error; what comes later may go well."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
                    waiter.exception()  # Whoever waits may have been cancelled just now, and nobody else looks at it.

    # ---- iterators

    async def iterator(
        self, stream: StreamState, shard: Shard, position: StartingPosition, sequence_number: int, timestamp_ms: int
    ) -> str:
        """See StreamStore.get_shard_iterator."""
        if position in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            if not shard.starting_number <= sequence_number <= shard.last_number:
                raise ValidationError(
                    f"sequence number {sequence_number} is not one of {shard.shard_id} of stream {stream.name!r}, "
                    f"whose numbers are {shard.starting_number} to {shard.last_number}"
                )
            at = position == "AT_SEQUENCE_NUMBER" and sequence_number > shard.starting_number
            after = sequence_number - 1 if at else sequence_number
        elif position == "TRIM_HORIZON":
            await self._retention.trim(stream)
            after = shard.trimmed_to
        elif position == "LATEST":
            after = shard.readable
        elif position == "AT_TIMESTAMP":
            if timestamp_ms > self._clock.now_ms():
                raise ValidationError("AT_TIMESTAMP needs an instant that is not in the future")
            await self._retention.trim(stream)
            found = await self._retention.first_at(stream, shard, timestamp_ms)
            after = shard.readable if found is None else max(shard.trimmed_to, found[0] - 1)
        else:
            raise ValidationError(f"{position!r} is not an iterator type: see streamkit.streams.store.StartingPosition")
        return self._token(stream, shard, after)

    def _token(self, stream: StreamState, shard: Shard, after: int) -> str:
        return f"{stream.stream_id}:{shard.index}:{after}:{self._clock.now_ms()}"

    def _position(self, token: str) -> tuple[StreamState, Shard, int]:
        try:
            stream_id, index, after, issued_ms = map(int, token.split(":"))
            if min(stream_id, index, after, issued_ms) < 0:
                raise ValueError(token)
        except (ValueError, TypeError, AttributeError):
            raise ValidationError(_INVALID) from None
        age_ms = self._clock.now_ms() - issued_ms
        if age_ms > ITERATOR_LIFE_MS:
            raise ExpiredIteratorError(age_ms / 1000)
        stream = self._streams.get(stream_id)
        if stream is None:
            raise NotFoundError("stream", f"#{stream_id}", "the stream of this iterator was deleted")
        if index >= stream.next_index:
            raise ValidationError(_INVALID)
        shard = stream.shards.get(index)
        if shard is None:
            raise NotFoundError("shard", f"#{index}", f"it was closed, and all its records in {stream.name!r} expired")
        return stream, shard, after

    # ---- records

    async def records(self, iterator: str, limit: int, wait_ms: int) -> RecordBatch:
        """See StreamStore.get_records."""
        if not 1 <= limit <= self._limits.get_records:
            raise ValidationError(f"limit must be 1 to {self._limits.get_records:,}, not {limit}")
        # INVARIANT: test_loops_of_calls_that_need_not_wait_give_others_turns
        if self._turns.due():
            await asyncio.sleep(0)
        stream, shard, after = self._position(iterator)
        if self._closed:
            raise ClosedError("the engine")
        if wait_ms > 0:
            await self._wait(stream, shard, after, self._clock.now_ms() + wait_ms)
        elif shard.meter is not None and (over := shard.meter.get(self._clock.now_ms())):
            raise ThroughputExceededError(f"{shard.shard_id} of stream {stream.name!r}", *over)
        start = after
        records = await self._read_young(stream, shard, after, limit)
        # Whatever was looked at and is gone, whether it was just now or long ago, is told here.
        start = max(start, records[0].sequence_number - 1 if records else min(shard.trimmed_to, shard.readable))
        trimmed = start - after
        after = records[-1].sequence_number if records else start
        if wait_ms <= 0 and shard.meter is not None:
            shard.meter.got(sum(len(record.data) for record in records))
        self._turns.count(len(records))
        behind_ms = 0
        if shard.readable > after and records:
            behind_ms = max(0, self._clock.now_ms() - records[-1].arrival_ms)
        if shard.ended and after >= shard.last_number:
            children = tuple(child.shard_id for child in stream.children_of(shard))
            return RecordBatch(records, None, behind_ms, children, trimmed)
        return RecordBatch(records, self._token(stream, shard, after), behind_ms, (), trimmed)

    async def _wait(self, stream: StreamState, shard: Shard, after: int, deadline_ms: int) -> None:
        while shard.readable <= after and not shard.ended:
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault((stream.stream_id, shard.index), [])
            waiters.append(waiter)
            try:
                woken = await wait_until(self._clock, waiter, deadline_ms)
            finally:
                if waiter in waiters:
                    waiters.remove(waiter)
            if self._closed:
                raise ClosedError("the engine")
            if self._streams.get(stream.stream_id) is not stream:
                raise NotFoundError("stream", stream.name, "it was deleted while a reader waited")
            if not woken:
                return

    async def _read_young(self, stream: StreamState, shard: Shard, after: int, limit: int) -> list[StoredRecord]:
        """Records after a number, from the horizon on."""
        while True:
            after = max(after, shard.trimmed_to)
            records = await self._read(stream, shard, after, limit)
            cutoff_ms = self._retention.cutoff_ms(stream)
            if not records or cutoff_ms is None or records[0].arrival_ms >= cutoff_ms:
                return records
            await self._retention.trim_shard(stream, shard, cutoff_ms)
            if shard.trimmed_to < records[0].sequence_number:
                # Its clock was set back: a younger record stands before it, and so it stays as long as that.
                return records

    async def _read(self, stream: StreamState, shard: Shard, after: int, limit: int) -> list[StoredRecord]:
        # Records may leave memory while a thread looks for older ones, so where to look is asked again each time.
        while after < shard.moved_to and self._cold is not None:
            up_to = shard.moved_to
            try:
                with self._retention.still_there(stream):
                    records = await self._cold.read(
                        stream.stream_id, shard.index, after, up_to, limit, self._limits.get_bytes
                    )
            except StorageError:
                if shard.trimmed_to <= after:
                    raise
                records = []  # They were trimmed, and their file removed, while it was being opened.
                up_to = shard.trimmed_to
            if records:
                return records
            after = up_to
        return shard.read(max(after, shard.moved_to), limit, self._limits.get_bytes)

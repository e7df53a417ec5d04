"""The stream port over pure shards and a log.

HOT: `python -m benchmarks --only append`, `--only puts`, `--only read`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from streamkit.clock import Clock, wait_until, wake
from streamkit.engines.embedded.changes import RecordsPut, StreamCreated, StreamDeleted, storable
from streamkit.engines.embedded.log import Log
from streamkit.errors import (
    AlreadyExistsError,
    ClosedError,
    ExpiredIteratorError,
    NotFoundError,
    StorageError,
    ValidationError,
)
from streamkit.limits import Limits
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import Shard, StreamState
from streamkit.streams.store import PutEntry, PutResult, RecordBatch, StartingPosition, StreamDescription

ITERATOR_LIFE_MS = 300_000
MAX_SHARDS = 10_000
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class ColdRecords(Protocol):
    """Where a stream's records are once they left memory."""

    async def read(
        self, stream_id: int, shard: int, after: int, up_to: int, limit: int, max_bytes: int
    ) -> list[StoredRecord]:
        """Records of a shard after one number and up to another; at least one if there is one."""

    async def first_at(self, stream_id: int, shard: int, instant_ms: int) -> int | None:
        """The number of the first record that arrived at or after an instant."""


class EmbeddedStreams:
    """Implements ``StreamStore``."""

    def __init__(
        self, log: Log, clock: Clock, limits: Limits, next_id: Callable[[], int], cold: ColdRecords | None = None
    ) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._next_id = next_id
        self._cold = cold
        self._by_name: dict[str, StreamState] = {}
        self.by_id: dict[int, StreamState] = {}
        self._waiters: dict[tuple[int, int], list[asyncio.Future[bool]]] = {}
        self._open: dict[int, tuple[RecordsPut, dict[int, int]]] = {}
        self._open_group = 0
        self._closed = False

    # ---- control plane

    async def create_stream(self, name: str, shard_count: int) -> StreamDescription:
        """See StreamStore."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError(f"stream name {name!r} is not valid: use 1 to 128 letters, digits, '_', '.' or '-'")
        if not isinstance(shard_count, int) or not 1 <= shard_count <= MAX_SHARDS:
            raise ValidationError(f"a stream has 1 to {MAX_SHARDS:,} shards, not {shard_count}")
        if name in self._by_name:
            raise AlreadyExistsError("stream", name)
        self._log.check()
        change = storable(StreamCreated(self._next_id(), name, self._clock.now_ms(), shard_count))
        group = self._log.append(change)
        state = self.stream_created(change)
        await self._log.durable(group)
        return state.describe()

    async def delete_stream(self, name: str) -> None:
        """See StreamStore."""
        change = StreamDeleted(self._stream(name).stream_id)
        self._log.check()
        group = self._log.append(change)
        self.stream_deleted(change)
        await self._log.durable(group)

    async def describe_stream(self, name: str) -> StreamDescription:
        """See StreamStore."""
        return self._stream(name).describe()

    async def list_streams(self) -> list[str]:
        """See StreamStore."""
        return sorted(self._by_name)

    # ---- writing

    async def put_records(self, name: str, entries: Sequence[PutEntry]) -> list[PutResult]:
        """See StreamStore."""
        self.validate(name, entries)
        results, group = self.stage(name, entries)
        await self._log.durable(group)
        return results

    def validate(self, name: str, entries: Sequence[PutEntry]) -> None:
        """Refuse a put before anything of it, or of what it belongs to, is staged."""
        self._stream(name).validate(entries, self._limits)
        self._log.check()

    def stage(self, name: str, entries: Sequence[PutEntry]) -> tuple[list[PutResult], int]:
        """Number, keep and log validated entries; they are durable with the returned group.

        # ATOMIC: numbering and appending are one step, so journal order is sequence order
        # INVARIANT: test_numbers_are_journal_order
        """
        stream = self._stream(name)
        now_ms = self._clock.now_ms()
        number = stream.last_number
        shards = stream.shards
        pending = self._open.get(stream.stream_id) if self._open_group == self._log.group else None
        if pending is None:
            change, newest = RecordsPut(stream.stream_id, number + 1, [], [], [], []), dict[int, int]()
        else:
            change, newest = pending
        results = []
        for entry in entries:
            number += 1
            index = stream.route(entry)
            shard = shards[index]
            change.shards.append(index)
            change.keys.append(entry.partition_key)
            change.data.append(entry.data)
            shard.records.append(StoredRecord(number, now_ms, entry.partition_key, entry.data))
            newest[index] = number
            results.append(PutResult(shard.shard_id, number))
        change.arrivals_ms.extend([now_ms] * len(entries))
        stream.last_number = number
        if pending is not None:
            return results, self._open_group
        group = self._log.append(change, partial(self._publish, stream, newest))
        if group == self._log.group:
            # The group still gathers: what other tasks put until it is written extends this very change.
            if self._open_group != group:
                self._open.clear()
                self._open_group = group
            self._open[stream.stream_id] = (change, newest)
        return results, group

    def _publish(self, stream: StreamState, newest: dict[int, int]) -> None:
        for index, number in newest.items():
            shard = stream.shards[index]
            shard.readable = max(shard.readable, number)
            for waiter in self._waiters.pop((stream.stream_id, index), ()):
                wake(waiter)

    # ---- reading

    async def get_shard_iterator(
        self, name: str, shard_id: str, position: StartingPosition, *, sequence_number: int = 0, timestamp_ms: int = 0
    ) -> str:
        """See StreamStore."""
        stream = self._stream(name)
        shard = stream.shard(shard_id)
        if shard is None:
            raise NotFoundError("shard", shard_id, f"stream {name!r} has {len(stream.shards)} shards")
        if position in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            if not shard.starting_number <= sequence_number <= stream.last_number:
                raise ValidationError(
                    f"sequence number {sequence_number} is not one of {shard_id} of stream {name!r}, "
                    f"whose numbers are {shard.starting_number} to {stream.last_number}"
                )
            after = sequence_number - 1 if position == "AT_SEQUENCE_NUMBER" else sequence_number
        elif position == "TRIM_HORIZON":
            after = shard.starting_number
        elif position == "LATEST":
            after = shard.readable
        elif position == "AT_TIMESTAMP":
            if timestamp_ms > self._clock.now_ms():
                raise ValidationError("AT_TIMESTAMP needs an instant that is not in the future")
            first = await self._first_at(stream, shard, timestamp_ms)
            after = shard.readable if first is None else first - 1
        else:
            raise ValidationError(f"{position!r} is not an iterator type: see streamkit.streams.store.StartingPosition")
        return self._token(stream, shard, after)

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        """See StreamStore."""
        if not 1 <= limit <= self._limits.get_records:
            raise ValidationError(f"limit must be 1 to {self._limits.get_records:,}, not {limit}")
        stream, shard, after = self._position(iterator)
        self._check_open()
        deadline_ms = self._clock.now_ms() + wait_ms
        while shard.readable <= after and wait_ms > 0:
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault((stream.stream_id, shard.index), [])
            waiters.append(waiter)
            try:
                woken = await wait_until(self._clock, waiter, deadline_ms)
            finally:
                if waiter in waiters:
                    waiters.remove(waiter)
            self._check_open()
            if self.by_id.get(stream.stream_id) is not stream:
                raise NotFoundError("stream", stream.name, "it was deleted while a reader waited")
            if not woken:
                break
        records = await self._read(stream, shard, after, limit)
        if records:
            after = records[-1].sequence_number
        behind_ms = 0
        if shard.readable > after and records:
            behind_ms = max(0, self._clock.now_ms() - records[-1].arrival_ms)
        return RecordBatch(records, self._token(stream, shard, after), behind_ms)

    async def _read(self, stream: StreamState, shard: Shard, after: int, limit: int) -> list[StoredRecord]:
        # Records may leave memory while a thread looks for older ones, so where to look is asked again each time.
        while after < shard.moved_to and self._cold is not None:
            up_to = shard.moved_to
            with self._still_there(stream):
                records = await self._cold.read(
                    stream.stream_id, shard.index, after, up_to, limit, self._limits.get_bytes
                )
            if records:
                return records
            after = up_to
        return shard.read(after, limit, self._limits.get_bytes)

    async def _first_at(self, stream: StreamState, shard: Shard, instant_ms: int) -> int | None:
        looked_to = shard.starting_number
        while looked_to < shard.moved_to and self._cold is not None:
            looked_to = shard.moved_to
            with self._still_there(stream):
                first = await self._cold.first_at(stream.stream_id, shard.index, instant_ms)
            if first is not None:
                return first
        return shard.first_at(instant_ms)

    @contextmanager
    def _still_there(self, stream: StreamState) -> Iterator[None]:
        """A read whose stream is deleted meanwhile may find its files gone, and that is no damage."""
        try:
            yield
        except StorageError:
            if self.by_id.get(stream.stream_id) is not stream:
                raise NotFoundError("stream", stream.name, "it was deleted while it was read") from None
            raise

    def _token(self, stream: StreamState, shard: Shard, after: int) -> str:
        return f"{stream.stream_id}:{shard.index}:{after}:{self._clock.now_ms()}"

    def _position(self, token: str) -> tuple[StreamState, Shard, int]:
        try:
            stream_id, index, after, issued_ms = map(int, token.split(":"))
            if min(stream_id, index, after, issued_ms) < 0:
                raise ValueError(token)
        except (ValueError, TypeError, AttributeError):
            raise ValidationError("Invalid ShardIterator: use one that this store gave out") from None
        age_ms = self._clock.now_ms() - issued_ms
        if age_ms > ITERATOR_LIFE_MS:
            raise ExpiredIteratorError(age_ms / 1000)
        stream = self.by_id.get(stream_id)
        if stream is None:
            raise NotFoundError("stream", f"#{stream_id}", "the stream of this iterator was deleted")
        if index >= len(stream.shards):
            raise ValidationError("Invalid ShardIterator: use one that this store gave out")
        return stream, stream.shards[index], after

    def _stream(self, name: str) -> StreamState:
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFoundError("stream", name, "create it with kit.create_stream") from None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine")

    def close(self) -> None:
        """End every wait: the engine closes."""
        self._closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                wake(waiter)

    # ---- what happened (live and in replay)

    def stream_created(self, change: StreamCreated) -> StreamState:
        """A stream is there."""
        state = StreamState.fresh(change.stream_id, change.name, change.created_ms, change.shard_count)
        self.adopt(state)
        return state

    def adopt(self, state: StreamState) -> None:
        """Take over a stream that recovery loaded."""
        self._by_name[state.name] = state
        self.by_id[state.stream_id] = state

    def stream_deleted(self, change: StreamDeleted) -> None:
        """A stream is gone."""
        state = self.by_id.pop(change.stream_id)
        del self._by_name[state.name]
        for shard in state.shards:
            for waiter in self._waiters.pop((state.stream_id, shard.index), ()):
                wake(waiter)

    def records_put(self, change: RecordsPut) -> None:
        """Replay: records are there and durable."""
        stream = self.by_id.get(change.stream_id)
        if stream is None:
            return  # The stream was deleted later, and recovery started from a state that knows it.
        number = change.first_number
        for index, arrival_ms, key, data in zip(
            change.shards, change.arrivals_ms, change.keys, change.data, strict=True
        ):
            shard = stream.shards[index]
            if number > shard.readable:
                shard.records.append(StoredRecord(number, arrival_ms, key, data))
                shard.readable = number
            number += 1
        stream.last_number = max(stream.last_number, number - 1)

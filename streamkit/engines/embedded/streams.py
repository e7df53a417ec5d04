"""The stream port over pure shards and a log.

HOT: `python -m benchmarks --only append`, `--only puts`, `--only read`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain, repeat

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import (
    RecordsPut,
    Resharded,
    StreamCreated,
    StreamDeleted,
    StreamUpdated,
    storable,
)
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.retention import ColdRecords, Retention
from streamkit.engines.embedded.stream_reads import StreamReads
from streamkit.engines.embedded.stream_writes import StreamWrites
from streamkit.errors import AlreadyExistsError, NotFoundError, StorageError, ValidationError
from streamkit.limits import Limits
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.record_attributes import part
from streamkit.streams.shard import Shard
from streamkit.streams.state import ProducerState, Routed, StreamState
from streamkit.streams.store import (
    Merge,
    ProducerSequences,
    PutEntry,
    PutResult,
    RecordBatch,
    Split,
    StartingPosition,
    StreamAttributes,
    StreamDescription,
)

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class EmbeddedStreams:
    """Implements ``StreamStore``."""

    def __init__(
        self, log: Log, clock: Clock, limits: Limits, next_id: Callable[[], int], cold: ColdRecords | None = None
    ) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._next_id = next_id
        self._by_name: dict[str, StreamState] = {}
        self.by_id: dict[int, StreamState] = {}
        self.retention = Retention(clock, cold, lambda stream: self.by_id.get(stream.stream_id) is stream)
        self._reads = StreamReads(self.by_id, clock, limits, self.retention, cold)
        self._writes = StreamWrites(log, clock, limits, self._reads.wake)

    # ---- control plane

    async def create_stream(
        self, name: str, shard_count: int, attributes: StreamAttributes | None = None
    ) -> StreamDescription:
        """See StreamStore."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError(f"stream name {name!r} is not valid: use 1 to 128 letters, digits, '_', '.' or '-'")
        if not isinstance(shard_count, int) or not 1 <= shard_count <= self._limits.open_shards:
            raise ValidationError(f"a stream has 1 to {self._limits.open_shards:,} shards, not {shard_count}")
        attributes = attributes or StreamAttributes()
        self._check_attributes(attributes)
        if name in self._by_name:
            raise AlreadyExistsError("stream", name)
        self._log.check()
        group = self.stage_created(name, shard_count, attributes)
        await self._log.durable(group)
        return self._stream(name).describe()

    def stage_created(self, name: str, shard_count: int, attributes: StreamAttributes) -> int:
        """Create a stream that was checked; it is durable with the returned group."""
        change = storable(StreamCreated(self._next_id(), name, self._clock.now_ms(), shard_count, attributes))
        group = self._log.append(change)
        self.stream_created(change)
        return group

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    async def update_stream(self, name: str, attributes: StreamAttributes) -> None:
        """See StreamStore."""
        self._check_attributes(attributes)
        stream = self._stream(name)
        # Under the old retention first: a longer one must not bring back what has gone.
        await self.retention.trim(stream)
        if self._stream(name) is not stream:
            raise NotFoundError("stream", name, "it was deleted meanwhile")
        self._log.check()
        trimmed = {shard.index: shard.trimmed_to for shard in stream.shards.values()}
        change = storable(StreamUpdated(stream.stream_id, attributes, trimmed))
        group = self._log.append(change)
        self.stream_updated(change)
        await self.retention.trim(stream)
        await self._log.durable(group)

    async def reshard(self, name: str, step: Split | Merge) -> StreamDescription:
        """See StreamStore."""
        stream = self._stream(name)
        if stream.attributes.mode == "ON_DEMAND":
            raise ValidationError(
                f"stream {name!r} is ON_DEMAND and splits by itself: make it PROVISIONED to reshard it"
            )
        closing, opening = stream.decide(step)
        self._log.check()
        group = self._writes.reshard(stream, closing, opening)
        await self._log.durable(group)
        return stream.describe()

    async def delete_stream(self, name: str) -> None:
        """See StreamStore."""
        change = StreamDeleted(self._stream(name).stream_id)
        self._log.check()
        group = self._log.append(change)
        self.stream_deleted(change)
        await self._log.durable(group)

    async def describe_stream(self, name: str) -> StreamDescription:
        """See StreamStore."""
        stream = self._stream(name)
        await self.retention.trim(stream)
        return stream.describe()

    async def list_streams(self) -> list[str]:
        """See StreamStore."""
        return sorted(self._by_name)

    def _check_attributes(self, attributes: StreamAttributes) -> None:
        shortest, longest = self._limits.retention_seconds
        retention_ms = attributes.retention_ms
        if attributes.mode not in ("PROVISIONED", "ON_DEMAND"):
            raise ValidationError(f"a stream's mode is PROVISIONED or ON_DEMAND, not {attributes.mode!r}")
        seconds = longest if retention_ms is None else retention_ms / 1000
        if (retention_ms is None and longest != float("inf")) or not shortest <= seconds <= longest:
            asked = "for ever" if retention_ms is None else f"{seconds:,} s"
            raise ValidationError(f"a stream keeps its records for {shortest:,} to {longest:,} seconds, not {asked}")

    # ---- writing

    async def put_records(
        self,
        name: str,
        entries: Sequence[PutEntry],
        producer: ProducerSequences | None = None,
        newest_shard_id: str | None = None,
    ) -> Sequence[PutResult]:
        """See StreamStore."""
        stream, routed = self.check(name, entries)
        if self._writes.split_hot(stream):
            routed = stream.check(entries)
        if newest_shard_id is not None:
            stream.check_newest(newest_shard_id)
        results, group = self._writes.put(stream, routed, producer, packed=newest_shard_id is not None)
        await self._log.durable(group)
        return results

    def check(self, name: str, entries: Sequence[PutEntry]) -> tuple[StreamState, Routed]:
        """Refuse a put before anything of it, or of what it belongs to, is staged."""
        stream = self._stream(name)
        routed = stream.check(entries)
        self._log.check()
        return stream, routed

    def stage(self, stream: StreamState, routed: Routed) -> int:
        """Number, keep and log what was checked; it is durable with the returned group."""
        return self._writes.stage(stream, routed)[1]

    async def trim_all(self) -> None:
        """Let go of what is too old, in every stream."""
        for stream in list(self.by_id.values()):
            await self.retention.trim(stream)

    def is_trim_due(self) -> bool:
        """Whether some stream has something to let go of."""
        return any(self.retention.is_due(stream) for stream in self.by_id.values())

    # ---- reading

    async def get_shard_iterator(
        self, name: str, shard_id: str, position: StartingPosition, *, sequence_number: int = 0, timestamp_ms: int = 0
    ) -> str:
        """See StreamStore."""
        stream = self._stream(name)
        return await self._reads.iterator(stream, stream.shard(shard_id), position, sequence_number, timestamp_ms)

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        """See StreamStore."""
        return await self._reads.records(iterator, limit, wait_ms)

    def _stream(self, name: str) -> StreamState:
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFoundError("stream", name, "create it with kit.create_stream") from None

    def close(self) -> None:
        """End every wait: the engine closes."""
        self._reads.close()

    def interrupt(self, error: Exception) -> None:
        """Every wait that is under way ends with an error; what comes later may go well."""
        self._reads.interrupt(error)

    # ---- what happened (live and in replay)

    def stream_created(self, change: StreamCreated) -> StreamState:
        """A stream is there."""
        state = StreamState.fresh(
            change.stream_id, change.name, change.created_ms, change.shard_count, change.attributes, self._limits
        )
        self.adopt(state)
        return state

    def adopt(self, state: StreamState) -> None:
        """Take over a stream that recovery loaded."""
        self._by_name[state.name] = state
        self.by_id[state.stream_id] = state

    def stream_updated(self, change: StreamUpdated) -> None:
        """A stream has other attributes."""
        stream = self.by_id[change.stream_id]
        stream.attributes = change.attributes
        for shard in list(stream.shards.values()):
            if shard.index in change.trimmed:
                shard.trim(change.trimmed[shard.index])
            else:
                # In replay: it had expired under the retention of then, and a longer one brings nothing back.
                stream.expire(shard)

    def stream_deleted(self, change: StreamDeleted) -> None:
        """A stream is gone."""
        state = self.by_id.pop(change.stream_id)
        del self._by_name[state.name]
        self._writes.forget(state)
        for index in state.shards:
            self._reads.wake(state, index)

    def resharded(self, change: Resharded) -> None:
        """Replay: shards were closed, durably, and their children opened."""
        stream = self.by_id[change.stream_id]
        opened = [
            Shard(shard.index, HashKeyRange(int(shard.start), int(shard.end)), shard.parents) for shard in change.opened
        ]
        stream.reshard(change.closed, opened, change.at_ms)
        self._writes.publish_ends(stream, [stream.shards[index] for index in change.closed])

    def records_put(self, change: RecordsPut) -> None:
        """Replay: records are there and durable.

        Raises:
            StorageError: records before them are missing.
        """
        stream = self.by_id[change.stream_id]
        for put in change.shards:
            shard = stream.shards[put.index]
            known = shard.last_number + 1 - put.first_number
            if known < 0:
                missing = f"{-known} records before {put.first_number} of stream {stream.name!r}"
                raise StorageError(f"{missing} are missing from the journal")
            runs = zip(put.arrivals[::2], put.arrivals[1::2], strict=True)
            arrivals_ms = list(chain.from_iterable(repeat(at_ms, times) for at_ms, times in runs))
            first = shard.append(arrivals_ms[known:], put.keys[known:], put.data[known:])
            shard.attributes.add_runs(first, part(put.attributes, known, None))
            shard.readable = shard.last_number
            self._reads.wake(stream, put.index)
        for producer_id, sequence in change.producers.items():
            stream.producers[producer_id] = ProducerState(sequence, change.shards[-1].arrivals[-2])

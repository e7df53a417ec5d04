"""The writing half of the stream port: numbering and logging as one step, limits, producers, splits.

HOT: `python -m benchmarks --only append` and `--only puts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import OpenedShard, RecordsPut, Resharded, ShardRecords
from streamkit.engines.embedded.log import Log
from streamkit.errors import StreamKitError, ThroughputExceededError
from streamkit.limits import Limits
from streamkit.streams.record_attributes import Attributes, extend
from streamkit.streams.reshard import middle
from streamkit.streams.shard import Shard
from streamkit.streams.state import Routed, StreamState
from streamkit.streams.store import ProducerSequences, PutResult, PutResults, Split


class _Pending(msgspec.Struct):
    """Records of one stream in the group that still gathers: what is put until it is written extends them."""

    change: RecordsPut
    shards: dict[int, ShardRecords]
    newest: dict[int, int]

    def add(
        self,
        index: int,
        first: int,
        now_ms: int,
        keys: list[str],
        data: list[bytes],
        attributes: Mapping[int, Attributes],
    ) -> None:
        """Records of one shard, which go on where those before ended; ``attributes`` by place."""
        logged = self.shards.get(index)
        if logged is None:
            logged = self.shards[index] = ShardRecords(index, first, [now_ms, len(keys)], keys, data)
            self.change.shards.append(logged)
        else:
            logged.keys.extend(keys)
            logged.data.extend(data)
            if logged.arrivals[-2] == now_ms:
                logged.arrivals[-1] += len(keys)
            else:
                logged.arrivals += (now_ms, len(keys))
        if attributes:
            extend(logged.attributes, first - logged.first_number, attributes)
        self.newest[index] = first + len(keys) - 1


class StreamWrites:
    """Stages what ``StreamStore`` was asked to write; whoever staged waits for the group."""

    def __init__(self, log: Log, clock: Clock, limits: Limits, wake: Callable[[StreamState, int], None]) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._wake = wake
        self._open: dict[int, _Pending] = {}
        self._open_group = 0
        # Shards of ON_DEMAND streams that took so much that they split before the next put.
        self._hot: dict[int, set[int]] = {}

    def put(
        self, stream: StreamState, routed: Routed, producer: ProducerSequences | None, *, packed: bool = False
    ) -> tuple[Sequence[PutResult], int]:
        """Stage what the shards' limits admit and the producer did not put before."""
        if producer is not None:
            return self._stage_once(stream, routed, producer)
        if self._limits.shard_put_records or self._limits.shard_put_bytes:
            return self._stage_within_limits(stream, routed, None, packed=packed)
        return self.stage(stream, routed)

    def stage(
        self, stream: StreamState, routed: Routed, mark: tuple[str, int] | None = None
    ) -> tuple[Sequence[PutResult], int]:
        """Number, keep and log entries, and the last sequence of an idempotent producer with them.

        They are durable with the returned group.

        # ATOMIC: numbering and appending are one step, so journal order is sequence order
        # INVARIANT: test_numbers_are_journal_order
        """
        now_ms = self._clock.now_ms()
        pending = self._open.get(stream.stream_id) if self._open_group == self._log.group else None
        fresh = pending is None
        if pending is None:
            pending = _Pending(RecordsPut(stream.stream_id, [], {}), {}, {})
        ids: dict[int, str] = {}
        firsts: dict[int, int] = {}
        for index, keys, data, attributes in _by_shard(routed):
            shard = stream.shards[index]
            self._look_at(stream, shard, keys, data, now_ms)
            ids[index] = shard.shard_id
            first = firsts[index] = shard.append([now_ms] * len(keys), keys, data, attributes)
            pending.add(index, first, now_ms, keys, data, attributes)
        if mark is not None:
            pending.change.producers[mark[0]] = mark[1]
            stream.producer_put(*mark, now_ms, self._log.group)
        group = self._log_pending(stream, pending) if fresh else self._open_group
        return PutResults(routed.shards, ids, firsts), group

    def _log_pending(self, stream: StreamState, pending: _Pending) -> int:
        group = self._log.append(pending.change, partial(self._publish, stream, pending))
        if group == self._log.group:
            # The group still gathers: what other tasks put until it is written extends this very change.
            if self._open_group != group:
                self._open.clear()
                self._open_group = group
            self._open[stream.stream_id] = pending
        return group

    def _look_at(
        self, stream: StreamState, shard: Shard, keys: Sequence[str], data: Sequence[bytes], now_ms: int
    ) -> None:
        """What a put brings about beside itself: old records go, a busy shard splits before the next put."""
        attributes = stream.attributes
        if attributes.retention_ms is not None:
            shard.forget_older(now_ms - attributes.retention_ms, attributes.retention_ms // 16)
        if attributes.mode == "ON_DEMAND":
            size = sum(map(len, data)) + sum(map(len, keys))
            if stream.load_of(shard).add(len(keys), size, now_ms):
                self._hot.setdefault(stream.stream_id, set()).add(shard.index)

    def _publish(self, stream: StreamState, pending: _Pending) -> None:
        for producer_id, sequence in pending.change.producers.items():
            stream.producer_durable(producer_id, sequence)
        for index, number in pending.newest.items():
            shard = stream.shards[index]
            shard.readable = max(shard.readable, number)
            self._wake(stream, index)

    def _stage_within_limits(
        self, stream: StreamState, routed: Routed, producer: ProducerSequences | None, *, packed: bool = False
    ) -> tuple[list[PutResult], int]:
        """Stage what the shards' limits admit; with ``producer`` nothing after the first entry that is refused.

        Of ``packed`` entries nothing after it in its shard: an aggregate and a plain one may have a key in common.
        """
        now_ms = self._clock.now_ms()
        refused: dict[str | int, StreamKitError] = {}
        errors: list[StreamKitError | None] = []
        for index, key, data in zip(routed.shards, routed.keys, routed.data, strict=True):
            shard = stream.shards[index]
            of = index if packed else key
            error = refused.get(of) if producer is None else next(iter(refused.values()), None)
            if error is None and shard.meter is not None:
                over = shard.meter.put(len(data) + len(key.encode()), now_ms)
                if over is not None:
                    error = refused[of] = ThroughputExceededError(f"{shard.shard_id} of stream {stream.name!r}", *over)
            errors.append(error)
        admitted = [position for position, error in enumerate(errors) if error is None]
        stored: Sequence[PutResult] = ()
        group = 0
        if admitted:
            mark = None if producer is None else (producer.producer_id, producer.sequences[admitted[-1]])
            stored, group = self.stage(stream, routed.some(admitted), mark)
        answers = iter(stored)
        return [next(answers) if error is None else PutResult("", 0, error) for error in errors], group

    def _stage_once(
        self, stream: StreamState, routed: Routed, producer: ProducerSequences
    ) -> tuple[list[PutResult], int]:
        """Stage what was not stored before, and only an unbroken run of it, so that one number says what was stored."""
        known = stream.known(producer, len(routed.keys))
        state = stream.producers.get(producer.producer_id)
        # What is a duplicate may still be on its way to the disk.
        group = 0 if state is None or known == 0 else state.group
        duplicates = [PutResult("", 0, duplicate=True)] * known
        if known == len(routed.keys):
            return duplicates, group
        rest = routed.some(range(known, len(routed.keys)))
        unknown = ProducerSequences(producer.producer_id, producer.sequences[known:])
        results, staged = self._stage_within_limits(stream, rest, unknown)
        return duplicates + results, max(group, staged)

    # ---- shards

    def split_hot(self, stream: StreamState) -> bool:
        """Split the shards that took too much for a shard; whether there were any."""
        if stream.stream_id not in self._hot:
            return False
        for index in self._hot.pop(stream.stream_id):
            shard = stream.shards.get(index)
            key = None if shard is None else middle(shard.hash_key_range)
            if shard is None or key is None or shard.closed_ms is not None:
                continue
            if stream.attributes.mode == "ON_DEMAND" and stream.open_count < self._limits.on_demand_shards:
                self.reshard(stream, *stream.decide(Split(shard.shard_id, key)))
        return True

    def reshard(self, stream: StreamState, closing: Sequence[Shard], opening: Sequence[Shard]) -> int:
        """Close shards and open others; durable with the returned group."""
        opened = [
            OpenedShard(shard.index, str(shard.hash_key_range.start), str(shard.hash_key_range.end), shard.parents)
            for shard in opening
        ]
        closed = [shard.index for shard in closing]
        change = Resharded(stream.stream_id, self._clock.now_ms(), closed, opened)
        stream.reshard(closed, opening, change.at_ms)
        # What is put from now on must not join what was logged before the children were there.
        self._open.pop(stream.stream_id, None)
        return self._log.append(change, partial(self.publish_ends, stream, closing))

    def publish_ends(self, stream: StreamState, closed: Sequence[Shard]) -> None:
        """Readers may know that these are closed."""
        for shard in closed:
            shard.ended = True
            self._wake(stream, shard.index)

    def forget(self, stream: StreamState) -> None:
        """The stream was deleted."""
        self._hot.pop(stream.stream_id, None)


def _by_shard(routed: Routed) -> Iterable[tuple[int, list[str], list[bytes], Mapping[int, Attributes]]]:
    """The entries of each shard, in order, as columns, and what attributes they have, by place.

    Only places go through a loop of Python; to pick both columns by them costs a tenth of that.
    """
    shards, keys, data = routed.shards, routed.keys, routed.data
    places: dict[int, list[int]] = {index: [] for index in dict.fromkeys(shards)}
    if len(places) == 1:
        yield shards[0], keys, data, routed.attributes
        return
    add = {index: column.append for index, column in places.items()}
    for add_place, place in zip(map(add.__getitem__, shards), range(len(shards)), strict=True):
        add_place(place)
    given = routed.attributes
    for index, chosen in places.items():
        attributes = {to: given[at] for to, at in enumerate(chosen) if at in given} if given else given
        if len(chosen) == 1:
            yield index, [keys[chosen[0]]], [data[chosen[0]]], attributes
        else:
            pick = itemgetter(*chosen)
            yield index, list(pick(keys)), list(pick(data)), attributes

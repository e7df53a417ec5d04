"""One stream: which shard takes a record, what is refused, which shards there are. Pure and hot.

HOT: `python -m benchmarks --only append` and `--only puts`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from streamkit.errors import NotFoundError, StaleAggregateError, ValidationError
from streamkit.limits import Limits
from streamkit.streams import record_attributes
from streamkit.streams.keyspace import KEY_SPACE, MOST_SHARD_INDEX, HashKeyRange, even_ranges, hash_key, shard_id_of
from streamkit.streams.record_attributes import Attributes
from streamkit.streams.reshard import merged_range, split_range
from streamkit.streams.shard import Shard
from streamkit.streams.store import (
    Merge,
    ProducerSequences,
    PutColumns,
    PutEntry,
    Split,
    StreamAttributes,
    StreamDescription,
)
from streamkit.streams.throughput import ShardLoad, ShardMeter

# Partition keys repeat, and a look-up costs a tenth of an MD5; the bound keeps unbounded key sets from eating memory.
_ROUTES_KEPT = 100_000
_MOST_KEY_BYTES = 1024
"""256 characters of up to four bytes."""
_MOST_PRODUCERS = 100_000
"""Ids that a stream remembers; they cost some 30 MB."""
_BYTES = {bytes}
_INT = {int}


class Routed(msgspec.Struct, gc=False):
    """Entries that may be stored, as columns, with the index of the shard that takes each."""

    shards: list[int]
    keys: list[str]
    data: list[bytes]
    attributes: Mapping[int, Attributes] = {}
    """By position; of those that have some."""

    def some(self, places: Sequence[int]) -> Routed:
        """The entries at these places."""
        attributes = self.attributes
        return Routed(
            [self.shards[at] for at in places],
            [self.keys[at] for at in places],
            [self.data[at] for at in places],
            {to: attributes[at] for to, at in enumerate(places) if at in attributes} if attributes else {},
        )


class ProducerState(msgspec.Struct):
    """An idempotent producer, as its stream knows it."""

    last_sequence: int
    seen_ms: int
    group: int = 0
    """The log's group that the last sequence is in."""
    durable: int | None = None
    """The last that is durable while ``last_sequence`` is not yet, -1: none; None: that one is."""


class StreamState:
    """One stream and its shards. Readers wait elsewhere; colder storage is elsewhere."""

    __slots__ = (
        "_open",
        "_routes",
        "_starts",
        "attributes",
        "created_ms",
        "limits",
        "name",
        "next_index",
        "producers",
        "shards",
        "stream_id",
    )

    def __init__(
        self, stream_id: int, name: str, created_ms: int, attributes: StreamAttributes, limits: Limits
    ) -> None:
        self.stream_id = stream_id
        self.name = name
        self.created_ms = created_ms
        self.attributes = attributes
        self.limits = limits
        self.shards: dict[int, Shard] = {}
        """By index, in order; those that expired are not there any more."""
        self.next_index = 0
        self.producers: dict[str, ProducerState] = {}
        self._routes: dict[str, int] = {}
        # The open shards by their ranges: the first keys, and the indexes.
        self._starts: list[int] = []
        self._open: list[int] = []

    @classmethod
    def fresh(
        cls,
        stream_id: int,
        name: str,
        created_ms: int,
        shard_count: int,
        attributes: StreamAttributes,
        limits: Limits,
    ) -> StreamState:
        """A new stream with open shards of equal width."""
        state = cls(stream_id, name, created_ms, attributes, limits)
        state.adopt(Shard(index, keys) for index, keys in enumerate(even_ranges(shard_count)))
        return state

    def describe(self) -> StreamDescription:
        """As DescribeStream shows it."""
        return StreamDescription(
            self.name,
            self.stream_id,
            self.created_ms,
            tuple(shard.describe() for shard in self.shards.values()),
            self.attributes,
            self._durable_sequences(),
        )

    def _durable_sequences(self) -> dict[str, int]:
        # Whoever is told of a sequence takes its record for stored.
        # INVARIANT: test_a_sequence_is_told_when_it_is_durable
        known = {
            name: producer.last_sequence if producer.durable is None else producer.durable
            for name, producer in self.producers.items()
        }
        return known if -1 not in known.values() else {name: at for name, at in known.items() if at >= 0}

    def shard(self, shard_id: str) -> Shard:
        """The shard of this id.

        Raises:
            NotFoundError: there is none, or it expired.
        """
        for shard in self.shards.values():
            if shard.shard_id == shard_id:
                return shard
        raise NotFoundError("shard", shard_id, f"stream {self.name!r} has {len(self.shards)} shards")

    # ---- routing

    def route(self, entry: PutEntry) -> int:
        """The index of the shard that takes ``entry``."""
        return self.check([entry]).shards[0]

    def check(self, entries: Sequence[PutEntry]) -> Routed:
        """Route the entries; or refuse the whole call if anything in it is malformed or over a limit.

        Raises:
            ValidationError: says which entry, what is wrong and what is allowed.
        """
        limits = self.limits
        count = len(entries)
        if not 1 <= count <= limits.put_records:
            raise ValidationError(f"put_records takes 1 to {limits.put_records:,} entries, not {count:,}")
        explicit: list[int | None] = []
        if isinstance(entries, PutColumns):
            keys, data, attributes = list(entries.keys), list(entries.data), entries.attributes
        else:
            keys = [entry.partition_key for entry in entries]
            data = [entry.data for entry in entries]
            explicit = [entry.explicit_hash_key for entry in entries]
            attributes = {at: entry.attributes for at, entry in enumerate(entries) if entry.attributes}
        try:
            shards = list(map(self._routes.__getitem__, keys))
        except (KeyError, TypeError):
            shards = self._learn(keys)
        if set(map(type, data)) != _BYTES:
            self._check_data(data)
        size = sum(map(len, data))
        # Exact counting is for those who come near a limit.
        if size > limits.put_bytes - _MOST_KEY_BYTES * count or (
            size > limits.record_bytes - _MOST_KEY_BYTES and max(map(len, data)) > limits.record_bytes - _MOST_KEY_BYTES
        ):
            self._check_sizes(keys, data)
        for position, key in enumerate(explicit):
            if key is not None:
                shards[position] = self._shard_of_explicit(position, key)
        if attributes:
            # Those of a batch mostly share theirs.
            for position, given in {id(given): (position, given) for position, given in attributes.items()}.values():
                record_attributes.check(given, f"entry {position}")
        return Routed(shards, keys, data, attributes)

    def _learn(self, keys: Sequence[str]) -> list[int]:
        """Where each key goes; those that were not seen yet are looked at and remembered."""
        routes = self._routes
        if len(routes) + len(keys) > _ROUTES_KEPT:
            routes.clear()
        for position, key in enumerate(keys):
            if not isinstance(key, str) or not 1 <= len(key) <= 256:
                raise ValidationError(f"entry {position}: a partition key is 1 to 256 characters, not {key!r:.80}")
            if key not in routes:
                try:
                    routes[key] = self._shard_of(hash_key(key))
                except UnicodeEncodeError as error:
                    raise ValidationError(f"entry {position}: the partition key has no UTF-8 form: {error}") from None
        return list(map(routes.__getitem__, keys))

    def _shard_of(self, key: int) -> int:
        return self._open[bisect_right(self._starts, key) - 1]

    def _shard_of_explicit(self, position: int, key: int) -> int:
        if not isinstance(key, int) or not 0 <= key < KEY_SPACE:
            raise ValidationError(f"entry {position}: explicit_hash_key must be 0 to 2**128 - 1, not {key!r}")
        return self._shard_of(key)

    def _check_data(self, data: Sequence[bytes]) -> None:
        for position, each in enumerate(data):
            if not isinstance(each, bytes):
                raise ValidationError(f"entry {position}: data must be bytes, not {type(each).__name__}")

    def _check_sizes(self, keys: Sequence[str], data: Sequence[bytes]) -> None:
        # AWS: a key counts by its UTF-8 bytes.
        limits = self.limits
        total = 0
        for position, (key, each) in enumerate(zip(keys, data, strict=True)):
            size = len(each) + len(key.encode())
            if size > limits.record_bytes:
                raise ValidationError(
                    f"entry {position}: the record has {size:,} bytes and the limit is {limits.record_bytes:,}"
                )
            total += size
        if total > limits.put_bytes:
            raise ValidationError(f"the call has {total:,} bytes and the limit is {limits.put_bytes:,}: split it")

    def check_newest(self, shard_id: str) -> None:
        """Refuse what was packed when another shard than now was the newest.

        Raises:
            StaleAggregateError: it was.
        """
        newest = shard_id_of(self.next_index - 1)
        if shard_id != newest:
            raise StaleAggregateError(self.name, f"the newest shard is {newest}, and it was packed for {shard_id}")

    # ---- producers

    def known(self, producer: ProducerSequences, count: int) -> int:
        """How many of a call's entries, from the first on, were stored before.

        Raises:
            ValidationError: the id or the sequences are malformed, or the id is one too many.
            StaleAggregateError: of the first that was not, some records were.
        """
        sequences, firsts = producer.sequences, producer.firsts
        for each in (sequences,) if firsts is None else (sequences, firsts):
            if len(each) != count:
                raise ValidationError(f"{count} entries need as many producer sequences, not {len(each)}")
            # What the log cannot hold must not reach it.
            if (
                set(map(type, each)) != _INT
                or any(a >= b for a, b in pairwise(each))
                or each[0] < 0
                or each[-1] >= 2**63
            ):
                raise ValidationError("producer sequences are integers from 0 on and strictly increasing within a call")
        state = self.producers.get(producer.producer_id) if isinstance(producer.producer_id, str) else None
        if state is None:
            check_producer_id(producer.producer_id)
            if len(self.producers) >= _MOST_PRODUCERS:
                raise ValidationError(
                    f"stream {self.name!r} remembers {_MOST_PRODUCERS:,} producer ids, each for a week after its last "
                    "put, and has no room for another: give a producer the same id every time it runs"
                )
            return 0
        last = state.last_sequence
        known = bisect_right(sequences, last)
        if firsts is not None and known < count and firsts[known] <= last:
            raise StaleAggregateError(self.name, f"of one aggregate the records up to {last} were stored before", last)
        return known

    def producer_put(self, producer_id: str, sequence: int, now_ms: int, group: int) -> None:
        """A producer's sequence is in a group of the log, which is not durable yet."""
        state = self.producers.get(producer_id)
        durable = -1
        if state is not None:
            durable = state.last_sequence if state.durable is None else state.durable
        self.producers[producer_id] = ProducerState(sequence, now_ms, group, durable)

    def producer_durable(self, producer_id: str, sequence: int) -> None:
        """A producer's sequence is durable."""
        state = self.producers.get(producer_id)
        if state is not None:
            state.durable = None if sequence >= state.last_sequence else sequence

    def forget_producers(self, seen_before_ms: int) -> None:
        """Idempotent producers that were not seen since an instant are unknown from now on."""
        gone = [name for name, producer in self.producers.items() if producer.seen_ms < seen_before_ms]
        for name in gone:
            del self.producers[name]

    # ---- shards

    def adopt(self, shards: Iterable[Shard], *, now_ms: int = 0) -> None:
        """These shards, too, are there."""
        limits = self.limits
        limited = (limits.shard_put_records, limits.shard_put_bytes, limits.shard_get_calls, limits.shard_get_bytes)
        for shard in shards:
            if any(limit is not None for limit in limited):
                shard.meter = ShardMeter(limits, now_ms)
            self.shards[shard.index] = shard
            self.next_index = max(self.next_index, shard.index + 1)
        self._reroute()

    def children_of(self, shard: Shard) -> list[Shard]:
        """The shards that a closed one became."""
        return [child for child in self.shards.values() if shard.index in child.parents]

    def decide(self, step: Split | Merge) -> tuple[list[Shard], list[Shard]]:
        """The shards that a step closes, and those that it opens; nothing has changed yet.

        Raises:
            NotFoundError: there is no such shard.
            ValidationError: it cannot be done; the message says why.
        """
        if isinstance(step, Split):
            closing = [self.shard(step.shard_id)]
            ranges = split_range(step.shard_id, closing[0].hash_key_range, step.new_starting_hash_key)
        else:
            closing = [self.shard(step.shard_id), self.shard(step.adjacent_shard_id)]
            lower, upper = closing
            ranges = [merged_range(lower.shard_id, lower.hash_key_range, upper.shard_id, upper.hash_key_range)]
        for shard in closing:
            if shard.closed_ms is not None:
                raise ValidationError(f"{shard.shard_id} of stream {self.name!r} is closed: reshard its children")
        return closing, self.children(ranges, closing)

    def children(self, ranges: Sequence[HashKeyRange], parents: Sequence[Shard]) -> list[Shard]:
        """New shards of these ranges.

        Raises:
            ValidationError: there would be too many.
        """
        if self.next_index + len(ranges) - 1 > MOST_SHARD_INDEX:
            raise ValidationError(f"stream {self.name!r} has had {self.next_index:,} shards, and can have no more")
        if len(self._open) - len(parents) + len(ranges) > self.limits.open_shards:
            raise ValidationError(f"a stream has at most {self.limits.open_shards:,} open shards")
        indexes = tuple(parent.index for parent in parents)
        return [Shard(index, keys, indexes) for index, keys in enumerate(ranges, self.next_index)]

    def reshard(self, closing: Iterable[int], opened: Iterable[Shard], now_ms: int) -> None:
        """The new shards take what the old ones took; readers learn of it by ``ended``."""
        for index in closing:
            self.shards[index].closed_ms = now_ms
        self.adopt(opened, now_ms=now_ms)

    def expire(self, shard: Shard) -> None:
        """A closed shard whose records are all trimmed is gone."""
        del self.shards[shard.index]

    @property
    def open_count(self) -> int:
        """How many shards take records."""
        return len(self._open)

    def load_of(self, shard: Shard) -> ShardLoad:
        """The write rate of a shard of an ON_DEMAND stream."""
        if shard.load is None:
            shard.load = ShardLoad(self.limits)
        return shard.load

    def _reroute(self) -> None:
        is_open = sorted(
            (shard for shard in self.shards.values() if shard.closed_ms is None), key=lambda s: s.hash_key_range.start
        )
        self._starts = [shard.hash_key_range.start for shard in is_open]
        self._open = [shard.index for shard in is_open]
        self._routes.clear()


def check_producer_id(producer_id: object) -> None:
    """Refuse an id that no stream takes.

    Raises:
        ValidationError: it is not 1 to 128 characters that have a UTF-8 form.
    """
    if not isinstance(producer_id, str) or not 1 <= len(producer_id) <= 128:
        raise ValidationError(f"a producer id is 1 to 128 characters, not {producer_id!r:.80}")
    try:
        producer_id.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"the producer id has no UTF-8 form: {error}") from None

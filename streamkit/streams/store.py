"""The stream port: what an engine does for streams, at the height of the service's own API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Literal, Protocol

import msgspec

from streamkit.errors import StreamKitError, ValidationError
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.record import StoredRecord
from streamkit.streams.record_attributes import Attributes

StartingPosition = Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"]


StreamMode = Literal["PROVISIONED", "ON_DEMAND"]
"""Who decides how many shards there are: the user, or the write rate (shards split while they are hot)."""

DEFAULT_RETENTION_MS = 24 * 3_600_000


class StreamAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """What can be changed about a stream while it is used."""

    retention_ms: int | None = DEFAULT_RETENTION_MS
    """Records older than this are gone; None: they stay. AWS: 24 hours unless changed, 8,760 at most."""
    mode: StreamMode = "PROVISIONED"


def retention_ms_of(seconds: float | None) -> int | None:
    """Seconds as users give them, in milliseconds; None: for ever.

    Raises:
        ValidationError: it is no number of seconds.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < 10**12:
        raise ValidationError(f"a retention is a number of seconds above 0, or None for ever, not {seconds!r}")
    return round(seconds * 1000)


class Split(msgspec.Struct, frozen=True):
    """Close an open shard, and open two instead."""

    shard_id: str
    new_starting_hash_key: int
    """Of the upper one; inside the range, so that none of the two is empty."""


class Merge(msgspec.Struct, frozen=True):
    """Close two open shards whose ranges touch, and open one instead."""

    shard_id: str
    """The lower range."""
    adjacent_shard_id: str


class ProducerSequences(msgspec.Struct, frozen=True):
    """Who puts, and the producer's own number of each entry: what was stored before is not stored again.

    Follows Pulsar's message deduplication (producer name and sequence id).
    """

    producer_id: str
    sequences: Sequence[int]
    """One for each entry of the call, strictly increasing; gaps are fine. An aggregate has that of its last record."""
    firsts: Sequence[int] | None = None
    """Of each entry's first record; None: no entry is an aggregate."""


class PutEntry(msgspec.Struct, frozen=True, gc=False):
    """One record to put."""

    partition_key: str
    data: bytes
    explicit_hash_key: int | None = None
    """Replaces the MD5 of the partition key when the shard is chosen. 0 to 2**128 - 1."""
    attributes: Attributes | None = None
    """At most 10 named texts, 1 KiB together; they count towards no other limit. Kinesis has no such thing."""


class PutColumns(Sequence[PutEntry]):
    """Entries of one call as columns, for those who have many: an entry is made when somebody looks at it."""

    __slots__ = ("attributes", "data", "keys")

    def __init__(
        self, keys: Sequence[str], data: Sequence[bytes], attributes: Mapping[int, Attributes] | None = None
    ) -> None:
        self.keys = keys
        self.data = data
        self.attributes = attributes or {}
        """By position; of those that have some."""

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            places = dict(zip(range(len(self))[index], count()))
            attributes = {places[place]: found for place, found in self.attributes.items() if place in places}
            return PutColumns(self.keys[index], self.data[index], attributes)
        place = index + len(self) if index < 0 else index
        return PutEntry(self.keys[index], self.data[index], None, self.attributes.get(place))


class PutResult(msgspec.Struct, frozen=True, gc=False):
    """Where one entry went, or the error that refused it (then the other two are empty)."""

    shard_id: str
    sequence_number: int
    error: StreamKitError | None = None
    duplicate: bool = False
    """The producer's sequence was stored before, so nothing was stored now; where it went then is not told."""


class PutResults(Sequence[PutResult]):
    """Results of a call that stored all its entries. HOT: `python -m benchmarks --only append`.

    A result is made when somebody looks at it, and most callers only want to know that nothing was refused.
    """

    __slots__ = ("_firsts", "_ids", "_made", "_shards")

    def __init__(self, shards: Sequence[int], ids: Mapping[int, str], firsts: Mapping[int, int]) -> None:
        """``shards``: an index for each entry; ``ids``, ``firsts``: a shard's id, and its first number of the call."""
        self._shards = shards
        self._ids = ids
        self._firsts = firsts
        self._made: list[PutResult] | None = None

    def _all(self) -> list[PutResult]:
        if self._made is None:
            numbers = {index: count(first).__next__ for index, first in self._firsts.items()}
            ids = self._ids
            self._made = [PutResult(ids[index], numbers[index]()) for index in self._shards]
        return self._made

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[PutResult]:
        return iter(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, PutResults) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._all())


class ShardDescription(msgspec.Struct, frozen=True):
    """One shard, as ListShards shows it."""

    shard_id: str
    hash_key_range: HashKeyRange
    starting_sequence_number: int
    """Belongs to the shard, not to a record: every record's number is greater."""
    ending_sequence_number: int | None = None
    """None while the shard is open; then that of its last record, or the starting number."""
    parent_shard_ids: tuple[str, ...] = ()
    """None, one (of a split) or two (of a merge; the lower range first). They may have expired."""
    latest_sequence_number: int = 0
    """Of the newest durable record; the starting number while there is none. Not in AWS: makes lag countable."""
    trim_horizon: int = 0
    """Everything up to this number was trimmed; the starting number while nothing was."""

    @property
    def is_open(self) -> bool:
        """Whether it takes records."""
        return self.ending_sequence_number is None


class StreamDescription(msgspec.Struct, frozen=True):
    """One stream, as DescribeStream shows it."""

    name: str
    stream_id: int
    """Never used again in this store, also not by a later stream of the same name."""
    created_ms: int
    shards: tuple[ShardDescription, ...]
    """Open and closed ones, a parent before its children; those whose records all expired are not there any more."""
    attributes: StreamAttributes = StreamAttributes()
    producers: Mapping[str, int] = {}
    """The last sequence that is stored of each idempotent producer."""

    def _repr_html_(self) -> str:
        from streamkit.showing.html import Html, card, quiet, table
        from streamkit.showing.words import instant, kept
        from streamkit.streams.keyspace import KEY_SPACE

        rows: list[tuple[object, ...]] = []
        for shard in self.shards:
            keys = shard.hash_key_range
            records = max(0, shard.latest_sequence_number - max(shard.trim_horizon, shard.starting_sequence_number))
            state: str | Html = "open" if shard.is_open else quiet("closed")
            parents = ", ".join(shard.parent_shard_ids)
            rows.append((shard.shard_id, state, records, f"{(keys.end - keys.start + 1) / KEY_SPACE:.1%}", parents))
        facts = {
            "records": sum(row[2] for row in rows if isinstance(row[2], int)),
            "open shards": len(self.open_shards),
            "mode": self.attributes.mode,
            "kept": kept(self.attributes.retention_ms),
            "created": f"{instant(self.created_ms)} UTC",
        }
        header = ["shard", "state", "records", "of the keys", "parents"]
        return card("Stream", self.name, facts, table(header, rows))

    @property
    def newest_shard_id(self) -> str:
        """Every split and merge changes it, so it stands for the shards that there are."""
        return max(shard.shard_id for shard in self.shards)

    @property
    def open_shards(self) -> tuple[ShardDescription, ...]:
        """Those that take records; their ranges cover the key space."""
        return tuple(shard for shard in self.shards if shard.is_open)


class RecordBatch(msgspec.Struct, frozen=True):
    """What one ``get_records`` returned."""

    records: Sequence[StoredRecord]
    next_iterator: str | None
    """None only when the shard is closed and fully read."""
    millis_behind_latest: int
    child_shards: tuple[str, ...] = ()
    """Only in the answer that reaches a closed shard's end."""
    trimmed: int = 0
    """How many records between the iterator's position and these were trimmed unread. AWS does not tell."""


class StreamStore(Protocol):
    """The port. Every method may raise ``NotFoundError``, ``StorageError`` and ``ClosedError`` beside what it names.

    Ordering: within a shard, records are numbered, stored and read in one order. A key's records are in one open shard
    at any time, and in a chain of shards over time: who reads parents to their end before children reads them in order.
    Durability: what a method returned has happened as durably as the engine's policy says.
    Cancellation: a cancelled call may or may not have happened; it never happened in part.
    """

    async def create_stream(
        self, name: str, shard_count: int, attributes: StreamAttributes | None = None
    ) -> StreamDescription:
        """Create a stream with open shards of equal width. Writable when it returns.

        Raises:
            AlreadyExistsError: there is a stream of this name.
            ValidationError: the name, the number of shards or an attribute is out of range.
        """
        ...

    async def update_stream(self, name: str, attributes: StreamAttributes) -> None:
        """Change what can be changed. A shorter retention trims at once; a longer one brings nothing back.

        Raises:
            ValidationError: an attribute is out of range.
        """
        ...

    async def reshard(self, name: str, step: Split | Merge) -> StreamDescription:
        """Close shards and open their children, as one. Puts and reads go on meanwhile; the answer has both.

        Raises:
            NotFoundError: the stream has no such shard.
            ValidationError: a shard is closed, the ranges do not touch, the key does not split the range, there would
                be too many shards, or the stream is ON_DEMAND.
        """
        ...

    async def delete_stream(self, name: str) -> None:
        """Delete a stream and its records. Waiting readers get ``NotFoundError``."""
        ...

    async def describe_stream(self, name: str) -> StreamDescription:
        """The stream as it is now, its shards in the order of their ids."""
        ...

    async def list_streams(self) -> list[str]:
        """All names, sorted."""
        ...

    async def put_records(
        self,
        name: str,
        entries: Sequence[PutEntry],
        producer: ProducerSequences | None = None,
        newest_shard_id: str | None = None,
    ) -> Sequence[PutResult]:
        """Store entries; one result per entry, in order. Entries of one shard keep their order.

        An entry refused with a retryable error refuses the later entries of its partition key in the call as well, so
        that trying them again keeps their order. With ``producer`` it refuses all later entries, and those whose
        sequence is not above the last that is stored of this producer are answered as duplicates.

        Who packed entries for shards passes the newest shard that was described: if it is not the newest any more,
        nothing is stored; and an entry that is refused refuses the later ones of its shard.

        Raises:
            ValidationError: an entry or the call is over a limit or malformed; nothing was stored.
            StaleAggregateError: there is a newer shard, or only a part of an aggregate is a duplicate; nothing was
                stored.
        """
        ...

    async def get_shard_iterator(
        self, name: str, shard_id: str, position: StartingPosition, *, sequence_number: int = 0, timestamp_ms: int = 0
    ) -> str:
        """An opaque token of at most 512 characters that names a position; it lives five minutes.

        ``AT_SEQUENCE_NUMBER`` is inclusive and ``AFTER_SEQUENCE_NUMBER`` is not; both also take the shard's starting
        number. If what they name was trimmed, reading begins at the horizon and says how much was missed.
        ``TRIM_HORIZON`` is the oldest record there is. ``AT_TIMESTAMP`` is the first record that arrived at
        ``timestamp_ms`` or later. ``LATEST`` is after the newest record at the moment of the call.
        """
        ...

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        """Up to ``limit`` durable records from the iterator's position on, and the iterator to go on with.

        With ``wait_ms`` and nothing to read, waits for the next record at most that long; the append wakes it. An
        empty batch is legal at any time. An iterator may be used again.

        Raises:
            ExpiredIteratorError: the token is older than five minutes.
            ValidationError: the token is not one of this store, or ``limit`` is out of range.
        """
        ...

"""Which shard, which number, what is readable: the rules of one stream. Pure and hot.

HOT: `python -m benchmarks --only append` and `--only puts`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.streams.keyspace import KEY_SPACE, HashKeyRange, even_ranges, hash_key, shard_id_of
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutEntry, ShardDescription, StreamDescription

_number_of = attrgetter("sequence_number")

# Partition keys repeat, and a look-up costs a tenth of an MD5; the bound keeps unbounded key sets from eating memory.
_ROUTES_KEPT = 100_000


class Shard:
    """One shard: its place in the key space and the records that are in memory.

    Numbers up to ``moved_to`` are in colder storage, later ones in memory; readers see those up to ``readable``.
    """

    __slots__ = ("hash_key_range", "index", "moved_to", "readable", "records", "shard_id", "starting_number")

    def __init__(self, index: int, hash_key_range: HashKeyRange, starting_number: int) -> None:
        self.index = index
        self.shard_id = shard_id_of(index)
        self.hash_key_range = hash_key_range
        self.starting_number = starting_number
        self.moved_to = starting_number
        self.readable = starting_number
        self.records: list[StoredRecord] = []

    def describe(self) -> ShardDescription:
        """As ListShards shows it."""
        return ShardDescription(
            self.shard_id, self.hash_key_range, self.starting_number, latest_sequence_number=self.readable
        )

    def read(self, after: int, limit: int, max_bytes: int) -> list[StoredRecord]:
        """Readable records after a number, from memory.

        At most ``limit``, and at most ``max_bytes`` of data unless the first record alone has more.
        ``after`` must not be less than ``moved_to``.
        """
        records = self.records
        start = bisect_right(records, after, key=_number_of)
        end = bisect_right(records, self.readable, lo=start, key=_number_of)
        return within(records[start : min(end, start + limit)], max_bytes)

    def first_at(self, instant_ms: int) -> int | None:
        """The number of the first record in memory that arrived at or after ``instant_ms``; None if there is none."""
        return next((r.sequence_number for r in self.records if r.arrival_ms >= instant_ms), None)

    def move_out(self, number: int) -> None:
        """Forget the records up to ``number``: they are in colder storage now."""
        del self.records[: bisect_right(self.records, number, key=_number_of)]
        self.moved_to = max(self.moved_to, number)


def within(records: list[StoredRecord], max_bytes: int) -> list[StoredRecord]:
    """The longest prefix of at most ``max_bytes`` of data, but at least one record."""
    total = sum(len(record.data) for record in records)
    if total <= max_bytes:
        return records
    count = 0
    total = 0
    for record in records:
        total += len(record.data)
        if count and total > max_bytes:
            break
        count += 1
    return records[:count]


class StreamState:
    """One stream: its shards and the number it gave last.

    Numbers come from one counter for the whole stream. So they are unique in it, strictly increasing in every shard,
    and a child shard's are greater than its parents'.
    """

    __slots__ = ("_routes", "created_ms", "last_number", "name", "shards", "stream_id")

    def __init__(self, stream_id: int, name: str, created_ms: int, shards: list[Shard], last_number: int) -> None:
        self.stream_id = stream_id
        self.name = name
        self.created_ms = created_ms
        self.shards = shards
        self.last_number = last_number
        self._routes: dict[str, int] = {}

    @classmethod
    def fresh(cls, stream_id: int, name: str, created_ms: int, shard_count: int) -> StreamState:
        """A new stream; each shard takes one number as its starting number."""
        shards = [Shard(index, keys, index + 1) for index, keys in enumerate(even_ranges(shard_count))]
        return cls(stream_id, name, created_ms, shards, shard_count)

    def describe(self) -> StreamDescription:
        """As DescribeStream shows it."""
        return StreamDescription(
            self.name, self.stream_id, self.created_ms, tuple(shard.describe() for shard in self.shards)
        )

    def shard(self, shard_id: str) -> Shard | None:
        """The shard of this id."""
        return next((shard for shard in self.shards if shard.shard_id == shard_id), None)

    def route(self, entry: PutEntry) -> int:
        """The index of the shard that takes ``entry``."""
        if entry.explicit_hash_key is not None:
            return self._shard_of(entry.explicit_hash_key)
        key = entry.partition_key
        index = self._routes.get(key)
        if index is None:
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            index = self._routes[key] = self._shard_of(hash_key(key))
        return index

    def _shard_of(self, key: int) -> int:
        return next(shard.index for shard in self.shards if key in shard.hash_key_range)

    def validate(self, entries: Sequence[PutEntry], limits: Limits) -> None:
        """Refuse the whole call if anything in it is malformed or over a limit.

        Raises:
            ValidationError: says which entry, what is wrong and what is allowed.
        """
        if not 1 <= len(entries) <= limits.put_records:
            raise ValidationError(f"put_records takes 1 to {limits.put_records:,} entries, not {len(entries):,}")
        total = 0
        for position, entry in enumerate(entries):
            key, data = entry.partition_key, entry.data
            if not isinstance(key, str) or not 1 <= len(key) <= 256:
                raise ValidationError(f"entry {position}: a partition key is 1 to 256 characters, not {key!r:.80}")
            if not isinstance(data, bytes):
                raise ValidationError(f"entry {position}: data must be bytes, not {type(data).__name__}")
            if key not in self._routes:
                try:
                    key.encode()
                except UnicodeEncodeError as error:
                    raise ValidationError(f"entry {position}: the partition key has no UTF-8 form: {error}") from None
            explicit = entry.explicit_hash_key
            if explicit is not None and not (isinstance(explicit, int) and 0 <= explicit < KEY_SPACE):
                raise ValidationError(f"entry {position}: explicit_hash_key must be 0 to 2**128 - 1, not {explicit!r}")
            # AWS: the key counts by its UTF-8 bytes; the exact count matters only near the limit.
            size = len(data) + (len(key) if key.isascii() else len(key.encode()))
            if size > limits.record_bytes:
                raise ValidationError(
                    f"entry {position}: the record has {size:,} bytes and the limit is {limits.record_bytes:,}"
                )
            total += size
        if total > limits.put_bytes:
            raise ValidationError(f"the call has {total:,} bytes and the limit is {limits.put_bytes:,}: split it")

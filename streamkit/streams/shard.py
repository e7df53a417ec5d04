"""One shard: its place in the key space, its numbers, and the records that are in memory. Pure and hot.

HOT: `python -m benchmarks --only append`, `--only puts` and `--only read`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from streamkit.streams.keyspace import SHARD_NUMBERS, HashKeyRange, shard_id_of
from streamkit.streams.record import StoredRecord
from streamkit.streams.record_attributes import Attributes, Runs, column
from streamkit.streams.store import ShardDescription
from streamkit.streams.throughput import ShardLoad, ShardMeter


class Shard:
    """One shard.

    Its numbers have no gap, so a number is a place. Records up to ``trimmed_to`` are gone, later ones up to
    ``moved_to`` are in colder storage, later ones in memory, as columns; readers see those up to ``readable``.
    """

    __slots__ = (
        "arrivals_ms",
        "attributes",
        "closed_ms",
        "data",
        "ended",
        "hash_key_range",
        "index",
        "keys",
        "last_number",
        "load",
        "meter",
        "moved_to",
        "parents",
        "readable",
        "shard_id",
        "starting_number",
        "trimmed_to",
    )

    def __init__(self, index: int, hash_key_range: HashKeyRange, parents: tuple[int, ...] = ()) -> None:
        self.index = index
        self.shard_id = shard_id_of(index)
        self.hash_key_range = hash_key_range
        self.parents = parents
        """Indexes; they may have expired."""
        self.starting_number = index * SHARD_NUMBERS
        self.last_number = self.starting_number
        self.readable = self.starting_number
        self.moved_to = self.starting_number
        self.trimmed_to = self.starting_number
        self.closed_ms: int | None = None
        """When it was closed; None while it takes records."""
        self.ended = False
        """Readers may know that it is closed."""
        self.arrivals_ms: list[int] = []
        self.keys: list[str] = []
        self.data: list[bytes] = []
        self.attributes = Runs()
        self.meter: ShardMeter | None = None
        self.load: ShardLoad | None = None

    def describe(self) -> ShardDescription:
        """As ListShards shows it."""
        return ShardDescription(
            self.shard_id,
            self.hash_key_range,
            self.starting_number,
            self.last_number if self.ended else None,
            tuple(map(shard_id_of, self.parents)),
            self.readable,
            self.trimmed_to,
        )

    def append(
        self,
        arrivals_ms: Sequence[int],
        keys: Sequence[str],
        data: Sequence[bytes],
        attributes: Mapping[int, Attributes] | None = None,
    ) -> int:
        """Number and keep records; returns the number of the first. They become readable by ``publish``.

        ``attributes``: by place, of those that have some.
        """
        first = self.last_number + 1
        self.arrivals_ms.extend(arrivals_ms)
        self.keys.extend(keys)
        self.data.extend(data)
        if attributes:
            self.attributes.add(first, attributes)
        self.last_number += len(data)
        return first

    def read(self, after: int, limit: int, max_bytes: int) -> list[StoredRecord]:
        """Readable records after a number, from memory.

        At most ``limit``, and at most ``max_bytes`` of data unless the first record alone has more.
        ``after`` must not be less than ``moved_to``.
        """
        start = after - self.moved_to
        end = min(self.readable - self.moved_to, start + limit)
        if start >= end:
            return []
        data = self.data[start:end]
        count = count_within(data, max_bytes)
        if count < len(data):
            end = start + count
            del data[count:]
        numbers = range(after + 1, after + 1 + count)
        arrivals_ms, keys = self.arrivals_ms[start:end], self.keys[start:end]
        if self.attributes and (runs := self.attributes.between(numbers.start, numbers.stop)):
            return list(map(StoredRecord, numbers, arrivals_ms, keys, data, column(runs, count)))
        return list(map(StoredRecord, numbers, arrivals_ms, keys, data))

    def first_at(self, instant_ms: int) -> tuple[int, int] | None:
        """Number and arrival of the first record in memory that arrived at or after ``instant_ms``."""
        for position, arrival_ms in enumerate(self.arrivals_ms, self.moved_to + 1):
            if arrival_ms >= instant_ms:
                return (position, arrival_ms) if position <= self.readable else None
        return None

    def move_out(self, number: int) -> None:
        """Forget the records up to ``number``: they are in colder storage now, or trimmed."""
        count = number - self.moved_to
        if count > 0:
            del self.arrivals_ms[:count]
            del self.keys[:count]
            del self.data[:count]
            self.attributes.forget(number)
            self.moved_to = number

    def forget_older(self, cutoff_ms: int, slack_ms: int) -> None:
        """Trim what is in memory and too old, if everything older has gone; some ``slack_ms`` too late, in one go."""
        arrivals_ms = self.arrivals_ms
        if arrivals_ms and arrivals_ms[0] < cutoff_ms - slack_ms and self.trimmed_to == self.moved_to:
            found = self.first_at(cutoff_ms)
            self.trim(self.readable if found is None else found[0] - 1)

    def trim(self, number: int) -> None:
        """Records up to ``number`` are gone. A horizon never goes back."""
        self.trimmed_to = max(self.trimmed_to, number)
        self.move_out(number)


def count_within(data: Sequence[bytes], max_bytes: int) -> int:
    """How many of these, from the first on, have at most ``max_bytes`` together; at least one."""
    if sum(map(len, data)) <= max_bytes:
        return len(data)
    return max(1, next(at for at, total in enumerate(accumulate(map(len, data))) if total > max_bytes))

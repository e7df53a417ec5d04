"""What a producer holds, and what it sends next: pure, with the time passed in."""

from __future__ import annotations

from collections import deque

import msgspec

from streamkit.backoff import Retry
from streamkit.errors import ValidationError
from streamkit.limits import MIB
from streamkit.streams.aggregation import MAX_BYTES, Accepted
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.record_attributes import check as check_attributes
from streamkit.streams.store import PutEntry


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How a producer gathers. Counts in records, sizes in bytes of data and partition keys, durations in seconds."""

    max_records: int = 500
    """Records of one batch. AWS takes 500 at most; more is faster where the engine's limits allow it."""
    max_bytes: int = 5 * MIB
    """Bytes of one batch; a single larger record is still sent."""
    buffer_records: int = 10_000
    """Records accepted and not yet durable, those in flight included. ``put`` waits while there are so many."""
    buffer_bytes: int = 64 * MIB
    """Their bytes. A single larger record is accepted when nothing else is held."""
    linger: float = 0.0
    """How long a record may wait for company. 0: a batch is whatever gathered while the one before was in flight."""
    aggregate: bool = False
    """Pack records of one shard into one, as the Kinesis Producer Library does; consumers get them one by one."""
    aggregation_max_bytes: int = MAX_BYTES
    """Bytes of one such aggregate, its partition key included; a single larger record goes alone."""
    retry: Retry = Retry(first=0.1, longest=10.0)
    """The waits before what was refused with a retryable error is sent again; an error's ``retry_after`` goes first."""

    def __post_init__(self) -> None:
        for name in ("max_records", "max_bytes", "buffer_records", "buffer_bytes", "aggregation_max_bytes"):
            if getattr(self, name) < 1:
                raise ValidationError(f"Batching.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.linger <= 3600:
            raise ValidationError(f"Batching.linger must be 0 to 3,600 seconds, not {self.linger}")


class Buffer:
    """Entries in the order they were accepted: first gathered, then in flight, then settled (stored or refused).

    HOT: `python -m benchmarks --only puts`.
    """

    __slots__ = (
        "_batching",
        "_gathered",
        "_gathered_bytes",
        "_in_flight_bytes",
        "_linger_ms",
        "_oldest_ms",
        "accepted",
        "in_flight",
        "settled",
    )

    def __init__(self, batching: Batching) -> None:
        self.accepted = 0
        """How many were ever accepted."""
        self.settled = 0
        """How many of them are stored or refused."""
        self.in_flight: list[Accepted] = []
        self._batching = batching
        self._gathered: deque[Accepted] = deque()
        self._gathered_bytes = 0
        self._in_flight_bytes = 0
        self._linger_ms = round(batching.linger * 1000)
        self._oldest_ms = 0

    @property
    def taken(self) -> int:
        """How many of the accepted are not merely gathered any more."""
        return self.accepted - len(self._gathered)

    def has_room(self, size: int) -> bool:
        """Whether an entry of ``size`` bytes may be added."""
        held = self.accepted - self.settled
        batching = self._batching
        held_bytes = self._gathered_bytes + self._in_flight_bytes
        return held == 0 or (held < batching.buffer_records and held_bytes + size <= batching.buffer_bytes)

    def add(self, entry: PutEntry, size: int, now_ms: int, sequence: int = 0) -> None:
        """Accept an entry, for which there is room."""
        if not self._gathered:
            self._oldest_ms = now_ms
        self._gathered.append((entry, size, sequence))
        self._gathered_bytes += size
        self.accepted += 1

    def is_full(self) -> bool:
        """Whether a whole batch has gathered."""
        return len(self._gathered) >= self._batching.max_records or self._gathered_bytes >= self._batching.max_bytes

    def due_ms(self) -> int | None:
        """When what has gathered is to be sent though no whole batch has; None: nothing has gathered."""
        return self._oldest_ms + self._linger_ms if self._gathered else None

    def take(self) -> list[Accepted]:
        """The next batch, which is in flight from now on."""
        entries: list[Accepted] = []
        total = 0
        while self._gathered and len(entries) < self._batching.max_records:
            size = self._gathered[0][1]
            if entries and total + size > self._batching.max_bytes:
                break
            entries.append(self._gathered.popleft())
            total += size
        self._gathered_bytes -= total
        self._in_flight_bytes = total
        self.in_flight = entries
        return entries

    def settle(self) -> None:
        """What was in flight is stored or refused."""
        self.settled += len(self.in_flight)
        self._in_flight_bytes = 0
        self.in_flight = []

    def abandon(self) -> list[Accepted]:
        """Everything that is not settled, in order. It counts as settled from now on."""
        rest = [*self.in_flight, *self._gathered]
        self._gathered.clear()
        self._gathered_bytes = self._in_flight_bytes = 0
        self.in_flight = []
        self.settled = self.accepted
        return rest


def entry_bytes(entry: PutEntry) -> int:
    """Bytes of data and partition key.

    Raises:
        ValidationError: the partition key, the hash key or an attribute is malformed.
    """
    if entry.attributes:
        check_attributes(entry.attributes, "the record")
    key = entry.partition_key
    if not isinstance(key, str) or not 1 <= len(key) <= 256:
        raise ValidationError(f"a partition key is 1 to 256 characters, not {key!r:.80}")
    explicit = entry.explicit_hash_key
    if explicit is not None and (not isinstance(explicit, int) or not 0 <= explicit < KEY_SPACE):
        raise ValidationError(f"explicit_hash_key must be an int from 0 to 2**128 - 1, not {explicit!r:.80}")
    if key.isascii():
        return len(entry.data) + len(key)
    try:
        return len(entry.data) + len(key.encode())
    except UnicodeEncodeError as error:
        raise ValidationError(f"the partition key has no UTF-8 form: {error}") from None

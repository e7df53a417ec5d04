"""The stream port: what an engine does for streams, at the height of the service's own API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from streamkit.errors import StreamKitError
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.record import StoredRecord

StartingPosition = Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"]


class PutEntry(msgspec.Struct, frozen=True, gc=False):
    """One record to put."""

    partition_key: str
    data: bytes
    explicit_hash_key: int | None = None
    """Replaces the MD5 of the partition key when the shard is chosen. 0 to 2**128 - 1."""


class PutResult(msgspec.Struct, frozen=True, gc=False):
    """Where one entry went, or the error that refused it (then the other two are empty)."""

    shard_id: str
    sequence_number: int
    error: StreamKitError | None = None


class ShardDescription(msgspec.Struct, frozen=True):
    """One shard, as ListShards shows it."""

    shard_id: str
    hash_key_range: HashKeyRange
    starting_sequence_number: int
    """Belongs to the shard, not to a record: every record's number is greater."""
    ending_sequence_number: int | None = None
    """None while the shard is open."""
    parent_shard_ids: tuple[str, ...] = ()
    latest_sequence_number: int = 0
    """Of the newest durable record; the starting number while there is none. Not in AWS: makes lag countable."""


class StreamDescription(msgspec.Struct, frozen=True):
    """One stream, as DescribeStream shows it."""

    name: str
    stream_id: int
    """Never used again in this store, also not by a later stream of the same name."""
    created_ms: int
    shards: tuple[ShardDescription, ...]


class RecordBatch(msgspec.Struct, frozen=True):
    """What one ``get_records`` returned."""

    records: Sequence[StoredRecord]
    next_iterator: str | None
    """None only when the shard is closed and fully read."""
    millis_behind_latest: int
    child_shards: tuple[str, ...] = ()
    """Only in the answer that reaches a closed shard's end."""


class StreamStore(Protocol):
    """The port. Every method may raise ``NotFoundError``, ``StorageError`` and ``ClosedError`` beside what it names.

    Ordering: within a shard, records are numbered, stored and read in one order.
    Durability: what a method returned has happened as durably as the engine's policy says.
    Cancellation: a cancelled call may or may not have happened; it never happened in part.
    """

    async def create_stream(self, name: str, shard_count: int) -> StreamDescription:
        """Create a stream with open shards of equal width. Writable when it returns.

        Raises:
            AlreadyExistsError: there is a stream of this name.
            ValidationError: the name or the number of shards is out of range.
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

    async def put_records(self, name: str, entries: Sequence[PutEntry]) -> list[PutResult]:
        """Store entries; one result per entry, in order. Entries of one shard keep their order.

        An entry refused with a retryable error refuses the later entries of its partition key in the call as well, so
        that trying them again keeps their order.

        Raises:
            ValidationError: an entry or the call is over a limit or malformed; nothing was stored.
        """
        ...

    async def get_shard_iterator(
        self, name: str, shard_id: str, position: StartingPosition, *, sequence_number: int = 0, timestamp_ms: int = 0
    ) -> str:
        """An opaque token of at most 512 characters that names a position; it lives five minutes.

        ``AT_SEQUENCE_NUMBER`` is inclusive and ``AFTER_SEQUENCE_NUMBER`` is not; both also take the shard's starting
        number. ``AT_TIMESTAMP`` is the first record that arrived at ``timestamp_ms`` or later. ``LATEST`` is after
        the newest record at the moment of the call.
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

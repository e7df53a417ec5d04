"""Everything that can happen to a store, as values: what the journal holds and recovery replays.

A change says what happened, not what was asked for: numbers given, deadlines set, items as they are afterwards. So
replaying needs no clock, no condition and no randomness, and replaying twice is harmless.

The field order of these structs is the storage format (they are arrays on disk): append fields, never reorder them.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from streamkit.errors import ValidationError
from streamkit.queues.message import MessageAttribute, QueueAttributes
from streamkit.streams.record_attributes import AttributeRun
from streamkit.streams.store import StreamAttributes
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.item import TableSchema


class StreamCreated(msgspec.Struct, tag="sc", array_like=True):
    """A stream with open shards of equal width."""

    stream_id: int
    name: str
    created_ms: int
    shard_count: int
    attributes: StreamAttributes


class StreamUpdated(msgspec.Struct, tag="su", array_like=True):
    """A stream has other attributes, and its shards (by index) are trimmed up to a number; others have expired."""

    stream_id: int
    attributes: StreamAttributes
    trimmed: dict[int, int]


class OpenedShard(msgspec.Struct, array_like=True):
    """A shard that a reshard opened. Its hash keys are decimal strings: they have 128 bits."""

    index: int
    start: str
    end: str
    parents: tuple[int, ...]


class Resharded(msgspec.Struct, tag="sr", array_like=True):
    """Shards were closed, and their children opened."""

    stream_id: int
    at_ms: int
    closed: list[int]
    opened: list[OpenedShard]


class StreamDeleted(msgspec.Struct, tag="sd", array_like=True):
    """A stream and its records are gone."""

    stream_id: int


class ShardRecords(msgspec.Struct, array_like=True, gc=False):
    """Records of one shard, as columns; record i has number ``first_number + i``."""

    index: int
    first_number: int
    arrivals: list[int]
    """Runs: an instant in milliseconds, and how many in a row arrived then."""
    keys: list[str]
    data: list[bytes]
    attributes: list[AttributeRun] = []
    """Of those that have some, by place."""


class RecordsPut(msgspec.Struct, tag="r", array_like=True, gc=False):
    """Records of one stream."""

    stream_id: int
    shards: list[ShardRecords]
    producers: dict[str, int]
    """The last sequence of each idempotent producer that put some of them."""


class QueueCreated(msgspec.Struct, tag="qc", array_like=True):
    """A queue."""

    queue_id: int
    name: str
    created_ms: int
    attributes: QueueAttributes


class QueueUpdated(msgspec.Struct, tag="qu", array_like=True):
    """A queue has other attributes."""

    queue_id: int
    attributes: QueueAttributes
    now_ms: int = 0


class QueuePurged(msgspec.Struct, tag="qp", array_like=True):
    """All messages of a queue are gone."""

    queue_id: int


class QueueDeleted(msgspec.Struct, tag="qd", array_like=True):
    """A queue and its messages are gone."""

    queue_id: int


class Particulars(msgspec.Struct, array_like=True):
    """What a message has beside its body, if it has any of it."""

    group_id: str | None = None
    deduplication_id: str | None = None
    attributes: dict[str, MessageAttribute] | None = None
    trace_header: str | None = None


class MessagesSent(msgspec.Struct, tag="s", array_like=True, gc=False):
    """Messages of one queue, as columns; message i has number ``first_number + i``."""

    queue_id: int
    first_number: int
    sent_ms: int
    visible_at_ms: list[int]
    ids: list[str]
    bodies: list[bytes]
    particulars: dict[int, Particulars] = {}
    """By position."""


class MessagesReceived(msgspec.Struct, tag="rc", array_like=True, gc=False):
    """One receive: some messages hidden, some moved to the dead-letter queue. Both sides are this one change."""

    queue_id: int
    received_ms: int
    timeout_ms: int
    numbers: list[int]
    moved: list[int]
    dead_letter_queue_id: int
    first_dead_number: int
    attempt_id: str | None = None
    """Of the receive, on a FIFO queue."""
    again: bool = False
    """The deliveries of an earlier receive of this attempt: hidden anew, not counted."""


class MessagesReleased(msgspec.Struct, tag="rl", array_like=True, gc=False):
    """A receive that was cancelled before it answered: its messages were not received."""

    queue_id: int
    numbers: list[int]
    attempt_id: str | None = None
    """Of the receive, on a FIFO queue."""


class MessagesDeleted(msgspec.Struct, tag="d", array_like=True, gc=False):
    """Messages are gone."""

    queue_id: int
    numbers: list[int]


class VisibilityChanged(msgspec.Struct, tag="v", array_like=True, gc=False):
    """Messages hidden until, or shown at, ``now_ms`` plus their timeout."""

    queue_id: int
    now_ms: int
    numbers: list[int]
    timeouts_ms: list[int]
    errors: dict[int, str] = {}
    """By number: what handling it failed with."""


class MessagesMoved(msgspec.Struct, tag="m", array_like=True, gc=False):
    """Messages moved by hand from one queue to another, to be received afresh."""

    queue_id: int
    numbers: list[int]
    to_queue_id: int
    first_number: int
    now_ms: int


class TableCreated(msgspec.Struct, tag="tc", array_like=True):
    """A table."""

    table_id: int
    schema: TableSchema
    created_ms: int
    attributes: TableAttributes = TableAttributes()
    index_ids: list[int] = []
    """Of each of ``attributes.all_indexes()``."""


class TableUpdated(msgspec.Struct, tag="tu", array_like=True):
    """A table has other attributes. An index with an id that it had before is the same one; others are empty yet."""

    table_id: int
    attributes: TableAttributes
    index_ids: list[int]


class IndexFilled(msgspec.Struct, tag="if", array_like=True, gc=False):
    """Entries of an index that is being built, as columns."""

    table_id: int
    index_id: int
    partition_keys: list[bytes]
    sort_keys: list[bytes]
    items: list[bytes]
    done: bool
    """These were the last."""


class TableDeleted(msgspec.Struct, tag="td", array_like=True):
    """A table and its items are gone."""

    table_id: int


class ItemsWritten(msgspec.Struct, tag="i", array_like=True, gc=False):
    """Items of one table as they are afterwards, as columns; None: the item is gone."""

    table_id: int
    partition_keys: list[Any]
    """Each a str, int or bytes; msgspec decodes no union of str and bytes."""
    sort_keys: list[Any]
    """The same, or None."""
    items: list[bytes | None]
    indexes: tuple[int, ...] = ()
    """The ids of the indexes there were: what these items are in them follows from the items."""
    unindexed: tuple[tuple[int, bytes, bytes], ...] = ()
    """Entries that the items before had, and these have not: an index's id, and the entry's key. So replay reads
    nothing, and it does not matter how far ahead of it the files are."""


C = TypeVar("C", bound=msgspec.Struct)


def plain(value: object) -> object:
    """An ``enc_hook``: a value of a subclass of str, bytes or int, which users may pass, as the plain one it is."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    if isinstance(value, int):
        return int.__int__(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored")


_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode


def storable(change: C) -> C:
    """The change as it will be read back: what cannot be read back must never reach a log.

    Raises:
        ValidationError: says what does not fit.
    """
    try:
        return msgspec.msgpack.decode(_encode(change), type=type(change))
    except (msgspec.DecodeError, TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"it cannot be stored: {error}") from None


Change = (
    StreamCreated
    | StreamUpdated
    | Resharded
    | StreamDeleted
    | RecordsPut
    | QueueCreated
    | QueueUpdated
    | QueuePurged
    | QueueDeleted
    | MessagesSent
    | MessagesReceived
    | MessagesReleased
    | MessagesDeleted
    | VisibilityChanged
    | MessagesMoved
    | TableCreated
    | TableUpdated
    | IndexFilled
    | TableDeleted
    | ItemsWritten
)

WRITTEN_IS_ENOUGH = frozenset({MessagesReceived, MessagesReleased})
"""What need not be synced before it counts: it must outlive this process, in which the receiver is, not the machine."""

QUEUE_CHANGES = (
    QueueCreated,
    QueueUpdated,
    QueuePurged,
    QueueDeleted,
    MessagesSent,
    MessagesReceived,
    MessagesReleased,
    MessagesDeleted,
    VisibilityChanged,
    MessagesMoved,
)

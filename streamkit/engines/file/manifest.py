"""What was settled where: one small file, replaced as a whole, that recovery starts from."""

from __future__ import annotations

import os

import msgspec

from streamkit.engines.file.files import Files, read_file, replace_file
from streamkit.engines.file.frame import FORMAT, checksum
from streamkit.engines.file.segment import Position
from streamkit.errors import CorruptLogError, UnknownFormatError
from streamkit.queues.message import QueueAttributes
from streamkit.streams.store import StreamAttributes
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.item import TableSchema

NAME = "MANIFEST"


class ColdFile(msgspec.Struct, frozen=True):
    """A file of records of one shard. Only its first ``size`` bytes count; more are left over from a crash."""

    serial: int
    size: int
    first_number: int
    last_number: int
    first_arrival_ms: int
    latest_arrival_ms: int

    @property
    def count(self) -> int:
        """How many records it holds; their numbers have no gap."""
        return self.last_number - self.first_number + 1


class ShardEntry(msgspec.Struct, frozen=True):
    """One shard. Its hash keys are decimal strings: they have 128 bits."""

    index: int
    start: str
    end: str
    parents: tuple[int, ...]
    moved_to: int
    trimmed_to: int
    closed_ms: int | None = None
    files: tuple[ColdFile, ...] = ()


class ProducerEntry(msgspec.Struct, frozen=True):
    """One idempotent producer."""

    last_sequence: int
    seen_ms: int


class StreamEntry(msgspec.Struct, frozen=True):
    """One stream."""

    stream_id: int
    name: str
    created_ms: int
    attributes: StreamAttributes
    next_index: int
    """Of the next shard that is opened."""
    producers: dict[str, ProducerEntry]
    shards: tuple[ShardEntry, ...]


class QueueFile(msgspec.Struct, frozen=True):
    """A file of messages of one queue. What became of them since it was written, the queue's snapshot says."""

    serial: int
    size: int
    index_offset: int
    messages: int


class QueueEntry(msgspec.Struct, frozen=True):
    """One queue, and which of its files count."""

    queue_id: int
    name: str
    created_ms: int
    attributes: QueueAttributes
    last_number: int
    snapshot: int
    """Its serial; 0: the queue was empty."""
    files: tuple[QueueFile, ...] = ()
    """By serial, which is also by the numbers of their messages."""
    ids: tuple[int, ...] = ()
    """The serials of the files of what deduplication remembers, in the order in which they were written."""
    modified_ms: int = 0


class IndexEntry(msgspec.Struct, frozen=True):
    """One index of a table; its entries are in a SQLite file of the table's id and its own."""

    index_id: int
    settled: bool
    """The file is there."""
    active: bool
    """It has all entries."""


class TableEntry(msgspec.Struct, frozen=True):
    """One table; its items are in the SQLite file of its id."""

    table_id: int
    schema: TableSchema
    created_ms: int
    settled: bool = False
    """The file is there."""
    attributes: TableAttributes = TableAttributes()
    indexes: tuple[IndexEntry, ...] = ()
    """Of each of ``attributes.all_indexes()``."""


class Manifest(msgspec.Struct, frozen=True):
    """The state of the store at ``position`` of the journal; recovery replays from there."""

    format: int
    store_id: int
    position: Position
    last_id: int = 0
    serial: int = 0
    """The largest serial of any file so far."""
    streams: tuple[StreamEntry, ...] = ()
    queues: tuple[QueueEntry, ...] = ()
    tables: tuple[TableEntry, ...] = ()


class _Version(msgspec.Struct):
    format: int


def save(files: Files, directory: str, manifest: Manifest) -> None:
    """Replace the manifest, durably."""
    body = msgspec.json.encode(manifest)
    replace_file(files, os.path.join(directory, NAME), b"%s\n%08x\n" % (body, checksum(body)))


def load(files: Files, directory: str) -> Manifest | None:
    """The manifest; None if there is none, which is a directory that was never opened.

    Raises:
        CorruptLogError: it does not match its checksum.
        UnknownFormatError: another version wrote it.
    """
    path = os.path.join(directory, NAME)
    try:
        data = read_file(files, path)
    except FileNotFoundError:
        return None
    body, _, stored = data.partition(b"\n")
    if stored.strip() != b"%08x" % checksum(body):
        raise CorruptLogError(path, 0, "the manifest does not match its checksum")
    try:
        found = msgspec.json.decode(body, type=_Version).format
        if found != FORMAT:
            raise UnknownFormatError(directory, found, FORMAT)
        return msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, 0, f"the manifest does not decode: {error}") from None

"""What after a crash? Read the journal's tail, cut what was torn, load what was settled, apply the tail to it.

Recovery changes nothing before it has understood the journal, and may itself crash: doing it again gives the same.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from functools import partial

import msgspec

from streamkit.engines.embedded.changes import Change
from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.embedded.table_indexes import EmbeddedIndex, EmbeddedTable
from streamkit.engines.file import frame as framing
from streamkit.engines.file import id_files, manifest, snapshot
from streamkit.engines.file.cold import ColdStore
from streamkit.engines.file.files import Files, read_file, replace_file
from streamkit.engines.file.queue_files import QueueFiles
from streamkit.engines.file.segment import Segment, segment_numbers, segment_path
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import CorruptLogError
from streamkit.queues.visibility import QueueState
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.shard import Shard
from streamkit.streams.state import ProducerState, StreamState
from streamkit.tables.index import Index
from streamkit.tables.item import TableSchema
from streamkit.tables.store import TableDescription

_log = logging.getLogger("streamkit.engine")
_decode = msgspec.msgpack.Decoder(list[Change]).decode


class Recovered(msgspec.Struct, frozen=True):
    """Where the journal goes on, and what it holds that is not settled."""

    segment: Segment
    next_number: int
    changes: list[Change]
    bytes: int
    sync_seconds: float
    """How long one sync took just now."""


def load_settled(
    files: Files,
    directory: str,
    known: manifest.Manifest,
    stores: EmbeddedStores,
    cold_store: ColdStore,
    queue_files: QueueFiles,
) -> None:
    """Take over what the manifest names.

    Raises:
        CorruptLogError: a file that it names is missing or damaged.
    """
    stores.last_id = known.last_id
    for stream in known.streams:
        state = StreamState(stream.stream_id, stream.name, stream.created_ms, stream.attributes, stores.limits)
        state.adopt(map(_shard, stream.shards))
        state.next_index = stream.next_index
        for producer_id, producer in stream.producers.items():
            state.producers[producer_id] = ProducerState(producer.last_sequence, producer.seen_ms)
        for entry in stream.shards:
            if entry.files:
                cold_store.adopt(stream.stream_id, entry.index, entry.files)
        stores.streams.adopt(state)
    for queue in known.queues:
        stores.queues.changes.adopt(load_queue(files, directory, queue, queue_files))
    for table in known.tables:
        stores.tables.adopt(_table(directory, table))


def _table(directory: str, entry: manifest.TableEntry) -> EmbeddedTable:
    def items(index_id: int, schema: TableSchema, *, settled: bool) -> Items:
        path = table_path(directory, entry.table_id, index_id)
        if settled and not os.path.exists(path):
            raise CorruptLogError(path, 0, "the table's file is missing")
        return Items(SqliteItems(path, schema, of_index=index_id > 0) if settled else None)

    description = TableDescription(entry.schema, entry.table_id, entry.created_ms, entry.attributes)
    indexes = []
    for index, each in zip(entry.attributes.all_indexes(), entry.indexes, strict=True):
        entries = items(each.index_id, index_schema(entry.schema, index), settled=each.settled)
        indexes.append(EmbeddedIndex(index, each.index_id, entries, active=each.active))
    return EmbeddedTable(description, items(0, entry.schema, settled=entry.settled), indexes)


def load_queue(files: Files, directory: str, entry: manifest.QueueEntry, queue_files: QueueFiles) -> QueueState:
    """A queue as it was settled.

    Raises:
        CorruptLogError: a file of it is missing or damaged.
    """
    queue = QueueState(entry.queue_id, entry.name, entry.created_ms, entry.attributes, entry.last_number)
    queue.modified_ms = entry.modified_ms
    queue.read_page = partial(queue_files.read_now, entry.queue_id)
    settled = snapshot.Snapshot([])
    if entry.snapshot:
        settled = snapshot.load(files, os.path.join(directory, "queues"), entry.queue_id, entry.snapshot)
    pages = {
        file.serial: queue_files.index(entry.queue_id, file, settled.pages.get(file.serial)) for file in entry.files
    }
    folder = os.path.join(directory, "queues")
    ids = {serial: id_files.load(files, folder, entry.queue_id, serial) for serial in entry.ids}
    settled.fill(queue, pages, ids)
    queue.changed = False
    return queue


def _shard(entry: manifest.ShardEntry) -> Shard:
    shard = Shard(entry.index, HashKeyRange(int(entry.start), int(entry.end)), entry.parents)
    shard.last_number = shard.readable = shard.moved_to = entry.moved_to
    shard.trimmed_to = entry.trimmed_to
    shard.closed_ms = entry.closed_ms
    shard.ended = entry.closed_ms is not None
    return shard


def read_journal(files: Files, directory: str, known: manifest.Manifest) -> Recovered:
    """Read everything the journal holds from the manifest's position on, and cut its torn tail.

    Raises:
        CorruptLogError: the journal is damaged otherwise than by a crash; nothing was changed.
    """
    folder = os.path.join(directory, "journal")
    number, offset, following = known.position.number, known.position.offset, known.position.segment
    present = segment_numbers(files, folder)
    changes: list[Change] = []
    read: list[_Read] = []
    size = 0
    while True:
        path = segment_path(folder, following)
        if following not in present:
            raise CorruptLogError(path, 0, "the segment is missing")
        data = read_file(files, path)
        framing.check_segment_header(data, path, following, known.store_id)
        tail = _read_segment(data, path, following, number, offset, known.store_id, changes)
        # Of all but the last two, the segment that follows says by its frames that they are on disk.
        read = [*read[-1:], _Read(path, data, offset, tail)]
        number = tail.number
        size += tail.offset - offset
        if not tail.sealed:
            break
        following, offset = following + 1, framing.SEGMENT_HEADER_SIZE
    spares = [segment for segment in present if segment > following]
    for spare in spares:
        # A segment after the last one has no frames yet; if it has, the last one lost its end.
        spare_path = segment_path(folder, spare)
        framing.refuse_damage(
            read_file(files, spare_path), spare_path, spare, framing.SEGMENT_HEADER_SIZE, number - 1, known.store_id
        )
    if tail.torn:
        _keep_aside(files, folder, following, tail, data)
    fd = files.open(path)
    try:
        sync_seconds = _make_safe(files, fd, read)
        for spare in spares:
            files.remove(segment_path(folder, spare))
    except BaseException:
        files.close(fd)
        raise
    segment = Segment(following, path, fd, max(len(data), tail.offset + 8), tail.offset)
    return Recovered(segment, number, changes, size, sync_seconds)


def _read_segment(
    data: bytes, path: str, segment: int, number: int, offset: int, store_id: int, changes: list[Change]
) -> framing.Tail:
    found = framing.frames(data, path, segment, number, offset, store_id)
    while True:
        try:
            frame = next(found)
        except StopIteration as stopped:
            tail: framing.Tail = stopped.value
            return tail
        try:
            changes.extend(_decode(frame.payload))
        except msgspec.DecodeError as error:
            raise CorruptLogError(path, frame.offset, f"frame {frame.number} does not decode: {error}") from None


def _keep_aside(files: Files, folder: str, segment: int, tail: framing.Tail, data: bytes) -> None:
    torn = data[tail.offset : tail.torn_end]
    kept = os.path.join(folder, f"torn-{segment:012d}-{tail.offset}")
    try:
        replace_file(files, kept, torn)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Nobody was told that it is stored, and a store that opens on a full disk is worth more.
        _log.warning("cut %d bytes of a commit that a crash interrupted; there was no room to keep them", len(torn))
    else:
        _log.warning("cut %d bytes of a commit that a crash interrupted; they are kept in %s", len(torn), kept)


def _make_safe(files: Files, fd: int, read: list[_Read]) -> float:
    """See that what was read is on disk and what was torn is gone. Returns how many seconds one sync takes.

    What was read may be in the page cache alone: after a failed sync the kernel calls pages clean that never came to
    the disk, and a later sync does not write them. So what nothing proves to be on disk is written again.
    """
    last = read[-1]
    if last.is_empty and len(read) > 1:
        before = files.open(read[0].path)
        try:
            read[0].write_again(files, before)
        finally:
            files.close(before)
    last.write_again(files, fd)
    # There is nothing after the end; writing zeros there tells what a sync costs.
    files.write(fd, bytes(8), last.tail.offset)
    begun = time.perf_counter()
    files.sync(fd)
    return time.perf_counter() - begun


class _Read(msgspec.Struct):
    """A segment that was read, from an offset to its tail."""

    path: str
    data: bytes
    offset: int
    tail: framing.Tail

    @property
    def is_empty(self) -> bool:
        return self.tail.offset == self.offset

    def write_again(self, files: Files, fd: int) -> None:
        torn = self.tail.torn_end - self.tail.offset
        if not self.is_empty or torn:
            files.write(fd, self.data[self.offset : self.tail.offset] + bytes(torn), self.offset)
            files.sync(fd)


def table_path(directory: str, table_id: int, index_id: int = 0) -> str:
    """Where a table's settled items are; or the entries of an index of it."""
    return os.path.join(directory, "tables", f"{table_id}-{index_id}.sqlite" if index_id else f"{table_id}.sqlite")


def table_paths(directory: str, entry: manifest.TableEntry) -> list[str]:
    """The files that a table has, its own first if it has one."""
    ids = [0] if entry.settled else []
    ids += [index.index_id for index in entry.indexes if index.settled]
    return [table_path(directory, entry.table_id, index_id) for index_id in ids]


def file_schema(table: EmbeddedTable, index_id: int) -> TableSchema:
    """What the file of a table's items, or of an index's entries, says about itself."""
    for index in table.indexes:
        if index.index_id == index_id:
            return index_schema(table.schema, index.index)
    return table.schema


def index_schema(schema: TableSchema, index: Index) -> TableSchema:
    """What the file of an index says about itself: see ``tables/index.py`` for what its keys are made of."""
    keys = f"{index.partition_key or schema.partition_key}, {index.sort_key}"
    return TableSchema(schema.name, f"index {index.name} ({keys})", f"{index.sort_key}, {', '.join(schema.key_names)}")

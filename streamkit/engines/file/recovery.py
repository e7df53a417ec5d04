"""What after a crash? Read the journal's tail, cut what was torn, load what was settled, apply the tail to it.

Recovery changes nothing before it has understood the journal, and may itself crash: doing it again gives the same.
"""

from __future__ import annotations

import logging
import os
import time

import msgspec

from streamkit.engines.embedded.changes import Change
from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import frame as framing
from streamkit.engines.file import manifest, snapshot
from streamkit.engines.file.cold import ColdStore
from streamkit.engines.file.files import Files, read_file, replace_file
from streamkit.engines.file.journal import Segment, segment_path
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import CorruptLogError
from streamkit.queues.visibility import QueueState
from streamkit.streams.shard import StreamState
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
    files: Files, directory: str, known: manifest.Manifest, stores: EmbeddedStores, cold_store: ColdStore
) -> None:
    """Take over what the manifest names.

    Raises:
        CorruptLogError: a file that it names is missing or damaged.
    """
    stores.last_id = known.last_id
    for stream in known.streams:
        state = StreamState.fresh(stream.stream_id, stream.name, stream.created_ms, len(stream.shards))
        state.last_number = stream.last_number
        for shard, entry in zip(state.shards, stream.shards, strict=True):
            shard.moved_to = shard.readable = entry.moved_to
            if entry.files:
                cold_store.adopt(stream.stream_id, shard.index, entry.files)
        stores.streams.adopt(state)
    for queue in known.queues:
        queue_state = QueueState(queue.queue_id, queue.name, queue.created_ms, queue.attributes, queue.last_number)
        if queue.snapshot:
            for message in snapshot.load(files, os.path.join(directory, "queues"), queue.queue_id, queue.snapshot):
                queue_state.add(message)
        queue_state.changed = False
        stores.queues.adopt(queue_state)
    for table in known.tables:
        path = table_path(directory, table.table_id)
        if table.settled and not os.path.exists(path):
            raise CorruptLogError(path, 0, "the table's file is missing")
        base = SqliteItems(path, table.schema) if table.settled else None
        stores.tables.adopt(TableDescription(table.schema, table.table_id, table.created_ms), Items(base))


def read_journal(files: Files, directory: str, known: manifest.Manifest) -> Recovered:
    """Read everything the journal holds from the manifest's position on, and cut its torn tail.

    Raises:
        CorruptLogError: the journal is damaged otherwise than by a crash; nothing was changed.
    """
    folder = os.path.join(directory, "journal")
    number, offset, following = known.position.number, known.position.offset, known.position.segment
    present = [int(name.removesuffix(".log")) for name in files.names(folder) if name.endswith(".log")]
    changes: list[Change] = []
    size = 0
    while True:
        path = segment_path(folder, following)
        if following not in present:
            raise CorruptLogError(path, 0, "the segment is missing")
        data = read_file(files, path)
        framing.check_segment_header(data, path, following, known.store_id)
        tail, read = _read_segment(data, path, following, number, offset, changes)
        size += read
        number = tail.number
        if not tail.sealed:
            break
        following, offset = following + 1, framing.SEGMENT_HEADER_SIZE
    for later in (segment for segment in present if segment > following):
        _refuse_frames(files, segment_path(folder, later), later)
    fd = files.open(path)
    if tail.torn:
        _cut(files, folder, fd, following, tail, data)
    # Zeros after the end are what is there anyway; writing them tells what a sync costs.
    before = time.perf_counter()
    files.write(fd, bytes(8), tail.offset)
    files.sync(fd)
    sync_seconds = time.perf_counter() - before
    for later in (segment for segment in present if segment > following):
        files.remove(segment_path(folder, later))
    segment = Segment(following, path, fd, max(len(data), tail.offset + 8), tail.offset)
    return Recovered(segment, number, changes, size, sync_seconds)


def _read_segment(
    data: bytes, path: str, segment: int, number: int, offset: int, changes: list[Change]
) -> tuple[framing.Tail, int]:
    found = framing.frames(data, path, segment, number, offset)
    size = 0
    while True:
        try:
            frame = next(found)
        except StopIteration as stopped:
            tail: framing.Tail = stopped.value
            return tail, size
        try:
            changes.extend(_decode(frame.payload))
        except msgspec.DecodeError as error:
            raise CorruptLogError(path, frame.offset, f"frame {frame.number} does not decode: {error}") from None
        size += len(frame.payload)


def _refuse_frames(files: Files, path: str, segment: int) -> None:
    """A segment after the last one is a spare; frames in it mean that the last one lost its end."""
    data = read_file(files, path)
    if framing.frame_at(data, framing.SEGMENT_HEADER_SIZE, segment) is not None:
        raise CorruptLogError(
            path, framing.SEGMENT_HEADER_SIZE, "this segment has frames, but the one before has no seal"
        )


def _cut(files: Files, folder: str, fd: int, segment: int, tail: framing.Tail, data: bytes) -> None:
    torn = data[tail.offset :].rstrip(b"\0")
    kept = os.path.join(folder, f"torn-{segment:012d}-{tail.offset}")
    replace_file(files, kept, torn)
    files.write(fd, bytes(len(torn)), tail.offset)
    files.sync(fd)
    _log.warning("cut %d bytes of a commit that a crash interrupted; they are kept in %s", len(torn), kept)


def table_path(directory: str, table_id: int) -> str:
    """Where a table's settled items are."""
    return os.path.join(directory, "tables", f"{table_id}.sqlite")

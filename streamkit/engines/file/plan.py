"""One settling's plan: what is taken aside at the cut, and what becomes of it when it is written, or is not."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.layer import Layer
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import block, id_files, manifest, snapshot
from streamkit.engines.file.cold import ColdStore, Move
from streamkit.engines.file.files import Files
from streamkit.engines.file.queue_files import Written
from streamkit.engines.file.segment import Position
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.queues import settled
from streamkit.queues.deduplication import FiledIds
from streamkit.queues.visibility import QueueState
from streamkit.streams.shard import Shard
from streamkit.streams.state import StreamState


class _TableMove(msgspec.Struct):
    table_id: int
    index_id: int
    """0: the items themselves."""
    layer: Layer
    base: SqliteItems
    afresh: bool


class Plan:
    """What was taken aside, and the manifest that will say where it is."""

    def __init__(self, old: manifest.Manifest, extend: bool) -> None:
        self.manifest = old
        self.extend = extend
        """Files of records may grow."""
        self.moves: list[Move] = []
        self.queues: list[Written] = []
        self.ids: dict[int, FiledIds] = {}
        """Of FIFO queues, by queue."""
        self._changed_queues: list[int] = []
        self._snapshots: list[tuple[int, int, bytes]] = []
        self._tables: list[_TableMove] = []

    # ---- on the loop

    def take_aside(
        self,
        stores: EmbeddedStores,
        cold_store: ColdStore,
        next_serial: Callable[[], int],
        open_base: Callable[[int, int], SqliteItems],
    ) -> None:
        """Everything that has changed, as it is now."""
        old = self.manifest
        snapshots = {entry.queue_id: entry for entry in old.queues}
        self.manifest = msgspec.structs.replace(
            old,
            streams=tuple(self._stream(stream, cold_store, next_serial) for stream in stores.streams.by_id.values()),
            queues=tuple(
                self._queue(queue, snapshots.get(queue.queue_id), stores.clock.now_ms(), next_serial)
                for queue in stores.queues.by_id.values()
            ),
            tables=tuple(self._table(table_id, stores, open_base) for table_id in stores.tables.by_id),
            last_id=stores.last_id,
        )

    def cut_at(self, position: Position, serial: int) -> None:
        """What was taken aside is what the journal says up to here; ``serial`` is the largest that was given."""
        self.manifest = msgspec.structs.replace(self.manifest, position=position, serial=serial)

    def _stream(
        self, stream: StreamState, cold_store: ColdStore, next_serial: Callable[[], int]
    ) -> manifest.StreamEntry:
        entries = []
        for shard in stream.shards.values():
            files = cold_store.files_of(stream.stream_id, shard.index)
            # Retention takes whole files: the others hold records that are still there.
            files = tuple(file for file in files if file.last_number > shard.trimmed_to)
            if shard.data:
                records = block.Columns(
                    shard.moved_to + 1,
                    shard.arrivals_ms.copy(),
                    shard.keys.copy(),
                    shard.data.copy(),
                    shard.attributes.between(shard.moved_to + 1, shard.last_number + 1),
                )
                self.moves.append(Move(stream.stream_id, shard.index, records, files, next_serial()))
            entries.append(_shard_entry(shard, files))
        producers = {
            name: manifest.ProducerEntry(producer.last_sequence, producer.seen_ms)
            for name, producer in stream.producers.items()
        }
        return manifest.StreamEntry(
            stream.stream_id,
            stream.name,
            stream.created_ms,
            stream.attributes,
            stream.next_index,
            producers,
            tuple(entries),
        )

    def _queue(
        self, queue: QueueState, old: manifest.QueueEntry | None, now_ms: int, next_serial: Callable[[], int]
    ) -> manifest.QueueEntry:
        number, files, ids = (0, (), ()) if old is None else (old.snapshot, old.files, old.ids)
        if queue.changed:
            self._changed_queues.append(queue.queue_id)
            filing = settled.take_aside(queue, next_serial)
            if filing is not None:
                self.queues.append(Written(queue.queue_id, filing))
            filed_ids = queue.deduplication.take_aside(next_serial, now_ms)
            number = 0
            if not snapshot.is_empty(queue):
                number = next_serial()
                self._snapshots.append((queue.queue_id, number, snapshot.encode(queue, now_ms)))
            files = tuple(file for file in files if file.serial in queue.backlog.files)
            ids = tuple(serial for serial in ids if serial in queue.deduplication.files)
            if filed_ids is not None:
                self.ids[queue.queue_id] = filed_ids
                ids = (*ids, filed_ids.serial)
        return manifest.QueueEntry(
            queue.queue_id,
            queue.name,
            queue.created_ms,
            queue.attributes,
            queue.last_number,
            number,
            files,
            ids,
            queue.modified_ms,
        )

    def _table(
        self, table_id: int, stores: EmbeddedStores, open_base: Callable[[int, int], SqliteItems]
    ) -> manifest.TableEntry:
        table = stores.tables.by_id[table_id]
        is_settled = self._items(table_id, 0, table.items, open_base)
        indexes = tuple(
            manifest.IndexEntry(
                index.index_id, self._items(table_id, index.index_id, index.items, open_base), index.active
            )
            for index in table.indexes
        )
        created_ms = table.description.created_ms
        return manifest.TableEntry(table_id, table.schema, created_ms, is_settled, table.attributes, indexes)

    def _items(self, table_id: int, index_id: int, items: Items, open_base: Callable[[int, int], SqliteItems]) -> bool:
        """Take the newest of a table's items, or of an index's entries, aside; whether there is a file then."""
        if items.newest:
            is_new = not isinstance(items.base, SqliteItems)
            base = items.base if isinstance(items.base, SqliteItems) else open_base(table_id, index_id)
            self._tables.append(_TableMove(table_id, index_id, items.newest, base, afresh=is_new))
            items.moving, items.newest = items.newest, Layer()
        return items.base is not None or items.moving is not None

    def put_back(self, stores: EmbeddedStores) -> None:
        """Nothing of it counts as written."""
        for move in self._tables:
            items = stores.tables.items_of(move.table_id, move.index_id)
            if items is not None and items.moving is move.layer:
                _put_back_layer(items)
        filings = {written.queue_id: written.filing for written in self.queues}
        for queue_id in self._changed_queues:
            queue = stores.queues.by_id.get(queue_id)
            if queue is not None:
                settled.put_back(queue, filings.get(queue_id))
                if queue_id in self.ids:
                    queue.deduplication.put_back(self.ids[queue_id])

    def adopt(self, stores: EmbeddedStores, cold_store: ColdStore) -> None:
        """All of it is written: what was moved leaves memory."""
        added = {(move.stream_id, move.shard): move for move in self.moves}
        for entry in self.manifest.streams:
            stream = stores.streams.by_id.get(entry.stream_id)
            for shard in entry.shards if stream is not None else ():
                move = added.get((entry.stream_id, shard.index))
                cold_store.adopt(entry.stream_id, shard.index, shard.files, move.blocks if move else ())
                # A shard that expired meanwhile has nothing in memory.
                if move is not None and stream is not None and shard.index in stream.shards:
                    stream.shards[shard.index].move_out(move.records.last_number)
        for written in self.queues:
            queue = stores.queues.by_id.get(written.queue_id)
            if queue is not None:
                settled.adopt(queue, written.filing)
        for queue_id, filed_ids in self.ids.items():
            if queue_id in stores.queues.by_id:
                stores.queues.by_id[queue_id].deduplication.adopt(filed_ids)
        for moved in self._tables:
            items = stores.tables.items_of(moved.table_id, moved.index_id)
            if items is not None:
                items.base = moved.base
                items.moving = None
        streams = stores.streams.by_id
        cold_store.keep({(stream_id, index) for stream_id, stream in streams.items() for index in stream.shards})

    # ---- in the thread

    def write(self, files: Files, directory: str) -> manifest.Manifest:
        """Snapshots and items, and last the manifest, which makes all of it count at once."""
        for queue_id, number, body in self._snapshots:
            snapshot.save(files, os.path.join(directory, "queues"), queue_id, number, body)
        for queue_id, filed_ids in self.ids.items():
            id_files.save(files, os.path.join(directory, "queues"), queue_id, filed_ids)
        for table in self._tables:
            table.base.apply(table.layer.entries_in_order(), afresh=table.afresh)
        moved = {(move.stream_id, move.shard): move.files for move in self.moves}
        streams = tuple(
            msgspec.structs.replace(
                stream,
                shards=tuple(
                    msgspec.structs.replace(shard, files=moved.get((stream.stream_id, shard.index), shard.files))
                    for shard in stream.shards
                ),
            )
            for stream in self.manifest.streams
        )
        new = {written.queue_id: (written.file,) for written in self.queues if written.file is not None}
        queues = tuple(
            msgspec.structs.replace(queue, files=(*queue.files, *new.get(queue.queue_id, ())))
            for queue in self.manifest.queues
        )
        self.manifest = msgspec.structs.replace(self.manifest, streams=streams, queues=queues)
        manifest.save(files, directory, self.manifest)
        return self.manifest


def _shard_entry(shard: Shard, files: tuple[manifest.ColdFile, ...]) -> manifest.ShardEntry:
    keys = shard.hash_key_range
    return manifest.ShardEntry(
        shard.index,
        str(keys.start),
        str(keys.end),
        shard.parents,
        shard.last_number,
        shard.trimmed_to,
        shard.closed_ms,
        files,
    )


def _put_back_layer(items: Items) -> None:
    """Undo the taking aside of a table's newest layer."""
    if items.moving is not None:
        for key, item in list(items.moving.entries()):
            if not items.newest.find(key)[0]:
                items.newest.set(key, item)
        items.moving = None

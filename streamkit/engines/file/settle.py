"""Settling: what the journal holds moves to where it stays, and the journal's old segments go.

On the event loop, in one step, the journal is cut and what has changed is taken aside. Once everything before the cut
is durable, a thread writes records to their shards' files, queues to snapshots, items to SQLite, and last the manifest,
which makes all of it count at once. A crash before the manifest leaves the old one, and the journal that goes with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamkit.engines.embedded.items import Items, Layer
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import cold, manifest, offload, snapshot
from streamkit.engines.file.files import Files
from streamkit.engines.file.journal import Journal
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import StorageError
from streamkit.streams.record import StoredRecord

_log = logging.getLogger("streamkit.engine")

# Writers wait when this many times the settling threshold is still in memory.
_MOST_UNSETTLED = 4
_RETRY_SECONDS = 1.0


class _ShardMove(msgspec.Struct):
    stream_id: int
    shard: int
    moved_to: int
    records: list[StoredRecord]
    files: tuple[manifest.ColdFile, ...]
    blocks: list[cold.Block] = []


class _TableMove(msgspec.Struct):
    table_id: int
    layer: Layer
    base: SqliteItems


class _Plan(msgspec.Struct):
    """What was taken aside at the cut."""

    shards: list[_ShardMove]
    changed_queues: list[int]
    snapshots: list[tuple[int, int, bytes]]
    tables: list[_TableMove]
    manifest: manifest.Manifest


class Settler:
    """Settles one store, one settling at a time."""

    def __init__(
        self,
        stores: EmbeddedStores,
        journal: Journal,
        cold_store: cold.ColdStore,
        files: Files,
        directory: str,
        current: manifest.Manifest,
        *,
        threshold_bytes: int,
        open_base: Callable[[int], SqliteItems],
    ) -> None:
        self._stores = stores
        self._journal = journal
        self._cold = cold_store
        self._files = files
        self._directory = directory
        self._manifest = current
        self._threshold = threshold_bytes
        self._open_base = open_base
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="streamkit-settle")
        journal.on_growth = self._grown

    def _grown(self) -> None:
        unsettled = self._journal.bytes_since_cut
        if unsettled < self._threshold:
            return
        loop = asyncio.get_running_loop()
        if self._task is None and loop.time() >= self._not_before:
            self._task = loop.create_task(self._settle_in_background())
        elif unsettled > _MOST_UNSETTLED * self._threshold and self._task is not None:
            self._journal.room.clear()

    async def _settle_in_background(self) -> None:
        try:
            await self.settle()
        except (OSError, StorageError) as error:
            # The journal still has everything; only its old segments cannot go yet.
            self._not_before = asyncio.get_running_loop().time() + _RETRY_SECONDS
            _log.warning("settling %s failed and will be tried again: %s", self._directory, error)
        finally:
            self._task = None
            self._journal.room.set()

    async def close(self) -> None:
        """Settle what there is, so that the next opening has nothing to replay."""
        if self._task is not None:
            await self._task
        try:
            await self.settle()
        finally:
            self._executor.shutdown()

    async def settle(self) -> None:
        """Move everything that was appended before this call.

        Raises:
            OSError, StorageError: nothing counts as moved; the journal still has everything.
        """
        # ATOMIC: what is taken aside is exactly what was appended before the cut
        cut = self._journal.cut()
        plan = self._take_aside()
        # end ATOMIC
        try:
            position = await cut
            if position == self._manifest.position:
                return
            plan.manifest = msgspec.structs.replace(plan.manifest, position=position)
            self._manifest = await offload.start(self._executor, lambda: self._write(plan), background=True)
        except BaseException:
            self._put_back(plan)
            raise
        self._adopt(plan)
        await self._journal.drop_before(position)

    # ---- on the loop

    def _take_aside(self) -> _Plan:
        stores, old = self._stores, self._manifest
        serial = old.serial
        plan = _Plan([], [], [], [], old)
        streams, queues, tables = [], [], []
        for stream in stores.streams.by_id.values():
            entries = []
            for shard in stream.shards:
                files = self._cold.files_of(stream.stream_id, shard.index)
                moved_to = shard.records[-1].sequence_number if shard.records else shard.moved_to
                if shard.records:
                    move = _ShardMove(stream.stream_id, shard.index, moved_to, shard.records.copy(), files)
                    plan.shards.append(move)
                entries.append(manifest.ShardEntry(moved_to, files))
            streams.append(
                manifest.StreamEntry(
                    stream.stream_id, stream.name, stream.created_ms, stream.last_number, tuple(entries)
                )
            )
        snapshots = {entry.queue_id: entry.snapshot for entry in old.queues}
        for queue in stores.queues.by_id.values():
            number = snapshots.get(queue.queue_id, 0)
            if queue.changed:
                queue.changed = False
                plan.changed_queues.append(queue.queue_id)
                number = 0
                if queue.messages:
                    serial += 1
                    number = serial
                    plan.snapshots.append((queue.queue_id, number, snapshot.encode(queue)))
            queues.append(
                manifest.QueueEntry(
                    queue.queue_id, queue.name, queue.created_ms, queue.attributes, queue.last_number, number
                )
            )
        for table_id, table in stores.tables.by_id.items():
            items = table.items
            if items.newest:
                base = items.base if isinstance(items.base, SqliteItems) else self._open_base(table_id)
                plan.tables.append(_TableMove(table_id, items.newest, base))
                items.moving, items.newest = items.newest, Layer()
            settled = items.base is not None or items.moving is not None
            tables.append(manifest.TableEntry(table_id, table.schema, table.description.created_ms, settled))
        plan.manifest = msgspec.structs.replace(
            old,
            last_id=stores.last_id,
            serial=serial,
            streams=tuple(streams),
            queues=tuple(queues),
            tables=tuple(tables),
        )
        return plan

    def _put_back(self, plan: _Plan) -> None:
        for move in plan.tables:
            table = self._stores.tables.by_id.get(move.table_id)
            if table is not None and table.items.moving is move.layer:
                _put_back_layer(table.items)
        for queue_id in plan.changed_queues:
            queue = self._stores.queues.by_id.get(queue_id)
            if queue is not None:
                queue.changed = True

    def _adopt(self, plan: _Plan) -> None:
        for move in plan.shards:
            stream = self._stores.streams.by_id.get(move.stream_id)
            if stream is not None:
                self._cold.adopt(move.stream_id, move.shard, move.files, move.blocks)
                stream.shards[move.shard].move_out(move.moved_to)
        for settled in plan.tables:
            table = self._stores.tables.by_id.get(settled.table_id)
            if table is not None:
                table.items.base = settled.base
                table.items.moving = None

    # ---- in the thread

    def _write(self, plan: _Plan) -> manifest.Manifest:
        serial = plan.manifest.serial
        for move in plan.shards:
            serial += 1
            move.files, move.blocks = self._cold.write(move.stream_id, move.shard, move.files, move.records, serial)
        for queue_id, number, body in plan.snapshots:
            snapshot.save(self._files, os.path.join(self._directory, "queues"), queue_id, number, body)
        for table in plan.tables:
            table.base.apply(table.layer.entries())
        moved = {(move.stream_id, move.shard): move.files for move in plan.shards}
        streams = tuple(
            msgspec.structs.replace(
                stream,
                shards=tuple(
                    msgspec.structs.replace(shard, files=moved.get((stream.stream_id, index), shard.files))
                    for index, shard in enumerate(stream.shards)
                ),
            )
            for stream in plan.manifest.streams
        )
        written = msgspec.structs.replace(plan.manifest, serial=serial, streams=streams)
        manifest.save(self._files, self._directory, written)
        _remove_strangers(self._files, self._directory, self._cold, written)
        return written


def _put_back_layer(items: Items) -> None:
    """Undo the taking aside of a table's newest layer."""
    if items.moving is not None:
        for key, item in list(items.moving.entries()):
            if not items.newest.find(key)[0]:
                items.newest.set(key, item)
        items.moving = None


def _remove_strangers(files: Files, directory: str, cold_store: cold.ColdStore, known: manifest.Manifest) -> None:
    """Remove what the manifest does not name: files of things that were deleted, and what a crash left behind."""
    cold_store.remove_strangers(
        {
            stream.stream_id: {
                cold.file_name(index, file.serial) for index, shard in enumerate(stream.shards) for file in shard.files
            }
            for stream in known.streams
        }
    )
    snapshots = {snapshot.file_name(queue.queue_id, queue.snapshot) for queue in known.queues}
    tables = {f"{table.table_id}.sqlite" for table in known.tables}
    for folder, kept in (("queues", snapshots), ("tables", tables)):
        path = os.path.join(directory, folder)
        for name in files.names(path):
            if name.removesuffix("-wal").removesuffix("-shm") not in kept:
                files.remove(os.path.join(path, name))

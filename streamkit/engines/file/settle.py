"""Settling: what the journal holds moves to where it stays, and the journal's old segments go.

On the event loop, in one step, the journal is cut and what has changed is taken aside. Once everything before the cut
is durable, records are packed and a thread writes them to their shards' files, queues to snapshots, items to SQLite,
and last the manifest, which makes all of it count at once. A crash before the manifest leaves the old one, and the
journal that goes with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from streamkit.clock import wake
from streamkit.engines.embedded.items import Items, Layer
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import block, cold, manifest, offload, snapshot
from streamkit.engines.file.files import Files
from streamkit.engines.file.journal import Journal
from streamkit.engines.file.segment import Position
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import StorageError
from streamkit.streams.shard import Shard

T = TypeVar("T")

_log = logging.getLogger("streamkit.engine")

# Writers wait when this many times the settling threshold is still in memory.
_MOST_UNSETTLED = 4
_HURRY_FROM = 1
"""And settling takes what it can get when this many times the threshold has come since it began."""
_REST = 3
"""Times as long as it worked."""
_LONGEST_REST_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 60.0
"""Real seconds between two looks at what is too old; how old it is, the clock says."""


class _TableMove(msgspec.Struct):
    table_id: int
    layer: Layer
    base: SqliteItems
    afresh: bool


class _Plan(msgspec.Struct):
    """What was taken aside at the cut."""

    manifest: manifest.Manifest
    extend: bool
    moves: list[cold.Move] = []
    changed_queues: list[int] = []
    snapshots: list[tuple[int, int, bytes]] = []
    tables: list[_TableMove] = []


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
        # A settling that failed may still have replaced the manifest. So the next one gives no serial again, and
        # extends no file, that either of the two manifests may name.
        self._serial = current.serial
        self._extend = True
        self._threshold = threshold_bytes
        self._open_base = open_base
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._not_before = 0.0
        self._rested_at = 0.0
        self._group_at_rest = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="streamkit-settle")
        journal.on_growth = self._grown
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Retention takes records also where nothing is written any more."""
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        if self._task is None and not self._closing and self._stores.streams.is_trim_due():
            self._start().add_done_callback(self._report)

    def _grown(self) -> None:
        unsettled = self._journal.bytes_since_cut
        if unsettled < self._threshold or self._closing:
            return
        if self._task is not None:
            if unsettled > _MOST_UNSETTLED * self._threshold:
                self._journal.room.clear()
        elif asyncio.get_running_loop().time() >= self._not_before:
            self._start().add_done_callback(self._report)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # The journal still has everything; only its old segments cannot go yet.
            unforeseen = None if isinstance(error, StorageError) else error
            _log.warning("settling %s failed and will be tried again: %s", self._directory, error, exc_info=unforeseen)

    async def close(self) -> None:
        """Settle what there is, so that the next opening has nothing to replay.

        Raises:
            StorageError: it could not be settled; the journal still has it.
        """
        self._closing = True
        self._timer.cancel()
        try:
            await self.settle()
        finally:
            self._executor.shutdown()

    async def settle(self) -> None:
        """Move everything that was appended before this call.

        Cancellation: the settling goes on.

        Raises:
            StorageError: nothing counts as moved; the journal still has everything.
        """
        while self._task is not None:
            # It may have begun before what the caller means was appended.
            await asyncio.wait([self._task])
        await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    async def _run(self) -> None:
        unsettled = self._journal.bytes_since_cut
        try:
            position = await self._settle()
        except BaseException as error:
            self._extend = False
            self._journal.bytes_since_cut += unsettled
            self._not_before = asyncio.get_running_loop().time() + _RETRY_SECONDS
            if isinstance(error, OSError):
                raise StorageError(f"settling {self._directory} failed: {error}") from error
            raise
        else:
            self._extend = True
            await self._clean_up(position)
        finally:
            self._task = None
            self._journal.room.set()

    async def _settle(self) -> Position:
        self._journal.check_owner()
        await self._stores.streams.trim_all()
        plan = _Plan(self._manifest, self._extend)
        try:
            # ATOMIC: what is taken aside is exactly what was appended before the cut
            cut = self._journal.cut()
            self._take_aside(plan)
            # end ATOMIC
            position = await cut
            # SQLite's files may be ahead of the manifest, but nothing may be ahead of the journal.
            await self._journal.synced()
            if (position, plan.manifest.streams) == (self._manifest.position, self._manifest.streams):
                self._put_back(plan)
                return position
            plan.manifest = msgspec.structs.replace(plan.manifest, position=position)
            self._goes_on()
            await self._cold.write(plan.moves, extend=plan.extend, run=self._in_thread, rest=self._rest)
            self._manifest = await self._in_thread(lambda: self._write(plan))
        except BaseException:
            self._put_back(plan)
            raise
        self._adopt(plan)
        return position

    async def _clean_up(self, position: Position) -> None:
        """Remove what nobody needs any more. What stays because of an error goes with the next settling."""

        def remove() -> None:
            _remove_strangers(self._files, self._directory, self._cold, self._manifest)

        try:
            await self._in_thread(remove)
            await self._journal.drop_before(position)
        except OSError as error:
            _log.warning("%s keeps files that are not needed any more: %s", self._directory, error)

    async def _rest(self) -> None:
        """Between two pieces of work: while others commit, most of the disk and of the loop is theirs.

        Unless so much has come meanwhile that they will soon have to wait for this.
        """
        loop = asyncio.get_running_loop()
        busy = self._journal.durable_group != self._group_at_rest
        if busy and not self._closing and self._journal.bytes_since_cut < _HURRY_FROM * self._threshold:
            rested: asyncio.Future[bool] = loop.create_future()
            pause = min(_REST * (loop.time() - self._rested_at), _LONGEST_REST_SECONDS)
            timer = loop.call_later(pause, wake, rested)
            try:
                await rested
            finally:
                timer.cancel()
        else:
            await asyncio.sleep(0)
        self._goes_on()

    def _goes_on(self) -> None:
        self._rested_at = asyncio.get_running_loop().time()
        self._group_at_rest = self._journal.durable_group

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # Whoever closes waits for it; while others work it takes its time.
        return await offload.whole(offload.start(self._executor, work, background=not self._closing))

    # ---- on the loop

    def _take_aside(self, plan: _Plan) -> None:
        stores, old = self._stores, self._manifest
        streams, queues, tables = [], [], []
        for stream in stores.streams.by_id.values():
            entries = []
            for shard in stream.shards.values():
                files = self._cold.files_of(stream.stream_id, shard.index)
                # Retention takes whole files: the others hold records that are still there.
                files = tuple(file for file in files if file.last_number > shard.trimmed_to)
                if shard.data:
                    records = block.Columns(
                        shard.moved_to + 1, shard.arrivals_ms.copy(), shard.keys.copy(), shard.data.copy()
                    )
                    plan.moves.append(cold.Move(stream.stream_id, shard.index, records, files, self._next_serial()))
                entries.append(_shard_entry(shard, files))
            producers = {
                name: manifest.ProducerEntry(producer.last_sequence, producer.seen_ms)
                for name, producer in stream.producers.items()
            }
            streams.append(
                manifest.StreamEntry(
                    stream.stream_id,
                    stream.name,
                    stream.created_ms,
                    stream.attributes,
                    stream.next_index,
                    producers,
                    tuple(entries),
                )
            )
        snapshots = {entry.queue_id: entry.snapshot for entry in old.queues}
        for queue in stores.queues.by_id.values():
            number = snapshots.get(queue.queue_id, 0)
            if queue.changed:
                queue.changed = False
                plan.changed_queues.append(queue.queue_id)
                number = 0
                if not snapshot.is_empty(queue):
                    number = self._next_serial()
                    plan.snapshots.append((queue.queue_id, number, snapshot.encode(queue, stores.clock.now_ms())))
            queues.append(
                manifest.QueueEntry(
                    queue.queue_id, queue.name, queue.created_ms, queue.attributes, queue.last_number, number
                )
            )
        for table_id, table in stores.tables.by_id.items():
            items = table.items
            if items.newest:
                settled = isinstance(items.base, SqliteItems)
                base = items.base if isinstance(items.base, SqliteItems) else self._open_base(table_id)
                plan.tables.append(_TableMove(table_id, items.newest, base, afresh=not settled))
                items.moving, items.newest = items.newest, Layer()
            settled = items.base is not None or items.moving is not None
            tables.append(manifest.TableEntry(table_id, table.schema, table.description.created_ms, settled))
        plan.manifest = msgspec.structs.replace(
            old,
            last_id=stores.last_id,
            serial=self._serial,
            streams=tuple(streams),
            queues=tuple(queues),
            tables=tuple(tables),
        )

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

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
        added = {(move.stream_id, move.shard): move for move in plan.moves}
        for entry in self._manifest.streams:
            stream = self._stores.streams.by_id.get(entry.stream_id)
            for settled in entry.shards if stream is not None else ():
                move = added.get((entry.stream_id, settled.index))
                self._cold.adopt(entry.stream_id, settled.index, settled.files, move.blocks if move else ())
                # A shard that expired meanwhile has nothing in memory.
                if move is not None and stream is not None and settled.index in stream.shards:
                    stream.shards[settled.index].move_out(move.records.last_number)
        for moved in plan.tables:
            table = self._stores.tables.by_id.get(moved.table_id)
            if table is not None:
                table.items.base = moved.base
                table.items.moving = None
        streams = self._stores.streams.by_id
        self._cold.keep({(stream_id, index) for stream_id, stream in streams.items() for index in stream.shards})

    # ---- in the thread

    def _write(self, plan: _Plan) -> manifest.Manifest:
        for queue_id, number, body in plan.snapshots:
            snapshot.save(self._files, os.path.join(self._directory, "queues"), queue_id, number, body)
        for table in plan.tables:
            table.base.apply(table.layer.entries(), afresh=table.afresh)
        moved = {(move.stream_id, move.shard): move.files for move in plan.moves}
        streams = tuple(
            msgspec.structs.replace(
                stream,
                shards=tuple(
                    msgspec.structs.replace(shard, files=moved.get((stream.stream_id, shard.index), shard.files))
                    for shard in stream.shards
                ),
            )
            for stream in plan.manifest.streams
        )
        written = msgspec.structs.replace(plan.manifest, streams=streams)
        manifest.save(self._files, self._directory, written)
        return written


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


def _remove_strangers(files: Files, directory: str, cold_store: cold.ColdStore, known: manifest.Manifest) -> None:
    """Remove what the manifest does not name: files of things that were deleted, and what a crash left behind."""
    cold_store.remove_strangers(
        {
            stream.stream_id: {
                cold.file_name(shard.index, file.serial) for shard in stream.shards for file in shard.files
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

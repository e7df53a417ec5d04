"""Settling: what the journal holds moves to where it stays, and the journal's old segments go.

On the event loop, in one step, the journal is cut and what has changed is taken aside. Once everything before the cut
is durable, records and messages are packed and a thread writes them to their files, queues to snapshots, items to
SQLite, and last the manifest, which makes all of it count at once. A crash before the manifest leaves the old one, and
the journal that goes with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from streamkit.clock import wake
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import cold, id_files, manifest, offload, snapshot
from streamkit.engines.file.files import Files
from streamkit.engines.file.journal import Journal
from streamkit.engines.file.plan import Plan
from streamkit.engines.file.queue_files import QueueFiles, file_name
from streamkit.engines.file.recovery import table_paths
from streamkit.engines.file.segment import Position
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import StorageError

T = TypeVar("T")

_log = logging.getLogger("streamkit.engine")

# Writers wait when this many times the settling threshold is still in memory.
_MOST_UNSETTLED = 2
_HURRY_FROM = 1
"""And settling takes what it can get when this many times the threshold has come since it began."""
_REST = 3
"""Times as long as it worked."""
_LONGEST_REST_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 60.0
"""Real seconds between two looks at what is too old; how old it is, the clock says."""


class Settler:
    """Settles one store, one settling at a time."""

    def __init__(
        self,
        stores: EmbeddedStores,
        journal: Journal,
        cold_store: cold.ColdStore,
        queue_files: QueueFiles,
        files: Files,
        directory: str,
        current: manifest.Manifest,
        *,
        threshold_bytes: int,
        open_base: Callable[[int, int], SqliteItems],
    ) -> None:
        self._stores = stores
        self._journal = journal
        self._cold = cold_store
        self._queue_files = queue_files
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
        plan = Plan(self._manifest, self._extend)
        try:
            # ATOMIC: what is taken aside is exactly what was appended before the cut
            cut = self._journal.cut()
            plan.take_aside(self._stores, self._cold, self._next_serial, self._open_base)
            # end ATOMIC
            position = await cut
            # SQLite's files may be ahead of the manifest, but nothing may be ahead of the journal.
            await self._journal.synced()
            if (position, plan.manifest.streams) == (self._manifest.position, self._manifest.streams):
                plan.put_back(self._stores)
                return position
            plan.cut_at(position, self._serial)
            self._goes_on()
            await self._cold.write(plan.moves, extend=plan.extend, run=self._in_thread, rest=self._rest)
            await self._queue_files.write(plan.queues, run=self._in_thread, rest=self._rest)
            self._manifest = await self._in_thread(lambda: plan.write(self._files, self._directory))
        except BaseException:
            plan.put_back(self._stores)
            raise
        plan.adopt(self._stores, self._cold)
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

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _goes_on(self) -> None:
        self._rested_at = asyncio.get_running_loop().time()
        self._group_at_rest = self._journal.durable_group

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # Whoever closes waits for it; while others work it takes its time.
        return await offload.whole(offload.start(self._executor, work, background=not self._closing))


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
    of_queues = {snapshot.file_name(queue.queue_id, queue.snapshot) for queue in known.queues}
    of_queues |= {file_name(queue.queue_id, file.serial) for queue in known.queues for file in queue.files}
    of_queues |= {id_files.file_name(queue.queue_id, serial) for queue in known.queues for serial in queue.ids}
    tables = {os.path.basename(path) for table in known.tables for path in table_paths(directory, table)}
    for folder, kept in (("queues", of_queues), ("tables", tables)):
        path = os.path.join(directory, folder)
        for name in files.names(path):
            if name.removesuffix("-wal").removesuffix("-shm") not in kept:
                files.remove(os.path.join(path, name))

"""The file engine: everything durable in one directory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from streamkit.clock import Clock
from streamkit.engines.base import Durability
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import manifest, offload, recovery
from streamkit.engines.file.cold import ColdStore
from streamkit.engines.file.files import DiskFiles, Files, read_file
from streamkit.engines.file.frame import FORMAT, SEGMENT_HEADER_SIZE
from streamkit.engines.file.journal import Journal
from streamkit.engines.file.lock import NAME as LOCK_NAME
from streamkit.engines.file.lock import DirectoryLock
from streamkit.engines.file.queue_files import QueueFiles
from streamkit.engines.file.segment import Position, create_segment, segment_numbers, segment_path, segment_size
from streamkit.engines.file.settle import Settler
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import ClosedError, CorruptLogError, DirectoryInUseError, StorageError
from streamkit.functions.effects import Effects
from streamkit.limits import MIB, Limits

_log = logging.getLogger("streamkit.engine")
_FOLDERS = ("journal", "streams", "queues", "tables")


class FileEngine:
    """Implements ``Engine``. Made by ``FileEngine.open``."""

    def __init__(
        self,
        directory: str,
        durability: Durability,
        lock: DirectoryLock,
        stores: EmbeddedStores,
        journal: Journal,
        cold: ColdStore,
        queue_files: QueueFiles,
        settler: Settler,
        readers: ThreadPoolExecutor,
    ) -> None:
        self.url = directory
        self.durability = durability
        self.streams = stores.streams
        self.queues = stores.queues
        self.tables = stores.tables
        self._lock = lock
        self._stores = stores
        self._journal = journal
        self._cold = cold
        self._queue_files = queue_files
        self._settler = settler
        self._readers = readers
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock,
        limits: Limits,
        durability: Durability = "fsync",
        files: Files | None = None,
        settle_after_bytes: int = 64 * MIB,
    ) -> FileEngine:
        """Open a directory, creating it if it is not there, and recover what it holds.

        Raises:
            DirectoryInUseError: somebody else has it open.
            CorruptLogError: something in it is damaged; nothing was changed.
            UnknownFormatError: another version wrote it.
            StorageError: it cannot be used; the message says why.
        """
        directory = _absolute(path)
        files = files or DiskFiles()
        readers = ThreadPoolExecutor(2, thread_name_prefix="streamkit-read")
        # What threads take they note here at once, so that it is let go of also if nobody waits for them any more.
        held = contextlib.ExitStack()
        try:
            lock = await offload.whole(offload.start(readers, lambda: _own(files, directory, held)))
            known, tail = await offload.whole(offload.start(readers, lambda: _read(files, directory, held)))
            held.pop_all()
            held.callback(lock.release)
            journal = Journal(
                files,
                os.path.join(directory, "journal"),
                store_id=known.store_id,
                segment=tail.segment,
                next_number=tail.next_number,
                durability=durability,
                check_owner=_owner_check(lock, directory),
                sync_seconds=tail.sync_seconds,
                bytes_since_cut=tail.bytes,
            )
            cold = ColdStore(files, os.path.join(directory, "streams"), readers)
            queue_files = QueueFiles(files, os.path.join(directory, "queues"), readers)
            stores = EmbeddedStores(journal, clock, limits, known.store_id, cold=cold, pages=queue_files)

            def fill() -> None:
                recovery.load_settled(files, directory, known, stores, cold, queue_files)
                for change in tail.changes:
                    stores.replay(change)
                queue_files.forget()

            try:
                await offload.whole(offload.start(readers, fill))
            except BaseException:
                await journal.close()
                raise
        except BaseException as error:
            readers.shutdown(wait=False)
            held.close()
            if isinstance(error, OSError):
                raise StorageError(f"{directory} cannot be opened: {error}") from error
            raise
        for queue in stores.queues.by_id.values():
            queue.clamp(clock.now_ms())
        stores.queues.begin()
        settler = Settler(
            stores,
            journal,
            cold,
            queue_files,
            files,
            directory,
            known,
            threshold_bytes=settle_after_bytes,
            open_base=lambda table_id, index_id: SqliteItems(
                recovery.table_path(directory, table_id, index_id),
                recovery.file_schema(stores.tables.by_id[table_id], index_id),
                of_index=index_id > 0,
            ),
        )
        return cls(directory, durability, lock, stores, journal, cold, queue_files, settler, readers)

    @property
    def limits(self) -> Limits:
        """See EffectStore."""
        return self._stores.limits

    async def commit(self, effects: Effects) -> None:
        """See EffectStore."""
        await self._stores.commit(effects)

    async def settle(self) -> None:
        """Move what the journal holds to where it stays, now; it happens by itself every 64 MiB and at the close.

        Cancellation: it goes on.

        Raises:
            StorageError: it could not be moved; the journal still has it.
        """
        self._lock.check_process()
        if self._closing is not None:
            raise ClosedError("the engine")
        await self._settler.settle()

    async def aclose(self) -> None:
        """See Engine.

        Raises:
            DirectoryInUseError: this is a forked child, which has nothing to close.
            JournalFailedError: something that was taken, and not yet acknowledged, is not durable.
        """
        self._lock.check_process()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        # Closing goes on to its end even if whoever waits for it is cancelled.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._journal.refuse()
        self._stores.close()
        with contextlib.ExitStack() as held:
            held.callback(self._lock.release)
            held.callback(self._readers.shutdown)
            for table in self._stores.tables.by_id.values():
                held.callback(table.close)
            try:
                await self._settler.close()
            except StorageError as error:
                _log.warning("%s was closed with its journal unsettled: %s", self.url, error)
            finally:
                try:
                    await self._journal.close()
                finally:
                    await self._cold.close()
                    await self._queue_files.close()


def _owner_check(lock: DirectoryLock, directory: str) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def check() -> None:
        lock.check_process()
        if asyncio.get_running_loop() is not loop:
            raise DirectoryInUseError(directory, "another event loop of this process")

    return check


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(path))


def _own(files: Files, directory: str, held: contextlib.ExitStack) -> DirectoryLock:
    """Make the directory and take it."""
    missing = directory
    parents = []
    while not os.path.isdir(missing):
        parents.append(missing)
        missing = os.path.dirname(missing)
    for parent in reversed(parents):
        files.make_directory(parent)
    names = set(files.names(directory))
    strangers = sorted(names - {*_FOLDERS, LOCK_NAME, manifest.NAME, manifest.NAME + ".new"})
    if strangers and manifest.NAME not in names:
        raise StorageError(
            f"{directory} holds other files ({', '.join(strangers[:3])}) and no streamkit data: "
            "choose an empty directory or one that does not exist yet"
        )
    lock = DirectoryLock(directory)
    held.callback(lock.release)
    return lock


def _read(files: Files, directory: str, held: contextlib.ExitStack) -> tuple[manifest.Manifest, recovery.Recovered]:
    known = manifest.load(files, directory)
    if known is None:
        known = _create(files, directory)
    else:
        # The one who replaced it may have failed before its name was durable.
        files.sync_directory(directory)
    tail = recovery.read_journal(files, directory, known)
    held.callback(files.close, tail.segment.fd)
    return known, tail


def _create(files: Files, directory: str) -> manifest.Manifest:
    """A new store. The manifest comes last: nothing was acknowledged before it was there.

    Raises:
        CorruptLogError: there was a store, and its manifest is gone.
    """
    _refuse_data(files, directory)
    # An earlier attempt may have made the directory and crashed before its name was durable.
    files.sync_directory(os.path.dirname(directory))
    for folder in _FOLDERS:
        files.make_directory(os.path.join(directory, folder))
    store_id = secrets.randbits(63)
    segment = create_segment(files, os.path.join(directory, "journal"), 1, segment_size(1), store_id)
    files.close(segment.fd)
    known = manifest.Manifest(FORMAT, store_id, Position(1, SEGMENT_HEADER_SIZE, 1))
    manifest.save(files, directory, known)
    return known


def _refuse_data(files: Files, directory: str) -> None:
    journal = os.path.join(directory, "journal")
    held = [folder for folder in _FOLDERS[1:] if files.names(os.path.join(directory, folder))]
    for number in segment_numbers(files, journal):
        # What a crash leaves of an attempt to make a store is one segment with a header and nothing in it.
        if number > 1 or read_file(files, segment_path(journal, number))[SEGMENT_HEADER_SIZE:].strip(b"\0"):
            held.append("journal")
            break
    if held:
        path = os.path.join(directory, manifest.NAME)
        raise CorruptLogError(path, 0, f"the manifest is missing, but there is data in {' and '.join(held)}")

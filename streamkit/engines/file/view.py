"""A store as somebody sees it who does not own it: what a manifest names, and what the journal says since then.

A view is loaded once, goes on with the journal, and takes over a newer manifest when the owner has settled: then what
moved to files leaves memory. Loading is for a thread, everything else for the event loop.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import (
    QUEUE_CHANGES,
    Change,
    IndexFilled,
    ItemsWritten,
    MessagesMoved,
    MessagesReceived,
    MessagesReleased,
    TableCreated,
    TableDeleted,
    TableUpdated,
    VisibilityChanged,
)
from streamkit.engines.embedded.items import Items
from streamkit.engines.embedded.layer import Layer
from streamkit.engines.embedded.log import ImmediateLog
from streamkit.engines.embedded.queue_changes import QueueChanges
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.embedded.table_indexes import EmbeddedTable
from streamkit.engines.file import manifest, recovery
from streamkit.engines.file.block import Block
from streamkit.engines.file.cold import ColdStore
from streamkit.engines.file.manifest import ColdFile
from streamkit.engines.file.queue_files import QueueFiles
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.settled_items import SettledItems
from streamkit.engines.file.tail import Group, JournalTail
from streamkit.errors import CorruptLogError, ReadOnlyError, StorageError
from streamkit.limits import Limits
from streamkit.queues.backlog import Page
from streamkit.queues.settled import pages_with
from streamkit.tables.item import TableSchema

_ATTEMPTS = 20


class Added(msgspec.Struct, frozen=True):
    """What a newer manifest's files have more."""

    blocks: dict[tuple[int, int], list[Block]]
    """New in the files of a shard, by stream and index."""
    queues: QueueChanges | None
    """Queues as they are when what came since the manifest is applied to what was settled; None: none of them keeps
    messages in files of pages."""


class NoStoreError(StorageError):
    """There is no store in the directory."""


class ReadOnlyLog(ImmediateLog):
    """Implements ``Log`` for stores that only replay: what they hold is durable, and nothing is added."""

    group = 0

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def check(self) -> None:
        """See Log."""
        raise ReadOnlyError(self._url, "change anything")

    def append(self, change: Change, on_durable: object = None) -> int:
        """See Log."""
        raise ReadOnlyError(self._url, "change anything")


class FollowedCold(ColdStore):
    """Cold records whose files somebody else writes."""

    def added(self, stream_id: int, shard: int, files: Sequence[ColdFile]) -> list[Block]:
        """The blocks in these files that the index does not have yet; in a thread.

        Raises:
            CorruptLogError: a file is gone or damaged.
        """
        index = self._shards.get((stream_id, shard))
        if index is None or index.blocks is None or index.files == list(files):
            return []
        newest = {block.serial: block.last_number for block in index.blocks}
        found: list[Block] = []
        for file in files:
            known = newest.get(file.serial, file.first_number - 1)
            if known < file.last_number:
                path = self._path(stream_id, shard, file.serial)
                found += (block for block in self._scan(path, file) if block.first_number > known)
        return found

    def follow(self, stream_id: int, shard: int, files: Sequence[ColdFile], added: Sequence[Block]) -> None:
        """These are the shard's files now."""
        self.adopt(stream_id, shard, files, added)
        index = self._shards[stream_id, shard]
        # A reader may have made the old index since the new blocks were looked for.
        if index.blocks and index.blocks[-1].last_number != index.files[-1].last_number:
            index.blocks = None


class Latest(msgspec.Struct, frozen=True):
    """A manifest, and the file it was read from, which is open so that no other file gets its identity."""

    known: manifest.Manifest
    fd: int

    def close(self, files: ReadOnlyFiles) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            files.close(self.fd)


class View:
    """One view. Readers of it see whole commits of the owner."""

    def __init__(
        self,
        files: ReadOnlyFiles,
        directory: str,
        latest: Latest,
        stores: EmbeddedStores,
        cold: FollowedCold,
        queue_files: QueueFiles,
    ) -> None:
        self.stores = stores
        self.cold = cold
        self._queue_files = queue_files
        self.manifest = latest
        """The one it was loaded from, or took over last."""
        self.store_id = latest.known.store_id
        self.next_number = latest.known.position.number
        """Of the first frame of the journal that is not in it."""
        self.tail = JournalTail(files, os.path.join(directory, "journal"), self.store_id, latest.known.position)
        self.generation = 0
        """How often it took over a manifest."""
        self.schemas: dict[str, TableSchema] = {}
        """Of the tables there are."""
        self.schema_changes = 0
        self._table_ids: dict[str, int] = {}
        self._files = files
        self._directory = directory
        # Of these a newer manifest drops the first ones: they are in the files of tables and queues then.
        self._written: list[tuple[int, ItemsWritten | IndexFilled]] = []
        self._queued: list[tuple[int, Change]] = []

    def apply(self, group: Group) -> None:
        """Go on by one group."""
        # ATOMIC: whoever reads sees a group whole or not at all
        for change in group.changes:
            self.stores.replay(change)
            if isinstance(change, ItemsWritten | IndexFilled):
                self._written.append((group.number, change))
            elif isinstance(change, QUEUE_CHANGES):
                self._queued.append((group.number, change))
            elif isinstance(change, TableCreated | TableUpdated | TableDeleted):
                self._note_tables()
        self.next_number = group.number + 1
        # end ATOMIC
        self._queue_files.forget()

    def missing(self, group: Group) -> list[tuple[int, Page]]:
        """The pages of queues that are needed to apply a group, by queue."""
        found = []
        for change in group.changes:
            if isinstance(change, MessagesReceived | MessagesReleased | VisibilityChanged | MessagesMoved):
                queue = self.stores.queues.by_id.get(change.queue_id)
                if queue is not None and queue.backlog.pages:
                    moved = change.moved if isinstance(change, MessagesReceived) else ()
                    found += [(change.queue_id, page) for page in pages_with(queue, [*change.numbers, *moved])]
        return found

    def fetch(self, pages: Sequence[tuple[int, Page]]) -> None:
        """Read them; in a thread.

        Raises:
            StorageError: one is gone or damaged.
        """
        for queue_id, page in pages:
            self._queue_files.fetch(queue_id, page)

    def added(self, known: manifest.Manifest) -> Added:
        """What a newer manifest's files have more; in a thread.

        Raises:
            CorruptLogError: a file is gone or damaged.
        """
        blocks = {
            (stream.stream_id, shard.index): self.cold.added(stream.stream_id, shard.index, shard.files)
            for stream in known.streams
            for shard in stream.shards
        }
        queues = None
        if any(queue.files for queue in (*known.queues, *self.manifest.known.queues)):
            queues = QueueChanges()
            for queue in known.queues:
                queues.adopt(recovery.load_queue(self._files, self._directory, queue, self._queue_files))
            for number, change in self._queued:
                if number >= known.position.number:
                    queues.apply(change)
            for state in queues.by_id.values():
                state.clamp(self.stores.clock.now_ms())
        return Added(blocks, queues)

    def adopt(self, latest: Latest, added: Added) -> None:
        """Take over a newer manifest, up to whose position this view has come."""
        known = latest.known
        # ATOMIC: what leaves memory is in the files from the same moment on
        for entry in known.streams:
            stream = self.stores.streams.by_id.get(entry.stream_id)
            if stream is None:
                continue  # It was deleted since.
            settled = {shard.index: shard for shard in entry.shards}
            for index, shard in list(stream.shards.items()):
                if index in settled:
                    self.cold.follow(entry.stream_id, index, settled[index].files, added.blocks[entry.stream_id, index])
                    shard.trim(settled[index].trimmed_to)
                    shard.move_out(settled[index].moved_to)
                elif index < entry.next_index:
                    stream.expire(shard)
        streams = self.stores.streams.by_id
        self.cold.keep({(stream_id, index) for stream_id, stream in streams.items() for index in stream.shards})
        self._written = [(number, change) for number, change in self._written if number >= known.position.number]
        self._queued = [(number, change) for number, change in self._queued if number >= known.position.number]
        if added.queues is not None:
            self.stores.queues.changes.replace_all(added.queues)
        for table in known.tables:
            followed = self.stores.tables.by_id.get(table.table_id)
            if followed is not None:
                self._follow(followed, 0, settled=table.settled)
                for held in table.indexes:
                    self._follow(followed, held.index_id, settled=held.settled)
        for _, written in self._written:
            if written.table_id in self.stores.tables.by_id:
                self.stores.replay(written)
        # end ATOMIC
        old, self.manifest = self.manifest, latest
        self.generation += 1
        old.close(self._files)

    def fill(self, clock: Clock) -> None:
        """Load what the manifest names and go on to the journal's end; in a thread.

        Raises:
            OSError: a file is gone or cannot be read.
            CorruptLogError: a file is missing or damaged.
        """
        known = self.manifest.known
        recovery.load_settled(self._files, self._directory, known, self.stores, self.cold, self._queue_files)
        self._note_tables()
        for table in self.stores.tables.by_id.values():
            for items, index_id in _parts(table):
                if items.base is not None:
                    items.base = self._base(table, index_id)
        while not self.tail.at_end:
            for group in self.tail.read():
                self.apply(group)
        self.tail.check_end()
        for queue in self.stores.queues.by_id.values():
            queue.clamp(clock.now_ms())

    def base(self, table: str, index: str | None = None) -> SettledItems | None:
        """Where a table's settled items are, or the entries of an index, if it is there and has some."""
        table_id = self._table_ids.get(table)
        if table_id is None:
            return None
        held = self.stores.tables.by_id[table_id]
        base = held.items.base
        if index is not None:
            base = next((each.items.base for each in held.indexes if each.index.name == index), None)
        return base if isinstance(base, SettledItems) else None

    def close(self) -> None:
        """Let go of the files. Reads of records that are under way may go on: see ``cold.close``."""
        for table in self.stores.tables.by_id.values():
            table.close()
        self.tail.close()
        self.manifest.close(self._files)

    def _note_tables(self) -> None:
        tables = self.stores.tables.by_id
        self.schemas = {table.schema.name: table.schema for table in tables.values()}
        self._table_ids = {table.schema.name: table_id for table_id, table in tables.items()}
        self.schema_changes += 1

    def _follow(self, table: EmbeddedTable, index_id: int, *, settled: bool) -> None:
        items = self.stores.tables.items_of(table.table_id, index_id)
        if items is not None:
            items.newest = Layer()
            if settled and items.base is None:
                items.base = self._base(table, index_id)

    def _base(self, table: EmbeddedTable, index_id: int) -> SettledItems:
        path = recovery.table_path(self._directory, table.table_id, index_id)
        return SettledItems(path, recovery.file_schema(table, index_id))


def _parts(table: EmbeddedTable) -> list[tuple[Items, int]]:
    return [(table.items, 0), *((index.items, index.index_id) for index in table.indexes)]


def latest(files: ReadOnlyFiles, directory: str) -> Latest:
    """The manifest as it is now.

    Raises:
        NoStoreError: there is none.
        CorruptLogError: it is damaged.
        UnknownFormatError: another version wrote it.
        OSError: it cannot be read.
    """
    path = os.path.join(directory, manifest.NAME)
    for _ in range(_ATTEMPTS):
        try:
            fd = files.open(path)
        except (FileNotFoundError, NotADirectoryError):
            break
        try:
            known = manifest.load(files, directory)
            if known is not None and files.identity(path) == files.identity_of(fd):
                return Latest(known, fd)
        except BaseException:
            files.close(fd)
            raise
        files.close(fd)
    else:
        raise _restless(directory)
    raise NoStoreError(
        f"{directory} holds no streamkit data: ?mode=ro opens what is there; without it a store is created"
    )


def load(files: ReadOnlyFiles, directory: str, clock: Clock, limits: Limits, executor: ThreadPoolExecutor) -> View:
    """A view as of now. The owner may settle meanwhile; then what was read first is of no use, and it begins again.

    Raises:
        NoStoreError: there is no store.
        StorageError: it cannot be read, or the owner settled again and again while it was read.
        OSError: it cannot be read.
    """
    path = os.path.join(directory, manifest.NAME)
    for _ in range(_ATTEMPTS):
        found = latest(files, directory)
        view: View | None = None
        try:
            cold = FollowedCold(files, os.path.join(directory, "streams"), executor)
            queue_files = QueueFiles(files, os.path.join(directory, "queues"), executor)
            log = ReadOnlyLog(url_of(directory))
            stores = EmbeddedStores(log, clock, limits, found.known.store_id, cold=cold, pages=queue_files)
            view = View(files, directory, found, stores, cold, queue_files)
            view.fill(clock)
        except BaseException as error:
            is_there = files.identity(path) == files.identity_of(found.fd)
            if view is None:
                found.close(files)
            else:
                view.close()
            if is_there or not isinstance(error, (FileNotFoundError, CorruptLogError)):
                raise
        else:
            return view
    raise _restless(directory)


def url_of(directory: str) -> str:
    """What a directory that is only looked at is called."""
    return f"{directory}?mode=ro"


def _restless(directory: str) -> StorageError:
    return StorageError(f"{directory} was settled {_ATTEMPTS} times while it was being read: try again")

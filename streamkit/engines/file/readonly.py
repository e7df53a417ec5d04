"""A directory that another process owns, or nobody: what is in it and what comes can be read, and nothing changed.

No lock is taken, nothing is written and no file is made, so it does no harm to whoever owns it, needs no more than the
right to read, and may outlive its owner. What is shown is on disk, as durably as the owner acknowledged it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from streamkit.clock import Clock
from streamkit.engines.base import Durability
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.embedded.tables import EmbeddedTables
from streamkit.engines.file import offload
from streamkit.engines.file.follow import LONGEST_MS, Follower
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.settled_items import SettledItems, Version
from streamkit.engines.file.view import View, load, url_of
from streamkit.errors import ReadOnlyError, StorageError, StreamKitError
from streamkit.functions.effects import Effects
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.store import QueueDescription, SendEntry, SendResult, VisibilityEntry
from streamkit.streams.store import (
    Merge,
    ProducerSequences,
    PutEntry,
    PutResult,
    RecordBatch,
    Split,
    StartingPosition,
    StreamAttributes,
    StreamDescription,
)
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.item import Item, Key, KeyValue, TableSchema
from streamkit.tables.store import Consumed, ItemPage, Segment, SortKeyRange, TableDescription
from streamkit.tables.transact_get import Get
from streamkit.tables.write import Write

T = TypeVar("T")

_PATIENCE_MS = 10_000
"""How long a table's file may be in the middle of being written."""


class ReadOnlyEngine:
    """Implements ``Engine``. Made by ``ReadOnlyEngine.open``. Whatever would change something raises ``ReadOnlyError``.

    Consistency: a call sees everything that was durable when it began, and a commit of the owner whole or not at all.
    Freshness: a reader that waits is woken up to 40 ms after what it waits for became durable; see ``follow`` for disks
        whose syncs take longer than that.
    Durability: what is shown has been synced. Where the owner acknowledges what is only written (durability "interval"
    or "memory"), that is shown, and is as durable as its acknowledgement.
    """

    def __init__(
        self,
        directory: str,
        clock: Clock,
        limits: Limits,
        follower: Follower,
        executors: Sequence[ThreadPoolExecutor],
    ) -> None:
        self.limits = limits
        self.url = url_of(directory)
        self.streams = ReadOnlyStreams(self.url, clock, follower)
        self.queues = ReadOnlyQueues(self.url, follower)
        self.tables = ReadOnlyTables(self.url, clock, follower)
        self.schemas = follower.schemas
        """Of the tables there are, as of the last call; always the same dict."""
        self._follower = follower
        self._executors = executors
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, path: str | os.PathLike[str], *, clock: Clock, limits: Limits, files: ReadOnlyFiles | None = None
    ) -> ReadOnlyEngine:
        """Open a directory that is there, whether somebody owns it or not.

        Raises:
            CorruptLogError: what it holds is damaged.
            UnknownFormatError: another version wrote it.
            StorageError: there is no store, or it cannot be read; the message says why.
        """
        files = files or ReadOnlyFiles()
        readers = ThreadPoolExecutor(2, thread_name_prefix="streamkit-read")
        looker = ThreadPoolExecutor(1, thread_name_prefix="streamkit-look")
        # What the thread opened it notes here at once, so that it is let go of also if nobody waits for it any more.
        held = contextlib.ExitStack()

        directory = os.fspath(path)

        def open_view() -> View:
            nonlocal directory
            directory = os.path.abspath(directory)
            view = load(files, directory, clock, limits, readers)
            held.callback(view.close)
            return view

        try:
            view = await offload.whole(offload.start(looker, open_view))
        except BaseException as error:
            held.close()
            for executor in (readers, looker):
                executor.shutdown(wait=False)
            if isinstance(error, OSError):
                raise StorageError(f"{directory} cannot be read: {error}") from error
            raise
        follower = Follower(files, directory, clock, limits, view, readers, looker)
        return cls(directory, clock, limits, follower, (readers, looker))

    @property
    def durability(self) -> Durability:
        """Of what is shown: "fsync", or "memory" while nothing better is known of the owner's acknowledgements."""
        return "memory" if self._follower.view.tail.acknowledged_unsynced else "fsync"

    async def commit(self, effects: Effects) -> None:
        """Refused."""
        raise ReadOnlyError(self.url, "commit a function's effects")

    async def aclose(self) -> None:
        """See Engine."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        # Closing goes on to its end even if whoever waits for it is cancelled.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self._follower.close()
        finally:
            for executor in self._executors:
                executor.shutdown(wait=False)


class ReadOnlyStreams:
    """Implements ``StreamStore``."""

    def __init__(self, url: str, clock: Clock, follower: Follower) -> None:
        self._url = url
        self._clock = clock
        self._follower = follower

    async def describe_stream(self, name: str) -> StreamDescription:
        """See StreamStore."""
        return await self._follower.call(lambda stores: stores.streams.describe_stream(name))

    async def list_streams(self) -> list[str]:
        """See StreamStore."""
        return await self._follower.call(lambda stores: stores.streams.list_streams())

    async def get_shard_iterator(
        self, name: str, shard_id: str, position: StartingPosition, *, sequence_number: int = 0, timestamp_ms: int = 0
    ) -> str:
        """See StreamStore."""
        return await self._follower.call(
            lambda stores: stores.streams.get_shard_iterator(
                name, shard_id, position, sequence_number=sequence_number, timestamp_ms=timestamp_ms
            )
        )

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        """See StreamStore."""
        deadline_ms = self._clock.now_ms() + wait_ms

        async def wait(stores: EmbeddedStores) -> RecordBatch:
            with self._follower.watching():
                left_ms = max(1, deadline_ms - self._clock.now_ms())
                return await stores.streams.get_records(iterator, limit, left_ms)

        if wait_ms > 0:
            return await self._follower.call(wait, waits=True)
        return await self._follower.call(lambda stores: stores.streams.get_records(iterator, limit))

    async def create_stream(
        self, name: str, shard_count: int, attributes: StreamAttributes | None = None
    ) -> StreamDescription:
        """Refused."""
        raise ReadOnlyError(self._url, f"create stream {name!r}")

    async def update_stream(self, name: str, attributes: StreamAttributes) -> None:
        """Refused."""
        raise ReadOnlyError(self._url, f"change stream {name!r}")

    async def reshard(self, name: str, step: Split | Merge) -> StreamDescription:
        """Refused."""
        raise ReadOnlyError(self._url, f"reshard stream {name!r}")

    async def delete_stream(self, name: str) -> None:
        """Refused."""
        raise ReadOnlyError(self._url, f"delete stream {name!r}")

    async def put_records(
        self,
        name: str,
        entries: Sequence[PutEntry],
        producer: ProducerSequences | None = None,
        newest_shard_id: str | None = None,
    ) -> Sequence[PutResult]:
        """Refused."""
        raise ReadOnlyError(self._url, f"put records into stream {name!r}")


class ReadOnlyQueues:
    """Implements ``QueueStore``. A receive hides messages, so it is refused; ``peek_messages`` shows them."""

    def __init__(self, url: str, follower: Follower) -> None:
        self._url = url
        self._follower = follower

    async def describe_queues(self, names: Sequence[str] | None = None) -> list[QueueDescription]:
        """See QueueStore."""
        return await self._follower.call(lambda stores: stores.queues.describe_queues(names))

    async def peek_messages(self, name: str, limit: int, after: int = 0) -> list[ReceivedMessage]:
        """See QueueStore."""
        return await self._follower.call(lambda stores: stores.queues.peek_messages(name, limit, after))

    async def create_queue(self, name: str, attributes: QueueAttributes) -> QueueDescription:
        """Refused."""
        raise ReadOnlyError(self._url, f"create queue {name!r}")

    async def update_queue(self, name: str, attributes: QueueAttributes) -> None:
        """Refused."""
        raise ReadOnlyError(self._url, f"change queue {name!r}")

    async def purge_queue(self, name: str) -> int:
        """Refused."""
        raise ReadOnlyError(self._url, f"purge queue {name!r}")

    async def delete_queue(self, name: str) -> None:
        """Refused."""
        raise ReadOnlyError(self._url, f"delete queue {name!r}")

    async def send_messages(self, name: str, entries: Sequence[SendEntry]) -> list[SendResult]:
        """Refused."""
        raise ReadOnlyError(self._url, f"send messages to queue {name!r}")

    async def receive_messages(
        self,
        name: str,
        max_messages: int,
        visibility_timeout_ms: int | None = None,
        wait_ms: int | None = None,
        attempt_id: str | None = None,
    ) -> list[ReceivedMessage]:
        """Refused."""
        raise ReadOnlyError(self._url, f"receive from queue {name!r}, which hides messages from others (peek does not)")

    async def delete_messages(self, name: str, receipt_handles: Sequence[str]) -> list[StreamKitError | None]:
        """Refused."""
        raise ReadOnlyError(self._url, f"delete messages of queue {name!r}")

    async def change_visibility(self, name: str, entries: Sequence[VisibilityEntry]) -> list[StreamKitError | None]:
        """Refused."""
        raise ReadOnlyError(self._url, f"hide or show messages of queue {name!r}")

    async def move_messages(self, source: str, message_ids: Sequence[str], destination: str, after: int = 0) -> int:
        """Refused."""
        raise ReadOnlyError(self._url, f"move messages out of queue {source!r}")


class ReadOnlyTables:
    """Implements ``TableStore``. Consumers keep their leases in a table, so they cannot run here."""

    session: str | None = None
    consumed: Callable[[Consumed], None] | None = None
    """Nothing is counted here: the owner counts what it does."""

    def __init__(self, url: str, clock: Clock, follower: Follower) -> None:
        self._url = url
        self._clock = clock
        self._follower = follower

    async def describe_tables(self, names: Sequence[str] | None = None) -> list[TableDescription]:
        """See TableStore."""
        return await self._follower.call(lambda stores: stores.tables.describe_tables(names))

    async def get(self, name: str, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        """See TableStore."""
        return await self._read([(name, None)], lambda tables: tables.get(name, keys))

    async def transact_get(self, gets: Sequence[Get]) -> list[Item | None]:
        """See TableStore."""
        # What is no get at all the read says.
        names = {get.table: None for get in gets if isinstance(get, Get) and isinstance(get.table, str)}
        return await self._read([(name, None) for name in names], lambda tables: tables.transact_get(gets))

    async def query(
        self,
        name: str,
        partition_key: KeyValue,
        sort_keys: SortKeyRange | None = None,
        *,
        forward: bool = True,
        limit: int = 1000,
        after: Key | None = None,
        index: str | None = None,
    ) -> ItemPage:
        """See TableStore."""
        return await self._read(
            [(name, index)],
            lambda tables: tables.query(
                name, partition_key, sort_keys, forward=forward, limit=limit, after=after, index=index
            ),
        )

    async def scan(
        self,
        name: str,
        *,
        limit: int = 1000,
        after: Key | None = None,
        index: str | None = None,
        segment: Segment | None = None,
    ) -> ItemPage:
        """See TableStore."""

        async def read(tables: EmbeddedTables) -> ItemPage:
            return await tables.scan(name, limit=limit, after=after, index=index, segment=segment)

        return await self._read([(name, index)], read)

    async def _read(
        self, sources: Sequence[tuple[str, str | None]], read: Callable[[EmbeddedTables], Awaitable[T]]
    ) -> T:
        """What ``read`` finds in one state of its sources, each a table and an index of it or None.

        The owner writes a table's file a while before its manifest says so. If the file has not changed since before
        the look, everything in it was in the journal by then, and what the journal says stands over it.
        """
        deadline_ms = self._clock.now_ms() + _PATIENCE_MS
        while True:
            bases = [self._follower.view.base(name, index) for name, index in sources]
            versions: list[Version | None] = [None] * len(bases)
            try:
                for at, base in enumerate(bases):
                    versions[at] = None if base is None else base.version()
                # ATOMIC: nothing awaits between the end of the look, the reading, and the question whether it stands
                # INVARIANT: test_a_write_is_seen_whole_while_items_settle
                found = await self._follower.call(lambda stores: read(stores.tables))
                if all(map(self._stands, sources, bases, versions)):
                    return found
                # end ATOMIC
            except StorageError:
                await self._follower.refresh()
                if self._clock.now_ms() >= deadline_ms or all(map(self._is_settled, sources, bases, versions)):
                    raise
                await self._clock.sleep_until(self._clock.now_ms() + LONGEST_MS)

    def _stands(self, source: tuple[str, str | None], base: SettledItems | None, version: Version | None) -> bool:
        """Whether what was read of it is what was there since before the look."""
        return self._follower.view.base(*source) is base and (base is None or version is None or base.is_still(version))

    def _is_settled(self, source: tuple[str, str | None], base: SettledItems | None, version: Version | None) -> bool:
        """Whether an error is no matter of time."""
        if base is None or self._follower.view.base(*source) is not base:
            return base is None
        try:
            return version is not None and not version[1] and base.is_still(version)
        except StorageError:
            return False

    async def create_table(self, schema: TableSchema, attributes: TableAttributes | None = None) -> TableDescription:
        """Refused."""
        raise ReadOnlyError(self._url, f"create table {schema.name!r}")

    async def update_table(self, name: str, attributes: TableAttributes) -> TableDescription:
        """Refused."""
        raise ReadOnlyError(self._url, f"change table {name!r}")

    async def build_indexes(self, name: str, limit: int = 256) -> bool:
        """Refused."""
        raise ReadOnlyError(self._url, f"build indexes of table {name!r}")

    async def expire_items(self, name: str, limit: int = 256) -> int:
        """Refused."""
        raise ReadOnlyError(self._url, f"delete items of table {name!r}")

    async def delete_table(self, name: str) -> None:
        """Refused."""
        raise ReadOnlyError(self._url, f"delete table {name!r}")

    async def write(self, writes: Sequence[Write], client_request_token: str | None = None) -> list[Item | None]:
        """Refused."""
        names = ", ".join(sorted({repr(write.table) for write in writes}))
        raise ReadOnlyError(self._url, f"write to table {names}")

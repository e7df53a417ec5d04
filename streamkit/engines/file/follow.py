"""Following a directory that another process owns: when is looked, what is done with what is found, who is told.

Between processes nothing is pushed, so somebody has to look. Every call looks first, and so sees everything that was
durable when it began. For those who wait for records it is looked 5 ms after the last look, up to 40 ms while nothing
comes. The owner needs the disk as well: after a look that had to prove something durable, the next one comes not before
four times as long as the proof took, up to 250 ms. While nobody asks, nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.engines.file import manifest, offload
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.tail import Group, UnprovenError
from streamkit.engines.file.view import Latest, NoStoreError, View, latest, load
from streamkit.errors import ClosedError, CorruptLogError, StorageError, StreamKitError
from streamkit.limits import KIB, Limits
from streamkit.tables.item import TableSchema

T = TypeVar("T")

_log = logging.getLogger("streamkit.engine")

SHORTEST_MS = 5
LONGEST_MS = 40
_SYNCS_APART = 4
_MOST_APART_MS = 250
_ATTEMPTS = 20
_BYTES_PER_TURN = 256 * KIB


class MovedOnError(StreamKitError):
    """The view that somebody waited on was loaded anew; the same call goes on in the new one."""


class _Seen(msgspec.Struct, frozen=True):
    groups: list[Group]
    is_lost: bool = False
    """What follows in the journal is gone, or is another journal."""


class Follower:
    """Keeps a view of a directory up to date. Belongs to one event loop; files are touched in threads of its own."""

    def __init__(
        self,
        files: ReadOnlyFiles,
        directory: str,
        clock: Clock,
        limits: Limits,
        loaded: View,
        readers: ThreadPoolExecutor,
        looker: ThreadPoolExecutor,
    ) -> None:
        self.view = loaded
        self.schemas: dict[str, TableSchema] = dict(loaded.schemas)
        """Of the tables there are, as of the last look; always the same dict."""
        self._files = files
        self._directory = directory
        self._clock = clock
        self._limits = limits
        self._readers = readers
        self._looker = looker
        self._newer: Latest | None = None
        """A manifest that was seen and is to be taken over."""
        self._schema_changes = loaded.schema_changes
        self._asked: asyncio.Future[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._watchers = 0
        self._watch: asyncio.Task[None] | None = None
        self._interval_ms = SHORTEST_MS
        self._next_ms = clock.now_ms()
        """When it should be looked again for those who wait."""
        self._failure: str | None = None
        self._closed = False

    # ---- asking

    async def call(self, work: Callable[[EmbeddedStores], Awaitable[T]], *, waits: bool = False) -> T:
        """Do something with the stores as they are now; or, if ``waits``, as they were a moment ago, and then watch.

        What the owner settles meanwhile may take a file away that was about to be read; then it is done again.
        """
        failures = 0
        while True:
            if waits and self._clock.now_ms() < self._next_ms:
                self._check()
            else:
                await self.refresh()
            current = self.view
            generation = current.generation
            try:
                return await work(current.stores)
            except MovedOnError:
                continue
            except (StorageError, ClosedError):
                failures += 1
                await self.refresh()
                if (self.view, self.view.generation) == (current, generation) or failures == _ATTEMPTS:
                    raise

    async def refresh(self) -> None:
        """Return once somebody looked who began after this call.

        Cancellation: the look goes on.

        Raises:
            ClosedError: the engine is closed.
            StorageError: it could not be looked, or it was found that nothing will be seen any more.
        """
        self._check()
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            if self._looking is None:
                self._looking = asyncio.create_task(self._answer(), name="streamkit look")
        await asyncio.shield(self._asked)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While this block runs what comes is looked for again and again."""
        self._watchers += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_out(), name="streamkit look out")
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def close(self) -> None:
        """End every wait, wait for the threads, and let go of the files."""
        self._closed = True
        self.view.stores.close()
        tasks = [task for task in (self._watch, self._looking) if task is not None]
        if self._watch is not None:
            self._watch.cancel()
        if tasks:
            await asyncio.wait(tasks)
        # The last look may have brought another view.
        self.view.stores.close()
        await self.view.cold.close()
        self.view.close()
        if self._newer is not None:
            self._newer.close(self._files)

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the engine")
        if self._failure is not None:
            raise StorageError(self._failure)

    # ---- looking

    async def _look_out(self) -> None:
        while True:
            await self._clock.sleep_until(self._next_ms)
            try:
                await self.refresh()
            except Exception as error:
                self.view.stores.streams.interrupt(error)

    async def _answer(self) -> None:
        """Look for whoever asked, and again for those who asked meanwhile."""
        try:
            while self._asked is not None:
                asked, self._asked = self._asked, None
                before = self.view, self.view.next_number
                try:
                    self._check()
                    await self._look()
                except Exception as error:
                    asked.set_exception(error)
                    asked.exception()  # Whoever asked may have been cancelled, and nobody else looks at it.
                else:
                    asked.set_result(None)
                self._interval_ms = min(2 * self._interval_ms, LONGEST_MS)
                if (self.view, self.view.next_number) != before:
                    proof_ms = round(1000 * self.view.tail.sync_seconds)
                    self._interval_ms = min(max(SHORTEST_MS, _SYNCS_APART * proof_ms), _MOST_APART_MS)
                self._next_ms = self._clock.now_ms() + self._interval_ms
        finally:
            self._looking = None

    async def _look(self) -> None:
        try:
            await self._catch_up()
        except NoStoreError as error:
            self._failure = (
                f"{self._directory} was deleted, moved, or replaced by another store or an older copy of this one, "
                "while it was being read: open it again"
            )
            raise StorageError(self._failure) from error
        except UnprovenError as error:
            self._failure = str(error)
            raise
        except OSError as error:
            raise StorageError(f"{self._directory} cannot be read: {error}") from error
        finally:
            if self.view.schema_changes != self._schema_changes:
                self._schema_changes = self.view.schema_changes
                self.schemas.clear()
                self.schemas.update(self.view.schemas)

    async def _catch_up(self) -> None:
        current = self.view
        while True:
            # The manifest is looked at first: then what it has settled is in the journal up to its end, or gone.
            seen = await self._in_thread(self._see)
            if seen.is_lost or not await self._apply(seen.groups):
                return await self._reload()
            if current.tail.at_end:
                break
        newer = self._newer
        if newer is not None:
            if current.next_number < newer.known.position.number:
                return await self._reload()
            added = await self._in_thread(lambda: current.added(newer.known))
            current.adopt(newer, added)
            self._newer = None
        return None

    def _see(self) -> _Seen:
        """In the thread."""
        current = self.view
        path = os.path.join(self._directory, manifest.NAME)
        identity = self._files.identity(path)
        known = current.manifest if self._newer is None else self._newer
        if identity != self._files.identity_of(known.fd):
            newer = latest(self._files, self._directory)
            if self._newer is not None:
                self._newer.close(self._files)
            self._newer = newer
            since = newer.known.position
            if newer.known.store_id != current.store_id or (
                current.tail.position.segment >= since.segment and not current.tail.is_where_it_was()
            ):
                raise NoStoreError(self._directory)
        try:
            return _Seen(current.tail.read())
        except (FileNotFoundError, CorruptLogError):
            return _Seen([], is_lost=True)

    async def _apply(self, groups: list[Group]) -> bool:
        """Whether what was found goes on from what was there."""
        size = 0
        for group in groups:
            try:
                missing = self.view.missing(group)
                if missing:
                    await self._in_thread(partial(self.view.fetch, missing))
                self.view.apply(group)
            except Exception:
                _log.exception("%s does not go on from what was read before: reading it anew", self._directory)
                return False
            size += group.size
            if size > _BYTES_PER_TURN:
                size = 0
                await asyncio.sleep(0)
        return True

    async def _reload(self) -> None:
        """Begin anew: the owner settled what would have been read next."""
        loaded = await self._in_thread(
            lambda: load(self._files, self._directory, self._clock, self._limits, self._readers)
        )
        if loaded.store_id != self.view.store_id:
            loaded.close()
            raise NoStoreError(self._directory)
        loaded.schema_changes += self.view.schema_changes + 1
        old, self.view = self.view, loaded
        if self._newer is not None:
            self._newer.close(self._files)
            self._newer = None
        old.stores.streams.interrupt(MovedOnError())
        await old.cold.close()
        old.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await offload.whole(offload.start(self._looker, work))

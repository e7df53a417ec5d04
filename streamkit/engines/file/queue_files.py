"""The backlogs of queues on disk: files of pages, written once when the store settles, and removed as wholes.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from streamkit.engines.file import offload
from streamkit.engines.file.files import Files
from streamkit.engines.file.manifest import QueueFile
from streamkit.engines.file.page import pack, pack_index, unpack, unpack_index
from streamkit.errors import ClosedError, CorruptLogError, StorageError
from streamkit.limits import MIB
from streamkit.queues.backlog import Filing, Page, PageState
from streamkit.queues.stored import StoredMessage

_BYTES_AT_ONCE = MIB
"""Written by one call of a thread: a commit that comes meanwhile waits for the disk no longer than that takes."""
_KEPT = 8
"""Pages that were decoded for replay, which asks for one message of a page after another."""


class Written(msgspec.Struct):
    """A filing on its way to the disk."""

    queue_id: int
    filing: Filing
    file: QueueFile | None = None
    """Once it is written."""


class QueueFiles:
    """Implements ``QueuePages``. Files are written in the settling thread, and read in threads of the executor.

    Without an executor only what blocks can be used.
    """

    def __init__(self, files: Files, directory: str, executor: ThreadPoolExecutor | None = None) -> None:
        self._files = files
        self._directory = directory
        self._executor = executor
        self._kept: OrderedDict[tuple[int, int], list[StoredMessage]] = OrderedDict()
        self._reads: set[asyncio.Future[bytes]] = set()
        self._closed = False

    # ---- writing

    async def write(
        self,
        writes: Iterable[Written],
        *,
        run: Callable[[Callable[[], None]], Awaitable[None]],
        rest: Callable[[], Awaitable[None]],
    ) -> None:
        """Write each filing to a file of its own; synced when it returns, and of no effect before a manifest names it.

        Pages are packed here, one after another and between other work of the event loop; ``run`` gets the writing.
        """
        for write in writes:
            filing = write.filing
            path = self._path(write.queue_id, filing.serial)
            offset, parts = 0, []
            begun = 0
            for place, page in enumerate(filing.pages):
                data = pack(filing.rows(place), filing.serial)
                page.offset, page.size = offset, len(data)
                parts.append(data)
                offset += len(data)
                if offset - begun >= _BYTES_AT_ONCE:
                    await run(partial(self._write, path, begun, parts))
                    begun, parts = offset, []
                await rest()
            index = pack_index(filing.pages)
            parts.append(index)
            await run(partial(self._write, path, begun, parts, last=True))
            write.file = QueueFile(filing.serial, offset + len(index), offset, sum(page.count for page in filing.pages))

    def _write(self, path: str, offset: int, parts: Sequence[bytes], *, last: bool = False) -> None:
        fd = self._files.open(path, create=True)
        try:
            if offset == 0:
                # A settling that failed may have left something.
                self._files.truncate(fd, 0)
            self._files.write(fd, b"".join(parts), offset)
            self._files.sync(fd)
        finally:
            self._files.close(fd)
        if last:
            self._files.sync_directory(self._directory)

    # ---- reading

    def index(self, queue_id: int, file: QueueFile, states: Sequence[PageState] | None) -> list[Page]:
        """The pages of a file, as a snapshot says they are; without a word of it, as they were written.

        Raises:
            CorruptLogError: it is missing or damaged.
            StorageError: it cannot be read.
        """
        path = self._path(queue_id, file.serial)
        data = self._read(path, file.size - file.index_offset, file.index_offset)
        pages = unpack_index(data, file.serial, path, file.index_offset)
        if sum(page.count for page in pages) != file.messages or (states is not None and len(states) != len(pages)):
            raise CorruptLogError(path, file.index_offset, "the file does not hold what the manifest says")
        for page, state in zip(pages, states or (), strict=states is not None):
            page.restore(state)
        return pages

    async def read(self, queue_id: int, page: Page) -> list[StoredMessage]:
        """See QueuePages. The thread only reads; it would fight for the GIL if it decoded."""
        if self._closed or self._executor is None:
            raise ClosedError("the engine")
        path = self._path(queue_id, page.serial)
        begun = offload.start(self._executor, lambda: self._read(path, page.size, page.offset))
        self._reads.add(begun)
        begun.add_done_callback(self._reads.discard)
        # Whoever is cancelled does not wait, but the close waits for the thread.
        return unpack(await asyncio.shield(begun), page, path)

    def read_now(self, queue_id: int, page: Page) -> list[StoredMessage]:
        """See QueuePages. Who takes a message takes it out of the page, so nobody gets it again."""
        key = (page.serial, page.offset)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            self.fetch(queue_id, page)
        self._kept.move_to_end(key)
        return self._kept[key]

    def fetch(self, queue_id: int, page: Page) -> None:
        """Read a page that will be asked for soon, by ``read_now``; blocking.

        Raises:
            StorageError: it cannot be read.
        """
        path = self._path(queue_id, page.serial)
        self._kept[page.serial, page.offset] = unpack(self._read(path, page.size, page.offset), page, path)

    def forget(self) -> None:
        """Replay is over: let go of the pages that were kept for it."""
        self._kept.clear()

    async def close(self) -> None:
        """Begin no more reads, and wait for those under way."""
        self._closed = True
        if self._reads:
            await asyncio.wait(self._reads)

    def _read(self, path: str, size: int, offset: int) -> bytes:
        try:
            fd = self._files.open(path)
        except FileNotFoundError:
            raise CorruptLogError(path, 0, "the file is missing") from None
        except OSError as error:
            raise StorageError(f"opening {path} failed: {error}") from error
        try:
            return self._files.read(fd, size, offset)
        except OSError as error:
            raise StorageError(f"reading {path} failed: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                self._files.close(fd)

    def _path(self, queue_id: int, serial: int) -> str:
        return os.path.join(self._directory, file_name(queue_id, serial))


def file_name(queue_id: int, serial: int) -> str:
    """The name of a file of a queue's messages."""
    return f"{queue_id}-{serial:012d}.pages"

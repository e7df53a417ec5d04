"""The newest records of a stream and what comes after them, without a consumer's name."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from streamkit.errors import NotFoundError
from streamkit.streams.look import Look, by_arrival, check_count
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import Record
from streamkit.streams.store import RecordBatch, StreamDescription

T = TypeVar("T")

_PAGE = 5000
# Any wait will do, because the append ends it; one shorter than an iterator's life keeps the iterator in use.
_WAIT_MS = 240_000


class Follow(AsyncIterator[Record[T]]):
    """The newest records of a stream, and then what comes, for as long as it is asked. See Stream.tail.

    One read waits for each shard, and the append ends it; nothing polls. It reads one page per shard ahead and no
    further. ``aclose()`` ends the reads, and so does dropping it.

    Cancellation: while waiting, nothing is lost; asking again goes on.
    """

    def __init__(self, look: Look[T], n: int) -> None:
        """See Stream.tail."""
        check_count(n)
        self._look = look
        self._n = n
        self._stream: StreamDescription | None = None
        self._ready: deque[Record[T]] = deque()
        self._errors: deque[Exception] = deque()
        # The shards that are read; a shard is known from when its turn came.
        self._readers: dict[str, ShardReader] = {}
        self._known: set[str] = set()
        self._some_ended = False
        # Shared with the finalizer, and so without a way back to this object.
        self._reads: dict[asyncio.Task[RecordBatch | Exception], str] = {}
        self._asking = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"Follow({self._look.stream!r}, {len(self._readers)} shards)"

    async def __anext__(self) -> Record[T]:
        while not self._ready:
            async with self._asking:
                if self._closed:
                    raise StopAsyncIteration
                if self._ready:
                    continue
                if self._errors:
                    raise self._errors.popleft()
                if self._stream is None:
                    await self.begin()
                elif self._some_ended:
                    self._adopt(await self._look.store.describe_stream(self._look.stream))
                elif not self._readers:
                    raise StopAsyncIteration
                else:
                    await self._more()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """End it: no read is left running when this returns, and nothing more comes."""
        self._closed = True
        self._ready.clear()
        for task in self._reads:
            task.cancel()
        if self._reads:
            # They end at once, so a cancellation that comes meanwhile finds them ended or about to be.
            await asyncio.wait(self._reads)

    async def begin(self) -> None:
        """Take its place now, and not with the first record: nothing that comes from here on is missed.

        To be called before anything else, once.

        Raises:
            NotFoundError: there is no such stream.
        """
        stream = await self._look.store.describe_stream(self._look.stream)
        newest = await self._look.newest(self._n, stream)
        # ATOMIC: to the end, so that the newest are handed out once
        self._stream = stream
        weakref.finalize(self, _cancel, asyncio.get_running_loop(), self._reads).atexit = False
        for shard in stream.shards:
            self._known.add(shard.shard_id)
            if shard.is_open or shard.latest_sequence_number != shard.ending_sequence_number:
                self._readers[shard.shard_id] = self._reader(shard.shard_id, shard.latest_sequence_number)
        self._ready.extend(newest)

    def _adopt(self, now: StreamDescription) -> None:
        """Read the shards whose turn has come: a parent is read to its end before its children."""
        assert self._stream is not None
        self._some_ended = False
        self._look.check_same(self._stream, now)
        unread = {shard.shard_id for shard in now.shards if shard.shard_id not in self._known} | set(self._readers)
        for shard in now.shards:
            if shard.shard_id in self._known or any(parent in unread for parent in shard.parent_shard_ids):
                continue
            for parent in shard.parent_shard_ids:
                if parent not in self._known:
                    self._known.add(parent)
                    self._look.tell_missed(parent, None)
            self._known.add(shard.shard_id)
            self._readers[shard.shard_id] = self._reader(shard.shard_id, shard.starting_sequence_number)

    async def _more(self) -> None:
        reading = set(self._reads.values())
        for shard_id, reader in self._readers.items():
            if shard_id not in reading:
                name = f"tail of {self._look.stream} {shard_id}"
                self._reads[asyncio.create_task(_read(reader), name=name)] = shard_id
        await asyncio.wait(self._reads, return_when=asyncio.FIRST_COMPLETED)
        # ATOMIC: to the end, so that what was read arrives
        found: list[list[Record[T]]] = []
        for task in [task for task in self._reads if task.done()]:
            shard_id = self._reads.pop(task)
            if task.cancelled():
                continue  # It was closed meanwhile.
            batch = task.result()
            if isinstance(batch, NotFoundError) and batch.kind == "shard":
                self._look.tell_missed(shard_id, None)
                self._ended(shard_id)
            elif isinstance(batch, Exception):
                self._errors.append(batch)
            else:
                if batch.trimmed:
                    self._look.tell_missed(shard_id, batch.trimmed)
                found.append(self._look.made(batch.records, shard_id))
                if batch.next_iterator is None:
                    self._ended(shard_id)
        self._ready.extend(by_arrival(*found))

    def _reader(self, shard_id: str, after: int) -> ShardReader:
        return self._look.reader(shard_id, after, stream=self._stream)

    def _ended(self, shard_id: str) -> None:
        del self._readers[shard_id]
        self._some_ended = True


async def _read(reader: ShardReader) -> RecordBatch | Exception:
    try:
        return await reader.read(_PAGE, _WAIT_MS)
    except Exception as error:
        return error  # Nobody may ever ask for it.


def _cancel(loop: asyncio.AbstractEventLoop, reads: Iterable[asyncio.Task[object]]) -> None:
    """The garbage collector may call this in any thread, and after the loop has ended."""
    if not loop.is_closed():
        for task in list(reads):
            loop.call_soon_threadsafe(task.cancel)

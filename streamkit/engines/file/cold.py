"""Records that left memory: per shard, files of blocks in order, so that reading one shard costs nothing for others.

HOT: `python -m benchmarks --only read`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from streamkit.engines.file import offload
from streamkit.engines.file.block import HEADER_SIZE, Block, Columns, block_at, blocks_of, pack, unpack
from streamkit.engines.file.files import Files
from streamkit.engines.file.manifest import ColdFile
from streamkit.errors import ClosedError, CorruptLogError, StorageError
from streamkit.limits import MIB
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import count_within

T = TypeVar("T")

FILE_BYTES = 64 * MIB
_BYTES_AT_ONCE = MIB
"""Written by one call of a thread: a commit that comes meanwhile waits for the disk no longer than that takes."""
_BYTES_AHEAD = MIB
"""Read by one call of a thread: what follows is most probably wanted next."""
_BYTES_KEPT = 64 * MIB
"""Of decoded blocks, as they are on disk: so much for 64 readers at different places."""
_NOTHING = memoryview(b"")
_MOST_AHEAD = 16
"""Runs that were read and nobody asked for yet; so many may read at the same time as well as one."""
_last_number = attrgetter("last_number")


class Move(msgspec.Struct):
    """Records of one shard on their way to its files."""

    stream_id: int
    shard: int
    records: Columns
    files: tuple[ColdFile, ...]
    """The shard's files; once they are written, with the one that grew or came."""
    serial: int
    """Of a new file, should there be one."""
    blocks: list[Block] = []


class _Piece(msgspec.Struct):
    """Bytes for one file."""

    path: str
    serial: int
    offset: int
    parts: list[bytes]
    is_new: bool = False


class _ShardIndex(msgspec.Struct):
    files: list[ColdFile]
    blocks: list[Block] | None = None
    """None until the shard is first read."""


class _Kept(msgspec.Struct):
    """A block that was read, and decoded once somebody wanted its records."""

    size: int
    data: memoryview
    records: list[StoredRecord] | None = None


class ColdStore:
    """Implements ``ColdRecords``. Files are written in the settling thread, and read in threads of their own."""

    def __init__(self, files: Files, directory: str, executor: ThreadPoolExecutor) -> None:
        self._files = files
        self._directory = directory
        self._executor = executor
        self._shards: dict[tuple[int, int], _ShardIndex] = {}
        self._kept: OrderedDict[tuple[int, int], _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._ahead: dict[tuple[int, int], offload.Work[bytes]] = {}
        """Runs that are read before anybody asks for them, by their first blocks."""
        self._closed = False
        self._reads: set[asyncio.Future[Any]] = set()

    def adopt(self, stream_id: int, shard: int, files: Sequence[ColdFile], added: Sequence[Block] = ()) -> None:
        """These are the shard's files now, with blocks added since the last call."""
        old = self._shards.get((stream_id, shard))
        # A reader may be in the middle of the old index, so that one is left as it is.
        if old is not None and old.files == list(files):
            return
        known = None
        if old is not None and old.blocks is not None:
            serials = {file.serial for file in files}
            known = [block for block in (*old.blocks, *added) if block.serial in serials]
        self._shards[stream_id, shard] = _ShardIndex(list(files), known)

    def files_of(self, stream_id: int, shard: int) -> tuple[ColdFile, ...]:
        """The shard's files, in order."""
        index = self._shards.get((stream_id, shard))
        return () if index is None else tuple(index.files)

    def keep(self, shards: Container[tuple[int, int]]) -> None:
        """All other shards (by stream and index) are gone."""
        for key in [key for key in self._shards if key not in shards]:
            del self._shards[key]

    async def close(self) -> None:
        """Begin no more reads, and wait for those under way."""
        self._closed = True
        if self._reads:
            await asyncio.wait(self._reads)

    # ---- writing (nothing is visible before ``adopt``)

    async def write(
        self,
        moves: Sequence[Move],
        *,
        extend: bool,
        run: Callable[[Callable[[], None]], Awaitable[None]],
        rest: Callable[[], Awaitable[None]],
    ) -> None:
        """Append each move's records to its shard's last file, or to a new one of its serial; synced when it returns.

        Blocks are packed here, one after another and between other work of the event loop; ``run`` gets the writing,
        a megabyte at a time. A thread that packed would hold up every commit for as long as it holds the GIL.
        ``rest`` is awaited after each block.
        """
        pieces: list[_Piece] = []
        size = 0
        for move in moves:
            piece = self._first_piece(move, extend=extend)
            pieces.append(piece)
            for block in blocks_of(move.records):
                data = pack(block, piece.serial)
                latest_ms = max(block.arrivals_ms)
                end = piece.offset + sum(map(len, piece.parts))
                move.blocks.append(
                    Block(piece.serial, end, len(data), block.first_number, block.last_number, latest_ms)
                )
                piece.parts.append(data)
                size += len(data)
                if size >= _BYTES_AT_ONCE:
                    await run(partial(self._write_pieces, pieces))
                    piece = _Piece(piece.path, piece.serial, end + len(data), [])
                    pieces, size = [piece], 0
                await rest()
            move.files = _grown(move, piece.serial)
        if pieces:
            await run(partial(self._write_pieces, pieces))

    def _first_piece(self, move: Move, *, extend: bool) -> _Piece:
        last = move.files[-1] if extend and move.files and move.files[-1].size < FILE_BYTES else None
        # Where retention took what came between, a new file begins: a file has no gap.
        if last is not None and last.last_number + 1 == move.records.first_number:
            return _Piece(self._path(move.stream_id, move.shard, last.serial), last.serial, last.size, [])
        path = self._path(move.stream_id, move.shard, move.serial)
        return _Piece(path, move.serial, 0, [], is_new=True)

    def _write_pieces(self, pieces: Sequence[_Piece]) -> None:
        new: set[str] = set()
        for piece in pieces:
            directory = os.path.dirname(piece.path)
            if piece.is_new and directory not in new:
                self._files.make_directory(directory)
                new.add(directory)
            fd = self._files.open(piece.path, create=True)
            try:
                # A settling that failed may have left more.
                self._files.truncate(fd, piece.offset)
                self._files.write(fd, b"".join(piece.parts), piece.offset)
                self._files.sync(fd)
            finally:
                self._files.close(fd)
        for directory in sorted(new):
            self._files.sync_directory(directory)

    def remove_strangers(self, known: dict[int, set[str]]) -> None:
        """Remove the files of streams that are gone, and those that a crash left unnamed."""
        for stream in self._files.names(self._directory):
            if not (stream.isascii() and stream.isdigit()):
                continue
            for name in self._files.names(os.path.join(self._directory, stream)):
                if name.endswith(".blk") and name not in known.get(int(stream), set()):
                    self._files.remove(os.path.join(self._directory, stream, name))

    # ---- reading

    async def read(
        self, stream_id: int, shard: int, after: int, up_to: int, limit: int, max_bytes: int
    ) -> list[StoredRecord]:
        """See ColdRecords."""
        index = self._shards.get((stream_id, shard))
        if index is None:
            return []
        blocks = index.blocks
        if blocks is None:
            blocks = await self._read(lambda: self._index(stream_id, shard, index))
        found: list[StoredRecord] = []
        size = 0
        place = bisect_right(blocks, after, key=_last_number)
        while (
            place < len(blocks) and blocks[place].first_number <= up_to and len(found) < limit and size < _BYTES_AHEAD
        ):
            block = blocks[place]
            path = self._path(stream_id, shard, block.serial)
            if _key(block) not in self._kept:
                await self._fetch(path, blocks, place)
            # Numbers have no gap in a block, so a number is a place.
            start = max(0, after + 1 - block.first_number)
            end = min(up_to + 1 - block.first_number, start + limit - len(found))
            found += self._records(path, block)[start:end]
            size += block.size
            place += 1
        return found[: count_within([record.data for record in found], max_bytes)] if found else found

    def oldest_ms(self, stream_id: int, shard: int) -> int | None:
        """See ColdRecords."""
        index = self._shards.get((stream_id, shard))
        return index.files[0].first_arrival_ms if index is not None and index.files else None

    async def first_at(self, stream_id: int, shard: int, instant_ms: int) -> tuple[int, int] | None:
        """See ColdRecords."""
        index = self._shards.get((stream_id, shard))
        if index is None or all(file.latest_arrival_ms < instant_ms for file in index.files):
            return None

        def find() -> tuple[int, int] | None:
            for block in self._index(stream_id, shard, index):
                if block.latest_arrival_ms >= instant_ms:
                    path = self._path(stream_id, shard, block.serial)
                    with self._opened(path) as fd:
                        records = unpack(self._files.read(fd, block.size, block.offset), path, block.offset)
                    return next((r.sequence_number, r.arrival_ms) for r in records if r.arrival_ms >= instant_ms)
            return None

        return await self._read(find)

    async def _read(self, work: Callable[[], T]) -> T:
        # Whoever is cancelled does not wait, but the close waits for the thread.
        return await asyncio.shield(self._begin(work).future)

    def _begin(self, work: Callable[[], T], *, background: bool = False) -> offload.Work[T]:
        if self._closed:
            raise ClosedError("the engine")
        begun = offload.Work(self._executor, work, background=background)
        self._reads.add(begun.future)
        begun.future.add_done_callback(self._reads.discard)
        return begun

    async def _fetch(self, path: str, blocks: Sequence[Block], place: int) -> None:
        """Have the block at ``place`` at hand, and some that follow; whoever reads on finds the next ones on their way.

        A thread only reads. It would fight for the GIL if it decoded, which on the loop is done in a third of the time.
        """
        run = _run(blocks, place)
        ahead = self._ahead.pop(_key(run[0]), None)
        if ahead is None:
            data = memoryview(await self._read(partial(self._read_run, path, run)))
        else:
            ahead.wanted()
            data = memoryview(await asyncio.shield(ahead.future))
        for block in run:
            if _key(block) not in self._kept:
                self._kept_bytes += block.size
            start = block.offset - run[0].offset
            self._kept[_key(block)] = _Kept(block.size, data[start : start + block.size])
        while self._kept_bytes > _BYTES_KEPT and len(self._kept) > len(run):
            self._kept_bytes -= self._kept.popitem(last=False)[1].size
        if place > 0 and _key(blocks[place - 1]) in self._kept:
            self._read_ahead(path, blocks, place + len(run))

    def _read_ahead(self, path: str, blocks: Sequence[Block], place: int) -> None:
        """Begin to read the run that follows, if it is in the same file: it is read while the one before is decoded."""
        if place == len(blocks) or blocks[place].serial != blocks[place - 1].serial:
            return
        run = _run(blocks, place)
        if self._closed or _key(run[0]) in self._kept or _key(run[0]) in self._ahead:
            return
        work = self._begin(partial(self._read_run, path, run), background=True)
        # Maybe nobody ever asks for it, and nobody then misses what it failed with.
        work.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._ahead[_key(run[0])] = work
        if len(self._ahead) > _MOST_AHEAD:
            del self._ahead[next(iter(self._ahead))]

    def _read_run(self, path: str, run: Sequence[Block]) -> bytes:
        first, last = run[0], run[-1]
        with self._opened(path) as fd:
            return self._files.read(fd, last.offset + last.size - first.offset, first.offset)

    def _records(self, path: str, block: Block) -> list[StoredRecord]:
        """The records of a block that is at hand."""
        kept = self._kept[_key(block)]
        if kept.records is None:
            kept.records = unpack(kept.data, path, block.offset)
            kept.data = _NOTHING
        return kept.records

    def _index(self, stream_id: int, shard: int, index: _ShardIndex) -> list[Block]:
        if index.blocks is None:
            index.blocks = [
                block for file in index.files for block in self._scan(self._path(stream_id, shard, file.serial), file)
            ]
        return index.blocks

    def _scan(self, path: str, file: ColdFile) -> Iterator[Block]:
        offset, number = 0, file.first_number
        with self._opened(path) as fd:
            while offset < file.size:
                block = block_at(self._files.read(fd, HEADER_SIZE, offset), path, offset, file.serial, number)
                yield block
                offset, number = offset + block.size, block.last_number + 1
        if (offset, number) != (file.size, file.last_number + 1):
            raise CorruptLogError(path, file.size, "the file does not hold what the manifest says")

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        try:
            fd = self._files.open(path)
        except FileNotFoundError:
            raise CorruptLogError(path, 0, "the file is missing") from None
        except OSError as error:
            raise StorageError(f"opening {path} failed: {error}") from error
        try:
            yield fd
        except OSError as error:
            raise StorageError(f"reading {path} failed: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                self._files.close(fd)

    def _stream_directory(self, stream_id: int) -> str:
        return os.path.join(self._directory, str(stream_id))

    def _path(self, stream_id: int, shard: int, serial: int) -> str:
        return os.path.join(self._stream_directory(stream_id), file_name(shard, serial))


def _key(block: Block) -> tuple[int, int]:
    return block.serial, block.offset


def file_name(shard: int, serial: int) -> str:
    """The name of a shard's file."""
    return f"{shard:06d}-{serial:012d}.blk"


def _grown(move: Move, serial: int) -> tuple[ColdFile, ...]:
    """The shard's files once the move's blocks are in the one of this serial."""
    records, last_block = move.records, move.blocks[-1]
    size, latest_ms = last_block.offset + last_block.size, max(records.arrivals_ms)
    if move.files and move.files[-1].serial == serial:
        old = move.files[-1]
        latest_ms = max(latest_ms, old.latest_arrival_ms)
        grown = msgspec.structs.replace(old, size=size, last_number=records.last_number, latest_arrival_ms=latest_ms)
        return (*move.files[:-1], grown)
    new = ColdFile(serial, size, records.first_number, records.last_number, records.arrivals_ms[0], latest_ms)
    return (*move.files, new)


def _run(blocks: Sequence[Block], place: int) -> Sequence[Block]:
    """The block at ``place`` and those after it in the same file that are worth reading with it."""
    first = blocks[place]
    end = place + 1
    while (
        end < len(blocks)
        and blocks[end].serial == first.serial
        and blocks[end].offset + blocks[end].size - first.offset <= _BYTES_AHEAD
    ):
        end += 1
    return blocks[place:end]

"""Records that left memory: per shard, files of blocks in order, so that reading one shard costs nothing for others.

::

    block    magic "SKBK" · count · payload length · file serial · first number · last number · latest arrival
             header checksum · payload checksum · payload: first number, arrivals, keys, data as columns (msgpack)

A serial is of one file of the store alone, so a file in the place of another is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, count
from struct import Struct
from typing import Any, TypeVar

import msgspec

from streamkit.engines.embedded.changes import plain
from streamkit.engines.file import offload
from streamkit.engines.file.files import Files
from streamkit.engines.file.frame import checksum
from streamkit.engines.file.manifest import ColdFile
from streamkit.errors import ClosedError, CorruptLogError, StorageError
from streamkit.limits import KIB, MIB
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import count_within

T = TypeVar("T")

BLOCK_BYTES = 256 * KIB
FILE_BYTES = 64 * MIB
_BYTES_KEPT = 64 * BLOCK_BYTES
_BYTES_AT_ONCE = 16 * BLOCK_BYTES
_header = Struct("<4sIIQQQQII")
_MAGIC = b"SKBK"
_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode


class Columns(msgspec.Struct, array_like=True, gc=False):
    """Records of one shard, whose numbers have no gap."""

    first_number: int
    arrivals_ms: list[int]
    keys: list[str]
    data: list[bytes]

    @property
    def last_number(self) -> int:
        """Of the last record."""
        return self.first_number + len(self.data) - 1

    def part(self, start: int, end: int) -> Columns:
        """Some of them, by place."""
        return Columns(
            self.first_number + start, self.arrivals_ms[start:end], self.keys[start:end], self.data[start:end]
        )


_decode = msgspec.msgpack.Decoder(Columns).decode


class Block(msgspec.Struct, frozen=True, gc=False):
    """Where a block is, and what it holds."""

    serial: int
    offset: int
    size: int
    first_number: int
    last_number: int
    latest_arrival_ms: int


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


class ColdStore:
    """Implements ``ColdRecords``. Files are written in the settling thread, and read in threads of their own."""

    def __init__(self, files: Files, directory: str, executor: ThreadPoolExecutor) -> None:
        self._files = files
        self._directory = directory
        self._executor = executor
        self._shards: dict[tuple[int, int], _ShardIndex] = {}
        self._decoded: OrderedDict[tuple[int, int], tuple[list[StoredRecord], int]] = OrderedDict()
        self._decoded_bytes = 0
        self._decoded_lock = threading.Lock()
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
        self, moves: Sequence[Move], *, extend: bool, run: Callable[[Callable[[], None]], Awaitable[None]]
    ) -> None:
        """Append each move's records to its shard's last file, or to a new one of its serial; synced when it returns.

        Blocks are packed here, one after another and between other work of the event loop; ``run`` gets the writing,
        some megabytes at a time. A thread that packed would hold up every commit for as long as it holds the GIL.
        """
        pieces: list[_Piece] = []
        size = 0
        for move in moves:
            piece = self._first_piece(move, extend=extend)
            pieces.append(piece)
            for block in _blocks(move.records):
                data = _pack(block, piece.serial)
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
                else:
                    await asyncio.sleep(0)
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
        found = await self._read(lambda: self._find(stream_id, shard, index, after, up_to, limit))
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
                    records = self._records(self._path(stream_id, shard, block.serial), block)
                    return next((r.sequence_number, r.arrival_ms) for r in records if r.arrival_ms >= instant_ms)
            return None

        return await self._read(find)

    async def _read(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise ClosedError("the engine")
        read = offload.start(self._executor, work)
        self._reads.add(read)
        read.add_done_callback(self._reads.discard)
        # Whoever is cancelled does not wait, but the close waits for the thread.
        return await asyncio.shield(read)

    def _find(
        self, stream_id: int, shard: int, index: _ShardIndex, after: int, up_to: int, limit: int
    ) -> list[StoredRecord]:
        found: list[StoredRecord] = []
        size = 0
        for block in self._index(stream_id, shard, index):
            if block.last_number <= after:
                continue
            if block.first_number > up_to or len(found) >= limit:
                break
            records = self._records(self._path(stream_id, shard, block.serial), block)
            # Numbers have no gap in a block, so a number is a place.
            start = max(0, after + 1 - block.first_number)
            found += records[start : min(up_to + 1 - block.first_number, start + limit - len(found))]
            size += block.size
            if size > _BYTES_AT_ONCE:
                break
        return found

    def _index(self, stream_id: int, shard: int, index: _ShardIndex) -> list[Block]:
        if index.blocks is None:
            index.blocks = [
                block for file in index.files for block in self._scan(self._path(stream_id, shard, file.serial), file)
            ]
        return index.blocks

    def _scan(self, path: str, file: ColdFile) -> Iterator[Block]:
        offset = 0
        number = file.first_number
        with self._opened(path) as fd:
            while offset < file.size:
                header = self._files.read(fd, _header.size, offset)
                if len(header) < _header.size:
                    raise CorruptLogError(path, offset, "the file is shorter than the manifest says")
                magic, records, length, serial, first, last, arrival, header_sum, _ = _header.unpack(header)
                if magic != _MAGIC or checksum(header[:-8]) != header_sum:
                    raise CorruptLogError(path, offset, "a block header does not match its checksum")
                if serial != file.serial:
                    raise CorruptLogError(path, offset, f"this is file {serial} of this store: it was misplaced")
                if (first, last) != (number, number + records - 1):
                    raise CorruptLogError(path, offset, f"the block begins with record {first} and not with {number}")
                yield Block(serial, offset, _header.size + length, first, last, arrival)
                number = last + 1
                offset += _header.size + length
        if (offset, number) != (file.size, file.last_number + 1):
            raise CorruptLogError(path, file.size, "the file does not hold what the manifest says")

    def _records(self, path: str, block: Block) -> list[StoredRecord]:
        key = (block.serial, block.offset)
        kept = self._decoded.get(key)
        if kept is not None:
            return kept[0]
        with self._opened(path) as fd:
            data = self._files.read(fd, block.size, block.offset)
        records = _unpack(data, path, block.offset)
        with self._decoded_lock:
            if key not in self._decoded:
                self._decoded[key] = records, block.size
                self._decoded_bytes += block.size
            while self._decoded_bytes > _BYTES_KEPT:
                self._decoded_bytes -= self._decoded.popitem(last=False)[1][1]
        return records

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


def _blocks(records: Columns) -> Iterator[Columns]:
    """The records in parts of at least ``BLOCK_BYTES``, but for the last."""
    ends = list(accumulate(map(len, records.data)))
    start = 0
    while start < len(ends):
        # 64 bytes for what each has beside its data.
        wanted = (ends[start - 1] if start else 0) + BLOCK_BYTES
        end = bisect_left(range(start, len(ends)), wanted, key=lambda place: ends[place] + 64 * (place + 1 - start))
        yield records.part(start, min(len(ends), start + end + 1))
        start = min(len(ends), start + end + 1)


def _pack(records: Columns, serial: int) -> bytes:
    payload = _encode(records)
    latest = max(records.arrivals_ms)
    first, last = records.first_number, records.last_number
    checked = _header.pack(_MAGIC, len(records.data), len(payload), serial, first, last, latest, 0, 0)[:-8]
    return b"".join(
        (checked, checksum(checked).to_bytes(4, "little"), checksum(payload).to_bytes(4, "little"), payload)
    )


def _unpack(data: bytes, path: str, offset: int) -> list[StoredRecord]:
    payload = data[_header.size :]
    if len(data) < _header.size or checksum(payload) != _header.unpack_from(data)[-1]:
        raise CorruptLogError(path, offset, "a block does not match its checksum")
    try:
        columns = _decode(payload)
    except msgspec.DecodeError as error:
        raise CorruptLogError(path, offset, f"a block does not decode: {error}") from None
    return list(map(StoredRecord, count(columns.first_number), columns.arrivals_ms, columns.keys, columns.data))

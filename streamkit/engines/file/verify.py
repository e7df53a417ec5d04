"""Is a directory sound? Every checksum, every continuity, every reference; nothing is changed, and all faults are told.

It goes on after the first fault. What a crash leaves behind (a torn tail, files that nobody names) is told as well, and
is no damage: the next opening deals with it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

import msgspec

from streamkit.engines.embedded.changes import Change
from streamkit.engines.file import block, cold, id_files, manifest, queue_files, snapshot
from streamkit.engines.file import frame as framing
from streamkit.engines.file.files import Files, read_file
from streamkit.engines.file.lock import nobody_owns
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.recovery import table_path, table_paths
from streamkit.engines.file.segment import Position, segment_numbers, segment_path
from streamkit.errors import CorruptLogError, StorageError
from streamkit.queues.backlog import PageState
from streamkit.streams.keyspace import KEY_SPACE, SHARD_NUMBERS, shard_id_of
from streamkit.tables.item import Item, decode_item

Severity = Literal["damage", "note"]

LEASES = "streamkit-leases"
_decode = msgspec.msgpack.Decoder(list[Change]).decode


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be, or worth knowing."""

    severity: Severity
    path: str
    """Within the directory."""
    offset: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.offset}: {self.severity}: {self.sentence}"


class Report(msgspec.Struct):
    """What was found, and how much was looked at."""

    directory: str
    findings: list[Finding] = []
    frames: int = 0
    records: int = 0
    messages: int = 0
    items: int = 0
    bytes: int = 0

    @property
    def sound(self) -> bool:
        """There is no damage."""
        return all(finding.severity != "damage" for finding in self.findings)


def verify(directory: str, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Check a directory that nobody has open. ``progress`` is called with each file that is looked at next.

    Raises:
        DirectoryInUseError: somebody has it open; back it up, and verify the copy.
        StorageError: it is no directory of streamkit, or cannot be read.
    """
    directory = os.path.abspath(directory)
    if not os.path.isdir(directory):
        raise StorageError(f"{directory} is no directory: pass one that streamkit.open was given")
    with nobody_owns(directory):
        return _Verifier(directory, progress).run()


class _Verifier:
    def __init__(self, directory: str, progress: Callable[[str], None]) -> None:
        self.directory = directory
        self.files: Files = ReadOnlyFiles()
        self.progress = progress
        self.report = Report(directory)
        self.named: set[str] = set()
        """Files that the manifest names."""
        self.last: dict[tuple[int, int], int] = {}
        """The newest record of each shard, by stream and index."""
        self.checkpoints: list[tuple[int, int, int, str]] = []
        """Stream, shard, number and path of what consumers say they have done."""

    def run(self) -> Report:
        try:
            known = manifest.load(self.files, self.directory)
        except CorruptLogError as error:
            self._damaged(error)
            return self.report
        except OSError as error:
            raise StorageError(f"{self.directory} cannot be read: {error}") from error
        if known is None:
            if any(
                self.files.names(os.path.join(self.directory, folder)) for folder in ("streams", "queues", "tables")
            ):
                self._found("damage", manifest.NAME, 0, "the manifest is missing, but there is data")
                return self.report
            raise StorageError(
                f"{self.directory} holds no streamkit data: pass a directory that streamkit.open was given"
            )
        for stream in known.streams:
            self._stream(stream)
        for queue in known.queues:
            self._queue(queue)
        for table in known.tables:
            self._table(table)
        self._journal(known)
        self._references(known)
        self._leftovers(known)
        return self.report

    # ---- findings

    def _found(self, severity: Severity, path: str, offset: int, sentence: str) -> None:
        self.report.findings.append(Finding(severity, os.path.relpath(path, self.directory), offset, sentence))

    def _damaged(self, error: CorruptLogError) -> None:
        self._found("damage", error.path, error.offset, error.reason)

    @contextmanager
    def _looking(self, path: str) -> Iterator[None]:
        """At a file; what is wrong with it is noted, and the work goes on."""
        self.progress(os.path.relpath(path, self.directory))
        self.named.add(path)
        try:
            yield
        except CorruptLogError as error:
            self._damaged(error)
        except FileNotFoundError:
            self._found("damage", path, 0, "the file is missing")
        except (StorageError, OSError, sqlite3.Error) as error:
            self._found("damage", path, 0, f"it cannot be read: {error}")

    # ---- streams

    def _stream(self, stream: manifest.StreamEntry) -> None:
        what = f"stream {stream.name!r}"
        at = os.path.join(self.directory, manifest.NAME)
        is_open = sorted((int(shard.start), int(shard.end)) for shard in stream.shards if shard.closed_ms is None)
        edges = [start for start, _ in is_open] + [KEY_SPACE]
        if edges[0] != 0 or [end + 1 for _, end in is_open] != edges[1:]:
            self._found("damage", at, 0, f"the open shards of {what} do not cover the hash keys once each")
        indexes = {shard.index for shard in stream.shards}
        for shard in stream.shards:
            name = f"{shard_id_of(shard.index)} of {what}"
            base = shard.index * SHARD_NUMBERS
            self.last[stream.stream_id, shard.index] = shard.moved_to
            in_range = base <= shard.trimmed_to <= shard.moved_to < base + SHARD_NUMBERS
            if not in_range or shard.index >= stream.next_index:
                self._found("damage", at, 0, f"{name} has numbers that it cannot have")
            if any(parent >= shard.index for parent in shard.parents):
                self._found("damage", at, 0, f"{name} is older than a parent of it")
            if any(parent in indexes and self._is_open(stream, parent) for parent in shard.parents):
                self._found("damage", at, 0, f"{name} has a parent that is still open")
            self._shard(stream.stream_id, shard, name)

    @staticmethod
    def _is_open(stream: manifest.StreamEntry, index: int) -> bool:
        return any(shard.index == index and shard.closed_ms is None for shard in stream.shards)

    def _shard(self, stream_id: int, shard: manifest.ShardEntry, name: str) -> None:
        number = shard.trimmed_to
        for file in shard.files:
            path = os.path.join(self.directory, "streams", str(stream_id), cold.file_name(shard.index, file.serial))
            with self._looking(path):
                if file.first_number > number + 1:
                    missing = file.first_number - number - 1
                    self._found(
                        "damage", path, 0, f"{missing} records of {name} before {file.first_number} are missing"
                    )
                number = file.last_number
                self._file(path, file)
        if number < shard.moved_to:
            path = os.path.join(self.directory, manifest.NAME)
            self._found("damage", path, 0, f"{shard.moved_to - number} records of {name} after {number} are in no file")

    def _file(self, path: str, file: manifest.ColdFile) -> None:
        fd = self.files.open(path)
        try:
            offset, number = 0, file.first_number
            while offset < file.size:
                header = self.files.read(fd, block.HEADER_SIZE, offset)
                found = block.block_at(header, path, offset, file.serial, number)
                records = block.unpack(self.files.read(fd, found.size, offset), path, offset)
                if (records[0].sequence_number, records[-1].sequence_number) != (found.first_number, found.last_number):
                    raise CorruptLogError(path, offset, "a block does not hold the records that its header says")
                self.report.records += len(records)
                offset, number = offset + found.size, found.last_number + 1
            if (offset, number) != (file.size, file.last_number + 1):
                raise CorruptLogError(path, offset, "the file does not hold what the manifest says")
            self.report.bytes += offset
            if self.files.size(fd) > file.size:
                more = self.files.size(fd) - file.size
                self._found(
                    "note", path, file.size, f"{more} bytes of a settling that a crash interrupted; they go with it"
                )
        finally:
            self.files.close(fd)

    # ---- queues and tables

    def _queue(self, queue: manifest.QueueEntry) -> None:
        folder = os.path.join(self.directory, "queues")
        settled = snapshot.Snapshot([])
        if queue.snapshot:
            path = os.path.join(folder, snapshot.file_name(queue.queue_id, queue.snapshot))
            with self._looking(path):
                settled = snapshot.load(self.files, folder, queue.queue_id, queue.snapshot)
                self.report.messages += len(settled.messages)
                self.report.bytes += os.path.getsize(path)
        present = {message.number for message in settled.messages}
        number = 0
        for file in queue.files:
            path = os.path.join(folder, queue_files.file_name(queue.queue_id, file.serial))
            with self._looking(path):
                number = self._pages(queue, file, settled.pages.get(file.serial), present, path, number)
        for serial in queue.ids:
            path = os.path.join(folder, id_files.file_name(queue.queue_id, serial))
            with self._looking(path):
                id_files.load(self.files, folder, queue.queue_id, serial)
                self.report.bytes += os.path.getsize(path)
        if max(number, max(present, default=0)) > queue.last_number:
            at = os.path.join(self.directory, manifest.NAME)
            self._found("damage", at, 0, f"queue {queue.name!r} has a message with a number that was never given")

    def _pages(
        self,
        queue: manifest.QueueEntry,
        file: manifest.QueueFile,
        states: Sequence[PageState] | None,
        present: set[int],
        path: str,
        number: int,
    ) -> int:
        """Check a file of messages that come after ``number``; the number of its last one."""
        reading = queue_files.QueueFiles(self.files, os.path.dirname(path))
        offset = 0
        for page in reading.index(queue.queue_id, file, states):
            if page.offset != offset:
                raise CorruptLogError(path, offset, "the index says that nothing begins here")
            messages = reading.read_now(queue.queue_id, page)
            offset += page.size
            live = [message.number for message in messages if page.live and message.number not in page.left]
            if len(live) != page.live:
                raise CorruptLogError(path, page.offset, "messages have left a page that they were not in")
            for message in messages:
                if message.number <= number:
                    raise CorruptLogError(path, page.offset, f"message {message.number} comes after {number}")
                number = message.number
            if not present.isdisjoint(live):
                self._found("damage", path, page.offset, f"a message of queue {queue.name!r} is in two files")
            self.report.messages += len(live)
        if offset != file.index_offset:
            raise CorruptLogError(path, offset, "the index does not begin where the last page ends")
        self.report.bytes += file.size
        return number

    def _table(self, table: manifest.TableEntry) -> None:
        for path in table_paths(self.directory, table):
            with self._looking(path), tempfile.TemporaryDirectory(prefix="streamkit-verify-") as copies:
                # SQLite would write beside a file that was not closed well. A copy may be written to.
                copy = shutil.copy(path, copies)
                if os.path.exists(path + "-wal"):
                    shutil.copy(path + "-wal", copies)
                self.report.bytes += os.path.getsize(path)
                with closing(sqlite3.connect(copy)) as database:
                    for (sentence,) in database.execute("PRAGMA integrity_check"):
                        if sentence != "ok":
                            self._found("damage", path, 0, f"SQLite says: {sentence}")
                    for (data,) in database.execute("SELECT item FROM items"):
                        self._item(table, path, decode_item(data))
            self.named |= {path + "-wal", path + "-shm"}

    def _item(self, table: manifest.TableEntry, path: str, item: Item) -> None:
        self.report.items += path == table_path(self.directory, table.table_id)
        if table.schema.name == LEASES and isinstance(item.get("checkpoint"), int):
            self._checkpoint(item, path)
        if any(name not in item for name in table.schema.key_names):
            self._found("damage", path, 0, f"an item of table {table.schema.name!r} has not its key")

    def _checkpoint(self, item: Item, path: str) -> None:
        # The key is the stream's name, its id and the consumer's name (streams/lease.py).
        parts = str(item["consumer"]).split("#")
        if len(parts) >= 3 and parts[1].isdigit() and str(item["shard"])[8:].isdigit():
            self.checkpoints.append((int(parts[1]), int(str(item["shard"])[8:]), item["checkpoint"], path))

    # ---- the journal

    def _journal(self, known: manifest.Manifest) -> None:
        folder = os.path.join(self.directory, "journal")
        position: Position | None = known.position
        number, last = known.position.number, known.position.segment
        while position is not None:
            number, last = position.number, position.segment
            position = self._segment(known, position)
        # What comes after damage cannot be told from what is left over.
        for spare in segment_numbers(self.files, folder):
            path = segment_path(folder, spare)
            if spare > last and self.report.sound:
                with self._looking(path):
                    data = read_file(self.files, path)
                    start = framing.SEGMENT_HEADER_SIZE
                    framing.refuse_damage(data, path, spare, start, number - 1, known.store_id)

    def _segment(self, known: manifest.Manifest, position: Position) -> Position | None:
        """Where the next segment goes on; None: this is the last one, or it is damaged."""
        path = segment_path(os.path.join(self.directory, "journal"), position.segment)
        following: Position | None = None
        with self._looking(path):
            data = read_file(self.files, path)
            framing.check_segment_header(data, path, position.segment, known.store_id)
            frames = framing.frames(data, path, position.segment, position.number, position.offset, known.store_id)
            tail: framing.Tail | None = None
            while tail is None:
                try:
                    self._frame(next(frames), path)
                except StopIteration as stopped:
                    tail = stopped.value
            assert tail is not None
            self.report.bytes += tail.offset - position.offset
            if tail.torn:
                cut = tail.torn_end - tail.offset
                sentence = f"{cut} bytes of a commit that was never acknowledged; the next opening cuts them"
                self._found("note", path, tail.offset, sentence)
            if tail.sealed:
                following = Position(position.segment + 1, framing.SEGMENT_HEADER_SIZE, tail.number)
        return following

    def _frame(self, found: framing.Frame, path: str) -> None:
        try:
            changes = _decode(found.payload)
        except msgspec.DecodeError as error:
            raise CorruptLogError(path, found.offset, f"frame {found.number} does not decode: {error}") from None
        self.report.frames += 1
        for change in changes:
            for put in getattr(change, "shards", ()):
                key = (change.stream_id, put.index)  # type: ignore[union-attr]
                base = self.last.get(key, put.index * SHARD_NUMBERS)
                if put.first_number != base + 1:
                    sentence = f"record {put.first_number} of {shard_id_of(put.index)} follows record {base}"
                    self._found("damage", path, found.offset, sentence)
                self.last[key] = put.first_number + len(put.data) - 1
                self.report.records += len(put.data)

    # ---- what refers to what

    def _references(self, known: manifest.Manifest) -> None:
        for stream_id, index, number, path in self.checkpoints:
            newest = self.last.get((stream_id, index))
            if newest is not None and number > newest:
                sentence = f"a consumer has done record {number} of {shard_id_of(index)}, whose newest is {newest}"
                self._found("damage", path, 0, sentence)
        at = os.path.join(self.directory, manifest.NAME)
        queues = {queue.name for queue in known.queues}
        for queue in known.queues:
            policy = queue.attributes.redrive_policy
            if policy is not None and policy.dead_letter_queue not in queues:
                sentence = f"the dead-letter queue {policy.dead_letter_queue!r} of queue {queue.name!r} does not exist"
                self._found("note", at, 0, sentence)
        ids = [each.stream_id for each in known.streams]
        ids += [each.queue_id for each in known.queues]
        ids += [each.table_id for each in known.tables]
        ids += [index.index_id for each in known.tables for index in each.indexes]
        if len(ids) != len(set(ids)) or any(each > known.last_id for each in ids):
            self._found("damage", at, 0, "two things have one id, or an id that was never given")

    def _leftovers(self, known: manifest.Manifest) -> None:
        for folder in ("streams", "queues", "tables"):
            for parent, _, names in os.walk(os.path.join(self.directory, folder)):
                for name in names:
                    path = os.path.join(parent, name)
                    if path not in self.named:
                        self._found(
                            "note", path, 0, "nobody names this file: a crash left it, and the next settling removes it"
                        )

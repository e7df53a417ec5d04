"""A copy of a directory, also of one that its owner writes meanwhile: everything that was acknowledged before it began.

A copy is a directory like any other: open it, verify it, copy it back. It is taken without the owner's lock. Files of
records only grow and are never changed; what is copied counts if the manifest is the same afterwards as it was before,
else the owner settled meanwhile, and what has changed is copied again. Tables may be newer than the manifest, which
replaying the journal puts right; so they are copied before the journal is. Nothing is synced before it counts, so that
the owner has little time to settle once more. The manifest is written last: a copy that was interrupted has none, and
nobody takes it for a store.

Limit: tables whose copying takes longer than their owner takes to settle, while they are written, are not copied.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from streamkit.engines.file import cold, id_files, manifest, queue_files, snapshot
from streamkit.engines.file import frame as framing
from streamkit.engines.file.files import DiskFiles, read_file
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.recovery import table_paths
from streamkit.engines.file.segment import segment_path
from streamkit.errors import CorruptLogError, StorageError
from streamkit.limits import MIB

_FOLDERS = ("journal", "streams", "queues", "tables")
_ATTEMPTS = 50
_READS = 100
_CHUNK = 4 * MIB


class _ChangedError(Exception):
    """The owner settled while the copy was made."""


def backup(source: str, destination: str, progress: Callable[[str], None] = lambda _: None) -> int:
    """Copy a store, live or not, to a directory that does not exist or is empty. Returns how many bytes it has.

    ``progress`` is called with each file that is copied next.

    Raises:
        StorageError: the source is no store or damaged, the destination is not empty, or a file cannot be copied.
    """
    source, destination = os.path.abspath(source), os.path.abspath(destination)
    if os.path.isdir(destination) and os.listdir(destination):
        raise StorageError(f"{destination} is not empty: choose a directory that does not exist yet")
    if os.path.commonpath([source, destination]) == source:
        raise StorageError(f"{destination} is within {source}: choose a directory elsewhere")
    copy = _Copy(source, destination, progress)
    try:
        for _ in range(_ATTEMPTS):
            with suppress(_ChangedError):
                return copy.run()
    except OSError as error:
        _empty(destination)
        raise StorageError(f"{source} could not be copied to {destination}: {error}") from error
    except StorageError:
        _empty(destination)
        raise
    _empty(destination)
    raise StorageError(f"{source} changed faster than it could be copied: try again when less is written to it")


class _Copy:
    def __init__(self, source: str, destination: str, progress: Callable[[str], None]) -> None:
        self.source = source
        self.destination = destination
        self.progress = progress
        self.reading = ReadOnlyFiles()
        self.writing = DiskFiles()
        self.files: dict[str, int] = {}
        """What was copied of files that only grow, or are written once, by name; of every attempt."""

    def run(self) -> int:
        """One attempt; returns how many bytes it has.

        Raises:
            _ChangedError: the owner settled meanwhile; what is copied is of use to the next attempt.
        """
        known = manifest.load(self.reading, self.source)
        if known is None:
            raise StorageError(f"{self.source} holds no streamkit data: pass a directory that streamkit.open was given")
        os.makedirs(self.destination, mode=0o700, exist_ok=True)
        for folder in ("tables", "journal"):
            _remove_tree(os.path.join(self.destination, folder))
        folders = [os.path.join("streams", str(stream.stream_id)) for stream in known.streams]
        for folder in (*_FOLDERS, *folders):
            self.writing.make_directory(os.path.join(self.destination, folder))
        try:
            files = dict(_files(known))
            for name, size in files.items():
                self._file(name, size)
            for table in known.tables:
                for name in table_paths("", table):
                    self._table(name)
            self._journal(known)
        except FileNotFoundError:
            if self._is_as_it_was(known):
                raise
            raise _ChangedError from None
        except CorruptLogError:
            if self._is_as_it_was(known):
                raise
            raise _ChangedError from None
        if not self._is_as_it_was(known):
            raise _ChangedError
        for name in self.files.keys() - files.keys():
            os.remove(os.path.join(self.destination, name))  # Of a manifest that is not any more.
        copied = self._sync()
        manifest.save(self.writing, self.destination, known)
        self.writing.sync_directory(os.path.dirname(self.destination))
        return copied

    def _sync(self) -> int:
        copied = 0
        for folder, _, names in os.walk(self.destination):
            for name in names:
                fd = self.writing.open(os.path.join(folder, name))
                try:
                    self.writing.sync(fd)
                    copied += self.writing.size(fd)
                finally:
                    self.writing.close(fd)
            self.writing.sync_directory(folder)
        return copied

    def _is_as_it_was(self, known: manifest.Manifest) -> bool:
        return manifest.load(self.reading, self.source) == known

    def _file(self, name: str, size: int | None) -> None:
        """Copy what is missing of a file; without a size, of one that is written once."""
        held = self.files.get(name, 0)
        if held and size in (None, held):
            return
        self.progress(name)
        reading = self.reading.open(os.path.join(self.source, name))
        try:
            writing = self.writing.open(os.path.join(self.destination, name), create=True)
            try:
                end = self.reading.size(reading) if size is None else size
                for offset in range(held, end, _CHUNK):
                    data = self.reading.read(reading, min(_CHUNK, end - offset), offset)
                    self.writing.write(writing, data, offset)
                self.files[name] = end
            finally:
                self.writing.close(writing)
        finally:
            self.reading.close(reading)

    def _table(self, name: str) -> None:
        path, copy = os.path.join(self.source, name), os.path.join(self.destination, name)
        self.progress(name)
        if not os.path.exists(path):
            raise FileNotFoundError(path)
        try:
            with (
                closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as table,
                closing(sqlite3.connect(copy)) as written,
            ):
                written.execute("PRAGMA synchronous = OFF")  # It is synced with all the others.
                table.backup(written)
        except sqlite3.Error as error:
            raise StorageError(f"the table {path} could not be copied: {error}") from error
        os.chmod(copy, 0o600)

    def _journal(self, known: manifest.Manifest) -> None:
        number, offset, segment = known.position.number, known.position.offset, known.position.segment
        while True:
            path = segment_path(os.path.join(self.source, "journal"), segment)
            self.progress(os.path.relpath(path, self.source))
            data, tail = self._segment(path, segment, number, offset, known.store_id)
            copy = segment_path(os.path.join(self.destination, "journal"), segment)
            fd = self.writing.open(copy, create=True)
            try:
                # What follows the last whole frame was not acknowledged; the file has the size that its header says.
                self.writing.write(fd, data[: tail.offset], 0)
                self.writing.truncate(fd, len(data))
            finally:
                self.writing.close(fd)
            if not tail.sealed:
                return
            number, offset, segment = tail.number, framing.SEGMENT_HEADER_SIZE, segment + 1

    def _segment(self, path: str, segment: int, number: int, offset: int, store_id: int) -> tuple[bytes, framing.Tail]:
        """A segment as of one moment. While it is read its owner may write two frames, of which the later is seen."""
        for attempt in range(_READS):
            data = read_file(self.reading, path)
            framing.check_segment_header(data, path, segment, store_id)
            frames = framing.frames(data, path, segment, number, offset, store_id)
            try:
                while True:
                    next(frames)
            except StopIteration as stopped:
                tail: framing.Tail = stopped.value
                return data, tail
            except CorruptLogError:
                if attempt == _READS - 1:
                    raise
        raise AssertionError("it returned or raised")


def _files(known: manifest.Manifest) -> Iterator[tuple[str, int | None]]:
    """The files that a manifest counts on, tables and journal apart, with their sizes; None: all that is in it."""
    for stream in known.streams:
        folder = os.path.join("streams", str(stream.stream_id))
        for shard in stream.shards:
            for file in shard.files:
                yield os.path.join(folder, cold.file_name(shard.index, file.serial)), file.size
    for queue in known.queues:
        if queue.snapshot:
            yield os.path.join("queues", snapshot.file_name(queue.queue_id, queue.snapshot)), None
        for serial in queue.ids:
            yield os.path.join("queues", id_files.file_name(queue.queue_id, serial)), None
        for pages in queue.files:
            yield os.path.join("queues", queue_files.file_name(queue.queue_id, pages.serial)), pages.size


def _empty(directory: str) -> None:
    """What was copied so far is of no use."""
    for folder in _FOLDERS:
        _remove_tree(os.path.join(directory, folder))
    with suppress(FileNotFoundError):
        os.remove(os.path.join(directory, manifest.NAME))


def _remove_tree(directory: str) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)

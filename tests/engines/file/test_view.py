"""The corners of following: races with whoever reads, clocks that differ, journals that are not what they were."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from streamkit.engines.file import frame as framing
from streamkit.engines.file.files import DiskFiles
from streamkit.engines.file.frame import SEGMENT_HEADER_SIZE
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.segment import Position, create_segment, segment_path
from streamkit.engines.file.settled_items import SettledItems
from streamkit.engines.file.tail import JournalTail
from streamkit.errors import CorruptLogError, StorageError
from streamkit.limits import KIB
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.streams.store import Split, StreamAttributes
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from tests.engines.file.looking import SHARD, data_of, looking, put
from tests.engines.file.terms import START_MS, opened

STORE = 7


# ---- races


async def test_an_index_that_a_reader_makes_while_its_files_grow_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(START_MS)
    loop = asyncio.get_running_loop()
    async with opened(tmp_path / "data", clock) as owner:
        await owner.streams.create_stream("s", 1)
        await put(owner.streams, b"1")
        await owner.settle()
        async with looking(tmp_path / "data", clock) as engine:
            await put(owner.streams, b"2")
            await owner.settle()
            view = engine.streams._follower.view
            added = view.added

            def added_and_read(known: Any) -> Any:
                found = added(known)
                read = view.cold.read(1, 0, 0, 1, 10, 1_000)
                assert len(asyncio.run_coroutine_threadsafe(read, loop).result(30)) == 1
                return found

            monkeypatch.setattr(view, "added", added_and_read)
            assert await data_of(engine.streams) == [b"1", b"2"]


async def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner, looking(tmp_path / "data", clock) as engine:
        await owner.streams.create_stream("s", 1)
        await put(owner.streams, b"1")
        await owner.settle()
        assert await data_of(engine.streams) == [b"1"]
        cold = engine.streams._follower.view.cold
        assert cold.files_of(1, 0)
        await owner.streams.delete_stream("s")
        await owner.settle()
        assert await engine.streams.list_streams() == []
        assert cold.files_of(1, 0) == ()


# ---- clocks


async def test_shards_that_expired_for_their_owner_are_gone_whatever_time_it_is_here(tmp_path: Path) -> None:
    clock, behind = ManualClock(START_MS), ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner:
        await owner.streams.create_stream("s", 1, StreamAttributes(retention_ms=60_000))
        await put(owner.streams, b"old")
        await owner.streams.reshard("s", Split(SHARD, 2**127))
        async with looking(tmp_path / "data", behind) as engine:
            assert len((await engine.streams.describe_stream("s")).shards) == 3
            await clock.advance(120)
            wanted = await owner.streams.describe_stream("s")
            assert len(wanted.shards) == 2
            await put(owner.streams, b"new")
            await owner.settle()
            assert (await engine.streams.describe_stream("s")).shards == (
                await owner.streams.describe_stream("s")
            ).shards


async def test_a_message_stays_hidden_no_longer_than_it_was_to_be(tmp_path: Path) -> None:
    """The wall clock was set back by an hour since it was hidden; its owner would show it in 30 seconds as well."""
    async with opened(tmp_path / "data", ManualClock(START_MS)) as owner:
        await owner.queues.create_queue("jobs", QueueAttributes(visibility_timeout_ms=30_000))
        await owner.queues.send_messages("jobs", [SendEntry(b"a")])
        await owner.queues.receive_messages("jobs", 1)
    clock = ManualClock(START_MS - 3_600_000)
    async with looking(tmp_path / "data", clock) as engine:
        assert await engine.queues.peek_messages("jobs", 1) == []
        await clock.advance(30)
        assert len(await engine.queues.peek_messages("jobs", 1)) == 1


# ---- journals


async def test_a_damaged_commit_is_skipped_once_it_is_settled(tmp_path: Path) -> None:
    """In memory its owner had it whole, so what it settled is whole."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner, looking(tmp_path / "data", clock) as engine:
        await owner.streams.create_stream("s", 1)
        assert await engine.streams.list_streams() == ["s"]
        await put(owner.streams, b"damaged")
        segment = tmp_path / "data" / "journal" / "000000000001.log"
        data = await asyncio.to_thread(segment.read_bytes)
        await asyncio.to_thread(_patch, segment, data.index(b"damaged"), b"D")
        assert await data_of(engine.streams) == []
        await owner.settle()
        assert await data_of(engine.streams) == [b"damaged"]
        assert await contents(engine) == await contents(owner)


def _patch(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened_file:
        os.pwrite(opened_file.fileno(), data, at)


async def test_a_journal_that_does_not_go_on_is_read_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that cannot be applied leaves no half of itself."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner, looking(tmp_path / "data", clock) as engine:
        await owner.streams.create_stream("s", 1)
        assert await engine.streams.list_streams() == ["s"]
        view = engine.streams._follower.view
        monkeypatch.setattr(view.stores, "replay", lambda change: {}[change])
        with caplog.at_level(logging.CRITICAL, "streamkit"):
            await put(owner.streams, b"1")
            assert await data_of(engine.streams) == [b"1"]
        assert engine.streams._follower.view is not view


async def test_another_store_whose_journal_is_further_on(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner:
        await owner.streams.create_stream("s", 1)
    async with opened(tmp_path / "other", clock) as other:
        await other.streams.create_stream("s", 1)
        for _ in range(3):
            await put(other.streams, b"x" * 20 * KIB)
    async with looking(tmp_path / "data", clock) as engine:
        await asyncio.to_thread((tmp_path / "data").rename, tmp_path / "gone")
        await asyncio.to_thread((tmp_path / "other").rename, tmp_path / "data")
        with pytest.raises(StorageError, match=r"replaced by another store"):
            await engine.streams.list_streams()


class Written:
    """A journal that a test writes by hand."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        self.files = DiskFiles()
        self.files.make_directory(self.directory)
        self.add(1)

    def add(self, segment: int) -> None:
        self.files.close(create_segment(self.files, self.directory, segment, 16 * KIB, STORE).fd)
        self.end = SEGMENT_HEADER_SIZE

    def write(self, number: int, *, segment: int = 1, kind: int = framing.DATA, payload: bytes = b"\x90") -> None:
        data = framing.frame(kind, segment, number, payload, store_id=STORE)
        fd = self.files.open(segment_path(self.directory, segment))
        self.files.write(fd, data, self.end)
        self.files.close(fd)
        self.end += len(data)

    def tail(self) -> JournalTail:
        return JournalTail(ReadOnlyFiles(), self.directory, STORE, Position(1, SEGMENT_HEADER_SIZE, 1))


def test_a_frame_in_the_place_of_another_is_no_frame_to_go_on_with(tmp_path: Path) -> None:
    journal = Written(tmp_path / "journal")
    journal.write(1)
    journal.write(3)
    tail = journal.tail()
    with pytest.raises(CorruptLogError, match="frame 3 is in the place of frame 2"):
        tail.read()
    assert tail.position.number == 1
    tail.close()


def test_a_frame_that_does_not_decode_is_damage(tmp_path: Path) -> None:
    journal = Written(tmp_path / "journal")
    journal.write(1, payload=b"\xc1")
    tail = journal.tail()
    with pytest.raises(CorruptLogError, match="frame 1 does not decode"):
        tail.read()
    tail.close()


def test_a_read_that_fails_has_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even across segments: it is the same afterwards, and nothing is left open."""
    journal = Written(tmp_path / "journal")
    journal.write(1)
    journal.write(2)
    journal.write(3, kind=framing.SEAL)
    tail = journal.tail()
    with pytest.raises(FileNotFoundError):
        tail.read()
    assert tail.position == Position(1, SEGMENT_HEADER_SIZE, 1)
    journal.add(2)
    journal.write(3, segment=2)
    with monkeypatch.context() as patch:

        def fail(files: ReadOnlyFiles, fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(ReadOnlyFiles, "sync", fail)
        with pytest.raises(StorageError, match="may not have come to the disk"):
            tail.read()
    assert tail.position == Position(1, SEGMENT_HEADER_SIZE, 1)
    assert [group.number for group in tail.read()] == [1, 2, 3]
    assert tail.position == Position(2, journal.end, 4)
    assert tail.read() == []
    tail.close()


def test_the_newest_of_a_sealed_segment_is_proven_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal is written before the segment is synced."""
    journal = Written(tmp_path / "journal")
    journal.write(1)
    journal.write(2, kind=framing.SEAL)
    journal.add(2)
    synced: list[str] = []
    monkeypatch.setattr(
        ReadOnlyFiles, "sync", lambda files, fd: synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
    )
    tail = journal.tail()
    assert [group.number for group in tail.read()] == [1]
    assert synced == ["000000000001.log"]
    tail.close()


# ---- files


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EROFS])
def test_where_nobody_can_write_everything_is_on_disk(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(files: DiskFiles, fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(DiskFiles, "sync", fail)
    (tmp_path / "file").write_bytes(b"x")
    files = ReadOnlyFiles()
    fd = files.open(str(tmp_path / "file"))
    files.sync(fd)
    files.close(fd)


async def test_a_settled_table_is_whole_in_one_file(tmp_path: Path) -> None:
    """Also while its owner has it open: that is what those who read without locks rely on."""
    async with opened(tmp_path / "data") as owner:
        await owner.tables.create_table(TableSchema("table", "id"))
        wal = tmp_path / "data" / "tables" / "1.sqlite-wal"
        for number in range(3):
            await owner.tables.write([Put({"id": number}, "table")])
            await owner.settle()
            assert await owner.tables.get("table", [{"id": number}]) == [{"id": number}]
            if number:
                assert (await asyncio.to_thread(wal.stat)).st_size == 0


async def test_a_table_that_is_being_written_is_let_go_of_after_each_reading(tmp_path: Path) -> None:
    """While its WAL is not empty a connection holds a lock on what SQLite shares, so none stays."""
    async with opened(tmp_path / "data") as owner:
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.tables.write([Put({"id": 1}, "table")])
        await owner.settle()
        assert await owner.tables.get("table", [{"id": 1}])
        writer = sqlite3.connect(tmp_path / "data" / "tables" / "1.sqlite")
        writer.execute("INSERT INTO items SELECT 2, sk, item FROM items")
        writer.commit()
        wal = tmp_path / "data" / "tables" / "1.sqlite-wal"
        assert (await asyncio.to_thread(wal.stat)).st_size > 0
        async with looking(tmp_path / "data") as engine:
            assert await engine.tables.get("table", [{"id": 2}]) == [{"id": 1}]
            found = engine.tables._follower.view.base("table")
            assert isinstance(found, SettledItems)
            assert found._reader is None
        writer.close()

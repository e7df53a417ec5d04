"""Following a live directory: who is woken when, what leaves memory, and what happens when it is not there any more."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamkit.engines.base import Durability
from streamkit.engines.embedded.changes import ItemsWritten
from streamkit.engines.file.cold import ColdStore
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.readonly import ReadOnlyEngine
from streamkit.errors import CorruptLogError, JournalFailedError, NotFoundError, StorageError
from streamkit.limits import KIB
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry, RecordBatch, StreamAttributes
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Delete, Put
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.looking import SHARD, HookedFiles, data_of, looking, put
from tests.engines.file.terms import START_MS, close_broken, open_file


async def waiter(engine: ReadOnlyEngine, wait_ms: int = 60_000) -> asyncio.Task[RecordBatch]:
    """Somebody who waits for the next record, and has begun to."""
    iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
    task = asyncio.create_task(engine.streams.get_records(iterator, 10, wait_ms))
    for _ in range(3):
        await engine.streams.list_streams()
    return task


async def with_a_stream(path: Path, clock: ManualClock, **options: Any) -> FileEngine:
    owner = await open_file(path, clock, **options)
    await owner.streams.create_stream("s", 1)
    return owner


# ---- waking


async def test_a_reader_that_waits_is_woken_within_40_ms(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    async with looking(tmp_path / "data", clock) as engine:
        for idle in (0, 0.001, 0.1, 10):
            waiting = await waiter(engine)
            await clock.advance(idle)
            assert not waiting.done()
            await put(owner.streams, b"x")
            await clock.advance(0.04)
            assert waiting.done()
            assert [record.data for record in waiting.result().records] == [b"x"]
    await owner.aclose()


async def test_a_wait_ends_in_time(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    async with looking(tmp_path / "data", clock) as engine:
        waiting = await waiter(engine, 1_000)
        await clock.advance(0.99)
        assert not waiting.done()
        await clock.advance(0.02)
        assert waiting.result().records == []
    await owner.aclose()


async def test_a_waiting_reader_may_be_cancelled_and_comes_again(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    async with looking(tmp_path / "data", clock) as engine:
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        for number in range(5):
            waiting = asyncio.create_task(engine.streams.get_records(iterator, 10, 60_000))
            await clock.advance(0.01 * number)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
        await put(owner.streams, b"1")
        waiting = asyncio.create_task(engine.streams.get_records(iterator, 10, 60_000))
        await clock.advance(0.04)
        (record,) = waiting.result().records
        assert record.data == b"1"
    await owner.aclose()


async def test_nobody_looks_while_nobody_asks(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    calls: list[str] = []
    async with looking(tmp_path / "data", clock, files=HookedFiles(calls.append)) as engine:
        waiting = await waiter(engine, 1_000)
        await clock.advance(0.5)
        seen = len(calls)
        assert seen > 10
        await clock.advance(0.4)
        # 25 times a second while nothing comes, and two calls each.
        assert len(calls) - seen <= 2 * 11
        await clock.advance(1)
        assert waiting.done()
        seen = len(calls)
        await clock.advance(3_600)
        assert len(calls) == seen
    await owner.aclose()


async def test_those_who_ask_at_once_share_a_look(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    calls: list[str] = []
    async with looking(tmp_path / "data", clock, files=HookedFiles(calls.append)) as engine:
        seen = len(calls)
        await asyncio.gather(*(engine.streams.list_streams() for _ in range(100)))
        assert len(calls) - seen <= 6
    await owner.aclose()


async def test_a_slow_disk_is_not_asked_for_proof_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as long as the last sync took: the owner's commits need the disk as well."""
    ticks = iter(range(10_000))
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    syncs: list[int] = []

    def before(call: str) -> None:
        if call == "sync":
            syncs.append(clock.now_ms())

    async with looking(tmp_path / "data", clock, files=HookedFiles(before)) as engine:
        slow = SimpleNamespace(perf_counter=lambda: next(ticks) * 0.02)
        monkeypatch.setattr("streamkit.engines.file.tail.time", slow)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        begun = clock.now_ms()
        read = 0
        while clock.now_ms() < begun + 2_000:
            reading = asyncio.create_task(engine.streams.get_records(iterator, 1_000, 60_000))
            while not reading.done():
                await put(owner.streams, b"x")
                await clock.advance(0.001)
            read += len(reading.result().records)
            iterator = str(reading.result().next_iterator)
        assert 20 <= len(set(syncs)) == len(syncs) <= 27
        assert read > 1_500
    await owner.aclose()


# ---- what is durable


@pytest.mark.parametrize("durability", ["fsync", "interval", "memory"])
async def test_what_is_shown_is_as_durable_as_it_was_acknowledged(durability: Durability, tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock, durability=durability)
    await put(owner.streams, b"1")
    await put(owner.streams, b"2")
    calls: list[str] = []
    async with looking(tmp_path / "data", clock, files=HookedFiles(calls.append)) as engine:
        calls.clear()
        await put(owner.streams, b"3")
        assert await data_of(engine.streams) == [b"1", b"2", b"3"]
        assert calls.count("sync") == (1 if durability == "fsync" else 0)
        assert engine.durability == ("fsync" if durability == "fsync" else "memory")
    await owner.aclose()


async def test_what_was_written_but_not_synced_is_not_shown(tmp_path: Path) -> None:
    """It is synced by the reader first; if that fails nobody can know, now or later, and nothing more is shown."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    fails = False

    def before(call: str) -> None:
        if call == "sync" and fails:
            raise OSError(errno.EIO, "Input/output error")

    async with looking(tmp_path / "data", clock, files=HookedFiles(before)) as engine:
        await put(owner.streams, b"1")
        assert await data_of(engine.streams) == [b"1"]
        fails = True
        waiting = await waiter(engine)
        await put(owner.streams, b"2")
        await clock.advance(0.04)
        with pytest.raises(StorageError, match=r"may not have come to the disk .*: open it again"):
            await soon(waiting)
        fails = False
        with pytest.raises(StorageError, match="may not have come to the disk"):
            await data_of(engine.streams)
        with pytest.raises(StorageError, match="may not have come to the disk"):
            await engine.tables.describe_tables()
    await owner.aclose()


async def test_a_commit_that_is_half_written_is_not_shown(tmp_path: Path) -> None:
    """At no length of what was written of it."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    await put(owner.streams, b"before")
    shutil.copytree(tmp_path / "data", tmp_path / "half")
    await owner.streams.put_records("s", [PutEntry("k", b"after"), PutEntry("k", b"and after")])
    whole = (tmp_path / "data" / "journal" / "000000000001.log").read_bytes()
    await owner.aclose()
    half = tmp_path / "half" / "journal" / "000000000001.log"
    old = half.read_bytes()
    begin = next(at for at in range(len(old)) if old[at] != whole[at])
    end = max(at for at in range(len(old)) if old[at] != whole[at]) + 1
    async with looking(tmp_path / "half", clock) as engine:
        with half.open("r+b") as file:
            for at in range(begin, end):
                assert await _data(engine) == [b"before"], at - begin
                await asyncio.to_thread(_write_byte, file, at, whole[at : at + 1])
        assert await data_of(engine.streams) == [b"before", b"after", b"and after"]


def _write_byte(file: Any, at: int, byte: bytes) -> None:
    os.pwrite(file.fileno(), byte, at)


async def _data(engine: ReadOnlyEngine) -> list[bytes]:
    iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    return [record.data for record in (await engine.streams.get_records(iterator, 10)).records]


async def test_a_group_larger_than_everything_is_read(tmp_path: Path) -> None:
    """Larger than what is read at once, than a segment, and several of them."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    async with looking(tmp_path / "data", clock) as engine:
        wanted = []
        for number in range(3):
            each = [bytes([number]) * 600 * KIB for _ in range(10)]
            wanted += each
            await put(owner.streams, *each)
            await put(owner.streams, b"small")
            wanted.append(b"small")
            assert await data_of(engine.streams) == wanted
    await owner.aclose()


# ---- the owner comes and goes


async def test_an_owner_that_dies_and_another_that_comes(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    wanted: list[bytes] = []
    files = FaultyFiles()
    owner = await with_a_stream(tmp_path / "data", clock, files=files)
    async with looking(tmp_path / "data", clock) as engine:
        for life in range(5):
            waiting = await waiter(engine)
            for number in range(3):
                wanted.append(b"%d-%d" % (life, number))
                await put(owner.streams, wanted[-1])
            await clock.advance(0.04)
            assert waiting.result().records
            if life % 2:
                await owner.settle()
            # It dies in the middle of a write, of which a part is there.
            files.crash_at = len(files.calls)
            with pytest.raises(JournalFailedError):
                await put(owner.streams, b"never acknowledged")
            await close_broken(owner)
            assert await data_of(engine.streams) == wanted
            files = FaultyFiles()
            owner = await open_file(tmp_path / "data", clock, files=files)
            assert await data_of(engine.streams) == wanted
        assert await contents(engine) == await contents(owner)
        await owner.aclose()
        assert await data_of(engine.streams) == wanted


async def test_a_waiting_reader_goes_on_where_the_journal_was_settled(tmp_path: Path) -> None:
    """So much happened between two looks that what would have been read next is gone: it is loaded anew."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    async with looking(tmp_path / "data", clock) as engine:
        waiting = await waiter(engine)
        wanted = []
        for number in range(6):
            wanted.append(b"%d" % number * 20_000)
            await put(owner.streams, wanted[-1])
            await owner.settle()
        view = engine.streams._follower.view
        await clock.advance(0.04)
        assert [record.data for record in (await soon(waiting)).records] == wanted
        assert engine.streams._follower.view is not view
        assert await data_of(engine.streams) == wanted
    await owner.aclose()


async def test_what_settled_leaves_memory(tmp_path: Path) -> None:
    """A follower of a store through which much passes holds what is not settled, and no more."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    await owner.tables.create_table(TableSchema("table", "id"))
    most = 0
    async with looking(tmp_path / "data", clock) as engine:
        view = engine.streams._follower.view
        for turn in range(40):
            for part in range(4):
                await put(owner.streams, *(b"%4d" % turn * 1_000 for _ in range(5)))
                await owner.tables.write([Put({"id": turn * 4 + part, "data": b"x" * 1_000}, "table")])
                await engine.streams.list_streams()
                most = max(most, held(engine))
            await owner.settle()
            await engine.streams.list_streams()
            assert held(engine) == 0
        assert engine.streams._follower.view is view, "it followed, and was never loaded anew"
        assert view.generation == 40
        assert most == 4 * (5 + 1 + 1)
        assert len(await data_of(engine.streams)) == 40 * 4 * 5
        assert await contents(engine) == await contents(owner)
    await owner.aclose()


def held(engine: ReadOnlyEngine) -> int:
    """How many records, items and changes are in memory."""
    view = engine.streams._follower.view
    records = sum(len(shard.data) for stream in view.stores.streams.by_id.values() for shard in stream.shards.values())
    items = sum(len(list(table.items.newest.entries())) for table in view.stores.tables.by_id.values())
    assert all(isinstance(change, ItemsWritten) for _, change in view._written)
    return records + items + len(view._written)


async def test_items_deleted_before_and_after_they_settled_stay_deleted(tmp_path: Path) -> None:
    """Also where the reader had never known them in a file."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    await owner.tables.create_table(TableSchema("table", "id"))
    async with looking(tmp_path / "data", clock) as engine:
        await owner.tables.write([Put({"id": id_}, "table") for id_ in range(4)])
        await owner.tables.write([Delete({"id": 0}, "table")])
        settling = asyncio.create_task(owner.settle())
        await asyncio.sleep(0)
        await owner.tables.write([Delete({"id": 1}, "table")])
        await engine.tables.scan("table")
        await settling
        await owner.tables.write([Delete({"id": 2}, "table")])
        page = await engine.tables.scan("table")
        assert [item["id"] for item in page.items] == [3]
        await owner.settle()
        page = await engine.tables.scan("table")
        assert [item["id"] for item in page.items] == [3]
    await owner.aclose()


async def test_records_that_expired_are_gone_for_followers_too(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await open_file(tmp_path / "data", clock)
    await owner.streams.create_stream("s", 2, StreamAttributes(retention_ms=60_000))
    async with looking(tmp_path / "data", clock) as engine:
        await owner.streams.put_records("s", [PutEntry(f"key-{n}", b"old") for n in range(20)])
        await owner.settle()
        assert await contents(engine) == await contents(owner)
        await clock.advance(59)
        await owner.streams.put_records("s", [PutEntry(f"key-{n}", b"new") for n in range(20)])
        for step in range(3):
            await clock.advance(2 if step < 2 else 120)
            await owner.settle()
            assert await contents(engine) == await contents(owner)
        await owner.streams.update_stream("s", StreamAttributes(retention_ms=None))
        await owner.settle()
        assert await contents(engine) == await contents(owner)
    await owner.aclose()


async def test_a_file_that_goes_while_it_is_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner trims and settles after the reader looked and before it read."""
    clock = ManualClock(START_MS)
    owner = await open_file(tmp_path / "data", clock)
    await owner.streams.create_stream("s", 1, StreamAttributes(retention_ms=None))
    await put(owner.streams, b"1", b"2")
    await owner.settle()
    scan = ColdStore._scan
    loop = asyncio.get_running_loop()
    trimmed = 0

    async def trim() -> None:
        nonlocal trimmed
        trimmed += 1
        await clock.advance(10)
        await owner.streams.update_stream("s", StreamAttributes(retention_ms=5_000))
        await put(owner.streams, b"3")
        await owner.settle()

    def scan_late(*arguments: Any) -> Any:
        if not trimmed and threading.current_thread().name.startswith("streamkit-read"):
            asyncio.run_coroutine_threadsafe(trim(), loop).result(30)
        return scan(*arguments)

    async with looking(tmp_path / "data", ManualClock(START_MS)) as engine:
        monkeypatch.setattr(ColdStore, "_scan", scan_late)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        batch = await engine.streams.get_records(iterator, 10)
        assert [record.data for record in batch.records] == [b"3"]
        assert batch.trimmed == 2
        assert trimmed == 1
    await owner.aclose()


# ---- it is not there any more


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "an older copy"])
async def test_a_directory_that_goes_is_told_to_whoever_waits(how: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    clock = ManualClock(START_MS)
    owner = await with_a_stream(data, clock)
    await put(owner.streams, b"1")
    shutil.copytree(data, tmp_path / "older")
    await put(owner.streams, b"2")
    async with looking(data, clock) as engine:
        waiting = await waiter(engine)
        await owner.aclose()
        await clock.advance(0.04)
        assert not waiting.done()
        await asyncio.to_thread(data.rename, tmp_path / "moved")
        if how == "deleted":
            await asyncio.to_thread(shutil.rmtree, tmp_path / "moved")
        elif how == "replaced":
            other = await with_a_stream(data, clock)
            await other.aclose()
        elif how == "an older copy":
            await asyncio.to_thread((tmp_path / "older").rename, data)
        await clock.advance(0.04)
        says = r"was deleted, moved, or replaced by another store or an older copy of this one.*: open it again"
        with pytest.raises(StorageError, match=says):
            await soon(waiting)
        with pytest.raises(StorageError, match=says):
            await engine.streams.list_streams()
        with pytest.raises(StorageError, match=says):
            await engine.tables.get("table", [{"id": 1}])


async def test_a_stream_that_is_deleted_is_told_to_whoever_waits(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    async with looking(tmp_path / "data", clock) as engine:
        waiting = await waiter(engine)
        await owner.streams.delete_stream("s")
        await clock.advance(0.04)
        with pytest.raises(NotFoundError):
            await soon(waiting)
    await owner.aclose()


async def test_a_look_that_fails_fails_alone(tmp_path: Path) -> None:
    """Whoever waits hears of it, and the next call succeeds."""
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    failing: set[str] = set()

    def before(call: str) -> None:
        if call in failing:
            raise OSError(errno.EIO, "Input/output error")

    async with looking(tmp_path / "data", clock, files=HookedFiles(before)) as engine:
        for call in ("identity", "read"):
            waiting = await waiter(engine)
            failing.add(call)
            await clock.advance(0.04)
            with pytest.raises(StorageError, match=r"data cannot be read: .*Input/output error"):
                await soon(waiting)
            failing.clear()
            assert await engine.streams.list_streams() == ["s"]
        await put(owner.streams, b"1")
        assert await data_of(engine.streams) == [b"1"]
    await owner.aclose()


async def test_damage_while_following_is_an_error(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    owner = await with_a_stream(tmp_path / "data", clock)
    await put(owner.streams, b"1")
    async with looking(tmp_path / "data", clock) as engine:
        await owner.queues.create_queue("jobs", QueueAttributes())
        await owner.queues.send_messages("jobs", [SendEntry(b"x")])
        await owner.aclose()
        manifest = tmp_path / "data" / "MANIFEST"
        (tmp_path / "new").write_bytes(manifest.read_bytes()[:-3])
        await asyncio.to_thread((tmp_path / "new").replace, manifest)
        with pytest.raises(CorruptLogError, match="the manifest does not match its checksum"):
            await engine.streams.list_streams()

"""What else happens while a settling is under way: reads, deletions, other settlings, failures and the close."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.engines.file import plan
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import ClosedError, CorruptLogError, JournalFailedError, NotFoundError, StorageError
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.contract.streams import everything
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.terms import START_MS, Held, after_crash, lost, open_file, opened

SHARD = "shardId-000000000000"


async def put(engine: FileEngine, *data: bytes) -> None:
    await engine.streams.put_records("s", [PutEntry("k", each) for each in data])


async def data_of(engine: FileEngine) -> list[bytes]:
    return [record.data for record in (await everything(engine.streams, "s"))[SHARD]]


async def turns(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def with_cold_records(path: Path, clock: ManualClock, held: Held) -> FileEngine:
    """An engine with three records that left memory and nothing else."""
    engine = await open_file(path, clock, files=FaultyFiles(before=held))
    await engine.streams.create_stream("s", 1)
    await put(engine, b"1", b"2", b"3")
    await engine.settle()
    return engine


# ---- reads


async def test_pages_read_while_everything_moves(tmp_path: Path) -> None:
    """One record at a time, with a settling and a put between any two."""
    wanted: list[bytes] = []
    read: list[bytes] = []
    async with opened(tmp_path / "data") as engine:
        await engine.streams.create_stream("s", 1)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        for number in range(12):
            new = [b"%d a" % number, b"%d b" % number]
            wanted += new
            await put(engine, *new)
            _, batch = await asyncio.gather(engine.settle(), engine.streams.get_records(iterator, 1))
            for _ in range(2):
                read += [record.data for record in batch.records]
                assert batch.next_iterator is not None
                iterator = batch.next_iterator
                batch = await engine.streams.get_records(iterator, 1)
        while batch.records:
            read += [record.data for record in batch.records]
            assert batch.next_iterator is not None
            batch = await engine.streams.get_records(batch.next_iterator, 1)
    assert read == wanted


@pytest.mark.parametrize("by_time", [False, True])
async def test_a_stream_deleted_while_its_cold_records_are_read_is_not_found(by_time: bool, tmp_path: Path) -> None:
    """Its files may be gone by then, and that is no damage."""
    held = Held("streamkit-read")
    engine = await with_cold_records(tmp_path / "data", ManualClock(START_MS), held)
    iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    held.holding = True
    reading: asyncio.Task[object]
    if by_time:
        at = engine.streams.get_shard_iterator("s", SHARD, "AT_TIMESTAMP", timestamp_ms=START_MS)
        reading = asyncio.create_task(at)
    else:
        reading = asyncio.create_task(engine.streams.get_records(iterator, 10))
    assert await held.reached(reading)
    await engine.streams.delete_stream("s")
    await engine.settle()
    held.let_go()
    with pytest.raises(NotFoundError):
        await soon(reading)
    await engine.aclose()


async def test_a_read_that_fails_fails_alone(tmp_path: Path) -> None:
    """At any of its calls, with the file's path in the error; the next one succeeds."""
    files = FaultyFiles()
    failed = 0
    async with opened(tmp_path / "live", files=files) as engine:
        await engine.streams.create_stream("s", 1)
        await put(engine, b"1", b"2", b"3")
        await engine.settle()
        await put(engine, b"4")
        shutil.copytree(tmp_path / "live", tmp_path / "data")
    for at in range(100):
        files = FaultyFiles()
        async with opened(tmp_path / "data", files=files) as engine:
            opened_with = files.open_paths()
            first = len(files.calls)
            files.fail[first + at] = errno.EMFILE
            try:
                assert await data_of(engine) == [b"1", b"2", b"3", b"4"]
            except StorageError as error:
                failed += 1
                assert "000000-000000000001.blk" in str(error)  # noqa: PT017
                assert not isinstance(error, CorruptLogError)  # noqa: PT017
            needed = len(files.calls) - first
            files.fail.clear()
            assert await data_of(engine) == [b"1", b"2", b"3", b"4"]
            assert files.open_paths() == opened_with
        if needed <= at:
            break
    assert failed >= 4


async def test_a_scan_sees_whole_writes_while_items_move(tmp_path: Path) -> None:
    """Across many pages, with a settling between any two; what it read before does not keep others in the past."""
    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(TableSchema("table", "id"))
        await engine.tables.write([Put({"id": number, "n": 0}, "table") for number in range(600)])
        await engine.settle()
        found: list[object] = []
        after = None
        for turn in range(100):
            page = await engine.tables.scan("table", limit=50, after=after)
            found += [item["id"] for item in page.items]
            await engine.tables.write([Put({"id": 599 - turn, "n": turn}, "table")])
            await engine.settle()
            assert await engine.tables.get("table", [{"id": 599 - turn}]) == [{"id": 599 - turn, "n": turn}]
            after = page.last_key
            if after is None:
                break
        assert found == list(range(600))


async def test_an_unfinished_walk_over_partitions_keeps_nobody_in_the_past(tmp_path: Path) -> None:
    items = SqliteItems(str(tmp_path / "1.sqlite"), TableSchema("table", "id"))
    entries = [((number, None), b"%d" % number) for number in range(700)]
    await asyncio.to_thread(items.apply, entries, afresh=True)
    walk = items.partitions()
    assert [next(walk), next(walk)] == [0, 1]
    await asyncio.to_thread(items.apply, [((0, None), b"new")], afresh=False)
    assert items.get((0, None)) == b"new"
    assert list(walk) == list(range(2, 700))
    assert list(items.partitions(690)) == list(range(690, 700))
    items.close()
    with pytest.raises(ClosedError):
        items.get((0, None))


async def test_errors_of_sqlite_do_not_escape(tmp_path: Path) -> None:
    async with opened(tmp_path / "live") as engine:
        await engine.tables.create_table(TableSchema("table", "id"))
        await engine.tables.write([Put({"id": 1}, "table")])
    (file,) = (tmp_path / "live" / "tables").glob("*.sqlite")
    file.write_bytes(b"no database at all " * 100)
    async with opened(tmp_path / "live") as engine:
        with pytest.raises(StorageError, match=r"reading .*\.sqlite failed"):
            await engine.tables.get("table", [{"id": 1}])
        await engine.tables.write([Put({"id": 1}, "table")])
        with pytest.raises(StorageError, match=r"writing .*\.sqlite failed"):
            await engine.settle()
        assert await engine.tables.get("table", [{"id": 1}]) == [{"id": 1}]


# ---- several at once


async def test_settlings_wait_for_each_other(tmp_path: Path) -> None:
    """Two at the same time would move the same records twice, and lose the items that the first took aside."""
    held = Held("streamkit-settle")
    async with opened(tmp_path / "data", files=FaultyFiles(before=held)) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.tables.create_table(TableSchema("table", "id"))
        await put(engine, b"1", b"2")
        await engine.tables.write([Put({"id": 1}, "table")])
        held.holding = True
        first = asyncio.create_task(engine.settle())
        assert await held.reached(first)
        await put(engine, b"3")
        await engine.tables.write([Put({"id": 2}, "table")])
        others = [asyncio.create_task(engine.settle()) for _ in range(3)]
        await asyncio.sleep(0)
        before = await contents(engine)
        held.let_go()
        await soon(asyncio.gather(first, *others))
        assert await contents(engine) == before
        (stream,) = engine._stores.streams.by_id.values()
        assert stream.shards[0].data == [], "the later ones moved what came after the first had begun"
        (entry,) = engine._settler._manifest.streams
        assert [file.count for file in entry.shards[0].files] == [3]


async def test_a_cancelled_settling_goes_on(tmp_path: Path) -> None:
    held = Held("streamkit-settle")
    async with opened(tmp_path / "data", files=FaultyFiles(before=held)) as engine:
        await engine.streams.create_stream("s", 1)
        await put(engine, b"1")
        held.holding = True
        settling = asyncio.create_task(engine.settle())
        assert await held.reached(settling)
        settling.cancel()
        await asyncio.wait([settling])
        assert settling.cancelled()
        await put(engine, b"2")
        held.let_go()
        await engine.settle()
        assert await data_of(engine) == [b"1", b"2"]
    async with opened(tmp_path / "data") as engine:
        assert await data_of(engine) == [b"1", b"2"]


async def test_a_settling_torn_down_with_its_loop_does_no_harm(tmp_path: Path) -> None:
    """Every task is cancelled when a loop ends; the thread still replaces the manifest, and nobody adopts that."""
    held = Held("streamkit-settle")
    files = FaultyFiles(before=held)
    async with opened(tmp_path / "data", files=files) as engine:
        await engine.streams.create_stream("s", 1)
        await put(engine, b"1")
        await engine.settle()
        await put(engine, b"2")
        held.holding = True
        settling = asyncio.create_task(engine.settle())
        assert await held.reached(settling)
        task = engine._settler._task
        assert task is not None
        task.cancel()
        held.let_go()
        await asyncio.wait([settling, task])
        assert task.cancelled()
        await put(engine, b"3")
        assert await data_of(engine) == [b"1", b"2", b"3"]
        await engine.settle()
        assert await data_of(engine) == [b"1", b"2", b"3"]
        await after_crash(files, tmp_path / "data", tmp_path / "crashed", lost)
    for path in ("data", "crashed"):
        async with opened(tmp_path / path) as engine:
            assert await data_of(engine) == [b"1", b"2", b"3"]


# ---- by itself


async def test_it_happens_by_itself_and_again_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not before a while has passed; and what failed to be settled counts as unsettled."""
    broken = True

    def before(call: Call) -> None:
        if broken and call.operation == "open" and call.path.endswith(".blk"):
            raise OSError(errno.EIO, "broken")

    files = FaultyFiles(before=before)
    async with opened(tmp_path / "data", files=files, settle_after_bytes=2_000) as engine:
        settler = engine._settler

        def attempts() -> int:
            return sum(call.operation == "open" and call.path.endswith(".blk") for call in files.calls)

        await engine.streams.create_stream("s", 1)
        await put(engine, bytes(1_500))
        assert attempts() == 0
        await put(engine, bytes(1_500))
        await turns(lambda: "will be tried again: settling" in caplog.text)
        assert attempts() == 1
        await put(engine, b"too early for another one")
        assert settler._task is None
        broken = False
        monkeypatch.setattr(settler, "_not_before", 0.0)
        await put(engine, b"now")
        await turns(lambda: settler._task is None)
        assert attempts() == 2
        (stream,) = engine._stores.streams.by_id.values()
        assert len(stream.shards[0].data) == 0
        assert engine._journal.bytes_since_cut == 0


async def test_a_bug_in_settling_is_told_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path / "data", settle_after_bytes=1) as engine:
        await engine.streams.create_stream("s", 1)
        await turns(lambda: engine._settler._task is None)
        with monkeypatch.context() as patch:
            patch.setattr(plan.Plan, "write", lambda *_: 1 / 0)
            engine._settler._not_before = 0.0
            await put(engine, b"1")
            await turns(lambda: "ZeroDivisionError: division by zero" in caplog.text)
        assert [record.levelno for record in caplog.records][-1] == logging.WARNING
        assert await data_of(engine) == [b"1"]
    async with opened(tmp_path / "data") as engine:
        assert await data_of(engine) == [b"1"]


async def test_writers_wait_when_too_much_is_unsettled(tmp_path: Path) -> None:
    """Readers do not, and memory stays bounded while the disk is slow."""
    held = Held("streamkit-settle")
    async with opened(tmp_path / "data", files=FaultyFiles(before=held), settle_after_bytes=2_000) as engine:
        await engine.streams.create_stream("s", 1)
        held.holding = True
        await put(engine, bytes(2_500))
        await turns(lambda: held.arrived.acquire(blocking=False))
        writers = []
        for _ in range(100):
            writers.append(asyncio.create_task(put(engine, bytes(1_000))))
            await turns(lambda: writers[-1].done() or not engine._journal.room.is_set())
            if not writers[-1].done():
                break
        assert len(writers) == 4, "twice what is settled at once, and a record is a bit more than its data"
        assert len(await data_of(engine)) == 5
        held.let_go()
        await soon(asyncio.gather(*writers))
        await turns(lambda: engine._settler._task is None)
        assert engine._journal.room.is_set()


# ---- the close


async def test_the_close_waits_for_a_settling_and_settles_the_rest(tmp_path: Path) -> None:
    held = Held("streamkit-settle")
    engine = await open_file(tmp_path / "data", files=FaultyFiles(before=held))
    await engine.streams.create_stream("s", 1)
    await put(engine, b"1")
    held.holding = True
    settling = asyncio.create_task(engine.settle())
    assert await held.reached(settling)
    await put(engine, b"2")
    closing = asyncio.create_task(engine.aclose())
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await put(engine, b"3")
    with pytest.raises(ClosedError):
        await engine.settle()
    closing.cancel()
    await asyncio.wait([closing])
    held.let_go()
    await soon(engine.aclose())
    await soon(settling)
    assert not [file for file in (tmp_path / "data" / "journal").iterdir() if file.name < "000000000001.log"]
    files = FaultyFiles()
    async with opened(tmp_path / "data", files=files) as engine:
        assert engine._journal.bytes_since_cut == 0
        assert await data_of(engine) == [b"1", b"2"]


async def test_a_closed_engine_reads_no_files(tmp_path: Path) -> None:
    """The directory may be somebody else's by then."""
    engine = await open_file(tmp_path / "data")
    await engine.streams.create_stream("s", 1)
    await engine.tables.create_table(TableSchema("table", "id"))
    await put(engine, b"1")
    await engine.tables.write([Put({"id": 1}, "table")])
    await engine.settle()
    iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    await engine.aclose()
    for call in (
        engine.streams.get_records(iterator, 1),
        engine.streams.get_shard_iterator("s", SHARD, "AT_TIMESTAMP", timestamp_ms=START_MS),
        engine.tables.get("table", [{"id": 1}]),
        engine.tables.query("table", 1),
        engine.tables.scan("table"),
    ):
        with pytest.raises(ClosedError):
            await call


async def test_the_close_after_the_journal_failed_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And lets go of everything; what was acknowledged is there when it is opened again."""
    files = FaultyFiles()
    engine = await open_file(tmp_path / "data", files=files)
    await engine.streams.create_stream("s", 1)
    await put(engine, b"1")
    files.fail[len(files.calls) + 1] = errno.EIO
    with pytest.raises(JournalFailedError):
        await put(engine, b"2")
    with pytest.raises(StorageError):
        await soon(engine.settle())
    await soon(engine.aclose())
    assert "was closed with its journal unsettled" in caplog.text
    assert files.open_paths() == []
    async with opened(tmp_path / "data") as engine:
        assert (await data_of(engine))[:1] == [b"1"]


async def test_the_close_while_a_read_is_under_way(tmp_path: Path) -> None:
    held = Held("streamkit-read")
    engine = await with_cold_records(tmp_path / "data", ManualClock(START_MS), held)
    iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    # Where its blocks are is found out first; a closed engine begins no second read.
    assert await engine.streams.get_shard_iterator("s", SHARD, "AT_TIMESTAMP", timestamp_ms=START_MS)
    held.holding = True
    reading = asyncio.create_task(engine.streams.get_records(iterator, 10))
    assert await held.reached(reading)
    closing = asyncio.create_task(engine.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    held.let_go()
    await soon(closing)
    assert [record.data for record in (await soon(reading)).records] == [b"1", b"2", b"3"]


async def test_a_table_file_is_opened_by_other_tools_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(TableSchema("table", "id"))
        await engine.tables.write([Put({"id": 1}, "table")])
        await engine.settle()
        (file,) = (tmp_path / "data" / "tables").glob("*.sqlite")
        other = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        assert other.execute("SELECT pk FROM items").fetchall() == [(1,)]
        await engine.tables.write([Put({"id": 2}, "table")])
        await engine.settle()
        assert other.execute("SELECT pk FROM items").fetchall() == [(1,), (2,)]
        other.close()

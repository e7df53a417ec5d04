"""Opening a directory read-only: what is seen of it, what is refused, and that it leaves no trace."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit.engines.base import Engine
from streamkit.engines.file.manifest import NAME as MANIFEST
from streamkit.engines.file.readonly_files import ReadOnlyFiles
from streamkit.engines.file.settled_items import SettledItems
from streamkit.errors import ClosedError, CorruptLogError, NotFoundError, ReadOnlyError, StorageError
from streamkit.functions.effects import Effects
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.streams.store import PutEntry, Split, StreamAttributes
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.looking import SHARD, HookedFiles, data_of, footprint, looking, put
from tests.engines.file.terms import START_MS, Script, message_ids, open_file, opened


async def test_everything_is_seen_as_its_owner_sees_it(tmp_path: Path) -> None:
    """After every step of everything an engine can do: by one who follows since the start, and by one who comes now."""
    clock = ManualClock(START_MS)
    with message_ids():
        async with opened(tmp_path / "data", clock) as owner, looking(tmp_path / "data", clock) as follower:
            for step in Script(owner, clock).steps():
                await step()
                wanted = await contents(owner)
                assert await contents(follower) == wanted
                async with looking(tmp_path / "data", clock) as newcomer:
                    assert await contents(newcomer) == wanted
            assert wanted["records"]["s"]
            assert wanted["items"]["totals"]
            assert wanted["messages"]["jobs"]
        # The owner has gone.
        async with looking(tmp_path / "data", clock) as newcomer:
            assert await contents(newcomer) == wanted


async def test_it_is_seen_after_steps_that_nobody_looked_at(tmp_path: Path) -> None:
    """What is between two looks may have settled, once or often; then journal that was not read is gone."""
    for stride in (2, 3, 5, 7, 28):
        clock = ManualClock(START_MS)
        path = tmp_path / f"data-{stride}"
        with message_ids():
            async with opened(path, clock) as owner, looking(path, clock) as follower:
                for number, step in enumerate(Script(owner, clock).steps(), 1):
                    await step()
                    if number % stride == 0:
                        assert await contents(follower) == await contents(owner)
                assert await contents(follower) == await contents(owner)


@pytest.mark.parametrize("work", ["settle", "put and settle", "settle twice", "delete and settle"])
async def test_the_owner_settles_between_any_two_file_calls_of_an_opening(work: str, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    async def meddle(owner: Any) -> None:
        if work == "delete and settle":
            await owner.streams.delete_stream("other")
        if work != "settle":
            await put(owner.streams, b"late" * 3_000)
            await owner.tables.write([Put({"id": 1, "n": 2}, "table"), Put({"id": 2, "n": 2}, "table")])
        await owner.settle()
        if work == "settle twice":
            await put(owner.streams, b"later")
            await owner.tables.write([Put({"id": 1, "n": 3}, "table"), Put({"id": 2, "n": 3}, "table")])
            await owner.settle()

    for at in range(200):
        path = tmp_path / f"data-{at}"
        clock = ManualClock(START_MS)
        async with opened(path, clock) as owner:
            for name in ("s", "other"):
                await owner.streams.create_stream(name, 1)
            await owner.queues.create_queue("jobs", QueueAttributes())
            await owner.tables.create_table(TableSchema("table", "id"))
            await put(owner.streams, b"1", b"2")
            await owner.queues.send_messages("jobs", [SendEntry(b"a")])
            await owner.tables.write([Put({"id": 1, "n": 1}, "table"), Put({"id": 2, "n": 1}, "table")])
            await owner.settle()
            await put(owner.streams, b"3")
            await owner.queues.send_messages("jobs", [SendEntry(b"b")])
            calls: list[str] = []

            def before(call: str, owner: Any = owner, at: int = at, calls: list[str] = calls) -> None:
                calls.append(call)
                if len(calls) == at + 1:
                    asyncio.run_coroutine_threadsafe(meddle(owner), loop).result(30)

            files = HookedFiles(before)
            async with looking(path, clock, files=files) as engine:
                needed = len(calls)
                files.before = lambda call: None
                assert await contents(engine) == await contents(owner)
        shutil.rmtree(path)
        if needed <= at:
            break
    assert 15 < at < 200


async def test_a_reader_opens_at_any_step_of_a_settling(tmp_path: Path) -> None:
    """And finds the same: what is being settled, in whatever state its files are."""
    clock = ManualClock(START_MS)
    loop = asyncio.get_running_loop()
    wanted: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    armed = False

    async def look() -> dict[str, Any]:
        async with looking(tmp_path / "data", clock) as engine:
            return await contents(engine)

    def before(call: Any) -> None:
        if armed:
            found.append(asyncio.run_coroutine_threadsafe(look(), loop).result(30))

    async with opened(tmp_path / "data", clock, files=FaultyFiles(before=before)) as owner:
        await owner.streams.create_stream("s", 2)
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.queues.create_queue("jobs", QueueAttributes())
        for turn in range(2):
            await put(owner.streams, b"%d" % turn)
            await owner.queues.send_messages("jobs", [SendEntry(b"a")])
            await owner.tables.write([Put({"id": id_, "n": turn}, "table") for id_ in range(3)])
            wanted.append(await contents(owner))
            seen = len(found)
            armed = True
            await owner.settle()
            armed = False
            assert len(found) - seen > 10
            assert all(each == wanted[-1] for each in found[seen:])


# ---- no trace


async def test_it_leaves_no_trace(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    with message_ids():
        async with opened(tmp_path / "data", clock) as owner:
            for step in Script(owner, clock).steps():
                await step()
            await put(owner.streams, b"unsettled")
            await owner.tables.get("totals", [{"customer": "ann"}])  # Makes SQLite share memory with other processes.
            before = footprint(tmp_path / "data")
            async with looking(tmp_path / "data", clock) as engine:
                await contents(engine)
                assert await engine.tables.get("totals", [{"customer": "ann"}])
            assert footprint(tmp_path / "data") == before
    before = footprint(tmp_path / "data")
    async with looking(tmp_path / "data", clock) as engine:
        await contents(engine)
    assert footprint(tmp_path / "data") == before


def test_its_files_refuse_to_write(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    Path(path).write_bytes(b"as it was")
    files = ReadOnlyFiles()
    fd = files.open(path)
    writes: list[Callable[[], object]] = [
        lambda: files.make_directory(str(tmp_path / "new")),
        lambda: files.open(str(tmp_path / "new"), create=True),
        lambda: files.write(fd, b"x", 0),
        lambda: files.truncate(fd, 0),
        lambda: files.rename(path, str(tmp_path / "new")),
        lambda: files.remove(path),
        lambda: files.sync_directory(str(tmp_path)),
    ]
    for write in writes:
        with pytest.raises(OSError, match="opened read-only"):
            write()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    assert files.read(fd, 100, 0) == b"as it was"
    files.close(fd)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("path", ["nothing", "empty", "file", "strangers"])
async def test_a_directory_without_a_store_is_refused_and_left_alone(path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "thesis.tex").write_text("")
    before = footprint(tmp_path)
    with pytest.raises(StorageError, match=f"{path} holds no streamkit data: \\?mode=ro opens what is there"):
        await streamkit.open(f"{tmp_path / path}?mode=ro")
    assert footprint(tmp_path) == before


# ---- what is refused

REFUSED: dict[str, Callable[[Engine], Awaitable[object]]] = {
    "create stream 's'": lambda engine: engine.streams.create_stream("s", 1),
    "change stream 's'": lambda engine: engine.streams.update_stream("s", StreamAttributes()),
    "reshard stream 's'": lambda engine: engine.streams.reshard("s", Split(SHARD, 1)),
    "delete stream 's'": lambda engine: engine.streams.delete_stream("s"),
    "put records into stream 's'": lambda engine: engine.streams.put_records("s", [PutEntry("k", b"x")]),
    "create queue 'q'": lambda engine: engine.queues.create_queue("q", QueueAttributes()),
    "delete queue 'q'": lambda engine: engine.queues.delete_queue("q"),
    "send messages to queue 'q'": lambda engine: engine.queues.send_messages("q", [SendEntry(b"x")]),
    "receive from queue 'q'": lambda engine: engine.queues.receive_messages("q", 1),
    "delete messages of queue 'q'": lambda engine: engine.queues.delete_messages("q", ["1.1.1"]),
    "hide or show messages of queue 'q'": lambda engine: engine.queues.change_visibility(
        "q", [VisibilityEntry("1.1.1", 1)]
    ),
    "move messages out of queue 'q'": lambda engine: engine.queues.move_messages("q", ["m"], "dead"),
    "create table 'table'": lambda engine: engine.tables.create_table(TableSchema("table", "id")),
    "delete table 'table'": lambda engine: engine.tables.delete_table("table"),
    "write to table 'table'": lambda engine: engine.tables.write([Put({"id": 1}, "table")]),
    "commit a function's effects": lambda engine: engine.commit(Effects()),
}


@pytest.mark.parametrize("action", REFUSED)
async def test_what_would_change_something_is_refused(action: str, tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as owner:
        await owner.streams.create_stream("s", 1)
        await owner.queues.create_queue("q", QueueAttributes())
        await owner.tables.create_table(TableSchema("table", "id"))
    before = footprint(tmp_path)
    async with looking(tmp_path / "data") as engine:
        with pytest.raises(
            ReadOnlyError, match=r"is read-only; do it in the process that owns the directory"
        ) as caught:
            await REFUSED[action](engine)
    assert caught.value.action.startswith(action)
    assert caught.value.url == f"{tmp_path}/data?mode=ro"
    assert str(caught.value).startswith(f"cannot {action}")
    assert footprint(tmp_path) == before


async def test_closed_is_closed(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data") as owner:
        await owner.streams.create_stream("s", 1)
    async with looking(tmp_path / "data", clock) as engine:
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        waiting = asyncio.create_task(engine.streams.get_records(iterator, 1, 60_000))
        await clock.advance(1)
        await asyncio.gather(engine.aclose(), engine.aclose())
        with pytest.raises(ClosedError):
            await waiting
        for call in (engine.streams.list_streams(), engine.streams.get_records(iterator, 1, 1)):
            with pytest.raises(ClosedError):
                await call
        with pytest.raises(ClosedError):
            await engine.tables.describe_tables()


# ---- what is damaged


async def test_a_torn_tail_is_where_the_journal_ends_for_now(tmp_path: Path) -> None:
    """It is left as it is; once a new owner has cut it, what comes there is seen."""
    data = tmp_path / "data"
    clock = ManualClock(START_MS)
    owner = await open_file(data, clock)
    await owner.streams.create_stream("s", 1)
    await put(owner.streams, b"1")
    await put(owner.streams, b"torn" * 100)
    shutil.copytree(data, tmp_path / "crashed")
    await owner.aclose()
    segment = tmp_path / "crashed" / "journal" / "000000000001.log"
    torn = bytearray(segment.read_bytes())
    at = torn.rindex(b"torn")
    torn[at : at + 4] = bytes(4)
    segment.write_bytes(torn)
    before = footprint(tmp_path / "crashed")
    async with looking(tmp_path / "crashed", clock) as engine:
        assert await data_of(engine.streams) == [b"1"]
        assert footprint(tmp_path / "crashed") == before
        async with opened(tmp_path / "crashed", clock) as second:
            assert await data_of(engine.streams) == [b"1"]
            await put(second.streams, b"in its place")
            assert await data_of(engine.streams) == [b"1", b"in its place"]
        assert await data_of(engine.streams) == [b"1", b"in its place"]


@pytest.mark.parametrize("left", [0, 16, 32, 33, 100])
async def test_a_wal_of_its_header_alone_is_none(left: int, tmp_path: Path) -> None:
    """Its owner was killed when it had begun to settle: SQLite syncs the header before it writes what follows."""
    data = tmp_path / "data"
    async with opened(data) as owner:
        await owner.tables.create_table(TableSchema("items", "id"))
        await owner.tables.write([Put({"id": 1}, "items")])
        await owner.settle()
        (path,) = (data / "tables").glob("*.sqlite")
        other = sqlite3.connect(path)
        other.execute("PRAGMA user_version = 77")
        shutil.copytree(data, tmp_path / "killed")
        other.close()
    wal = tmp_path / "killed" / "tables" / f"{path.name}-wal"
    assert wal.stat().st_size > 100
    os.truncate(wal, left)
    async with asyncio.timeout(5), looking(tmp_path / "killed") as engine:
        assert (await engine.tables.scan("items")).items == [{"id": 1}]
    async with opened(tmp_path / "killed") as engine:
        assert (await engine.tables.scan("items")).items == [{"id": 1}]


async def test_damage_that_is_no_torn_tail_is_an_error(tmp_path: Path) -> None:
    owner = await open_file(tmp_path / "data")
    await owner.streams.create_stream("s", 1)
    for each in (b"first", b"second", b"third"):
        await put(owner.streams, each)
    shutil.copytree(tmp_path / "data", tmp_path / "damaged")
    await owner.aclose()
    segment = tmp_path / "damaged" / "journal" / "000000000001.log"
    segment.write_bytes(segment.read_bytes().replace(b"second", b"secomd"))
    with pytest.raises(CorruptLogError, match=r"frame 3 is damaged, but frame 4 after it is whole"):
        async with looking(tmp_path / "damaged"):
            pass


async def test_a_missing_file_is_an_error_and_no_settling(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as owner:
        await owner.streams.create_stream("s", 1)
        await put(owner.streams, b"1")
    (tmp_path / "data" / "streams" / "1" / "000000-000000000001.blk").unlink()
    async with looking(tmp_path / "data") as engine:
        with pytest.raises(CorruptLogError, match="the file is missing"):
            await data_of(engine.streams)
        assert await engine.streams.list_streams() == ["s"]
    (tmp_path / "data" / "journal" / "000000000001.log").unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        async with looking(tmp_path / "data"):
            pass


async def test_a_manifest_that_changes_all_the_time_is_given_up(tmp_path: Path) -> None:
    async with opened(tmp_path / "data"):
        pass
    manifest = tmp_path / "data" / MANIFEST

    def before(call: str) -> None:
        if call == "identity":
            shutil.copy(manifest, tmp_path / "copy")
            (tmp_path / "copy").replace(manifest)

    with pytest.raises(StorageError, match=r"was settled 20 times while it was being read: try again"):
        async with looking(tmp_path / "data", files=HookedFiles(before)):
            pass


# ---- settled items


async def test_a_table_that_its_dead_owner_left_half_written_is_read(tmp_path: Path) -> None:
    """A WAL that nobody checkpointed: SQLite reads it without what a live owner shares, and without touching it."""
    async with opened(tmp_path / "data") as owner:
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.tables.write([Put({"id": 1}, "table")])
    file = tmp_path / "data" / "tables" / "1.sqlite"
    left = tmp_path / "left"
    left.mkdir()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO items SELECT 2, sk, item FROM items")
    connection.commit()
    for name in ("1.sqlite", "1.sqlite-wal", "1.sqlite-shm"):
        shutil.copy(tmp_path / "data" / "tables" / name, left / name)
    connection.close()
    for name in os.listdir(left):
        shutil.copy(left / name, tmp_path / "data" / "tables" / name)
    assert (tmp_path / "data" / "tables" / "1.sqlite-wal").stat().st_size
    before = footprint(tmp_path / "data")
    async with looking(tmp_path / "data") as engine:
        assert await engine.tables.get("table", [{"id": 1}, {"id": 2}]) == [{"id": 1}, {"id": 1}]
    assert footprint(tmp_path / "data") == before


async def test_a_table_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner:
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.tables.write([Put({"id": 1}, "table")])
    (tmp_path / "data" / "tables" / "1.sqlite-wal").write_bytes(b"of a crash" * 100)
    async with looking(tmp_path / "data", clock) as engine:
        reading = asyncio.create_task(engine.tables.get("table", [{"id": 1}]))
        await clock.advance(9)
        assert not reading.done()
        await clock.advance(2)
        with pytest.raises(StorageError, match=r"open the directory once without \?mode=ro"):
            await reading


async def test_a_damaged_table_is_an_error_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as owner:
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.tables.write([Put({"id": number}, "table") for number in range(1_000)])
    file = tmp_path / "data" / "tables" / "1.sqlite"
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    async with looking(tmp_path / "data") as engine:
        with pytest.raises(StorageError, match=r"1\.sqlite failed"):
            await engine.tables.scan("table")


async def test_a_write_is_seen_whole_while_items_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a table is ahead of the manifest, and of the look, when the owner settles in between."""
    clock = ManualClock(START_MS)
    settles = 0
    wanted = 0
    is_still = SettledItems.is_still

    async with opened(tmp_path / "data", clock) as owner, looking(tmp_path / "data", clock) as engine:
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.tables.write([Put({"id": id_, "n": 0}, "table") for id_ in range(4)])
        await owner.settle()
        call = engine.tables._follower.call

        async def meddling(work: Any) -> Any:
            """The look is over; then the owner writes and settles, and only then is read."""

            async def late(stores: Any) -> Any:
                nonlocal settles
                if settles < 5:
                    settles += 1
                    await write()
                    await owner.settle()
                return await work(stores)

            return await call(late)

        async def write() -> None:
            nonlocal wanted
            wanted += 1
            # Not all at once in the journal's part that the reader has: one item is only in the file, one only there.
            await owner.tables.write([Put({"id": id_, "n": wanted}, "table") for id_ in range(4)])

        unsteady = 0

        def noted(base: SettledItems, version: Any) -> bool:
            nonlocal unsteady
            still = is_still(base, version)
            unsteady += not still
            return still

        assert await engine.tables.get("table", [{"id": 0}]) == [{"id": 0, "n": 0}]
        await owner.tables.write([Put({"id": 0, "n": 0}, "table")])
        await engine.tables.get("table", [{"id": 0}])
        monkeypatch.setattr(SettledItems, "is_still", noted)
        monkeypatch.setattr(engine.tables._follower, "call", meddling)
        found = await engine.tables.get("table", [{"id": id_} for id_ in range(4)])
        assert len({item["n"] for item in found if item is not None}) == 1
        assert settles == 5
        assert unsteady == 5


# ---- cancellation


async def test_cancelling_anything_anywhere_harms_nothing(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as owner:
        await owner.streams.create_stream("s", 1)
        await owner.tables.create_table(TableSchema("table", "id"))
        await owner.tables.write([Put({"id": 1}, "table")])
        await put(owner.streams, b"1")
        await owner.settle()
        await put(owner.streams, b"2")

        async def open_and_close() -> None:
            async with looking(tmp_path / "data", clock):
                pass

        async def is_the_same() -> None:
            assert await asyncio.to_thread(footprint, tmp_path) == before

        before = footprint(tmp_path)
        assert await cancel_at_every_step(open_and_close, is_the_same) > 0
        async with looking(tmp_path / "data", clock) as engine:
            iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")

            async def all_is_well() -> None:
                assert await data_of(engine.streams) == [b"1", b"2"]
                assert await engine.tables.get("table", [{"id": 1}]) == [{"id": 1}]

            for make in (
                lambda: engine.streams.get_records(iterator, 10),
                lambda: engine.tables.get("table", [{"id": 1}]),
                lambda: engine.streams.describe_stream("s"),
            ):
                assert await cancel_at_every_step(make, all_is_well) > 0


async def test_a_stream_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as owner, looking(tmp_path / "data") as engine:
        with pytest.raises(NotFoundError):
            await engine.streams.describe_stream("s")
        with pytest.raises(NotFoundError):
            await engine.tables.get("table", [{"id": 1}])
        await owner.streams.create_stream("s", 1)
        assert (await engine.streams.describe_stream("s")).name == "s"


async def test_a_consumer_says_why_it_cannot_be_entered(tmp_path: Path) -> None:
    """And what to use instead; looking needs no checkpoint."""
    async with streamkit.open(tmp_path / "data") as kit:
        orders = await kit.create_stream("orders", type=bytes)
        await orders.put_batch([("k", b"1"), ("k", b"2")])
        async with orders.consumer("billing") as consumer:
            batch = await anext(consumer.batches())
            await consumer.checkpoint(batch[0])
        url = f"{tmp_path / 'data'}?mode=ro"
        async with streamkit.open(url) as looking:
            seen = looking.stream("orders", type=bytes)
            with pytest.raises(ReadOnlyError, match=r"enter consumer 'billing', .* stream.tail\(follow=True\)"):
                async with seen.consumer("billing"):
                    pass
            assert [record.value for record in await seen.head(1)] == [b"1"]
            assert [record.value for record in await seen.tail(1)] == [b"2"]
            assert (await seen.lag("billing")).records == 1
            following = seen.tail(1, follow=True)
            assert (await anext(following)).value == b"2"
            waiting = asyncio.ensure_future(anext(following))
            await orders.put(b"3", partition_key="k")
            assert (await waiting).value == b"3"
            await following.aclose()

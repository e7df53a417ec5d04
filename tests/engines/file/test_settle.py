"""Settling: what the journal holds moves to where it stays, nobody sees it move, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import errno
import itertools
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import msgspec
import pytest

from streamkit.engines.base import Durability
from streamkit.engines.file import block, cold
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.errors import StorageError
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Delete, Put
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.contract.streams import everything
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.random_work import RandomWork
from tests.engines.file.terms import (
    START_MS,
    Contents,
    Held,
    after_crash,
    close_broken,
    kept,
    lost,
    open_file,
    opened,
    torn,
)

SHARD = "shardId-000000000000"


async def fill(engine: FileEngine, clock: ManualClock, *, seed: int = 1, steps: int = 60) -> RandomWork:
    """Something of everything."""
    work = RandomWork(engine, clock, Random(seed))
    for _ in range(steps):
        await work.step()
    return work


async def put(engine: FileEngine, *data: bytes) -> None:
    await engine.streams.put_records("s", [PutEntry("k", each) for each in data])


async def put_data(engine: FileEngine) -> list[bytes]:
    return [record.data for record in (await everything(engine.streams, "s"))[SHARD]]


def names(path: Path, folder: str, suffix: str) -> list[str]:
    return sorted(file.name for file in (path / folder).rglob(f"*{suffix}"))


# ---- what it does


async def test_records_items_and_messages_are_where_they_stay(tmp_path: Path) -> None:
    """Records in files of their shard, items in SQLite, messages in pages and snapshots; the journal is short again."""
    path = tmp_path / "data"
    async with opened(path) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.queues.create_queue("jobs", QueueAttributes())
        await engine.tables.create_table(TableSchema("totals", "id", "day"))
        for number in range(20):
            await put(engine, b"%d" % number * 1_000)
        await engine.queues.send_messages("jobs", [SendEntry(b"x")])
        await engine.tables.write([Put({"id": "a", "day": 1}, "totals"), Put({"id": "a", "day": 2}, "totals")])
        before = await contents(engine)
        assert len(names(path, "journal", ".log")) > 1
        await engine.settle()
        assert await contents(engine) == before
        assert names(path, "streams", ".blk") == ["000000-000000000001.blk"]
        assert names(path, "queues", ".pages") == ["2-000000000002.pages"]
        assert names(path, "queues", ".snap") == ["2-000000000003.snap"]
        with sqlite3.connect(path / "tables" / "3.sqlite") as connection:
            rows = connection.execute("SELECT pk, sk, item FROM items ORDER BY pk, sk").fetchall()
            about = dict(connection.execute("SELECT name, value FROM about"))
        connection.close()
        assert [(pk, sk, msgspec.msgpack.decode(item)) for pk, sk, item in rows] == [
            ("a", 1, {"id": "a", "day": 1}),
            ("a", 2, {"id": "a", "day": 2}),
        ]
        assert about == {"table": "totals", "partition_key": "id", "sort_key": "day"}
        (stream,) = engine._stores.streams.by_id.values()
        assert stream.shards[0].data == []
        position = engine._settler._manifest.position
        assert min(int(name.removesuffix(".log")) for name in names(path, "journal", ".log")) == position.segment


async def test_reads_are_the_same_before_during_and_after(tmp_path: Path) -> None:
    """At every call of the settling to the disk."""
    held = Held("streamkit-settle")
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock, files=FaultyFiles(before=held)) as engine:
        await fill(engine, clock)
        looked = 0
        for _ in range(2):
            before = await contents(engine)
            held.holding = True
            settling: asyncio.Task[object] = asyncio.create_task(engine.settle())
            while await held.reached(settling):
                assert await contents(engine) == before
                looked += 1
                held.let_through()
            await settling
            held.holding = False
            assert await contents(engine) == before
            await fill(engine, clock, seed=2, steps=20)
        assert looked > 10


@pytest.mark.parametrize("seed", [3, 4, 8, 9, 10, 11])
async def test_work_goes_on_while_it_settles(seed: int, tmp_path: Path) -> None:
    """Whatever happens between two calls of the settling to the disk is there afterwards, and after a kill."""
    held = Held("streamkit-settle")
    clock = ManualClock(START_MS)
    files = FaultyFiles(before=held)
    async with opened(tmp_path / "data", clock, files=files) as engine:
        work = await fill(engine, clock, seed=seed)
        work.usual.remove("do_settle")
        for crash in range(3):
            held.holding = True
            settling: asyncio.Task[object] = asyncio.create_task(engine.settle())
            while await held.reached(settling):
                for _ in range(3):
                    await work.step()
                held.let_through()
            await settling
            held.holding = False
            live = await contents(engine)
            # A power loss could take a receive of the last 100 ms back.
            await after_crash(files, tmp_path / "data", tmp_path / f"{crash}", kept)
            async with opened(tmp_path / f"{crash}", ManualClock(clock.now_ms())) as again:
                assert await contents(again) == live


async def test_many_blocks_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "BLOCK_BYTES", 500)
    monkeypatch.setattr(cold, "FILE_BYTES", 2_000)
    monkeypatch.setattr(cold, "_BYTES_KEPT", 1_500)
    clock = ManualClock(START_MS)
    wanted: list[bytes] = []
    async with opened(tmp_path / "data", clock) as engine:
        await engine.streams.create_stream("s", 1)
        for settling in range(6):
            data = [b"%d-%d" % (settling, number) * 30 for number in range(12)]
            await put(engine, *data)
            wanted += data
            await engine.settle()
            assert await put_data(engine) == wanted
            await clock.advance(1)
    assert len(names(tmp_path / "data", "streams", ".blk")) > 2
    async with opened(tmp_path / "data", clock) as engine:
        assert await put_data(engine) == wanted
        for second in range(7):
            at = START_MS + second * 1_000
            iterator = await engine.streams.get_shard_iterator("s", SHARD, "AT_TIMESTAMP", timestamp_ms=at)
            records = (await engine.streams.get_records(iterator, 1)).records
            assert [record.data for record in records] == wanted[second * 12 : second * 12 + 1]


# ---- what goes


async def test_an_emptied_queue_does_not_come_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "live") as engine:
        await engine.queues.create_queue("jobs", QueueAttributes())
        await engine.queues.send_messages("jobs", [SendEntry(b"x"), SendEntry(b"y")])
        await engine.settle()
        assert len(names(tmp_path / "live", "queues", ".snap")) == 1
        received = await engine.queues.receive_messages("jobs", 10)
        await engine.queues.delete_messages("jobs", [message.receipt_handle for message in received])
        shutil.copytree(tmp_path / "live", tmp_path / "before")
        await engine.settle()
        assert names(tmp_path / "live", "queues", ".snap") == []
        shutil.copytree(tmp_path / "live", tmp_path / "after")
    for path in ("before", "after", "live"):
        async with opened(tmp_path / path) as engine:
            (jobs,) = await engine.queues.describe_queues()
            assert (jobs.visible, jobs.not_visible, jobs.delayed) == (0, 0, 0)


async def test_files_of_what_was_deleted_go(tmp_path: Path) -> None:
    path = tmp_path / "data"
    async with opened(path) as engine:
        for name in ("gone", "kept"):
            await engine.streams.create_stream(name, 1)
            await engine.queues.create_queue(name, QueueAttributes())
            await engine.tables.create_table(TableSchema(name, "id"))
            await engine.streams.put_records(name, [PutEntry("k", b"x")])
            await engine.queues.send_messages(name, [SendEntry(b"x")])
            await engine.tables.write([Put({"id": 1}, name)])
        await engine.settle()
        assert await engine.tables.get("gone", [{"id": 1}]) == [{"id": 1}]
        await engine.streams.delete_stream("gone")
        await engine.queues.delete_queue("gone")
        await engine.tables.delete_table("gone")
        await engine.settle()
        left = [file.relative_to(path).parts for file in path.rglob("*") if file.is_file()]
        assert sorted(parts[1] for parts in left if parts[0] == "streams") == ["4"]
        assert {parts[1].partition("-")[0] for parts in left if parts[0] == "queues"} == {"5"}
        assert {parts[1][:1] for parts in left if parts[0] == "tables"} == {"6"}
        assert engine._cold._shards.keys() == {(4, 0)}


async def test_a_deleted_item_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a settling failed, or crashed, after SQLite had it and before that counted."""
    apply = SqliteItems.apply

    def apply_and_fail(items: SqliteItems, entries: object, *, afresh: bool) -> None:
        apply(items, entries, afresh=afresh)  # type: ignore[arg-type]
        raise StorageError("after it was stored")

    async with opened(tmp_path / "live") as engine:
        await engine.tables.create_table(TableSchema("table", "id"))
        await engine.tables.write([Put({"id": "gone"}, "table"), Put({"id": "kept"}, "table")])
        with monkeypatch.context() as patch:
            patch.setattr(SqliteItems, "apply", apply_and_fail)
            with pytest.raises(StorageError, match="after it was stored"):
                await engine.settle()
        shutil.copytree(tmp_path / "live", tmp_path / "crashed")
        await engine.tables.write([Delete({"id": "gone"}, "table")])
        await engine.settle()
        assert (await engine.tables.scan("table")).items == [{"id": "kept"}]
    for path in ("live", "crashed"):
        async with opened(tmp_path / path) as engine:
            await engine.tables.write([Delete({"id": "gone"}, "table")])
            await engine.settle()
            assert (await engine.tables.scan("table")).items == [{"id": "kept"}]
        async with opened(tmp_path / path) as engine:
            assert await engine.tables.get("table", [{"id": "gone"}]) == [None]


# ---- failures and crashes


@pytest.fixture
async def store(tmp_path: Path) -> tuple[Path, int]:
    """A crashed store that settled once and has something new of everything in its journal; what time it was then."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "live", clock) as engine:
        work = await fill(engine, clock, seed=5, steps=40)
        await engine.settle()
        work.usual.remove("do_settle")
        for _ in range(40):
            await work.step()
        shutil.copytree(tmp_path / "live", tmp_path / "store")
    return tmp_path / "store", clock.now_ms()


async def open_copy(
    store: tuple[Path, int], path: Path, files: FaultyFiles, durability: Durability = "fsync"
) -> tuple[FileEngine, list[Contents]]:
    """A copy of the store with some more work done on it, and what it held after each piece of that."""
    shutil.copytree(store[0], path)
    clock = ManualClock(store[1])
    engine = await open_file(path, clock, files=files, durability=durability)
    work = RandomWork(engine, clock, Random(1), only=("do_write", "do_put", "do_send", "do_commit", "do_receive"))
    states = [await contents(engine)]
    for _ in range(6):
        await work.step()
        states.append(await contents(engine))
    return engine, states


async def left(files: FaultyFiles, path: Path, name: str, survives: Callable[[], bool], now_ms: int) -> Contents:
    destination = path.with_name(f"{path.name}-{name}")
    await after_crash(files, path, destination, survives)
    async with opened(destination, ManualClock(now_ms)) as engine:
        replayed = await contents(engine)
    async with opened(destination, ManualClock(now_ms)) as engine:
        assert await contents(engine) == replayed
    return replayed


async def test_a_settling_that_fails_loses_nothing_and_a_later_one_succeeds(
    store: tuple[Path, int], tmp_path: Path
) -> None:
    """Whichever call of it fails."""
    failed = 0
    for at in itertools.count():
        path, files = tmp_path / f"{at}", FaultyFiles()
        engine, (*_, live) = await open_copy(store, path, files)
        first = len(files.calls)
        files.fail[first + at] = errno.EIO
        try:
            await engine.settle()
        except StorageError:
            failed += 1
        needed = len(files.calls) - first
        files.fail.clear()
        assert await contents(engine) == live
        assert await left(files, path, "failed", lost, store[1]) == live
        await engine.settle()
        assert await contents(engine) == live
        assert await left(files, path, "settled", lost, store[1]) == live
        assert names(path, ".", ".new") == []
        await engine.aclose()
        assert files.open_paths() == []
        if needed <= at:
            break
    assert failed > 20


async def test_a_crash_after_a_settling_that_failed_at_the_last_moment(store: tuple[Path, int], tmp_path: Path) -> None:
    """Its manifest may be there or not. Nothing that either of the two names is written over by the next settling."""
    crashes = 0
    for operation in ("rename", "sync_directory"):
        for at in itertools.count():
            path, files = tmp_path / f"{operation}-{at}", FaultyFiles()
            engine, (*_, live) = await open_copy(store, path, files)
            replaced = len([call for call in files.calls if _is_of_manifest(call, operation, path)])

            def fail(call: Call, files: FaultyFiles = files, operation: str = operation, path: Path = path) -> None:
                if _is_of_manifest(call, operation, path) and not files.fail:
                    files.fail[call.number] = errno.EIO

            files.before = fail
            with pytest.raises(StorageError):
                await engine.settle()
            assert len([call for call in files.calls if _is_of_manifest(call, operation, path)]) == replaced + 1
            first = len(files.calls)
            files.crash_at = first + at
            with suppress(StorageError):
                await engine.settle()
            needed = len(files.calls) - first
            await close_broken(engine)
            for name, survives in (("lost", lost), ("torn", torn(at))):
                found = await left(files, path, name, survives, store[1])
                assert found == live, f"crash at {files.calls[first + at]}, {name}"
                crashes += 1
            if needed <= at:
                break
    assert crashes > 80


def _is_of_manifest(call: Call, operation: str, path: Path) -> bool:
    place = path if operation == "sync_directory" else path / "MANIFEST"
    return call.operation == operation and call.path == str(place)


@pytest.mark.parametrize("durability", ["fsync", "interval"])
async def test_a_crash_at_every_call_of_a_settling(
    durability: Durability, store: tuple[Path, int], tmp_path: Path
) -> None:
    for at in itertools.count():
        path, files = tmp_path / f"{at}", FaultyFiles()
        engine, states = await open_copy(store, path, files, durability)
        first = len(files.calls)
        files.crash_at = first + at
        with suppress(StorageError):
            await engine.settle()
        needed = len(files.calls) - first
        await close_broken(engine)
        for name, survives in (("lost", lost), ("torn", torn(at))):
            found = await left(files, path, name, survives, store[1])
            # Before the journal is synced anything may be lost of what was not, but only from the end.
            possible = states[-1:] if durability == "fsync" else states
            assert found in possible, f"{files.calls[first + at]}, {name}"
        if needed <= at:
            break
    assert at > 20

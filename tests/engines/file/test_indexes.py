"""Indexes in files: they equal their items after whatever happened, and whoever looks sees the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit.engines.file.backup import backup
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.readonly import ReadOnlyEngine
from streamkit.engines.file.verify import verify
from streamkit.errors import StorageError
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.store import TableStore
from streamkit.tables.write import Delete, Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.indexes import ALL, BY_PLACE, BY_STATUS, BY_TOTAL, build, entries, in_step, order
from streamkit.testing.contract.tables import ORDERS
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import LIMITS, START_MS, after_crash, close_broken, kept, lost, open_file, opened

KEYS = st.integers(0, 5)
STATUSES = st.sampled_from(["new", "paid", 1, b"x", None])
TOTALS = st.sampled_from([-1, 0, 1.5, 2, "2", None])
PLACES = st.sampled_from(["p", "q", None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, STATUSES, TOTALS, PLACES),
        st.tuples(st.just("set"), KEYS, STATUSES, TOTALS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("build"), st.integers(1, 3)),
        st.tuples(st.just("attributes"), st.integers(0, 3)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash")),
    ),
    max_size=40,
)
CHANGES = [
    TableAttributes((BY_TOTAL,)),
    TableAttributes((BY_TOTAL, BY_STATUS)),
    TableAttributes((BY_TOTAL, BY_PLACE), "total"),
    TableAttributes((BY_TOTAL, BY_STATUS, BY_PLACE)),
]


def given_ones(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


async def play(steps: list[tuple[Any, ...]], folder: Path) -> None:
    clock = ManualClock(START_MS)
    path = folder / "data"
    engine = await FileEngine.open(path, clock=clock, limits=LIMITS)
    await engine.tables.create_table(ORDERS, CHANGES[0])
    try:
        for number, (what, *values) in enumerate(steps):
            tables = engine.tables
            key = {"customer": f"c{values[0] % 3}", "order": values[0]} if values else {}
            if what == "put":
                attributes = given_ones(status=values[1], total=values[2], place=values[3], step=number)
                await tables.write([order(values[0], **attributes)])
            elif what == "set":
                chosen = given_ones(status=values[1], total=values[2])
                await tables.write([Update(key=key, set=chosen, remove=("place",), table="orders")])
            elif what == "delete":
                await tables.write([Delete(key, "orders")])
            elif what == "build":
                await tables.build_indexes("orders", values[0])
            elif what == "attributes":
                await tables.update_table("orders", CHANGES[values[0]])
            elif what == "settle":
                await engine.settle()
            elif what == "reopen":
                await engine.aclose()
                engine = await FileEngine.open(path, clock=clock, limits=LIMITS)
            else:
                crashed = folder / f"crashed-{number}"
                await asyncio.to_thread(shutil.copytree, path, crashed, ignore=shutil.ignore_patterns("*.new"))
                await engine.aclose()
                path = crashed
                engine = await FileEngine.open(path, clock=clock, limits=LIMITS)
            await in_step(engine.tables)
        await build(engine.tables)
        await in_step(engine.tables)
    finally:
        await engine.aclose()


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_index_equals_its_items_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(steps, Path(folder)))


async def filled(tables: TableStore, count: int = 30) -> None:
    await tables.create_table(ORDERS, ALL)
    await tables.write([order(n, status="new", total=n % 5, place=f"p{n % 2}", note=n) for n in range(count)])


async def test_settled_entries_are_in_files_of_their_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await filled(engine.tables)
        await engine.settle()
        files = [name for name in os.listdir(tmp_path / "data" / "tables") if name.endswith(".sqlite")]
        assert len(files) == 4
        rows = []
        for name in files:
            with closing(sqlite3.connect(tmp_path / "data" / "tables" / name)) as database:
                rows.append(database.execute("SELECT count(*) FROM items").fetchone()[0])
        assert rows == [30, 30, 30, 30]
        await engine.tables.write([Delete({"customer": "c0", "order": 0}, "orders"), order(1, status="paid", total=1)])
        await in_step(engine.tables)
        await engine.tables.update_table("orders", TableAttributes((BY_TOTAL,)))
        await engine.settle()
        left = [name for name in os.listdir(tmp_path / "data" / "tables") if name.endswith(".sqlite")]
        assert len(left) == 2
        await in_step(engine.tables)


async def test_nothing_is_rebuilt_at_an_opening(tmp_path: Path) -> None:
    """Entries come from their own file: the items' file is not read for them."""
    async with opened(tmp_path / "data") as engine:
        await filled(engine.tables)
    async with opened(tmp_path / "data") as engine:
        for table in engine._stores.tables.by_id.values():
            assert all(not index.items.newest and index.items.base is not None for index in table.indexes)
        await in_step(engine.tables)


async def written_until(path: Path, crash_at: int | None) -> FaultyFiles:
    """Entries change between two settlings, and the disk goes at one call. SQLite's own calls are not counted."""
    files = FaultyFiles(crash_at=crash_at)
    engine = None
    try:
        engine = await open_file(path, files=files)
        await filled(engine.tables, 5)
        await engine.settle()
        await engine.tables.write([order(1, status="paid", total=7), Delete({"customer": "c2", "order": 2}, "orders")])
        await engine.settle()
        await engine.tables.update_table("orders", TableAttributes((BY_TOTAL, BY_PLACE)))
        await engine.tables.update_table("orders", TableAttributes((BY_TOTAL, BY_PLACE, BY_STATUS)))
        await engine.tables.build_indexes("orders", 2)
        await engine.tables.write([order(1, status="late", total=3)])
        await engine.settle()
        await build(engine.tables)
    except (OSError, StorageError):
        pass
    if engine is not None:
        await close_broken(engine)
    return files


async def test_a_crash_at_every_call_leaves_indexes_in_step(tmp_path: Path) -> None:
    """Files of items and of entries may be ahead of the manifest, each as far as it came."""
    calls = len((await written_until(tmp_path / "whole", None)).calls)
    seen = 0
    for crash_at in range(calls):
        files = await written_until(tmp_path / f"data-{crash_at}", crash_at)
        for number, survives in enumerate((lost, kept)):
            copy = tmp_path / f"crashed-{crash_at}-{number}"
            await after_crash(files, tmp_path / f"data-{crash_at}", copy, survives)
            async with opened(copy) as again:
                if await again.tables.describe_tables():
                    await in_step(again.tables)
                    await build(again.tables)
                    await in_step(again.tables)
                    seen += 1
    assert seen > calls


async def test_who_only_looks_sees_the_indexes_too(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await filled(engine.tables, 9)
        await engine.settle()
        await engine.tables.write([order(1, status="paid", total=7)])
        looking = await ReadOnlyEngine.open(tmp_path / "data", clock=clock, limits=LIMITS)
        try:
            await in_step(looking.tables)
            await engine.tables.write(
                [order(2, status="paid", total=7), Delete({"customer": "c0", "order": 0}, "orders")]
            )
            await in_step(looking.tables)
            await engine.settle()
            await in_step(looking.tables)
            await engine.tables.update_table("orders", TableAttributes((BY_TOTAL, BY_PLACE)))
            await engine.tables.update_table("orders", TableAttributes((BY_TOTAL, BY_STATUS, BY_PLACE)))
            await engine.tables.build_indexes("orders", 4)
            assert (await looking.tables.describe_tables(["orders"]))[0].building == ("by-status",)
            await engine.tables.write([order(1, status="x", total=1), order(20, status="x", total=1)])
            await engine.settle()
            await in_step(looking.tables)
            await build(engine.tables)
            await in_step(looking.tables)
            assert await entries(looking.tables, "by-status") == await entries(engine.tables, "by-status")
            await engine.settle()
            assert await entries(looking.tables, "by-status") == await entries(engine.tables, "by-status")
        finally:
            await looking.aclose()


async def test_a_backup_has_the_indexes_and_is_sound(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await filled(engine.tables)
        await engine.settle()
        await engine.tables.write([order(1, status="paid", total=7)])
        await asyncio.to_thread(backup, str(tmp_path / "data"), str(tmp_path / "copy"))
    report = await asyncio.to_thread(verify, str(tmp_path / "copy"))
    assert report.findings == []
    assert report.items == 30
    async with opened(tmp_path / "copy") as engine:
        await in_step(engine.tables)
        assert [item["order"] for item in (await engine.tables.query("orders", "paid", index="by-status")).items] == [1]

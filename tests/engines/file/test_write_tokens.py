"""Tokens of atomic writes on a disk: there with what was written, or neither is; for ten minutes, whatever happens."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from streamkit.engines.base import Engine
from streamkit.errors import IdempotentParameterMismatchError, StorageError
from streamkit.tables.idempotency import TOKENS
from streamkit.tables.item import TableSchema
from streamkit.tables.transact_get import Get
from streamkit.tables.write import Update, Write
from streamkit.testing.clock import ManualClock
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import (
    START_MS,
    Held,
    after_crash,
    close_broken,
    kept,
    lost,
    open_file,
    opened,
    torn,
)

CALLS = 3


def adding(number: int) -> list[Write]:
    """Writes that are not the same when they are done twice."""
    return [Update(key={"id": number}, add={"n": 1}, table=table) for table in ("these", "those")]


async def set_up(engine: Engine) -> None:
    for table in ("these", "those"):
        await engine.tables.create_table(TableSchema(table, "id"))


async def times(engine: Engine, number: int) -> int:
    """How often a call was done; of both its tables."""
    found = await engine.tables.transact_get([Get({"id": number}, table) for table in ("these", "those")])
    these, those = (0 if item is None else item["n"] for item in found)
    assert these == those, "a call was done in part"
    return int(these)


@pytest.mark.parametrize("settles", [False, True])
async def test_a_crash_at_every_call_of_a_write_with_a_token(settles: bool, tmp_path: Path) -> None:
    """Whatever is left of it: repeated with the same tokens, every call was done once."""
    at = 0
    while True:
        files = FaultyFiles()
        path = tmp_path / f"{at}"
        engine = await open_file(path, files=files)
        await set_up(engine)
        files.crash_at = len(files.calls) + at
        acknowledged = 0
        try:
            for number in range(CALLS):
                await engine.tables.write(adding(number), f"token {number}")
                acknowledged += 1
                if settles:
                    await engine.settle()
        except StorageError:
            pass
        crashed = files.crashed
        await close_broken(engine)
        for survives, name in ((lost, "lost"), (torn(at), "torn"), (kept, "kept")):
            left = tmp_path / f"{at}-{name}"
            await after_crash(files, path, left, survives)
            async with opened(left) as engine:
                done = [await times(engine, number) for number in range(CALLS)]
                assert done[:acknowledged] == [1] * acknowledged
                for number in range(CALLS):
                    await engine.tables.write(adding(number), f"token {number}")
                assert [await times(engine, number) for number in range(CALLS)] == [1] * CALLS
                for number in range(acknowledged):
                    with pytest.raises(IdempotentParameterMismatchError):
                        await engine.tables.write(adding(number + 1), f"token {number}")
        if not crashed:
            break
        at += 1
    assert at > 5


async def test_a_token_outlives_settling_and_the_process_for_ten_minutes(tmp_path: Path) -> None:
    """By the clock that the engine is given, also if nobody deletes what has expired."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await set_up(engine)
        await engine.tables.write(adding(1), "token")
        await engine.settle()
        await engine.tables.write(adding(2), "other")
        shutil.copytree(tmp_path / "data", tmp_path / "killed", ignore=shutil.ignore_patterns("*.new"))
    for path in (tmp_path / "data", tmp_path / "killed"):
        clock = ManualClock(START_MS)
        for _ in range(2):
            async with opened(path, clock) as engine:
                await clock.advance(299)
                await engine.tables.write(adding(1), "token")
                await engine.tables.write(adding(2), "other")
                assert (await times(engine, 1), await times(engine, 2)) == (1, 1)
        async with opened(path, clock) as engine:
            await clock.advance(2)
            await engine.tables.write(adding(1), "token")
            assert await times(engine, 1) == 2


async def test_ten_minutes_begin_when_the_first_call_has_finished(tmp_path: Path) -> None:
    """It may hang on its disk for longer than that; a repetition meanwhile waits for it."""
    clock = ManualClock(START_MS)
    held = Held("streamkit-journal")
    async with opened(tmp_path / "data", clock, files=FaultyFiles(before=held)) as engine:
        await set_up(engine)
        await engine.tables.write(adding(0), "makes the table of tokens")
        engine._journal._sync_seconds = 1.0  # A slow disk has its commits in a thread.
        held.holding = True
        first = asyncio.create_task(engine.tables.write(adding(1), "token"))
        assert await held.reached(first)
        await clock.advance(3_600)
        again = asyncio.create_task(engine.tables.write(adding(1), "token"))
        with pytest.raises(IdempotentParameterMismatchError):
            await engine.tables.write(adding(2), "token")
        assert not first.done()
        assert not again.done()
        held.let_all_through()
        await asyncio.gather(first, again)
        for _ in range(2):
            await clock.advance(299)
            await engine.tables.write(adding(1), "token")
        assert await times(engine, 1) == 1
        await clock.advance(3)
        await engine.tables.write(adding(1), "token")
        assert await times(engine, 1) == 2


async def test_expired_tokens_take_no_room(tmp_path: Path) -> None:
    """The table of tokens holds those of ten minutes."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await set_up(engine)
        for number in range(50):
            await engine.tables.write(adding(1), f"{number}")
            await clock.advance(60)
            while await engine.tables.expire_items(TOKENS.name):
                pass
            assert len((await engine.tables.scan(TOKENS.name)).items) <= 11
        assert await times(engine, 1) == 50


@pytest.mark.parametrize("goes", ["expires", "with its table"])
async def test_a_token_whose_call_hangs_stays_whatever_becomes_of_its_item(goes: str, tmp_path: Path) -> None:
    """What is kept in the table may go before the call has finished: its ten minutes have not begun."""
    clock = ManualClock(START_MS)
    held = Held("streamkit-journal")
    async with opened(tmp_path / "data", clock, files=FaultyFiles(before=held)) as engine:
        await set_up(engine)
        await engine.tables.write(adding(0), "makes the table of tokens")
        engine._journal._sync_seconds = 1.0  # A slow disk has its commits in a thread.
        held.holding = True
        first = asyncio.create_task(engine.tables.write(adding(1), "token"))
        assert await held.reached(first)
        await clock.advance(3_600)
        tables = engine.tables
        gone = asyncio.ensure_future(
            tables.expire_items(TOKENS.name) if goes == "expires" else tables.delete_table(TOKENS.name)
        )
        await asyncio.sleep(0)
        again = asyncio.create_task(engine.tables.write(adding(1), "token"))
        await asyncio.sleep(0)
        with pytest.raises(IdempotentParameterMismatchError):
            await engine.tables.write(adding(2), "token")
        assert not again.done()
        held.let_all_through()
        await asyncio.gather(first, gone, again)
        assert await times(engine, 1) == 1
        assert await times(engine, 2) == 0


async def test_a_crash_right_after_a_call_that_hung_leaves_its_token(tmp_path: Path) -> None:
    """The call was acknowledged, so from then on there are ten minutes."""
    clock = ManualClock(START_MS)
    held = Held("streamkit-journal")
    async with opened(tmp_path / "data", clock, files=FaultyFiles(before=held)) as engine:
        await set_up(engine)
        await engine.tables.write(adding(0), "makes the table of tokens")
        engine._journal._sync_seconds = 1.0  # A slow disk has its commits in a thread.
        held.holding = True
        first = asyncio.create_task(engine.tables.write(adding(1), "token"))
        assert await held.reached(first)
        await clock.advance(3_600)
        held.let_through()
        while await held.reached(first):
            held.let_through()
        await first
        shutil.copytree(tmp_path / "data", tmp_path / "killed", ignore=shutil.ignore_patterns("*.new"))
        held.let_all_through()
    async with opened(tmp_path / "killed", clock) as engine:
        assert await times(engine, 1) == 1
        await engine.tables.write(adding(1), "token")
        assert await times(engine, 1) == 1

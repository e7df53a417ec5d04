"""Retention on disk: files go, and readers are never given another record's bytes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamkit.engines.file import cold
from streamkit.engines.file.engine import FileEngine
from streamkit.streams.store import PutEntry, Split, StreamAttributes
from streamkit.testing.clock import ManualClock
from tests.engines.file.terms import START_MS, open_file, opened

SHARD = "shardId-000000000000"
DAY = 86_400


def blocks(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.rglob("*.blk"))


def is_settling(engine: FileEngine) -> bool:
    return engine._settler._task is not None


async def fill(engine: FileEngine, clock: ManualClock, days: int) -> None:
    """One record a day, each in a file of its own."""
    for day in range(days):
        await engine.streams.put_records("s", [PutEntry("k", b"day %d" % day)])
        await engine.settle()
        await clock.advance(DAY)


@pytest.fixture(autouse=True)
def a_file_for_each_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "FILE_BYTES", 1)


async def test_whole_files_go_and_what_is_left_is_read(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.streams.create_stream("s", 1, StreamAttributes(retention_ms=3 * DAY * 1000 + 1))
        await fill(engine, clock, 6)
        await engine.settle()
        assert len(blocks(tmp_path / "data")) == 3
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "AT_SEQUENCE_NUMBER", sequence_number=1)
        batch = await engine.streams.get_records(iterator, 10)
        assert ([record.data for record in batch.records], batch.trimmed) == ([b"day 3", b"day 4", b"day 5"], 3)
    async with opened(tmp_path / "data", clock) as engine:
        (shard,) = (await engine.streams.describe_stream("s")).shards
        assert (shard.trim_horizon, shard.latest_sequence_number) == (3, 6)


async def test_a_shard_that_expired_does_not_come_back(tmp_path: Path) -> None:
    """With a longer retention, when the journal is replayed."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.streams.create_stream("s", 1, StreamAttributes(retention_ms=1_000))
        await engine.streams.reshard("s", Split(SHARD, 2**127))
        await clock.advance(2)
        live = (await engine.streams.describe_stream("s")).shards
        assert len(live) == 2
        await engine.streams.update_stream("s", StreamAttributes(retention_ms=DAY * 1_000))
        await asyncio.to_thread(shutil.copytree, tmp_path / "data", tmp_path / "killed")
    for path in ("killed", "data"):
        async with opened(tmp_path / path, clock) as engine:
            assert (await engine.streams.describe_stream("s")).shards == live


async def test_they_go_also_where_nothing_is_written_any_more(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.streams.create_stream("s", 1)
        await fill(engine, clock, 1)
        engine._settler._look()
        assert not is_settling(engine), "nothing is too old yet"
        await clock.advance(1)
        engine._settler._look()
        settling = engine._settler._task
        assert settling is not None
        await settling
        assert blocks(tmp_path / "data") == []
        assert (await engine.streams.describe_stream("s")).shards[0].trim_horizon == 1


async def test_a_file_never_holds_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What expired in memory, before it was settled, leaves the shard's last file as it is."""
    monkeypatch.setattr(cold, "FILE_BYTES", 10**9)
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", b"1"), PutEntry("k", b"2")])
        await engine.settle()
        await engine.streams.put_records("s", [PutEntry("k", b"3")])
        await clock.advance(DAY + 1)
        await engine.streams.put_records("s", [PutEntry("k", b"4")])
        await engine.settle()
        assert len(blocks(tmp_path / "data")) == 1
    async with opened(tmp_path / "data", clock) as engine:
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "AFTER_SEQUENCE_NUMBER", sequence_number=0)
        batch = await engine.streams.get_records(iterator, 10)
        assert ([(r.sequence_number, r.data) for r in batch.records], batch.trimmed) == ([(4, b"4")], 3)


async def test_readers_and_retention_race(tmp_path: Path) -> None:
    """Records and what was missed add up to what was put, whatever settles, expires and is read at the same time."""
    random = Random(5)
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.streams.create_stream("s", 1, StreamAttributes(retention_ms=600_000))
        iterators = {reader: await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON") for reader in range(3)}
        told = dict.fromkeys(iterators, 0)
        put = 0

        async def read(reader: int, limit: int) -> int:
            batch = await engine.streams.get_records(iterators[reader], limit)
            assert batch.next_iterator is not None
            iterators[reader] = batch.next_iterator
            told[reader] += batch.trimmed
            for record in batch.records:
                assert record.data == b"%d" % told[reader], "its bytes are those of its number"
                told[reader] += 1
            return len(batch.records)

        for _ in range(150):
            entries = [PutEntry("k", b"%d" % (put + at)) for at in range(random.randrange(1, 5))]
            put += len(entries)
            doing: list[Coroutine[Any, Any, object]] = [engine.streams.put_records("s", entries)]
            reads = [reader for reader in iterators if random.random() < 0.5]
            doing += [read(reader, random.randrange(1, 6)) for reader in reads]
            if random.random() < 0.3:
                doing.append(engine.settle())
            await asyncio.gather(*doing)
            # Iterators live five minutes.
            await clock.advance(random.choice((0, 1, 30, 59)))
            for reader in iterators:
                await read(reader, 1)
        for reader in iterators:
            while await read(reader, 1000):
                pass
        assert set(told.values()) == {put}


async def test_a_clock_that_is_set_back_loses_nothing(tmp_path: Path) -> None:
    """The horizon stands before the first record that is young enough, also when older ones came after it."""
    async with opened(tmp_path / "data", ManualClock(START_MS + 1000 * DAY)) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", b"from the future")])
    clock = ManualClock(START_MS)
    engine = await open_file(tmp_path / "data", clock)
    await engine.streams.put_records("s", [PutEntry("k", b"now")])
    await engine.settle()
    await clock.advance(2 * DAY)
    iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    records = (await engine.streams.get_records(iterator, 10)).records
    assert [record.data for record in records] == [b"from the future", b"now"]
    await engine.aclose()

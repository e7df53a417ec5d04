"""Whoever reads on finds what follows on its way, and nobody else notices it."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from streamkit.engines.file import block, cold
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import StorageError
from streamkit.streams.store import PutEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.terms import START_MS, open_file, opened

SHARD = "shardId-000000000000"
RECORDS = 120


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some three records, runs of two blocks, and room for three runs."""
    monkeypatch.setattr(block, "BLOCK_BYTES", 400)
    monkeypatch.setattr(cold, "_BYTES_AHEAD", 1_000)
    monkeypatch.setattr(cold, "_BYTES_KEPT", 3_000)


async def settled(path: Path) -> list[bytes]:
    """A store whose records are all in blocks."""
    data = [b"%03d" % number * 40 for number in range(RECORDS)]
    async with opened(path, ManualClock(START_MS)) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", each) for each in data])
    return data


async def read(engine: FileEngine, *, limit: int = 4, most: int = RECORDS) -> list[bytes]:
    found: list[bytes] = []
    iterator: str | None = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    while iterator is not None and len(found) < most:
        batch = await engine.streams.get_records(iterator, limit)
        found += [record.data for record in batch.records]
        iterator = batch.next_iterator
    return found


@pytest.mark.parametrize("readers", [1, 2, 40])
async def test_many_readers_read_the_same(readers: int, tmp_path: Path) -> None:
    wanted = await settled(tmp_path / "data")
    async with opened(tmp_path / "data", ManualClock(START_MS)) as engine:
        found = await asyncio.gather(*(read(engine, limit=1 + number % 7) for number in range(readers)))
        assert all(each == wanted for each in found)
        assert len(engine._cold._ahead) <= cold._MOST_AHEAD


async def test_who_reads_one_page_reads_nothing_ahead(tmp_path: Path) -> None:
    await settled(tmp_path / "data")
    async with opened(tmp_path / "data", ManualClock(START_MS)) as engine:
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await engine.streams.get_records(iterator, 1)
        assert not engine._cold._ahead
        assert (await read(engine))[-1] == b"119" * 40
        assert not engine._cold._ahead, "nothing follows the last run"


async def test_the_close_waits_for_what_is_read_ahead(tmp_path: Path) -> None:
    await settled(tmp_path / "data")
    engine = await open_file(tmp_path / "data", ManualClock(START_MS))
    await read(engine, most=20)
    assert engine._cold._reads
    assert engine._cold._ahead
    await engine.aclose()
    assert not engine._cold._reads


@pytest.mark.parametrize("failing", range(1, 12))
async def test_an_error_reaches_who_reads_and_the_next_try_reads_again(failing: int, tmp_path: Path) -> None:
    wanted = await settled(tmp_path / "data")
    reads = 0

    def fail(call: Call) -> None:
        nonlocal reads
        if call.operation == "read" and call.path.endswith(".blk"):
            reads += 1
            # The first so many read the headers, and then the first block.
            if reads == headers + failing:
                raise OSError(errno.EIO, "the disk does not answer")

    headers = 10**9
    engine = await open_file(tmp_path / "data", ManualClock(START_MS), files=FaultyFiles(before=fail))
    await read(engine, most=1)
    headers = reads
    found: list[bytes] = []
    errors: list[str] = []
    iterator: str | None = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
    while iterator is not None and len(found) < RECORDS:
        try:
            batch = await engine.streams.get_records(iterator, 5)
        except StorageError as error:
            errors.append(str(error))
            continue
        found += [record.data for record in batch.records]
        iterator = batch.next_iterator
    assert found == wanted
    assert ["does not answer" in error for error in errors] == [True]
    await engine.aclose()


async def test_what_was_read_ahead_of_a_deleted_stream_is_nobodys(tmp_path: Path) -> None:
    await settled(tmp_path / "data")
    async with opened(tmp_path / "data", ManualClock(START_MS)) as engine:
        await read(engine, most=20)
        assert engine._cold._ahead
        await engine.streams.delete_stream("s")
        await engine.settle()
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", b"new")])
        await engine.settle()
        assert [record.data for record in (await everything(engine.streams, "s"))[SHARD]] == [b"new"]

"""``verify`` finds whatever is damaged, says where, and changes nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamkit.engines.file import verify as verification
from streamkit.engines.file.verify import Report
from streamkit.errors import DirectoryInUseError, StorageError
from streamkit.streams.lease import LEASES
from streamkit.streams.store import PutEntry
from streamkit.tables.write import Put
from streamkit.testing.clock import ManualClock
from tests.engines.file.terms import START_MS, Contents, Script, all_of_it, message_ids, open_file, opened

FLIPS_PER_FILE = 40


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """Everything there is, some of it settled and some in the journal, as a kill left it."""
    clock = ManualClock(START_MS)
    with message_ids():
        engine = await open_file(tmp_path / "live", clock)
        for step in Script(engine, clock).steps():
            await step()
        for number in range(4):
            await engine.streams.put_records("s", [PutEntry("k", b"in the journal %d" % number)])
        shutil.copytree(tmp_path / "live", tmp_path / "data", ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        await engine.aclose()
    return tmp_path / "data"


async def verify(directory: str) -> Report:
    return await asyncio.to_thread(verification.verify, directory)


def files_of(directory: Path, *patterns: str) -> list[Path]:
    return [file for pattern in patterns for file in sorted(directory.rglob(pattern))]


def picture(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


async def contents_of(path: Path) -> Contents:
    clock = ManualClock(START_MS + 100_000)
    async with opened(path, clock) as engine:
        return await all_of_it(engine, clock)


def damage_of(report: Report) -> list[str]:
    return [str(finding) for finding in report.findings if finding.severity == "damage"]


async def test_a_sound_store_is_sound_and_left_as_it_is(store: Path) -> None:
    before = picture(store)
    report = await verify(str(store))
    assert (report.sound, damage_of(report)) == (True, [])
    assert report.records > 8
    assert report.items > 0
    assert report.frames >= 4
    assert picture(store) == before
    await contents_of(store)
    assert (await verify(str(store))).sound, "also once it was closed"


async def test_whatever_is_damaged_is_found_or_harmless(store: Path, tmp_path: Path) -> None:
    """Bytes flipped in every file, files cut, extended, emptied, removed: 100 %."""
    expected = await contents_of(_copy(store, tmp_path / "expected"))
    found = harmless = 0
    for what, damage in _damages(store):
        path = _copy(store, tmp_path / "damaged")
        damage(path)
        report = await verify(str(path))
        if not report.sound:
            found += 1
            assert all(":" in sentence for sentence in damage_of(report))
        else:
            # Then opening it shows exactly what was there, but for the last commit, which may look as if it was torn.
            harmless += 1
            now = await contents_of(path)
            assert now == expected or (".log" in what and _lacks_the_last_commit(now, expected)), what
        shutil.rmtree(path)
    assert found > 150
    assert harmless > 20


def _lacks_the_last_commit(now: Contents, expected: Contents) -> bool:
    def records(contents: Contents) -> list[Any]:
        return [record for shard in contents["now"]["records"]["s"].values() for record in shard]

    return records(now) == [each for each in records(expected) if each.data != b"in the journal 3"]


def _copy(store: Path, to: Path) -> Path:
    shutil.copytree(store, to)
    return to


def _damages(store: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
    random = Random(4)
    for file in sorted(store.rglob("*")):
        name = file.relative_to(store)
        if not file.is_file() or name.suffix not in ("", ".log", ".blk", ".snap", ".sqlite"):
            continue
        there = file.read_bytes()
        used = len(there.rstrip(b"\0"))
        yield f"removed {name}", partial(_write, name, None)
        yield f"emptied {name}", partial(_write, name, b"")
        if name.suffix == ".sqlite":
            continue  # Its pages have no checksums: what SQLite itself notices is what can be told.
        yield f"extended {name}", partial(_write, name, there + b"garbage")
        for at in random.sample(range(used), min(used, FLIPS_PER_FILE)):
            flipped = bytearray(there)
            flipped[at] ^= random.randrange(1, 256)
            yield f"flipped {at} of {name}", partial(_write, name, bytes(flipped))
        for at in random.sample(range(used), 3):
            yield f"cut {name} at {at}", partial(_write, name, there[:at])


def _write(name: Path, data: bytes | None, directory: Path) -> None:
    if data is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(data)


async def test_a_torn_tail_and_leftovers_are_notes(store: Path) -> None:
    """A crash may leave them, and they are no damage."""
    segment = files_of(store, "*.log")[-1]
    data = segment.read_bytes()
    end = len(data.rstrip(b"\0")) + 8 - len(data.rstrip(b"\0")) % 8
    segment.write_bytes(data[:end] + b"SKFR torn" + data[end + 9 :])
    (store / "queues" / "9-000000000099.snap").write_bytes(b"left")
    report = await verify(str(store))
    assert report.sound
    sentences = [str(finding) for finding in report.findings]
    assert any("never acknowledged; the next opening cuts them" in sentence for sentence in sentences)
    assert any("queues/9-000000000099.snap:0: note: nobody names this file" in sentence for sentence in sentences)


async def test_all_faults_are_told_and_not_only_the_first(store: Path) -> None:
    files = files_of(store, "*.blk", "*.snap")
    for file in files:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(bytes(data))
    assert len(damage_of(await verify(str(store)))) == len(files) > 2


async def test_a_checkpoint_beyond_its_shard_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", ManualClock(START_MS)) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", b"x")])
        await engine.tables.create_table(LEASES)
        for number in (1, 9):
            item = {"consumer": f"s#1#c{number}", "shard": "shardId-000000000000", "checkpoint": number}
            await engine.tables.write([Put(item, LEASES.name)])
    (sentence,) = damage_of(await verify(str(tmp_path / "data")))
    assert "a consumer has done record 9 of shardId-000000000000, whose newest is 1" in sentence


async def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is no directory"):
        await verify(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="holds no streamkit data"):
        await verify(str(tmp_path / "empty"))
    async with opened(tmp_path / "data", ManualClock(START_MS)):
        with pytest.raises(DirectoryInUseError):
            await verify(str(tmp_path / "data"))
    await verify(str(tmp_path / "data"))

"""Segments that are used again: what they held before is never taken for what was written since."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from streamkit.engines.base import Durability
from streamkit.engines.file import segment as segments
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import StorageError
from streamkit.streams.store import PutEntry
from streamkit.testing.contract.streams import everything
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import after_crash, close_broken, kept, lost, open_file, opened, torn

ROUNDS = 8
PUTS = 5


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FIRST_SEGMENT_BYTES", 4_096)
    monkeypatch.setattr(segments, "LARGEST_SEGMENT_BYTES", 4_096)


def spares(directory: Path) -> int:
    return len(list((directory / "journal").glob("spare-*")))


async def work(engine: FileEngine, acknowledged: list[int]) -> None:
    """Puts of all sizes, some at once, and a settling after every few: each roll takes a segment that was used."""
    random = Random(3)
    await engine.streams.create_stream("s", 1)
    number = 0
    for _ in range(ROUNDS):
        for _ in range(PUTS):
            together = random.choice((1, 1, 3))
            entries = [PutEntry("k", b"%d " % (number + at) + bytes(random.randrange(1_500))) for at in range(together)]
            await asyncio.gather(*(engine.streams.put_records("s", [entry]) for entry in entries))
            number += together
            acknowledged[0] = number
        await engine.settle()


async def numbers(engine: FileEngine) -> list[int]:
    if "s" not in await engine.streams.list_streams():
        return []
    (records,) = (await everything(engine.streams, "s")).values()
    return [int(record.data.split(b" ")[0]) for record in records]


async def test_retired_segments_are_used_again(tmp_path: Path) -> None:
    files = FaultyFiles()
    acknowledged = [0]
    async with opened(tmp_path / "data", files=files) as engine:
        await work(engine, acknowledged)
        assert 1 <= spares(tmp_path / "data") <= 2
        renamed = [call for call in files.calls if call.operation == "rename" and "spare-" in call.path]
        assert len(renamed) > 5
    async with opened(tmp_path / "data") as engine:
        assert await numbers(engine) == list(range(acknowledged[0]))
        await engine.streams.put_records("s", [PutEntry("k", b"%d " % acknowledged[0])])
    async with opened(tmp_path / "data") as engine:
        assert await numbers(engine) == list(range(acknowledged[0] + 1))


@pytest.mark.parametrize("durability", ["fsync", "interval"])
async def test_a_crash_at_every_call_of_a_store_that_uses_them_again(durability: Durability, tmp_path: Path) -> None:
    """What was acknowledged is there, in order, once; then it goes on, and crashes again."""
    at = 0
    while True:
        path = tmp_path / f"{at}"
        files = FaultyFiles(crash_at=at)
        acknowledged = [0]
        crashed = True
        try:
            engine = await open_file(path, files=files, durability=durability)
        except StorageError:
            pass
        else:
            try:
                await work(engine, acknowledged)
                crashed = False
            except StorageError:
                pass
            await close_broken(engine)
        for name, survives in (("lost", lost), ("torn", torn(at)), ("kept", kept)):
            if durability == "interval" and name != "kept":
                continue
            await after_crash(files, path, tmp_path / f"{at}-{name}", survives)
            async with opened(tmp_path / f"{at}-{name}") as engine:
                found = await numbers(engine)
                assert found == list(range(len(found))), f"crash at {files.calls[at]}, {name}"
                assert acknowledged[0] <= len(found) <= acknowledged[0] + 3
                if found:
                    await engine.streams.put_records("s", [PutEntry("k", b"%d " % len(found))])
                    assert await numbers(engine) == list(range(len(found) + 1))
        if not crashed:
            break
        # Neighbouring calls tell the same: every fifth, and another fifth with each durability.
        at += 5 if at else (1 if durability == "fsync" else 3)
    assert at > 150

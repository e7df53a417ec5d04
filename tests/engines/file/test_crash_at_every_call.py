"""A crash, or an error, at every single call to the disk: what was acknowledged is there, and nothing by half."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from streamkit.engines.base import Durability, Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import JournalFailedError, StorageError
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import (
    START_MS,
    Contents,
    Script,
    after_crash,
    close_broken,
    expected_after_each_step,
    kept,
    lost,
    message_ids,
    open_file,
    opened,
    reopened,
    torn,
)


class Run:
    """The script on a disk that may fail; how far it came."""

    def __init__(self, path: Path, files: FaultyFiles, durability: Durability = "fsync") -> None:
        self.path = path
        self.files = files
        self.durability = durability
        self.clock = ManualClock(START_MS)
        self.acknowledged = 0
        self.synced = 0
        """As many steps are on the disk whatever the durability. A receive is written, and synced with what follows."""
        self.error: StorageError | None = None

    async def __call__(self) -> None:
        with message_ids():
            try:
                engine = await open_file(self.path, self.clock, files=self.files, durability=self.durability)
            except StorageError as error:
                self.error = error
                return
            script = Script(engine, self.clock)
            try:
                for step in script.steps():
                    try:
                        await step()
                    except JournalFailedError:
                        raise
                    except StorageError:
                        if step != script.settle:
                            raise
                        await step()  # A settling that failed can be done again.
                    self.acknowledged += 1
                    if step == script.settle or (self.durability == "fsync" and step != script.receive):
                        self.synced = self.acknowledged
            except StorageError as error:
                self.error = error
                await self.read_on(engine)
                await close_broken(engine)
                return
        try:
            await engine.aclose()
        except StorageError as error:
            self.error = error
        else:
            self.synced = self.acknowledged

    async def read_on(self, engine: FileEngine) -> None:
        """Streams are read also when nothing can be written any more, up to what was acknowledged."""
        if not self.files.crashed and "s" in await engine.streams.list_streams():
            await everything(engine.streams, "s")

    async def left(self, survives: Callable[[], bool], name: str) -> Contents:
        """What is there after a crash."""
        destination = self.path.with_name(f"{self.path.name}-{name}")
        await after_crash(self.files, self.path, destination, survives)
        return await reopened(destination)


@pytest.mark.parametrize("durability", ["fsync", "interval"])
async def test_a_crash_at_every_call(durability: Durability, tmp_path: Path) -> None:
    """Every state that a crash or a power loss can leave is one that the script went through, and not too early."""
    after = await expected_after_each_step()
    at = 0
    while True:
        run = Run(tmp_path / f"{at}", FaultyFiles(crash_at=at), durability)
        await run()
        for survives, name, least in (
            (lost, "lost", run.synced),
            (torn(at), "torn", run.synced),
            (kept, "kept", run.acknowledged),
        ):
            if durability == "interval" and name == "lost":
                continue  # Torn is worse: it leaves holes.
            found = await run.left(survives, name)
            possible = after[least : run.acknowledged + 2]
            assert found in possible, f"crash at {run.files.calls[at]}, {name}, after step {run.acknowledged}"
        if run.error is None:
            break
        at += 1
    assert at > 200


async def test_failed_sync_is_never_retried_into_a_lie(tmp_path: Path) -> None:
    """Any call fails, once. What is acknowledged before, after and once it was opened again survives a power loss."""
    after = await expected_after_each_step()
    at = 0
    failed = 0
    while True:
        run = Run(tmp_path / f"{at}", FaultyFiles(fail={at: errno.EIO}))
        await run()
        if len(run.files.calls) <= at:
            break
        failed += isinstance(run.error, JournalFailedError)
        call = run.files.calls[at]
        found = await run.left(torn(at), "after")
        assert found in after[run.synced : run.acknowledged + 2], f"{call} failed"
        # The same machine: its page cache shows what the failed sync did not bring to the disk.
        async with opened(run.path, run.clock, files=run.files) as engine:
            if "s" in await engine.streams.list_streams():
                await engine.streams.put_records("s", [PutEntry("k", b"afterwards")])
            else:
                await engine.streams.create_stream("s", 1)
                await engine.streams.put_records("s", [PutEntry("k", b"afterwards")])
            await after_crash(run.files, run.path, tmp_path / f"{at}-again", lost)
            before = await everything(engine.streams, "s")
        async with opened(tmp_path / f"{at}-again", run.clock) as engine:
            assert await everything(engine.streams, "s") == before, f"{call} failed"
        at += 1
    assert failed > 30


async def test_a_crash_inside_recovery(tmp_path: Path) -> None:
    """Recovery that is interrupted anywhere changes nothing about what the next one finds."""
    after = await expected_after_each_step()
    whole = FaultyFiles()
    await Run(tmp_path / "whole", whole)()
    interrupted = 0
    for at in range(60, len(whole.calls), 37):
        run = Run(tmp_path / f"{at}", FaultyFiles(crash_at=at))
        await run()
        await after_crash(run.files, run.path, tmp_path / f"{at}-crashed", torn(at))
        again = 0
        while True:
            path = tmp_path / f"{at}-{again}"
            await after_crash(FaultyFiles(), tmp_path / f"{at}-crashed", path, kept)
            files = FaultyFiles(crash_at=again)
            try:
                engine = await open_file(path, run.clock, files=files)
            except StorageError:
                interrupted += 1
            else:
                await close_broken(engine)
                break
            await after_crash(files, path, tmp_path / f"{at}-{again}-after", torn(again))
            found = await reopened(tmp_path / f"{at}-{again}-after")
            assert found in after[run.synced : run.acknowledged + 2], f"{files.calls[again]} of recovery"
            again += 1
    assert interrupted > 50


async def test_producers_in_a_crash(tmp_path: Path) -> None:
    """Many at once: what each had acknowledged is there, in its order, and no batch of theirs by half."""
    whole = FaultyFiles()
    await _produce(tmp_path / "whole", whole)
    random = Random(4)
    for at in sorted(random.sample(range(len(whole.calls)), 40)):
        files = FaultyFiles(crash_at=at)
        acknowledged = await _produce(tmp_path / f"{at}", files)
        await after_crash(files, tmp_path / f"{at}", tmp_path / f"{at}-after", torn(at))
        async with opened(tmp_path / f"{at}-after") as engine:
            await _check_produced(engine, acknowledged)


PRODUCERS = 4
BATCHES = 12


async def _produce(path: Path, files: FaultyFiles) -> list[int]:
    """How many batches of each producer were acknowledged."""
    acknowledged = [0] * PRODUCERS

    async def produce(producer: int) -> None:
        for batch in range(BATCHES):
            entries = [PutEntry(f"{producer}-{each}", b"%d %d %d" % (producer, batch, each)) for each in range(3)]
            await engine.streams.put_records("s", entries)
            await engine.tables.write([Update(key={"id": producer}, add={"batches": 1}, table="counts")])
            acknowledged[producer] = batch + 1

    try:
        engine = await open_file(path, files=files, settle_after_bytes=2_000)
    except StorageError:
        return acknowledged
    try:
        await engine.streams.create_stream("s", 2)
        await engine.tables.create_table(TableSchema("counts", "id"))
        await asyncio.gather(*(produce(producer) for producer in range(PRODUCERS)), return_exceptions=True)
    except StorageError:
        pass
    await close_broken(engine)
    return acknowledged


async def _check_produced(engine: Engine, acknowledged: list[int]) -> None:
    if "s" not in await engine.streams.list_streams():
        assert acknowledged == [0] * PRODUCERS
        return
    shards = await everything(engine.streams, "s")
    for records in shards.values():
        numbers = [record.sequence_number for record in records]
        assert numbers == sorted(set(numbers))
    for producer in range(PRODUCERS):
        found = [
            [
                tuple(map(int, record.data.split()))[1:]
                for record in records
                if record.data.startswith(b"%d " % producer)
            ]
            for records in shards.values()
        ]
        assert all(of_shard == sorted(of_shard) for of_shard in found)
        stored = sorted(each for of_shard in found for each in of_shard)
        batches = len(stored) // 3
        assert stored == [(batch, each) for batch in range(batches) for each in range(3)]
        assert acknowledged[producer] <= batches <= acknowledged[producer] + 1
        if batches:
            (item,) = await engine.tables.get("counts", [{"id": producer}])
            counted = 0 if item is None else item["batches"]
            assert acknowledged[producer] <= counted <= batches

"""A copy of a live store is a legal prefix with everything that was acknowledged before it began."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.engines.file import backup as backups
from streamkit.engines.file import manifest
from streamkit.engines.file import verify as verification
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.files import DiskFiles
from streamkit.errors import CorruptLogError, StorageError
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.contents import contents
from streamkit.testing.contract.streams import everything
from tests.engines.file.terms import START_MS, Script, message_ids, open_file, opened


async def backup(source: Path, to: Path, progress: Callable[[str], None] = lambda _: None) -> int:
    return await asyncio.to_thread(backups.backup, str(source), str(to), progress)


async def is_sound(directory: Path) -> bool:
    return (await asyncio.to_thread(verification.verify, str(directory))).sound


async def test_a_copy_holds_what_was_there(tmp_path: Path) -> None:
    """And is one that can be copied back."""
    clock = ManualClock(START_MS)
    with message_ids():
        engine = await open_file(tmp_path / "data", clock)
        for step in Script(engine, clock).steps():
            await step()
        before = await contents(engine)
        size = await backup(tmp_path / "data", tmp_path / "copy")
        assert await contents(engine) == before
        await engine.aclose()
    assert size > 1_000
    assert await is_sound(tmp_path / "copy")
    await backup(tmp_path / "copy", tmp_path / "again")
    for name in ("copy", "again"):
        async with opened(tmp_path / name, clock) as engine:
            assert await contents(engine) == before


async def test_a_store_that_is_written_and_settled_meanwhile(tmp_path: Path) -> None:
    """Each number is a record, a message and a count in a table, in one commit each: a prefix of them is legal."""
    engine = await open_file(tmp_path / "data", settle_after_bytes=300_000)
    await engine.streams.create_stream("s", 1)
    await engine.queues.create_queue("q", QueueAttributes())
    await engine.tables.create_table(TableSchema("counts", "id"))
    done = 0
    writing = True

    async def write() -> None:
        nonlocal done
        while writing:
            await engine.streams.put_records("s", [PutEntry("k", b"%d" % done + b" " * 300)])
            await engine.queues.send_messages("q", [SendEntry(b"%d" % done)])
            await engine.tables.write([Update(key={"id": 1}, add={"n": 1}, table="counts")])
            done += 1

    working = asyncio.create_task(write())
    began: list[int] = []
    for number in range(6):
        began.append(done)
        await backup(tmp_path / "data", tmp_path / f"copy-{number}")
    writing = False
    await working
    await engine.aclose()
    for number, least in enumerate(began):
        assert await is_sound(tmp_path / f"copy-{number}")
        async with opened(tmp_path / f"copy-{number}") as copy:
            await _check_prefix(copy, least, done)


async def test_an_owner_that_settles_during_every_attempt_but_the_last(tmp_path: Path) -> None:
    """What an attempt copied of files that only grow is not copied again, and what went meanwhile is not left."""
    engine = await open_file(tmp_path / "data", settle_after_bytes=1)
    await engine.streams.create_stream("s", 1)
    await engine.queues.create_queue("q", QueueAttributes())
    loop = asyncio.get_running_loop()
    done = 0
    copied: list[str] = []

    async def write() -> None:
        nonlocal done
        await engine.streams.put_records("s", [PutEntry("k", b"%d" % done)])
        await engine.queues.send_messages("q", [SendEntry(b"%d" % done)])
        await engine.settle()
        done += 1

    def meanwhile(name: str) -> None:
        copied.append(name)
        if name.startswith("journal") and done < 12:
            asyncio.run_coroutine_threadsafe(write(), loop).result(timeout=30)

    for _ in range(3):
        await write()
    await backup(tmp_path / "data", tmp_path / "copy", meanwhile)
    await engine.aclose()
    assert sum(name.startswith("journal") for name in copied) == 10
    assert await is_sound(tmp_path / "copy")
    there, counted_on = await asyncio.to_thread(names_of, tmp_path / "copy")
    assert there == counted_on
    async with opened(tmp_path / "copy") as copy:
        (records,) = (await everything(copy.streams, "s")).values()
        assert [int(record.data) for record in records] == list(range(12))
        (queue,) = await copy.queues.describe_queues(["q"])
        assert queue.visible == 12


def names_of(directory: Path) -> tuple[set[str], set[str]]:
    """The files that there are, and those that the manifest counts on."""
    known = manifest.load(DiskFiles(), str(directory))
    assert known is not None
    kinds = ("blk", "pages", "snap", "ids")
    there = {str(path.relative_to(directory)) for kind in kinds for path in directory.rglob(f"*.{kind}")}
    return there, {name for name, _ in backups._files(known)}


async def _check_prefix(copy: FileEngine, least: int, most: int) -> None:
    (records,) = (await everything(copy.streams, "s")).values()
    numbers = [int(record.data) for record in records]
    assert numbers == list(range(len(numbers)))
    assert least <= len(numbers) <= most + 1
    (item,) = await copy.tables.get("counts", [{"id": 1}])
    counted = 0 if item is None else item["n"]
    (queue,) = await copy.queues.describe_queues(["q"])
    assert len(numbers) >= queue.visible >= counted >= len(numbers) - 1


def snapshot_name(tmp_path: Path) -> str:
    (file,) = (tmp_path / "data" / "queues").glob("*.snap")
    return file.name


OWNER = """
import asyncio, sys, streamkit
async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        stream = await kit.create_stream("orders", type=bytes)
        number = 0
        while True:
            await stream.put_batch([("k", b"%d" % (number + at)) for at in range(50)])
            number += 50
            print(number, flush=True)
            await asyncio.sleep(0.001)
asyncio.run(main())
"""


def copy_beside_an_owner(tmp_path: Path) -> tuple[int, subprocess.CompletedProcess[str]]:
    """How many records were acknowledged before it began, and what the command said."""
    command = [sys.executable, "-c", OWNER, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        try:
            for _ in range(20):
                acknowledged = int(owner.stdout.readline())
            backup_command = ["-m", "streamkit", "backup", str(tmp_path / "data"), str(tmp_path / "copy")]
            done = subprocess.run(
                [sys.executable, *backup_command], capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            owner.kill()
    return acknowledged, done


async def test_the_command_copies_while_another_process_owns_it(tmp_path: Path) -> None:
    acknowledged, done = await asyncio.to_thread(copy_beside_an_owner, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sound"] is True
    async with opened(tmp_path / "copy") as copy:
        (records,) = (await everything(copy.streams, "orders")).values()
        assert [int(record.data) for record in records] == list(range(len(records)))
        assert len(records) >= acknowledged


async def test_where_a_copy_must_not_go(tmp_path: Path) -> None:
    async with opened(tmp_path / "data"):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    with pytest.raises(StorageError, match="is not empty"):
        await backup(tmp_path / "data", tmp_path / "full")
    assert (tmp_path / "full" / "mine").read_text() == "precious"
    with pytest.raises(StorageError, match="is within"):
        await backup(tmp_path / "data", tmp_path / "data" / "copy")
    with pytest.raises(StorageError, match="holds no streamkit data"):
        await backup(tmp_path / "full", tmp_path / "copy")


async def test_a_damaged_store_is_not_copied_as_if_it_were_whole(tmp_path: Path) -> None:
    """And what was copied of it so far is nothing that could be opened."""
    async with opened(tmp_path / "data") as engine:
        await engine.streams.create_stream("s", 1)
        await engine.queues.create_queue("q", QueueAttributes())
        await engine.queues.send_messages("q", [SendEntry(b"x")])
    (tmp_path / "data" / "queues" / snapshot_name(tmp_path)).unlink()
    with pytest.raises(StorageError, match="could not be copied"):
        await backup(tmp_path / "data", tmp_path / "copy")
    assert not (tmp_path / "copy" / "MANIFEST").exists()
    (tmp_path / "data" / "MANIFEST").write_bytes(b"{}")
    with pytest.raises(CorruptLogError):
        await backup(tmp_path / "data", tmp_path / "copy")


async def test_a_copy_that_was_interrupted_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.streams.create_stream("s", 1)
        await engine.streams.put_records("s", [PutEntry("k", b"x")])
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        if name.startswith("journal"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await backup(tmp_path / "data", tmp_path / "copy", stop)
    assert len(seen) == 2
    with pytest.raises(CorruptLogError, match="the manifest is missing"):
        await open_file(tmp_path / "copy")

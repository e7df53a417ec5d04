"""A full disk refuses before anything changes, is read on, and is written again once there is room."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamkit.engines.file import journal, segment
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import DiskFullError, JournalFailedError, StorageError
from streamkit.functions.effects import Effects
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.contract.streams import everything
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.terms import END_MS, Held, after_crash, lost, open_file, opened, turns


class Disk:
    """Has room or has none; files that are there keep theirs."""

    def __init__(self, code: int = errno.ENOSPC) -> None:
        self.full = False
        self.code = code
        self.refused = 0

    def __call__(self, call: Call) -> None:
        if self.full and call.operation == "write" and not call.path.endswith(".log"):
            self.refused += 1
            raise OSError(self.code, "no room")


class Monotonic:
    """The time that the journal waits by, moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 100.0
        patch.setattr(segment, "time", SimpleNamespace(monotonic=lambda: self.seconds))


async def put(engine: FileEngine, size: int = 500) -> None:
    await engine.streams.put_records("s", [PutEntry("k", bytes(size))])


async def put_until_refused(engine: FileEngine) -> int:
    for number in range(1_000):
        try:
            await put(engine)
        except DiskFullError:
            return number
    raise AssertionError("it was never refused")


async def put_until_taken(engine: FileEngine) -> int:
    """How often it was refused before: the call that finds the disk full has the segment made in the background."""
    for number in range(1_000):
        try:
            await put(engine)
        except DiskFullError:
            await asyncio.sleep(0)
        else:
            return number
    raise AssertionError("it was never taken")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_refuses_every_kind_of_change_and_recovers(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without being opened again. Whatever was acknowledged before, between and after is there."""
    monotonic = Monotonic(monkeypatch)
    disk = Disk(code)
    files = FaultyFiles(before=disk)
    async with opened(tmp_path / "data", ManualClock(END_MS), files=files) as engine:
        await engine.streams.create_stream("s", 1)
        await engine.queues.create_queue("q", QueueAttributes())
        await engine.queues.create_queue("other", QueueAttributes())
        await engine.tables.create_table(TableSchema("table", "id"))
        await engine.tables.write([Put({"id": 1}, "table")])
        _, waiting = await engine.queues.send_messages("q", [SendEntry(b"x"), SendEntry(b"y")])
        (held,) = await engine.queues.receive_messages("q", 1)
        disk.full = True
        assert await put_until_refused(engine) > 10
        assert disk.refused == 1

        before = await contents(engine)
        for call in everything_that_changes(engine, held.receipt_handle, waiting.message_id):
            with pytest.raises(DiskFullError) as caught:
                await call
            assert caught.value.retryable
            assert "free some space and try again" in str(caught.value)
        assert await contents(engine) == before
        assert disk.refused == 1, "it is not tried all the time"

        monotonic.seconds += 1.1
        for _ in range(3):
            with pytest.raises(DiskFullError):
                await put(engine)
            await asyncio.sleep(0)
        # When the thread that was refused is back, and not before, does the second begin until the next attempt.
        await turns(lambda: disk.refused >= 2 and engine._journal._next.making is None)
        assert disk.refused == 2

        disk.full = False
        monotonic.seconds += 1.1
        await put_until_taken(engine)
        for _ in range(100):
            await put(engine)
        await engine.queues.delete_messages("q", [held.receipt_handle])
        live = await contents(engine)
        await after_crash(files, tmp_path / "data", tmp_path / "after", lost)
    for path in ("data", "after"):
        async with opened(tmp_path / path, ManualClock(END_MS)) as engine:
            assert await contents(engine) == live


def everything_that_changes(engine: FileEngine, handle: str, message_id: str) -> list[Coroutine[Any, Any, object]]:
    return [
        engine.streams.create_stream("new", 1),
        engine.streams.delete_stream("s"),
        engine.streams.put_records("s", [PutEntry("k", b"x")]),
        engine.queues.create_queue("new", QueueAttributes()),
        engine.queues.delete_queue("q"),
        engine.queues.purge_queue("q"),
        engine.queues.update_queue("q", QueueAttributes(visibility_timeout_ms=1)),
        engine.queues.move_messages("q", [message_id], "other"),
        engine.queues.send_messages("q", [SendEntry(b"x")]),
        engine.queues.receive_messages("q", 1),
        engine.queues.delete_messages("q", [handle]),
        engine.queues.change_visibility("q", [VisibilityEntry(handle, 0)]),
        engine.tables.create_table(TableSchema("new", "id")),
        engine.tables.delete_table("table"),
        engine.tables.write([Put({"id": 2}, "table")]),
        engine.commit(
            Effects(
                writes=(Put({"id": 3}, "table"),),
                sends=(("q", (SendEntry(b"x"),)),),
                puts=(("s", (PutEntry("k", b"x"),)),),
                deletes=(("q", (handle,)),),
            )
        ),
    ]


async def test_a_disk_that_is_full_while_it_settles(tmp_path: Path) -> None:
    """The journal has everything; a settling when there is room again moves it."""
    disk = Disk()
    async with opened(tmp_path / "data", files=FaultyFiles(before=disk)) as engine:
        await engine.streams.create_stream("s", 1)
        await put(engine)
        disk.full = True
        with pytest.raises(StorageError, match="no room"):
            await engine.settle()
        await put(engine)
        before = await contents(engine)
        disk.full = False
        await engine.settle()
        assert await contents(engine) == before
    async with opened(tmp_path / "data") as engine:
        assert await contents(engine) == before


async def test_a_group_larger_than_what_is_left_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was applied before it was found not to fit, so it cannot be refused. Others are, and reading goes on."""
    monkeypatch.setattr(journal, "_RETRY_SECONDS", 3_600)
    disk = Disk()
    files = FaultyFiles(before=disk)
    async with opened(tmp_path / "data", files=files) as engine:
        await engine.streams.create_stream("s", 1)
        await put(engine)
        disk.full = True
        waiting = asyncio.create_task(put(engine, 100_000))
        for refused in range(1, 4):
            await turns(lambda: engine._journal._parked is not None)
            assert disk.refused == refused
            assert not waiting.done()
            with pytest.raises(DiskFullError):
                await put(engine)
            assert len((await everything(engine.streams, "s"))["shardId-000000000000"]) == 1
            engine._journal._unpark()  # A second has passed.
        await turns(lambda: engine._journal._parked is not None)
        disk.full = False
        engine._journal._unpark()
        await soon(waiting)
        live = await contents(engine)
        await after_crash(files, tmp_path / "data", tmp_path / "after", lost)
    for path in ("data", "after"):
        async with opened(tmp_path / path) as engine:
            assert await contents(engine) == live


async def test_closing_on_a_full_disk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who still waits for room gets an error with the cause; what was acknowledged is kept."""
    monkeypatch.setattr(journal, "_RETRY_SECONDS", 3_600)
    disk = Disk()
    engine = await open_file(tmp_path / "data", files=FaultyFiles(before=disk))
    await engine.streams.create_stream("s", 1)
    await put(engine)
    live = await contents(engine)
    disk.full = True
    waiting = asyncio.create_task(put(engine, 100_000))
    await turns(lambda: engine._journal._parked is not None)
    settling = asyncio.create_task(engine.settle())
    await asyncio.sleep(0)
    await soon(engine.aclose())
    for task in (waiting, settling):
        with pytest.raises(JournalFailedError, match="no room"):
            await task
    async with opened(tmp_path / "data") as engine:
        assert await contents(engine) == live


async def test_a_segment_is_never_made_twice_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a commit that needs it and by a call that finds the disk full: the second would take the first one's name."""
    monotonic = Monotonic(monkeypatch)
    disk = Disk()
    held = Held("streamkit-journal")

    def before(call: Call) -> None:
        disk(call)
        if call.operation == "open" and call.path.endswith("2.log.new"):
            held(call)

    files = FaultyFiles(before=before)
    async with opened(tmp_path / "data", files=files) as engine:
        await engine.streams.create_stream("s", 1)
        disk.full = True
        await put(engine, 9_000)
        await turns(lambda: disk.refused == 1 and engine._journal._next.making is None)
        disk.full = False
        held.holding = True
        rolling = asyncio.create_task(put(engine, 9_000))
        assert await held.reached(rolling)
        monotonic.seconds += 1.1
        queued = asyncio.create_task(put(engine, 10))
        for _ in range(10):
            await asyncio.sleep(0)
        held.let_go()
        await soon(asyncio.gather(rolling, queued))
        made = [call for call in files.calls if call.operation == "rename" and call.path.endswith("2.log")]
        assert len(made) == 1
        live = await contents(engine)
        await after_crash(files, tmp_path / "data", tmp_path / "after", lost)
    async with opened(tmp_path / "after") as engine:
        assert await contents(engine) == live


async def test_a_refused_change_leaves_what_is_too_old_to_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a message that was sent earlier than the one before it, because the clock was set back."""
    attributes = QueueAttributes(retention_ms=60_000)
    async with opened(tmp_path / "data", ManualClock(END_MS + 100_000)) as engine:
        await engine.queues.create_queue("q", attributes)
        await engine.queues.send_messages("q", [SendEntry(b"first")])
    clock = ManualClock(END_MS)
    async with opened(tmp_path / "data", clock) as engine:
        assert len(await engine.queues.receive_messages("q", 1)) == 1
        await engine.queues.send_messages("q", [SendEntry(b"second")])
        await clock.advance(61)
        with monkeypatch.context() as full:

            def refuse() -> None:
                raise DiskFullError("the journal")

            full.setattr(engine.queues._log, "check", refuse)
            with pytest.raises(DiskFullError):
                await engine.queues.update_queue("q", attributes)
        (queue,) = await engine.queues.describe_queues()
        assert (queue.visible, queue.not_visible) == (1, 0)

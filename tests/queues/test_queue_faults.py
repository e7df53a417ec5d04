"""What must hold for queues when clocks jump, tasks are cancelled, machines die and disks fail."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Kit, Queue, RedrivePolicy
from streamkit.clock import SystemClock
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import StorageError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.service import Stop
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import after_crash, kept, lost, torn
from tests.queues.windows import small_windows

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def few_messages_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    small_windows(monkeypatch)


async def open_engine(path: Path, clock: ManualClock, files: FaultyFiles | None = None) -> FileEngine:
    return await FileEngine.open(path, clock=clock, limits=Limits.relaxed(), files=files or FaultyFiles())


async def with_letters(kit: Kit, count: int) -> tuple[Queue[Any], Queue[Any]]:
    """A queue without messages and its dead-letter queue, with so many."""
    dead = await kit.create_queue("dead")
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    jobs = await kit.create_queue("jobs", visibility_timeout=0, redrive_policy=policy)
    await jobs.send_batch(list(range(count)))
    await jobs.receive(count)
    assert await jobs.receive(count) == []
    return jobs, dead


async def values(queue: Queue[Any]) -> list[int]:
    return sorted(message.value for message in await queue.peek(1000))


# ---- clocks


@pytest.mark.parametrize("jump_ms", [-DAY_MS, -HOUR_MS, HOUR_MS, DAY_MS])
async def test_a_clock_that_jumped_between_two_runs(jump_ms: int, tmp_path: Path) -> None:
    """Nothing is hidden for longer than it was to be, nothing is lost, and the order is what it was."""
    clock = ManualClock(NOW_MS)
    engine = await open_engine(tmp_path, clock)
    await engine.queues.create_queue("jobs", QueueAttributes(visibility_timeout_ms=30_000, retention_ms=14 * DAY_MS))
    await engine.queues.send_messages("jobs", [SendEntry(b"late", 60_000)])
    await engine.queues.send_messages("jobs", [SendEntry(b"%d" % number) for number in range(6)])
    (hidden,) = await engine.queues.receive_messages("jobs", 1)
    await engine.aclose()

    clock = ManualClock(NOW_MS + jump_ms)
    engine = await open_engine(tmp_path, clock)
    (jobs,) = await engine.queues.describe_queues()
    assert jobs.visible + jobs.not_visible + jobs.delayed == 7
    seen = []
    for _ in range(61):
        received = await engine.queues.receive_messages("jobs", 10, HOUR_MS)
        seen += [(message.body, (clock.now_ms() - NOW_MS - jump_ms) // 1000) for message in received]
        await clock.advance(1)
    assert [body for body, _ in seen if body in b"12345"] == [b"1", b"2", b"3", b"4", b"5"]
    at = dict(seen)
    assert len(at) == len(seen) == 7
    # Forward, what was hidden is due; back, it waits as long as it was to wait, from the opening on.
    assert (at[b"0"], at[b"late"]) == ((0, 0) if jump_ms > 0 else (30, 60))
    assert hidden.body == b"0"
    await engine.aclose()


@pytest.mark.parametrize("jump_ms", [-HOUR_MS, DAY_MS])
async def test_a_clock_that_jumps_while_it_runs(jump_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither shows nor hides anything: a message stays hidden for its timeout."""
    wall_ms, boot_ns = NOW_MS, 5_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: wall_ms * 1_000_000)
    monkeypatch.setattr("time.clock_gettime_ns", lambda _: boot_ns)
    monkeypatch.setattr("time.monotonic_ns", lambda: boot_ns)
    async with streamkit.open("memory:", clock=SystemClock()) as kit:
        queue = await kit.create_queue("jobs", visibility_timeout=30)
        await queue.send("x")
        assert len(await queue.receive()) == 1
        wall_ms += jump_ms
        boot_ns += 29_999_000_000
        assert await queue.receive() == []
        boot_ns += 1_000_000
        (again,) = await queue.receive()
        assert again.receive_count == 2


# ---- cancellation


async def test_a_cancelled_move_task_moves_each_message_once_or_not() -> None:
    async with streamkit.open("memory:", clock=ManualClock(NOW_MS)) as kit:
        jobs, dead = await with_letters(kit, 20)

        async def check() -> None:
            assert sorted([*await values(jobs), *await values(dead)]) == list(range(20))
            await jobs.receive(100)
            assert await jobs.receive(100) == []
            assert await values(dead) == list(range(20))

        await cancel_at_every_step(lambda: dead.move_task().run(Stop()), check)


@pytest.mark.parametrize("act", ["redrive", "purge", "update", "move"])
async def test_a_cancelled_change_has_happened_or_not(act: str, tmp_path: Path) -> None:
    """On a file engine whose messages wait on disk; for all messages alike, and the next call works."""
    async with streamkit.open(tmp_path / "data", clock=ManualClock(NOW_MS)) as kit:
        await with_letters(kit, 12)
    async with streamkit.open(tmp_path / "data", clock=ManualClock(NOW_MS)) as kit:
        jobs, dead = kit.queue("jobs"), kit.queue("dead")

        def make() -> Coroutine[Any, Any, object]:
            if act == "redrive":
                return redrive()
            if act == "purge":
                return dead.purge()
            if act == "update":
                return dead.update(retention=86_400)
            return dead.move_task(where=lambda message: int(message.body) % 2 == 0).run(Stop())

        async def redrive() -> None:
            assert await dead.redrive(await dead.peek(100)) == 12

        async def check() -> None:
            back, left = await values(jobs), await values(dead)
            if act == "purge":
                assert (back, left) in (([], []), ([], list(range(12))))
                await dead.purge()
                await jobs.send_batch(list(range(12)))
            elif act == "update":
                assert left == list(range(12))
                return
            else:
                moved = list(range(12)) if act == "redrive" else list(range(0, 12, 2))
                assert back in ([], moved)
                assert sorted(back + left) == list(range(12))
            await jobs.receive(100)
            assert await jobs.receive(100) == []
            assert await values(dead) == list(range(12))

        assert await cancel_at_every_step(make, check) > 0


# ---- machines that die, disks that fail


@pytest.mark.parametrize("kind", ["killed", "lost"])
async def test_a_move_task_that_dies_leaves_each_message_in_one_queue(kind: str, tmp_path: Path) -> None:
    """At every call to the disk: by a kill, or by a power loss that leaves any part of what was not synced."""
    at = 0
    while True:
        files = FaultyFiles(crash_at=at)
        path, after = tmp_path / f"{at}", tmp_path / f"{at}-after"
        finished = await move_all(path, files)
        survives = kept if kind == "killed" else torn(at)
        await after_crash(files, path, after, survives)
        async with streamkit.open(after, clock=ManualClock(NOW_MS)) as kit:
            names = [queue.name for queue in await kit.engine.queues.describe_queues()]
            found = [value for name in names for value in await values(kit.queue(name))]
            assert sorted(found) in ([], list(range(12))), f"{files.calls[-1]}"
            if finished:
                assert await values(kit.queue("jobs")) == list(range(12))
        if finished:
            break
        at += 1
    assert at > 50


async def move_all(path: Path, files: FaultyFiles) -> bool:
    """Move twelve dead letters back, a few at a time. Whether the disk let it."""
    clock = ManualClock(NOW_MS)
    try:
        engine = await open_engine(path, clock, files)
    except StorageError:
        return False
    try:
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
        await engine.queues.create_queue("dead", QueueAttributes())
        await engine.queues.create_queue("jobs", QueueAttributes(redrive_policy=policy, visibility_timeout_ms=0))
        await engine.queues.send_messages("jobs", [SendEntry(b"%d" % number) for number in range(12)])
        await engine.queues.receive_messages("jobs", 100)
        await engine.queues.receive_messages("jobs", 100)
        await engine.settle()
        while letters := await engine.queues.peek_messages("dead", 5):
            await engine.queues.move_messages("dead", [letter.message_id for letter in letters], "jobs")
        await engine.aclose()
    except StorageError:
        with contextlib.suppress(StorageError):
            await engine.aclose()
        return False
    return True


async def test_a_receive_that_was_answered_survives_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written when it is answered, though nothing was synced for it; and synced with what comes next."""
    # The sync that comes soon by itself has a test of its own; here it would come while the copies are made.
    monkeypatch.setattr("streamkit.engines.file.journal._INTERVAL_SECONDS", 3600.0)
    files = FaultyFiles()
    clock = ManualClock(NOW_MS)
    engine = await open_engine(tmp_path / "data", clock, files)
    await engine.queues.create_queue("jobs", QueueAttributes())
    await engine.queues.send_messages("jobs", [SendEntry(b"x")])
    before = len(files.calls)
    (message,) = await engine.queues.receive_messages("jobs", 1)
    during = [call.operation for call in files.calls[before:] if call.path.endswith(".log")]
    assert "write" in during
    assert "sync" not in during
    await after_crash(files, tmp_path / "data", tmp_path / "killed", kept)
    await after_crash(files, tmp_path / "data", tmp_path / "lost", lost)
    assert await engine.queues.delete_messages("jobs", [message.receipt_handle]) == [None]
    await after_crash(files, tmp_path / "data", tmp_path / "deleted", lost)
    await engine.aclose()
    for name, counted in (("killed", (0, 1)), ("lost", (1, 0)), ("deleted", (0, 0))):
        engine = await open_engine(tmp_path / name, clock)
        (jobs,) = await engine.queues.describe_queues()
        assert (jobs.visible, jobs.not_visible) == counted, name
        await engine.aclose()


async def test_a_receive_is_synced_soon_if_nothing_else_is(tmp_path: Path) -> None:
    synced = asyncio.Event()
    loop = asyncio.get_running_loop()
    watching = False

    def before(call: Any) -> None:
        if watching and call.operation == "sync":
            loop.call_soon_threadsafe(synced.set)

    engine = await open_engine(tmp_path / "data", ManualClock(NOW_MS), FaultyFiles(before=before))
    await engine.queues.create_queue("jobs", QueueAttributes())
    await engine.queues.send_messages("jobs", [SendEntry(b"x")])
    watching = True
    assert len(await engine.queues.receive_messages("jobs", 1)) == 1
    async with asyncio.timeout(10):
        await synced.wait()
    await engine.aclose()


@pytest.mark.parametrize("act", ["send", "delete", "change", "move"])
async def test_a_sync_that_fails_is_told_and_what_was_acknowledged_is_there(act: str, tmp_path: Path) -> None:
    files = FaultyFiles()
    clock = ManualClock(NOW_MS)
    engine = await open_engine(tmp_path / "data", clock, files)
    await engine.queues.create_queue("jobs", QueueAttributes())
    await engine.queues.create_queue("other", QueueAttributes())
    results = await engine.queues.send_messages("jobs", [SendEntry(b"a"), SendEntry(b"b")])
    (message,) = await engine.queues.receive_messages("jobs", 1)

    def call() -> Coroutine[Any, Any, object]:
        queues = engine.queues
        if act == "send":
            return queues.send_messages("jobs", [SendEntry(b"c")])
        if act == "delete":
            return queues.delete_messages("jobs", [message.receipt_handle])
        if act == "change":
            return queues.change_visibility("jobs", [streamkit.queues.store.VisibilityEntry(message.receipt_handle, 0)])
        return queues.move_messages("jobs", [results[1].message_id], "other")

    files.fail[len(files.calls) + 1] = errno.EIO  # The write, then the sync.
    with pytest.raises(StorageError, match="close and open the directory again"):
        await call()
    with pytest.raises(StorageError):
        await engine.queues.send_messages("jobs", [SendEntry(b"d")])
    await engine.aclose()
    engine = await open_engine(tmp_path / "data", clock, files)
    found = {
        name: [message.body for message in await engine.queues.peek_messages(name, 10)] for name in ("jobs", "other")
    }
    (jobs, other) = await engine.queues.describe_queues()
    assert jobs.visible + jobs.not_visible + other.visible >= 2 - (act == "delete")
    assert b"d" not in found["jobs"]
    assert len({*found["jobs"], *found["other"]}) == len([*found["jobs"], *found["other"]])
    await engine.queues.send_messages("jobs", [SendEntry(b"again")])
    await engine.aclose()

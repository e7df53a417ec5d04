"""Who waits for messages is woken when there are some, however they came to be visible; on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.queue_files import QueueFiles
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import DiskFullError, StorageError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import SendEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.terms import Held, open_file
from tests.queues.windows import small_windows

FIFO = QueueAttributes(fifo=True)


@pytest.fixture(params=["memory", "file"])
async def engine(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Engine]:
    if request.param == "memory":
        engine: Engine = MemoryEngine(clock, Limits.relaxed())
    else:
        engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    yield engine
    await engine.aclose()


async def send(engine: Engine, *groups: str) -> None:
    entries = [SendEntry(group.encode(), group_id=group, deduplication_id=f"{n}") for n, group in enumerate(groups)]
    assert not any(result.error for result in await engine.queues.send_messages("q.fifo", entries))


async def waiting(engine: Engine, name: str, count: int, timeout_ms: int) -> list[asyncio.Task[list[ReceivedMessage]]]:
    """Receives of one message each that wait for up to 20 s."""
    tasks = [asyncio.create_task(engine.queues.receive_messages(name, 1, timeout_ms, 20_000)) for _ in range(count)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks


async def served(tasks: list[asyncio.Task[list[ReceivedMessage]]]) -> list[str]:
    """What they got; the manual clock stands still, so a receive that is not woken waits for ever."""
    async with asyncio.timeout(10):
        return sorted(message.body.decode() for messages in await asyncio.gather(*tasks) for message in messages)


async def test_the_end_of_a_timeout_that_began_while_others_wait(engine: Engine, clock: ManualClock) -> None:
    await engine.queues.create_queue("q", QueueAttributes())
    tasks = await waiting(engine, "q", 2, 5_000)
    await engine.queues.send_messages("q", [SendEntry(b"x")])
    async with asyncio.timeout(10):
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert sum(task.done() for task in tasks) == 1
    await clock.advance(5)
    assert await served(tasks) == ["x", "x"]


async def test_who_is_woken_and_refused_wakes_another(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for a moment, which must not leave a visible message lying before somebody who waits."""
    await engine.queues.create_queue("q", QueueAttributes())
    await engine.queues.send_messages("q", [SendEntry(b"x")])
    assert len(await engine.queues.receive_messages("q", 1, 5_000, 0)) == 1
    tasks = await waiting(engine, "q", 2, 30_000)
    log: Any = engine.queues
    check = log._log.check

    def refuse() -> None:
        monkeypatch.setattr(log._log, "check", check)
        raise DiskFullError("the journal")

    monkeypatch.setattr(log._log, "check", refuse)
    await clock.advance(5)
    with pytest.raises(DiskFullError):
        await tasks[0]
    assert await served(tasks[1:]) == ["x"]


async def test_a_shorter_delay_wakes_as_many_as_it_shows(engine: Engine, clock: ManualClock) -> None:
    delayed = replace(FIFO, delay_ms=100_000)
    await engine.queues.create_queue("q.fifo", delayed)
    await send(engine, "a", "b", "c")
    tasks = await waiting(engine, "q.fifo", 3, 30_000)
    await engine.queues.update_queue("q.fifo", FIFO)
    assert await served(tasks) == ["a", "b", "c"]


async def test_an_eager_policy_wakes_those_who_wait_for_what_was_behind(engine: Engine, clock: ManualClock) -> None:
    """Its three first messages are visible, and each hides one from who waits, until they are moved all at once."""
    await engine.queues.create_queue("dead.fifo", FIFO)
    await engine.queues.create_queue("q.fifo", FIFO)
    await send(engine, "a", "b", "c", "a", "b", "c")
    for _ in range(3):
        assert len(await engine.queues.receive_messages("q.fifo", 1, 5_000, 0)) == 1
    tasks = await waiting(engine, "q.fifo", 3, 30_000)
    policy = RedrivePolicy(dead_letter_queue="dead.fifo", max_receive_count=1, eager=True)
    await engine.queues.update_queue("q.fifo", replace(FIFO, redrive_policy=policy))
    await clock.advance(5)
    assert await served(tasks) == ["a", "b", "c"]
    (dead,) = await engine.queues.describe_queues(["dead.fifo"])
    assert dead.visible == 3


async def test_what_is_too_old_makes_way_for_all_that_it_held_up(engine: Engine, clock: ManualClock) -> None:
    attributes = replace(FIFO, retention_ms=60_000)
    await engine.queues.create_queue("q.fifo", attributes)
    await send(engine, "a", "b")
    assert len(await engine.queues.receive_messages("q.fifo", 2, 600_000, 0)) == 2
    await clock.advance(50)
    entries = [SendEntry(b"young", group_id=group, deduplication_id=f"young {group}"[6:]) for group in ("a", "b")]
    assert not any(result.error for result in await engine.queues.send_messages("q.fifo", entries))
    tasks = await waiting(engine, "q.fifo", 2, 30_000)
    await clock.advance(11)
    await engine.queues.describe_queues(["q.fifo"])
    assert await served(tasks) == ["young", "young"]


async def test_a_purge_leaves_those_who_wait_waiting_for_what_is_sent_next(engine: Engine, clock: ManualClock) -> None:
    await engine.queues.create_queue("q.fifo", FIFO)
    await send(engine, "a", "b")
    assert len(await engine.queues.receive_messages("q.fifo", 2, 30_000, 0)) == 2
    tasks = await waiting(engine, "q.fifo", 2, 30_000)
    assert await engine.queues.purge_queue("q.fifo") == 2
    await send(engine, "a", "b")
    assert await served(tasks) == ["a", "b"]


async def test_an_eager_policy_moves_at_once_what_was_received_for_no_time(engine: Engine, clock: ManualClock) -> None:
    """Its last timeout has ended with its receive. Who waits for dead letters is woken, and nobody needs to look."""
    await engine.queues.create_queue("dead", QueueAttributes())
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=2, eager=True)
    await engine.queues.create_queue("q", QueueAttributes(redrive_policy=policy))
    await engine.queues.send_messages("q", [SendEntry(b"x")])
    tasks = await waiting(engine, "dead", 1, 30_000)
    assert len(await engine.queues.receive_messages("q", 1, 0, 0)) == 1
    assert not (await engine.queues.peek_messages("dead", 10))
    assert len(await engine.queues.receive_messages("q", 1, 0, 0)) == 1
    assert await served(tasks) == ["x"]


class Backlog:
    """A FIFO queue of which six messages are in memory, all of one group and in flight, and the others on disk.

    What reads them is held back.
    """

    def __init__(self, engine: FileEngine, held: Held, received: list[ReceivedMessage]) -> None:
        self.engine = engine
        self.held = held
        self.received = received

    async def delete(self, count: int) -> None:
        handles = [self.received.pop(0).receipt_handle for _ in range(count)]
        assert await self.engine.queues.delete_messages("q.fifo", handles) == [None] * count


@pytest.fixture
async def backlog(clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backlog]:
    small_windows(monkeypatch)
    held = Held("streamkit-read")
    engine = await open_file(tmp_path / "data", clock, files=FaultyFiles(before=held))
    await engine.queues.create_queue("q.fifo", FIFO)
    await send(engine, *"aaaaaa", *"bcdefg")
    await engine.settle()
    received = await engine.queues.receive_messages("q.fifo", 6, 600_000, 0)
    assert [message.group_id for message in received] == ["a"] * 6
    yield Backlog(engine, held, received)
    held.let_all_through()
    await engine.aclose()


async def test_who_is_woken_and_cancelled_while_a_page_is_loaded_wakes_another(backlog: Backlog) -> None:
    engine, held = backlog.engine, backlog.held
    tasks = await waiting(engine, "q.fifo", 2, 30_000)
    held.holding = True
    await backlog.delete(1)
    assert await held.reached(tasks[0])
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    assert tasks[0].cancelled()
    held.let_all_through()
    assert await served(tasks[1:]) == ["b"]


async def test_who_is_woken_and_cannot_load_a_page_wakes_another(backlog: Backlog) -> None:
    """Which tries again, and here has more luck."""
    engine = backlog.engine
    tasks = await waiting(engine, "q.fifo", 2, 30_000)

    with pytest.MonkeyPatch.context() as patch:

        async def fails(*_: object) -> None:
            patch.undo()
            raise StorageError("the disk has gone away")

        patch.setattr(QueueFiles, "read", fails)
        await backlog.delete(1)
        with pytest.raises(StorageError, match="gone away"):
            await tasks[0]
    assert await served(tasks[1:]) == ["b"]


@pytest.mark.parametrize(("deleted", "receives"), [(1, 2), (3, 4)])
async def test_all_that_a_page_brings_is_for_those_who_wait(backlog: Backlog, deleted: int, receives: int) -> None:
    """However few were woken by what made room for it."""
    tasks = await waiting(backlog.engine, "q.fifo", receives, 30_000)
    await backlog.delete(deleted)
    assert await served(tasks) == list("bcde"[:receives])

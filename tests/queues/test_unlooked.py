"""What time brings about counts also if nobody has looked at the queue since; live and after a crash."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import MessageNotInflightError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.testing.clock import ManualClock


async def opened(path: Path, clock: ManualClock) -> FileEngine:
    return await FileEngine.open(path, clock=clock, limits=Limits.relaxed())


async def counts(engine: MemoryEngine | FileEngine, name: str) -> tuple[int, int, int]:
    (queue,) = await engine.queues.describe_queues([name])
    return queue.visible, queue.not_visible, queue.delayed


@pytest.mark.parametrize("look", [True, False])
async def test_a_longer_delay_leaves_alone_what_is_visible(look: bool, clock: ManualClock, tmp_path: Path) -> None:
    """A FIFO queue's new delay counts for those that wait; the process may end right after it was set."""
    attributes = QueueAttributes(fifo=True, delay_ms=10_000)
    engine = await opened(tmp_path / "data", clock)
    await engine.queues.create_queue("q.fifo", attributes)
    await engine.queues.send_messages("q.fifo", [SendEntry(b"old", group_id="a", deduplication_id="1")])
    await clock.advance(9)
    await engine.queues.send_messages("q.fifo", [SendEntry(b"young", group_id="b", deduplication_id="2")])
    await clock.advance(1)
    if look:
        assert await counts(engine, "q.fifo") == (1, 0, 1)
    await engine.queues.update_queue("q.fifo", replace(attributes, delay_ms=60_000))
    assert await counts(engine, "q.fifo") == (1, 0, 1)
    await asyncio.to_thread(
        shutil.copytree, tmp_path / "data", tmp_path / "killed", ignore=shutil.ignore_patterns("*.new")
    )
    (tmp_path / "killed" / "streamkit.lock").unlink()
    await engine.aclose()
    for path in ("killed", "data"):
        engine = await opened(tmp_path / path, clock)
        assert await counts(engine, "q.fifo") == (1, 0, 1)
        assert [m.body for m in await engine.queues.receive_messages("q.fifo", 10, None, 0)] == [b"old"]
        await engine.aclose()


async def test_what_was_too_old_before_the_retention_became_longer_is_gone(clock: ManualClock, tmp_path: Path) -> None:
    """As it would be if somebody had looked in time; after a reopening, too."""
    attributes = QueueAttributes(retention_ms=60_000)
    engine = await opened(tmp_path / "data", clock)
    await engine.queues.create_queue("q", attributes)
    await engine.queues.send_messages("q", [SendEntry(b"old")])
    await clock.advance(1)
    await engine.queues.send_messages("q", [SendEntry(b"young")])
    await clock.advance(60)
    await engine.queues.update_queue("q", replace(attributes, retention_ms=None))
    for _ in range(2):
        assert [m.body for m in await engine.queues.peek_messages("q", 10)] == [b"young"]
        await engine.aclose()
        engine = await opened(tmp_path / "data", clock)
    await engine.aclose()


async def test_what_is_too_old_is_no_dead_letter(clock: ManualClock) -> None:
    """An eager policy moves what was received too often when its timeout ends, if it is still there."""
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.queues.create_queue("dead", QueueAttributes())
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1, eager=True)
    await engine.queues.create_queue("q", QueueAttributes(retention_ms=60_000, redrive_policy=policy))
    await engine.queues.send_messages("q", [SendEntry(b"old")])
    await clock.advance(1)
    await engine.queues.send_messages("q", [SendEntry(b"young")])
    assert len(await engine.queues.receive_messages("q", 10, 60_000, 0)) == 2
    await clock.advance(60)
    assert [m.body for m in await engine.queues.peek_messages("dead", 10)] == [b"young"]
    assert await counts(engine, "q") == (0, 0, 0)
    await engine.aclose()


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_receipt_of_what_is_too_old(fifo: bool, clock: ManualClock) -> None:
    """It is as if it had been deleted: that it is deleted once more succeeds, and it cannot be shown or hidden."""
    engine = MemoryEngine(clock, Limits.relaxed())
    name = "q.fifo" if fifo else "q"
    await engine.queues.create_queue(name, QueueAttributes(fifo=fifo, retention_ms=60_000))
    entry = SendEntry(b"x", group_id="a", deduplication_id="1") if fifo else SendEntry(b"x")
    for settle in ("delete", "show", "hide"):
        await engine.queues.send_messages(name, [entry])
        (message,) = await engine.queues.receive_messages(name, 1, 1_000, 0)
        # Also long after the end of its timeout, and past the five minutes of the next one's id.
        await clock.advance(300)
        handle = message.receipt_handle
        if settle == "delete":
            assert await engine.queues.delete_messages(name, [handle]) == [None]
        else:
            change = VisibilityEntry(handle, 10_000 if settle == "hide" else 0)
            (error,) = await engine.queues.change_visibility(name, [change])
            assert isinstance(error, MessageNotInflightError)
        assert await counts(engine, name) == (0, 0, 0)
    await engine.aclose()

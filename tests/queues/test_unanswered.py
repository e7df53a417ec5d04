"""Receives and deletes that nobody waits for any more, and what is told to whoever asks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.testing.clock import ManualClock

FIFO = QueueAttributes(fifo=True)


@pytest.fixture
async def engine(clock: ManualClock, tmp_path: Path) -> AsyncIterator[FileEngine]:
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    await engine.queues.create_queue("q.fifo", FIFO)
    await engine.queues.send_messages("q.fifo", [SendEntry(b"x", group_id="a", deduplication_id="1")])
    yield engine
    await engine.aclose()


async def begun(*tasks: asyncio.Task[Any]) -> None:
    """They have changed what they change. It is written in the next turn of the loop."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def give_up(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_attempt_that_was_given_up_is_not_taken_for_somebody_else_s(engine: FileEngine) -> None:
    """Somebody else received the message in the same millisecond, so it stands as the attempt left it."""
    given_up = asyncio.create_task(engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt"))
    await begun(given_up)
    await give_up(given_up)
    (message,) = await engine.queues.receive_messages("q.fifo", 1, None, 0)
    assert await engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt") == []
    assert await engine.queues.delete_messages("q.fifo", [message.receipt_handle]) == [None]


async def test_what_a_retry_got_is_not_taken_from_it(engine: FileEngine) -> None:
    """The attempt that it repeats is given up after it."""
    first = asyncio.create_task(engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt"))
    retry = asyncio.create_task(engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt"))
    await begun(first, retry)
    await give_up(first)
    (message,) = await retry
    assert await engine.queues.receive_messages("q.fifo", 1, None, 0) == []
    assert await engine.queues.delete_messages("q.fifo", [message.receipt_handle]) == [None]


async def test_an_attempt_given_up_is_forgotten_on_disk_too(
    engine: FileEngine, clock: ManualClock, tmp_path: Path
) -> None:
    given_up = asyncio.create_task(engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt"))
    await begun(given_up)
    await give_up(given_up)
    assert len(await engine.queues.receive_messages("q.fifo", 1, None, 0)) == 1
    await engine.aclose()
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    assert await engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt") == []
    await engine.aclose()


async def test_a_delete_that_is_repeated_is_durable_when_it_returns(engine: FileEngine) -> None:
    """The first one was given up, and may not be on disk yet."""
    (message,) = await engine.queues.receive_messages("q.fifo", 1, None, 0)
    given_up = asyncio.create_task(engine.queues.delete_messages("q.fifo", [message.receipt_handle]))
    again = asyncio.create_task(engine.queues.delete_messages("q.fifo", [message.receipt_handle]))
    await begun(given_up, again)
    await give_up(given_up)
    assert await again == [None]


async def test_an_attempt_is_given_again_also_if_no_more_may_be_in_flight(clock: ManualClock) -> None:
    engine = MemoryEngine(clock, msgspec.structs.replace(Limits.relaxed(), in_flight_messages=1))
    await engine.queues.create_queue("q.fifo", FIFO)
    await engine.queues.send_messages(
        "q.fifo", [SendEntry(b"x", group_id=group, deduplication_id=group) for group in ("a", "b")]
    )
    first = await engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt")
    assert len(first) == 1
    assert await engine.queues.receive_messages("q.fifo", 1, None, 0, "attempt") == first
    assert await engine.queues.receive_messages("q.fifo", 1, None, 0, "another") == []
    await engine.aclose()

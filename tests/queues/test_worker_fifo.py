"""A worker of a FIFO queue: groups side by side, each in order, whatever fails."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

import streamkit
from streamkit import Kit, Message, Queue, RedrivePolicy, Retry, Send
from streamkit.testing.clock import ManualClock

AT_ONCE = Retry(first=0, longest=0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def fifo(kit: Kit, *bodies: str, max_receive_count: int = 2) -> Queue[str]:
    """A queue with ``group-number`` messages, and its dead-letter queue."""
    await kit.create_queue("dead.fifo", type=str, fifo=True)
    policy = RedrivePolicy(dead_letter_queue="dead.fifo", max_receive_count=max_receive_count)
    queue = await kit.create_queue("jobs.fifo", type=str, fifo=True, redrive_policy=policy)
    sends = [Send(value=body, group_id=body[0], deduplication_id=body) for body in bodies]
    assert all(result.error is None for result in await queue.send_batch(sends))
    return queue


async def until_empty(clock: ManualClock, queue: Queue[str]) -> None:
    for _ in range(200):
        await clock.advance(1)
        found = await queue.describe()
        if found.visible + found.not_visible == 0:
            return
    raise AssertionError("it is not empty")


@pytest.mark.parametrize("concurrency", [1, 2, 10])
async def test_groups_side_by_side_each_in_order(kit: Kit, clock: ManualClock, concurrency: int) -> None:
    bodies = [f"{group}-{number}" for number in range(8) for group in "abc"]
    queue = await fifo(kit, *bodies)
    handled: dict[str, list[str]] = defaultdict(list)
    running: dict[str, int] = defaultdict(int)
    most = 0

    async def handle(body: str) -> None:
        nonlocal most
        running[body[0]] += 1
        most = max(most, sum(running.values()))
        assert running[body[0]] == 1, "two of a group at the same time"
        for _ in range(3):
            await asyncio.sleep(0)
        running[body[0]] -= 1
        handled[body[0]].append(body)

    worker = kit.start(queue.worker(handle, concurrency=concurrency))
    await until_empty(clock, queue)
    assert handled == {group: [f"{group}-{number}" for number in range(8)] for group in "abc"}
    assert most == min(concurrency, 3)
    await kit.stop(worker)


async def test_a_message_that_fails_takes_none_behind_it_with_it(kit: Kit, clock: ManualClock) -> None:
    """They wait for it, and it alone is a dead letter, which says why."""
    queue = await fifo(kit, "a-0", "a-1", "a-2", "b-0")
    handled: list[str] = []

    async def handle(message: Message[str]) -> None:
        if message.value == "a-0":
            raise ValueError("poison")
        assert message.receive_count == 1
        handled.append(message.value)

    worker = kit.start(queue.worker(handle, concurrency=10, retry=AT_ONCE))
    await until_empty(clock, queue)
    assert sorted(handled) == ["a-1", "a-2", "b-0"]
    assert handled.index("a-1") < handled.index("a-2")
    (dead,) = await kit.queue("dead.fifo", type=str).peek()
    assert (dead.value, dead.last_error, dead.receive_count) == ("a-0", "ValueError: poison", 2)
    await kit.stop(worker)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

import streamkit
from streamkit import Kit, Limits, Queue, Send, ValidationError
from streamkit.queues.portions import Portions
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=ManualClock(), limits=Limits.aws()) as kit:
        yield kit


async def filled(kit: Kit, count: int) -> Queue[int]:
    queue = await kit.create_queue("jobs", type=int)
    for at in range(0, count, 10):
        await queue.send_batch(range(at, min(count, at + 10)))
    return queue


async def test_more_than_the_engine_allows_goes_in_portions(kit: Kit) -> None:
    queue = await filled(kit, 25)
    portions = Portions(queue)
    messages = [message for _ in range(3) for message in await portions.receive(100, 30, 0)]
    assert [message.value for message in messages] == list(range(25))
    assert portions.most == 10
    assert await Portions(queue).hide([(message, 60) for message in messages]) == [None] * 25
    assert await Portions(queue).delete(messages) == [None] * 25
    assert (await queue.describe()).not_visible == 0


async def test_errors_stand_where_their_messages_do(kit: Kit) -> None:
    queue = await filled(kit, 25)
    portions = Portions(queue)
    messages = [message for _ in range(3) for message in await portions.receive(100, 30, 0)]
    await queue.change_visibility(messages[13], 0)
    assert len(await queue.receive()) == 1
    errors = await portions.delete(messages)
    assert [at for at, error in enumerate(errors) if error is not None] == [13]


async def test_what_is_refused_for_another_reason_is_refused(kit: Kit) -> None:
    queue = await filled(kit, 2)
    portions = Portions(queue)
    with pytest.raises(ValidationError, match="a visibility timeout is 0 to 43,200 s"):
        await portions.receive(100, 50_000, 0)
    assert (await queue.describe()).visible == 2


async def test_a_limit_of_one_s_own_is_learnt_too() -> None:
    small = msgspec.structs.replace(Limits.relaxed(), receive_messages=3, send_messages=3)
    async with streamkit.open("memory:", clock=ManualClock(), limits=small) as kit:
        queue = await kit.create_queue("jobs", type=int)
        await queue.send_batch([1, 2, 3])
        portions = Portions(queue)
        messages = await portions.receive(50, 30, 0)
        assert [message.value for message in messages] == [1, 2]
        messages += await portions.receive(50, 30, 0)
        assert await portions.delete(messages) == [None] * 3


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_worker_works_with_the_limits_of_aws(kit: Kit, fifo: bool) -> None:
    queue = await kit.create_queue("jobs.fifo" if fifo else "jobs", type=int, fifo=fifo)
    for number in range(70):
        group_id = str(number % 35) if fifo else None
        await queue.send_batch([Send(value=number, group_id=group_id, deduplication_id=str(number) if fifo else None)])
    seen: list[int] = []
    most = running = 0

    async def handler(value: int) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        seen.append(value)
        running -= 1

    worker = kit.start(queue.worker(handler, concurrency=32))
    await worker.wait_drained()
    assert sorted(seen) == list(range(70))
    assert 20 < most <= 32
    await kit.stop(worker)

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from streamkit.backoff import Retry
from streamkit.errors import ClosedError, NotFoundError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.queues.message import Message
from streamkit.queues.worker import Worker
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue

AT_ONCE = Retry(first=0, longest=0)


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Running:
    """A worker in a task."""

    def __init__(self, worker: Worker[Any]) -> None:
        self.worker = worker
        self.stop = Stop()
        self.task = asyncio.create_task(worker.run(self.stop))

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.request()
        await self.task


async def test_what_returns_is_deleted(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    seen: list[int] = []

    async def handler(value: int) -> None:
        seen.append(value)

    await queue.send_batch(range(20))
    async with Running(queue.worker(handler, concurrency=3)) as running:
        await running.worker.wait_drained()
        await queue.send(99)
        await running.worker.wait_drained()
    assert seen == [*range(20), 99]
    assert running.worker.handled == 21


async def test_what_raises_comes_back_and_becomes_a_dead_letter(make_queue: MakeQueue, metrics: Metrics) -> None:
    dead = await make_queue("dead")
    queue = await make_queue(dead="dead", tries=3)
    tries: list[int] = []

    async def handler(value: int) -> None:
        if value == 1:
            tries.append(value)
            raise ArithmeticError("one is not a number here")

    await queue.send_batch([0, 1, 2])
    async with Running(queue.worker(handler, concurrency=2, retry=AT_ONCE)) as running:
        await running.worker.wait_drained()
    assert tries == [1, 1, 1]
    assert (running.worker.handled, running.worker.failed) == (2, 3)
    (letter,) = await dead.peek()
    assert letter.value == 1
    errors = metrics.total(running.worker._errors_metric)
    assert errors is not None
    assert errors.sum == 3


async def test_the_wait_before_it_comes_back_is_the_retry_s(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue(visibility=100)
    tries: list[int] = []

    async def handler(value: int) -> None:
        tries.append(value)
        raise ArithmeticError

    await queue.send(7)
    async with Running(queue.worker(handler, retry=Retry(first=10, factor=2, jitter=False))):
        await turns()
        assert len(tries) == 1
        await clock.advance(9.9)
        assert len(tries) == 1
        await clock.advance(0.2)
        assert len(tries) == 2
        await clock.advance(19.8)
        assert len(tries) == 2
        await clock.advance(0.3)
        assert len(tries) == 3


async def test_a_body_that_does_not_decode_is_a_failure_like_any_other(make_queue: MakeQueue) -> None:
    dead = await make_queue("dead", type_=bytes)
    queue = await make_queue(type_=int, dead="dead", tries=2)
    await queue.send("not an int")

    async def handler(value: int) -> None:
        raise AssertionError("never called")

    async with Running(queue.worker(handler, retry=AT_ONCE)) as running:
        await running.worker.wait_drained()
    (letter,) = await dead.peek()
    assert letter.body == b'"not an int"'


async def test_no_more_than_concurrency_run_and_none_is_hoarded(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    release = asyncio.Event()
    active = most = 0

    async def handler(value: int) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await release.wait()
        active -= 1

    await queue.send_batch(range(10))
    async with Running(queue.worker(handler, concurrency=4)) as running:
        await turns()
        found = await queue.describe()
        assert (active, found.not_visible, found.visible) == (4, 4, 6)
        release.set()
        await running.worker.wait_drained()
    assert most == 4


async def test_a_slow_handler_keeps_its_message_hidden(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue(visibility=10)
    release = asyncio.Event()
    calls: list[int] = []

    async def handler(value: int) -> None:
        calls.append(value)
        await release.wait()

    await queue.send(1)
    async with Running(queue.worker(handler, concurrency=2)) as running:
        await clock.advance(95)
        assert calls == [1]
        assert (await queue.describe()).not_visible == 1
        release.set()
        await running.worker.wait_drained()
    assert calls == [1]


async def test_a_handler_may_take_the_message(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    counts: list[int] = []

    async def handler(message: Message[int]) -> None:
        counts.append(message.receive_count)

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        await running.worker.wait_drained()
    assert counts == [1]


async def test_a_plain_function_runs_in_a_thread(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    threads: list[int] = []

    def handler(value: int) -> None:
        threads.append(threading.get_ident())

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        await running.worker.wait_drained()
    assert threads
    assert threading.get_ident() not in threads


async def test_a_stop_finishes_what_is_in_hand_and_takes_nothing_new(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    release = asyncio.Event()

    async def handler(value: int) -> None:
        await release.wait()

    await queue.send_batch([1, 2, 3])
    running = Running(queue.worker(handler, concurrency=2))
    await turns()
    running.stop.request()
    await turns()
    assert not running.task.done()
    release.set()
    await running.task
    assert running.worker.handled == 2
    found = await queue.describe()
    assert (found.visible, found.not_visible) == (1, 0)
    with pytest.raises(ClosedError, match="worker:jobs, with messages left in its queue, is closed"):
        await running.worker.wait_drained()


async def test_cancellation_shows_its_messages_again_at_once(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None:
        await asyncio.Event().wait()

    await queue.send_batch([1, 2])
    task = asyncio.create_task(queue.work(handler, concurrency=2))
    await turns()
    assert (await queue.describe()).not_visible == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await queue.describe()
    assert (found.visible, found.not_visible) == (2, 0)


async def test_cancelled_anywhere_nothing_is_lost(make_queue: MakeQueue) -> None:
    """Cancelled at its n-th step and started again, until one run goes through: every message is handled."""
    queue = await make_queue()
    for steps in range(40):
        handled: list[int] = []

        async def handler(value: int, handled: list[int] = handled) -> None:
            await asyncio.sleep(0)
            handled.append(value)

        await queue.send_batch(range(3))
        task = asyncio.create_task(queue.work(handler, concurrency=2))
        await turns(steps)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = await queue.describe()
        assert found.not_visible == 0
        async with Running(queue.worker(handler, concurrency=2)) as running:
            await running.worker.wait_drained()
        assert set(handled) == {0, 1, 2}


async def test_a_deleted_queue_ends_the_worker(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None: ...

    running = Running(queue.worker(handler))
    await turns()
    await queue._store.delete_queue("jobs")
    with pytest.raises(NotFoundError, match="it was deleted while a receive waited"):
        await running.task


async def test_concurrency_is_at_least_one(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    with pytest.raises(ValidationError, match="a concurrency of 1 or more, not 0"):
        queue.worker(print, concurrency=0)

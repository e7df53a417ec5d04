"""A worker that is stopped or cancelled, at any moment: nothing is lost, hidden for longer, or done twice at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio
import pytest

from streamkit.backoff import Retry
from streamkit.errors import DiskFullError, ValidationError
from streamkit.queues.message import Message, QueueAttributes
from streamkit.queues.queue import Queue, Send
from streamkit.queues.worker import Worker
from streamkit.service import Stop
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue, Wire
from .working import AT_ONCE, Running, turns

KINDS = pytest.mark.parametrize(("fifo", "batch"), [(False, None), (False, 2), (True, None), (True, 2)])


class Work:
    """Three messages, of which the second fails once, and a worker that stops when all are done."""

    def __init__(self, queue: Queue[int], batch: int | None) -> None:
        self.queue = queue
        self.stop = Stop()
        self.done: list[int] = []
        self._running: set[int] = set()
        self._twice: set[int] = set()
        if batch is None:
            self.worker: Worker[int] = queue.worker(self._one, concurrency=2, retry=AT_ONCE)
        else:
            self.worker = queue.batch_worker(self._several, max_messages=batch, concurrency=2, retry=AT_ONCE)

    async def send(self, run: int) -> None:
        fifo = self.queue.name.endswith(".fifo")
        sends = [
            Send(
                value=value,
                group_id="b" if value == 2 else "a" if fifo else None,
                deduplication_id=f"{run}-{value}" if fifo else None,
            )
            for value in range(3)
        ]
        assert all(result.error is None for result in await self.queue.send_batch(sends))

    async def _one(self, message: Message[int]) -> None:
        if await self._several([message]):
            raise ArithmeticError

    async def _several(self, messages: list[Message[int]]) -> Sequence[Message[int]]:
        values = {message.value for message in messages}
        self._twice |= values & self._running
        self._running |= values
        try:
            await asyncio.sleep(0)
        finally:
            self._running -= values
        failed = [message for message in messages if message.value == 1 and message.receive_count == 1]
        for message in messages:
            if message not in failed:
                self.done.append(message.value)
        if len(self.done) == 3:
            self.stop.request()
        return failed

    async def check(self) -> None:
        """Nothing is in flight, and what is not done is there."""
        assert not self._twice, "handled twice at the same time"
        found = await self.queue.describe()
        assert (found.not_visible, found.delayed) == (0, 0)
        left = [message.value for message in await self.queue.peek()]
        assert sorted(left + self.done) == [0, 1, 2]
        if self.queue.name.endswith(".fifo"):
            assert [value for value in self.done if value != 2] == [0, 1][: len([v for v in self.done if v != 2])]
        await self.queue.purge()


async def queue_of(make_queue: MakeQueue, wire: Wire, *, fifo: bool) -> Queue[int]:
    queue: Queue[int] = await make_queue("standard", over=wire)
    await queue._store.create_queue("jobs.fifo", QueueAttributes(fifo=True))
    if fifo:
        queue.name = "jobs.fifo"
    return queue


@KINDS
@pytest.mark.parametrize("by", ["task", "scope"])
async def test_cancelled_anywhere_nothing_is_lost(
    make_queue: MakeQueue, wire: Wire, by: str, fifo: bool, batch: int | None
) -> None:
    """Cancelled one turn of the loop later each time: what was not handled is visible at once, and what was is gone."""
    queue = await queue_of(make_queue, wire, fifo=fifo)
    for steps in range(400):
        work = Work(queue, batch)
        await work.send(steps)
        if by == "task":
            task = asyncio.create_task(work.worker.run(work.stop))
            await turns(steps)
            ended = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            returned = asyncio.Event()

            async def run(work: Work = work, returned: asyncio.Event = returned) -> None:
                await work.worker.run(work.stop)
                returned.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await turns(steps)
                ended = returned.is_set()
                tasks.cancel_scope.cancel()
        await work.check()
        if ended:
            break
    assert 15 <= steps < 399  # It was cancelled in the middle of all of it, and the last time not at all.


@KINDS
async def test_cancelled_at_every_suspension_nothing_is_lost(
    make_queue: MakeQueue, wire: Wire, fifo: bool, batch: int | None
) -> None:
    queue = await queue_of(make_queue, wire, fifo=fifo)
    work = Work(queue, batch)
    run = 0

    async def check() -> None:
        nonlocal work, run
        await work.check()
        work = Work(queue, batch)
        run += 1
        await work.send(run)

    def make() -> Coroutine[Any, Any, None]:
        return work.worker.run(work.stop)

    await work.send(run)
    assert await cancel_at_every_step(make, check) >= 5


@KINDS
@pytest.mark.parametrize("grace", [None, 0, 60])
async def test_stopped_anywhere_nothing_is_lost(
    make_queue: MakeQueue, wire: Wire, clock: ManualClock, fifo: bool, batch: int | None, grace: float | None
) -> None:
    """Asked one turn of the loop later each time; nobody cancels it, and it ends by itself."""
    queue = await queue_of(make_queue, wire, fifo=fifo)
    for steps in range(400):
        work = Work(queue, batch)
        work.worker._grace = grace
        await work.send(steps)
        task = asyncio.create_task(work.worker.run(work.stop))
        await turns(steps)
        ended = task.done()
        work.stop.request()
        await turns(60)
        if grace == 0:
            await clock.advance(0)
        await task
        await work.check()
        if ended:
            break
    assert 15 <= steps < 399


async def test_a_cancellation_after_a_failure_leaves_its_back_off_alone(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=600, over=wire)

    async def handler(messages: list[Message[int]]) -> list[Message[int]]:
        return messages[:1]

    await queue.send_batch([1, 2])
    held = wire.hold["delete_messages"] = asyncio.Event()
    task = asyncio.create_task(queue.work_batches(handler, retry=Retry(first=60, jitter=False)))
    await turns()
    task.cancel()
    await turns()
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(59)
    found = await queue.describe()
    assert (found.visible, found.not_visible) == (0, 1)
    await clock.advance(2)
    (message,) = await queue.receive()
    assert message.value == 1


# ---- the grace period


def endless(started: list[int]) -> Callable[[int], Coroutine[Any, Any, None]]:
    async def handler(value: int) -> None:
        started.append(value)
        await asyncio.Event().wait()

    return handler


async def test_a_stop_waits_for_its_grace_period_and_then_lets_go_at_once(
    make_queue: MakeQueue, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = await make_queue(visibility=1000)
    started: list[int] = []
    await queue.send_batch(range(3))
    running = Running(queue.worker(endless(started), concurrency=2, grace=10))
    await turns()
    running.stop.request()
    await clock.advance(9.9)
    found = await queue.describe()
    assert (started, found.visible, found.not_visible, running.task.done()) == ([0, 1], 1, 2, False)
    await clock.advance(0.2)
    await running.task
    found = await queue.describe()
    assert (started, found.visible, found.not_visible) == ([0, 1], 3, 0)
    assert "worker:jobs: not finished 10 s after the stop, and cancelled: 2" in caplog.text


async def test_what_ends_within_the_grace_period_ends_the_worker(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None:
        await clock.sleep_until(clock.now_ms() + 1000 * value)

    await queue.send_batch([2, 4])
    running = Running(queue.worker(handler, concurrency=2, grace=10))
    await turns()
    running.stop.request()
    await clock.advance(3.9)
    assert not running.task.done()
    await clock.advance(0.2)
    assert running.task.done()
    assert running.worker.handled == 2


async def test_a_worker_with_nothing_in_hand_ends_at_once(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    running = Running(queue.worker(endless([]), grace=10))
    await turns()
    running.stop.request()
    await running.task


async def test_no_grace_cancels_at_once(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()
    await queue.send(1)
    async with Running(queue.worker(endless([]), grace=0)):
        await turns()
    assert (await queue.describe()).visible == 1


async def test_a_thread_is_waited_for_also_after_the_grace_period(make_queue: MakeQueue, clock: ManualClock) -> None:
    """It cannot be cancelled, and showing its message would have it handled twice at a time."""
    queue = await make_queue(visibility=10)
    loop = asyncio.get_running_loop()
    entered, release = asyncio.Event(), threading.Event()

    def handler(values: list[int]) -> None:
        loop.call_soon_threadsafe(entered.set)
        release.wait(10)

    await queue.send_batch([1, 2])
    running = Running(queue.batch_worker(handler, grace=5))
    await entered.wait()
    running.stop.request()
    await clock.advance(60)
    found = await queue.describe()
    assert (running.task.done(), found.not_visible) == (False, 2)
    release.set()
    await running.task
    found = await queue.describe()
    assert (running.worker.handled, found.visible, found.not_visible) == (2, 0, 0)


async def test_a_disk_that_stays_full_does_not_outlast_the_grace_period(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=30, over=wire)

    async def handler(value: int) -> None: ...

    await queue.send(1)
    wire.fail["delete_messages"] = DiskFullError("journal")
    running = Running(queue.worker(handler, grace=20))
    await turns()
    running.stop.request()
    await clock.advance(19)
    assert not running.task.done()
    await clock.advance(2)
    assert running.task.done()
    await clock.advance(10)
    assert (await queue.describe()).visible == 1


async def test_a_batch_that_is_let_go_is_visible_at_once_and_in_order(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await queue_of(make_queue, wire, fifo=True)
    sends = [Send(value=at, group_id="a", deduplication_id=str(at)) for at in range(5)]
    await queue.send_batch(sends)

    async def handler(values: list[int]) -> None:
        await asyncio.Event().wait()

    running = Running(queue.batch_worker(handler, grace=5))
    await turns()
    assert (await queue.describe()).not_visible == 5
    running.stop.request()
    await clock.advance(6)
    await running.task
    assert [message.value for message in await queue.receive(10)] == list(range(5))


@pytest.mark.parametrize("grace", [-1, float("inf"), float("nan")])
async def test_a_grace_period_is_a_number_of_seconds(make_queue: MakeQueue, grace: float) -> None:
    queue = await make_queue()
    with pytest.raises(ValidationError, match="grace is 0 or more seconds, or None for as long as it takes"):
        queue.worker(print, grace=grace)


# ---- what is settled does not hold up the next


async def test_the_next_is_handled_while_the_last_is_deleted_and_no_more(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)
    seen: list[int] = []

    async def handler(value: int) -> None:
        seen.append(value)

    await queue.send_batch(range(10))
    held = wire.hold["delete_messages"] = asyncio.Event()
    async with Running(queue.worker(handler, concurrency=2)) as running:
        await turns(100)
        assert seen == [0, 1, 2, 3]
        held.set()
        del wire.hold["delete_messages"]
        await running.worker.wait_drained()
    assert seen == list(range(10))

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from streamkit.backoff import Retry
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ClosedError, NotFoundError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.queues.message import Message, RedrivePolicy
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue, Wire
from .working import AT_ONCE, Running, turns


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


async def test_drained_is_a_queue_whose_last_message_is_counted(
    make_queue: MakeQueue, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await make_queue()
    delete_messages, answered = engine.queues.delete_messages, asyncio.Event()

    async def late(*args: Any) -> Any:
        answer = await delete_messages(*args)
        await answered.wait()
        return answer

    monkeypatch.setattr(engine.queues, "delete_messages", late)

    async def handler(value: int) -> None:
        await asyncio.sleep(0)

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        waiting = asyncio.create_task(running.worker.wait_drained())
        await turns()
        assert (await queue.describe()).not_visible == 0
        assert not waiting.done()
        answered.set()
        await waiting
        assert running.worker.handled == 1


async def test_drained_is_a_queue_that_an_eager_policy_has_emptied(make_queue: MakeQueue, clock: ManualClock) -> None:
    await make_queue("dead")
    queue = await make_queue(dead="dead", tries=1)
    await queue.update(redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=1, eager=True))
    await queue.send("never")

    async def handler(value: str) -> None:
        raise ArithmeticError("no number")

    async with Running(queue.worker(handler, retry=Retry(first=3, longest=3))) as running:
        waiting = asyncio.create_task(running.worker.wait_drained())
        await turns()
        assert not waiting.done()
        await clock.advance(4)
        assert waiting.done()


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


async def test_no_more_than_concurrency_run_and_none_is_hoarded(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)
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
        assert wire.calls["receive_messages"] == 1
        release.set()
        await running.worker.wait_drained()
    assert most == 4


async def test_a_worker_without_messages_waits_and_does_not_poll(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(over=wire)
    handled = asyncio.Event()

    async def handler(value: int) -> None:
        handled.set()

    async with Running(queue.worker(handler)):
        await clock.advance(19)
        assert wire.calls["receive_messages"] == 1
        await queue.send(1)
        await handled.wait()  # The clock stands still: it was the send that woke it.


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


async def test_a_plain_function_does_not_block_the_loop(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    loop = asyncio.get_running_loop()
    entered, release = asyncio.Event(), threading.Event()
    released: list[bool] = []

    def handler(value: int) -> None:
        loop.call_soon_threadsafe(entered.set)
        released.append(release.wait(10))

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        await entered.wait()
        release.set()
        await running.worker.wait_drained()
    assert released == [True]


async def test_as_many_threads_as_handlers(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    together = threading.Barrier(45, timeout=10)  # More than the 40 that anyio has for everybody.

    def handler(value: int) -> None:
        together.wait()

    await queue.send_batch(range(45))
    async with Running(queue.worker(handler, concurrency=45, retry=Retry(first=60, jitter=False))) as running:
        while running.worker.handled + running.worker.failed < 45:
            await running.worker._next_progress().wait()
    assert running.worker.handled == 45


@pytest.mark.parametrize("on_its_way", [False, True])
async def test_a_cancellation_waits_for_a_thread_and_keeps_its_message_hidden(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire, on_its_way: bool
) -> None:
    queue = await make_queue(visibility=10, over=wire)
    loop = asyncio.get_running_loop()
    entered, release = asyncio.Event(), threading.Event()

    def handler(value: int) -> None:
        loop.call_soon_threadsafe(entered.set)
        release.wait(10)

    await queue.send(1)
    worker = queue.worker(handler)
    task = asyncio.create_task(worker.run(Stop()))
    await entered.wait()
    if on_its_way:
        wire.hold["change_visibility"] = asyncio.Event()
        await clock.advance(5)
        assert wire.calls["change_visibility"] == 1
    task.cancel()
    await turns()
    if on_its_way:
        wire.hold.pop("change_visibility").set()
    await clock.advance(35)
    found = await queue.describe()
    assert (task.done(), found.visible, found.not_visible) == (False, 0, 1)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await queue.describe()
    assert (worker.handled, found.visible, found.not_visible) == (1, 0, 0)


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


async def test_a_deleted_queue_ends_the_worker(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None: ...

    running = Running(queue.worker(handler))
    await turns()
    await queue._store.delete_queue("jobs")
    with pytest.raises(NotFoundError, match="it was deleted meanwhile"):
        await running.task


async def test_a_deleted_queue_ends_the_worker_also_while_it_handles(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None:
        await asyncio.Event().wait()

    await queue.send(1)
    running = Running(queue.worker(handler, concurrency=2))
    await turns()
    await queue._store.delete_queue("jobs")
    with pytest.raises(NotFoundError, match="it was deleted meanwhile"):
        await running.task


async def test_a_handler_that_awaits_something_cancelled_fails_alone(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()
    seen: list[int] = []

    async def handler(message: Message[int]) -> None:
        seen.append(message.value)
        if message.receive_count == 1 and message.value == 1:
            inner = asyncio.create_task(asyncio.Event().wait())
            inner.cancel()
            await inner

    await queue.send_batch([1, 2])
    async with Running(queue.worker(handler, retry=AT_ONCE)) as running:
        await running.worker.wait_drained()
    assert seen == [1, 2, 1]
    assert (running.worker.handled, running.worker.failed) == (2, 1)


async def test_what_somebody_else_did_not_finish_is_handled_after_its_timeout(
    make_queue: MakeQueue, clock: ManualClock
) -> None:
    queue = await make_queue(visibility=30)
    counts: list[int] = []

    async def handler(message: Message[int]) -> None:
        counts.append(message.receive_count)

    await queue.send(1)
    assert len(await queue.receive()) == 1
    async with Running(queue.worker(handler)):
        await clock.advance(29.9)
        assert counts == []
        await clock.advance(0.2)
        assert counts == [2]


async def test_what_was_handled_too_late_is_not_counted(
    make_queue: MakeQueue, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = await make_queue()

    async def handler(message: Message[int]) -> None:
        if message.receive_count == 1:
            await queue.change_visibility(message, 0)
            assert len(await queue.receive()) == 1

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        await turns()
        assert (running.worker.handled, running.worker.failed) == (0, 0)
        assert "was handled, but not in time" in caplog.text
        await clock.advance(31)
        await running.worker.wait_drained()
    assert running.worker.handled == 1


async def test_a_queue_without_a_timeout_is_not_handled_twice_at_a_time(make_queue: MakeQueue) -> None:
    queue = await make_queue(visibility=0)
    release = asyncio.Event()
    calls: list[int] = []

    async def handler(value: int) -> None:
        calls.append(value)
        await release.wait()

    await queue.send(1)
    async with Running(queue.worker(handler, concurrency=3)) as running:
        await turns()
        assert calls == [1]
        release.set()
        await running.worker.wait_drained()
    assert calls == [1]


# ---- again, and not at all


async def test_a_worker_runs_again_after_a_stop(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None: ...

    worker = queue.worker(handler)
    for _ in range(2):
        async with Running(worker):
            await turns()
            await queue.send(1, delay=0)
            await worker.wait_drained()
    assert worker.handled == 2


async def test_nobody_waits_for_a_worker_that_ends(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def handler(value: int) -> None: ...

    await queue.send(1, delay=60)
    async with Running(queue.worker(handler)) as running:
        waiting = asyncio.create_task(running.worker.wait_drained())
        await turns()
        assert not waiting.done()
    with pytest.raises(ClosedError, match="with messages left in its queue"):
        await waiting


async def test_nobody_waits_for_a_worker_that_could_not_begin(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)

    async def handler(value: int) -> None: ...

    await queue.send(1)
    held = wire.hold["describe_queues"] = asyncio.Event()
    worker = queue.worker(handler)
    task = asyncio.create_task(worker.run(Stop()))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.set()
    with pytest.raises(ClosedError, match="with messages left in its queue"):
        await worker.wait_drained()


async def test_the_log_tells_which_and_where_and_not_what(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    queue = await make_queue()

    async def handler(value: str) -> None:
        if value == "a-secret":
            await queue.send("done")
            raise ArithmeticError(f"cannot mail {value}")

    with caplog.at_level(logging.DEBUG, logger="streamkit"):
        message_id = await queue.send("a-secret")
        async with Running(queue.worker(handler, retry=Retry(first=60, jitter=False))):
            await turns()
    assert f"message {message_id} of worker:jobs failed at receive 1 and is visible again in 60.00 s" in caplog.text
    assert "ArithmeticError" in caplog.text
    assert "in handler" in caplog.text
    assert "a-secret" not in caplog.text.replace('"a-secret"', "")


@pytest.mark.parametrize(
    "retry", [Retry(first=-1), Retry(factor=-1), Retry(longest=43_201), Retry(longest=float("nan"))]
)
async def test_a_back_off_fits_what_a_message_can_be_hidden(make_queue: MakeQueue, retry: Retry) -> None:
    queue = await make_queue()
    with pytest.raises(ValidationError, match=r"is no back-off for messages: they can be hidden for 0 to 43,200 s"):
        queue.worker(print, retry=retry)


async def test_concurrency_is_at_least_one(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    with pytest.raises(ValidationError, match="a concurrency of 1 or more, not 0"):
        queue.worker(print, concurrency=0)

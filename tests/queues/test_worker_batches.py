"""A worker whose handler takes lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import streamkit
from streamkit import Kit, Message, Queue, RedrivePolicy, Retry, Send, ValidationError
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue, Wire
from .working import AT_ONCE, Running, turns


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def fifo(kit: Kit, *bodies: str, max_receive_count: int = 3) -> Queue[str]:
    """A queue with ``group-number`` messages, and its dead-letter queue."""
    await kit.create_queue("dead.fifo", type=str, fifo=True)
    policy = RedrivePolicy(dead_letter_queue="dead.fifo", max_receive_count=max_receive_count)
    queue = await kit.create_queue("jobs.fifo", type=str, fifo=True, redrive_policy=policy)
    await queue.send_batch([Send(value=body, group_id=body[0], deduplication_id=body) for body in bodies])
    return queue


async def until_empty(clock: ManualClock, queue: Queue[Any]) -> None:
    for _ in range(400):
        await clock.advance(1)
        found = await queue.describe()
        if found.visible + found.not_visible == 0:
            return
    raise AssertionError(f"it is not empty: {found}")


async def test_it_gets_lists_and_all_of_them_are_deleted(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)
    seen: list[list[int]] = []

    async def handler(values: list[int]) -> None:
        seen.append(values)

    await queue.send_batch(range(25))
    async with Running(queue.batch_worker(handler, concurrency=3)) as running:
        await running.worker.wait_drained()
    assert seen == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert running.worker.handled == 25
    assert wire.calls["delete_messages"] == 1  # Three calls of the handler ended in one turn of the loop.


async def test_no_more_than_concurrency_batches_run_and_no_batch_is_larger(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    release = asyncio.Event()
    batches: list[int] = []

    async def handler(values: list[int]) -> None:
        batches.append(len(values))
        await release.wait()

    await queue.send_batch(range(100))
    async with Running(queue.batch_worker(handler, max_messages=7, concurrency=3)) as running:
        await turns()
        assert batches == [7, 7, 7]
        assert (await queue.describe()).not_visible == 21
        release.set()
        await running.worker.wait_drained()
    assert sum(batches) == 100
    assert max(batches) == 7


@pytest.mark.parametrize("form", ["list", "dict", "Lambda's"])
async def test_what_the_handler_names_fails_alone(
    kit: Kit, clock: ManualClock, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    dead = await kit.create_queue("dead", type=int)
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=2)
    queue = await kit.create_queue("jobs", type=int, redrive_policy=policy)
    seen: list[list[int]] = []

    async def handler(messages: Sequence[Message[int]]) -> object:
        seen.append([message.value for message in messages])
        failed = [message for message in messages if message.value in (2, 5)]
        if form == "list":
            return failed
        if form == "dict":
            return {message: ValueError(f"no {message.value}") for message in failed}
        return {"batchItemFailures": [{"itemIdentifier": message.message_id} for message in failed]}

    await queue.send_batch(range(8))
    worker = kit.start(queue.batch_worker(handler, retry=AT_ONCE))
    await worker.wait_drained()
    assert seen == [list(range(8)), [2, 5]]
    assert (worker.handled, worker.failed) == (6, 4)
    letters = await dead.peek()
    assert [letter.value for letter in letters] == [2, 5]
    reported = "FunctionError: the handler reported it as failed"
    reasons = ["ValueError: no 2", "ValueError: no 5"] if form == "dict" else [reported, reported]
    assert [letter.last_error for letter in letters] == reasons
    assert "no 2" not in caplog.text
    await kit.stop(worker)


async def test_each_comes_back_after_a_back_off_of_its_own(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue(visibility=100)
    seen: list[list[int]] = []

    async def handler(values: list[int]) -> None:
        seen.append(values)
        raise ArithmeticError

    await queue.send(1)
    (message,) = await queue.receive()
    await queue.change_visibility(message, 0)
    await queue.send(2)
    async with Running(queue.batch_worker(handler, retry=Retry(first=10, factor=2, jitter=False))):
        await clock.advance(9.9)
        assert seen == [[1, 2]]
        await clock.advance(0.2)
        assert seen == [[1, 2], [2]]
        await clock.advance(9.8)
        assert seen == [[1, 2], [2]]
        await clock.advance(0.2)
        assert seen == [[1, 2], [2], [1]]


async def test_what_all_failed_with_is_logged_once(make_queue: MakeQueue, caplog: pytest.LogCaptureFixture) -> None:
    queue = await make_queue()

    async def handler(values: list[str]) -> None:
        raise ArithmeticError(" ".join(values))

    await queue.send_batch(["a-secret"] * 5)
    with caplog.at_level(logging.WARNING, logger="streamkit"):
        async with Running(queue.batch_worker(handler, retry=Retry(first=60, jitter=False))):
            await turns()
    assert caplog.text.count("failed at receive 1 and is visible again in 60.00 s") == 5
    assert caplog.text.count("Traceback") == 1
    assert "FunctionError: ArithmeticError was raised" in caplog.text
    assert "a-secret" not in caplog.text


async def test_a_slow_batch_stays_hidden_with_one_call_for_all_of_it(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=10, over=wire)
    release = asyncio.Event()
    seen: list[list[int]] = []

    async def handler(messages: list[Message[int]]) -> None:
        seen.append([message.value for message in messages])
        await queue.delete(messages[3])  # It needs no extension, and the others do.
        await release.wait()

    await queue.send_batch(range(8))
    async with Running(queue.batch_worker(handler, concurrency=2)) as running:
        await clock.advance(96)
        assert wire.calls["change_visibility"] == 19
        assert (await queue.describe()).not_visible == 7
        release.set()
        await running.worker.wait_drained()
    assert seen == [list(range(8))]
    assert running.worker.handled == 8


async def test_a_handler_in_a_thread_takes_lists_too(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    seen: list[int] = []

    def handler(messages: list[Message[int]]) -> list[Message[int]]:
        seen.extend(message.value for message in messages)
        return [message for message in messages if message.value == 2 and message.receive_count == 1]

    await queue.send_batch(range(4))
    async with Running(queue.batch_worker(handler, retry=AT_ONCE)) as running:
        await running.worker.wait_drained()
    assert seen == [0, 1, 2, 3, 2]


# ---- FIFO


async def test_what_is_behind_a_failed_message_of_its_group_comes_after_it(kit: Kit, clock: ManualClock) -> None:
    queue = await fifo(kit, *(f"{group}-{number}" for number in range(4) for group in "ab"))
    handled: list[str] = []
    batches: list[list[str]] = []

    async def handler(messages: list[Message[str]]) -> list[Message[str]]:
        batches.append([message.value for message in messages])
        failed = [message for message in messages if message.value == "a-1" and message.receive_count == 1]
        handled.extend(message.value for message in messages if message not in failed)
        return failed

    worker = kit.start(queue.batch_worker(handler, retry=Retry(first=10, jitter=False)))
    await until_empty(clock, queue)
    assert batches[0] == [f"{group}-{number}" for group in "ab" for number in range(4)]
    # What the handler did behind the failed one does not count, and is done again in order.
    assert batches[1:] == [["a-1"], ["a-2"], ["a-3"]]
    assert [body for body in handled if body[0] == "b"] == [f"b-{number}" for number in range(4)]
    assert (worker.handled, worker.failed) == (8, 1)
    await kit.stop(worker)


async def test_those_behind_a_message_that_always_fails_outlive_it(kit: Kit, clock: ManualClock) -> None:
    """They were received with it once, and not each time."""
    queue = await fifo(kit, *(f"a-{number}" for number in range(9)), "b-0", max_receive_count=3)
    handled: list[str] = []

    async def handler(messages: list[Message[str]]) -> None:
        if any(message.value == "a-0" for message in messages):
            raise ValueError("poison")
        handled.extend(message.value for message in messages)

    worker = kit.start(queue.batch_worker(handler, retry=Retry(first=5, jitter=False)))
    await until_empty(clock, queue)
    assert [body for body in handled if body[0] == "a"] == [f"a-{number}" for number in range(1, 9)]
    (dead,) = await kit.queue("dead.fifo", type=str).peek()
    assert (dead.value, dead.last_error) == ("a-0", "ValueError: poison")
    await queue.send_batch([Send(value=f"a-{at}", group_id="a", deduplication_id=str(at)) for at in range(10, 20)])
    await clock.advance(60)
    assert handled[-10:] == [f"a-{number}" for number in range(10, 20)]
    await kit.stop(worker)


async def test_a_dead_letter_that_was_only_behind_another_says_so(kit: Kit, clock: ManualClock) -> None:
    queue = await fifo(kit, "a-0", "a-1", max_receive_count=1)

    async def handler(messages: list[Message[str]]) -> list[Message[str]]:
        return messages[:1]

    worker = kit.start(queue.batch_worker(handler, retry=AT_ONCE))
    await until_empty(clock, queue)
    first, second = await kit.queue("dead.fifo", type=str).peek()
    assert first.last_error == "FunctionError: the handler reported it as failed"
    assert second.last_error == f"not handled: message {first.message_id} before it in its message group failed"
    await kit.stop(worker)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("max_messages", [1, 3, 50])
async def test_batches_keep_the_order_of_each_group(
    kit: Kit, clock: ManualClock, concurrency: int, max_messages: int
) -> None:
    queue = await fifo(kit, *(f"{group}-{number:02}" for number in range(20) for group in "abcd"), max_receive_count=9)
    handled: dict[str, list[str]] = {group: [] for group in "abcd"}
    running: set[str] = set()
    together: list[str] = []
    seen: set[str] = set()

    async def handler(messages: list[Message[str]]) -> list[Message[str]]:
        groups = {message.value[0] for message in messages}
        together.extend(groups & running)
        running.update(groups)
        for _ in range(3):
            await asyncio.sleep(0)
        running.difference_update(groups)
        stopped: set[str] = set()
        failed = []
        for message in messages:
            body = message.value
            if body[0] in stopped:
                continue
            if body[-1] == "3" and body not in seen:
                seen.add(body)
                stopped.add(body[0])
                failed.append(message)
                continue
            handled[body[0]].append(body)
        return failed

    worker = kit.start(queue.batch_worker(handler, max_messages=max_messages, concurrency=concurrency, retry=AT_ONCE))
    await until_empty(clock, queue)
    assert handled == {group: [f"{group}-{number:02}" for number in range(20)] for group in "abcd"}
    assert worker.handled == 80
    assert not together, "two batches had messages of one group at the same time"
    await kit.stop(worker)


# ---- what it takes


async def test_a_handler_says_what_it_takes_and_the_worker_must_fit(make_queue: MakeQueue) -> None:
    queue = await make_queue()

    async def takes_one(message: Message[int]) -> None: ...
    async def takes_several(messages: list[Message[int]]) -> None: ...

    with pytest.raises(ValidationError, match=r"takes one Message: use queue\.worker"):
        queue.batch_worker(takes_one)
    with pytest.raises(ValidationError, match=r"takes a list of messages: use queue\.batch_worker"):
        queue.worker(takes_several)
    with pytest.raises(ValidationError, match="max_messages of 1 or more, not 0"):
        queue.batch_worker(takes_several, max_messages=0)


async def test_work_batches_works_until_it_is_cancelled(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    seen: list[list[int]] = []

    async def handler(values: list[int]) -> None:
        seen.append(values)

    await queue.send_batch(range(5))
    task = asyncio.create_task(queue.work_batches(handler, max_messages=3))
    await turns()
    assert seen == [[0, 1, 2], [3, 4]]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

"""A worker whose store fails or hangs."""

from __future__ import annotations

import asyncio

import pytest

from streamkit.errors import DiskFullError, JournalFailedError
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue, Wire
from .working import AT_ONCE, Running, turns


async def test_a_back_off_that_can_never_work_ends_the_worker(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)

    async def handler(value: int) -> None:
        raise ArithmeticError

    await queue.send(1)
    wire.fail["change_visibility"] = JournalFailedError("journal", OSError(5, "Input/output error"))
    with pytest.raises(JournalFailedError):
        await queue.work(handler)


async def test_a_worker_fails_with_what_failed_first(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await make_queue()
    together = asyncio.Event()

    def fail(call: str, name: str) -> None:
        async def failing(*_: object) -> None:
            raise JournalFailedError(name, OSError(5, "Input/output error"))

        monkeypatch.setattr(queue._store, call, failing)

    async def handler(value: int) -> None:
        await together.wait()
        if value == 2:
            raise ArithmeticError

    await queue.send_batch([1, 2])
    running = Running(queue.worker(handler, concurrency=2))
    await turns()
    fail("change_visibility", "first")
    fail("delete_messages", "second")
    together.set()
    with pytest.raises(JournalFailedError, match="the journal first failed"):
        await running.task
    assert running.worker.failed == 1


@pytest.mark.parametrize("call", ["receive_messages", "delete_messages", "change_visibility"])
async def test_a_full_disk_is_waited_out(make_queue: MakeQueue, clock: ManualClock, wire: Wire, call: str) -> None:
    queue = await make_queue(visibility=10, over=wire)
    calls: list[int] = []

    async def handler(value: int) -> None:
        calls.append(value)
        if value == 0 and len(calls) == 1:
            raise ArithmeticError
        await clock.sleep_until(clock.now_ms() + 6000)

    await queue.send_batch([0, 1])
    wire.fail[call] = DiskFullError("journal")
    async with Running(queue.worker(handler, concurrency=2, retry=AT_ONCE)) as running:
        await clock.advance(8)
        assert not running.task.done()
        del wire.fail[call]
        await clock.advance(60)
        await running.worker.wait_drained()
    assert set(calls) == {0, 1}
    assert running.worker.handled == 2


@pytest.mark.parametrize("call", ["delete_messages", "change_visibility"])
async def test_a_failure_while_letting_go_does_not_replace_the_cancellation(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire, call: str
) -> None:
    queue = await make_queue(visibility=10, over=wire)

    async def handler(value: int) -> None:
        if call == "change_visibility":
            await asyncio.Event().wait()

    await queue.send(1)
    held = wire.hold["delete_messages"] = asyncio.Event()
    task = asyncio.create_task(queue.work(handler))
    await turns()
    wire.fail[call] = JournalFailedError("journal", OSError(5, "Input/output error"))
    task.cancel()
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(10)
    assert (await queue.describe()).visible == 1


async def test_a_store_that_hangs_does_not_hold_up_a_cancellation_for_ever(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.queues.worker._SETTLE_SECONDS", 0.01)
    queue = await make_queue(visibility=10, over=wire)

    async def handler(value: int) -> None: ...

    await queue.send(1)
    wire.hold["delete_messages"] = asyncio.Event()
    task = asyncio.create_task(queue.work(handler))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(10)
    assert (await queue.describe()).visible == 1


async def test_a_delete_that_is_cancelled_happens_all_the_same(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)

    async def handler(value: int) -> None: ...

    await queue.send(1)
    held = wire.hold["delete_messages"] = asyncio.Event()
    worker = queue.worker(handler)
    task = asyncio.create_task(worker.run(Stop()))
    await turns()
    task.cancel()
    await turns()
    assert not task.done()
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await queue.describe()
    assert (worker.handled, found.visible, found.not_visible) == (1, 0, 0)

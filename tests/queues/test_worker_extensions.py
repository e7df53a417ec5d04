"""A message stays hidden while its handler runs, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from streamkit.backoff import Retry
from streamkit.errors import ClosedError, DiskFullError, JournalFailedError
from streamkit.queues.message import Message
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue, Wire
from .working import Running, turns


async def test_the_timeout_is_extended_at_half_time(make_queue: MakeQueue, clock: ManualClock, wire: Wire) -> None:
    queue = await make_queue(visibility=10, over=wire)

    async def handler(value: int) -> None:
        await clock.sleep_until(clock.now_ms() + 17_000)

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        for seconds, extensions in ((4.9, 0), (0.2, 1), (4.7, 1), (0.3, 2), (5, 3), (60, 3)):
            await clock.advance(seconds)
            assert wire.calls["change_visibility"] == extensions
    assert running.worker.handled == 1


async def test_an_extension_on_its_way_does_not_outlast_the_handler(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=100, over=wire)
    fail = asyncio.Event()
    tries: list[int] = []

    async def handler(value: int) -> None:
        tries.append(value)
        await fail.wait()
        raise ArithmeticError

    await queue.send(1)
    async with Running(queue.worker(handler, retry=Retry(first=5, factor=1, jitter=False))):
        await turns()
        wire.hold["change_visibility"] = asyncio.Event()
        await clock.advance(50)
        held = wire.hold.pop("change_visibility")
        fail.set()
        await turns()
        held.set()
        await turns()
        await wire.land()
        await clock.advance(4.9)
        assert len(tries) == 1
        await clock.advance(0.2)
        assert len(tries) == 2


async def test_an_extension_on_its_way_does_not_outlast_a_cancellation(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=100, over=wire)

    async def handler(value: int) -> None:
        await asyncio.Event().wait()

    await queue.send(1)
    task = asyncio.create_task(queue.work(handler))
    await turns()
    wire.hold["change_visibility"] = asyncio.Event()
    await clock.advance(50)
    held = wire.hold.pop("change_visibility")
    task.cancel()
    await turns()
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wire.land()
    found = await queue.describe()
    assert (found.visible, found.not_visible) == (1, 0)


async def test_an_extension_that_hangs_does_not_hold_up_a_cancellation_for_ever(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.queues.worker._SETTLE_SECONDS", 0.01)
    queue = await make_queue(visibility=10, over=wire)

    async def handler(value: int) -> None:
        await asyncio.Event().wait()

    await queue.send(1)
    task = asyncio.create_task(queue.work(handler))
    await turns()
    wire.hold["change_visibility"] = asyncio.Event()
    await clock.advance(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(10)
    assert (await queue.describe()).visible == 1


async def test_extensions_do_not_pile_up_on_a_slow_disk_and_are_not_late_after_it(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=20, over=wire)
    release = asyncio.Event()

    async def handler(value: int) -> None:
        await release.wait()

    await queue.send(1)
    async with Running(queue.worker(handler)):
        await turns()
        held = wire.hold["change_visibility"] = asyncio.Event()
        await clock.advance(16)
        assert wire.calls["change_visibility"] == 1
        held.set()
        await clock.advance(3.9)
        assert wire.calls["change_visibility"] == 1
        await clock.advance(0.2)
        assert wire.calls["change_visibility"] == 2
        release.set()


async def test_no_extension_follows_the_handler_s_end(make_queue: MakeQueue, clock: ManualClock, wire: Wire) -> None:
    queue = await make_queue(visibility=10, over=wire)
    release = asyncio.Event()

    async def handler(value: int) -> None:
        await release.wait()

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        await turns()
        extending = wire.hold["change_visibility"] = asyncio.Event()
        deleting = wire.hold["delete_messages"] = asyncio.Event()
        await clock.advance(5)
        release.set()
        await turns()
        extending.set()
        await clock.advance(9)  # Another one would have been due after five.
        assert (wire.calls["change_visibility"], wire.calls["delete_messages"]) == (1, 1)
        deleting.set()
    assert running.worker.handled == 1


async def test_an_extension_that_fails_is_tried_again_in_time(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=10, over=wire)
    release = asyncio.Event()
    calls: list[int] = []

    async def handler(value: int) -> None:
        calls.append(value)
        await release.wait()

    await queue.send(1)
    async with Running(queue.worker(handler, concurrency=2)):
        await turns()
        wire.fail["change_visibility"] = DiskFullError("journal")
        await clock.advance(8.7)  # At 5, 6.25 and 7.5 s there is no room, at 8.75 s there is.
        del wire.fail["change_visibility"]
        await clock.advance(60)
        assert calls == [1]
        release.set()


async def test_what_is_no_exception_ends_the_worker_and_leaves_no_timer(
    make_queue: MakeQueue, clock: ManualClock
) -> None:
    class Abort(BaseException):
        pass

    queue = await make_queue()

    async def handler(value: int) -> None:
        raise Abort

    await queue.send(1)
    with pytest.raises(BaseExceptionGroup) as aborted:
        await queue.work(handler)
    assert aborted.value.subgroup(Abort)
    await clock.advance(31)
    assert (await queue.describe()).visible == 1


async def test_an_extension_that_is_refused_is_the_last(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """As after twelve hours, or when the handler deleted its message itself."""
    queue = await make_queue(visibility=10, over=wire)
    release = asyncio.Event()

    async def handler(message: Message[int]) -> None:
        await queue.delete(message)
        await release.wait()

    await queue.send(1)
    async with Running(queue.worker(handler)) as running:
        await clock.advance(60)
        assert wire.calls["change_visibility"] == 1
        assert "is not in flight under this receipt handle" in caplog.text
        release.set()
        await turns()
    assert running.worker.handled == 1


async def test_an_extension_that_can_never_work_ends_the_worker(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(visibility=10, over=wire)

    async def handler(value: int) -> None:
        await asyncio.Event().wait()

    await queue.send(1)
    running = Running(queue.worker(handler))
    await turns()
    wire.fail["change_visibility"] = JournalFailedError("journal", OSError(5, "Input/output error"))
    await clock.advance(6)
    with pytest.raises(JournalFailedError):
        await running.task
    with pytest.raises(ClosedError) as closed:
        await running.worker.wait_drained()
    assert isinstance(closed.value.__cause__, JournalFailedError)

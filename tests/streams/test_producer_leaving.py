from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from streamkit.codecs import Codec
from streamkit.errors import (
    ClosedError,
    DiskFullError,
    ThroughputExceededError,
)
from streamkit.streams.buffer import Batching
from streamkit.streams.producer import Producer
from streamkit.streams.store import PutEntry, PutResult
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from tests.streams.shelf import BY_THE_SECOND, Shelf, describe, producer_of, put

MakeStream = Callable[..., Awaitable[Stream[Any]]]


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


async def test_leaving_with_an_exception_sends_what_was_accepted(shelf: Shelf, clock: ManualClock) -> None:
    async def work() -> None:
        async with producer_of(shelf, clock, max_records=2) as producer:
            shelf.gate.clear()
            await put(producer, b"1", b"2", b"3")
            asyncio.get_running_loop().call_soon(shelf.gate.set)
            raise KeyError("mine")

    with pytest.raises(KeyError) as raised:
        await work()
    assert shelf.data == [b"1", b"2", b"3"]
    assert not hasattr(raised.value, "__notes__")


async def test_leaving_with_an_exception_waits_for_no_retry_and_does_not_mask_it(
    shelf: Shelf, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.refuse.extend([{0: ThroughputExceededError("slow down")}] * 2)
    producer = producer_of(shelf, clock)

    async def work() -> None:
        async with producer:
            await put(producer, b"1", b"2")
            await clock.advance(0)
            assert shelf.sizes == [2]
            raise KeyError("mine")

    with pytest.raises(KeyError) as raised:
        await work()
    assert raised.value.args == ("mine",)
    assert [entry.data for entry in producer.refused] == [b"1", b"2"]
    assert "could not store 2 of the records" in raised.value.__notes__[0]
    assert "could not store 2 of the records" in caplog.text


async def test_leaving_while_retries_fail_ends_with_a_timeout_around_it(shelf: Shelf, clock: ManualClock) -> None:
    async def refuse(entries: Sequence[PutEntry], producer: object = None, newest: object = None) -> list[PutResult]:
        raise DiskFullError("/data")

    producer: Producer[bytes] = Producer("orders", Codec(bytes), refuse, describe, clock, Batching(retry=BY_THE_SECOND))

    async def work() -> None:
        async with producer:
            await put(producer, b"1")

    task = asyncio.create_task(work())
    await clock.advance(30)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert [entry.data for entry in producer.refused] == [b"1"]

    producer = Producer("orders", Codec(bytes), refuse, describe, clock, Batching(retry=BY_THE_SECOND))
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_later(0, scope.cancel)
        await work()
    assert scope.cancelled_caught
    assert [entry.data for entry in producer.refused] == [b"1"]


async def test_a_cancelled_scope_around_the_block_still_sends_what_was_accepted(
    shelf: Shelf, clock: ManualClock
) -> None:
    async def open_the_gate() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        shelf.gate.set()

    shelf.gate.clear()
    opening = asyncio.create_task(open_the_gate())
    with anyio.CancelScope() as scope:
        async with producer_of(shelf, clock, max_records=1) as producer:
            await put(producer, b"1", b"2", b"3")
            scope.cancel()
            await asyncio.Event().wait()
    assert scope.cancelled_caught
    assert shelf.data == [b"1", b"2", b"3"]
    await opening


async def test_a_second_cancellation_ends_the_sending_too(shelf: Shelf, clock: ManualClock) -> None:
    producer = producer_of(shelf, clock, max_records=1)

    async def work() -> None:
        async with producer:
            await put(producer, b"1", b"2")

    shelf.gate.clear()
    task = asyncio.create_task(work())
    await clock.advance(0)
    task.cancel()
    await clock.advance(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    # The first was in flight, so it may be stored or not; both are told.
    assert [entry.data for entry in producer.refused] == [b"1", b"2"]


async def test_outside_its_block_a_producer_is_closed(shelf: Shelf, clock: ManualClock) -> None:
    producer = producer_of(shelf, clock)
    with pytest.raises(ClosedError, match="orders"):
        await put(producer, b"1")
    async with producer:
        with pytest.raises(ClosedError):
            await producer.__aenter__()
    for call in (put(producer, b"1"), producer.flush(), producer.__aenter__()):
        with pytest.raises(ClosedError, match="orders"):
            await call
    assert shelf.calls == []


async def test_a_put_that_waits_when_the_block_is_left_is_told(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, buffer_records=1) as producer:
        shelf.gate.clear()
        await put(producer, b"1")
        waiting = asyncio.create_task(put(producer, b"2"))
        await clock.advance(0)
        asyncio.get_running_loop().call_soon(shelf.gate.set)
    with pytest.raises(ClosedError):
        await waiting
    assert shelf.data == [b"1"]


async def test_a_sender_that_somebody_kills_loses_nothing_in_silence(shelf: Shelf, clock: ManualClock) -> None:
    producer = producer_of(shelf, clock, max_records=1)

    async def work() -> None:
        async with producer:
            shelf.gate.clear()
            await put(producer, b"1", b"2")
            await clock.advance(0)
            assert producer._sender is not None
            producer._sender.cancel()
            await producer.flush()

    with pytest.raises(ClosedError) as raised:
        await work()
    assert [entry.data for entry in producer.refused] == [b"1", b"2"]
    assert "could not store 2" in raised.value.__notes__[0]

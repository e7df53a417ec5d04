from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from streamkit.errors import ClosedError, ThroughputExceededError, ValidationError
from streamkit.streams.gather import Gathering
from streamkit.streams.store import PutColumns, PutEntry, PutResult
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step

MakeStream = Callable[..., Awaitable[Stream[Any]]]


class Store:
    """Takes calls, and answers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Sequence[PutEntry]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def called(self, times: int) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(self.calls) == times

    async def put(self, entries: Sequence[PutEntry]) -> Sequence[PutResult]:
        self.calls.append(entries)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if any(entry.data == b"bad" for entry in entries):
            raise ValidationError("a bad entry")
        return [
            PutResult("", 0, ThroughputExceededError("the shard"))
            if entry.data == b"slow down"
            else PutResult("shard", int(entry.data[-9:]))
            for entry in entries
        ]


async def test_the_puts_of_one_turn_are_one_call_in_their_order() -> None:
    store = Store()
    gathering = Gathering(store.put)
    results = await asyncio.gather(*(gathering.put(f"key-{at}", b"%d" % at, None) for at in range(300)))
    assert [result.sequence_number for result in results] == list(range(300))
    (call,) = store.calls
    assert isinstance(call, PutColumns)
    assert [entry.partition_key for entry in call] == [f"key-{at}" for at in range(300)]


async def test_a_call_is_one_that_every_engine_takes() -> None:
    """500 entries, and not too many bytes; a single larger one goes alone."""
    store = Store()
    gathering = Gathering(store.put)
    await asyncio.gather(*(gathering.put("k", b"%d" % at, None) for at in range(1_201)))
    assert [len(call) for call in store.calls] == [500, 500, 201]
    store.calls.clear()
    large = b" " * 3_000_000 + b"1"
    await asyncio.gather(*(gathering.put("k", large, None) for _ in range(3)))
    assert [len(call) for call in store.calls] == [1, 1, 1]


async def test_an_explicit_hash_key_goes_with_its_entry() -> None:
    store = Store()
    gathering = Gathering(store.put)
    await asyncio.gather(gathering.put("k", b"1", None), gathering.put("l", b"2", 7))
    assert list(store.calls[0]) == [PutEntry("k", b"1"), PutEntry("l", b"2", 7)]


async def test_one_entry_that_is_refused_refuses_no_other() -> None:
    """Whether the store refused it alone, or its whole call because of it."""
    store = Store()
    gathering = Gathering(store.put)
    waits = [gathering.put("k", data, None) for data in (b"1", b"bad", b"slow down", b"4")]
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert [getattr(answer, "sequence_number", type(answer)) for answer in answers] == [
        1,
        ValidationError,
        ThroughputExceededError,
        4,
    ]


async def test_an_error_reaches_everybody() -> None:
    store = Store()
    store.error = ClosedError("the engine")
    gathering = Gathering(store.put)
    waits = [gathering.put("k", b"1", None) for _ in range(3)]
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ClosedError] * 3


async def test_who_is_cancelled_takes_nobody_along() -> None:
    store = Store()
    store.open.clear()
    gathering = Gathering(store.put)

    async def put(data: bytes) -> int:
        return (await gathering.put("k", data, None)).sequence_number

    tasks = [asyncio.create_task(put(b"%d" % at)) for at in range(3)]
    await store.called(1)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    store.open.set()
    assert [await tasks[0], await tasks[2]] == [0, 2]


async def test_what_comes_while_a_call_is_under_way_is_the_next_call() -> None:
    store = Store()
    store.open.clear()
    gathering = Gathering(store.put)
    first = gathering.put("k", b"1", None)
    await store.called(1)
    second = gathering.put("k", b"2", None)
    await store.called(2)
    store.open.set()
    assert [(await first).sequence_number, (await second).sequence_number] == [1, 2]


async def test_a_malformed_put_lets_nothing_overtake(make_stream: MakeStream) -> None:
    """What was put after the malformed one, in its turn of the loop or a later one, by whichever call, comes after."""
    stream = await make_stream(type_=bytes)
    tasks = []
    for number in range(30):
        key = "" if number % 7 == 3 else "k"
        tasks.append(asyncio.create_task(stream.put(b"%d" % number, partition_key=key)))
        if number % 4 == 0 or number % 10 == 9:
            await asyncio.sleep(0)  # So the puts are made, and not only to be made.
        if number % 10 == 9:
            await stream.put_batch([("k", b"batch %d" % number)])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [number for number, answer in enumerate(answers) if isinstance(answer, ValidationError)]
    assert refused == [number for number in range(30) if number % 7 == 3]
    wanted = []
    for number in range(30):
        wanted += [b"%d" % number] if number not in refused else []
        wanted += [b"batch %d" % number] if number % 10 == 9 else []
    assert [record.value async for record in stream.records()] == wanted


async def test_a_call_that_is_full_does_not_overtake_one_that_is_refused(make_stream: MakeStream) -> None:
    """It goes in the very turn of the loop in which the malformed entry is found."""
    stream = await make_stream(type_=bytes)
    gathering = Gathering(stream._put_records)
    waits = [gathering.put(key, data, None) for key, data in (("k", b"0"), ("", b"bad"), ("k", b"1"))]
    await asyncio.sleep(0)
    waits += [gathering.put("k", b"%d" % number, None) for number in range(2, 700)]
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert [at for at, answer in enumerate(answers) if isinstance(answer, ValidationError)] == [1]
    assert [int(record.value) async for record in stream.records()] == list(range(700))


@pytest.mark.parametrize("turns", range(4))
async def test_a_batch_comes_after_the_puts_that_were_made_before_it(make_stream: MakeStream, turns: int) -> None:
    stream = await make_stream(type_=bytes)
    first = asyncio.create_task(stream.put(b"first", partition_key="k"))
    await asyncio.sleep(0)
    batches = [asyncio.create_task(stream.put_batch([("k", b"batch %d" % at)])) for at in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    last = asyncio.create_task(stream.put(b"last", partition_key="k"))
    await asyncio.gather(first, last, *batches)
    found = [record.value async for record in stream.records()]
    assert found == [b"first", b"batch 0", b"batch 1", b"batch 2", b"last"]


async def test_a_batch_does_not_wait_for_what_is_put_all_the_time(make_stream: MakeStream) -> None:
    stream = await make_stream(type_=bytes)
    putting = True

    async def put_on() -> None:
        while putting:
            task = asyncio.create_task(stream.put(b"x", partition_key="k"))
            await asyncio.sleep(0)
            await asyncio.wait([task])

    tasks = [asyncio.create_task(put_on()) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    batch = asyncio.create_task(stream.put_batch([("k", b"batch")]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert batch.done()
    putting = False
    await asyncio.gather(*tasks)


async def test_a_cancelled_malformed_put_hurts_nobody() -> None:
    store = Store()
    gathering = Gathering(store.put)
    waits = [gathering.put("k", data, None) for data in (b"1", b"bad", b"3")]
    waits[1].cancel()
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert [getattr(answer, "sequence_number", type(answer)) for answer in answers] == [1, asyncio.CancelledError, 3]


async def test_what_is_cancelled_before_it_begins_leaves_nobody_waiting() -> None:
    """As when a loop shuts down."""
    store = Store()
    gathering = Gathering(store.put)
    wait = gathering.put("k", b"1", None)
    gathering._send()
    (task,) = gathering._sending
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    await gathering.handed_over()
    assert not gathering._sending


async def test_cancelling_a_put_anywhere_stores_it_or_not(
    make_stream: MakeStream, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(type_=bytes, store=yielding)
    runs = 0

    async def work() -> None:
        others = [asyncio.create_task(stream.put(b"other", partition_key="k")) for _ in range(2)]
        try:
            await stream.put(b"mine", partition_key="k")
            await stream.put_batch([("k", b"batch")])
        finally:
            await asyncio.wait(others)

    async def check() -> None:
        nonlocal runs
        runs += 1
        for _ in range(10):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        found = [record.value async for record in stream.records()]
        assert found.count(b"other") == 2 * runs
        assert found.count(b"batch") <= found.count(b"mine") <= runs
        assert not stream._gathering.is_holding

    assert await cancel_at_every_step(work, check) >= 3

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamkit.errors import ClosedError, ThroughputExceededError, ValidationError
from streamkit.streams.gather import Gathering
from streamkit.streams.store import PutColumns, PutEntry, PutResult


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

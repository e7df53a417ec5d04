"""What happens to what is in hand of a shard when its lease is lost, and when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamkit.backoff import Retry
from streamkit.codecs import Codec
from streamkit.errors import LeaseLostError
from streamkit.streams.handling import Handling, Hold
from streamkit.streams.record import Batch, Record, StoredRecord
from streamkit.testing.clock import ManualClock

SHARD = "shardId-000000000000"
CODEC: Codec[bytes] = Codec(bytes)


def batch_of(keys: str, first: int = 1) -> Batch[bytes]:
    stored = [StoredRecord(number, 0, key, b"") for number, key in enumerate(keys, first)]
    return Batch(SHARD, [Record(each, SHARD, CODEC) for each in stored])


class Given:
    """Hands out what the test gives, and has a lease that the test can take away."""

    def __init__(self) -> None:
        self.lease: object | None = object()
        self.refuses = False
        self.checkpoints: list[int] = []
        self.handed_back: list[str] = []
        self.freed = 0
        self._batches: asyncio.Queue[Batch[bytes] | None] = asyncio.Queue()
        self.hold = Hold[bytes](
            "billing", "orders", lambda _: self.lease, self._checkpoint, self._hand_back, self._free
        )

    async def _checkpoint(self, done: Batch[bytes] | Record[bytes]) -> None:
        if self.refuses:
            self.lease = None
            raise LeaseLostError("billing", SHARD)
        self.checkpoints.append(done.last_sequence_number if isinstance(done, Batch) else done.sequence_number)

    def _hand_back(self, batch: Batch[bytes]) -> None:
        self.handed_back.append("".join(record.partition_key for record in batch))

    def _free(self) -> None:
        self.freed += 1

    def give(self, batch: Batch[bytes] | None) -> None:
        self._batches.put_nowait(batch)

    async def batches(self) -> AsyncIterator[Batch[bytes]]:
        while (batch := await self._batches.get()) is not None:
            yield batch


class Gate:
    """A handler whose calls wait until the test opens it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.opened = asyncio.Event()
        self._error = error

    async def __call__(self, batch: Batch[bytes]) -> None:
        self.calls.append("".join(record.partition_key for record in batch))
        await self.opened.wait()
        if self._error is not None:
            raise self._error


def handling(given: Given, gate: Gate, clock: ManualClock, **options: Any) -> Handling[bytes]:
    arguments = {"concurrency": 2, "max_records": 4, "retry": Retry(jitter=False), "attempts": None, **options}
    return Handling(gate, given.hold, clock, **arguments)


async def test_what_was_not_begun_does_not_begin_and_what_was_has_no_checkpoint(clock: ManualClock) -> None:
    given, gate = Given(), Gate()
    work = handling(given, gate, clock)
    task = asyncio.ensure_future(work.run(given.batches()))
    given.give(batch_of("ab"))
    given.give(batch_of("abc", 3))
    await clock.advance(0)
    assert gate.calls == ["a", "b"]
    given.lease = None
    gate.opened.set()
    await clock.advance(0)
    assert gate.calls == ["a", "b"]
    given.give(None)
    await task
    assert (given.checkpoints, given.handed_back) == ([], [])


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_refused_checkpoint_drops_the_shard_and_it_can_come_again(clock: ManualClock, concurrency: int) -> None:
    given, gate = Given(), Gate()
    gate.opened.set()
    given.refuses = True
    work = handling(given, gate, clock, concurrency=concurrency)
    task = asyncio.ensure_future(work.run(given.batches()))
    given.give(batch_of("a"))
    await clock.advance(0)
    assert SHARD not in work.busy
    given.refuses = False
    given.lease = object()
    given.give(batch_of("ab"))
    await clock.advance(0)
    given.give(None)
    await task
    assert given.checkpoints[-1] == 2


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_what_comes_again_waits_for_what_still_runs(clock: ManualClock, concurrency: int) -> None:
    """The same records, or later ones of the same keys, would overlap with it."""
    given, gate = Given(), Gate()
    work = handling(given, gate, clock, concurrency=concurrency)
    task = asyncio.ensure_future(work.run(given.batches()))
    given.give(batch_of("a"))
    await clock.advance(0)
    given.lease = object()
    given.give(batch_of("ab"))
    await clock.advance(0)
    assert gate.calls == ["a"]
    assert given.handed_back == ["ab"]
    assert SHARD in work.busy
    gate.opened.set()
    freed = given.freed
    await clock.advance(0)
    assert SHARD not in work.busy
    assert given.freed == freed + 1
    assert given.checkpoints == []
    given.give(batch_of("ab"))
    await clock.advance(0)
    given.give(None)
    await task
    assert given.checkpoints[-1] == 2
    assert "".join(gate.calls) == "aab"


async def test_a_failing_batch_is_not_tried_again(clock: ManualClock) -> None:
    given, gate = Given(), Gate(ZeroDivisionError())
    gate.opened.set()
    task = asyncio.ensure_future(handling(given, gate, clock).run(given.batches()))
    given.give(batch_of("a"))
    await clock.advance(0.5)
    given.lease = None
    await clock.advance(100)
    assert gate.calls == ["a"]
    given.give(None)
    await task


async def test_the_end_hands_back_only_what_is_still_held(clock: ManualClock) -> None:
    for lose in (False, True):
        given, gate = Given(), Gate()
        task = asyncio.ensure_future(handling(given, gate, clock).run(given.batches()))
        given.give(batch_of("aab"))
        await clock.advance(0)
        if lose:
            given.lease = object()
        task.cancel()
        await asyncio.wait([task])
        assert given.handed_back == ([] if lose else ["aab"])

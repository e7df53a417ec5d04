"""``consumer.run`` with several calls at once per shard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.backoff import Retry
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import DiskFullError, ValidationError
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from tests.streams.by_key import ByHand, MakeStream, checkpoint, checkpoints, ended, put, values_left

BY_THE_SECOND = Retry(first=1.0, factor=1.0, jitter=False)


# ---- at once


async def test_up_to_n_calls_go_at_once_and_none_has_a_key_of_another(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream()
    await put(stream, "abcabcdabc")
    handler = ByHand()
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=3))
        await clock.advance(0)
        assert handler.calls == ["a0 a3 a7", "b1 b4 b8", "c2 c5 d6 c9"]
        await handler.let_go("abcd")
        await clock.advance(0)
        assert await checkpoint(stream, engine) == 10
        await ended(task)
    assert handler.seen == {"a": ["a0", "a3", "a7"], "b": ["b1", "b4", "b8"], "c": ["c2", "c5", "c9"], "d": ["d6"]}


async def test_a_slow_key_does_not_hold_up_the_others_at_a_batchs_end(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream()
    handler = ByHand()
    await handler.let_go("xyz")
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=2, max_records=4))
        await put(stream, "s")
        await clock.advance(0)
        for _ in range(4):
            await put(stream, "xyz")
            await clock.advance(0)
        assert {key: len(seen) for key, seen in handler.seen.items()} == {"x": 4, "y": 4, "z": 4}
        # 13 records from the slow one on are in hand; 4 more would be over the bound of 2 x 2 x 4.
        await put(stream, "xyz")
        await clock.advance(0)
        assert sum(map(len, handler.seen.values())) == 12
        assert await checkpoint(stream, engine) == 0
        await handler.let_go("s")
        await clock.advance(0)
        assert sum(map(len, handler.seen.values())) == 16
        assert await checkpoint(stream, engine) == 16
        await ended(task)


async def test_a_plain_function_has_that_many_threads(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream()
    await put(stream, "abcd")
    together = threading.Barrier(4, timeout=30)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(batch: Batch[Any]) -> None:
        together.wait()
        loop.call_soon_threadsafe(done.set)

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handle, concurrency=4))
        await done.wait()
        await ended(task)


async def test_shards_have_their_calls_each(make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock) -> None:
    stream = await make_stream(shards=3)
    keys = "".join(map(chr, range(200, 240)))
    await put(stream, keys)
    handler = ByHand()
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=2))
        await clock.advance(0)
        assert len(handler.calls) == 6
        await handler.let_go(keys)
        await clock.advance(0)
        places = await checkpoints(stream, engine)
        assert places == {shard.shard_id: shard.latest_sequence_number for shard in (await stream.describe()).shards}
        await ended(task)


@pytest.mark.parametrize("concurrency", [0, -1, 1.5])
async def test_the_concurrency_is_one_or_more(make_stream: MakeStream, concurrency: Any) -> None:
    stream = await make_stream()
    async with stream.consumer("billing") as consumer:
        with pytest.raises(ValidationError, match="concurrency"):
            await consumer.run(print, concurrency=concurrency)


# ---- checkpoints


async def test_the_checkpoint_covers_what_is_done_without_a_hole_and_the_rest_comes_again(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream()
    await put(stream, "abcd")
    handler = ByHand()
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=4))
        await handler.let_go("abd")
        await clock.advance(0)
        assert sorted(handler.seen) == ["a", "b", "d"]
        assert await checkpoint(stream, engine) == 2
        await ended(task)
        # By this one or by the next of its name.
        assert await values_left(consumer, 2) == ["c2", "d3"]
    async with stream.consumer("billing") as following:
        assert await values_left(following, 2) == ["c2", "d3"]


class Counting:
    """Tables that count their writes and can hold them up, or fail them."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.writes = 0
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.errors: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, writes: Any) -> Any:
        self.writes += 1
        await self.may_go.wait()
        if self.errors:
            raise self.errors.pop()
        return await self._store.write(writes)


async def counted(make_stream: MakeStream) -> tuple[Stream[Any], Counting]:
    made: list[Counting] = []

    def counting(store: Any) -> Counting:
        made.append(Counting(store))
        return made[-1]

    stream = await make_stream(store=counting)
    return stream, made[1]


async def test_what_is_done_while_a_checkpoint_is_written_goes_into_the_next(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream, tables = await counted(make_stream)
    await put(stream, "abcdef")
    handler = ByHand()
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=6))
        await clock.advance(0)
        tables.writes = 0
        tables.may_go.clear()
        for key in "abcdef":
            await handler.let_go(key)
            await clock.advance(0)
        assert tables.writes == 1
        tables.may_go.set()
        await clock.advance(0)
        assert tables.writes == 2
        assert await checkpoint(stream, engine) == 6
        await ended(task)


async def test_a_checkpoint_that_fails_for_a_moment_is_tried_again_while_others_are_handled(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stream, tables = await counted(make_stream)
    handler = ByHand()
    await handler.let_go("ab")
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handler, concurrency=2, retry=BY_THE_SECOND, attempts=1))
        tables.errors = [DiskFullError("/data")]
        await put(stream, "a")
        await clock.advance(0.5)
        await put(stream, "b")
        await clock.advance(0.4)
        assert handler.seen == {"a": ["a0"], "b": ["b0"]}
        assert await checkpoint(stream, engine) == 0
        await clock.advance(0.1)
        assert await checkpoint(stream, engine) == 2
        await ended(task)
    assert "no space left" in caplog.text


# ---- failures


async def test_a_failing_call_is_tried_again_and_other_keys_go_on(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await make_stream()
    seen: list[tuple[int, str]] = []
    start_ms = clock.now_ms()

    async def handle(batch: Batch[Any]) -> None:
        seen.extend((clock.now_ms() - start_ms, value) for value in batch.values)
        if batch[0].partition_key == "p" and clock.now_ms() < start_ms + 2000:
            raise ZeroDivisionError("mine")

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handle, concurrency=2, max_records=2, retry=BY_THE_SECOND))
        await put(stream, "p")
        await clock.advance(0.5)
        await put(stream, "xpx")
        await clock.advance(1)
        await put(stream, "x")
        await clock.advance(0.4)
        assert await checkpoint(stream, engine) == 0
        await clock.advance(0.1)
        assert await checkpoint(stream, engine) == 5
        await ended(task)
    assert [each for each in seen if "p" in each[1]] == [(0, "p0"), (1000, "p0"), (2000, "p0"), (2000, "p1")]
    assert [each for each in seen if "x" in each[1]] == [(500, "x0"), (500, "x2"), (1500, "x0")]
    assert "ZeroDivisionError was raised" in caplog.text
    assert "mine" not in "".join(record.getMessage() for record in caplog.records)


async def test_after_its_attempts_a_calls_error_is_raised_as_itself(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await make_stream()
    await put(stream, "abc")
    cancelled: list[str] = []

    async def handle(batch: Batch[Any]) -> None:
        if batch.values != ["b1"]:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.extend(batch.values)
        raise ZeroDivisionError("mine")

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handle, concurrency=3, retry=BY_THE_SECOND, attempts=2))
        await clock.advance(1)
        with pytest.raises(ZeroDivisionError, match="mine"):
            await task
        assert sorted(cancelled) == ["a0", "c2"]
        assert await values_left(consumer, 3) == ["a0", "b1", "c2"]


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_what_is_handed_back_while_the_next_is_read_is_not_lost(
    make_stream: MakeStream, clock: ManualClock, concurrency: int
) -> None:
    stream = await make_stream()
    await put(stream, "a")

    async def handle(batch: Batch[Any]) -> None:
        await clock.sleep_until(clock.now_ms() + 1000)
        raise ZeroDivisionError

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handle, attempts=1, concurrency=concurrency))
        await clock.advance(1)
        with pytest.raises(ZeroDivisionError):
            await task
        await put(stream, "b")
        await clock.advance(0)
        assert await values_left(consumer, 2) == ["a0", "b0"]


# ---- cancellation


async def test_cancelling_it_anywhere_loses_nothing_and_reorders_nothing(
    make_stream: MakeStream, engine: MemoryEngine, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(store=yielding)
    keys = "abacabadab"
    await put(stream, keys)
    runs = 0
    handled: list[str] = []

    async def handle(batch: Batch[Any]) -> None:
        await asyncio.sleep(0)
        handled.extend(batch.values)
        await asyncio.sleep(0)
        if len(set(handled)) == len(keys):
            raise ZeroDivisionError

    async def work() -> None:
        async with stream.consumer(f"billing-{runs}") as consumer:
            with pytest.raises(ZeroDivisionError):
                await consumer.run(handle, concurrency=2, max_records=3, attempts=1)
            # The same consumer hands out again what has no checkpoint.
            again = await values_left(consumer, len(keys) - await place())
            assert again == [f"{key}{n}" for n, key in enumerate(keys)][-len(again) :]

    async def place() -> int:
        found = await LeaseTable(engine.tables).peek(f"billing-{runs}", await stream.describe())
        return next(iter(found.values())) or 0

    async def check() -> None:
        nonlocal runs
        assert asyncio.all_tasks() == {asyncio.current_task()}
        everything = [f"{key}{n}" for n, key in enumerate(keys)]
        covered = await place()
        assert set(everything[:covered]) <= set(handled)
        for key in set(keys):
            mine = [value for value in handled if value[0] == key]
            assert mine == [value for value in everything if value[0] == key][: len(mine)]
        async with stream.consumer(f"billing-{runs}") as following:
            assert await values_left(following, len(keys) - covered) == everything[covered:]
        handled.clear()
        runs += 1

    assert await cancel_at_every_step(work, check) > 10

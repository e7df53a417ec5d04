from __future__ import annotations

import asyncio
import functools
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from streamkit.backoff import Retry
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import (
    ClosedError,
    DiskFullError,
    FunctionError,
    JournalFailedError,
    LeaseLostError,
    NotFoundError,
    ValidationError,
)
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

MakeStream = Callable[..., Awaitable[Stream[Any]]]
BY_THE_SECOND = Retry(first=1.0, factor=1.0, jitter=False)


async def put(stream: Stream[Any], *values: Any) -> None:
    await stream.put_batch((f"{value}", value) for value in values)


class Seen:
    """A handler that notes what it was called with, and says when it has seen enough."""

    def __init__(self, enough: int) -> None:
        self.values: list[Any] = []
        self.batches: list[Batch[Any]] = []
        self.done = asyncio.Event()
        self._enough = enough

    async def __call__(self, batch: Batch[Any]) -> None:
        self.batches.append(batch)
        self.values.extend(batch.values)
        if len(self.values) >= self._enough:
            self.done.set()


async def run_until(event: asyncio.Event, consumer: Consumer[Any], handler: Any, **options: Any) -> None:
    """Run a handler until the event, and until everything that is due then is done too."""
    task = asyncio.ensure_future(consumer.run(handler, **options))
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(10):
        await asyncio.sleep(0)
    waiting.cancel()
    task.cancel()
    await asyncio.wait([task, waiting])
    if not task.cancelled():
        task.result()


async def everything_is_checkpointed(stream: Stream[Any], engine: MemoryEngine, name: str = "billing") -> bool:
    description = await stream.describe()
    places = await LeaseTable(engine.tables).peek(name, description)
    return places == {shard.shard_id: shard.latest_sequence_number for shard in description.shards}


# ---- what is called, and how


async def test_each_batch_is_handled_and_checkpointed(make_stream: MakeStream, engine: MemoryEngine) -> None:
    stream = await make_stream(shards=3)
    await put(stream, *range(50))
    seen = Seen(50)
    async with stream.consumer("billing") as consumer:
        await run_until(seen.done, consumer, seen, max_records=4)
    assert sorted(seen.values) == list(range(50))
    assert max(map(len, seen.batches)) == 4
    assert await everything_is_checkpointed(stream, engine)


async def test_a_plain_function_runs_in_a_worker_thread(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream()
    await put(stream, *range(5))
    threads: list[threading.Thread] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(batch: Batch[Any]) -> None:
        threads.append(threading.current_thread())
        if batch[-1].value == 4:
            loop.call_soon_threadsafe(done.set)

    async with stream.consumer("billing") as consumer:
        await run_until(done, consumer, handle, max_records=2)
        assert len(threads) == 3
        assert threading.main_thread() not in threads
        # The last of them may still have been on its way back from its thread.
        while not await everything_is_checkpointed(stream, engine):
            await run_until(done, consumer, handle, max_records=2)


async def test_anything_that_can_be_called_is_a_handler(make_stream: MakeStream) -> None:
    stream = await make_stream()
    done = asyncio.Event()
    main = threading.get_ident()

    async def handle(where: list[int], batch: Batch[Any]) -> None:
        where.append(threading.get_ident())
        done.set()

    where: list[int] = []
    async with stream.consumer("billing") as consumer:
        for handler in (functools.partial(handle, where), lambda batch: handle(where, batch)):
            await put(stream, 1)
            done.clear()
            await run_until(done, consumer, handler)
    # The lambda was called in a thread, but what it made is awaited on the loop.
    assert where == [main, main]


async def test_shards_go_side_by_side_and_a_shards_batches_one_after_the_other(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await make_stream(shards=3)
    await put(stream, *range(60))
    running: dict[str, int] = defaultdict(int)
    together = 0
    values: list[int] = []
    done = asyncio.Event()

    async def handle(batch: Batch[Any]) -> None:
        nonlocal together
        running[batch.shard_id] += 1
        assert running[batch.shard_id] == 1
        together = max(together, sum(running.values()))
        await clock.sleep_until(clock.now_ms() + 1000)
        values.extend(batch.values)
        running[batch.shard_id] -= 1
        if len(values) == 60:
            done.set()

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(run_until(done, consumer, handle, max_records=5))
        await clock.advance(60)
        await task
    assert together == 3
    assert sorted(values) == list(range(60))


async def test_threads_of_many_shards_do_not_wait_for_each_other(make_stream: MakeStream) -> None:
    shards = 45  # more than anyio's threads
    stream = await make_stream(shards=shards)
    for shard in (await stream.describe()).shards:
        await stream.put(1, partition_key="k", explicit_hash_key=shard.hash_key_range.start)
    all_here = threading.Barrier(shards)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(batch: Batch[Any]) -> None:
        if all_here.wait(30) == 0:
            loop.call_soon_threadsafe(done.set)

    async with stream.consumer("billing") as consumer:
        await run_until(done, consumer, handle)
    assert not all_here.broken


# ---- failures


async def test_a_failing_batch_is_tried_again_until_it_works_while_other_shards_go_on(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(40))
    poisoned = (await stream.put("poison", partition_key="k", explicit_hash_key=0)).shard_id
    calls: list[tuple[str, int]] = []
    failures = 5

    async def handle(batch: Batch[Any]) -> None:
        nonlocal failures
        calls.append((batch.shard_id, clock.now_ms()))
        if batch.shard_id == poisoned and failures:
            failures -= 1
            raise ZeroDivisionError("mine")

    async with stream.consumer("billing") as consumer:
        start_ms = clock.now_ms()
        task = asyncio.ensure_future(consumer.run(handle, max_records=10, retry=BY_THE_SECOND))
        await clock.advance(3)
        other = [shard_id for shard_id, _ in calls if shard_id != poisoned]
        assert len(other) >= 2
        await clock.advance(3)
        attempts = [at_ms - start_ms for shard_id, at_ms in calls if shard_id == poisoned]
        assert attempts[:6] == [0, 1000, 2000, 3000, 4000, 5000]
        assert await everything_is_checkpointed(stream, engine)
        task.cancel()
        await asyncio.wait([task])
    assert "trying again in 1.0 s" in caplog.text
    assert "ZeroDivisionError was raised" in caplog.text
    assert "ZeroDivisionError: mine" not in caplog.text


async def test_after_its_attempts_a_batchs_error_is_raised_as_itself(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    calls = 0
    cancelled: list[str] = []

    async def handle(batch: Batch[Any]) -> None:
        nonlocal calls
        if batch.shard_id != "shardId-000000000000":
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(batch.shard_id)
        calls += 1
        raise ZeroDivisionError("mine")

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handle, retry=BY_THE_SECOND, attempts=3))
        await clock.advance(1.999)
        assert not task.done()
        await clock.advance(0.001)
        with pytest.raises(ZeroDivisionError, match="mine"):
            await task
        assert calls == 3
        assert cancelled == ["shardId-000000000001"]
        # Neither batch has a checkpoint, so both are handed out again.
        seen = Seen(20)
        await run_until(seen.done, consumer, seen)
        assert sorted(seen.values) == list(range(20))


async def test_what_was_checkpointed_of_a_batch_is_not_handed_out_again(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, *range(6))

    async with stream.consumer("billing") as consumer:

        async def half(batch: Batch[Any]) -> None:
            await consumer.checkpoint(batch[1])
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await consumer.run(half, attempts=1, max_records=4)
        batches = consumer.batches(max_records=3)
        assert (await anext(batches)).values == [2, 3, 4]
        assert (await anext(batches)).values == [5]


async def test_attempts_must_be_at_least_one(make_stream: MakeStream) -> None:
    stream = await make_stream()
    async with stream.consumer("billing") as consumer:
        with pytest.raises(ValidationError, match="attempts"):
            await consumer.run(print, attempts=0)


async def test_a_handler_that_awaits_something_cancelled_has_failed(make_stream: MakeStream) -> None:
    """And is not taken for one that we cancelled, whose batch would be passed over."""
    stream = await make_stream()
    await put(stream, 1)

    async def handle(batch: Batch[Any]) -> None:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    async with stream.consumer("billing") as consumer:
        with pytest.raises(FunctionError, match="cancelled"):
            await consumer.run(handle, attempts=1)
        assert (await anext(consumer.batches())).values == [1]


@pytest.mark.parametrize("error", [LeaseLostError("billing", "shardId-000000000000"), ClosedError("the kit")])
async def test_an_error_that_trying_again_cannot_cure_is_raised_at_once(
    make_stream: MakeStream, error: Exception
) -> None:
    stream = await make_stream()
    await put(stream, 1)

    async def handle(batch: Batch[Any]) -> None:
        raise error

    async with stream.consumer("billing") as consumer:
        with pytest.raises(type(error)) as raised:
            await consumer.run(handle)
        assert raised.value is error


async def test_a_deleted_stream_ends_it_with_the_error_as_itself(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(print))
        await clock.advance(0)
        await engine.streams.delete_stream("orders")
        with pytest.raises(NotFoundError):
            await task


class FullTables:
    """Tables that cannot be written to, for the reasons given."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reasons: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        if name == "write" and self.reasons:
            return self._fail
        return getattr(self._store, name)

    async def _fail(self, writes: Any) -> None:
        raise self.reasons.pop()


async def test_a_checkpoint_that_fails_for_a_moment_is_tried_again_without_the_handler(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stores: list[FullTables] = []

    def full(store: Any) -> FullTables:
        stores.append(FullTables(store))
        return stores[-1]

    stream = await make_stream(store=full)
    await put(stream, *range(3))
    seen = Seen(3)
    async with stream.consumer("billing") as consumer:
        advised = DiskFullError("/data")
        advised.retry_after = 5.0
        stores[1].reasons = [advised, DiskFullError("/data")]
        task = asyncio.ensure_future(consumer.run(seen, retry=BY_THE_SECOND, attempts=1))
        await clock.advance(5.999)
        assert not await everything_is_checkpointed(stream, engine)
        await clock.advance(0.001)
        assert await everything_is_checkpointed(stream, engine)
        assert len(seen.batches) == 1
        stores[1].reasons = [JournalFailedError("/data", OSError())]
        await put(stream, 3)
        with pytest.raises(JournalFailedError):
            await task


# ---- cancellation


async def test_a_timeout_around_it_ends_it(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream()
    await put(stream, 1)
    started = asyncio.Event()

    async def handle(batch: Batch[Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    async with stream.consumer("billing") as consumer:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(consumer.run, handle)
                await started.wait()
                scope.cancel()
        assert scope.cancelled_caught
        assert (await anext(consumer.batches())).values == [1]


async def test_a_handler_in_a_thread_is_waited_for(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, 1)
    may_go_on = threading.Event()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended = []

    def handle(batch: Batch[Any]) -> None:
        loop.call_soon_threadsafe(started.set)
        assert may_go_on.wait(30)
        ended.append(batch)

    async with stream.consumer("billing") as consumer:
        task = asyncio.ensure_future(consumer.run(handle))
        await started.wait()
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        may_go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert len(ended) == 1


async def test_cancelling_it_anywhere_hands_out_again_what_has_no_checkpoint(
    make_stream: MakeStream, engine: MemoryEngine, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(shards=2, store=yielding)
    runs = 0
    handled: set[int] = set()

    async def handle(batch: Batch[Any]) -> None:
        await asyncio.sleep(0)
        handled.update(batch.values)
        await asyncio.sleep(0)

    async def work() -> None:
        async with stream.consumer(f"billing-{runs}") as consumer:
            task = asyncio.current_task()
            assert task is not None

            async def until_all_is_handled(batch: Batch[Any]) -> None:
                await handle(batch)
                if len(handled) == 10:
                    raise ZeroDivisionError

            try:
                await consumer.run(until_all_is_handled, max_records=2, attempts=1)
            except ZeroDivisionError:
                # The same consumer hands out again what was in hand.
                handled.clear()
                left = await uncovered()
                async for batch in consumer.batches():
                    handled.update(batch.values)
                    if handled >= left:
                        break
                assert handled == left

    async def uncovered() -> set[int]:
        places = await LeaseTable(engine.tables).peek(f"billing-{runs}", await stream.describe())
        return {r.value async for r in stream.records() if r.sequence_number > (places[r.shard_id] or 0)}

    async def check() -> None:
        nonlocal runs
        assert asyncio.all_tasks() == {asyncio.current_task()}
        left = await uncovered()
        # What is covered by a checkpoint was handled.
        assert len(handled | left) == 10 or len(handled) < 10
        seen = Seen(len(left))
        if left:
            async with stream.consumer(f"billing-{runs}") as consumer:
                await run_until(seen.done, consumer, seen)
        assert set(seen.values) == left
        handled.clear()
        runs += 1

    await put(stream, *range(10))
    assert await cancel_at_every_step(work, check) > 10

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ClosedError, NotFoundError, StorageError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.streams.aggregation import aggregate
from streamkit.streams.follow import Follow
from streamkit.streams.look import Look
from streamkit.streams.store import PutEntry
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

LOW, HIGH = 0, 2**128 - 1


class Watched:
    """A store that counts its calls, and fails reads for the reasons given."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reads = 0
        self.reasons: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> Any:
        self.reads += 1
        if self.reasons:
            raise self.reasons.pop()
        return await self._store.get_records(iterator, limit, wait_ms)


@pytest.fixture
async def stream(engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> Stream[Any]:
    await engine.streams.create_stream("orders", 2)
    return Stream("orders", Codec(None), engine.streams, engine.tables, clock, metrics)


@pytest.fixture
def store(engine: MemoryEngine) -> Watched:
    return Watched(engine.streams)


@pytest.fixture
def look(store: Watched, clock: ManualClock) -> Look[Any]:
    return Look("orders", Codec(None), store, clock, Metrics())


async def put(stream: Stream[Any], clock: ManualClock, *values: int) -> None:
    """One second after the other; even ones to the lower shard."""
    for value in values:
        await stream.put(value, partition_key="k", explicit_hash_key=HIGH if value % 2 else LOW)
        await clock.advance(1)


async def take(follow: Follow[Any], count: int) -> list[Any]:
    return [(await anext(follow)).value for _ in range(count)]


async def test_it_begins_with_the_newest_and_goes_on_with_what_comes(
    stream: Stream[Any], look: Look[Any], clock: ManualClock
) -> None:
    await put(stream, clock, 0, 1, 2, 3)
    follow = Follow(look, 3)
    assert await take(follow, 3) == [1, 2, 3]
    waiting = asyncio.ensure_future(take(follow, 2))
    await clock.advance(0)
    await put(stream, clock, 5, 4)
    assert await waiting == [5, 4]
    await put(stream, clock, 7, 6, 9)
    assert await take(follow, 3) == [7, 6, 9]
    await follow.aclose()


async def test_what_waits_on_several_shards_comes_by_arrival(
    stream: Stream[Any], look: Look[Any], clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await put(stream, clock, 1)
    assert await waiting == [1]
    await put(stream, clock, 3, 2, 5, 7, 4)
    assert await take(follow, 5) == [3, 2, 5, 7, 4]
    await follow.aclose()


async def test_from_none_it_begins_when_it_is_first_asked(
    stream: Stream[Any], look: Look[Any], clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    await put(stream, clock, 0, 1)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await put(stream, clock, 2)
    assert await waiting == [2]
    await follow.aclose()


async def test_n_is_a_number_of_records(look: Look[Any]) -> None:
    with pytest.raises(ValidationError, match="number of records"):
        Follow(look, -1)


async def test_nothing_is_asked_while_it_waits(
    stream: Stream[Any], look: Look[Any], store: Watched, clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    assert store.reads == 2
    await clock.advance(230)
    assert store.reads == 2
    # A read ends after a while to keep its iterator alive; iterators would live five minutes.
    await clock.advance(3600)
    assert store.reads <= 2 + 2 * 3600 // 230
    await put(stream, clock, 1)
    assert await waiting == [1]
    await follow.aclose()


async def test_only_the_shards_that_gave_something_are_asked_again(
    stream: Stream[Any], look: Look[Any], store: Watched, clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 3))
    await clock.advance(0)
    await put(stream, clock, 0, 2, 4)
    assert await waiting == [0, 2, 4]
    assert store.reads == 2 + 2
    await follow.aclose()


async def test_an_aggregate_comes_as_its_user_records(
    look: Look[Any], engine: MemoryEngine, stream: Stream[Any], clock: ManualClock
) -> None:
    packed = aggregate([PutEntry("a", b"1"), PutEntry("b", b"2"), PutEntry("c", b"3")], LOW)
    await engine.streams.put_records("orders", [packed])
    follow = Follow(look, 2)
    assert await take(follow, 2) == [2, 3]
    await engine.streams.put_records("orders", [packed])
    assert await take(follow, 3) == [1, 2, 3]
    await follow.aclose()


# ---- resharding


async def test_children_come_after_their_parents(stream: Stream[Any], look: Look[Any], clock: ManualClock) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await put(stream, clock, 0)
    assert await waiting == [0]
    await put(stream, clock, 2, 1)
    await stream.merge("shardId-000000000000", "shardId-000000000001")
    await put(stream, clock, 4, 3)
    await stream.split("shardId-000000000002")
    await put(stream, clock, 6, 5)
    assert await take(follow, 6) == [2, 1, 4, 3, 6, 5]
    await put(stream, clock, 7, 8)
    assert await take(follow, 2) == [7, 8]
    await follow.aclose()


async def test_a_merged_shard_waits_for_both_its_parents(
    stream: Stream[Any], look: Look[Any], store: Watched, clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await put(stream, clock, 0)
    assert await waiting == [0]
    # More than a page, so that the upper parent takes several reads and the lower one has long ended.
    for _ in range(20):
        await look.store.put_records("orders", [PutEntry("k", b"1", HIGH)] * 500)
    await stream.merge("shardId-000000000000", "shardId-000000000001")
    await put(stream, clock, 2)
    assert await take(follow, 10_001) == [1] * 10_000 + [2]
    await follow.aclose()


async def test_it_may_begin_at_a_stream_that_was_resharded(
    stream: Stream[Any], look: Look[Any], clock: ManualClock
) -> None:
    await put(stream, clock, 0, 1)
    await stream.merge("shardId-000000000000", "shardId-000000000001")
    follow = Follow(look, 5)
    assert await take(follow, 2) == [0, 1]
    await put(stream, clock, 2)
    assert await take(follow, 1) == [2]
    await follow.aclose()


# ---- retention


async def test_what_was_missed_is_told_with_its_count(
    stream: Stream[Any], look: Look[Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await put(stream, clock, 0)
    assert await waiting == [0]
    await put(stream, clock, 2, 4)
    await clock.advance(90_000)
    await put(stream, clock, 6)
    assert await take(follow, 1) == [6]
    assert "shardId-000000000000 of stream 'orders': retention took 2 records before they were read" in caplog.text
    await follow.aclose()


async def test_shards_that_expired_unread_are_told(
    stream: Stream[Any], look: Look[Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await put(stream, clock, 0)
    assert await waiting == [0]
    await stream.merge("shardId-000000000000", "shardId-000000000001")
    await put(stream, clock, 2)
    await stream.split("shardId-000000000002")
    await clock.advance(90_000)
    await put(stream, clock, 4)
    assert [shard.shard_id[-1] for shard in (await stream.describe()).shards] == ["3", "4"]
    assert await take(follow, 1) == [4]
    assert "shardId-000000000002 of stream 'orders': retention took its last records" in caplog.text
    await follow.aclose()


# ---- ends


async def test_closing_it_leaves_no_task_and_nothing_more_comes(
    stream: Stream[Any], look: Look[Any], clock: ManualClock
) -> None:
    follow = Follow(look, 1)

    async def everything() -> list[Any]:
        return [record.value async for record in follow]

    waiting = asyncio.ensure_future(everything())
    await clock.advance(0)
    await follow.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(follow)
    assert await waiting == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await follow.aclose()


async def test_one_that_never_began_can_be_closed(look: Look[Any]) -> None:
    follow = Follow(look, 1)
    await follow.aclose()
    assert [record async for record in follow] == []


async def test_leaving_the_loop_leaves_no_task(stream: Stream[Any], look: Look[Any], clock: ManualClock) -> None:
    await put(stream, clock, 0)

    async def first_two() -> list[int]:
        found: list[int] = []
        async for record in Follow(look, 1):
            found.append(record.value)
            if len(found) == 2:
                break
        return found

    waiting = asyncio.ensure_future(first_two())
    await clock.advance(0)
    await put(stream, clock, 2)
    assert await waiting == [0, 2]
    del waiting
    gc.collect()
    await clock.advance(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_deleted_stream_ends_it(
    stream: Stream[Any], look: Look[Any], engine: MemoryEngine, clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await engine.streams.delete_stream("orders")
    with pytest.raises(NotFoundError, match="orders"):
        await waiting
    await engine.streams.create_stream("orders", 2)
    with pytest.raises(NotFoundError):
        await anext(follow)
    await follow.aclose()


async def test_a_closed_engine_ends_it(
    stream: Stream[Any], look: Look[Any], engine: MemoryEngine, clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    await engine.aclose()
    with pytest.raises(ClosedError):
        await waiting
    await follow.aclose()


async def test_a_read_that_fails_is_told_and_asking_again_tries_again(
    stream: Stream[Any], look: Look[Any], store: Watched, clock: ManualClock
) -> None:
    follow = Follow(look, 0)
    waiting = asyncio.ensure_future(take(follow, 1))
    await clock.advance(0)
    store.reasons = [StorageError("mine")]
    await put(stream, clock, 0)
    assert await waiting == [0]
    with pytest.raises(StorageError, match="mine"):
        await anext(follow)
    await put(stream, clock, 2, 1)
    assert await take(follow, 2) == [2, 1]
    await follow.aclose()


async def test_cancelling_it_anywhere_loses_nothing(
    engine: MemoryEngine, stream: Stream[Any], look: Look[Any], clock: ManualClock, yielding: Callable[[Any], Any]
) -> None:
    slow: Look[Any] = Look("orders", Codec(None), yielding(engine.streams), clock, Metrics())
    follow: Follow[Any] = Follow(slow, 2)
    seen: list[Any] = []
    await put(stream, clock, 0, 1, 2)

    async def one_more() -> None:
        await stream.put(len(seen) + 1, partition_key="k", explicit_hash_key=LOW)
        seen.append((await anext(follow)).value)

    async def work() -> None:
        seen.append((await anext(follow)).value)
        seen.append((await anext(follow)).value)
        await one_more()
        await stream.merge("shardId-000000000000", "shardId-000000000001")
        await one_more()

    async def check() -> None:
        nonlocal follow
        expected = [record.value for record in await look.tail(10)][1:]
        seen.extend(await take(follow, len(expected) - len(seen)))
        assert seen == expected == [1, 2, 3, 4][: len(seen)]
        await follow.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await engine.streams.delete_stream("orders")
        await engine.streams.create_stream("orders", 2)
        await put(stream, clock, 0, 1, 2)
        seen.clear()
        follow = Follow(slow, 2)

    assert await cancel_at_every_step(work, check) > 15


async def test_closing_it_is_not_stopped_by_a_cancellation(
    engine: MemoryEngine, stream: Stream[Any], clock: ManualClock, yielding: Callable[[Any], Any]
) -> None:
    follow: Follow[Any] = Follow(Look("orders", Codec(None), yielding(engine.streams), clock, Metrics()), 0)

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(follow)
        await follow.aclose()

    async def check() -> None:
        nonlocal follow
        await follow.aclose()
        await clock.advance(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        follow = Follow(Look("orders", Codec(None), yielding(engine.streams), clock, Metrics()), 0)

    assert await cancel_at_every_step(work, check) > 0

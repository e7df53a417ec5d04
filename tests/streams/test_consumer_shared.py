"""Several workers under one name: who has which shards, and how they change hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import LeaseLostError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.streams.balance import Leasing
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from tests.streams.consuming import SHARDS, MakeStream, has_nothing, held, kill, put, read

Worker = Callable[..., Consumer[Any]]


@pytest.fixture
def worker(engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> Worker:
    """Makes workers of one consumer."""

    def make(tables: Any = None, **leasing: Any) -> Consumer[Any]:
        return Consumer(
            "billing",
            "orders",
            Codec(None),
            engine.streams,
            LeaseTable(tables or engine.tables),
            clock,
            metrics,
            leasing=Leasing(**leasing),
        )

    return make


class OtherTables:
    """The same tables, as another process sees them: there is no session, and nobody is told of anything."""

    session = None

    def __init__(self, tables: Any) -> None:
        self._tables = tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


async def in_hand(consumer: Consumer[Any], **options: Any) -> Batch[Any]:
    return await anext(consumer.batches(**options))


# ---- joining and leaving


async def test_a_worker_alone_has_every_shard_at_once(make_stream: MakeStream, worker: Worker) -> None:
    await make_stream(shards=8)
    async with worker() as alone:
        assert held(alone) == SHARDS[:8]


async def test_workers_of_one_process_share_evenly_without_waiting(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    await make_stream(shards=8)
    before_ms = clock.now_ms()
    async with worker() as first:
        async with worker() as second, worker() as third:
            await clock.advance(0)
            shares = [held(first), held(second), held(third)]
            assert sorted(map(len, shares)) == [2, 3, 3]
            assert sorted(shard_id for share in shares for shard_id in share) == SHARDS[:8]
        await clock.advance(0)
        assert held(first) == SHARDS[:8]
    assert clock.now_ms() == before_ms


async def test_workers_of_other_processes_share_evenly_after_some_looks_around(
    make_stream: MakeStream, worker: Worker, engine: MemoryEngine, clock: ManualClock
) -> None:
    await make_stream(shards=4)
    async with worker(OtherTables(engine.tables)) as first, worker(OtherTables(engine.tables)) as second:
        assert (len(held(first)), len(held(second))) == (4, 0)
        await clock.advance(20)
        assert (len(held(first)), len(held(second))) == (2, 2)
        both = held(first), held(second)
        await clock.advance(600)
        assert (held(first), held(second)) == both


async def test_who_leaves_its_block_leaves_its_shards_to_the_others_at_once(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=4)
    async with worker() as first:
        async with worker() as second:
            await clock.advance(0)
            await put(stream, *range(40))
            done = (await in_hand(second, max_records=3)).values  # Without a checkpoint, so it comes again.
            assert done
        assert sorted(await read(first, 40)) == list(range(40))
        assert held(first) == SHARDS[:4]


async def test_who_leaves_while_it_waits_for_a_shard_takes_its_wish_along(
    make_stream: MakeStream, worker: Worker, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    async with worker() as first:
        batches = [await in_hand(first, max_records=2), await in_hand(first, max_records=2)]
        async with worker():
            await clock.advance(0)
            assert await has_nothing(first, clock) is False  # The shard that is not wanted goes on.
            wanted = [
                item["shard"] for item in (await engine.tables.scan("streamkit-leases")).items if "wanted_by" in item
            ]
            assert len(wanted) == 1
        for batch in batches:
            await first.checkpoint(batch)
        assert held(first) == SHARDS[:2]
        assert {(await in_hand(first, max_records=1)).shard_id for _ in range(4)} == set(SHARDS[:2])


async def test_more_workers_than_shards_leave_some_with_none(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    async with worker() as first, worker() as second, worker() as third:
        await clock.advance(60)
        assert [len(held(each)) for each in (first, second, third)] == [1, 1, 0]
        waiting = asyncio.ensure_future(in_hand(third))
        await clock.advance(60)
        assert not waiting.done()
        await put(stream, *range(20))
        await first.__aexit__(None, None, None)
        await clock.advance(0)
        assert len(waiting.result()) > 0


async def test_no_worker_has_more_than_its_max_leases(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    await make_stream(shards=6)
    async with worker(max_leases=1) as small, worker() as large:
        await clock.advance(60)
        assert (len(held(small)), len(held(large))) == (1, 5)
    async with worker(max_leases=2) as small:
        await clock.advance(600)
        assert len(held(small)) == 2


# ---- dying


async def test_the_shards_of_a_dead_worker_are_taken_after_the_failover_time(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=4)
    await put(stream, *range(40))
    async with worker(failover=6) as living:
        dead = await worker(failover=6).__aenter__()
        await clock.advance(0)
        batch = await in_hand(dead, max_records=2)
        await dead.checkpoint(batch)
        lost = (await in_hand(dead, max_records=2)).values
        await kill(dead)
        await clock.advance(5)
        assert len(held(living)) == 2
        await clock.advance(4)
        assert held(living) == SHARDS[:4]
        values = await read(living, 40 - len(batch))
        assert set(lost) <= set(values)
        assert sorted(values + batch.values) == list(range(40))


async def test_who_comes_after_a_death_waits_as_long(
    make_stream: MakeStream, worker: Worker, engine: MemoryEngine, clock: ManualClock
) -> None:
    await make_stream(shards=2)
    dead = await worker().__aenter__()
    await kill(dead)
    async with worker() as heir:
        await clock.advance(9.9)
        assert held(heir) == []
        await clock.advance(0.1)
        assert held(heir) == SHARDS[:2]


async def test_a_stall_of_the_whole_process_is_nobodys_death(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    await make_stream(shards=4)
    async with worker() as first, worker() as second:
        await clock.advance(20)
        both = held(first), held(second)
        for _ in range(5):
            clock._now_ms += 3_600_000  # No timer ran meanwhile, and then all are late together.
            await clock.advance(0.1)
            assert (held(first), held(second)) == both


# ---- handing over


async def test_the_batch_in_hand_is_finished_before_its_shard_is_handed_over(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    async with worker() as owner:
        batches = {batch.shard_id: batch for batch in [await in_hand(owner, max_records=2) for _ in range(2)]}
        assert len(batches) == 2
        async with worker() as thief:
            await clock.advance(20)
            assert (len(held(owner)), len(held(thief))) == (2, 0)
            # Nothing more of the shard that is wanted, whatever was read ahead of it.
            (kept,) = {(await in_hand(owner, max_records=1)).shard_id for _ in range(3)}
            (wanted,) = set(batches) - {kept}
            await owner.checkpoint(batches[wanted][0])
            await clock.advance(1)
            assert held(thief) == []
            await owner.checkpoint(batches[wanted])
            await clock.advance(0)
            assert (held(owner), held(thief)) == ([kept], [wanted])
            with pytest.raises(LeaseLostError):
                await owner.checkpoint(batches[wanted])
            first = await in_hand(thief)
            assert first.shard_id == wanted
            assert first[0].sequence_number == batches[wanted].last_sequence_number + 1


async def test_who_does_not_hand_over_in_time_is_robbed(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    async with worker(handover=12) as slow:
        batches = {batch.shard_id: batch for batch in [await in_hand(slow, max_records=2) for _ in range(2)]}
        async with worker(handover=12) as thief:
            await clock.advance(11)
            assert held(thief) == []
            await clock.advance(4)
            (robbed,) = held(thief)
            again = await in_hand(thief, max_records=2)
            assert (again.shard_id, again.values) == (robbed, batches[robbed].values)
            with pytest.raises(LeaseLostError) as lost:
                await slow.checkpoint(batches[robbed])
            assert (lost.value.consumer, lost.value.shard_id) == ("billing", robbed)
            await thief.checkpoint(again)
            (kept,) = set(batches) - {robbed}
            await slow.checkpoint(batches[kept])
            assert (held(slow), held(thief)) == ([kept], [robbed])


async def test_a_shard_wanted_by_one_that_died_goes_on(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    async with worker(failover=6, handover=6) as owner:
        batches = {batch.shard_id: batch for batch in [await in_hand(owner, max_records=2) for _ in range(2)]}
        thief = await worker(failover=6, handover=6).__aenter__()
        await clock.advance(0)
        await kill(thief)
        (kept,) = {(await in_hand(owner, max_records=1)).shard_id for _ in range(3)}
        (wanted,) = set(batches) - {kept}
        await clock.advance(16)
        assert held(owner) == SHARDS[:2]
        assert wanted in {(await in_hand(owner, max_records=1)).shard_id for _ in range(2)}
        for batch in batches.values():
            if batch.shard_id == wanted:
                await owner.checkpoint(batch)


async def test_a_shard_handed_over_to_one_that_died_comes_back(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    await make_stream(shards=2)
    async with worker(failover=6) as owner:
        thief = await worker(failover=6).__aenter__()
        await clock.advance(0)
        assert len(held(thief)) == 1
        await kill(thief)
        await clock.advance(9)
        assert held(owner) == SHARDS[:2]


async def test_what_is_read_while_a_shard_is_wanted_is_for_its_next_owner(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    async with worker() as owner:
        batches = {batch.shard_id: batch for batch in [await in_hand(owner) for _ in range(2)]}
        async with worker() as thief:
            await clock.advance(0)
            await put(stream, *range(20, 60))
            await clock.advance(0)
            (kept,) = {(await in_hand(owner, max_records=1)).shard_id for _ in range(5)}
            (wanted,) = set(batches) - {kept}
            await owner.checkpoint(batches[wanted])
            await clock.advance(0)
            assert held(thief) == [wanted]


async def test_what_was_handed_back_holds_nothing_up(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    async with worker() as owner:
        running = asyncio.ensure_future(owner.run(lambda _: asyncio.sleep(3600)))
        await clock.advance(0)
        running.cancel()
        await asyncio.wait([running])
        async with worker() as thief:
            await clock.advance(0)
            assert (len(held(owner)), len(held(thief))) == (1, 1)
            values = [(await in_hand(each)).values for each in (owner, thief)]
            assert sorted(values[0] + values[1]) == list(range(20))


async def test_a_running_handler_hands_over_between_two_batches(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    stream = await make_stream(shards=4)
    handled: list[int] = []
    gate = asyncio.Event()

    async def handle(batch: Batch[Any]) -> None:
        await gate.wait()
        handled.extend(batch.values)

    async with worker() as first, worker() as second:
        tasks = [asyncio.ensure_future(each.run(handle, max_records=2, concurrency=2)) for each in (first, second)]
        await put(stream, *range(100))
        await clock.advance(5)
        assert len(held(first)) + len(held(second)) == 4
        gate.set()
        await clock.advance(5)
        # Nothing was done twice, because everything in hand was finished before its shard changed hands.
        assert sorted(handled) == list(range(100))
        assert (len(held(first)), len(held(second))) == (2, 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# ---- fencing


async def test_a_worker_that_lost_a_shard_goes_on_with_its_others_and_may_have_it_again(
    make_stream: MakeStream, worker: Worker, clock: ManualClock, engine: MemoryEngine
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    leases = LeaseTable(engine.tables)
    description = await stream.describe()
    async with worker() as consumer:
        first = await in_hand(consumer, max_records=2)
        await leases.take("billing", description, first.shard_id, f"{leases.session}/a thief")
        with pytest.raises(LeaseLostError):
            await consumer.checkpoint(first)
        with pytest.raises(LeaseLostError):
            await consumer.checkpoint(first[0])
        assert first.shard_id not in {(await in_hand(consumer, max_records=2)).shard_id for _ in range(3)}
        # The thief never renews. What was handed out before is not this worker's to checkpoint any more.
        await clock.advance(14)
        assert held(consumer) == SHARDS[:2]
        with pytest.raises(LeaseLostError):
            await consumer.checkpoint(first)
        while (again := await in_hand(consumer, max_records=2)).shard_id != first.shard_id:
            pass
        assert again.values == first.values
        await consumer.checkpoint(first)
        with pytest.raises(ValidationError, match="forward"):
            await consumer.checkpoint(again[0])


async def test_a_lease_that_was_taken_is_noticed_without_a_checkpoint(
    make_stream: MakeStream, worker: Worker, clock: ManualClock, engine: MemoryEngine
) -> None:
    stream = await make_stream(shards=2)
    async with worker() as consumer:
        await in_hand_or_none(consumer, clock)
        leases = LeaseTable(engine.tables)
        await leases.take("billing", await stream.describe(), SHARDS[0], f"{leases.session}/a thief")
        await clock.advance(4)
        assert held(consumer) == [SHARDS[1]]
        await put(stream, *range(20))
        assert {(await in_hand(consumer, max_records=1)).shard_id for _ in range(4)} == {SHARDS[1]}


async def in_hand_or_none(consumer: Consumer[Any], clock: ManualClock) -> None:
    assert await has_nothing(consumer, clock)


# ---- stalling


async def test_a_worker_that_stalls_costs_the_others_nothing_and_bounded_memory(
    make_stream: MakeStream, worker: Worker, clock: ManualClock
) -> None:
    """It holds what it was handed out, and one read of ``max_records`` of each of its shards."""
    stream: Stream[Any] = await make_stream(shards=4)
    async with worker() as stalled, worker() as living, stream.consumer("mailing") as other:
        await clock.advance(0)
        await put(stream, *range(40))
        await in_hand(stalled, max_records=5)
        for first in range(40, 2000, 40):
            await put(stream, *range(first, first + 40))
        await clock.advance(60)
        feeds = [stalled._feeds.get(shard_id) for shard_id in held(stalled)]
        assert sum(len(feed.ahead) for feed in feeds if feed is not None) <= 2 * 5
        assert sorted(await read(other, 2000)) == list(range(2000))
        theirs = [record.value async for record in stream.records() if record.shard_id in held(living)]
        assert sorted(await read(living, len(theirs))) == sorted(theirs)

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ClosedError, LeaseLostError, NotFoundError, StorageError, ValidationError
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease import LeaseTable, Start
from streamkit.streams.record import Batch, Record, StoredRecord
from streamkit.streams.store import RecordBatch, StreamDescription
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

S = TypeVar("S")

MakeStream = Callable[..., Awaitable[Stream[Any]]]


async def put(stream: Stream[Any], *values: Any) -> None:
    """Each under a key of its own, so that they spread over the shards."""
    await stream.put_batch((f"{value}", value) for value in values)


async def read(consumer: Consumer[Any], count: int, *, checkpoint: bool = True, max_records: int = 500) -> list[Any]:
    """The values of the next ``count`` records."""
    values: list[Any] = []
    if not count:
        return values
    async for batch in consumer.batches(max_records=max_records):
        values.extend(batch.values)
        if checkpoint:
            await consumer.checkpoint(batch)
        if len(values) >= count:
            break
    assert len(values) == count
    return values


async def has_nothing(consumer: Consumer[Any], clock: ManualClock) -> bool:
    task = asyncio.ensure_future(anext(consumer.batches()))
    await clock.advance(0)
    if task.done():
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


def noting(kind: Callable[[Any], S], made: list[S]) -> Callable[[Any], S]:
    """``kind``, with everything it makes in ``made``: the streams' store first."""

    def make(store: Any) -> S:
        made.append(kind(store))
        return made[-1]

    return make


async def crash(consumer: Consumer[Any]) -> None:
    """What is left when a process dies: no checkpoint, no good-bye. (Its tasks must go, for the other tests.)"""
    await consumer.__aexit__(None, None, None)


# ---- everything, in order, from where it belongs


async def test_it_hands_out_everything_shard_by_shard_in_order(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=4)
    await put(stream, *range(200))
    numbers: dict[str, list[int]] = defaultdict(list)
    values: list[int] = []
    async with stream.consumer("billing") as consumer:
        async for batch in consumer.batches(max_records=7):
            assert 1 <= len(batch) <= 7
            assert {record.shard_id for record in batch} == {batch.shard_id}
            numbers[batch.shard_id].extend(record.sequence_number for record in batch)
            values.extend(batch.values)
            await consumer.checkpoint(batch)
            if len(values) == 200:
                break
    assert len(numbers) == 4
    assert all(each == sorted(set(each)) for each in numbers.values())
    assert sorted(values) == list(range(200))


async def test_the_append_wakes_it(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=3)
    async with stream.consumer("billing") as consumer:
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await clock.advance(3600)
        assert not waiting.done()
        before_ms = clock.now_ms()
        await put(stream, "now")
        batch = await waiting
        assert batch.values == ["now"]
        assert clock.now_ms() == before_ms


async def test_nothing_is_asked_of_the_store_while_it_waits(make_stream: MakeStream, clock: ManualClock) -> None:
    calls: list[str] = []

    class Counting:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(self._store, name)

    stream = await make_stream(store=Counting)
    async with stream.consumer("billing") as consumer:
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await clock.advance(0)
        calls.clear()
        await clock.advance(200)
        assert calls == []
        await put(stream, 1)
        await waiting


async def test_trim_horizon_and_latest(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=2)
    await put(stream, "old 1", "old 2", "old 3")
    async with (
        stream.consumer("oldest", start="TRIM_HORIZON") as oldest,
        stream.consumer("newest", start="LATEST") as newest,
    ):
        assert await has_nothing(newest, clock)
        await put(stream, "new 1", "new 2")
        assert sorted(await read(oldest, 5)) == ["new 1", "new 2", "old 1", "old 2", "old 3"]
        assert sorted(await read(newest, 2)) == ["new 1", "new 2"]


async def test_latest_is_where_the_name_first_entered(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=2)
    await put(stream, "old")
    async with stream.consumer("billing", start="LATEST"):
        pass
    await put(stream, "between")
    async with stream.consumer("billing", start="LATEST") as consumer:
        await put(stream, "new")
        assert sorted(await read(consumer, 2)) == ["between", "new"]
        assert await has_nothing(consumer, clock)


async def test_a_name_that_began_with_the_oldest_stays_so(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, "old")
    async with stream.consumer("billing", start="TRIM_HORIZON"):
        pass
    async with stream.consumer("billing", start="LATEST") as consumer:
        assert await read(consumer, 1) == ["old"]


async def test_it_goes_on_from_its_checkpoint_after_a_crash(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    first = await stream.consumer("billing").__aenter__()
    done = await read(first, 20, checkpoint=False, max_records=1)
    assert sorted(done) == list(range(20))
    second = await stream.consumer("billing").__aenter__()
    done = []
    async for batch in second.batches(max_records=3):
        await second.checkpoint(batch)
        done.extend(batch.values)
        if len(done) >= 9:
            break
    await put(stream, 20)
    async with stream.consumer("billing") as third:
        rest = await read(third, 21 - len(done))
        assert sorted(done + rest) == list(range(21))
        assert await has_nothing(third, clock)
    await crash(first)
    await crash(second)


async def test_a_checkpoint_may_be_a_record(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, *range(10))
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        await consumer.checkpoint(batch[3])
    async with stream.consumer("billing") as consumer:
        assert await read(consumer, 6) == [4, 5, 6, 7, 8, 9]


async def test_consumers_of_different_names_each_get_everything(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=3)
    await put(stream, *range(50))
    async with stream.consumer("billing") as billing, stream.consumer("mailing") as mailing:
        assert sorted(await read(billing, 50)) == list(range(50))
        assert sorted(await read(mailing, 50)) == list(range(50))


async def test_a_consumer_that_does_nothing_slows_nobody(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=2)
    async with stream.consumer("asleep") as asleep, stream.consumer("awake") as awake:
        await put(stream, 0)
        await anext(asleep.batches())
        for index in range(1, 200):
            await put(stream, index)
        assert sorted(await read(awake, 200, max_records=10)) == list(range(200))


async def test_a_later_stream_of_the_same_name_starts_anew(make_stream: MakeStream, engine: MemoryEngine) -> None:
    stream = await make_stream()
    await put(stream, "old")
    async with stream.consumer("billing") as consumer:
        await read(consumer, 1)
    await engine.streams.delete_stream("orders")
    stream = await make_stream()
    await put(stream, "new")
    async with stream.consumer("billing") as consumer:
        assert await read(consumer, 1) == ["new"]


# ---- bounds


class Watched:
    """A stream store that notes what is read of it, and fails when it is told to."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read: list[int] = []
        self.fail: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        if self.fail:
            raise self.fail.pop()
        batch: RecordBatch = await self._store.get_records(iterator, limit, wait_ms)
        self.read.append(len(batch.records))
        return batch


async def test_one_batch_per_shard_is_read_ahead_and_no_more(make_stream: MakeStream, clock: ManualClock) -> None:
    stores: list[Watched] = []
    stream = await make_stream(shards=2, store=noting(Watched, stores))
    await put(stream, *range(100))
    async with stream.consumer("billing") as consumer:
        assert stores[0].read == []
        await anext(consumer.batches(max_records=3))
        await clock.advance(600)
        assert stores[0].read == [3, 3, 3]
        await anext(consumer.batches(max_records=3))
        await clock.advance(600)
        assert stores[0].read == [3, 3, 3, 3]


async def test_a_smaller_max_records_holds_for_what_was_read_ahead_too(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, *range(20))
    async with stream.consumer("billing") as consumer:
        assert len(await anext(consumer.batches(max_records=6))) == 6
        await asyncio.sleep(0)
        sizes = [len(await anext(consumer.batches(max_records=4))) for _ in range(4)]
        assert sizes == [4, 2, 4, 4]


async def test_leaving_the_loop_and_coming_back_goes_on(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, *range(10))
    async with stream.consumer("billing") as consumer:
        values: list[int] = []
        for _ in range(5):
            async for batch in consumer.batches(max_records=2):
                values.extend(batch.values)
                break
        assert values == list(range(10))


# ---- leases


async def test_of_two_of_one_name_the_newer_goes_on(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(40))
    async with stream.consumer("billing") as older:
        first = await anext(older.batches(max_records=2))
        await older.checkpoint(first)
        second = await anext(older.batches(max_records=2))
        async with stream.consumer("billing") as newer:
            with pytest.raises(LeaseLostError) as lost:
                await older.checkpoint(second)
            assert (lost.value.consumer, lost.value.shard_id) == ("billing", second.shard_id)
            with pytest.raises(LeaseLostError):
                await older.checkpoint(second)
            # The shard it lost is not read any more; the other one is, until a checkpoint of it fails too.
            third = await anext(older.batches(max_records=2))
            assert third.shard_id != second.shard_id
            with pytest.raises(LeaseLostError):
                await older.checkpoint(third)
            with pytest.raises(LeaseLostError):
                await anext(older.batches())
            rest = await read(newer, 40 - len(first))
            assert sorted(first.values + rest) == list(range(40))
            assert await has_nothing(newer, clock)


async def test_a_checkpoint_never_moves_back(make_stream: MakeStream, yielding: Callable[[Any], Any]) -> None:
    stream = await make_stream(store=yielding)
    await put(stream, *range(6))
    async with stream.consumer("billing") as consumer:
        batches = consumer.batches(max_records=2)
        first, second = await anext(batches), await anext(batches)
        await asyncio.gather(consumer.checkpoint(first), consumer.checkpoint(second))
        await consumer.checkpoint(second)
        with pytest.raises(ValidationError, match="forward"):
            await consumer.checkpoint(first)
        results = await asyncio.gather(
            consumer.checkpoint(await anext(batches)), consumer.checkpoint(second), return_exceptions=True
        )
        assert results[0] is None
        assert isinstance(results[1], ValidationError)
    async with stream.consumer("billing") as consumer:
        await put(stream, 6)
        assert await read(consumer, 1) == [6]


async def test_only_what_was_handed_out_can_be_checkpointed(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, *range(4))
    async with stream.consumer("billing") as billing, stream.consumer("mailing") as mailing:
        first = await anext(billing.batches(max_records=2))
        all_of_it = await anext(mailing.batches())
        with pytest.raises(ValidationError, match="not handed out"):
            await billing.checkpoint(all_of_it)
        stored = StoredRecord(first.last_sequence_number, 0, "k", b"")
        with pytest.raises(ValidationError, match="not handed out"):
            await billing.checkpoint(Record(stored, "shardId-000000000007", Codec(None)))
        await billing.checkpoint(first)


# ---- failures


async def test_a_deleted_stream_is_told_as_itself(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=3)
    async with stream.consumer("billing") as consumer:
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await clock.advance(0)
        await engine.streams.delete_stream("orders")
        with pytest.raises(NotFoundError, match="deleted"):
            await waiting
        with pytest.raises(NotFoundError):
            await anext(consumer.batches())
    with pytest.raises(NotFoundError, match="orders"):
        await stream.consumer("billing").__aenter__()


async def test_a_closed_engine_is_told_as_itself(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=3)
    async with stream.consumer("billing") as consumer:
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await clock.advance(0)
        await engine.aclose()
        with pytest.raises(ClosedError):
            await waiting


async def test_a_shard_that_cannot_be_read_is_told_and_asking_again_tries_again(make_stream: MakeStream) -> None:
    stores: list[Watched] = []
    stream = await make_stream(shards=2, store=noting(Watched, stores))
    await put(stream, *range(10))
    errors = [StorageError("this shard"), StorageError("that shard")]
    stores[0].fail = list(errors)
    async with stream.consumer("billing") as consumer:
        with pytest.raises(StorageError) as raised:
            await anext(consumer.batches())
        assert raised.value in errors
        assert sorted(await read(consumer, 10)) == list(range(10))


async def test_a_later_stream_of_its_name_is_not_taken_for_the_one_it_reads(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream()
    await put(stream, *range(4))
    async with stream.consumer("billing") as consumer:
        assert (await anext(consumer.batches(max_records=2))).values == [0, 1]
        await clock.advance(0)
        await engine.streams.delete_stream("orders")
        later = await make_stream()
        await put(later, *range(10, 20))
        # Long enough for its iterator to expire, so that it needs another one, by the stream's name.
        await clock.advance(301)
        assert (await anext(consumer.batches(max_records=2))).values == [2, 3]
        with pytest.raises(NotFoundError, match="new one"):
            await anext(consumer.batches())


async def test_limits_of_the_engine_are_told_as_they_are(make_stream: MakeStream) -> None:
    stream = await make_stream()
    await put(stream, 1)
    async with stream.consumer("billing") as consumer:
        for wrong in (0, -1, Limits.relaxed().get_records + 1):
            with pytest.raises(ValidationError):
                await anext(consumer.batches(max_records=wrong))
        assert await read(consumer, 1) == [1]


async def test_outside_its_block_a_consumer_is_closed(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream()
    await put(stream, 1)
    consumer = stream.consumer("billing")
    with pytest.raises(ClosedError, match="billing"):
        await anext(consumer.batches())
    async with consumer:
        batch = await anext(consumer.batches())
        with pytest.raises(ClosedError):
            await consumer.__aenter__()
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await clock.advance(0)
    with pytest.raises(ClosedError, match="billing"):
        await waiting
    for call in (anext(consumer.batches()), consumer.checkpoint(batch), consumer.__aenter__()):
        with pytest.raises(ClosedError, match="billing"):
            await call


async def test_names_and_starts_are_checked(make_stream: MakeStream) -> None:
    stream = await make_stream()
    wrong: list[Any] = ["", "a b", "a#b", "n" * 129, "é", None]
    for name in wrong:
        with pytest.raises(ValidationError, match="consumer name"):
            stream.consumer(name)
    stream.consumer("n" * 128)
    with pytest.raises(ValidationError, match="TRIM_HORIZON or LATEST"):
        stream.consumer("billing", start="trim_horizon")  # type: ignore[arg-type]


async def test_what_it_hands_out_is_measured(make_stream: MakeStream, metrics: Metrics, clock: ManualClock) -> None:
    stream = await make_stream()
    await put(stream, *range(10))
    await clock.advance(2.5)
    async with stream.consumer("billing") as consumer:
        first = await anext(consumer.batches(max_records=4))
        assert first.millis_behind_latest == 2500
        last = await read(consumer, 6)
        assert len(last) == 6
        records = metrics.total(consumer.metric("SubscribeToShardEvent.Records"))
        behind = metrics.total(consumer.metric("SubscribeToShardEvent.MillisBehindLatest"))
    assert records is not None
    assert behind is not None
    assert (records.sum, records.sample_count) == (10, 2)
    assert (behind.maximum, behind.minimum) == (2500, 0)
    assert str(consumer.metric("SubscribeToShardEvent.Records")) == (
        "AWS/Kinesis SubscribeToShardEvent.Records{ConsumerName=billing,StreamName=orders}"
    )


# ---- shards that are closed


class Resharded:
    """A stream store in which shards are closed and others are their children, as after a split or a merge."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.parents: dict[str, tuple[str, ...]] = {}
        self.hidden: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def closed(self) -> set[str]:
        return {parent for parents in self.parents.values() for parent in parents}

    async def describe_stream(self, name: str) -> StreamDescription:
        stream: StreamDescription = await self._store.describe_stream(name)
        shards = [
            msgspec.structs.replace(shard, parent_shard_ids=self.parents.get(shard.shard_id, ()))
            for shard in stream.shards
            if shard.shard_id not in self.hidden
        ]
        return msgspec.structs.replace(stream, shards=tuple(shards))

    async def get_shard_iterator(self, name: str, shard_id: str, *args: Any, **kwargs: Any) -> str:
        return f"{shard_id}|{await self._store.get_shard_iterator(name, shard_id, *args, **kwargs)}"

    async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> RecordBatch:
        shard_id, _, token = iterator.partition("|")
        closed = shard_id in self.closed
        batch: RecordBatch = await self._store.get_records(token, limit, 0 if closed else wait_ms)
        at_end = closed and len(batch.records) < limit
        following = None if at_end else f"{shard_id}|{batch.next_iterator}"
        return msgspec.structs.replace(batch, next_iterator=following)


SHARDS = [f"shardId-{index:012d}" for index in range(5)]


async def resharded(make_stream: MakeStream) -> tuple[Stream[Any], Resharded]:
    """Two splits and a merge: 0 became 1 and 2, which became 3; 4 stays open beside them. Three records in each."""
    stores: list[Resharded] = []
    stream = await make_stream(shards=5, store=noting(Resharded, stores))
    stores[0].parents = {SHARDS[1]: (SHARDS[0],), SHARDS[2]: (SHARDS[0],), SHARDS[3]: (SHARDS[1], SHARDS[2])}
    for shard in (await stream.describe()).shards:
        for index in range(3):
            key = shard.hash_key_range.start
            await stream.put(f"{shard.shard_id} {index}", partition_key="k", explicit_hash_key=key)
    return stream, stores[0]


async def test_children_come_after_their_parents_are_checkpointed(make_stream: MakeStream, clock: ManualClock) -> None:
    stream, _ = await resharded(make_stream)
    async with stream.consumer("billing") as consumer:
        held: dict[str, Batch[Any]] = {}
        for _ in range(4):
            batch = await anext(consumer.batches(max_records=2))
            held[batch.shard_id] = batch
        assert set(held) == {SHARDS[0], SHARDS[4]}
        assert await has_nothing(consumer, clock)
        await consumer.checkpoint(held[SHARDS[0]][0])
        assert len(held[SHARDS[0]]) == 1
        for _ in range(4):
            batch = await anext(consumer.batches(max_records=2))
            held[batch.shard_id] = batch
        assert set(held) == {SHARDS[0], SHARDS[4], SHARDS[1], SHARDS[2]}
        await consumer.checkpoint(held[SHARDS[1]])
        assert await has_nothing(consumer, clock)
        await consumer.checkpoint(held[SHARDS[2]])
        assert (await anext(consumer.batches(max_records=3))).shard_id == SHARDS[3]


async def test_a_finished_shard_is_not_read_again(make_stream: MakeStream, engine: MemoryEngine) -> None:
    stream, _ = await resharded(make_stream)
    async with stream.consumer("billing") as consumer:
        values = await read(consumer, 15)
        assert sorted(values) == [f"{shard} {index}" for shard in SHARDS for index in range(3)]
        await consumer.checkpoint(await _any_batch_again(consumer))
    leases = (await engine.tables.scan("streamkit-leases")).items
    assert {item["shard"] for item in leases if item["finished"]} == set(SHARDS[:3])
    async with stream.consumer("billing") as consumer:
        await stream.put("new", partition_key="k", explicit_hash_key=2**128 - 1)
        assert await read(consumer, 1) == ["new"]


async def _any_batch_again(consumer: Consumer[Any]) -> Record[Any]:
    """The last record of a finished shard: its checkpoint may be asked for again, and the shard stays finished."""
    feed = consumer._feeds[SHARDS[0]]
    return Record(StoredRecord(feed.checkpoint_number, 0, "k", b""), SHARDS[0], Codec(None))


async def test_shards_that_appear_later_are_read_from_their_beginning(make_stream: MakeStream) -> None:
    stream, store = await resharded(make_stream)
    parents, store.parents = store.parents, {}
    store.hidden = set(SHARDS[1:4])
    async with stream.consumer("billing", start="LATEST") as consumer:
        await stream.put("more", partition_key="k", explicit_hash_key=0)
        assert await read(consumer, 1) == ["more"]
        store.parents, store.hidden = parents, set()
        # The wait that is under way sees the end when it is over; a put ends it at once.
        await stream.put("last", partition_key="k", explicit_hash_key=0)
        values = await read(consumer, 10)
        assert values[0] == "last"
        assert sorted(values[1:]) == [f"{shard} {index}" for shard in SHARDS[1:4] for index in range(3)]


async def test_it_ends_when_every_shard_is_closed_and_done(make_stream: MakeStream) -> None:
    stores: list[Resharded] = []
    stream = await make_stream(shards=1, store=noting(Resharded, stores))
    stores[0].parents = {"shardId-000000000001": (SHARDS[0],)}
    await put(stream, *range(5))
    async with stream.consumer("billing") as consumer:
        values: list[int] = []
        async for batch in consumer.batches(max_records=2):
            values.extend(batch.values)
            await consumer.checkpoint(batch)
        assert values == list(range(5))
    async with stream.consumer("billing") as consumer:
        assert [batch async for batch in consumer.batches()] == []
        await consumer.run(print)


async def test_a_lease_that_is_lost_at_a_shards_end_is_told(make_stream: MakeStream, clock: ManualClock) -> None:
    stores: list[Resharded] = []
    stream = await make_stream(shards=1, store=noting(Resharded, stores))
    stores[0].parents = {"shardId-000000000001": (SHARDS[0],)}
    async with stream.consumer("billing") as older, stream.consumer("billing"):
        with pytest.raises(LeaseLostError):
            await anext(older.batches())


# ---- sweeps and properties


@pytest.mark.parametrize("start", ["TRIM_HORIZON", "LATEST"])
async def test_cancelling_a_consumer_anywhere_loses_nothing(
    make_stream: MakeStream, engine: MemoryEngine, yielding: Callable[[Any], Any], start: Start
) -> None:
    stream = await make_stream(shards=2, store=yielding)
    await put(stream, *range(12))
    newest = {shard.shard_id: shard.latest_sequence_number for shard in (await stream.describe()).shards}
    done: dict[str, int] = {}
    tried: dict[str, int] = {}
    runs = 0

    async def work() -> None:
        async with stream.consumer(f"billing-{runs}", start="TRIM_HORIZON") as consumer:
            async for batch in consumer.batches(max_records=3):
                tried[batch.shard_id] = batch.last_sequence_number
                await consumer.checkpoint(batch)
                done[batch.shard_id] = batch.last_sequence_number
                if sum(done.values()) == sum(newest.values()):
                    break

    async def check() -> None:
        nonlocal runs
        assert asyncio.all_tasks() == {asyncio.current_task()}
        # The next consumer of this name goes on where the last one certainly or possibly was.
        description = await engine.streams.describe_stream("orders")
        places = await LeaseTable(engine.tables).peek(f"billing-{runs}", description)
        began = any(place is not None for place in places.values())
        for shard in description.shards:
            place = places[shard.shard_id]
            assert place in (done.get(shard.shard_id), tried.get(shard.shard_id), shard.starting_sequence_number, None)
            assert (place or 0) >= done.get(shard.shard_id, 0)
        left = [r.value async for r in stream.records() if r.sequence_number > (places[r.shard_id] or 0)]
        if began or start == "TRIM_HORIZON":
            async with stream.consumer(f"billing-{runs}", start=start) as consumer:
                assert sorted(await read(consumer, len(left))) == sorted(left)
        done.clear()
        tried.clear()
        runs += 1

    assert await cancel_at_every_step(work, check) > 10


async def test_leaving_the_block_waits_for_its_tasks_however_often_it_is_cancelled(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    class SlowToLeave:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def get_records(self, iterator: str, limit: int, wait_ms: int = 0) -> Any:
            try:
                return await self._store.get_records(iterator, limit, wait_ms)
            finally:
                for _ in range(10):
                    await asyncio.sleep(0)

    stream = await make_stream(store=SlowToLeave)

    async def work() -> None:
        async with stream.consumer("billing") as consumer:
            await anext(consumer.batches())

    task = asyncio.ensure_future(work())
    await clock.advance(0)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    await asyncio.wait([task])
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_the_block_leaves_no_task_wherever_it_is_cancelled(
    make_stream: MakeStream, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(shards=3, store=yielding)

    async def work() -> None:
        async with stream.consumer("billing") as consumer:
            waiting = asyncio.ensure_future(anext(consumer.batches()))
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            finally:
                waiting.cancel()

    async def check() -> None:
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert await cancel_at_every_step(work, check) > 5


class Life(msgspec.Struct):
    """One life of a consumer: what is put before it, how it reads, and how often it checkpoints before it dies."""

    keys: list[str]
    max_records: int
    batches: int
    checkpoint_every: int


lives = st.builds(
    Life,
    keys=st.lists(st.sampled_from("abcdef"), max_size=15),
    max_records=st.integers(1, 6),
    batches=st.integers(0, 6),
    checkpoint_every=st.integers(1, 3),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(lives, min_size=1, max_size=6), st.integers(1, 4))
def test_through_any_crashes_each_key_is_seen_whole_and_in_order(history: list[Life], shards: int) -> None:
    """What a checkpoint covers is not seen again; from there on it is seen again in the same order."""

    async def main() -> None:
        clock = ManualClock()
        engine = MemoryEngine(clock, Limits.relaxed())
        await engine.streams.create_stream("orders", shards)
        stream: Stream[int] = Stream("orders", Codec(int), engine.streams, engine.tables, clock, Metrics())
        wanted: dict[str, list[int]] = defaultdict(list)
        certain: dict[str, list[int]] = defaultdict(list)
        for life in history:
            pairs = [(key, sum(map(len, wanted.values())) + index) for index, key in enumerate(life.keys)]
            await stream.put_batch(pairs)
            for key, value in pairs:
                wanted[key].append(value)
            seen: dict[str, list[int]] = defaultdict(list)
            consumer = await stream.consumer("billing").__aenter__()
            pending: list[Record[int]] = []
            for turn in range(1, life.batches + 1):
                waiting = asyncio.ensure_future(anext(consumer.batches(max_records=life.max_records)))
                await clock.advance(0)
                if not waiting.done():
                    waiting.cancel()
                    await asyncio.wait([waiting])
                    break
                batch = waiting.result()
                pending.extend(batch)
                for record in batch:
                    seen[record.partition_key].append(record.value)
                if turn % life.checkpoint_every == 0:
                    await consumer.checkpoint(batch)
                    for record in [r for r in pending if r.shard_id == batch.shard_id]:
                        certain[record.partition_key].append(record.value)
                        pending.remove(record)
            for key, values in seen.items():
                known = len(certain[key]) - sum(value in certain[key] for value in values)
                assert wanted[key][known : known + len(values)] == values
            await crash(consumer)
        async with stream.consumer("billing") as consumer:
            rest = sum(map(len, wanted.values())) - sum(map(len, certain.values()))
            while rest:
                batch = await anext(consumer.batches(max_records=3))
                rest -= len(batch)
                for record in batch:
                    certain[record.partition_key].append(record.value)
            assert await has_nothing(consumer, clock)
        assert {key: values for key, values in certain.items() if values} == {k: v for k, v in wanted.items() if v}

    asyncio.run(main())

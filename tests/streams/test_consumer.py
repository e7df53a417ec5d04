"""What a consumer hands out, and what it tells when it cannot."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ClosedError, NotFoundError, StorageError, ValidationError
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.record import Record, StoredRecord
from streamkit.testing.clock import ManualClock
from tests.streams.consuming import MakeStream, Watched, has_nothing, noting, put, read, restart

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


async def test_no_record_is_asked_for_while_it_waits(make_stream: MakeStream, clock: ManualClock) -> None:
    """It looks around among the leases, and that is all."""
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
        assert set(calls) == {"describe_stream", "query", "write"}
        assert len(calls) == 3 * 60
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


async def test_it_goes_on_from_its_checkpoint_after_a_crash(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    first = await stream.consumer("billing").__aenter__()
    done = await read(first, 20, checkpoint=False, max_records=1)
    assert sorted(done) == list(range(20))
    await restart(engine, first)
    second = await stream.consumer("billing").__aenter__()
    done = []
    async for batch in second.batches(max_records=3):
        await second.checkpoint(batch)
        done.extend(batch.values)
        if len(done) >= 9:
            break
    await put(stream, 20)
    await restart(engine, second)
    async with stream.consumer("billing") as third:
        rest = await read(third, 21 - len(done))
        assert sorted(done + rest) == list(range(21))
        assert await has_nothing(third, clock)


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


async def test_a_consumer_that_does_nothing_slows_nobody(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=2)
    async with stream.consumer("asleep") as asleep, stream.consumer("awake") as awake:
        await put(stream, 0)
        await anext(asleep.batches())
        for index in range(1, 200):
            await put(stream, index)
        assert sorted(await read(awake, 200, max_records=10)) == list(range(200))


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


# ---- checkpoints


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
        await clock.advance(301)
        for _ in range(3):
            # It was read ahead; nothing else comes of it, and nothing of the later one.
            with pytest.raises(NotFoundError, match="new one"):
                await read(consumer, 3, checkpoint=False)
            await clock.advance(4)


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

"""Consumers of streams whose shards split and merge, and of records that are gone or packed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import LeaseLostError, ValidationError
from streamkit.metrics.window import Metrics
from streamkit.streams.aggregation import aggregate
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.store import PutEntry, Split
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock
from tests.streams.consuming import SHARDS, MakeStream, has_nothing, held, kill, put, read, restart


async def fill(stream: Stream[Any]) -> None:
    """Three records into each open shard, which say where they are."""
    for shard in (await stream.describe()).open_shards:
        for index in range(3):
            key = shard.hash_key_range.start
            await stream.put(f"{shard.shard_id} {index}", partition_key="k", explicit_hash_key=key)


async def resharded(make_stream: MakeStream) -> Stream[Any]:
    """0 became 2 and 3, which became 4; 1 stays open beside them. Three records in each."""
    stream = await make_stream(shards=2)
    await fill(stream)
    await stream.split(SHARDS[0])
    for shard in (await stream.describe()).open_shards[1:]:
        for index in range(3):
            key = shard.hash_key_range.start
            await stream.put(f"{shard.shard_id} {index}", partition_key="k", explicit_hash_key=key)
    await stream.merge(SHARDS[2], SHARDS[3])
    for index in range(3):
        await stream.put(f"{SHARDS[4]} {index}", partition_key="k", explicit_hash_key=0)
    return stream


# ---- parents and children


async def test_children_come_after_their_parents_are_checkpointed(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await resharded(make_stream)
    async with stream.consumer("billing") as consumer:
        held_back: dict[str, Batch[Any]] = {}
        for _ in range(4):
            batch = await anext(consumer.batches(max_records=2))
            held_back[batch.shard_id] = batch
        assert set(held_back) == {SHARDS[0], SHARDS[1]}
        assert await has_nothing(consumer, clock)
        await consumer.checkpoint(held_back[SHARDS[0]][0])
        for _ in range(4):
            batch = await anext(consumer.batches(max_records=2))
            held_back[batch.shard_id] = batch
        assert set(held_back) == set(SHARDS[:4])
        await consumer.checkpoint(held_back[SHARDS[2]])
        assert await has_nothing(consumer, clock)
        await consumer.checkpoint(held_back[SHARDS[3]])
        assert (await anext(consumer.batches(max_records=3))).shard_id == SHARDS[4]


async def test_a_key_keeps_its_order_through_a_shard_without_a_record(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await make_stream(shards=1)
    await stream.put("first", partition_key="k", explicit_hash_key=0)
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        await stream.split(SHARDS[0])
        await stream.split(SHARDS[1])
        await stream.put("second", partition_key="k", explicit_hash_key=0)
        await clock.advance(5)  # It has looked around, and knows the new shards.
        assert await has_nothing(consumer, clock), "a grandchild was read before the checkpoint of its grandparent"
        await consumer.checkpoint(batch)
        assert await read(consumer, 1) == ["second"]


async def test_a_finished_shard_is_not_read_again(make_stream: MakeStream, engine: MemoryEngine) -> None:
    stream = await resharded(make_stream)
    last: dict[str, Batch[Any]] = {}
    async with stream.consumer("billing") as consumer:
        values = 0
        async for batch in consumer.batches():
            last[batch.shard_id] = batch
            values += len(batch)
            await consumer.checkpoint(batch)
            if values == 15:
                break
        # A checkpoint may be asked for again, and the shard stays finished.
        await consumer.checkpoint(last[SHARDS[0]])
        with pytest.raises(ValidationError, match="forward"):
            await consumer.checkpoint(last[SHARDS[0]][0])
    leases = (await engine.tables.scan("streamkit-leases")).items
    assert {item["shard"] for item in leases if item["finished"]} == {SHARDS[0], SHARDS[2], SHARDS[3]}
    async with stream.consumer("billing") as consumer:
        assert held(consumer) == [SHARDS[1], SHARDS[4]]
        await stream.put("new", partition_key="k", explicit_hash_key=2**128 - 1)
        assert await read(consumer, 1) == ["new"]


async def test_shards_that_appear_while_it_reads_are_read_from_their_beginning(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=1)
    await put(stream, "old")
    async with stream.consumer("billing", start="LATEST") as consumer:
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await asyncio.sleep(0)
        await stream.split(SHARDS[0])
        await fill(stream)
        batch = await waiting
        await consumer.checkpoint(batch)
        rest = await read(consumer, 6 - len(batch))
        assert sorted(batch.values + rest) == [f"{shard} {index}" for shard in SHARDS[1:3] for index in range(3)]


async def test_shards_that_appear_while_nobody_reads_are_read_from_their_beginning(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=1)
    async with stream.consumer("billing", start="LATEST"):
        pass
    await put(stream, "between")
    await stream.split(SHARDS[0])
    await fill(stream)
    async with stream.consumer("billing", start="LATEST") as consumer:
        assert (await read(consumer, 7))[0] == "between"


async def test_a_name_that_begins_at_latest_begins_with_what_comes_whatever_was_closed(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await resharded(make_stream)
    async with stream.consumer("billing", start="LATEST") as consumer:
        assert held(consumer) == [SHARDS[1], SHARDS[4]]
        assert await has_nothing(consumer, clock)
        await stream.split(SHARDS[4])
        await stream.put("new", partition_key="k", explicit_hash_key=0)
        assert await read(consumer, 1) == ["new"]


async def test_a_child_waits_for_parents_that_other_workers_read(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=2)
    await fill(stream)
    await stream.merge(SHARDS[0], SHARDS[1])
    await fill(stream)
    async with stream.consumer("billing") as first, stream.consumer("billing") as second:
        await clock.advance(0)
        assert (len(held(first)), len(held(second))) == (1, 1)
        ours, theirs = await anext(first.batches()), await anext(second.batches())
        assert {ours.shard_id, theirs.shard_id} == set(SHARDS[:2])
        await first.checkpoint(ours)
        await clock.advance(60)
        assert await has_nothing(first, clock)
        assert await has_nothing(second, clock)
        await second.checkpoint(theirs)
        await clock.advance(0)
        (reader,) = [each for each in (first, second) if held(each)]
        assert await read(reader, 3) == [f"{SHARDS[2]} {index}" for index in range(3)]


async def test_it_ends_when_every_shard_is_closed_and_done(make_stream: MakeStream, engine: MemoryEngine) -> None:
    """As no stream of an engine's is, since a shard is closed by opening others."""

    class Closed:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def describe_stream(self, name: str) -> Any:
            stream = await self._store.describe_stream(name)
            return type(stream)(stream.name, stream.stream_id, 0, stream.shards[:1])

    stream = await make_stream(shards=1, store=Closed)
    await put(stream, *range(5))
    await engine.streams.reshard("orders", Split(SHARDS[0], 5))
    async with stream.consumer("billing") as consumer:
        values: list[int] = []
        async for batch in consumer.batches(max_records=2):
            values.extend(batch.values)
            await consumer.checkpoint(batch)
        assert values == list(range(5))
    async with stream.consumer("billing") as consumer:
        assert [batch async for batch in consumer.batches()] == []
        await consumer.run(print)


async def test_a_lease_that_is_lost_at_a_shards_end_leaves_the_end_to_its_new_owner(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock
) -> None:
    stream = await make_stream(shards=1)
    await put(stream, 1)
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        await consumer.checkpoint(batch)
        leases = LeaseTable(engine.tables)
        description = await stream.describe()
        theirs = await leases.take("billing", description, SHARDS[0], f"{leases.session}/a thief")
        await stream.split(SHARDS[0])
        assert await has_nothing(consumer, clock)
        with pytest.raises(LeaseLostError):
            await consumer.checkpoint(batch)
        assert held(consumer) == []
        await leases.checkpoint(theirs, 1, finished=True)
        await clock.advance(4)
        assert held(consumer) == SHARDS[1:3]


# ---- retention


async def test_what_was_trimmed_unread_is_told(
    make_stream: MakeStream, clock: ManualClock, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await make_stream(shards=1)
    await stream.update(retention=60)
    await put(stream, *range(10))
    async with stream.consumer("billing") as consumer:
        assert await read(consumer, 4, max_records=4) == [0, 1, 2, 3]
    await clock.advance(61)
    await put(stream, *range(10, 14))
    async with stream.consumer("billing") as consumer:
        with caplog.at_level(logging.WARNING, logger="streamkit.streams"):
            first = await anext(consumer.batches(max_records=2))
        assert (first.values, first.trimmed) == ([10, 11], 6)
        assert "missed 6 records" in caplog.text
        fields = {"consumer": "billing", "stream": "orders", "shard": "shardId-000000000000"}
        assert vars(caplog.records[0]).items() >= fields.items()
        second = await anext(consumer.batches(max_records=2))
        assert (second.values, second.trimmed) == ([12, 13], 0)
        total = metrics.total(consumer.metric("RecordsTrimmed"))
        assert total is not None
        assert total.sum == 6


async def test_a_batch_begins_where_records_are_missing(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=1)
    await stream.update(retention=60)
    await put(stream, 0, 1)
    async with stream.consumer("billing") as consumer:
        batches = consumer.batches(max_records=1)
        first = await anext(batches)
        await clock.advance(0)
        await put(stream, 2)
        await clock.advance(61)
        await put(stream, 3)
        second = await anext(batches)  # It was read ahead.
        assert (first.values, second.values) == ([0], [1])
        await clock.advance(0)
        feed = consumer._feeds.get(SHARDS[0])
        assert feed is not None
        feed.hand_back(Batch(SHARDS[0], [*first, *second]))
        consumer._feeds.changed(feed)
        again = await anext(consumer.batches())
        assert (again.values, again.trimmed) == ([0, 1], 0)
        third = await anext(consumer.batches())
        assert (third.values, third.trimmed) == ([3], 1)
        # What is handed out again tells it again.
        feed.hand_back(third)
        consumer._feeds.changed(feed)
        third = await anext(consumer.batches())
        assert (third.values, third.trimmed) == ([3], 1)
        await consumer.checkpoint(third)


async def test_a_name_that_begins_with_the_oldest_record_missed_nothing(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await make_stream(shards=1)
    await stream.update(retention=60)
    await put(stream, *range(4))
    await clock.advance(61)
    await stream.update(retention=60)
    await put(stream, 4)
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        assert (batch.values, batch.trimmed) == ([4], 0)
        assert (await consumer.lag()).records == 1


async def test_a_parent_that_expired_unread_keeps_nobody_waiting(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await make_stream(shards=1)
    await stream.update(retention=60)
    await put(stream, *range(4))
    async with stream.consumer("billing"):
        pass
    await stream.split(SHARDS[0])
    await clock.advance(61)
    await stream.update(retention=60)
    assert len((await stream.describe()).shards) == 2
    await fill(stream)
    with caplog.at_level(logging.WARNING, logger="streamkit.streams"):
        async with stream.consumer("billing") as consumer:
            assert held(consumer) == SHARDS[1:3]
            assert len(await read(consumer, 6)) == 6
    assert f"missed what came after 0 in {SHARDS[0]}" in caplog.text
    items = (await engine.tables.scan("streamkit-leases")).items
    assert [item["shard"] for item in items] == SHARDS[1:3]


async def test_a_shard_that_expires_while_it_is_read_makes_way_for_its_children(
    make_stream: MakeStream, clock: ManualClock
) -> None:
    stream = await make_stream(shards=1)
    await stream.update(retention=60)
    await put(stream, *range(4))
    async with stream.consumer("billing") as consumer:
        first = await anext(consumer.batches(max_records=1))
        assert first.values == [0]
        await stream.split(SHARDS[0])
        await fill(stream)
        await clock.advance(30)
        await stream.update(retention=25)
        await fill(stream)
        assert (await anext(consumer.batches(max_records=1))).values == [1]  # It was read ahead.
        values: list[Any] = []
        while len(values) < 6:
            batch = await anext(consumer.batches())
            values += batch.values
            await consumer.checkpoint(batch)
        assert sorted(set(values)) == [f"{shard} {index}" for shard in SHARDS[1:3] for index in range(3)]


# ---- aggregated records


async def put_aggregated(stream: Stream[Any], *groups: str) -> None:
    """One stored record for each group, with a user record for each letter."""
    for group in groups:
        entries = [PutEntry(letter, stream.codec.encode(letter)) for letter in group]
        await stream._store.put_records(stream.name, [aggregate(entries)])


async def test_user_records_are_handed_out_each_for_itself(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=1)
    await put_aggregated(stream, "abc", "d", "efgh")
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        assert batch.values == list("abcdefgh")
        assert [record.partition_key for record in batch] == list("abcdefgh")
        assert [record.sequence_number for record in batch] == [1, 1, 1, 2, 3, 3, 3, 3]
        assert [record.subsequence_number for record in batch] == [0, 1, 2, None, 0, 1, 2, 3]


@pytest.mark.parametrize("done", range(8))
async def test_a_restart_goes_on_after_the_user_record_that_was_checkpointed(
    make_stream: MakeStream, engine: MemoryEngine, done: int
) -> None:
    stream = await make_stream(shards=1)
    await put_aggregated(stream, "abc", "d", "efgh")
    consumer = await stream.consumer("billing").__aenter__()
    batch = await anext(consumer.batches())
    for record in batch[: done + 1]:
        await consumer.checkpoint(record)
        await consumer.checkpoint(record)
    if done:
        with pytest.raises(ValidationError, match="forward"):
            await consumer.checkpoint(batch[done - 1])
    await restart(engine, consumer)
    await put_aggregated(stream, "ij")
    async with stream.consumer("billing") as consumer:
        left = list("abcdefghij")[done + 1 :]
        # What is wholly done is not behind, what is done in part is.
        assert (await consumer.lag()).records == {0: 4, 1: 4, 2: 3, 3: 2, 4: 2, 5: 2, 6: 2, 7: 1}[done]
        assert await read(consumer, len(left), max_records=3) == left


async def test_a_shard_ends_with_the_last_user_record(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(shards=1)
    await put_aggregated(stream, "abc")
    await stream.split(SHARDS[0])
    await put(stream, 1, 2, 3, 4, 5, 6)
    async with stream.consumer("billing") as consumer:
        batch = await anext(consumer.batches())
        await consumer.checkpoint(batch[1])
        assert await has_nothing(consumer, clock)
        await consumer.checkpoint(batch[2])
        assert sorted(await read(consumer, 6)) == [1, 2, 3, 4, 5, 6]


async def test_a_consumer_without_checkpoints_keeps_a_bounded_memory_of_aggregates(make_stream: MakeStream) -> None:
    stream = await make_stream(shards=1)
    for _ in range(3):
        pairs = [PutEntry(letter, stream.codec.encode(letter)) for letter in "ab"]
        await stream._store.put_records(stream.name, [aggregate(pairs)] * 5000)
    consumer = await stream.consumer("billing").__aenter__()
    for _ in range(30):
        batch = await anext(consumer.batches(max_records=1000))
    feed = consumer._feeds.get(SHARDS[0])
    assert feed is not None
    assert len(feed._ends) <= 10_000
    await consumer.checkpoint(batch)
    assert len(feed._ends) <= 1
    await kill(consumer)

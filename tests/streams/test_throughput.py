from __future__ import annotations

import msgspec
import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ThroughputExceededError, ValidationError
from streamkit.limits import KIB, MIB, Limits
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.store import ProducerSequences, PutEntry, Split, StreamAttributes
from streamkit.streams.throughput import Bucket, ShardLoad, ShardMeter
from streamkit.testing.clock import ManualClock

AWS = Limits.aws()
LOWER, UPPER = 0, KEY_SPACE - 1


def test_a_bucket_gives_its_rate() -> None:
    bucket = Bucket(10, 0)
    for _ in range(10):
        assert bucket.wait_for(1, 0) == 0
        bucket.take(1)
    assert bucket.wait_for(1, 0) == pytest.approx(0.1)
    assert bucket.wait_for(1, 50) == pytest.approx(0.05)
    assert bucket.wait_for(1, 100) == 0
    assert bucket.wait_for(10, 10_000) == 0, "it holds no more than one second's worth"
    bucket.take(10)
    assert bucket.wait_for(1, 10_000) > 0


def test_what_is_larger_than_a_bucket_leaves_a_debt() -> None:
    bucket = Bucket(10, 0)
    assert bucket.wait_for(35, 0) == 0
    bucket.take(35)
    assert bucket.wait_for(1, 0) == pytest.approx(2.6)
    assert bucket.wait_for(1, 2_600) == 0


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    bucket = Bucket(10, 10_000)
    bucket.take(5)
    assert bucket.wait_for(5, 0) == 0
    assert bucket.wait_for(10, 500) == 0


def test_a_shard_is_hot_after_three_busy_seconds_of_ten() -> None:
    load = ShardLoad(AWS)
    assert [load.add(501, 0, second * 1000) for second in (0, 1, 2)] == [False, False, True]
    load = ShardLoad(AWS)
    assert [load.add(0, MIB // 2 + 1, second * 1000) for second in (0, 4, 9)] == [False, False, True]
    load = ShardLoad(AWS)
    assert not any(load.add(501, 0, second * 1000) for second in (0, 6, 12, 18)), "bursts that are far apart"
    load = ShardLoad(AWS)
    assert not any(load.add(500, MIB // 2, second * 1000) for second in range(20)), "half of it leaves room to double"


def test_each_limit_of_a_shard_is_named() -> None:
    limits = msgspec.structs.replace(AWS, shard_put_records=1, shard_get_calls=None)
    meter = ShardMeter(limits, 0)
    assert meter.put(1, 0) is None
    assert meter.put(1, 0) == ("1 records/s written", 1.0)
    assert meter.get(0) is None
    meter.got(10 * MIB)
    over = meter.get(0)
    assert over is not None
    assert over[0] == "2,097,152 bytes/s read"
    assert over[1] == pytest.approx(4.0, abs=0.01), "AWS: 10 MiB close the shard for some five seconds"


@pytest.fixture
async def aws(clock: ManualClock) -> MemoryEngine:
    engine = MemoryEngine(clock, AWS)
    await engine.streams.create_stream("s", 2)
    return engine


async def test_a_shard_takes_a_thousand_records_a_second(aws: MemoryEngine, clock: ManualClock) -> None:
    """The entry that is over it is refused, the others are stored; nothing is refused a second later."""
    entries = [PutEntry("k", b"", LOWER)] * 500
    for _ in range(2):
        assert all(result.error is None for result in await aws.streams.put_records("s", entries))
    results = await aws.streams.put_records("s", [PutEntry("k", b"", LOWER), PutEntry("l", b"", UPPER)])
    error = results[0].error
    assert isinstance(error, ThroughputExceededError)
    assert error.retryable
    assert error.retry_after == pytest.approx(0.001)
    assert "shardId-000000000000 of stream 's' is over its limit (1,000 records/s written)" in str(error)
    assert (results[0].shard_id, results[0].sequence_number) == ("", 0)
    assert results[1].error is None
    await clock.advance(1)
    assert all(result.error is None for result in await aws.streams.put_records("s", entries))


async def test_a_refused_entry_refuses_the_later_ones_of_its_key(aws: MemoryEngine, clock: ManualClock) -> None:
    """So that putting them again keeps the key's order; smaller ones of other keys are stored."""
    big, small = b"x" * (1000 * KIB), b"x"
    entries = [
        PutEntry("a", big, LOWER),
        PutEntry("b", big, LOWER),
        PutEntry("b", small, LOWER),
        PutEntry("a", small, 0),
    ]
    results = await aws.streams.put_records("s", entries)
    assert [result.error is None for result in results] == [True, False, False, True]


async def test_a_producer_is_refused_from_the_first_entry_on(aws: MemoryEngine, clock: ManualClock) -> None:
    """So one number says what was stored; what is put again is stored once."""
    big = b"x" * (1000 * KIB)
    entries = [PutEntry("a", big, LOWER), PutEntry("b", big, LOWER), PutEntry("c", b"x", UPPER)]
    results = await aws.streams.put_records("s", entries, ProducerSequences("p", [1, 2, 3]))
    assert [result.error is None for result in results] == [True, False, False]
    await clock.advance(1)
    results = await aws.streams.put_records("s", entries, ProducerSequences("p", [1, 2, 3]))
    assert [(result.error, result.duplicate) for result in results] == [(None, True), (None, False), (None, False)]


async def test_reads_by_polling_are_limited_and_pushed_ones_are_not(aws: MemoryEngine, clock: ManualClock) -> None:
    """A throttled read returns nothing, and its iterator is as good as before."""
    streams = aws.streams
    await streams.put_records("s", [PutEntry("k", b"x", LOWER)])
    iterator = await streams.get_shard_iterator("s", "shardId-000000000000", "TRIM_HORIZON")
    for _ in range(5):
        await streams.get_records(iterator, 10)
    with pytest.raises(ThroughputExceededError, match="5 reads/s"):
        await streams.get_records(iterator, 10)
    assert len((await streams.get_records(iterator, 10, wait_ms=1_000)).records) == 1
    await clock.advance(0.2)
    assert len((await streams.get_records(iterator, 10)).records) == 1


async def test_an_on_demand_stream_splits_while_it_is_hot(clock: ManualClock) -> None:
    """By itself, at the middle of the range, without a record lost or a key out of order; and not when it cools."""
    engine = MemoryEngine(clock, msgspec.structs.replace(Limits.relaxed(), on_demand_shards=3))
    streams = engine.streams
    await streams.create_stream("s", 1, StreamAttributes(mode="ON_DEMAND"))
    put = 0
    for _ in range(12):
        entries = [PutEntry(f"key-{at}", b"%d" % (put + at)) for at in range(2_000)]
        assert all(result.error is None for result in await streams.put_records("s", entries))
        put += len(entries)
        await clock.advance(1)
    stream = await streams.describe_stream("s")
    assert len(stream.open_shards) == 3, "no more than its limits say"
    assert sum(shard.latest_sequence_number - shard.starting_sequence_number for shard in stream.shards) == put
    halves = sorted(shard.hash_key_range.start for shard in stream.shards if shard.parent_shard_ids)[:2]
    assert halves[0] == 0
    for _ in range(20):
        await streams.put_records("s", [PutEntry("k", b"")])
        await clock.advance(1)
    assert len((await streams.describe_stream("s")).shards) == len(stream.shards)


async def test_an_on_demand_stream_is_not_resharded_by_hand(clock: ManualClock) -> None:
    """AWS answers with a ValidationException."""
    engine = MemoryEngine(clock, Limits.relaxed())
    await engine.streams.create_stream("s", 1, StreamAttributes(mode="ON_DEMAND"))
    with pytest.raises(ValidationError, match="ON_DEMAND"):
        await engine.streams.reshard("s", Split("shardId-000000000000", KEY_SPACE // 2))

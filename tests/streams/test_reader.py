from __future__ import annotations

import asyncio

import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import NotFoundError, ValidationError
from streamkit.streams.reader import ShardReader
from streamkit.streams.store import PutEntry
from streamkit.testing.clock import ManualClock

SHARD = "shardId-000000000000"
LONGER_THAN_AN_ITERATOR_LIVES = 301


@pytest.fixture(autouse=True)
async def _stream(engine: MemoryEngine) -> None:
    await engine.streams.create_stream("orders", 1)


async def put(engine: MemoryEngine, *data: bytes) -> list[int]:
    results = await engine.streams.put_records("orders", [PutEntry("k", each) for each in data])
    return [result.sequence_number for result in results]


async def read(reader: ShardReader, limit: int = 100) -> list[bytes]:
    return [record.data for record in (await reader.read(limit)).records]


async def test_it_moves_forward_as_it_is_read(engine: MemoryEngine) -> None:
    numbers = await put(engine, b"1", b"2", b"3")
    reader = ShardReader(engine.streams, "orders", SHARD, "TRIM_HORIZON")
    assert await read(reader, 2) == [b"1", b"2"]
    assert reader.sequence_number == numbers[1]
    assert await read(reader, 2) == [b"3"]
    assert await read(reader, 2) == []
    assert not reader.at_end


async def test_it_goes_on_where_it_was_when_its_iterator_expired(engine: MemoryEngine, clock: ManualClock) -> None:
    await put(engine, b"1", b"2")
    reader = ShardReader(engine.streams, "orders", SHARD, "TRIM_HORIZON")
    assert await read(reader, 1) == [b"1"]
    await clock.advance(LONGER_THAN_AN_ITERATOR_LIVES)
    assert await read(reader, 1) == [b"2"]


async def test_latest_stays_where_it_was_first_when_its_iterator_expired(
    engine: MemoryEngine, clock: ManualClock
) -> None:
    await put(engine, b"before")
    reader = ShardReader(engine.streams, "orders", SHARD, "LATEST")
    assert await read(reader) == []
    await clock.advance(LONGER_THAN_AN_ITERATOR_LIVES)
    await put(engine, b"after")
    assert await read(reader) == [b"after"]


async def test_it_starts_at_an_instant(engine: MemoryEngine, clock: ManualClock) -> None:
    await put(engine, b"1")
    await clock.advance(1)
    since = clock.now_ms()
    await put(engine, b"2")
    reader = ShardReader(engine.streams, "orders", SHARD, "AT_TIMESTAMP", timestamp_ms=since)
    assert await read(reader) == [b"2"]


async def test_it_can_be_set_back(engine: MemoryEngine) -> None:
    numbers = await put(engine, b"1", b"2", b"3")
    reader = ShardReader(engine.streams, "orders", SHARD, "TRIM_HORIZON")
    await read(reader)
    reader.rewind(numbers[0])
    assert await read(reader) == [b"2", b"3"]


async def test_a_later_stream_of_the_same_name_is_not_the_one_it_reads(
    engine: MemoryEngine, clock: ManualClock
) -> None:
    stream_id = (await engine.streams.describe_stream("orders")).stream_id
    reader = ShardReader(engine.streams, "orders", SHARD, "TRIM_HORIZON", stream_id=stream_id)
    await put(engine, b"old")
    assert await read(reader) == [b"old"]
    await engine.streams.delete_stream("orders")
    await engine.streams.create_stream("orders", 1)
    await put(engine, b"new", b"new")
    await clock.advance(LONGER_THAN_AN_ITERATOR_LIVES)
    with pytest.raises(NotFoundError, match="new one"):
        await reader.read(10)


async def test_an_unknown_shard_is_not_found(engine: MemoryEngine) -> None:
    for position in ("LATEST", "TRIM_HORIZON"):
        with pytest.raises(NotFoundError) as missing:
            await ShardReader(engine.streams, "orders", "shardId-9", position).read(1)
        assert missing.value.kind == "shard"


async def test_a_limit_out_of_range_is_refused(engine: MemoryEngine) -> None:
    with pytest.raises(ValidationError):
        await ShardReader(engine.streams, "orders", SHARD, "TRIM_HORIZON").read(0)


async def test_a_cancelled_read_has_not_moved(engine: MemoryEngine, clock: ManualClock) -> None:
    reader = ShardReader(engine.streams, "orders", SHARD, "TRIM_HORIZON")
    waiting = asyncio.create_task(reader.read(10, 60_000))
    await clock.advance(0)
    await put(engine, b"1")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await read(reader) == [b"1"]

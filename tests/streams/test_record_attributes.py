"""Attributes of records: runs in memory and on disk, and every way that a record goes with them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit
from streamkit.engines.embedded.changes import RecordsPut, ShardRecords
from streamkit.engines.file import backup, block, verify
from streamkit.errors import ValidationError
from streamkit.functions.mapping import EventSourceMapping
from streamkit.streams.aggregation import aggregate
from streamkit.streams.buffer import Batching
from streamkit.streams.keyspace import HashKeyRange
from streamkit.streams.record_attributes import AttributeRun, Runs, column, extend, part
from streamkit.streams.shard import Shard
from streamkit.streams.store import PutEntry
from streamkit.testing.clock import ManualClock

A, B = {"traceparent": "a"}, {"traceparent": "b", "tracestate": "x=1"}
SOME = st.lists(st.sampled_from([None, A, B]), max_size=12)


def by_place(given_: list[Any]) -> dict[int, Any]:
    return {place: has for place, has in enumerate(given_) if has}


@settings(deadline=None)
@given(st.lists(SOME, max_size=6), st.data())
def test_runs_are_what_each_record_has(appended: list[list[Any]], data: st.DataObject) -> None:
    """Whatever is appended, forgotten and asked for."""
    runs, all_of_them, number = Runs(), [None], 1
    for each in appended:
        runs.add(number, by_place(each))
        all_of_them += each
        number += len(each)
    forgotten = data.draw(st.integers(0, number - 1))
    runs.forget(forgotten)
    first = data.draw(st.integers(forgotten + 1, number))
    end = data.draw(st.integers(first, number))
    assert list(column(runs.between(first, end), end - first)) == all_of_them[first:end]
    assert bool(runs) == any(all_of_them[forgotten + 1 :])


@settings(deadline=None)
@given(SOME, st.data())
def test_a_part_of_runs_and_what_a_journal_had(given_: list[Any], data: st.DataObject) -> None:
    runs: list[AttributeRun] = []
    extend(runs, 0, by_place(given_))
    start = data.draw(st.integers(0, len(given_)))
    end = data.draw(st.integers(start, len(given_)))
    assert list(column(part(runs, start, end), end - start)) == given_[start:end]
    again = Runs()
    again.add_runs(8, runs)
    assert list(column(again.between(8, 8 + len(given_)), len(given_))) == given_


def test_neighbours_that_have_the_same_take_the_room_of_one() -> None:
    runs: list[AttributeRun] = []
    extend(runs, 0, dict.fromkeys(range(500), A))
    alike = dict(A)
    extend(runs, 500, dict.fromkeys(range(500), alike))
    extend(runs, 1000, {0: B})
    assert runs == [AttributeRun(0, 1000, A), AttributeRun(1000, 1, B)]


def test_records_without_attributes_take_one_byte_more_in_all() -> None:
    """And what was written before there were any is read."""
    encode, plain = msgspec.msgpack.encode, ShardRecords(0, 1, [5, 500], ["k"] * 500, [b"d"] * 500)
    before = ["r", 7, [[0, 1, [5, 500], ["k"] * 500, [b"d"] * 500]], {}]
    assert len(encode(RecordsPut(7, [plain], {}))) == len(encode(before)) + 1
    assert msgspec.msgpack.decode(encode(before), type=RecordsPut).shards == [plain]
    columns = block.Columns(1, [5], ["k"], [b"d"])
    packed = block.pack(columns, 3)
    assert len(packed) == block.HEADER_SIZE + len(encode([1, [5], ["k"], [b"d"]])) + 1
    assert msgspec.msgpack.decode(encode([1, [5], ["k"], [b"d"]]), type=block.Columns) == columns


class _ColumnsOfBefore(msgspec.Struct, array_like=True):
    first_number: int
    arrivals_ms: list[int]
    keys: list[str]
    data: list[bytes]


def test_a_streamkit_from_before_reads_what_has_attributes() -> None:
    """It does not know the last column, of a block or of the journal's records, and passes over it."""
    packed = msgspec.msgpack.encode(block.Columns(1, [5, 5], ["k", "l"], [b"d", b"e"], [AttributeRun(0, 2, A)]))
    read = msgspec.msgpack.decode(packed, type=_ColumnsOfBefore)
    assert read == _ColumnsOfBefore(1, [5, 5], ["k", "l"], [b"d", b"e"])
    logged = msgspec.msgpack.encode(ShardRecords(1, 9, [5, 1], ["k"], [b"d"], [AttributeRun(0, 1, A)]))
    assert msgspec.msgpack.decode(logged)[:5] == [1, 9, [5, 1], ["k"], [b"d"]]


def test_what_leaves_memory_takes_its_attributes_with_it() -> None:
    shard = Shard(0, HashKeyRange(0, 9))
    shard.append([5] * 4, ["k"] * 4, [b"d"] * 4, {0: A, 2: B})
    shard.readable = 4
    shard.move_out(2)
    assert [record.attributes for record in shard.read(2, 9, 99)] == [B, None]
    shard.trim(3)
    assert not shard.attributes


# ---- through handles


async def found(stream: streamkit.Stream[Any]) -> dict[Any, dict[str, str]]:
    return {record.value: dict(record.attributes) async for record in stream.records()}


async def test_puts_of_one_turn_keep_each_their_own(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("s", shards=2)
        puts = [
            stream.put(0, partition_key="a", attributes=A),
            stream.put(1, partition_key="b"),
            stream.put(2, partition_key="c", attributes=B, explicit_hash_key=5),
            stream.put(3, partition_key="", attributes=B),
            stream.put(4, partition_key="d", attributes={"k": "v" * 2000}),
            stream.put(5, partition_key="e", attributes={}),
        ]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        assert [isinstance(answer, ValidationError) for answer in answers] == [False, False, False, True, True, False]
        await stream.put(6, partition_key="a", attributes=A)
        assert await found(stream) == {0: A, 1: {}, 2: B, 5: {}, 6: A}


async def test_every_reader_sees_them(clock: ManualClock) -> None:
    """head, tail, following, a consumer's batches, and a mapping's function."""
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("s")
        await stream.put(1, partition_key="k", attributes=A)
        await stream.put(2, partition_key="k")
        for records in (await stream.head(), await stream.tail()):
            assert [record.attributes for record in records] == [A, {}]
        following = stream.tail(follow=True)
        assert (await anext(following)).attributes == A
        await following.aclose()
        async with stream.consumer("c") as consumer:
            batch = await anext(aiter(consumer.batches()))
            assert [record.attributes for record in batch] == [A, {}]
        seen: list[Any] = []

        def function(records: streamkit.Batch[Any]) -> None:
            seen.extend(record.attributes for record in records)

        await kit.start(EventSourceMapping("m", source=stream, function=function)).wait_caught_up()
        assert seen == [A, {}]
        with pytest.raises(TypeError):
            batch[1].attributes["k"] = "v"


@pytest.mark.parametrize("batching", [Batching(), Batching(aggregate=True)], ids=["plain", "aggregated"])
async def test_a_producer_keeps_them(batching: Batching, clock: ManualClock) -> None:
    """In an aggregate they are its records' tags."""
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("s")
        async with stream.producer(batching, id="p") as producer:
            await producer.put(1, partition_key="a", attributes=A)
            await producer.put(2, partition_key="b")
            await producer.put(3, partition_key="a", attributes=B)
            with pytest.raises(ValidationError, match="attributes"):
                await producer.put(4, partition_key="a", attributes={"k": "v" * 1025})
        assert await found(stream) == {1: A, 2: {}, 3: B}
        packed = [record.subsequence_number is not None for record in await stream.head()]
        assert packed == [batching.aggregate] * 3
        async with stream.producer(id="p") as producer:
            await producer.put(0, partition_key="a", attributes=B, sequence=0)
            await producer.put(5, partition_key="a", attributes=B, sequence=9)
        assert await found(stream) == {1: A, 2: {}, 3: B, 5: B}


@pytest.mark.parametrize("kind", ["put", "producer", "aggregated"])
async def test_a_dict_that_is_used_again_changes_no_record(kind: str, clock: ManualClock) -> None:
    """What was put waits, in a buffer or for the turn's end, when its caller writes the next one's into the dict."""
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("s")
        used: dict[str, str] = {}

        async def put(number: int) -> None:
            used["n"] = str(number)
            await stream.put(number, partition_key="k", attributes=used)

        if kind == "put":
            await asyncio.gather(*map(put, range(3)))
        else:
            async with stream.producer(Batching(aggregate=kind == "aggregated")) as producer:
                for number in range(3):
                    used["n"] = str(number)
                    await producer.put(number, partition_key="k", attributes=used)
        assert await found(stream) == {number: {"n": str(number)} for number in range(3)}


async def test_nobody_changes_attributes_that_are_stored(clock: ManualClock) -> None:
    """Those of neighbours that have the same are one dict, which the shard holds."""
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("s")
        for number in range(2):
            await stream.put(number, partition_key="k", attributes=A)
        first, second = await stream.head()
        with pytest.raises(TypeError):
            first.attributes["traceparent"] = "changed"  # type: ignore[index]
        assert (second.attributes, await found(stream)) == (A, {0: A, 1: A})
        # As they are, they may be put on.
        await stream.put(2, partition_key="k", attributes=first.attributes)
        assert (await found(stream))[2] == A


async def test_an_aggregate_that_was_put_as_one_gives_its_attributes_to_its_records(clock: ManualClock) -> None:
    """To those that have no tags of their own: what another library packed is in the trace of its put."""
    packed = aggregate([PutEntry("a", b"1"), PutEntry("a", b"2", None, B)])
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("s", type=bytes)
        await stream.put(packed.data, partition_key="k", attributes=A)
        assert await found(stream) == {b"1": A, b"2": B}


# ---- on disk


def test_a_block_counts_its_attributes() -> None:
    """Whoever reads a record reads its block, which is not to be sixteen times as large because of them."""
    own = {place: {"n": f"{place:01000}"} for place in range(2000)}
    runs: list[AttributeRun] = []
    extend(runs, 0, own)
    records = block.Columns(1, [5] * 2000, ["k"] * 2000, [b"d"] * 2000, runs)
    parts = list(block.blocks_of(records))
    assert max(len(block.pack(each, 1)) for each in parts) < 2 * block.BLOCK_BYTES
    read = [record for each in parts for record in block.unpack(block.pack(each, 1), "p", 0)]
    assert [(record.sequence_number, record.attributes) for record in read] == [(at + 1, own[at]) for at in range(2000)]
    # A run of many has them once.
    same = block.Columns(1, [5] * 2000, ["k"] * 2000, [b"d"] * 2000, [AttributeRun(0, 2000, own[0])])
    assert len(list(block.blocks_of(same))) == 1


async def put_some(stream: streamkit.Stream[int], numbers: range) -> None:
    for number in numbers:
        await stream.put(number, partition_key=f"k{number}", attributes=(A, B, None)[number % 3])


def as_put(numbers: range) -> dict[int, Any]:
    return {number: (A, B, {})[number % 3] for number in numbers}


async def test_they_are_on_disk(tmp_path: Path) -> None:
    """In the journal, in blocks of files, in both at once; in a copy, for a look at a live store, and when trimmed."""
    clock = ManualClock()
    at = tmp_path / "data"
    async with streamkit.open(at, clock=clock) as kit:
        stream = await kit.create_stream("s", shards=2, type=int, retention=100)
        await put_some(stream, range(9))
        assert await found(stream) == as_put(range(9))
        await kit.engine.settle()  # type: ignore[attr-defined]
        assert await found(stream) == as_put(range(9))
        await put_some(stream, range(9, 15))
        assert await found(stream) == as_put(range(15))
        async with streamkit.open(f"{at}?mode=ro", clock=clock) as looking:
            assert await found(looking.stream("s", type=int)) == as_put(range(15))
            await put_some(stream, range(15, 20))
            assert await found(looking.stream("s", type=int)) == as_put(range(20))
        await asyncio.to_thread(backup.backup, str(at), str(tmp_path / "copy"), lambda _: None)
    for directory in (at, tmp_path / "copy"):
        async with streamkit.open(directory, clock=clock) as kit:
            assert await found(kit.stream("s", type=int)) == as_put(range(20))
        report = await asyncio.to_thread(verify.verify, str(directory))
        assert (report.findings, report.records) == ([], 20)
    async with streamkit.open(at, clock=clock) as kit:
        stream = kit.stream("s", type=int)
        await clock.advance(99)
        await put_some(stream, range(20, 26))
        await clock.advance(2)
        assert await found(stream) == as_put(range(20, 26))
        await kit.engine.settle()  # type: ignore[attr-defined]
        assert await found(stream) == as_put(range(20, 26))


async def test_puts_that_share_a_commit_keep_each_their_own(tmp_path: Path, clock: ManualClock) -> None:
    """What is put while a group gathers extends the change that is there; after a crash the journal is read."""
    entries = [PutEntry("k", b"%d" % n, None, (A, B, None)[n % 3]) for n in range(12)]
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        stream = await kit.create_stream("s", type=int)
        streams = kit.engine.streams
        await asyncio.gather(*(streams.put_records("s", entries[at : at + 2]) for at in range(0, 12, 2)))
        assert await found(stream) == as_put(range(12))
        await asyncio.to_thread(shutil.copytree, tmp_path / "data", tmp_path / "crashed")
    async with streamkit.open(tmp_path / "crashed", clock=clock) as kit:
        assert await found(kit.stream("s", type=int)) == as_put(range(12))

"""A recording has every record to the byte, in each key's order, and a damaged one says which line is."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import streamkit
from streamkit import Limits
from streamkit.codecs import Codec
from streamkit.errors import NotFoundError, RecordingError, StorageError, ValidationError
from streamkit.recording import lines, player, record, recorder, replay
from streamkit.streams.aggregation import aggregate
from streamkit.streams.buffer import Batching
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.record import Record, StoredRecord
from streamkit.streams.store import PutEntry
from streamkit.testing.clock import ManualClock

HEADER = b'{"streamkit_recording":1,"stream":"s"}\n'


async def by_key(stream: streamkit.Stream[Any]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    async for one in stream.records():
        found.setdefault(one.partition_key, []).append(one.data)
    return found


async def test_what_is_recorded_comes_back_to_the_byte_in_each_keys_order(tmp_path: Path, clock: ManualClock) -> None:
    data = [
        b'{"a": 1.50}',
        b" 1",
        b"[1,\n2]",
        b"plain",
        b"\xff\x00",
        b"",
        b'"\xc3\xa9"',
        b"null",
        b"NaN",
        b'{"a":1,"a":2}',
    ]
    async with streamkit.open("memory:", clock=clock) as kit:
        source = await kit.create_stream("source", type=bytes, shards=2)
        for number, one in enumerate(data * 3):
            await source.put(one, partition_key=f"k{number % 7}")
            await clock.advance(1)
            if number == 12:
                await source.split("shardId-000000000000")
            if number == 20:
                await source.merge("shardId-000000000002", "shardId-000000000003")
        seen: list[tuple[int, int]] = []
        assert await record(source, tmp_path / "r.jsonl", progress=lambda *each: seen.append(each)) == 30
        assert seen[-1] == (30, 30)
        target = await kit.create_stream("target", type=bytes, shards=3)
        seen.clear()
        assert await replay(tmp_path / "r.jsonl", target, progress=lambda *each: seen.append(each)) == 30
        assert seen == [(30, 30)]
        assert await by_key(target) == await by_key(source)
    header, *records, end = (json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines())
    assert (header["stream"], header["codec"], len(header["shards"])) == ("source", "bytes", 5)
    assert header["recorded"] == "2023-11-14T22:13:50+00:00"
    assert [each["arrival_ms"] for each in records] == [1_700_000_000_000 + 1000 * n for n in range(30)]
    assert records[0] == {
        "key": "k0",
        "value": {"a": 1.5},
        "arrival_ms": 1_700_000_000_000,
        "shard": records[0]["shard"],
        "number": records[0]["number"],
    }
    assert {frozenset(each) & {"value", "text", "base64"} for each in records} == {
        frozenset(["value"]),
        frozenset(["text"]),
        frozenset(["base64"]),
    }
    assert end == {"end": 30}
    assert os.listdir(tmp_path) == ["r.jsonl"]


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=30)
    | st.text(max_size=10).map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda value: json.dumps(value, indent=1 if isinstance(value, list) else None).encode())
)
def test_a_line_has_the_bytes_whatever_they_are(data: bytes) -> None:
    (text,) = lines.record_lines([Record(StoredRecord(5, 1, "k", data), "shard", Codec(bytes))], {})
    assert text.count(b"\n") == 1
    found = lines.parse("p", 2, text)
    assert isinstance(found, lines.Line)
    assert found.data == data


async def test_a_key_keeps_its_order_across_a_reshard_though_the_clock_was_set_back(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data", clock=ManualClock(5_000_000_000_000)) as kit:
        source = await kit.create_stream("s", retention=None)
        await source.put_batch([("k", n) for n in range(3)])
        await source.split("shardId-000000000000")
    async with streamkit.open(tmp_path / "data", clock=ManualClock(4_000_000_000_000)) as kit:
        source = kit.stream("s")
        await source.put_batch([("k", n) for n in range(3, 6)])
        await record(source, tmp_path / "r.jsonl")
    values = [json.loads(line).get("value") for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert values[1:-1] == [0, 1, 2, 3, 4, 5]


async def test_an_explicit_hash_key_leads_to_the_same_shard_again(tmp_path: Path) -> None:
    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source", shards=4)
        placed = [
            (await source.put(n, partition_key="k", explicit_hash_key=n * (KEY_SPACE // 4))).shard_id for n in range(4)
        ]
        await record(source, tmp_path / "r.jsonl")
        found = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()[1:-1]]
        assert sum("hash_key" in each for each in found) == 3, "that of the key itself is not said"
        target = await kit.create_stream("target", shards=4)
        await replay(tmp_path / "r.jsonl", target)
        assert [one.shard_id async for one in target.records()] == placed


async def test_aggregated_records_are_recorded_one_by_one(tmp_path: Path) -> None:
    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source")
        async with source.producer(Batching(aggregate=True)) as producer:
            for n in range(5):
                await producer.put(n, partition_key=f"k{n}")
        assert await record(source, tmp_path / "r.jsonl") == 5
        target = await kit.create_stream("target")
        await replay(tmp_path / "r.jsonl", target)
        assert [(one.partition_key, one.value) async for one in target.records()] == [(f"k{n}", n) for n in range(5)]


async def test_attributes_are_recorded_with_their_record(tmp_path: Path) -> None:
    """So what is replayed goes on in the trace of what was recorded. A record without any has none in its line."""
    given_ = [{"traceparent": "00-1", "note": "é"}, None, {"note": ""}]
    async with streamkit.open("memory:") as kit:
        source, copy = await kit.create_stream("source"), await kit.create_stream("copy")
        for number, attributes in enumerate(given_):
            await source.put(number, partition_key="k", attributes=attributes)
        await record(source, tmp_path / "it.jsonl")
        await replay(tmp_path / "it.jsonl", copy)
        assert [one.attributes async for one in copy.records()] == [attributes or {} for attributes in given_]
    recorded = (await asyncio.to_thread((tmp_path / "it.jsonl").read_text)).splitlines()
    assert ["attributes" in json.loads(line) for line in recorded[1:-1]] == [True, False, True]


async def test_tags_that_no_record_may_have_do_not_spoil_a_recording(tmp_path: Path) -> None:
    """Another library's aggregate may have more than a record's attributes may: then its record has none."""
    tags = [{"n": "x" * 1025}, {str(n): "" for n in range(11)}, {"": "x"}, {"n": "x" * 1023}]
    packed = aggregate([PutEntry("k", b"%d" % number, None, each) for number, each in enumerate(tags)])
    async with streamkit.open("memory:") as kit:
        source, copy = await kit.create_stream("source", type=bytes), await kit.create_stream("copy", type=bytes)
        await source.put(packed.data, partition_key="k")
        assert [one.attributes async for one in source.records()] == [{}, {}, {}, tags[3]]
        await record(source, tmp_path / "it.jsonl")
        await replay(tmp_path / "it.jsonl", copy)
        assert [(one.value, one.attributes) async for one in copy.records()] == [
            (one.value, one.attributes) async for one in source.records()
        ]


async def test_only_what_arrived_from_an_instant_on(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        source = await kit.create_stream("source", shards=2)
        for n in range(6):
            await source.put(n, partition_key=f"k{n}")
            await clock.advance(60)
        start = datetime.fromtimestamp(1_700_000_000 + 120, UTC)
        assert await record(source, tmp_path / "r.jsonl", start=start) == 4
        with pytest.raises(ValidationError, match="is in the future"):
            await record(source, tmp_path / "r.jsonl", start=datetime(2100, 1, 1, tzinfo=UTC))
        assert await replay(tmp_path / "r.jsonl", source) == 4, "what was there before is there still"


async def test_at_the_original_pace_on_the_clock(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        source = await kit.create_stream("source")
        for wait in (0, 60, 0, 3540):
            await clock.advance(wait)
            await source.put(wait, partition_key="k")
        await record(source, tmp_path / "r.jsonl")
        target = await kit.create_stream("target")
        began_ms = clock.now_ms()
        replaying = asyncio.create_task(replay(tmp_path / "r.jsonl", target, speed=60))
        async with asyncio.timeout(10):
            while not clock._timers:  # noqa: ASYNC110 - a thread reads the file, and then the replay waits
                await asyncio.sleep(0.001)
        await clock.advance(0.999)
        assert [one.value for one in await target.tail()] == [0]
        await clock.advance(59.0)
        assert [one.value for one in await target.tail()] == [0, 60, 0]
        await clock.advance(0.001)
        assert await replaying == 4
        assert [one.arrival_ms - began_ms for one in await target.tail()] == [0, 1000, 1000, 60_000]


async def test_a_record_that_is_refused_is_told_before_the_wait_for_the_next(
    tmp_path: Path, clock: ManualClock
) -> None:
    lines = [{"key": "k", "value": "x" * size, "arrival_ms": at_ms} for size, at_ms in ((10, 0), (2000, 0), (10, 9000))]
    header, end = {"streamkit_recording": 1, "stream": "s"}, {"end": 3}
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines, end)))
    limits = replace(Limits.relaxed(), record_bytes=1000)
    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        target = await kit.create_stream("target")
        async with asyncio.timeout(10):
            with pytest.raises(ValidationError, match=r"1,?000"):
                await replay(tmp_path / "r.jsonl", target, speed=1)
        assert len(await target.tail()) == 1


async def test_a_replay_that_was_cut_short_can_be_repeated(tmp_path: Path) -> None:
    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source")
        await source.put_batch([("k", n) for n in range(2500)])
        await record(source, tmp_path / "r.jsonl")
        target = await kit.create_stream("target")

        def stop(done: int, total: int) -> None:
            if done == 2000:
                raise KeyError("stop")

        with pytest.raises(KeyError):
            await replay(tmp_path / "r.jsonl", target, id="import", progress=stop)
        assert len([None async for _ in target.records()]) == 2000
        assert await replay(tmp_path / "r.jsonl", target, id="import") == 2500
        assert [one.value async for one in target.records()] == list(range(2500))


LINE = b'{"key":"k","value":1}\n'
DAMAGED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 1, "no header"),
    "another file": (b"key,value\nk,1\n", 1, "no header"),
    "a later version": (HEADER.replace(b":1,", b":2,"), 1, "of version 2, and this streamkit reads version 1"),
    "cut within a line": (HEADER + LINE + LINE[:9], 3, "is damaged"),
    "cut between lines": (HEADER + LINE + LINE, 4, "cut short after 2 records"),
    "nothing but a header": (HEADER, 2, "cut short after 0 records"),
    "a line is missing": (HEADER + LINE + b'{"end":2}\n', 3, "should be 2 records before it, and are 1"),
    "two files in one": (HEADER + LINE + b'{"end":1}\n' + HEADER, 4, "ended in line 3"),
    "a flipped bit": (HEADER + LINE + LINE.replace(b"key", b"kex") + b'{"end":2}\n', 3, "required field `key`"),
    "no data": (HEADER + b'{"key":"k"}\n' + b'{"end":1}\n', 2, "one of value, text and base64"),
    "data twice": (HEADER + b'{"key":"k","value":1,"text":"1"}\n' + b'{"end":1}\n', 2, "one of value, text and base64"),
    "no key": (HEADER + LINE + b'{"key":"","value":1}\n{"end":2}\n', 3, "key has 1 to 256 characters"),
    "a long key": (HEADER + LINE + b'{"key":"%b","value":1}\n{"end":2}\n' % (b"k" * 257), 3, "1 to 256 characters"),
    "no hash key": (HEADER + b'{"key":"k","value":1,"hash_key":"-1"}\n{"end":1}\n', 2, "hash_key is a number"),
    "another type": (HEADER + LINE + b'{"key":"k","value":"x"}\n{"end":2}\n', 3, "does not fit the stream"),
    "too many attributes": (
        HEADER + b'{"key":"k","value":1,"attributes":{"n":"%s"}}\n{"end":1}\n' % (b"x" * 1024),
        2,
        "attributes have 1,025 bytes",
    ),
    "no text": (HEADER + b'\xff\n{"end":1}\n', 2, "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_of_a_damaged_file_nothing_is_put_and_the_line_is_named(damage: str, tmp_path: Path) -> None:
    content, line, reason = DAMAGED[damage]
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    async with streamkit.open("memory:") as kit:
        target = await kit.create_stream("target", type=int)
        with pytest.raises(RecordingError, match=reason) as caught:
            await replay(path, target)
        assert (caught.value.path, caught.value.line) == (str(path), line)
        assert str(caught.value).startswith(f"{path}, line {line}: ")
        assert await target.tail() == []


async def test_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(
        '{"streamkit_recording": 1, "stream": "orders"}\n'
        '{"key": "ada", "value": {"total": 120}}\n'
        '{"value": [1, 2],   "key": "bob"}\n'
        '{ "end" : 2 }\n'
    )
    async with streamkit.open("memory:") as kit:
        orders = await kit.create_stream("orders")
        assert await replay(tmp_path / "r.jsonl", orders, speed=1) == 2
        assert [(one.partition_key, one.data) for one in await orders.tail()] == [
            ("ada", b'{"total": 120}'),
            ("bob", b"[1, 2]"),
        ]


async def test_a_file_that_cannot_be_written_or_read_and_what_is_not_there(tmp_path: Path) -> None:
    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source")
        with pytest.raises(StorageError, match="cannot be written"):
            await record(source, tmp_path / "no" / "r.jsonl")
        with pytest.raises(StorageError, match="cannot be read"):
            await replay(tmp_path / "r.jsonl", source)
        with pytest.raises(NotFoundError):
            await record(kit.stream("other"), tmp_path / "r.jsonl")
        for speed in (0, -1, True, "fast"):
            with pytest.raises(ValidationError, match="above 0"):
                await replay(tmp_path / "r.jsonl", source, speed=speed)  # type: ignore[arg-type]
        await record(source, tmp_path / "r.jsonl")
        with pytest.raises(NotFoundError):
            await replay(tmp_path / "r.jsonl", kit.stream("other"))


async def test_a_recording_that_fails_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source")
        await source.put(1, partition_key="k")
        await record(source, tmp_path / "r.jsonl")
        before = (tmp_path / "r.jsonl").read_bytes()
        await source.put(2, partition_key="k")

        def fail(done: int, total: int) -> None:
            raise KeyError("no")

        with pytest.raises(KeyError):
            await record(source, tmp_path / "r.jsonl", progress=fail)
        assert (tmp_path / "r.jsonl").read_bytes() == before
        assert os.listdir(tmp_path) == ["r.jsonl"]


@pytest.mark.parametrize("step", ["create", "write", "finish", "give_up"])
@pytest.mark.parametrize("late", [False, True])
async def test_a_recording_that_is_cancelled_leaves_nothing_behind(
    step: str, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a thread is at work on the file, before and after it has done so."""
    began, go = threading.Event(), threading.Event()
    work = getattr(recorder._NewFile, step)

    def held(*arguments: object) -> None:
        if late:
            work(*arguments)
        began.set()
        assert go.wait(10)
        if not late:
            work(*arguments)

    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source")
        await source.put(1, partition_key="k")
        monkeypatch.setattr(recorder._NewFile, step, held)
        recording = asyncio.create_task(
            record(source, tmp_path / "r.jsonl", progress=_failing if step == "give_up" else None)
        )
        await asyncio.to_thread(began.wait, 10)
        recording.cancel()
        assert not (await asyncio.wait([recording], timeout=0.02))[0]
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await recording
    assert os.listdir(tmp_path) == (["r.jsonl"] if step == "finish" else [])
    if step == "finish":
        assert (tmp_path / "r.jsonl").read_bytes().endswith(b'{"end":1}\n')


def _failing(done: int, total: int) -> None:
    raise KeyError("no")


@pytest.mark.parametrize("step", ["_check", "_lines"])
async def test_a_replay_that_is_cancelled_lets_go_of_its_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Event(), threading.Event()
    work = getattr(player, step)

    def held(*arguments: Any) -> Any:
        began.set()
        assert go.wait(10)
        return work(*arguments)

    def open_files() -> list[str]:
        return [path for path in map(_target, os.listdir("/proc/self/fd")) if str(tmp_path) in path]

    (tmp_path / "r.jsonl").write_bytes(HEADER + LINE + b'{"end":1}\n')
    async with streamkit.open("memory:") as kit:
        monkeypatch.setattr(player, step, held)
        replaying = asyncio.create_task(replay(tmp_path / "r.jsonl", await kit.create_stream("target")))
        await asyncio.to_thread(began.wait, 10)
        replaying.cancel()
        assert not (await asyncio.wait([replaying], timeout=0.02))[0]
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await replaying
        assert open_files() == []


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


async def test_what_is_held_in_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """Of 10 MB of records in memory a fraction is held besides, both ways."""
    async with streamkit.open("memory:") as kit:
        source = await kit.create_stream("source", shards=2, type=bytes)
        target = await kit.create_stream("target", type=bytes)
        for n in range(20):
            await source.put_batch([(f"k{n}", b"%1000d" % n) for _ in range(500)])
        tracemalloc.start()
        try:
            await record(source, tmp_path / "r.jsonl")
            _, recording = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            await replay(tmp_path / "r.jsonl", target)
            kept, replaying = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "r.jsonl").stat().st_size > 10_000_000
    assert recording < 3_000_000
    assert replaying - kept < 3_000_000

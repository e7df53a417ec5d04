"""What every stream store does when streams are made and records are put."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import AlreadyExistsError, NotFoundError, ValidationError
from streamkit.streams.keyspace import KEY_SPACE, hash_key
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutColumns, PutEntry, StreamStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.terms import Contract, raises

MALFORMED: dict[str, Any] = {
    "an empty partition key": PutEntry("", b""),
    "a partition key of 257 characters": PutEntry("k" * 257, b""),
    "a partition key that has no UTF-8 form": PutEntry("\ud800", b""),
    "a partition key of bytes": PutEntry(b"k", b""),  # type: ignore[arg-type]
    "no partition key": PutEntry(None, b""),  # type: ignore[arg-type]
    "data of str": PutEntry("k", "data"),  # type: ignore[arg-type]
    "no data": PutEntry("k", None),  # type: ignore[arg-type]
    "a negative hash key": PutEntry("k", b"", -1),
    "a hash key of 2**128": PutEntry("k", b"", KEY_SPACE),
    "a far larger hash key": PutEntry("k", b"", 10**100),
    "a hash key of str": PutEntry("k", b"", "0"),  # type: ignore[arg-type]
}
"""Entries that no stream takes, by what is wrong with them."""


async def put(streams: StreamStore, name: str, *data: bytes, key: str = "k") -> list[int]:
    """Put records one batch at a time as small as a limit may ask for; their sequence numbers."""
    return [(await streams.put_records(name, [PutEntry(key, each)]))[0].sequence_number for each in data]


async def stored(streams: StreamStore, name: str, shard_id: str, limit: int = 100) -> list[StoredRecord]:
    """Every record of a shard."""
    return await follow(streams, await streams.get_shard_iterator(name, shard_id, "TRIM_HORIZON"), limit)


async def follow(streams: StreamStore, iterator: str, limit: int) -> list[StoredRecord]:
    """Every record from an iterator on, in answers that may be shorter than ``limit`` and must not be longer."""
    following: str | None = iterator
    records: list[StoredRecord] = []
    while following is not None:
        batch = await streams.get_records(following, limit)
        assert len(batch.records) <= limit
        records.extend(batch.records)
        following = batch.next_iterator
        if not batch.records and batch.millis_behind_latest == 0:
            break
    return records


async def everything(streams: StreamStore, name: str) -> dict[str, list[StoredRecord]]:
    """Every record of a stream, by shard."""
    description = await streams.describe_stream(name)
    return {shard.shard_id: await stored(streams, name, shard.shard_id) for shard in description.shards}


class StreamContract(Contract):
    """Creating, describing and deleting streams, and putting records."""

    async def test_a_stream_has_open_shards_of_equal_width(self, engine: Engine, clock: ManualClock) -> None:
        """Shard i of n has the range of width floor(2**128 / n) at i, and the last one the remainder too."""
        stream = await engine.streams.create_stream("s", 3)
        assert stream == await engine.streams.describe_stream("s")
        assert (stream.name, stream.created_ms) == ("s", clock.now_ms())
        ids = ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"]
        assert [shard.shard_id for shard in stream.shards] == ids
        width = KEY_SPACE // 3
        ranges = [(shard.hash_key_range.start, shard.hash_key_range.end) for shard in stream.shards]
        assert ranges == [(0, width - 1), (width, 2 * width - 1), (2 * width, KEY_SPACE - 1)]
        for shard in stream.shards:
            assert shard.ending_sequence_number is None
            assert shard.parent_shard_ids == ()
            assert shard.latest_sequence_number == shard.starting_sequence_number

    async def test_streams_are_listed_by_name(self, engine: Engine, clock: ManualClock) -> None:
        """All names, sorted."""
        assert await engine.streams.list_streams() == []
        for name in ("b", "a.b", "C", "a"):
            await engine.streams.create_stream(name, 1)
        assert await engine.streams.list_streams() == ["C", "a", "a.b", "b"]

    async def test_a_stream_name_is_taken_once(self, engine: Engine, clock: ManualClock) -> None:
        """Also with the same number of shards, and what is there stays."""
        await engine.streams.create_stream("s", 2)
        await put(engine.streams, "s", b"kept")
        with raises(AlreadyExistsError) as taken:
            await engine.streams.create_stream("s", 2)
        assert (taken.error.kind, taken.error.name) == ("stream", "s")
        assert sum(map(len, (await everything(engine.streams, "s")).values())) == 1

    async def test_stream_names(self, engine: Engine, clock: ManualClock) -> None:
        """1 to 128 of a-z, A-Z, 0-9, '_', '.' and '-'; case counts, and dots are nothing special."""
        good = ["a", "Z", "0", "_", "-", ".", "..", "n" * 128, "N" * 128, "con"]
        for name in good:
            await engine.streams.create_stream(name, 1)
            await put(engine.streams, name, name.encode())
        for name in good:
            assert [r.data for r in await stored(engine.streams, name, "shardId-000000000000")] == [name.encode()]
        bad: list[Any] = ["", "n" * 129, "a b", "a/b", "a\n", "é", "a\x00", "\ud800", "a:b", None, b"a", 1]
        for name in bad:
            with raises(ValidationError):
                await engine.streams.create_stream(name, 1)
        assert await engine.streams.list_streams() == sorted(good)

    async def test_a_stream_has_at_least_one_shard(self, engine: Engine, clock: ManualClock) -> None:
        """Zero and fewer are refused."""
        for count in (0, -1):
            with raises(ValidationError):
                await engine.streams.create_stream("s", count)
        assert await engine.streams.list_streams() == []

    async def test_an_unknown_stream_is_not_found(self, engine: Engine, clock: ManualClock) -> None:
        """By every method that names one."""
        streams = engine.streams
        for call in (
            streams.describe_stream("s"),
            streams.delete_stream("s"),
            streams.put_records("s", [PutEntry("k", b"")]),
            streams.get_shard_iterator("s", "shardId-000000000000", "LATEST"),
        ):
            with raises(NotFoundError) as missing:
                await call
            assert (missing.error.kind, missing.error.name) == ("stream", "s")

    async def test_a_deleted_stream_is_gone(self, engine: Engine, clock: ManualClock) -> None:
        """Its name is free, and a later stream of this name has another id and none of its records."""
        first = await engine.streams.create_stream("s", 2)
        await engine.streams.create_stream("other", 1)
        await put(engine.streams, "s", b"old")
        await put(engine.streams, "other", b"kept")
        await engine.streams.delete_stream("s")
        assert await engine.streams.list_streams() == ["other"]
        with raises(NotFoundError):
            await engine.streams.describe_stream("s")
        second = await engine.streams.create_stream("s", 1)
        assert second.stream_id != first.stream_id
        assert len(second.shards) == 1
        assert await stored(engine.streams, "s", "shardId-000000000000") == []
        assert [r.data for r in await stored(engine.streams, "other", "shardId-000000000000")] == [b"kept"]

    async def test_the_md5_of_the_partition_key_chooses_the_shard(self, engine: Engine, clock: ManualClock) -> None:
        """As an unsigned big-endian number, of the key's UTF-8 bytes."""
        assert hash_key("a") == 16955237001963240173058271559858726497
        stream = await engine.streams.create_stream("s", 7)
        for key in ("a", "b", "customer-42", "é", "\U0001f600", " ", "\x00", "k" * 256):
            (result,) = await engine.streams.put_records("s", [PutEntry(key, b"")])
            (home,) = [shard.shard_id for shard in stream.shards if hash_key(key) in shard.hash_key_range]
            assert result.shard_id == home
            assert (await stored(engine.streams, "s", home))[-1].partition_key == key

    async def test_an_explicit_hash_key_replaces_it(self, engine: Engine, clock: ManualClock) -> None:
        """At both ends of every shard; the partition key is kept, the hash key is not returned."""
        stream = await engine.streams.create_stream("s", 3)
        assert stream.shards[0].hash_key_range.start == 0
        assert stream.shards[-1].hash_key_range.end == 2**128 - 1
        for shard in stream.shards:
            for explicit in (shard.hash_key_range.start, shard.hash_key_range.end):
                (result,) = await engine.streams.put_records("s", [PutEntry("same", b"", explicit)])
                assert result.shard_id == shard.shard_id
            records = await stored(engine.streams, "s", shard.shard_id)
            assert [record.partition_key for record in records] == ["same", "same"]

    async def test_a_record_comes_back_as_it_was_put(self, engine: Engine, clock: ManualClock) -> None:
        """Key, data and the instant of its arrival; empty data is legal, and a key has up to 256 characters."""
        await engine.streams.create_stream("s", 1)
        wanted = []
        for key, data in (("k", b""), ("é" * 256, b"\x00\xff" * 100), ("\U0001f600" * 256, b"{}"), ("\n", b"\n")):
            wanted.append((key, data, clock.now_ms()))
            await engine.streams.put_records("s", [PutEntry(key, data)])
            await clock.advance(1)
        records = await stored(engine.streams, "s", "shardId-000000000000")
        assert [(r.partition_key, r.data, r.arrival_ms) for r in records] == wanted

    async def test_attributes_come_back_with_their_record(self, engine: Engine, clock: ManualClock) -> None:
        """Each record's own, in whatever shard it is and however many have none; a put without them is as it was."""
        await engine.streams.create_stream("s", 3)
        both = {"traceparent": "00-1", "tracestate": "é" * 200}
        largest = {"k" * 24: "v" * 1000}
        given: list[dict[str, str] | None] = [both, both, None, {"n": ""}, None, both, largest, {}, None, both]
        entries = [PutEntry(f"key-{at}", b"%d" % at, None, has) for at, has in enumerate(given)]
        await engine.streams.put_records("s", entries[:7])
        await engine.streams.put_records("s", PutColumns(["key-7", "key-8", "key-9"], [b"7", b"8", b"9"], {2: both}))
        await put(engine.streams, "s", b"10")
        found = {
            int(r.data): r.attributes for records in (await everything(engine.streams, "s")).values() for r in records
        }
        assert found == {**{at: has or None for at, has in enumerate(given)}, 10: None}

    async def test_attributes_that_no_record_may_have(self, engine: Engine, clock: ManualClock) -> None:
        """More than ten, more than 1 KiB, or no text: nothing of the call is stored."""
        await engine.streams.create_stream("s", 1)
        bad: list[Any] = [
            {str(n): "" for n in range(11)},
            {"k": "v" * 1024},
            {"k": "é" * 512},
            {"k": b"v"},
            {1: "v"},
            {"": "v"},
            {"k": "\ud800"},
            ["k"],
        ]
        for attributes in bad:
            with raises(ValidationError):
                await engine.streams.put_records("s", [PutEntry("k", b"good"), PutEntry("k", b"x", None, attributes)])
        assert await stored(engine.streams, "s", "shardId-000000000000") == []

    async def test_results_are_in_the_order_of_the_entries(self, engine: Engine, clock: ManualClock) -> None:
        """One result per entry, each where its record is."""
        await engine.streams.create_stream("s", 4)
        entries = [PutEntry(f"key-{i}", b"%d" % i) for i in range(50)]
        results = await engine.streams.put_records("s", entries)
        assert all(result.error is None for result in results)
        found = {
            (shard_id, record.sequence_number): record
            for shard_id, records in (await everything(engine.streams, "s")).items()
            for record in records
        }
        assert [found[r.shard_id, r.sequence_number].data for r in results] == [entry.data for entry in entries]
        assert len(found) == 50

    async def test_numbers_are_journal_order(self, engine: Engine, clock: ManualClock) -> None:
        """Whoever puts: within a shard numbers rise in the order of reading, and in the stream each is unique."""
        await engine.streams.create_stream("s", 3)

        async def produce(producer: int) -> None:
            for turn in range(10):
                entries = [PutEntry(f"{producer}", b"%d %d" % (turn, i)) for i in range(1 + (producer + turn) % 4)]
                results = await engine.streams.put_records("s", entries)
                numbers = [result.sequence_number for result in results]
                assert numbers == sorted(set(numbers))
                if turn % 3 == 0:
                    await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for producer in range(8):
                group.create_task(produce(producer))
        seen: list[int] = []
        for records in (await everything(engine.streams, "s")).values():
            numbers = [record.sequence_number for record in records]
            assert all(a < b for a, b in pairwise(numbers))
            seen.extend(numbers)
            for key in {record.partition_key for record in records}:
                order = [tuple(map(int, r.data.split())) for r in records if r.partition_key == key]
                assert order == [(turn, i) for turn in range(10) for i in range(1 + (int(key) + turn) % 4)]
        assert len(seen) == len(set(seen)) == sum(1 + (p + t) % 4 for p in range(8) for t in range(10))

    async def test_a_shards_numbers_are_greater_than_its_starting_number(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """And the description tells the newest one."""
        before = await engine.streams.create_stream("s", 2)
        results = await engine.streams.put_records("s", [PutEntry("k", b"", at) for at in (0, KEY_SPACE - 1, 0)])
        after = await engine.streams.describe_stream("s")
        newest = {result.shard_id: result.sequence_number for result in results}
        for old, new in zip(before.shards, after.shards, strict=True):
            assert new.starting_sequence_number == old.starting_sequence_number
            assert new.latest_sequence_number == newest[new.shard_id]
            assert all(r.sequence_number > new.starting_sequence_number for r in results if r.shard_id == new.shard_id)

    async def test_a_malformed_entry_refuses_its_whole_batch(self, engine: Engine, clock: ManualClock) -> None:
        """Nothing of the batch is stored, wherever in it the entry stands, and the stream goes on."""
        await engine.streams.create_stream("s", 2)
        good = PutEntry("good", b"good")
        for wrong, entry in MALFORMED.items():
            for batch in ([entry], [entry, good], [good, entry], [good, entry, good]):
                try:
                    with raises(ValidationError):
                        await engine.streams.put_records("s", batch)
                except Exception as error:
                    raise AssertionError(f"{wrong} was not refused as it should be: {error!r}") from error
        await put(engine.streams, "s", b"after")
        records = [r.data for found in (await everything(engine.streams, "s")).values() for r in found]
        assert records == [b"after"]

    async def test_puts_have_limits(self, engine: Engine, clock: ManualClock) -> None:
        """At least one entry; entries, bytes of a record (its key included) and bytes of a call are bounded."""
        await engine.streams.create_stream("s", 1)
        limits = self.limits
        largest = bytes(limits.record_bytes - 2)
        small = PutEntry("k", b"")
        too_many_bytes = [PutEntry("kk", largest)] * (limits.put_bytes // limits.record_bytes + 1)
        refused = [
            [],
            [small] * (limits.put_records + 1),
            [PutEntry("kkk", largest)],
            [PutEntry("éé", largest)],
            [small, PutEntry("k", largest + b"xx")],
            too_many_bytes,
        ]
        for entries in refused:
            with raises(ValidationError):
                await engine.streams.put_records("s", entries)
        await engine.streams.put_records("s", [PutEntry("é", largest)])
        await engine.streams.put_records("s", [small] * min(limits.put_records, 1000))
        assert len(await stored(engine.streams, "s", "shardId-000000000000")) == 1 + min(limits.put_records, 1000)

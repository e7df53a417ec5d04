"""What every stream store does when shards split and merge, with readers and writers at it."""

from __future__ import annotations

import asyncio
from random import Random

from streamkit.engines.base import Engine
from streamkit.errors import NotFoundError, ValidationError
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.reshard import next_step
from streamkit.streams.store import Merge, PutEntry, Split, StreamAttributes, StreamDescription, StreamStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything, put, stored
from streamkit.testing.contract.terms import Contract, raises, soon, waiting

FIRST, SECOND, THIRD = "shardId-000000000000", "shardId-000000000001", "shardId-000000000002"
MIDDLE = KEY_SPACE // 2


def check_shards(stream: StreamDescription) -> None:
    """Open shards cover the key space, closed ones have an end, and children number on after their parents."""
    ranges = sorted((shard.hash_key_range.start, shard.hash_key_range.end) for shard in stream.open_shards)
    assert [start for start, _ in ranges] == [0, *(end + 1 for _, end in ranges[:-1])]
    assert ranges[-1][1] == KEY_SPACE - 1
    by_id = {shard.shard_id: shard for shard in stream.shards}
    for shard in stream.shards:
        for parent in (by_id[each] for each in shard.parent_shard_ids if each in by_id):
            assert parent.ending_sequence_number is not None
            assert parent.starting_sequence_number <= parent.ending_sequence_number < shard.starting_sequence_number
            assert max(parent.hash_key_range.start, shard.hash_key_range.start) <= min(
                parent.hash_key_range.end, shard.hash_key_range.end
            )


async def read_in_order(streams: StreamStore, name: str) -> dict[str, list[bytes]]:
    """What each key's records hold, read as Kinesis asks for it: parents to their end, then their children."""
    stream = await streams.describe_stream(name)
    records = await everything(streams, name)
    done: set[str] = set()
    found: dict[str, list[bytes]] = {}
    waiting_for = {shard.shard_id: set(shard.parent_shard_ids) & set(records) for shard in stream.shards}
    while len(done) < len(records):
        for shard_id in [each for each, parents in waiting_for.items() if each not in done and parents <= done]:
            for record in records[shard_id]:
                found.setdefault(record.partition_key, []).append(record.data)
            done.add(shard_id)
    return found


class ReshardContract(Contract):
    """Splits and merges."""

    async def test_a_split_closes_a_shard_and_opens_two(self, engine: Engine, clock: ManualClock) -> None:
        """The lower range gets the lower index; the parent keeps its records and takes no more."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        numbers = await put(streams, "s", b"1", b"2")
        stream = await streams.reshard("s", Split(FIRST, MIDDLE))
        assert stream == await streams.describe_stream("s")
        parent, lower, upper = stream.shards
        assert [shard.shard_id for shard in stream.shards] == [FIRST, SECOND, THIRD]
        assert (parent.is_open, parent.ending_sequence_number) == (False, numbers[-1])
        assert (lower.hash_key_range.start, lower.hash_key_range.end) == (0, MIDDLE - 1)
        assert (upper.hash_key_range.start, upper.hash_key_range.end) == (MIDDLE, KEY_SPACE - 1)
        assert lower.parent_shard_ids == upper.parent_shard_ids == (FIRST,)
        check_shards(stream)
        results = await streams.put_records("s", [PutEntry("k", b"3", 0), PutEntry("k", b"4", KEY_SPACE - 1)])
        assert [result.shard_id for result in results] == [SECOND, THIRD]
        assert [record.data for record in await stored(streams, "s", FIRST)] == [b"1", b"2"]

    async def test_a_merge_closes_two_shards_and_opens_one(self, engine: Engine, clock: ManualClock) -> None:
        """The child has both parents, the lower first."""
        streams = engine.streams
        await streams.create_stream("s", 2)
        stream = await streams.reshard("s", Merge(FIRST, SECOND))
        assert [shard.is_open for shard in stream.shards] == [False, False, True]
        assert stream.shards[2].parent_shard_ids == (FIRST, SECOND)
        check_shards(stream)
        empty = stream.shards[0]
        assert empty.ending_sequence_number == empty.starting_sequence_number

    async def test_the_end_of_a_closed_shard_names_its_children(self, engine: Engine, clock: ManualClock) -> None:
        """In the answer that reaches it, and in no other; also to who begins at LATEST."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        await put(streams, "s", b"1", b"2")
        await streams.reshard("s", Split(FIRST, MIDDLE))
        first = await streams.get_records(await streams.get_shard_iterator("s", FIRST, "TRIM_HORIZON"), 1)
        assert first.next_iterator is not None
        assert first.child_shards == ()
        last = await streams.get_records(first.next_iterator, 1)
        assert (last.next_iterator, last.child_shards) == (None, (SECOND, THIRD))
        assert [record.data for record in last.records] == [b"2"]
        latest = await streams.get_records(await streams.get_shard_iterator("s", FIRST, "LATEST"), 1)
        assert (list(latest.records), latest.next_iterator, latest.child_shards) == ([], None, (SECOND, THIRD))

    async def test_a_waiting_reader_is_woken_by_the_end(self, engine: Engine, clock: ManualClock) -> None:
        """It need not wait for a record that cannot come."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        iterator = await streams.get_shard_iterator("s", FIRST, "LATEST")
        reading = await waiting(clock, streams.get_records(iterator, 10, 60_000))
        await streams.reshard("s", Split(FIRST, MIDDLE))
        batch = await soon(reading)
        assert (list(batch.records), batch.next_iterator, batch.child_shards) == ([], None, (SECOND, THIRD))

    async def test_what_cannot_be_resharded(self, engine: Engine, clock: ManualClock) -> None:
        """It is refused with the reason, and nothing has changed."""
        streams = engine.streams
        await streams.create_stream("s", 3)
        before = await streams.describe_stream("s")
        start, end = before.shards[0].hash_key_range.start, before.shards[0].hash_key_range.end
        for key in (start, start + 1, end, end + 1, -1, KEY_SPACE):
            with raises(ValidationError):
                await streams.reshard("s", Split(FIRST, key))
        for lower, upper in ((SECOND, FIRST), (FIRST, THIRD), (FIRST, FIRST)):
            with raises(ValidationError):
                await streams.reshard("s", Merge(lower, upper))
        with raises(NotFoundError):
            await streams.reshard("s", Split("shardId-000000000009", MIDDLE))
        with raises(NotFoundError):
            await streams.reshard("nothing", Split(FIRST, MIDDLE))
        assert await streams.describe_stream("s") == before
        await streams.reshard("s", Merge(FIRST, SECOND))
        with raises(ValidationError):
            await streams.reshard("s", Merge(FIRST, SECOND))
        await streams.update_stream("s", StreamAttributes(mode="ON_DEMAND"))
        with raises(ValidationError):
            await streams.reshard("s", Split(THIRD, KEY_SPACE - 10))

    async def test_any_number_of_shards_is_reached_step_by_step(self, engine: Engine, clock: ManualClock) -> None:
        """Ranges are equal then, and every step leaves a whole stream."""
        streams = engine.streams
        stream = await streams.create_stream("s", 3)
        for target in (5, 2, 2, 7, 1, 4):
            while (step := next_step(stream.open_shards, target)) is not None:
                stream = await streams.reshard("s", step)
                check_shards(stream)
            starts = sorted(shard.hash_key_range.start for shard in stream.open_shards)
            assert len(starts) == target
            # The widths of 9 and of 3 shards are rounded each for itself.
            assert all(abs(start - KEY_SPACE // target * place) <= 2 for place, start in enumerate(starts))

    async def test_keys_keep_their_order_across_random_reshards(self, engine: Engine, clock: ManualClock) -> None:
        """While producers put; whoever reads parents to their end before children sees each key in order."""
        streams = engine.streams
        random = Random(11)
        await streams.create_stream("s", 2)
        put_for: dict[str, list[bytes]] = {f"key-{number}": [] for number in range(12)}
        putting = True

        async def produce(keys: list[str]) -> None:
            for turn in range(30):
                some = random.sample(keys, 3)
                entries = [PutEntry(key, b"%s %d" % (key.encode(), turn)) for key in some]
                for entry, result in zip(entries, await streams.put_records("s", entries), strict=True):
                    assert result.error is None
                    put_for[entry.partition_key].append(entry.data)
                await asyncio.sleep(0)

        async def reshard() -> None:
            while putting:
                open_shards = (await streams.describe_stream("s")).open_shards
                shard = random.choice(open_shards)
                keys = shard.hash_key_range
                if len(open_shards) < 6 and (random.random() < 0.5 or len(open_shards) == 1):
                    await streams.reshard("s", Split(shard.shard_id, random.randint(keys.start + 2, keys.end - 1)))
                else:
                    following = [each for each in open_shards if each.hash_key_range.start == keys.end + 1]
                    if following:
                        await streams.reshard("s", Merge(shard.shard_id, following[0].shard_id))
                for _ in range(random.randrange(4)):
                    await asyncio.sleep(0)

        resharding = asyncio.create_task(reshard())
        keys = list(put_for)
        await asyncio.gather(*(produce(keys[at : at + 4]) for at in (0, 4, 8)))
        putting = False
        await resharding
        stream = await streams.describe_stream("s")
        check_shards(stream)
        assert len(stream.shards) > 6
        assert await read_in_order(streams, "s") == put_for

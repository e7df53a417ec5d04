"""What every stream store does when records are read."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import ExpiredIteratorError, NotFoundError, ValidationError
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutEntry, StreamStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import follow, put, stored
from streamkit.testing.contract.terms import Contract, cancelled, raises, soon, waiting

SHARD = "shardId-000000000000"


async def read(streams: StreamStore, iterator: str | None, limit: int = 100) -> list[bytes]:
    """The data of all records from the iterator on, in pages of ``limit`` that may be shorter."""
    assert iterator is not None
    return [record.data for record in await follow(streams, iterator, limit)]


async def iterator_at(streams: StreamStore, position: Any, number: int, shard_id: str = SHARD) -> str:
    """An iterator of stream "s" at or after a sequence number."""
    return await streams.get_shard_iterator("s", shard_id, position, sequence_number=number)


class IteratorContract(Contract):
    """Shard iterators, and reading and waiting with them."""

    async def test_trim_horizon_is_before_the_oldest_record(self, engine: Engine, clock: ManualClock) -> None:
        """Also in an empty shard, where it is before whatever comes."""
        await engine.streams.create_stream("s", 1)
        early = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await put(engine.streams, "s", b"a", b"b")
        late = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        assert await read(engine.streams, early) == await read(engine.streams, late) == [b"a", b"b"]

    async def test_latest_is_after_the_newest_record_at_the_moment_of_the_call(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """What is put between the call and the first read is read."""
        await engine.streams.create_stream("s", 1)
        empty = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        await put(engine.streams, "s", b"a")
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        assert await read(engine.streams, iterator) == []
        await put(engine.streams, "s", b"b")
        assert await read(engine.streams, iterator) == [b"b"]
        assert await read(engine.streams, empty) == [b"a", b"b"]

    async def test_at_sequence_number_is_inclusive_and_after_is_not(self, engine: Engine, clock: ManualClock) -> None:
        """Both take any record's number and the shard's starting number."""
        stream = await engine.streams.create_stream("s", 1)
        first, second, third = await put(engine.streams, "s", b"a", b"b", b"c")
        starting = stream.shards[0].starting_sequence_number
        for number, at, after in (
            (starting, [b"a", b"b", b"c"], [b"a", b"b", b"c"]),
            (first, [b"a", b"b", b"c"], [b"b", b"c"]),
            (second, [b"b", b"c"], [b"c"]),
            (third, [b"c"], []),
        ):
            for position, data in (("AT_SEQUENCE_NUMBER", at), ("AFTER_SEQUENCE_NUMBER", after)):
                iterator = await iterator_at(engine.streams, position, number)
                assert await read(engine.streams, iterator) == data

    async def test_the_starting_number_works_in_an_empty_shard(self, engine: Engine, clock: ManualClock) -> None:
        """It belongs to the shard and not to a record."""
        stream = await engine.streams.create_stream("s", 2)
        shard = stream.shards[1]
        number = shard.starting_sequence_number
        iterators = [
            await iterator_at(engine.streams, position, number, shard.shard_id)
            for position in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")
        ]
        await engine.streams.put_records("s", [PutEntry("k", b"a", shard.hash_key_range.start)])
        for iterator in iterators:
            assert await read(engine.streams, iterator) == [b"a"]

    async def test_a_sequence_number_that_was_never_given_is_refused(self, engine: Engine, clock: ManualClock) -> None:
        """Below the shard's starting number, or above the newest of the stream."""
        stream = await engine.streams.create_stream("s", 1)
        (number,) = await put(engine.streams, "s", b"a")
        for wrong in (stream.shards[0].starting_sequence_number - 1, -1, number + 1, 10**60):
            for position in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
                with raises(ValidationError):
                    await iterator_at(engine.streams, position, wrong)

    async def test_at_timestamp_is_the_first_record_that_arrived_then_or_later(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """Before all records it is the horizon, after all of them the next record; the future is refused."""
        start_ms = clock.now_ms()
        await engine.streams.create_stream("s", 1)
        for data in (b"0", b"10", b"20"):
            await put(engine.streams, "s", data)
            await clock.advance(10)
        expected = {
            0: [b"0", b"10", b"20"],
            start_ms: [b"0", b"10", b"20"],
            start_ms + 1: [b"10", b"20"],
            start_ms + 10_000: [b"10", b"20"],
            start_ms + 20_000: [b"20"],
            start_ms + 20_001: [],
            clock.now_ms(): [],
        }
        iterators = {
            instant: await engine.streams.get_shard_iterator("s", SHARD, "AT_TIMESTAMP", timestamp_ms=instant)
            for instant in expected
        }
        await put(engine.streams, "s", b"next")
        for instant, found in expected.items():
            assert await read(engine.streams, iterators[instant]) == [*found, b"next"]
        with raises(ValidationError):
            await engine.streams.get_shard_iterator("s", SHARD, "AT_TIMESTAMP", timestamp_ms=clock.now_ms() + 1)

    async def test_an_iterator_needs_a_position_and_a_shard_that_exist(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """Anything else is refused."""
        await engine.streams.create_stream("s", 1)
        wrong: Any
        for wrong in ("EARLIEST", "latest", "", None):
            with raises(ValidationError):
                await engine.streams.get_shard_iterator("s", SHARD, wrong)
        for wrong in ("shardId-000000000001", "shardId-0", "0", "", "s"):
            with raises(NotFoundError) as missing:
                await engine.streams.get_shard_iterator("s", wrong, "LATEST")
            assert (missing.error.kind, missing.error.name) == ("shard", wrong)

    async def test_an_iterator_may_be_used_again(self, engine: Engine, clock: ManualClock) -> None:
        """It names the same position for all its life, and so does the one that follows it."""
        await engine.streams.create_stream("s", 1)
        await put(engine.streams, "s", b"a", b"b")
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        once = await engine.streams.get_records(iterator, 1)
        again = await engine.streams.get_records(iterator, 1)
        assert list(once.records) == list(again.records)
        await put(engine.streams, "s", b"c")
        assert await read(engine.streams, iterator) == [b"a", b"b", b"c"]
        for batch in (once, again):
            assert batch.next_iterator is not None
            assert len(batch.next_iterator) <= 512
            assert await read(engine.streams, batch.next_iterator) == [b"b", b"c"]

    async def test_an_iterator_lives_five_minutes(self, engine: Engine, clock: ManualClock) -> None:
        """Counted anew for each one that is given out, whatever was read with it."""
        await engine.streams.create_stream("s", 1)
        await put(engine.streams, "s", b"a", b"b")
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await clock.advance(299.999)
        batch = await engine.streams.get_records(iterator, 1)
        assert batch.next_iterator is not None
        await clock.advance(0.002)
        with raises(ExpiredIteratorError) as expired:
            await engine.streams.get_records(iterator, 1)
        assert expired.error.age_seconds == 300.001
        await clock.advance(299.9)
        assert await read(engine.streams, batch.next_iterator) == [b"b"]
        await clock.advance(0.1)
        with raises(ExpiredIteratorError):
            await engine.streams.get_records(batch.next_iterator, 1)

    async def test_a_token_that_is_no_iterator_is_refused(self, engine: Engine, clock: ManualClock) -> None:
        """Whatever it looks like."""
        await engine.streams.create_stream("s", 1)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        garbage: list[Any] = ["", "garbage", "1", ":::", "é", "\ud800", "\x00", "9" * 5000, None, b"1", 7]
        for token in (*garbage, "-" + iterator, iterator + "x", iterator[:-14], "x" + iterator):
            try:
                with raises(ValidationError):
                    await engine.streams.get_records(token, 1)
            except Exception as error:
                raise AssertionError(f"token {token!r:.60} was not refused as it should be: {error!r}") from error

    async def test_the_limit_of_a_read(self, engine: Engine, clock: ManualClock) -> None:
        """From one up to the engine's, and records come in pages of that size, each once and in order."""
        await engine.streams.create_stream("s", 1)
        data = [b"%d" % i for i in range(10)]
        await engine.streams.put_records("s", [PutEntry("k", each) for each in data])
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        for limit in (0, -1, self.limits.get_records + 1):
            with raises(ValidationError):
                await engine.streams.get_records(iterator, limit)
        for limit in (1, 3, 4, 10, 11, self.limits.get_records):
            assert await read(engine.streams, iterator, limit) == data

    async def test_an_answer_has_a_bound_in_bytes_and_at_least_one_record(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """A page ends before the bound, and a record that is larger than the bound alone comes alone."""
        limits = self.limits
        await engine.streams.create_stream("s", 1)
        size = min(limits.record_bytes - 1, limits.get_bytes * 3 // 2)
        count = limits.get_bytes // size + 2
        for i in range(count):
            await engine.streams.put_records("s", [PutEntry("k", bytes([i]) * size)])
        iterator: str | None = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        seen: list[StoredRecord] = []
        pages = 0
        while len(seen) < count:
            assert iterator is not None
            batch = await engine.streams.get_records(iterator, min(count, limits.get_records))
            assert batch.records, "a reader that asks again must come forward"
            if len(batch.records) > 1:
                assert sum(len(record.data) for record in batch.records) <= limits.get_bytes
            seen.extend(batch.records)
            iterator = batch.next_iterator
            pages += 1
        assert [record.data[0] for record in seen] == list(range(count))
        assert pages > 1

    async def test_an_empty_answer_goes_on_with_an_iterator(self, engine: Engine, clock: ManualClock) -> None:
        """Nothing to read is no error, without a wait it comes at once, and nobody is behind."""
        await engine.streams.create_stream("s", 1)
        iterator: str | None = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        for _ in range(3):
            assert iterator is not None
            batch = await soon(engine.streams.get_records(iterator, 10))
            assert (list(batch.records), batch.millis_behind_latest, batch.child_shards) == ([], 0, ())
            iterator = batch.next_iterator
        await put(engine.streams, "s", b"a")
        assert await read(engine.streams, iterator) == [b"a"]

    async def test_millis_behind_latest(self, engine: Engine, clock: ManualClock) -> None:
        """More than zero while there is more to read, and zero at the tip, however old the last record is."""
        await engine.streams.create_stream("s", 1)
        await put(engine.streams, "s", b"a")
        await clock.advance(10)
        await put(engine.streams, "s", b"b")
        await clock.advance(5)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        first = await engine.streams.get_records(iterator, 1)
        # "From the tip" may count from the record that was read or from the next one.
        assert 5_000 <= first.millis_behind_latest <= 15_000
        assert first.next_iterator is not None
        assert (await engine.streams.get_records(first.next_iterator, 1)).millis_behind_latest == 0

    # ---- waiting

    async def test_a_put_wakes_a_waiting_reader(self, engine: Engine, clock: ManualClock) -> None:
        """Every one that waits at this shard, at once, without any time passing, and no one at another shard."""
        stream = await engine.streams.create_stream("s", 2)
        other = stream.shards[1].shard_id
        here = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        there = await engine.streams.get_shard_iterator("s", other, "LATEST")
        readers = [await waiting(clock, engine.streams.get_records(here, 10, 60_000)) for _ in range(3)]
        elsewhere = await waiting(clock, engine.streams.get_records(there, 10, 60_000))
        await clock.advance(1)
        before_ms = clock.now_ms()
        (result,) = await engine.streams.put_records("s", [PutEntry("k", b"a", 0)])
        for reader in readers:
            batch = await soon(reader)
            assert [(r.data, r.sequence_number) for r in batch.records] == [(b"a", result.sequence_number)]
        assert clock.now_ms() == before_ms
        await clock.advance(0)
        assert not elsewhere.done()
        await cancelled(elsewhere)

    async def test_a_reader_with_something_to_read_does_not_wait(self, engine: Engine, clock: ManualClock) -> None:
        """Also if it is less than the limit."""
        await engine.streams.create_stream("s", 1)
        await put(engine.streams, "s", b"a")
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        batch = await soon(engine.streams.get_records(iterator, 10, 60_000))
        assert [record.data for record in batch.records] == [b"a"]

    async def test_a_wait_ends_at_its_deadline(self, engine: Engine, clock: ManualClock) -> None:
        """With an empty answer, whose iterator goes on from the same place."""
        await engine.streams.create_stream("s", 1)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        reader = await waiting(clock, engine.streams.get_records(iterator, 10, 5_000))
        await clock.advance(4.999)
        assert not reader.done()
        await clock.advance(0.001)
        batch = await soon(reader)
        assert list(batch.records) == []
        await put(engine.streams, "s", b"a")
        assert await read(engine.streams, batch.next_iterator) == [b"a"]

    async def test_a_cancelled_wait_leaves_nothing(self, engine: Engine, clock: ManualClock) -> None:
        """The iterator is as good as before, and those who still wait are woken."""
        await engine.streams.create_stream("s", 1)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        gone, stays = [await waiting(clock, engine.streams.get_records(iterator, 10, 60_000)) for _ in range(2)]
        await cancelled(gone)
        await put(engine.streams, "s", b"a")
        assert [record.data for record in (await soon(stays)).records] == [b"a"]
        assert await read(engine.streams, iterator) == [b"a"]

    async def test_deleting_a_stream_wakes_its_readers(self, engine: Engine, clock: ManualClock) -> None:
        """They get NotFoundError; those of another stream go on waiting."""
        await engine.streams.create_stream("s", 1)
        await engine.streams.create_stream("other", 1)
        here = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        there = await engine.streams.get_shard_iterator("other", SHARD, "LATEST")
        reader = await waiting(clock, engine.streams.get_records(here, 10, 60_000))
        elsewhere = await waiting(clock, engine.streams.get_records(there, 10, 60_000))
        await engine.streams.delete_stream("s")
        with raises(NotFoundError):
            await soon(reader)
        assert not elsewhere.done()
        await cancelled(elsewhere)

    async def test_an_iterator_does_not_reach_a_later_stream_of_the_same_name(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """It fails, and never reads from the middle of something else."""
        await engine.streams.create_stream("s", 1)
        await put(engine.streams, "s", b"old")
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await engine.streams.delete_stream("s")
        with raises(NotFoundError):
            await engine.streams.get_records(iterator, 10)
        await engine.streams.create_stream("s", 1)
        await put(engine.streams, "s", b"new")
        with raises(NotFoundError):
            await engine.streams.get_records(iterator, 10)

    async def test_readers_and_writers_at_once_lose_nothing(self, engine: Engine, clock: ManualClock) -> None:
        """A reader that always waits sees every record once, in order, while eight producers put."""
        stream = await engine.streams.create_stream("s", 2)
        produced = 8 * 25
        seen: dict[str, list[StoredRecord]] = {shard.shard_id: [] for shard in stream.shards}
        complete = asyncio.Event()

        async def consume(shard_id: str) -> None:
            iterator: str | None = await engine.streams.get_shard_iterator("s", shard_id, "TRIM_HORIZON")
            while iterator is not None:
                batch = await engine.streams.get_records(iterator, 3, 3_600_000)
                seen[shard_id].extend(batch.records)
                if sum(map(len, seen.values())) >= produced:
                    complete.set()
                iterator = batch.next_iterator

        async def produce(producer: int) -> None:
            for i in range(25):
                await put(engine.streams, "s", b"%d" % i, key=f"{producer}")

        consumers = [asyncio.create_task(consume(shard_id)) for shard_id in seen]
        async with asyncio.TaskGroup() as group:
            for producer in range(8):
                group.create_task(produce(producer))
        await soon(complete.wait())
        for consumer in consumers:
            await cancelled(consumer)
        for shard_id, records in seen.items():
            assert records == await stored(engine.streams, "s", shard_id)

"""What every stream store does with records that have become too old."""

from __future__ import annotations

from streamkit.engines.base import Engine
from streamkit.errors import NotFoundError, ValidationError
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.store import Split, StreamAttributes
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import put, stored
from streamkit.testing.contract.terms import Contract, raises

SHARD = "shardId-000000000000"
DAY = 86_400
DAY_MS = DAY * 1000


class RetentionContract(Contract):
    """Retention, and what readers are told of it."""

    async def test_records_stay_a_day_unless_said_otherwise(self, engine: Engine, clock: ManualClock) -> None:
        """Counted from their arrival; whoever reads from the horizon misses nothing that is there."""
        streams = engine.streams
        stream = await streams.create_stream("s", 1)
        assert stream.attributes == StreamAttributes(retention_ms=DAY_MS, mode="PROVISIONED")
        await put(streams, "s", b"1", b"2")
        await clock.advance(3600)
        await put(streams, "s", b"3")
        await clock.advance(DAY - 3600)
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"1", b"2", b"3"]
        await clock.advance(0.001)
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"3"]
        await clock.advance(3600)
        assert await stored(streams, "s", SHARD) == []
        (shard,) = (await streams.describe_stream("s")).shards
        assert shard.trim_horizon == shard.latest_sequence_number

    async def test_a_reader_is_told_how_much_it_missed(self, engine: Engine, clock: ManualClock) -> None:
        """Once, with the records after the gap, or as soon as it asks when there are none; never another's bytes."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        numbers = await put(streams, "s", b"1", b"2", b"3")
        await clock.advance(DAY)
        await put(streams, "s", b"4")
        await clock.advance(1)
        for position, number, missed in (
            ("AT_SEQUENCE_NUMBER", numbers[0], 3),
            ("AFTER_SEQUENCE_NUMBER", numbers[0], 2),
            ("AT_SEQUENCE_NUMBER", numbers[2], 1),
            ("AFTER_SEQUENCE_NUMBER", numbers[2], 0),
        ):
            iterator = await streams.get_shard_iterator("s", SHARD, position, sequence_number=number)  # type: ignore[arg-type]
            batch = await streams.get_records(iterator, 10)
            assert ([record.data for record in batch.records], batch.trimmed) == ([b"4"], missed)
            assert batch.next_iterator is not None
            assert (await streams.get_records(batch.next_iterator, 10)).trimmed == 0
        await clock.advance(DAY)
        iterator = await streams.get_shard_iterator("s", SHARD, "AT_SEQUENCE_NUMBER", sequence_number=numbers[1])
        batch = await streams.get_records(iterator, 10)
        assert (list(batch.records), batch.trimmed) == ([], 3)
        assert batch.next_iterator is not None
        assert (await streams.get_records(batch.next_iterator, 10)).trimmed == 0

    async def test_an_iterator_whose_position_was_trimmed(self, engine: Engine, clock: ManualClock) -> None:
        """It was good when it was given out; it goes on at the horizon, and says so."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        await put(streams, "s", b"1")
        await clock.advance(DAY - 60)
        await put(streams, "s", b"2")
        iterator = await streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await clock.advance(61)
        batch = await streams.get_records(iterator, 10)
        assert ([record.data for record in batch.records], batch.trimmed) == ([b"2"], 1)

    async def test_a_shorter_retention_trims_at_once(self, engine: Engine, clock: ManualClock) -> None:
        """And a longer one brings nothing back, whether it was trimmed by the change or by time."""
        streams = engine.streams
        await streams.create_stream("s", 1, StreamAttributes(retention_ms=3 * DAY_MS))
        await put(streams, "s", b"1")
        await clock.advance(2 * DAY)
        await put(streams, "s", b"2")
        await streams.update_stream("s", StreamAttributes(retention_ms=DAY_MS))
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"2"]
        await streams.update_stream("s", StreamAttributes(retention_ms=5 * DAY_MS))
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"2"]
        await clock.advance(4 * DAY)
        await put(streams, "s", b"3")
        await streams.update_stream("s", StreamAttributes(retention_ms=2 * DAY_MS))
        await clock.advance(3 * DAY)
        await streams.update_stream("s", StreamAttributes(retention_ms=100 * DAY_MS))
        assert await stored(streams, "s", SHARD) == [], "it was too old before the retention was lengthened"

    async def test_what_a_retention_may_be(self, engine: Engine, clock: ManualClock) -> None:
        """Out of the engine's range it is refused, and the stream stays as it was."""
        streams = engine.streams
        shortest, longest = self.limits.retention_seconds
        await streams.create_stream("s", 1)
        refused = [-1, 0, round(shortest * 1000) - 1]
        if longest != float("inf"):
            refused.append(round(longest * 1000) + 1)
        for retention_ms in refused:
            with raises(ValidationError):
                await streams.update_stream("s", StreamAttributes(retention_ms=retention_ms))
            with raises(ValidationError):
                await streams.create_stream("other", 1, StreamAttributes(retention_ms=retention_ms))
        with raises(ValidationError):
            await streams.update_stream("s", StreamAttributes(mode="SOMETIMES"))  # type: ignore[arg-type]
        with raises(NotFoundError):
            await streams.update_stream("nothing", StreamAttributes())
        assert (await streams.describe_stream("s")).attributes == StreamAttributes()
        assert await streams.list_streams() == ["s"]

    async def test_a_closed_shard_expires_with_its_last_record(self, engine: Engine, clock: ManualClock) -> None:
        """Until then it is listed and read. Its number is not given again."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        await put(streams, "s", b"1")
        await clock.advance(3600)
        iterator = await streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await streams.reshard("s", Split(SHARD, KEY_SPACE // 2))
        await clock.advance(DAY - 3600)
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"1"]
        await clock.advance(3600.001)
        stream = await streams.describe_stream("s")
        assert [shard.shard_id for shard in stream.shards] == ["shardId-000000000001", "shardId-000000000002"]
        assert stream.shards[0].parent_shard_ids == (SHARD,), "it may name a shard that has expired"
        with raises(NotFoundError):
            await streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        stream = await streams.reshard("s", Split("shardId-000000000001", KEY_SPACE // 4))
        assert stream.shards[-1].shard_id == "shardId-000000000004"
        assert iterator

    async def test_old_and_young_in_one_batch(self, engine: Engine, clock: ManualClock) -> None:
        """The horizon stands between any two records, not only where a batch or a file ends."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        for number in range(20):
            await put(streams, "s", b"%d" % number)
            await clock.advance(60)
        await clock.advance(DAY - 600)
        # The clock stands 600 s after the last minute, so those of the last ten minutes are there.
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"%d" % at for at in range(10, 20)]

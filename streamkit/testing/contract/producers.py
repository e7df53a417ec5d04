"""What every stream store does for idempotent producers."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.engines.base import Engine
from streamkit.errors import StaleAggregateError, ValidationError
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, Split, StreamStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything, stored
from streamkit.testing.contract.terms import Contract, raises

SHARD = "shardId-000000000000"


async def put_once(streams: StreamStore, *sequences: int, producer: str = "p") -> Sequence[PutResult]:
    """Put one record for each sequence, which it holds."""
    entries = [PutEntry("k", b"%d" % sequence) for sequence in sequences]
    return await streams.put_records("s", entries, ProducerSequences(producer, sequences))


class ProducerContract(Contract):
    """Putting the same again."""

    async def test_what_was_stored_is_not_stored_again(self, engine: Engine, clock: ManualClock) -> None:
        """The whole call, a part of it, or an older one; and the answer says so."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        first = await put_once(streams, 0, 1)
        assert [(result.duplicate, result.error) for result in first] == [(False, None)] * 2
        for again in ((0, 1), (1,), (0,)):
            assert [result.duplicate for result in await put_once(streams, *again)] == [True] * len(again)
        results = await put_once(streams, 1, 5)
        assert [(result.duplicate, result.error) for result in results] == [(True, None), (False, None)]
        assert results[1].sequence_number > first[1].sequence_number
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"0", b"1", b"5"]

    async def test_producers_have_nothing_to_do_with_each_other(self, engine: Engine, clock: ManualClock) -> None:
        """Nor with those who put without an id; the stream says how far each has come."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        await streams.create_stream("other", 1)
        await put_once(streams, 7)
        await put_once(streams, 3, producer="q")
        await streams.put_records("s", [PutEntry("k", b"plain")])
        assert (await streams.describe_stream("s")).producers == {"p": 7, "q": 3}
        assert (await streams.describe_stream("other")).producers == {}
        assert [record.data for record in await stored(streams, "s", SHARD)] == [b"7", b"3", b"plain"]

    async def test_what_a_sequence_may_be(self, engine: Engine, clock: ManualClock) -> None:
        """One for each entry, strictly increasing; otherwise nothing is stored."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        for sequences in ((2, 1), (1, 1), (-1,), (2**63,), (0, 2**63)):
            with raises(ValidationError):
                await put_once(streams, *sequences)
        with raises(ValidationError):
            await streams.put_records("s", [PutEntry("k", b"")], ProducerSequences("p", [1, 2]))
        for name in ("", "p" * 129, "\ud800"):
            with raises(ValidationError):
                await put_once(streams, 1, producer=name)
        assert await stored(streams, "s", SHARD) == []
        assert (await streams.describe_stream("s")).producers == {}

    async def test_what_was_packed_for_other_shards_is_not_stored(self, engine: Engine, clock: ManualClock) -> None:
        """Nothing of the call, nor its sequence; who says nothing of shards is not asked."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        entries = [PutEntry("k", b"1")]
        assert (await streams.put_records("s", entries, None, SHARD))[0].error is None
        after = await streams.reshard("s", Split(SHARD, KEY_SPACE // 2))
        with raises(StaleAggregateError):
            await streams.put_records("s", entries, ProducerSequences("p", [1]), SHARD)
        assert (await streams.describe_stream("s")).producers == {}
        await streams.put_records("s", entries, None, after.newest_shard_id)
        await streams.put_records("s", entries)
        assert sum(map(len, (await everything(streams, "s")).values())) == 3

    async def test_a_part_of_an_aggregate_is_no_duplicate(self, engine: Engine, clock: ManualClock) -> None:
        """Nothing is stored, and the error says what is; a whole one is, and one wholly after it is stored."""
        streams = engine.streams
        await streams.create_stream("s", 1)
        entries = [PutEntry("k", b"a"), PutEntry("k", b"b")]
        await streams.put_records("s", entries, ProducerSequences("p", [3, 6], [0, 4]))
        told = 0
        try:
            await streams.put_records("s", entries, ProducerSequences("p", [5, 9], [0, 6]))
        except StaleAggregateError as error:
            told = error.last_sequence
        assert told == 6
        results = await streams.put_records("s", entries, ProducerSequences("p", [6, 9], [0, 7]))
        assert [result.duplicate for result in results] == [True, False]
        assert len(await stored(streams, "s", SHARD)) == 3

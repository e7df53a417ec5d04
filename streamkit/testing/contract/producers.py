"""What every stream store does for idempotent producers."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.engines.base import Engine
from streamkit.errors import ValidationError
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, StreamStore
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import stored
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
        for sequences in ((2, 1), (1, 1), (-1,), (2**63,)):
            with raises(ValidationError):
                await put_once(streams, *sequences)
        with raises(ValidationError):
            await streams.put_records("s", [PutEntry("k", b"")], ProducerSequences("p", [1, 2]))
        for name in ("", "p" * 129):
            with raises(ValidationError):
                await put_once(streams, 1, producer=name)
        assert await stored(streams, "s", SHARD) == []
        assert (await streams.describe_stream("s")).producers == {}

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import NotFoundError, ThroughputExceededError, ValidationError
from streamkit.streams.inflight import InFlight
from streamkit.streams.keyspace import even_ranges, shard_id_of
from streamkit.streams.store import PutEntry, PutResult, PutResults, ShardDescription, StreamDescription

SLOW = ThroughputExceededError("the shard")
GONE = NotFoundError("stream", "orders")
BAD = ValidationError("malformed")


def in_flight(count: int, producer_id: str | None = None, *, aggregate: bool = False) -> InFlight:
    batch = InFlight(producer_id, aggregate=aggregate, aggregation_max_bytes=51_200)
    batch.begin([(PutEntry(f"key-{at % 3}", b"%d" % at), 0, 10 + at) for at in range(count)])
    return batch


def shards(count: int) -> StreamDescription:
    described = [ShardDescription(shard_id_of(at), keys, 0) for at, keys in enumerate(even_ranges(count))]
    return StreamDescription("orders", 1, 0, tuple(described))


def left(batch: InFlight) -> list[int]:
    return [sequence for _, _, sequence in batch.records()]


def test_a_call_has_sequences_if_its_producer_has_an_id() -> None:
    entries, sequences = in_flight(2).next_call()
    assert ([entry.data for entry in entries], sequences) == ([b"0", b"1"], None)
    _, sequences = in_flight(2, "p").next_call()
    assert sequences is not None
    assert (sequences.sequences, sequences.firsts) == ([10, 11], None)
    batch = in_flight(5, "p", aggregate=True)
    batch.pack(shards(1), stored_to=11)
    _, sequences = batch.next_call()
    assert sequences is not None
    assert (sequences.sequences, sequences.firsts) == ([11, 14], [10, 12])


def test_what_stored_everything_leaves_nothing() -> None:
    batch = in_flight(3)
    failed, duplicates = batch.answered(PutResults([0, 0, 0], {0: "shard"}, {0: 1}))
    assert (failed, duplicates, batch.settle(failed, may_retry=True)) == ([], 0, ([], None))
    assert batch.calls == []


def test_duplicates_are_counted_as_records() -> None:
    batch = in_flight(4, "p", aggregate=True)
    batch.pack(shards(1))
    assert batch.answered([PutResult("", 0, duplicate=True)]) == ([], 4)


def test_results_are_one_for_each_entry() -> None:
    wrong: list[Sequence[PutResult]] = [[], PutResults([0], {0: "shard"}, {0: 1})]
    for results in wrong:
        with pytest.raises(ValueError, match="zip"):
            in_flight(2).answered(results)


def test_without_an_id_each_is_refused_or_tried_again_for_itself() -> None:
    batch = in_flight(4)
    first, second, third, fourth = batch.calls[0]
    refused, fatal = batch.settle([(first, SLOW), (second, GONE), (third, BAD), (fourth, SLOW)], may_retry=True)
    assert ([entry.data for entry, _ in refused], fatal, left(batch)) == ([b"1", b"2"], None, [10, 13])


def test_with_an_id_nothing_goes_on_without_one_before_it() -> None:
    """Whatever the store says of those after the first that is to be tried again."""
    batch = in_flight(4, "p")
    first, second, third, fourth = batch.calls[0]
    refused, fatal = batch.settle([(first, BAD), (second, SLOW), (third, GONE), (fourth, BAD)], may_retry=True)
    assert ([entry.data for entry, _ in refused], fatal, left(batch)) == ([b"0"], None, [11, 12, 13])


@pytest.mark.parametrize(("error", "may_retry"), [(GONE, True), (SLOW, False), (RuntimeError("what"), True)])
def test_with_an_id_what_is_refused_for_good_refuses_all_that_is_left(error: Exception, may_retry: bool) -> None:
    batch = in_flight(4, "p")
    batch.narrow()
    first, second = batch.calls[0]
    refused, fatal = batch.settle([(first, BAD), (second, error)], may_retry=may_retry)
    assert ([entry.data for entry, _ in refused], fatal, left(batch)) == ([b"0"], error, [11, 12, 13])


@given(st.integers(1, 40), st.integers(0, 39), st.booleans(), st.integers(1, 3))
def test_narrowing_finds_the_one_that_refuses_its_call_and_keeps_the_order(
    count: int, wrong: int, aggregate: bool, shard_count: int
) -> None:
    batch = in_flight(count, "p", aggregate=aggregate)
    if aggregate:
        batch.pack(shards(shard_count))
    stored: list[int] = []
    refused: list[bytes] = []
    calls = 0
    while batch.calls:
        calls += 1
        assert [*stored, *left(batch)] == [10 + at for at in range(count) if b"%d" % at not in refused]
        held = [record for each in batch.calls[0] for record in each.records]
        if all(sequence != 10 + wrong for _, _, sequence in held):
            stored += [sequence for _, _, sequence in held]
            batch.settle([], may_retry=True)
        elif not batch.narrow():
            found, _ = batch.settle([(batch.calls[0][0], BAD)], may_retry=True)
            refused += [entry.data for entry, _ in found]
    assert refused == ([b"%d" % wrong] if wrong < count else [])
    assert calls <= 2 * count + 8

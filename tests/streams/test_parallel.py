from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.codecs import Codec
from streamkit.streams.parallel import ByKey, Call, InTurn, Work
from streamkit.streams.record import Batch, Record, StoredRecord

SHARD = "shardId-000000000000"
CODEC: Codec[bytes] = Codec(bytes)


class Made:
    """Makes batches of a shard whose records have these keys, numbered on and on."""

    def __init__(self) -> None:
        self.records: list[Record[bytes]] = []

    def batch(self, keys: Sequence[str], *, behind_ms: int = 0, trimmed: int = 0) -> Batch[bytes]:
        first = len(self.records) + 1
        stored = [StoredRecord(number, 0, key, b"") for number, key in enumerate(keys, first)]
        records = [Record(each, SHARD, CODEC) for each in stored]
        self.records += records
        return Batch(SHARD, records, behind_ms, trimmed)


def numbers(call: Call[bytes] | Batch[bytes] | None) -> list[int] | None:
    if call is None:
        return None
    batch = call.batch if isinstance(call, Call) else call
    return [record.sequence_number for record in batch]


def begin(work: Work[bytes]) -> Call[bytes]:
    call = work.next_call()
    assert call is not None
    return call


def due(work: Work[bytes]) -> int | None:
    found = work.due()
    if found is None:
        return None
    return found.done.last_sequence_number if isinstance(found.done, Batch) else found.done.sequence_number


def is_full(work: Work[bytes]) -> bool:
    return work.is_full


# ---- one after the other


def test_in_turn_a_batch_is_called_with_as_it_is_and_ends_with_its_checkpoint() -> None:
    work: InTurn[bytes] = InTurn()
    made = Made()
    assert (work.is_full, work.next_call(), work.due(), work.left()) == (False, None, None, None)
    batch = made.batch("ab")
    work.add(batch)
    assert work.is_full
    call = begin(work)
    assert call.batch is batch
    assert (work.next_call(), work.due(), work.left()) == (None, None, batch)
    work.finish(call)
    found = work.due()
    assert found is not None
    assert found.done is batch
    assert work.is_full
    work.checkpointed(found)
    assert (work.is_full, work.due(), work.left()) == (False, None, None)
    work.add(made.batch("c"))
    assert numbers(begin(work)) == [3]


# ---- by key


def test_what_is_free_is_shared_out_over_the_calls_that_are_free() -> None:
    work: ByKey[bytes] = ByKey(4, 100)
    work.add(Made().batch("abcdabcd"))
    calls = [begin(work) for _ in range(4)]
    assert [numbers(call) for call in calls] == [[1, 5], [2, 6], [3, 7], [4, 8]]
    assert work.next_call() is None


def test_a_call_that_is_free_alone_takes_all_that_is_free() -> None:
    work: ByKey[bytes] = ByKey(2, 100)
    made = Made()
    work.add(made.batch("a"))
    begin(work)
    work.add(made.batch("bcabd"))
    assert numbers(begin(work)) == [2, 3, 5, 6]


def test_a_call_has_no_more_than_max_records_and_the_rest_of_its_key_comes_after_it() -> None:
    work: ByKey[bytes] = ByKey(2, 3)
    made = Made()
    work.add(made.batch("aaa"))
    work.add(made.batch("aab"))
    call = begin(work)
    assert numbers(call) == [1, 2, 3]
    other = begin(work)
    assert numbers(other) == [6]
    assert work.next_call() is None
    work.finish(other)
    assert work.next_call() is None
    work.finish(call)
    assert numbers(begin(work)) == [4, 5]


def test_a_slow_key_holds_up_nobody_until_the_bound_is_reached() -> None:
    work: ByKey[bytes] = ByKey(2, 4)
    made = Made()
    work.add(made.batch("sabc"))
    slow = begin(work)
    assert numbers(slow) == [1, 2]
    for _ in range(3):
        work.finish(begin(work))
        assert due(work) is None
        assert not is_full(work)
        work.add(made.batch("wxyz"))
    # 2 x 2 x 4
    assert is_full(work)
    work.finish(slow)
    assert due(work) == 12
    found = work.due()
    assert found is not None
    work.checkpointed(found)
    assert not is_full(work)
    assert numbers(work.left()) == [13, 14, 15, 16]


def test_those_with_the_oldest_records_go_first() -> None:
    work: ByKey[bytes] = ByKey(1, 2)
    work.add(Made().batch("ab"))
    call = begin(work)
    made = Made()
    made.batch("ab")
    work.add(made.batch("ca"))
    work.add(made.batch("ab"))
    assert work.next_call() is None
    work.finish(call)
    # 3 is c's; a has 4 and 5, b has 6.
    assert numbers(begin(work)) == [3, 4]


def test_what_is_done_while_a_checkpoint_is_written_is_for_the_next() -> None:
    work: ByKey[bytes] = ByKey(3, 1)
    work.add(Made().batch("abc"))
    first, second, third = begin(work), begin(work), begin(work)
    work.finish(third)
    assert due(work) is None
    work.finish(first)
    written = work.due()
    assert written is not None
    assert due(work) == 1
    work.finish(second)
    work.checkpointed(written)
    assert due(work) == 3
    assert numbers(work.left()) == [2, 3]


def test_records_of_an_aggregate_have_places_of_their_own() -> None:
    outer = [StoredRecord(7, 0, key, b"") for key in "ab"]
    records = [Record(stored, SHARD, CODEC, place) for place, stored in enumerate(outer)]
    work: ByKey[bytes] = ByKey(2, 10)
    work.add(Batch(SHARD, records))
    first, second = begin(work), begin(work)
    work.finish(second)
    assert work.due() is None
    work.finish(first)
    found = work.due()
    assert found is not None
    assert found.done is records[1]


def test_a_gap_is_told_with_the_record_after_it() -> None:
    work: ByKey[bytes] = ByKey(3, 3)
    made = Made()
    work.add(made.batch("a", behind_ms=5))
    work.add(made.batch("bc", behind_ms=7, trimmed=40))
    first = begin(work).batch
    assert (numbers(first), first.trimmed, first.millis_behind_latest) == ([1], 0, 7)
    second = begin(work)
    assert (numbers(second), second.batch.trimmed) == ([2], 40)
    assert begin(work).batch.trimmed == 0
    left = work.left()
    assert left is not None
    assert left.trimmed == 0


def test_a_gap_is_told_again_with_what_is_left() -> None:
    work: ByKey[bytes] = ByKey(2, 3)
    made = Made()
    work.add(made.batch("a"))
    work.add(made.batch("b", trimmed=40))
    call = begin(work)
    work.finish(call)
    found = work.due()
    assert found is not None
    work.checkpointed(found)
    left = work.left()
    assert left is not None
    assert (numbers(left), left.trimmed) == ([2], 40)


# ---- any history


class Step(msgspec.Struct):
    """``keys`` are handed out if there is room, ``finish`` and ``written`` choose among what is on its way."""

    keys: str
    finish: int | None
    writes: bool


steps = st.builds(
    Step,
    st.text("abcdefgh", min_size=1, max_size=6),
    st.none() | st.integers(0, 10),
    st.booleans(),
)


@given(st.integers(1, 4), st.integers(1, 6), st.lists(steps, max_size=60))
def test_through_any_history_each_key_is_handled_whole_alone_and_in_order(
    concurrency: int, max_records: int, history: list[Step]
) -> None:
    work: ByKey[bytes] = ByKey(concurrency, max_records)
    made = Made()
    running: list[Call[bytes]] = []
    begun: dict[str, list[int]] = {}
    done: set[int] = set()
    checkpoint = 0

    def check() -> None:
        keys = [key for call in running for key in {record.partition_key for record in call.batch}]
        assert len(keys) == len(set(keys)), "a key is in two calls"
        assert len(running) <= concurrency
        assert len(made.records) - checkpoint <= 2 * concurrency * max_records
        assert numbers(work.left()) == (list(range(checkpoint + 1, len(made.records) + 1)) or None)
        contiguous = next(number for number in range(checkpoint, len(made.records) + 1) if number + 1 not in done)
        assert due(work) == (contiguous if contiguous > checkpoint else None)

    def begin_all() -> None:
        while (call := work.next_call()) is not None:
            assert 1 <= len(call.batch) <= max_records
            in_order = numbers(call)
            assert in_order is not None
            assert in_order == sorted(in_order)
            for record in call.batch:
                begun.setdefault(record.partition_key, []).append(record.sequence_number)
            running.append(call)
            check()
        if len(running) < concurrency:
            # Nothing that could go waits.
            held = {record.partition_key for call in running for record in call.batch}
            waiting = {r.partition_key for r in made.records if r.sequence_number not in done} - held
            assert not waiting

    def finish(which: int) -> None:
        call = running.pop(which % len(running))
        work.finish(call)
        done.update(numbers(call) or ())

    for step in history:
        if not work.is_full:
            work.add(made.batch(step.keys[:max_records]))
        begin_all()
        found = work.due() if step.writes else None
        if step.finish is not None and running:
            finish(step.finish)
            check()
        if found is not None:
            # The checkpoint was on its way meanwhile.
            assert isinstance(found.done, Record)
            checkpoint = found.done.sequence_number
            work.checkpointed(found)
            check()
    begin_all()
    while running:
        finish(0)
        begin_all()
    assert done == {record.sequence_number for record in made.records}
    for key, seen in begun.items():
        assert seen == [record.sequence_number for record in made.records if record.partition_key == key]
    assert due(work) == (len(made.records) if len(made.records) > checkpoint else None)


def test_the_bound_holds_whatever_the_sizes() -> None:
    for concurrency in (2, 3, 8):
        for max_records in (1, 7, 500):
            work: ByKey[bytes] = ByKey(concurrency, max_records)
            made = Made()
            while not work.is_full:
                work.add(made.batch("k" * max_records))
            assert len(made.records) == 2 * concurrency * max_records


@pytest.mark.parametrize("concurrency", [2, 8])
def test_one_key_alone_goes_one_call_after_the_other(concurrency: int) -> None:
    work: ByKey[bytes] = ByKey(concurrency, 5)
    work.add(Made().batch("kkkkk"))
    call = begin(work)
    assert numbers(call) == [1, 2, 3, 4, 5]
    assert work.next_call() is None

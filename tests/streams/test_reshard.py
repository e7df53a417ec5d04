from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.streams.keyspace import KEY_SPACE, MOST_SHARD_INDEX, SHARD_NUMBERS, HashKeyRange, even_ranges
from streamkit.streams.reshard import merged_range, middle, next_step, split_range
from streamkit.streams.shard import Shard
from streamkit.streams.state import StreamState
from streamkit.streams.store import Merge, PutEntry, Split, StreamAttributes


def fresh(shards: int) -> StreamState:
    return StreamState.fresh(1, "orders", 0, shards, StreamAttributes(), Limits.relaxed())


def do(state: StreamState, step: Split | Merge) -> None:
    closing, opening = state.decide(step)
    state.reshard([shard.index for shard in closing], opening, 0)
    for shard in closing:
        shard.ended = True


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(-5, 2000))
def test_a_split_leaves_no_key_out(start: int, width: int, key: int) -> None:
    whole = HashKeyRange(start, start + width)
    try:
        lower, upper = split_range("shard", whole, key)
    except ValidationError:
        assert not start + 1 < key < start + width
    else:
        assert (lower.start, lower.end + 1, upper.start, upper.end) == (start, key, key, start + width)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_middle_splits_or_there_is_none(start: int, width: int) -> None:
    key = middle(HashKeyRange(start, start + width))
    if key is None:
        assert width < 4
    else:
        lower, upper = split_range("shard", HashKeyRange(start, start + width), key)
        assert abs((lower.end - lower.start) - (upper.end - upper.start)) <= 1


def test_only_neighbours_merge() -> None:
    assert merged_range("a", HashKeyRange(0, 4), "b", HashKeyRange(5, 9)) == HashKeyRange(0, 9)
    with pytest.raises(ValidationError, match="name the lower of two adjacent shards first"):
        merged_range("b", HashKeyRange(5, 9), "a", HashKeyRange(0, 4))
    with pytest.raises(ValidationError, match="begins at 6 and that of a ends at 4"):
        merged_range("a", HashKeyRange(0, 4), "c", HashKeyRange(6, 9))


@given(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, KEY_SPACE - 1))
def test_any_number_of_shards_is_reached_and_every_key_has_one_shard_all_the_way(
    first: int, targets: list[int], key: int
) -> None:
    state = fresh(first)
    for target in targets:
        for _ in range(100):
            open_shards = [shard for shard in state.shards.values() if shard.closed_ms is None]
            covering = [shard.index for shard in open_shards if key in shard.hash_key_range]
            assert [state.route(PutEntry("any", b"", key))] == covering
            step = next_step([shard.describe() for shard in open_shards], target)
            if step is None:
                break
            do(state, step)
        starts = sorted(shard.hash_key_range.start for shard in open_shards)
        wanted = [keys.start for keys in even_ranges(target)]
        assert len(starts) == target
        assert all(abs(start - keys) <= 2 for start, keys in zip(starts, wanted, strict=True))


def test_doubling_takes_one_split_for_each_shard() -> None:
    state = fresh(4)
    steps = 0
    while (step := next_step(state.describe().open_shards, 8)) is not None:
        assert isinstance(step, Split)
        do(state, step)
        steps += 1
    assert steps == 4


def test_a_partition_key_follows_its_shards() -> None:
    state = fresh(1)
    before = state.check([PutEntry("k", b"")]).shards
    do(state, Split("shardId-000000000000", KEY_SPACE // 2))
    after = state.check([PutEntry("k", b"")]).shards
    assert before == [0]
    assert after in ([1], [2]), "what was remembered of the key is forgotten"


def test_a_stream_has_so_many_shards_in_its_life() -> None:
    """Sequence numbers must fit into 64 bits."""
    assert (MOST_SHARD_INDEX + 1) * SHARD_NUMBERS + SHARD_NUMBERS > 2**63 - 1 >= (MOST_SHARD_INDEX + 1) * SHARD_NUMBERS
    state = fresh(1)
    state.adopt([Shard(MOST_SHARD_INDEX - 1, HashKeyRange(0, 10))])
    del state.shards[0]
    with pytest.raises(ValidationError, match="can have no more"):
        state.decide(Split(f"shardId-{MOST_SHARD_INDEX - 1:012d}", 5))

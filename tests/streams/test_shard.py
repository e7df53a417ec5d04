from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.streams.keyspace import KEY_SPACE, hash_key
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import StreamState, within
from streamkit.streams.store import PutEntry


def record(number: int, size: int = 1) -> StoredRecord:
    return StoredRecord(number, number * 10, "key", b"x" * size)


@given(st.integers(1, 50), st.text(min_size=1, max_size=20))
def test_every_key_has_one_shard_that_covers_it(shards: int, key: str) -> None:
    state = StreamState.fresh(1, "orders", 0, shards)
    try:
        wanted = hash_key(key)
    except UnicodeEncodeError:
        return
    covering = [shard.index for shard in state.shards if wanted in shard.hash_key_range]
    assert covering == [state.route(PutEntry(key, b""))] == [state.route(PutEntry(key, b""))]


@given(st.integers(0, KEY_SPACE - 1))
def test_an_explicit_hash_key_replaces_the_md5(key: int) -> None:
    state = StreamState.fresh(1, "orders", 0, 7)
    assert key in state.shards[state.route(PutEntry("any", b"", key))].hash_key_range


def test_reads_end_at_what_is_readable() -> None:
    shard = StreamState.fresh(1, "orders", 0, 1).shards[0]
    shard.records = [record(number) for number in (2, 5, 9)]
    assert shard.read(1, 10, 1000) == []
    shard.readable = 5
    assert [r.sequence_number for r in shard.read(1, 10, 1000)] == [2, 5]
    assert [r.sequence_number for r in shard.read(2, 10, 1000)] == [5]
    assert [r.sequence_number for r in shard.read(1, 1, 1000)] == [2]
    assert shard.first_at(50) == 5
    assert shard.first_at(91) is None
    shard.move_out(5)
    assert ([r.sequence_number for r in shard.records], shard.moved_to) == ([9], 5)


@pytest.mark.parametrize(
    ("sizes", "limit", "kept"), [([5, 5, 5], 15, 3), ([5, 5, 5], 14, 2), ([50, 5], 10, 1), ([5, 50], 10, 1), ([], 1, 0)]
)
def test_at_least_one_record_is_returned_however_large(sizes: list[int], limit: int, kept: int) -> None:
    assert len(within([record(at, size) for at, size in enumerate(sizes)], limit)) == kept


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "takes 1 to 500 entries, not 0"),
        ([PutEntry("k", b"")] * 501, "takes 1 to 500 entries, not 501"),
        ([PutEntry("", b"")], "entry 0: a partition key is 1 to 256 characters"),
        ([PutEntry("k", b""), PutEntry("é" * 257, b"")], "entry 1: a partition key is 1 to 256 characters"),
        ([PutEntry("\ud800", b"")], "has no UTF-8 form"),
        ([PutEntry("k", "text")], "data must be bytes, not str"),  # type: ignore[arg-type]
        ([PutEntry("k", b"", KEY_SPACE)], r"explicit_hash_key must be 0 to 2\*\*128 - 1"),
        ([PutEntry("k", b"", -1)], "explicit_hash_key must be 0"),
        ([PutEntry("k", b"x" * 1024 * 1024)], "the record has 1,048,577 bytes and the limit is 1,048,576"),
        ([PutEntry("k", b"x" * 1_000_000)] * 11, "the call has 11,000,011 bytes"),
    ],
)
def test_what_is_refused(entries: list[PutEntry], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        StreamState.fresh(1, "orders", 0, 2).validate(entries, Limits.aws())


def test_a_key_counts_by_its_bytes_and_its_length_by_characters() -> None:
    state = StreamState.fresh(1, "orders", 0, 2)
    state.validate([PutEntry("é" * 256, b"x" * (1024 * 1024 - 512))], Limits.aws())
    with pytest.raises(ValidationError, match="1,048,577 bytes"):
        state.validate([PutEntry("é" * 256, b"x" * (1024 * 1024 - 511))], Limits.aws())

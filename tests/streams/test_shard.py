from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.streams.keyspace import KEY_SPACE, hash_key
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import count_within
from streamkit.streams.state import StreamState
from streamkit.streams.store import PutEntry, StreamAttributes


def stream(shards: int = 1, limits: Limits | None = None) -> StreamState:
    return StreamState.fresh(1, "orders", 0, shards, StreamAttributes(), limits or Limits.relaxed())


def numbers(records: list[StoredRecord]) -> list[int]:
    return [record.sequence_number for record in records]


@given(st.integers(1, 50), st.text(min_size=1, max_size=20))
def test_every_key_has_one_shard_that_covers_it(shards: int, key: str) -> None:
    state = stream(shards)
    try:
        wanted = hash_key(key)
    except UnicodeEncodeError:
        return
    covering = [shard.index for shard in state.shards.values() if wanted in shard.hash_key_range]
    assert covering == [state.route(PutEntry(key, b""))] == [state.route(PutEntry(key, b""))]


@given(st.integers(0, KEY_SPACE - 1))
def test_an_explicit_hash_key_replaces_the_md5(key: int) -> None:
    state = stream(7)
    assert key in state.shards[state.route(PutEntry("any", b"", key))].hash_key_range


def test_reads_end_at_what_is_readable() -> None:
    shard = stream().shards[0]
    assert shard.append([20, 50, 90], ["k"] * 3, [b"x"] * 3) == 1
    assert shard.read(0, 10, 1000) == []
    shard.readable = 2
    assert numbers(shard.read(0, 10, 1000)) == [1, 2]
    assert numbers(shard.read(1, 10, 1000)) == [2]
    assert numbers(shard.read(0, 1, 1000)) == [1]
    assert shard.first_at(50) == (2, 50)
    assert shard.first_at(51) is None, "the third is not readable yet"
    assert shard.first_at(91) is None
    shard.move_out(2)
    assert (shard.data, shard.moved_to, shard.last_number) == ([b"x"], 2, 3)
    shard.readable = 3
    assert shard.read(2, 10, 1000) == [StoredRecord(3, 90, "k", b"x")]


def test_what_is_trimmed_stays_so() -> None:
    shard = stream().shards[0]
    shard.append([20, 50, 90], ["k"] * 3, [b"x"] * 3)
    shard.readable = 3
    shard.trim(2)
    shard.trim(1)
    assert (shard.trimmed_to, shard.moved_to, shard.describe().trim_horizon) == (2, 2, 2)
    assert numbers(shard.read(2, 10, 1000)) == [3]


def test_old_records_in_memory_go_in_one_go_and_only_if_nothing_older_is_elsewhere() -> None:
    shard = stream().shards[0]
    shard.append([20, 50, 90], ["k"] * 3, [b"x"] * 3)
    shard.readable = 3
    shard.forget_older(60, 40)
    assert shard.trimmed_to == 0, "it is worth it only after a while"
    shard.forget_older(61, 40)
    assert shard.trimmed_to == 2
    shard.move_out(3)
    shard.append([95], ["k"], [b"x"])
    shard.forget_older(1000, 0)
    assert shard.trimmed_to == 2, "one that is younger than this may be in colder storage"


@pytest.mark.parametrize(
    ("sizes", "limit", "kept"), [([5, 5, 5], 15, 3), ([5, 5, 5], 14, 2), ([50, 5], 10, 1), ([5, 50], 10, 1), ([], 1, 0)]
)
def test_at_least_one_record_is_returned_however_large(sizes: list[int], limit: int, kept: int) -> None:
    assert count_within([b"x" * size for size in sizes], limit) == kept


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
        stream(2, Limits.aws()).check(entries)


def test_a_key_counts_by_its_bytes_and_its_length_by_characters() -> None:
    state = stream(2, Limits.aws())
    state.check([PutEntry("é" * 256, b"x" * (1024 * 1024 - 512))])
    with pytest.raises(ValidationError, match="1,048,577 bytes"):
        state.check([PutEntry("é" * 256, b"x" * (1024 * 1024 - 511))])

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.streams.keyspace import KEY_SPACE, HashKeyRange, even_ranges, hash_key, shard_id_of


@pytest.mark.parametrize(
    ("partition_key", "expected"),
    [
        # The value of the Kinesis specification.
        ("a", 16955237001963240173058271559858726497),
        ("", 0xD41D8CD98F00B204E9800998ECF8427E),
        ("é", 0x66DDCD97CFDEABB2F6FB8A999B4BC76F),
    ],
)
def test_the_hash_key_is_the_md5_of_the_keys_utf8_bytes(partition_key: str, expected: int) -> None:
    assert hash_key(partition_key) == expected


def test_ranges_are_inclusive_at_both_ends() -> None:
    keys = HashKeyRange(10, 20)
    assert 10 in keys
    assert 20 in keys
    assert 9 not in keys
    assert 21 not in keys


@given(st.integers(1, 500), st.integers(0, KEY_SPACE - 1))
def test_every_hash_key_is_in_exactly_one_range(count: int, key: int) -> None:
    ranges = even_ranges(count)
    assert len(ranges) == count
    assert sum(key in keys for keys in ranges) == 1


@given(st.integers(1, 10_000))
def test_ranges_have_no_gap_and_the_remainder_is_in_the_last(count: int) -> None:
    ranges = even_ranges(count)
    width = KEY_SPACE // count
    assert (ranges[0].start, ranges[-1].end) == (0, KEY_SPACE - 1)
    assert all(below.end + 1 == above.start for below, above in pairwise(ranges))
    assert {keys.end - keys.start + 1 for keys in ranges[:-1]} <= {width}
    assert ranges[-1].end - ranges[-1].start + 1 == width + KEY_SPACE % count


def test_shard_ids_have_twelve_digits() -> None:
    assert shard_id_of(0) == "shardId-000000000000"
    assert shard_id_of(9_999) == "shardId-000000009999"

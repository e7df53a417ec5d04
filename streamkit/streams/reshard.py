"""What a split, a merge and a new number of shards come to: pure.

Follows the Kinesis Data Streams API Reference (SplitShard, MergeShards, UpdateShardCount).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from streamkit.errors import ValidationError
from streamkit.streams.keyspace import HashKeyRange, even_ranges
from streamkit.streams.store import Merge, ShardDescription, Split

_SAME = 2
"""Ranges of 9 and of 3 shards begin a key apart where they should be one, and no shard splits so close to its edge."""


def split_range(shard_id: str, whole: HashKeyRange, new_start: int) -> list[HashKeyRange]:
    """The ranges of the two children: up to before ``new_start``, and from it on.

    Raises:
        ValidationError: one of them would be empty.
    """
    # AWS: not at the second key of the range either, nor at its last.
    if not isinstance(new_start, int) or not whole.start + 1 < new_start < whole.end:
        raise ValidationError(
            f"new_starting_hash_key {new_start} does not split {shard_id}: "
            f"use one greater than {whole.start + 1} and less than {whole.end}"
        )
    return [HashKeyRange(whole.start, new_start - 1), HashKeyRange(new_start, whole.end)]


def merged_range(lower_id: str, lower: HashKeyRange, upper_id: str, upper: HashKeyRange) -> HashKeyRange:
    """The range of the child.

    Raises:
        ValidationError: the upper range does not begin where the lower one ends.
    """
    if lower.end + 1 != upper.start:
        raise ValidationError(
            f"{lower_id} and {upper_id} cannot be merged: the range of {upper_id} begins at {upper.start} and that of "
            f"{lower_id} ends at {lower.end}; name the lower of two adjacent shards first"
        )
    return HashKeyRange(lower.start, upper.end)


def middle(whole: HashKeyRange) -> int | None:
    """The key that splits a range in halves; None: it is too narrow."""
    key = (whole.start + whole.end) // 2 + 1
    return key if whole.start + 1 < key < whole.end else None


def next_step(open_shards: Sequence[ShardDescription], count: int) -> Split | Merge | None:
    """The next step on the way to ``count`` open shards of equal width; None: they are as they should be.

    Splits come first, where a range of the new ones begins inside a shard; then neighbours that belong to one range
    merge. It looks at nothing but the open shards, so whoever was interrupted goes on by asking again.
    """
    if not isinstance(count, int) or count < 1:
        raise ValidationError(f"a stream has at least 1 shard, not {count}")
    shards = sorted(open_shards, key=lambda shard: shard.hash_key_range.start)
    starts = [shard.hash_key_range.start for shard in shards]
    boundaries: set[int] = set()
    for keys in even_ranges(count):
        place = bisect_right(starts, keys.start + _SAME) - 1
        if abs(starts[place] - keys.start) <= _SAME:
            boundaries.add(starts[place])
        elif shards[place].hash_key_range.end + 1 - keys.start > _SAME:
            return Split(shards[place].shard_id, keys.start)
    for lower, upper in pairwise(shards):
        if upper.hash_key_range.start not in boundaries:
            return Merge(lower.shard_id, upper.shard_id)
    return None

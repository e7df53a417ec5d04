"""Partition keys to hash keys to shard ranges to sequence numbers: pure.

Follows the Kinesis Data Streams API Reference (HashKeyRange, PutRecord): the hash key of a record is the MD5 of its
partition key's UTF-8 bytes as an unsigned big-endian 128-bit integer.
"""

from __future__ import annotations

from hashlib import md5

import msgspec

KEY_SPACE = 2**128

SHARD_NUMBERS = 10**14
"""How many sequence numbers a shard has: shard ``i`` has those after ``i * SHARD_NUMBERS``, given without a gap.

So numbers are unique in a stream, a child's are greater than its parents', a difference within a shard is a count of
records, and a reader of logs sees the shard in the number. A shard that takes 100,000 records a second has numbers for
31 years, and 64 bits have room for 92,000 shards in a stream's life.
"""
MOST_SHARD_INDEX = 2**63 // SHARD_NUMBERS - 1


class HashKeyRange(msgspec.Struct, frozen=True):
    """Hash keys from ``start`` to ``end``, both included."""

    start: int
    end: int

    def __contains__(self, key: int) -> bool:
        return self.start <= key <= self.end


def hash_key(partition_key: str) -> int:
    """The MD5 of the key as an integer below 2**128."""
    return int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


def even_ranges(count: int) -> list[HashKeyRange]:
    """The ranges of ``count`` fresh shards: equal widths, the remainder in the last."""
    width = KEY_SPACE // count
    return [
        HashKeyRange(width * index, KEY_SPACE - 1 if index == count - 1 else width * (index + 1) - 1)
        for index in range(count)
    ]


def shard_id_of(index: int) -> str:
    """``shardId-`` and twelve digits."""
    return f"shardId-{index:012d}"

"""Partition keys to hash keys to shard ranges: pure.

Follows the Kinesis Data Streams API Reference (HashKeyRange, PutRecord): the hash key of a record is the MD5 of its
partition key's UTF-8 bytes as an unsigned big-endian 128-bit integer.
"""

from __future__ import annotations

from hashlib import md5

import msgspec

KEY_SPACE = 2**128


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

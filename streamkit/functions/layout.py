"""How a shard is divided into lanes, and how far each lane is. Pure; kept in the shard's lease.

Everything a mapping keeps of a shard is in one item: the lease with its checkpoint, which all lanes are past, and a
checkpoint of its own for each lane. So every commit of a lane is fenced by the lease, and a change of the number of
lanes is one write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec

_LANES = "lanes"


def lane_of(partition_key: str, lanes: int) -> int:
    """Which lane has the records of this key. Independent of the hash that chose the shard, and the same for ever."""
    return crc32(partition_key.encode()) % lanes


def attribute_of(lane: int) -> str:
    """Where the lane's own checkpoint is kept."""
    return f"lane-{lane}"


class Layout(msgspec.Struct, frozen=True):
    """The lanes of a shard as they are stored."""

    checkpoint: int
    """Every lane is past this number."""
    lanes: int = 1
    own: tuple[int, ...] = (0,)
    """How far each lane is; at least ``checkpoint``."""

    @classmethod
    def of_item(cls, item: Mapping[str, Any]) -> Layout:
        """As the lease's item has it; the lease of an ordinary consumer has one lane."""
        checkpoint = item.get("checkpoint", 0)
        lanes = item.get(_LANES, 1)
        return cls(checkpoint, lanes, tuple(max(checkpoint, item.get(attribute_of(lane), 0)) for lane in range(lanes)))

    @property
    def furthest(self) -> int:
        """Where the lane is that is furthest."""
        return max(self.own)

    def switched(self, lanes: int) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Attributes to set and to remove, so that there are so many lanes, all of them where the furthest was."""
        removed = tuple(attribute_of(lane) for lane in range(self.lanes)) if self.lanes > 1 else ()
        return {"checkpoint": self.furthest, _LANES: lanes}, removed

"""How many capacity units a call consumes, and whether a provisioned table has them. Pure, with the time passed in.

Follows "DynamoDB read and write operations" and "Burst and adaptive capacity" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

BURST_SECONDS = 300
"""What was not used for this long can be used at once."""
_READ_BYTES, _WRITE_BYTES = 4096, 1024


def read_units(size: int, *, consistent: bool = True, transactional: bool = False) -> float:
    """Units of reading ``size`` bytes: an item (0: there was none), or all items of a page together."""
    units = max(1, math.ceil(size / _READ_BYTES))
    if transactional:
        return units * 2.0
    return float(units) if consistent else units / 2


def write_units(before: int | None, after: int | None, *, transactional: bool = False) -> float:
    """Units of a put, update or delete that makes an item of ``before`` bytes one of ``after``; None: no item.

    Also of a condition that was false or only checked, with what is there as ``before``.
    """
    units = max(1, math.ceil(max(before or 0, after or 0) / _WRITE_BYTES))
    return units * (2.0 if transactional else 1.0)


def index_write_units(before: tuple[object, int] | None, after: tuple[object, int] | None, *, same: bool) -> float:
    """Units that a write costs in one index; an entry is its key and its size.

    Nothing if no projected attribute changes (``same``); one write if an entry comes, goes or changes; two if its key
    changes.
    """
    if same or (before is None and after is None):
        return 0.0
    if before is None or after is None or before[0] == after[0]:
        return write_units(before and before[1], after and after[1])
    return write_units(before[1], None) + write_units(None, after[1])


class Bucket:
    """Capacity of so many units per second. What is not used stays for 300 seconds.

    More than it can ever hold is let through when it is full, and leaves a debt.
    """

    __slots__ = ("_at_ms", "_level", "rate")

    def __init__(self, rate: float, now_ms: int) -> None:
        self.rate = rate
        self._level = rate
        self._at_ms = now_ms

    def wait_for(self, units: float, now_ms: int) -> float:
        """Seconds until ``units`` could be taken; 0: now."""
        # A clock that was set back must not take away what was there.
        passed = max(0, now_ms - self._at_ms) / 1000
        most = self.rate * BURST_SECONDS
        self._level = min(most, self._level + passed * self.rate)
        self._at_ms = now_ms
        return max(0.0, (min(units, most) - self._level) / self.rate)

    def take(self, units: float) -> None:
        """Take them, also when that leaves a debt: what a read costs is known when it was read."""
        self._level -= units


class Meter:
    """The buckets of one provisioned table, and of reading each of its global indexes, which have as much as it."""

    def __init__(self, read: float, write: float, indexes: Iterable[str], now_ms: int) -> None:
        self.write = Bucket(write, now_ms)
        self.read: dict[str | None, Bucket] = {name: Bucket(read, now_ms) for name in (None, *indexes)}

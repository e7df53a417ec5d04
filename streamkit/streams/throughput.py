"""How much a shard may take and give, and when it is so busy that it should split: pure, with the time passed in.

Follows the Kinesis Data Streams Developer Guide ("Quotas and limits", "On-demand mode").
"""

from __future__ import annotations

from collections import deque

from streamkit.limits import Limits

_HOT_SECONDS = 3
_LOOK_BACK_SECONDS = 10


class Bucket:
    """A token bucket that holds one second's worth. What is larger than it fits into a full one, and leaves a debt."""

    __slots__ = ("_at_ms", "_level", "rate")

    def __init__(self, rate: float, now_ms: int) -> None:
        self.rate = rate
        self._level = rate
        self._at_ms = now_ms

    def wait_for(self, amount: float, now_ms: int) -> float:
        """Seconds until ``amount`` could be taken; 0: now."""
        # A clock that was set back must not take away what was there.
        passed = max(0, now_ms - self._at_ms) / 1000
        self._level = min(self.rate, self._level + passed * self.rate)
        self._at_ms = now_ms
        return max(0.0, (min(amount, self.rate) - self._level) / self.rate)

    def take(self, amount: float) -> None:
        """Take it, also when that leaves a debt."""
        self._level -= amount


class ShardMeter:
    """The limits of one shard. Buckets that have no limit are not there."""

    __slots__ = ("_get_bytes", "_get_calls", "_put_bytes", "_put_records")

    def __init__(self, limits: Limits, now_ms: int) -> None:
        def bucket(rate: int | None) -> Bucket | None:
            return None if rate is None else Bucket(rate, now_ms)

        self._put_records = bucket(limits.shard_put_records)
        self._put_bytes = bucket(limits.shard_put_bytes)
        self._get_calls = bucket(limits.shard_get_calls)
        self._get_bytes = bucket(limits.shard_get_bytes)

    def put(self, size: int, now_ms: int) -> tuple[str, float] | None:
        """Count one record of ``size`` bytes; or the limit it is over, and the seconds until it is not."""
        records, size_of = self._put_records, self._put_bytes
        if records is not None and (wait := records.wait_for(1, now_ms)):
            return f"{records.rate:,.0f} records/s written", wait
        if size_of is not None and (wait := size_of.wait_for(size, now_ms)):
            return f"{size_of.rate:,.0f} bytes/s written", wait
        if records is not None:
            records.take(1)
        if size_of is not None:
            size_of.take(size)
        return None

    def get(self, now_ms: int) -> tuple[str, float] | None:
        """Count one read; or the limit it is over, and the seconds until it is not."""
        calls, size_of = self._get_calls, self._get_bytes
        if calls is not None and (wait := calls.wait_for(1, now_ms)):
            return f"{calls.rate:,.0f} reads/s", wait
        # AWS: an answer of 10 MiB is given at once, and closes the shard for polling readers for the next five seconds.
        if size_of is not None and (wait := size_of.wait_for(1, now_ms)):
            return f"{size_of.rate:,.0f} bytes/s read", wait
        if calls is not None:
            calls.take(1)
        return None

    def got(self, size: int) -> None:
        """Count the bytes that the read returned."""
        if self._get_bytes is not None:
            self._get_bytes.take(size)


class ShardLoad:
    """The write rate of one shard of an ON_DEMAND stream."""

    __slots__ = ("_bytes", "_hot", "_limits", "_records", "_second")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._second = 0
        self._records = 0
        self._bytes = 0
        self._hot: deque[int] = deque()

    def add(self, records: int, size: int, now_ms: int) -> bool:
        """Count what was put; whether the shard should split.

        It should when it took more than half of what a shard is made for in three of the last ten seconds: so there
        is room to double before writers are refused, as AWS promises, and a single burst splits nothing.
        """
        second = now_ms // 1000
        if second != self._second:
            self._second, self._records, self._bytes = second, 0, 0
        self._records += records
        self._bytes += size
        limits = self._limits
        if self._records * 2 <= limits.on_demand_shard_records and self._bytes * 2 <= limits.on_demand_shard_bytes:
            return False
        hot = self._hot
        if not hot or hot[-1] != second:
            hot.append(second)
        while hot[0] <= second - _LOOK_BACK_SECONDS:
            hot.popleft()
        return len(hot) >= _HOT_SECONDS

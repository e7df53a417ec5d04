"""How long records stay: where the trim horizon of a shard is, and when a closed shard is gone.

The horizon is in front of the first record that is young enough. It is looked for when somebody reads what may be too
old, when the retention changes, and before records are settled; so nothing older is ever read, and no timer is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from streamkit.clock import Clock
from streamkit.errors import NotFoundError, StorageError
from streamkit.streams.record import StoredRecord
from streamkit.streams.shard import Shard
from streamkit.streams.state import StreamState

_PRODUCER_LIFE_MS = 7 * 86_400_000
"""An idempotent producer that puts nothing for so long is forgotten, as in Kafka."""


class ColdRecords(Protocol):
    """Where a stream's records are once they left memory."""

    async def read(
        self, stream_id: int, shard: int, after: int, up_to: int, limit: int, max_bytes: int
    ) -> list[StoredRecord]:
        """Records of a shard after one number and up to another; at least one if there is one."""

    async def first_at(self, stream_id: int, shard: int, instant_ms: int) -> tuple[int, int] | None:
        """Number and arrival of the first record that arrived at or after an instant."""

    def oldest_ms(self, stream_id: int, shard: int) -> int | None:
        """When the first record arrived that is still stored, trimmed or not; None: there is none."""


class Retention:
    """Finds records by their age, and trims those that are too old."""

    def __init__(self, clock: Clock, cold: ColdRecords | None, is_there: Callable[[StreamState], bool]) -> None:
        self._clock = clock
        self._cold = cold
        self._is_there = is_there

    def cutoff_ms(self, stream: StreamState) -> int | None:
        """Records that arrived before this instant are too old; None: they stay."""
        retention_ms = stream.attributes.retention_ms
        return None if retention_ms is None else self._clock.now_ms() - retention_ms

    def is_due(self, stream: StreamState) -> bool:
        """Whether some shard has something to trim, or to expire."""
        cutoff_ms = self.cutoff_ms(stream)
        return cutoff_ms is not None and any(
            self._may_trim(stream, shard, cutoff_ms) or _has_expired(shard, cutoff_ms)
            for shard in stream.shards.values()
        )

    async def trim(self, stream: StreamState) -> None:
        """Move every shard's horizon to where it is now, and let go of closed shards that are wholly behind it."""
        stream.forget_producers(self._clock.now_ms() - _PRODUCER_LIFE_MS)
        cutoff_ms = self.cutoff_ms(stream)
        if cutoff_ms is None:
            return
        for shard in list(stream.shards.values()):
            await self.trim_shard(stream, shard, cutoff_ms)
            if _has_expired(shard, cutoff_ms) and shard.index in stream.shards:
                stream.expire(shard)

    async def trim_shard(self, stream: StreamState, shard: Shard, cutoff_ms: int) -> None:
        """Move one shard's horizon."""
        if self._may_trim(stream, shard, cutoff_ms):
            found = await self.first_at(stream, shard, cutoff_ms)
            # Nothing awaits since the newest records were looked at, so those that are readable are too old.
            shard.trim(shard.readable if found is None else found[0] - 1)

    def _may_trim(self, stream: StreamState, shard: Shard, cutoff_ms: int) -> bool:
        oldest_ms = None
        if self._cold is not None and shard.trimmed_to < shard.moved_to:
            oldest_ms = self._cold.oldest_ms(stream.stream_id, shard.index)
        if oldest_ms is None:
            if not shard.arrivals_ms or shard.readable <= shard.moved_to:
                return False
            oldest_ms = shard.arrivals_ms[0]
        return oldest_ms < cutoff_ms

    async def first_at(self, stream: StreamState, shard: Shard, instant_ms: int) -> tuple[int, int] | None:
        """Number and arrival of the first record that arrived at or after an instant; None: there is none."""
        looked_to = shard.trimmed_to
        while looked_to < shard.moved_to and self._cold is not None:
            looked_to = shard.moved_to
            with self.still_there(stream):
                found = await self._cold.first_at(stream.stream_id, shard.index, instant_ms)
            if found is not None:
                return found
        return shard.first_at(instant_ms)

    @contextmanager
    def still_there(self, stream: StreamState) -> Iterator[None]:
        """A read whose stream is deleted meanwhile may find its files gone, and that is no damage."""
        try:
            yield
        except StorageError:
            if not self._is_there(stream):
                raise NotFoundError("stream", stream.name, "it was deleted while it was read") from None
            raise


def _has_expired(shard: Shard, cutoff_ms: int) -> bool:
    return (
        shard.ended
        and shard.closed_ms is not None
        and shard.closed_ms < cutoff_ms
        and (shard.trimmed_to >= shard.last_number)
    )

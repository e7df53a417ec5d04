"""What a lane reads its records from: a shard, or its part of one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from streamkit.errors import ThroughputExceededError
from streamkit.functions.tally import Ports, Tally
from streamkit.service import Stop
from streamkit.streams.lease import Lease
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import StoredRecord
from streamkit.streams.stream_metrics import GetMetrics

logger = logging.getLogger("streamkit.functions")

READ_LIMIT = 10_000


class Source(Protocol):
    """Records of one lane, in order."""

    @property
    def position(self) -> int:
        """Every record of the lane up to this number was returned."""

    @property
    def at_end(self) -> bool:
        """There will be no more."""

    async def read(self, wait_ms: int, stop: Stop) -> Sequence[StoredRecord]:
        """The next records, waiting for the first at most so long, or until a stop. May be none at any time."""


class WholeShard:
    """All records of a shard after a number."""

    def __init__(self, name: str, lease: Lease, after: int, ports: Ports, tally: Tally) -> None:
        self.position = after
        self.caught_up = False
        """The last read found nothing, and there was nothing more."""
        self._name = name
        self._lease = lease
        self._tally = tally
        self._reader = ShardReader(
            ports.streams,
            lease.stream,
            lease.shard_id,
            "AFTER_SEQUENCE_NUMBER",
            sequence_number=after,
            stream_id=lease.stream_id,
            metrics=GetMetrics(lease.stream, ports.clock, ports.metrics),
        )

    @property
    def at_end(self) -> bool:
        """See Source."""
        return self._reader.at_end

    async def read(self, wait_ms: int, stop: Stop) -> Sequence[StoredRecord]:
        """See Source."""
        self.caught_up = False
        with stop.interruptible(), contextlib.suppress(ThroughputExceededError):
            answer = await self._reader.read(READ_LIMIT, wait_ms)
            self.position = self._reader.sequence_number
            self.caught_up = not answer.records and (self.at_end or answer.millis_behind_latest == 0)
            if answer.trimmed:
                logger.warning(
                    "mapping %s missed %d records of %s: the retention of %s took them before they were read",
                    self._name,
                    answer.trimmed,
                    self._lease.shard_id,
                    self._lease.stream,
                    extra={"mapping": self._name, "stream": self._lease.stream, "shard": self._lease.shard_id},
                )
                self._tally.publish("RecordsTrimmed", answer.trimmed)
            return answer.records
        return ()


class Behind:
    """One lane's records of a shard up to a number that others have reached, read alone."""

    def __init__(self, shard: WholeShard, mine: Callable[[StoredRecord], bool], end: Callable[[], int]) -> None:
        self.position = shard.position
        self._shard = shard
        self._mine = mine
        self._end = end

    @property
    def at_end(self) -> bool:
        """See Source."""
        return self.position >= self._end()

    async def read(self, wait_ms: int, stop: Stop) -> Sequence[StoredRecord]:
        """See Source. Never waits: it is behind."""
        if self.at_end:
            return ()
        found = await self._shard.read(0, stop)
        end = self._end()
        # Retention may have taken all that was left.
        self.position = end if self._shard.caught_up else min(self._shard.position, end)
        return [record for record in found if record.sequence_number <= end and self._mine(record)]

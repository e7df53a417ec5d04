"""What tests of stored metrics share: a table whose writes fail on demand, and a kit's metrics that end and begin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import DiskFullError
from streamkit.limits import Limits
from streamkit.metrics.buckets import Row, samples_of
from streamkit.metrics.datum import MetricDatum
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import RESOLUTIONS
from streamkit.metrics.window import Metrics
from streamkit.monitoring.layout import METRICS
from streamkit.monitoring.stored import StoredMetrics
from streamkit.tables.item import Item
from streamkit.tables.store import TableStore
from streamkit.tables.write import Write
from streamkit.testing.clock import ManualClock

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
START = 1_700_000_000_000 // HOUR * HOUR
SENT = Metric.of("AWS/SQS", "NumberOfMessagesSent", QueueName="orders")
AGE = Metric.of("AWS/SQS", "ApproximateAgeOfOldestMessage", QueueName="orders")

Known = dict[int, tuple[int, float, float, float, Any]]
"""By start: count, sum, minimum, maximum and values."""


class FailingTables:
    """A table port in front of another: its next writes or reads fail, and before or after they happen."""

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables
        self.writes = 0
        self.before: list[BaseException] = []
        """What the next writes raise without happening."""
        self.after: list[BaseException] = []
        """What the next writes raise when they have happened."""
        self.reads: list[BaseException] = []
        """What the next reads by key raise."""
        self.hold: asyncio.Event | None = None
        """What writes wait for before they are answered, when they have happened."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def write(self, writes: Sequence[Write], client_request_token: str | None = None) -> list[Item | None]:
        self.writes += 1
        assert len(writes) <= 100
        if self.before:
            raise self.before.pop()
        answer = await self._tables.write(writes, client_request_token)
        if self.hold is not None:
            await self.hold.wait()
        if self.after:
            raise self.after.pop()
        return answer

    async def get(self, name: str, keys: Sequence[Mapping[str, Any]]) -> list[Item | None]:
        if self.reads:
            raise self.reads.pop()
        return await self._tables.get(name, keys)

    async def everything(self) -> list[Item]:
        return (await self._tables.scan(METRICS.name, limit=100_000)).items


def put_late(metrics: Metrics, metric: Metric, value: float, count: int, *, now_ms: int, ago_ms: int) -> None:
    """As a late datum of a second, or ahead of the time as if it were that."""
    if ago_ms <= 0:
        metrics.put(metric, value, now_ms - ago_ms, count)
    else:
        late = MetricDatum(metric, values=(value,), counts=(count,), timestamp_ms=now_ms - ago_ms, storage_resolution=1)
        metrics.put_data([late], now_ms)


class Process:
    """The metrics of one kit at a time, over tables that outlive it."""

    def __init__(self, clock: ManualClock | None = None, **options: Any) -> None:
        self.clock = clock or ManualClock(START)
        self.engine = MemoryEngine(self.clock, Limits.aws())
        self.tables = FailingTables(self.engine.tables)
        self.options = options
        self.begin()

    def begin(self) -> None:
        """Another kit, which has what was stored."""
        self.metrics = Metrics(**self.options)
        self.stored = StoredMetrics(self.metrics, self.tables, self.clock)

    def put(self, value: float, *, ago_ms: int = 0, metric: Metric = SENT, count: int = 1) -> None:
        put_late(self.metrics, metric, value, count, now_ms=self.clock.now_ms(), ago_ms=ago_ms)

    async def flush(self) -> bool:
        return await self.stored.flush(self.clock.now_ms() // MINUTE * MINUTE)

    async def flush_all(self) -> bool:
        return await self.stored.flush(self.clock.now_ms() // MINUTE * MINUTE + MINUTE)

    async def roll_up(self) -> None:
        while await self.stored.roll_up():
            pass

    async def known(self, resolution: int, metric: Metric = SENT) -> Known:
        span = self.clock.now_ms() - RESOLUTIONS[resolution].kept_ms, self.clock.now_ms() + DAY
        return known(await self.stored.rows(metric, "None", resolution, span))


def known(rows: Sequence[Row]) -> Known:
    """Rows as they compare."""
    found: Known = {}
    for row in rows:
        values = samples_of(row).values()
        found[row[0]] = (*row[1:5], tuple((float(value), count) for value, count in values or ()))
    return found


def in_memory(metrics: Metrics, resolution: int, metric: Metric = SENT) -> Known:
    """What a reader of memory finds."""
    found: Known = {}
    for start, samples in metrics.samples(metric, 0, START + 1000 * DAY, RESOLUTIONS[resolution].width_ms):
        values = tuple((float(value), count) for value, count in samples.values() or ())
        found[start] = (samples.count, samples.sum, samples.minimum, samples.maximum, values)
    return found


def full() -> DiskFullError:
    return DiskFullError("no room")

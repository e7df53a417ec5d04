"""What publishing metrics costs those who put, send, read and receive; and what a scrape of very many costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.measure import Figure, Figures, Lane, Setting, Target, Workload, verify
from streamkit import Limits
from streamkit.clock import SystemClock
from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import Column, Rows
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.monitoring.scrape import Scraper
from streamkit.queues.message import QueueAttributes
from streamkit.queues.queue import Queue
from streamkit.streams.store import StreamAttributes
from streamkit.streams.stream import Stream

_BODY = b"x" * 100
_PIECE_SECONDS = 0.002
"""Of each side in turn, so that both meet the same noise."""


class _SilentRows(Rows):
    """Takes rows and forgets them."""

    __slots__ = ()

    def add(self, row: Any, now_ms: int) -> None:
        return None


class _Silent(Metrics):
    """Metrics whose puts do nothing."""

    def put(self, metric: Metric, value: float, now_ms: int, count: int = 1, unit: Unit = "None") -> None:
        return None

    def rows(self, *columns: Column) -> Rows:
        return _SilentRows(self, columns)


class _CountingRows(Rows):
    __slots__ = ()

    def add(self, row: Any, now_ms: int) -> None:
        assert isinstance(self._keeper, _Counting)
        self._keeper.updates += 1
        super().add(row, now_ms)


class _Counting(Metrics):
    """Metrics that count how often they are told something."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0

    def put(self, metric: Metric, value: float, now_ms: int, count: int = 1, unit: Unit = "None") -> None:
        self.updates += 1
        super().put(metric, value, now_ms, count, unit)

    def rows(self, *columns: Column) -> Rows:
        return _CountingRows(self, columns)


Step = Callable[[], Awaitable[int]]
"""One batch; answers how many records or messages it had."""
Maker = Callable[[MemoryEngine, SystemClock, Metrics, str], Awaitable[Step]]


async def _stream(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Stream[bytes]:
    await engine.streams.create_stream(name, 1, StreamAttributes(retention_ms=1_000))
    return Stream(name, Codec(bytes), engine.streams, engine.tables, clock, metrics)


async def _queue(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Queue[bytes]:
    await engine.queues.create_queue(name, QueueAttributes())
    return Queue(name, Codec(bytes), engine.queues, clock, metrics)


async def _put(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Step:
    stream = await _stream(engine, clock, metrics, name)

    async def step() -> int:
        await stream.put(_BODY, partition_key="k")
        return 1

    return step


async def _put_batch(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Step:
    stream = await _stream(engine, clock, metrics, name)
    pairs = [("k", _BODY)] * 100

    async def step() -> int:
        return len(await stream.put_batch(pairs))

    return step


async def _get(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Step:
    stream = await _stream(engine, clock, Metrics(), name)
    await stream.put_batch([("k", _BODY)] * 500)
    watched: Stream[bytes] = Stream(name, Codec(bytes), engine.streams, engine.tables, clock, metrics)
    look = watched._look
    shard = (await stream.describe()).shards[0].shard_id

    async def step() -> int:
        return len((await look.reader(shard, 0).read(500, 1)).records)

    return step


async def _send_batch(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Step:
    queue = await _queue(engine, clock, metrics, name)

    async def step() -> int:
        return len(await queue.send_batch([_BODY] * 10))

    return step


async def _receive(engine: MemoryEngine, clock: SystemClock, metrics: Metrics, name: str) -> Step:
    queue = await _queue(engine, clock, metrics, name)
    unwatched: Queue[bytes] = Queue(name, Codec(bytes), engine.queues, clock, Metrics())
    await unwatched.send_batch([_BODY] * 10)

    async def step() -> int:
        # Visible again at once, so that every receive finds the same.
        return len(await queue.receive(10, visibility_timeout=0))

    return step


_STEPS: dict[str, tuple[Maker, str]] = {
    "put": (_put, "PutRecord.Success"),
    "put_batch of 100": (_put_batch, "IncomingRecords"),
    "get of 500": (_get, "GetRecords.Records"),
    "send_batch of 10": (_send_batch, "NumberOfMessagesSent"),
    "receive of 10": (_receive, "NumberOfMessagesReceived"),
}
UPDATES = 1
"""Of each batch, as docs/metrics.md says."""


async def _timed(step: Step, times: int) -> tuple[float, int]:
    count = 0
    started = time.perf_counter()
    for _ in range(times):
        count += await step()
    return time.perf_counter() - started, count


async def _cost(setting: Setting) -> Figures:
    figures: dict[str, Figure] = {}
    for name, (maker, counter) in _STEPS.items():
        clock = SystemClock()
        engine = MemoryEngine(clock, Limits.relaxed())
        metrics, silent, counting = Metrics(), _Silent(), _Counting()
        with_, without, counted = [
            await maker(engine, clock, each, f"bench-{at}") for at, each in enumerate((metrics, silent, counting))
        ]
        # What is counted is what is published, by one update each.
        batches = setting.sized(1_000, 20)
        _, count = await _timed(counted, batches)
        verify(counting.updates <= UPDATES * batches, f"{name}: {counting.updates} updates for {batches} batches")
        verify(_published(counting, counter) == count, f"{name}: {counter} does not say {count}")
        verify(not silent.list_metrics(), "silent metrics were told something")
        seconds, _ = await _timed(with_, setting.sized(200, 2))
        times = max(1, round(_PIECE_SECONDS / seconds * setting.sized(200, 2)))
        spent = [0.0, 0.0]
        for at in range(setting.sized(400, 2)):
            for side in (0, 1) if at % 2 else (1, 0):
                seconds, _ = await _timed((with_, without)[side], times)
                spent[side] += seconds
        figures[f"{name}: with metrics, of without"] = Figure(spent[0] / spent[1], "x")
        figures[f"{name}: updates"] = Figure(counting.updates / batches, "per batch")
        await engine.aclose()
    return figures


def _published(metrics: Metrics, name: str) -> float:
    totals = [metrics.total(each) for each in metrics.list_metrics() if each.name == name]
    return sum(total.sum for total in totals if total is not None)


# ---- scrapes

_SERIES: tuple[tuple[str, Unit], ...] = (
    ("IncomingRecords", "Count"),
    ("IncomingBytes", "Bytes"),
    ("PutRecords.Latency", "Milliseconds"),
    ("PutRecords.Success", "Count"),
    ("GetRecords.Records", "Count"),
    ("GetRecords.IteratorAgeMilliseconds", "Milliseconds"),
)


async def _scrapes(setting: Setting) -> Figures:
    streams = setting.sized(10_000, 20)
    metrics, clock = Metrics(max_series=streams * len(_SERIES), max_bytes=2**30), SystemClock()
    rows = [
        metrics.rows(
            *(Column(Metric.of("AWS/Kinesis", name, StreamName=f"stream-{at}"), unit) for name, unit in _SERIES)
        )
        for at in range(streams)
    ]
    for each in rows:
        each.add((1, 2, 3, 1, 5, 6), clock.now_ms())
    metrics.spread()
    scraper = Scraper(metrics, clock)
    seconds: list[float] = []
    for done in range(2, 7):
        for each in rows:
            each.add((1, 2, 3, 1, 5, 6), clock.now_ms())
        started = time.process_time()
        answer = await scraper.answer("GET", {})
        seconds.append(time.process_time() - started)
        lines = answer.body.decode().splitlines()
        told = [line for line in lines if line.startswith("aws_kinesis_incoming_records_total{")]
        verify(len(told) == streams, f"{len(told)} of {streams} streams are told")
        verify(all(line.endswith(f" {done}.0") for line in told), "a counter does not say what was put")
        verify("streamkit_prometheus_series_dropped 0" in lines, "series were left out")
    turns, longest = asyncio.create_task(_longest_turn()), 0.0
    await scraper.answer("GET", {})
    turns.cancel()
    longest = await turns
    seconds[1:] = sorted(seconds[1:])
    return {
        _FIRST: Figure(seconds[0], "s"),
        _LATER: Figure(seconds[len(seconds) // 2], "s"),
        "longest turn": Figure(longest * 1000, "ms"),
    }


async def _longest_turn() -> float:
    longest, last = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


_FIRST, _LATER = "the first scrape", "a later one"
PUBLISHING = (
    Workload(
        "publishing",
        "a call with metrics in relation to one whose metrics do nothing, in memory; and what it tells them",
        [Lane(_cost, "")],
    ),
    Workload(
        "scrape",
        "Prometheus scrapes 10,000 streams of six series: CPU, and how long others on the loop wait for a turn",
        [Lane(_scrapes, "")],
        [Target(_FIRST, at_most=1.0, ratio=False), Target(_LATER, at_most=1.0, ratio=False)],
    ),
)

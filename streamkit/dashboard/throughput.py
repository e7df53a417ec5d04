"""How much was put into streams lately, period by period, for a small plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streamkit.clock import to_datetime
from streamkit.kit import Kit
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.streams.stream_metrics import stream_metric

PERIODS = 60
"""Of a plot."""
OWN_PERIOD = 5
"""Seconds, in the process that puts: five minutes in all."""
STORED_PERIOD = 60
"""Seconds, of what an owner stores once a minute: an hour in all."""


class Throughput(msgspec.Struct, frozen=True):
    """Of one stream, per second; the oldest period first, and those without a record 0."""

    period: int
    """Seconds."""
    start_ms: int
    records: list[float]
    bytes: list[float]


async def throughput(kit: Kit, streams: Iterable[str]) -> Mapping[str, Throughput]:
    """Of each of these streams, in periods that are over."""
    looks_on = kit.engine.tables.session is None
    period_ms = (STORED_PERIOD if looks_on else OWN_PERIOD) * 1000
    end_ms = kit.clock.now_ms() // period_ms * period_ms
    start_ms = end_ms - PERIODS * period_ms

    async def rates(stream: str, name: str) -> list[float]:
        metric = stream_metric(stream, name)
        if looks_on:
            span = to_datetime(start_ms), to_datetime(end_ms)
            stored = await kit.metrics.statistics(metric, *span, period_ms / 1000)
            found = [(round(start.timestamp() * 1000), each) for start, each in stored]
        else:
            # What was put since the kit was opened, which is in memory.
            found = list(kit.metrics.raw.statistics(metric, start_ms, end_ms, period_ms))
        return filled(found, start_ms, period_ms)

    return {
        stream: Throughput(
            period_ms // 1000, start_ms, await rates(stream, "IncomingRecords"), await rates(stream, "IncomingBytes")
        )
        for stream in streams
    }


def filled(found: Sequence[tuple[int, StatisticSet]], start_ms: int, period_ms: int) -> list[float]:
    """One value for each period of a plot, per second."""
    values = [0.0] * PERIODS
    for period_start, each in found:
        at = (period_start - start_ms) // period_ms
        if 0 <= at < PERIODS:
            values[at] = each.sum * 1000 / period_ms
    return values

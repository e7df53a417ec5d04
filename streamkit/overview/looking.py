"""Gathers an overview of what an engine holds. Takes nothing, moves nothing, and makes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from streamkit.alarms.history_store import StoredHistory
from streamkit.clock import Clock, to_datetime
from streamkit.engines.base import Engine
from streamkit.errors import NotFoundError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.monitoring.face import KitMetrics
from streamkit.overview.overview import Overview
from streamkit.overview.shown import AlarmShown, ConsumerShown, QueueShown, ShardShown, StreamShown, TableShown
from streamkit.queues.store import QueueDescription, QueueStore
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.lag import lag_of
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.store import ShardDescription, StreamDescription, StreamStore
from streamkit.streams.stream_metrics import stream_metric
from streamkit.tables.store import TableStore

_OWN_PERIOD = 10
_STORED_PERIOD = 60


async def streams_shown(
    streams: StreamStore, tables: TableStore, metrics: KitMetrics, clock: Clock
) -> tuple[StreamShown, ...]:
    """All streams, by name, with their consumers."""
    period = _STORED_PERIOD if tables.session is None else _OWN_PERIOD
    leases = LeaseTable(tables)
    workers = await leases.workers()
    found: list[StreamShown] = []
    for name in await streams.list_streams():
        try:
            stream = await streams.describe_stream(name)
            consumers = await _consumers(stream, workers.get((name, stream.stream_id), {}), streams, leases, clock)
        except NotFoundError:
            continue  # It was deleted meanwhile.
        found.append(
            StreamShown(
                name,
                stream.attributes.mode,
                stream.attributes.retention_ms,
                tuple(_shard(shard) for shard in stream.shards),
                consumers,
                await _rate(metrics, stream_metric(name, "IncomingRecords"), clock, period),
                await _rate(metrics, stream_metric(name, "IncomingBytes"), clock, period),
            )
        )
    return tuple(found)


async def queues_shown(queues: QueueStore, clock: Clock) -> tuple[QueueShown, ...]:
    """All queues, by name."""
    described = await queues.describe_queues()
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for queue in described:
        if queue.attributes.redrive_policy is not None:
            sources[queue.attributes.redrive_policy.dead_letter_queue].append(queue.name)
    return tuple(_queue(queue, sources.get(queue.name, ()), clock.now_ms()) for queue in described)


async def tables_shown(tables: TableStore) -> tuple[TableShown, ...]:
    """All tables, by name, streamkit's own too."""
    return tuple(
        TableShown(
            table.schema.name,
            table.schema.partition_key,
            table.schema.sort_key,
            tuple(index.name for index in table.attributes.indexes),
            table.building,
            table.attributes.ttl,
        )
        for table in await tables.describe_tables()
    )


async def stored_alarms(tables: TableStore, clock: Clock) -> tuple[AlarmShown, ...]:
    """All alarms, by name, as their owner last wrote them down."""
    states = await StoredHistory(tables, clock, Metrics()).states()
    return tuple(AlarmShown(name, each.state, each.reason, each.changed_ms) for name, each in sorted(states.items()))


async def looked_on(engine: Engine, clock: Clock) -> Overview:
    """Of an engine that only looks on, without a kit, which takes longer to load than to use."""
    metrics = KitMetrics(Metrics(), clock, engine.tables, owned=False)
    return Overview(
        engine.url,
        engine.durability,
        "looking on",
        clock.now_ms(),
        await streams_shown(engine.streams, engine.tables, metrics, clock),
        await queues_shown(engine.queues, clock),
        await tables_shown(engine.tables),
        (),
        await stored_alarms(engine.tables, clock),
        (),
    )


def _shard(shard: ShardDescription) -> ShardShown:
    keys = shard.hash_key_range
    return ShardShown(
        shard.shard_id,
        shard.is_open,
        max(0, shard.latest_sequence_number - max(shard.trim_horizon, shard.starting_sequence_number)),
        (keys.end - keys.start + 1) / KEY_SPACE,
    )


async def _consumers(
    stream: StreamDescription,
    workers: Mapping[str, Sequence[str]],
    streams: StreamStore,
    leases: LeaseTable,
    clock: Clock,
) -> tuple[ConsumerShown, ...]:
    found: list[ConsumerShown] = []
    for name in sorted(workers):
        try:
            lag = await lag_of(name, stream.name, streams, leases, clock)
        except NotFoundError as error:
            if error.kind == "stream":
                raise
            continue  # It has leases and no checkpoint yet, or they are of shards that have expired.
        found.append(ConsumerShown(name, tuple(workers[name]), lag))
    return tuple(found)


async def _rate(metrics: KitMetrics, metric: Metric, clock: Clock, period: int) -> float:
    # The period that runs is not over; and one that an owner stores is there for others some seconds later.
    end_ms = clock.now_ms() // (period * 1000) * (period * 1000)
    periods = await metrics.statistics(metric, to_datetime(end_ms - 2000 * period), to_datetime(end_ms), period)
    last = [each for start, each in periods if period == _STORED_PERIOD or start == to_datetime(end_ms - 1000 * period)]
    return last[-1].sum / period if last else 0.0


def _queue(queue: QueueDescription, sources: Sequence[str], now_ms: int) -> QueueShown:
    policy = queue.attributes.redrive_policy
    return QueueShown(
        queue.name,
        queue.attributes.fifo,
        queue.visible,
        queue.not_visible,
        queue.delayed,
        None if queue.oldest_ms is None else max(0, now_ms - queue.oldest_ms),
        None if policy is None else policy.dead_letter_queue,
        None if policy is None else policy.max_receive_count,
        tuple(sorted(sources)),
    )

"""Every quota as a value: what AWS allows, and what an embedded engine has no reason to refuse."""

from __future__ import annotations

import math

import msgspec

KIB = 1024
MIB = 1024 * KIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, counts in pieces. ``Limits.relaxed()`` is what ``streamkit.open`` uses unless told otherwise."""

    record_bytes: int
    """Data plus UTF-8 partition key of one record."""
    put_records: int
    """Entries of one ``put_records`` call."""
    put_bytes: int
    """Bytes of one ``put_records`` call, partition keys included."""
    get_records: int
    """Records of one ``get_records`` call."""
    get_bytes: int
    """Bytes of one ``get_records`` answer; a single larger record is still returned."""
    shard_put_records: int | None
    """Records a shard takes in a second; None: as many as come. So with the next three."""
    shard_put_bytes: int | None
    """Bytes a shard takes in a second, partition keys included."""
    shard_get_calls: int | None
    """Reads of a shard in a second by those who poll; reads that wait are pushed to, and not counted."""
    shard_get_bytes: int | None
    """Bytes those may read of a shard in a second."""
    open_shards: int
    """Open shards of one stream."""
    on_demand_shard_records: int
    """Records a second that a shard of an ON_DEMAND stream is made for: it splits while it takes over half of them."""
    on_demand_shard_bytes: int
    """The same in bytes."""
    on_demand_shards: int
    """Open shards that an ON_DEMAND stream makes by itself."""
    retention_seconds: tuple[float, float]
    """The shortest and the longest retention of a stream."""
    message_bytes: int
    """Body of one message."""
    send_messages: int
    """Entries of one batch of sends, deletes or visibility changes."""
    receive_messages: int
    """Messages of one receive."""
    delay_seconds: float
    """The longest delay of a message."""
    send_bytes: int
    """Bytes of one batch of sends, attributes included."""
    receive_wait_seconds: float
    """The longest that a receive waits."""
    in_flight_messages: int | None
    """Messages of one queue that may be in flight; None: any number."""
    message_retention_seconds: tuple[float, float]
    """The shortest and the longest retention of a queue."""
    message_attributes: int
    """Attributes of one message."""
    item_bytes: int
    """One table item, encoded."""
    write_actions: int
    """Writes of one atomic call."""
    read_actions: int
    """Items of one atomic read of several tables."""
    transaction_bytes: int
    """Items of one such read together."""
    metric_series: int
    """Series of metrics of a kit; samples of a further one are dropped and counted."""
    metric_bytes: int
    """What all series may take in memory before the oldest of their samples go; 1.7 KB of each stay."""

    @classmethod
    def aws(cls) -> Limits:
        """The quotas of the services themselves (Kinesis, SQS and DynamoDB developer guides, 2025)."""
        return cls(
            record_bytes=MIB,
            put_records=500,
            put_bytes=10 * MIB,
            get_records=10_000,
            get_bytes=10 * MIB,
            shard_put_records=1_000,
            shard_put_bytes=MIB,
            shard_get_calls=5,
            shard_get_bytes=2 * MIB,
            open_shards=10_000,
            on_demand_shard_records=1_000,
            on_demand_shard_bytes=MIB,
            on_demand_shards=200,
            retention_seconds=(24 * 3600, 8760 * 3600),
            message_bytes=MIB,
            send_messages=10,
            receive_messages=10,
            delay_seconds=900,
            send_bytes=MIB,
            receive_wait_seconds=20,
            in_flight_messages=120_000,
            message_retention_seconds=(60, 14 * 86_400),
            message_attributes=10,
            item_bytes=400 * KIB,
            write_actions=100,
            read_actions=100,
            transaction_bytes=4 * MIB,
            metric_series=100_000,
            metric_bytes=64 * MIB,
        )

    @classmethod
    def relaxed(cls) -> Limits:
        """Bounds that only keep one call from taking the process's memory."""
        return cls(
            record_bytes=64 * MIB,
            put_records=100_000,
            put_bytes=256 * MIB,
            get_records=100_000,
            get_bytes=64 * MIB,
            shard_put_records=None,
            shard_put_bytes=None,
            shard_get_calls=None,
            shard_get_bytes=None,
            open_shards=10_000,
            on_demand_shard_records=1_000,
            on_demand_shard_bytes=MIB,
            on_demand_shards=200,
            retention_seconds=(0.001, math.inf),
            message_bytes=64 * MIB,
            send_messages=100_000,
            receive_messages=10_000,
            delay_seconds=365 * 86_400,
            send_bytes=256 * MIB,
            receive_wait_seconds=math.inf,
            in_flight_messages=None,
            message_retention_seconds=(0.001, math.inf),
            message_attributes=1_000,
            item_bytes=16 * MIB,
            write_actions=100_000,
            read_actions=100_000,
            transaction_bytes=256 * MIB,
            metric_series=100_000,
            metric_bytes=64 * MIB,
        )

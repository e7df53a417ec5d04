"""Order and loss as results: how often each guarantee was looked at, and how often it did not hold."""

from __future__ import annotations

from benchmarks.guarantees import counters, killing, queues, streams
from benchmarks.measure import ON_DISK, SYNCED, Lane, Workload

ORDERING = (
    Workload(
        "ordering",
        "guarantees: shards and keys, many producers and consumers at once",
        [Lane(streams.per_shard, SYNCED), Lane(streams.uniform_keys, SYNCED), Lane(streams.hot_key, SYNCED)],
    ),
    Workload(
        "ordering",
        "guarantees: shards that split and merge, and workers that take each other's",
        [Lane(streams.across_reshards, SYNCED), Lane(streams.across_steals, SYNCED)],
    ),
    Workload(
        "ordering",
        "guarantees: message groups, receivers and counters under load",
        [Lane(queues.groups, SYNCED), Lane(queues.one_at_a_time, SYNCED), Lane(counters.exactly_once, SYNCED)],
    ),
    Workload(
        "ordering",
        "guarantees: a stream, its consumers and counters across kill -9",
        [Lane(killing.streams, SYNCED, engines=ON_DISK)],
    ),
    Workload(
        "ordering",
        "guarantees: message groups and receivers across kill -9",
        [Lane(killing.queues, SYNCED, engines=ON_DISK)],
    ),
)

"""What a user would pick instead, each as the shortest honest log or queue on it that syncs before it acknowledges.

A peer is given every advantage that its documentation offers; what is measured of it is verified with the same code as
streamkit. One that does not sync says so in its ``durability``.
"""

from benchmarks.peers.peer import BatchQueue, Delivery, Log, Peer, WorkQueue
from benchmarks.peers.plain_sqlite import SQLITE
from benchmarks.peers.queue_litequeue import LITEQUEUE, LITEQUEUE_SYNCED
from benchmarks.peers.queue_nats import NATS_QUEUE
from benchmarks.peers.queue_persist import PERSIST_QUEUE
from benchmarks.peers.queue_redis import REDIS_QUEUE
from benchmarks.peers.queue_sqlite import SQLITE_QUEUE
from benchmarks.peers.with_lmdb import LMDB
from benchmarks.peers.with_nats import NATS
from benchmarks.peers.with_redis import REDIS
from benchmarks.peers.with_rocksdb import ROCKSDB

__all__ = [
    "BATCH_QUEUE_PEERS",
    "LMDB",
    "NATS",
    "PEERS",
    "QUEUE_PEERS",
    "REDIS",
    "ROCKSDB",
    "SQLITE",
    "BatchQueue",
    "Delivery",
    "Log",
    "Peer",
    "WorkQueue",
]

PEERS: tuple[Peer[Log], ...] = (LMDB, ROCKSDB, SQLITE, REDIS, NATS)
BATCH_QUEUE_PEERS: tuple[Peer[BatchQueue], ...] = (SQLITE_QUEUE, REDIS_QUEUE, NATS_QUEUE)
QUEUE_PEERS: tuple[Peer[WorkQueue], ...] = (
    SQLITE_QUEUE,
    LITEQUEUE,
    LITEQUEUE_SYNCED,
    PERSIST_QUEUE,
    REDIS_QUEUE,
    NATS_QUEUE,
)

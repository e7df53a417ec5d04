"""What a user would pick instead, each as the shortest honest log on it that syncs before it acknowledges.

A peer is given every advantage that its documentation offers and a log can use; what is measured of it is verified with
the same code as streamkit.
"""

from benchmarks.peers.peer import Log, Peer
from benchmarks.peers.plain_sqlite import SQLITE
from benchmarks.peers.with_lmdb import LMDB
from benchmarks.peers.with_nats import NATS
from benchmarks.peers.with_redis import REDIS
from benchmarks.peers.with_rocksdb import ROCKSDB

__all__ = ["LMDB", "NATS", "PEERS", "REDIS", "ROCKSDB", "SQLITE", "Log", "Peer"]

PEERS = (LMDB, ROCKSDB, SQLITE, REDIS, NATS)

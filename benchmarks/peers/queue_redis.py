"""A queue on Redis lists: LPUSH, LMOVE to a list of what is in hand, LREM from there; appendfsync always.

An answer is on the disk. There is no timeout: what a receiver that died had in hand stays in that list until somebody
moves it back, and nothing says how often it came. A batch is one LPUSH of several values, or a pipeline of LMOVEs or
LREMs. A receiver that waits would be woken (BLMOVE); no workload has it wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import BatchQueue, Delivery, Peer
from benchmarks.peers.with_redis import DURABILITY, INSTALL, running

_WAITING = "waiting"
_IN_HAND = "in-hand"


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
async def _open(directory: Path) -> AsyncIterator[BatchQueue]:
    async with running(directory) as client:
        yield _RedisQueue(client)


REDIS_QUEUE = Peer("redis", DURABILITY, INSTALL, ["redis"], _open, "redis-server", share=0.5)

"""What the tests of workers share."""

from __future__ import annotations

import asyncio
from typing import Any

from streamkit.backoff import Retry
from streamkit.queues.worker import Worker
from streamkit.service import Stop

AT_ONCE = Retry(first=0, longest=0)


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Running:
    """A worker in a task."""

    def __init__(self, worker: Worker[Any]) -> None:
        self.worker = worker
        self.stop = Stop()
        self.task = asyncio.create_task(worker.run(self.stop))

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.task.cancel()  # A test that failed must not wait for a handler that nobody releases.
            await asyncio.wait([self.task])
            return
        self.stop.request()
        await self.task

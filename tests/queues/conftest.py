from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.queue import Queue
from streamkit.queues.store import QueueStore
from streamkit.testing.clock import ManualClock

MakeQueue = Callable[..., Awaitable[Queue[Any]]]


class Wire:
    """A queue store at the end of a wire: calls take a turn of the loop, and may fail or be held up on their way.

    Who gives up a call that is held up cannot call it back: ``land`` lets it arrive.
    """

    def __init__(self, store: QueueStore) -> None:
        self.fail: dict[str, Exception] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()
        self._store = store
        self._given_up: list[tuple[str, tuple[Any, ...]]] = []

    async def land(self) -> None:
        while self._given_up:
            name, args = self._given_up.pop()
            await getattr(self._store, name)(*args)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            self.calls[name] += 1
            await asyncio.sleep(0)
            if name in self.hold:
                try:
                    await self.hold[name].wait()
                except asyncio.CancelledError:
                    self._given_up.append((name, args))
                    raise
            if name in self.fail:
                raise self.fail[name]
            answer = await getattr(self._store, name)(*args)
            if name != "receive_messages":  # A cancelled receive has delivered nothing; the others may have happened.
                await asyncio.sleep(0)
            return answer

        return call


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def engine(clock: ManualClock) -> AsyncIterator[MemoryEngine]:
    engine = MemoryEngine(clock, Limits.relaxed())
    yield engine
    await engine.aclose()


@pytest.fixture
def wire(engine: MemoryEngine) -> Wire:
    return Wire(engine.queues)


@pytest.fixture
def make_queue(engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> MakeQueue:
    async def make(
        name: str = "jobs",
        *,
        type_: Any = None,
        visibility: float = 30,
        dead: str | None = None,
        tries: int = 3,
        over: Wire | None = None,
    ) -> Queue[Any]:
        policy = None if dead is None else RedrivePolicy(dead_letter_queue=dead, max_receive_count=tries)
        attributes = QueueAttributes(visibility_timeout_ms=round(visibility * 1000), redrive_policy=policy)
        await engine.queues.create_queue(name, attributes)
        store = engine.queues if over is None else cast(QueueStore, over)
        return Queue(name, Codec(type_), store, clock, metrics)

    return make

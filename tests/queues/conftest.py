from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.queue import Queue
from streamkit.testing.clock import ManualClock

MakeQueue = Callable[..., Awaitable[Queue[Any]]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def engine(clock: ManualClock) -> AsyncIterator[MemoryEngine]:
    engine = MemoryEngine(clock, Limits.relaxed())
    yield engine
    await engine.aclose()


@pytest.fixture
def make_queue(engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> MakeQueue:
    async def make(
        name: str = "jobs", *, type_: Any = None, visibility: float = 30, dead: str | None = None, tries: int = 3
    ) -> Queue[Any]:
        policy = None if dead is None else RedrivePolicy(dead_letter_queue=dead, max_receive_count=tries)
        attributes = QueueAttributes(visibility_timeout_ms=round(visibility * 1000), redrive_policy=policy)
        await engine.queues.create_queue(name, attributes)
        return Queue(name, Codec(type_), engine.queues, clock, metrics)

    return make

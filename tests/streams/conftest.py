from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.streams.stream import Stream
from streamkit.testing.clock import ManualClock

MakeStream = Callable[..., Awaitable[Stream[Any]]]


class Yielding:
    """A store whose every call waits, before and after it happens, so that it can be cancelled at both places."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            answer = await method(*args, **kwargs)
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
def yielding() -> Callable[[Any], Any]:
    return Yielding


@pytest.fixture
def make_stream(engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> MakeStream:
    async def make(
        name: str = "orders", shards: int = 1, type_: Any = None, store: Callable[[Any], Any] = lambda store: store
    ) -> Stream[Any]:
        await engine.streams.create_stream(name, shards)
        return Stream(name, Codec(type_), store(engine.streams), store(engine.tables), clock, metrics)

    return make

"""Every engine passes the contract; the file engine also after it crashed and after it was closed."""

from __future__ import annotations

import inspect
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from streamkit.clock import Clock
from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ClosedError
from streamkit.limits import KIB, MIB, Limits
from streamkit.queues.store import QueueDescription
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import EngineContract, contents
from tests.queues.windows import small_windows

SMALL = msgspec.structs.replace(
    Limits.relaxed(),
    record_bytes=64 * KIB,
    put_records=1_000,
    put_bytes=256 * KIB,
    get_records=1_000,
    get_bytes=48 * KIB,
    message_bytes=64 * KIB,
    send_messages=100,
    receive_messages=100,
    delay_seconds=3_600,
    item_bytes=64 * KIB,
    write_actions=100,
    read_actions=100,
)
"""Reaching these costs nothing, and one record may be larger than an answer."""

HALF_A_DAY = 43_200


class TestMemoryEngine(EngineContract):
    limits = SMALL

    @pytest.fixture
    async def engine(self, clock: ManualClock) -> AsyncIterator[Engine]:
        engine: Engine = MemoryEngine(clock, self.limits)
        yield engine
        await engine.aclose()


class TestMemoryEngineWithinTheLimitsOfAws(TestMemoryEngine):
    # What a shard takes in a second has tests of its own.
    limits = msgspec.structs.replace(
        Limits.aws(), shard_put_records=None, shard_put_bytes=None, shard_get_calls=None, shard_get_bytes=None
    )


class TestFileEngine(EngineContract):
    """Everything in memory and in the journal; after each test it is opened again as a crash would have left it."""

    limits = SMALL
    settle_after_bytes = 64 * MIB

    @pytest.fixture
    async def engine(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Engine]:
        engine = await self.open(tmp_path / "data", clock)
        yield engine
        before = await contents_unless_closed(engine)
        await self.check(await self.leave(engine, tmp_path), clock, before)

    async def leave(self, engine: Engine, path: Path) -> Path:
        """Take a picture of the directory, as a crash would leave it."""
        shutil.copytree(path / "data", path / "crashed")
        await engine.aclose()
        return path / "crashed"

    async def open(self, path: Path, clock: Clock) -> Engine:
        return await FileEngine.open(
            path, clock=clock, limits=SMALL, durability="fsync", settle_after_bytes=self.settle_after_bytes
        )

    async def check(self, path: Path, clock: ManualClock, before: dict[str, object] | None) -> None:
        """What replay makes of it, and what is there once that was closed: nothing has changed."""
        engine = await self.open(path, clock)
        if before is not None:
            assert await contents(engine) == before
        replayed = await contents(engine)
        await engine.aclose()
        engine = await self.open(path, clock)
        assert await contents(engine) == replayed
        hidden = {queue.name: queue.visible + queue.not_visible + queue.delayed for queue in await queues_of(engine)}
        await clock.advance(HALF_A_DAY)
        for queue in await queues_of(engine):
            if queue.attributes.retention_ms is None:
                assert queue.visible == hidden[queue.name]
            assert len(await engine.queues.peek_messages(queue.name, queue.visible + 1)) == queue.visible
        await engine.aclose()


class TestFileEngineThatSettlesAllTheTime(TestFileEngine):
    """Whatever is read comes from memory, from its way to the files where it stays, or from those."""

    settle_after_bytes = 1

    async def leave(self, engine: Engine, path: Path) -> Path:
        """A picture would be blurred while files are being moved."""
        await engine.aclose()
        return path / "data"


class TestFileEngineThatKeepsQueuesOnDisk(TestFileEngineThatSettlesAllTheTime):
    """Of a queue a handful of messages is in memory, and files begin and end all the time."""

    @pytest.fixture(autouse=True)
    def few_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_windows(monkeypatch)


async def contents_unless_closed(engine: Engine) -> dict[str, object] | None:
    try:
        return await contents(engine)
    except ClosedError:
        return None


async def queues_of(engine: Engine) -> list[QueueDescription]:
    return await engine.queues.describe_queues()


def test_no_part_of_the_contract_hides_another() -> None:
    parts = [part for part in EngineContract.__mro__ if part not in (EngineContract, object)]
    names = Counter(name for part in parts for name in vars(part) if name.startswith("test_"))
    assert [name for name, times in names.items() if times > 1] == []
    assert len(names) > 100
    for name in names:
        test = getattr(EngineContract, name)
        assert inspect.iscoroutinefunction(test)
        assert list(inspect.signature(test).parameters) == ["self", "engine", "clock"]

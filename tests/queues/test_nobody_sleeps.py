"""Whatever happens to a queue: as long as a message can be received, nobody goes on waiting for one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.testing.clock import ManualClock
from tests.queues.windows import small_windows

T = TypeVar("T")


class Waiting(RuleBasedStateMachine):
    """A queue on the memory engine, and who waits at it for so long that it is for ever."""

    fifo: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.patches = pytest.MonkeyPatch()
        small_windows(self.patches)
        suffix = ".fifo" if self.fifo else ""
        self.name, self.dead = f"q{suffix}", f"dead{suffix}"
        self.attributes = QueueAttributes(fifo=self.fifo, visibility_timeout_ms=30_000)
        self.sent = 0
        self.waiting: list[asyncio.Task[list[ReceivedMessage]]] = []
        self.handles: list[str] = []

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    async def open(self) -> Engine:
        return MemoryEngine(self.clock, Limits.relaxed())

    @initialize()
    def create(self) -> None:
        if hasattr(self, "engine"):
            return

        async def make() -> None:
            self.engine = await self.open()
            await self.engine.queues.create_queue(self.dead, QueueAttributes(fifo=self.fifo))
            await self.engine.queues.create_queue(self.name, self.attributes)

        self.run(make())

    def teardown(self) -> None:
        async def end() -> None:
            for task in self.waiting:
                task.cancel()
            await asyncio.gather(*self.waiting, return_exceptions=True)
            await self.engine.aclose()

        self.run(end())
        self.runner.close()
        self.patches.undo()

    # ---- what may happen

    @rule(limit=st.integers(1, 3), timeout_ms=st.sampled_from((5_000, 30_000, 500_000)))
    def wait(self, limit: int, timeout_ms: int) -> None:
        async def begin() -> None:
            call = self.engine.queues.receive_messages(self.name, limit, timeout_ms, 10**9)
            self.waiting.append(asyncio.create_task(call))

        self.run(begin())

    @rule(turns=st.integers(0, 6), number=st.integers(0, 9), wakes=st.booleans())
    def give_up(self, turns: int, number: int, wakes: bool) -> None:
        """One of those who wait is cancelled, perhaps just when it has been woken."""

        async def cancel() -> None:
            sending = asyncio.create_task(self.send_one("a")) if wakes else None
            for _ in range(turns):
                await asyncio.sleep(0)
            if self.waiting:
                self.waiting[number % len(self.waiting)].cancel()
            if sending is not None:
                await sending

        self.run(cancel())

    async def send_one(self, group: str) -> None:
        self.sent += 1
        in_group = SendEntry(b"x", group_id=group, deduplication_id=f"{self.sent}")
        (result,) = await self.engine.queues.send_messages(self.name, [in_group if self.fifo else SendEntry(b"x")])
        assert result.error is None

    @rule(groups=st.lists(st.sampled_from("aaabcdef"), min_size=1, max_size=8))
    def send(self, groups: list[str]) -> None:
        async def send() -> None:
            for group in groups:
                await self.send_one(group)

        self.run(send())

    @rule(limit=st.integers(1, 6), timeout_ms=st.sampled_from((0, 5_000, 500_000)))
    def receive(self, limit: int, timeout_ms: int) -> None:
        received = self.run(self.engine.queues.receive_messages(self.name, limit, timeout_ms, 0))
        self.handles += [message.receipt_handle for message in received]

    @rule(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=4))
    def delete(self, numbers: list[int]) -> None:
        if self.handles:
            handles = [self.handles[number % len(self.handles)] for number in numbers]
            self.run(self.engine.queues.delete_messages(self.name, handles))

    @rule(
        numbers=st.lists(st.integers(0, 30), min_size=1, max_size=4), timeout_ms=st.sampled_from((0, 0, 5_000, 60_000))
    )
    def change(self, numbers: list[int], timeout_ms: int) -> None:
        if self.handles:
            handles = [self.handles[number % len(self.handles)] for number in numbers]
            entries = [VisibilityEntry(handle, timeout_ms) for handle in handles]
            self.run(self.engine.queues.change_visibility(self.name, entries))

    @rule(seconds=st.sampled_from((1, 5, 30, 100)))
    def pass_time(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(
        delay_ms=st.sampled_from((0, 0, 20_000)),
        retention_ms=st.sampled_from((60_000, 400_000, None)),
        most=st.sampled_from((None, 1, 2)),
        eager=st.booleans(),
    )
    def update(self, delay_ms: int, retention_ms: int | None, most: int | None, eager: bool) -> None:
        policy = None
        if most is not None:
            policy = RedrivePolicy(dead_letter_queue=self.dead, max_receive_count=most, eager=eager)
        self.attributes = replace(self.attributes, delay_ms=delay_ms, retention_ms=retention_ms, redrive_policy=policy)
        self.run(self.engine.queues.update_queue(self.name, self.attributes))

    @rule()
    def redrive(self) -> None:
        async def move() -> None:
            letters = await self.engine.queues.peek_messages(self.dead, 3)
            await self.engine.queues.move_messages(self.dead, [each.message_id for each in letters], self.name)

        self.run(move())

    # ---- what must hold

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.see())

    async def see(self) -> None:
        dead = await self.at_rest()
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if not task.cancelled():
                self.handles += [message.receipt_handle for message in task.result()]
        if self.waiting:
            assert await self.engine.queues.receive_messages(self.name, 1, 500_000, 0) == []
            assert await self.at_rest() == dead, "a dead letter that nobody was woken for"

    async def at_rest(self) -> int:
        """Time that has passed has brought about what it does, and whoever was woken had a turn; how many are dead."""
        await self.engine.queues.describe_queues()
        await self.clock.advance(0)
        store: Any = self.engine.queues
        while loads := list(store._loads._running.values()):
            await asyncio.wait(loads)
            await self.clock.advance(0)
        (dead,) = await self.engine.queues.describe_queues([self.dead])
        return dead.visible


class WaitingForFifo(Waiting):
    """The same at a FIFO queue."""

    fifo = True


class WaitingOnDisk(Waiting):
    """The same on disk, where most of the queue has to be read first."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()

    async def open(self) -> Engine:
        return await FileEngine.open(
            Path(self.scratch.name) / "data", clock=self.clock, limits=Limits.relaxed(), durability="fsync"
        )

    @rule()
    def settle(self) -> None:
        assert isinstance(self.engine, FileEngine)
        self.run(self.engine.settle())

    def teardown(self) -> None:
        super().teardown()
        self.scratch.cleanup()


class WaitingForFifoOnDisk(WaitingOnDisk):
    """The same on disk at a FIFO queue."""

    fifo = True

    @initialize(groups=st.lists(st.sampled_from("bcdef"), max_size=6), waiting=st.integers(0, 3))
    def fill(self, groups: list[str], waiting: int) -> None:
        """What a receive looks at is of one group and in flight; others wait on disk, and perhaps somebody for them."""
        self.create()
        self.send(["a"] * 6 + groups)
        self.settle()
        self.receive(6, 500_000)
        for _ in range(waiting):
            self.wait(1, 500_000)


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
IN_MEMORY = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=_CHECKS)
ON_DISK = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=_CHECKS)
TestWaiting = Waiting.TestCase
TestWaitingForFifo = WaitingForFifo.TestCase
TestWaitingOnDisk = WaitingOnDisk.TestCase
TestWaitingForFifoOnDisk = WaitingForFifoOnDisk.TestCase
TestWaiting.settings = TestWaitingForFifo.settings = IN_MEMORY
TestWaitingOnDisk.settings = TestWaitingForFifoOnDisk.settings = ON_DISK

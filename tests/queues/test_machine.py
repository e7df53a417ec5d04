"""Any sequence of calls, on both engines, with crashes and reopenings in between, does what a simple model does."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import MessageNotInflightError, StreamKitError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.testing.clock import ManualClock
from tests.queues.model import Known, Model
from tests.queues.windows import small_windows

T = TypeVar("T")

GROUPS = ("a", "b", "c")
RETENTION_MS = 90_000
TIMEOUT_MS = 30_000


class QueueMachine(RuleBasedStateMachine):
    """A queue with a dead-letter queue on the memory engine."""

    fifo: ClassVar[bool] = False
    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        suffix = ".fifo" if self.fifo else ""
        self.name, self.dead = f"q{suffix}", f"dead{suffix}"
        self.model = Model(self.fifo, 2, RETENTION_MS)
        self.dead_model = Model(self.fifo)
        self.sent = 0

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    async def open(self) -> Engine:
        return MemoryEngine(self.clock, Limits.relaxed())

    @initialize()
    def create(self) -> None:
        async def make() -> None:
            self.engine = await self.open()
            await self.engine.queues.create_queue(self.dead, QueueAttributes(fifo=self.fifo))
            attributes = QueueAttributes(
                fifo=self.fifo,
                visibility_timeout_ms=TIMEOUT_MS,
                retention_ms=RETENTION_MS,
                redrive_policy=RedrivePolicy(dead_letter_queue=self.dead, max_receive_count=2),
            )
            await self.engine.queues.create_queue(self.name, attributes)

        self.run(make())

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.engine.aclose())
        self.runner.close()

    # ---- what may happen

    @rule(groups=st.lists(st.sampled_from(GROUPS), min_size=1, max_size=4), delay=st.sampled_from((None, 0, 20_000)))
    def send(self, groups: list[str], delay: int | None) -> None:
        entries = []
        for group in groups:
            self.sent += 1
            body = f"{self.sent}".encode()
            if self.fifo:
                entries.append(SendEntry(body, group_id=group, deduplication_id=body.decode()))
            else:
                entries.append(SendEntry(body, delay))
        results = self.run(self.engine.queues.send_messages(self.name, entries))
        now_ms = self.clock.now_ms()
        for entry, result in zip(entries, results, strict=True):
            assert result.error is None
            assert not result.duplicate
            hidden_ms = now_ms + (entry.delay_ms or 0)
            message = Known(result.message_id, entry.body, now_ms, hidden_ms, entry.group_id, hidden_ms > now_ms)
            self.model.messages.append(message)
            if entry.deduplication_id is not None:
                self.model.sent_ids[entry.deduplication_id] = (result.message_id, now_ms)

    @precondition(lambda self: self.fifo and self.sent > 0)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        again = str(data.draw(st.integers(1, self.sent)))
        now_ms = self.clock.now_ms()
        original = self.model.original(again, now_ms)
        entry = SendEntry(again.encode(), group_id="a", deduplication_id=again)
        (result,) = self.run(self.engine.queues.send_messages(self.name, [entry]))
        assert result.duplicate == (original is not None)
        if original is not None:
            assert result.message_id == original
        else:
            self.model.messages.append(Known(result.message_id, entry.body, now_ms, now_ms, "a"))
            self.model.sent_ids[again] = (result.message_id, now_ms)

    @rule(limit=st.integers(1, 5), timeout_ms=st.sampled_from((None, 0, 5_000)))
    def receive(self, limit: int, timeout_ms: int | None) -> None:
        now_ms = self.clock.now_ms()
        self.model.expire(now_ms)
        before = self.dead_letters()
        worn = {m.message_id: m for m in self.model.messages}
        answer = self.run(self.engine.queues.receive_messages(self.name, limit, timeout_ms, 0))
        moved = self.dead_letters() - before
        hidden_ms = TIMEOUT_MS if timeout_ms is None else timeout_ms
        self.model.received(answer, moved, limit, hidden_ms, now_ms)
        for message_id in moved:
            self.dead_model.messages.append(worn[message_id])

    def dead_letters(self) -> set[str]:
        return {m.message_id for m in self.run(self.engine.queues.peek_messages(self.dead, 10_000))}

    @precondition(lambda self: any(m.handle for m in self.model.messages))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from([m for m in self.model.messages if m.handle]))
        self.model.expire(self.clock.now_ms())
        is_there = message in self.model.messages
        (error,) = self.run(self.engine.queues.delete_messages(self.name, [message.handle]))
        if is_there and self.fifo and not message.is_hidden(self.clock.now_ms()):
            assert isinstance(error, MessageNotInflightError)
        else:
            assert error is None
            if is_there:
                self.model.remove(message)

    @precondition(lambda self: any(m.handle for m in self.model.messages))
    @rule(data=st.data(), timeout_ms=st.sampled_from((0, 10_000, 60_000, 43_200_000)))
    def change(self, data: st.DataObject, timeout_ms: int) -> None:
        message = data.draw(st.sampled_from([m for m in self.model.messages if m.handle]))
        now_ms = self.clock.now_ms()
        self.model.expire(now_ms)
        entry = VisibilityEntry(message.handle, timeout_ms)
        (error,) = self.run(self.engine.queues.change_visibility(self.name, [entry]))
        gone = message not in self.model.messages or (self.fifo and not message.is_hidden(now_ms))
        if gone or now_ms + timeout_ms - message.received_ms > 43_200_000:
            assert isinstance(error, StreamKitError)
        else:
            assert error is None
            message.hidden_until_ms = now_ms + timeout_ms

    @rule(seconds=st.sampled_from((1, 5, 19, 30, 60, 300)))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule()
    def purge(self) -> None:
        now_ms = self.clock.now_ms()
        count = sum(self.model.counts(now_ms))
        assert self.run(self.engine.queues.purge_queue(self.name)) >= count
        for message in list(self.model.messages):
            self.model.remove(message)
        self.model.sent_ids.clear()

    # ---- what must hold

    @invariant()
    def counts_are_exact(self) -> None:
        if not hasattr(self, "engine"):
            return
        (queue, dead) = self.run(self.engine.queues.describe_queues([self.name, self.dead]))
        assert (queue.visible, queue.not_visible, queue.delayed) == self.model.counts(self.clock.now_ms())
        assert dead.visible == len(self.dead_model.messages)
        assert self.dead_letters() == {m.message_id for m in self.dead_model.messages}


class FileQueueMachine(QueueMachine):
    """The same on disk; now and then its process is killed, or it is settled, or closed and opened."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp())
        self.lives = 0

    async def open(self) -> Engine:
        return await FileEngine.open(
            self.scratch / str(self.lives), clock=self.clock, limits=Limits.relaxed(), durability="fsync"
        )

    @rule()
    def kill(self) -> None:
        """What a copy of its directory holds is what is left when a process is killed."""

        async def again() -> None:
            old, at = self.engine, self.scratch / str(self.lives)
            self.lives += 1
            copied = shutil.ignore_patterns("*.new")  # Segments that are being made.
            await asyncio.to_thread(shutil.copytree, at, self.scratch / str(self.lives), ignore=copied)
            await old.aclose()
            (self.scratch / str(self.lives) / "streamkit.lock").unlink(missing_ok=True)
            self.engine = await self.open()

        self.run(again())

    @rule()
    def settle(self) -> None:
        assert isinstance(self.engine, FileEngine)
        self.run(self.engine.settle())

    @rule()
    def reopen(self) -> None:
        async def again() -> None:
            await self.engine.aclose()
            self.engine = await self.open()

        self.run(again())

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.scratch)


class BacklogMachine(FileQueueMachine):
    """Of the queue a handful of messages is in memory, the others are in files of a few."""

    def __init__(self) -> None:
        super().__init__()
        self.model.sees_all = False
        self.patches = pytest.MonkeyPatch()
        small_windows(self.patches)

    @rule()
    def drain(self) -> None:
        """Whoever goes on receiving gets everything that is not hidden behind something."""
        while self.model.in_line(self.clock.now_ms()):
            before = sum(self.model.counts(self.clock.now_ms())[:1])
            self.receive(5, None)
            assert self.model.counts(self.clock.now_ms())[0] < before or self.fifo
            if self.model.counts(self.clock.now_ms())[0] == before:
                break

    def teardown(self) -> None:
        super().teardown()
        self.patches.undo()


class FifoMachine(QueueMachine):
    """A FIFO queue in memory."""

    fifo = True


class FileFifoMachine(FileQueueMachine):
    """A FIFO queue on disk."""

    fifo = True


class FifoBacklogMachine(BacklogMachine):
    """A FIFO queue with little of it in memory."""

    fifo = True


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
TestStandardQueueInMemory = QueueMachine.TestCase
TestFifoQueueInMemory = FifoMachine.TestCase
TestStandardQueueOnDisk = FileQueueMachine.TestCase
TestFifoQueueOnDisk = FileFifoMachine.TestCase
TestStandardBacklog = BacklogMachine.TestCase
TestFifoBacklog = FifoBacklogMachine.TestCase
IN_MEMORY = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=_CHECKS)
ON_DISK = settings(max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=_CHECKS)
TestStandardQueueInMemory.settings = TestFifoQueueInMemory.settings = IN_MEMORY
TestStandardQueueOnDisk.settings = TestFifoQueueOnDisk.settings = ON_DISK
TestStandardBacklog.settings = TestFifoBacklog.settings = ON_DISK

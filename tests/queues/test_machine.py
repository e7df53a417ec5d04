"""Any sequence of calls, on both engines, with crashes and reopenings in between, does what a simple model does."""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import StreamKitError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.store import SendEntry, SendResult, VisibilityEntry
from streamkit.testing.clock import ManualClock
from tests.queues.model import TWELVE_HOURS_MS, Known, Model
from tests.queues.windows import small_windows

T = TypeVar("T")

GROUPS = ("a", "b", "c")
NONE_SUCH = "A" * 32
"""What looks like a receipt handle and is none."""
TIMEOUTS_MS = (-1, 0, 0, 10_000, 10_000, 60_000, TWELVE_HOURS_MS)
ATTEMPTS = ("first", "second")
TURNS = st.none() | st.none() | st.integers(0, 8)
"""Of the event loop, until a call is cancelled; None: it is not."""

NEW, AGAIN, BAD = "new", "again", "bad"
# What there is to pick from depends on what a call that is cancelled comes to, and that differs from run to run. So it
# is picked by number, and no rule has a precondition that depends on it.
PICKS = st.lists(st.integers(0, 99), min_size=1, max_size=4)
ENTRIES = st.lists(
    st.tuples(st.sampled_from((NEW, NEW, NEW, NEW, AGAIN, BAD)), st.sampled_from(GROUPS)), min_size=1, max_size=4
)


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
        self.attributes = QueueAttributes(fifo=self.fifo)
        self.model = Model(self.fifo, self.clock.now_ms())
        self.sent = 1
        self.attempts = 0
        self.gave_up_receiving = False
        self.is_looked_at = True

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    async def open(self) -> Engine:
        return MemoryEngine(self.clock, Limits.relaxed())

    @initialize(
        delay_ms=st.sampled_from((0, 0, 15_000)),
        retention_ms=st.sampled_from((90_000, 400_000, None)),
        max_receive_count=st.sampled_from((None, 1, 2)),
        eager=st.booleans(),
        wanted=ENTRIES,
    )
    def create(
        self,
        delay_ms: int,
        retention_ms: int | None,
        max_receive_count: int | None,
        eager: bool,
        wanted: Sequence[tuple[str, str]],
    ) -> None:
        async def make() -> None:
            self.engine = await self.open()
            await self.engine.queues.create_queue(self.dead, self.attributes)
            await self.engine.queues.create_queue(self.name, self.attributes)

        self.run(make())
        self.update(30_000, delay_ms, retention_ms, max_receive_count, eager, "all")
        self.send(wanted, None)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.engine.aclose())
        self.runner.close()

    # ---- sending

    def entries(self, wanted: Sequence[tuple[str, str]], delay_ms: int | None) -> list[SendEntry]:
        """What is to be sent: by group something new, what was sent before, or what is refused alone."""
        entries = []
        for kind, group in wanted:
            self.sent += kind == NEW
            number = self.sent if kind == NEW else max(self.sent - 3 * GROUPS.index(group), 1)
            body = b"" if kind == BAD else b"%d" % number
            again = body.decode() if self.fifo else None
            entries.append(SendEntry(body, None if self.fifo else delay_ms, group_id=group, deduplication_id=again))
        return entries

    @rule(wanted=ENTRIES, delay_ms=st.sampled_from((None, None, 0, 20_000)))
    def send(self, wanted: Sequence[tuple[str, str]], delay_ms: int | None) -> None:
        self.model.pass_to(self.clock.now_ms())
        entries = self.entries(wanted, delay_ms)
        self.stored(entries, self.run(self.engine.queues.send_messages(self.name, entries)))

    def stored(self, entries: Sequence[SendEntry], results: Sequence[SendResult]) -> None:
        for entry, result in zip(entries, results, strict=True):
            assert (result.error is not None) == (entry.body == b"")
            if result.error is not None:
                continue
            original = self.model.original(entry.deduplication_id or "")
            assert result.duplicate == (original is not None)
            if original is not None:
                assert result.message_id == original
            else:
                delay_ms = self.attributes.delay_ms if entry.delay_ms is None else entry.delay_ms
                self.model.sent(result.message_id, entry.body, delay_ms, entry.group_id, entry.deduplication_id)

    @precondition(lambda self: self.fifo or self.attributes.delay_ms == 0)
    @rule(count=st.integers(1, 3), turns=st.integers(0, 8))
    def give_up_sending(self, count: int, turns: int) -> None:
        """All of it was stored, or nothing."""
        entries = self.entries([(NEW, "a")] * count, None)
        self.model.pass_to(self.clock.now_ms())
        results = self.run(given_up(self.engine.queues.send_messages(self.name, entries), turns))
        if results is None and self.fifo:
            # Whoever sends it again hears of it.
            results = self.run(self.engine.queues.send_messages(self.name, entries))
            assert len({result.duplicate for result in results}) == 1
            results = [replace(result, duplicate=False) for result in results]
        elif results is None:
            bodies = [entry.body for entry in entries]
            peeked = self.run(self.engine.queues.peek_messages(self.name, 10_000))
            results = [SendResult(each.message_id) for each in peeked if each.body in bodies]
            assert len(results) in (0, count)
        if results:
            self.stored(entries, results)

    # ---- receiving

    @rule(
        limit=st.integers(1, 5),
        timeout_ms=st.sampled_from((None, None, 0, 5_000)),
        attempt=st.sampled_from((None, *ATTEMPTS)),
        turns=TURNS,
    )
    def receive(self, limit: int, timeout_ms: int | None, attempt: str | None = None, turns: int | None = None) -> None:
        """One that is cancelled has received nothing; what was received too often may have been moved."""
        attempt = attempt if self.fifo else None
        if turns is not None and attempt is not None:
            # Of deliveries that are given again a cancelled receive leaves open how long they are hidden.
            self.attempts += 1
            attempt = f"{attempt}-{self.attempts}"
        self.model.pass_to(self.clock.now_ms())
        wait_ms = 0 if turns is None else 20_000
        call = self.engine.queues.receive_messages(self.name, limit, timeout_ms, wait_ms, attempt)
        answer = self.run(call if turns is None else given_up(call, turns))
        # What was received for no time at all an eager policy moves at once.
        moved = self.moved() - {m.message_id for m in answer or ()}
        if answer is not None:
            hidden_ms = self.attributes.visibility_timeout_ms if timeout_ms is None else timeout_ms
            self.model.received(answer, moved, limit, hidden_ms, attempt)
        else:
            self.gave_up_receiving = True
            assert moved <= self.model.worn_out()
            for message in [m for m in self.model.messages if m.message_id in moved]:
                self.model.bury(message, self.clock.now_ms())
            if attempt is not None:
                # Somebody else gets what it would have had, and its retry gets nothing of that.
                self.receive(limit, timeout_ms)
                self.receive(limit, timeout_ms, attempt)

    @rule(limit=st.integers(1, 5), again=st.booleans())
    def receive_more(self, limit: int, again: bool) -> None:
        """Without receives there is little that could go wrong."""
        self.receive(limit, None, ATTEMPTS[0] if again else None)

    def moved(self) -> set[str]:
        """What was moved to the dead-letter queue just now."""
        letters = self.run(self.engine.queues.peek_messages(self.dead, 10_000))
        return {m.message_id for m in letters} - {m.message_id for m in self.model.dead}

    # ---- receipt handles

    def some_handles(self, picks: Sequence[int]) -> list[str]:
        """Of any age, and of messages that are anywhere; every other one is the latest of a message that is there."""
        latest = [m.handle for m in self.model.messages if m.handle]
        ever = [NONE_SUCH, *self.model.handles]
        return [picked(latest if pick % 2 and latest else ever, pick // 2) for pick in picks]

    @rule(picks=PICKS, turns=TURNS)
    def delete(self, picks: Sequence[int], turns: int | None) -> None:
        """One that is cancelled has deleted all of them, or none."""
        self.model.pass_to(self.clock.now_ms())
        handles = self.some_handles(picks)
        before = copy.deepcopy(self.model)
        errors = self.model.delete(handles)
        call = self.engine.queues.delete_messages(self.name, handles)
        found = self.run(call if turns is None else given_up(call, turns))
        assert found is None or kinds(found) == errors
        if found is None and self.found() != expected(self.model):
            self.model = before

    @rule(picks=PICKS, turns=TURNS, timeouts_ms=st.lists(st.sampled_from(TIMEOUTS_MS), min_size=4, max_size=4))
    def change(self, picks: Sequence[int], turns: int | None, timeouts_ms: list[int]) -> None:
        """One that is cancelled has shown all of them, or none."""
        self.model.pass_to(self.clock.now_ms())
        if turns is not None:
            timeouts_ms = [0, 0, 0, 0]  # That can be seen.
        if self.gave_up_receiving:
            # It leaves open since when whoever had received a message before may hide it for 12 hours.
            timeouts_ms = [min(timeout_ms, 60_000) for timeout_ms in timeouts_ms]
        entries = list(zip(self.some_handles(picks), timeouts_ms, strict=False))
        before = copy.deepcopy(self.model)
        errors = self.model.change(entries)
        self.model.pass_to(self.clock.now_ms())
        call = self.engine.queues.change_visibility(self.name, [VisibilityEntry(*entry) for entry in entries])
        found = self.run(call if turns is None else given_up(call, turns))
        assert found is None or kinds(found) == errors
        if found is None and self.found() != expected(self.model):
            self.model = before

    # ---- the dead-letter queue

    @rule(delay_ms=st.sampled_from((0, 20_000)))
    def send_to_the_dead(self, delay_ms: int) -> None:
        self.sent += 1
        body = b"%d" % self.sent
        entry = (
            SendEntry(body, group_id="a", deduplication_id=body.decode()) if self.fifo else SendEntry(body, delay_ms)
        )
        (result,) = self.run(self.engine.queues.send_messages(self.dead, [entry]))
        assert result.error is None
        self.model.pass_to(self.clock.now_ms())
        now_ms = self.clock.now_ms()
        self.model.dead.append(Known(result.message_id, body, now_ms, now_ms + (entry.delay_ms or 0), entry.group_id))

    @rule(picks=PICKS)
    def redrive(self, picks: Sequence[int]) -> None:
        """Whatever the delay of the queue that it goes to, and whatever delay it was sent with."""
        self.model.pass_to(self.clock.now_ms())
        known = ["none such", *[m.message_id for m in self.model.dead]]
        ids = [picked(known, pick) for pick in picks]
        moved = self.run(self.engine.queues.move_messages(self.dead, ids, self.name))
        assert moved == self.model.dig_up(ids)

    # ---- the queue itself

    @rule(
        timeout_ms=st.sampled_from((0, 10_000, 30_000)),
        delay_ms=st.sampled_from((0, 0, 15_000, 40_000)),
        retention_ms=st.sampled_from((60_000, 90_000, 400_000, None)),
        max_receive_count=st.sampled_from((None, 1, 2, 3)),
        eager=st.booleans(),
        which=st.sampled_from(("timeout", "delay", "retention", "redrive", "all")),
    )
    def update(
        self,
        timeout_ms: int,
        delay_ms: int,
        retention_ms: int | None,
        max_receive_count: int | None,
        eager: bool,
        which: str,
    ) -> None:
        policy = None
        if max_receive_count is not None:
            policy = RedrivePolicy(dead_letter_queue=self.dead, max_receive_count=max_receive_count, eager=eager)
        options: dict[str, dict[str, Any]] = {
            "timeout": {"visibility_timeout_ms": timeout_ms},
            "delay": {"delay_ms": delay_ms},
            "retention": {"retention_ms": retention_ms},
            "redrive": {"redrive_policy": policy},
        }
        options["all"] = {name: value for option in options.values() for name, value in option.items()}
        self.attributes = replace(self.attributes, **options[which])
        self.run(self.engine.queues.update_queue(self.name, self.attributes))
        # What is too old under the old retention is gone.
        self.model.pass_to(self.clock.now_ms())
        if self.fifo:
            self.model.delayed(self.attributes.delay_ms)
        self.model.retention_ms = self.attributes.retention_ms
        redrive = self.attributes.redrive_policy
        self.model.max_receive_count = None if redrive is None else redrive.max_receive_count
        self.model.eager = redrive is not None and redrive.eager

    @rule(seconds=st.sampled_from((1, 5, 10, 20, 30, 30, 60, 300)), look=st.booleans())
    def wait(self, seconds: float, look: bool) -> None:
        """Then somebody looks, or the next call is the first that meets what time has brought about."""
        self.run(self.clock.advance(seconds))
        self.is_looked_at = look

    @rule()
    def purge(self) -> None:
        """Of a queue that has few messages not, or it would hardly ever have more."""
        if len(self.model.messages) < 8:
            return
        self.model.pass_to(self.clock.now_ms())
        assert self.run(self.engine.queues.purge_queue(self.name)) >= len(self.model.messages)
        self.model.purge()

    # ---- what must hold

    def found(self) -> Any:
        """What there is of both queues. It comes behind all that was begun, also by calls that were given up."""
        (queue, dead) = self.run(self.engine.queues.describe_queues([self.name, self.dead]))
        letters = self.run(self.engine.queues.peek_messages(self.dead, 10_000))
        return (
            (queue.visible, queue.not_visible, queue.delayed),
            (dead.visible, dead.delayed),
            {m.message_id: (m.body, m.sent_ms, m.receive_count) for m in letters},
        )

    @invariant()
    def all_is_as_expected(self) -> None:
        if hasattr(self, "engine") and self.is_looked_at:
            self.model.pass_to(self.clock.now_ms())
            assert self.found() == expected(self.model)
        self.is_looked_at = True


def expected(model: Model) -> Any:
    """What ``found`` is to find."""
    letters = [m for m in model.dead if not m.is_hidden(model.now_ms)]
    return (
        model.counts(),
        (len(letters), len(model.dead) - len(letters)),
        {m.message_id: (m.body, m.sent_ms, m.receive_count) for m in letters},
    )


def picked(some: Sequence[T], number: int) -> T:
    return some[number % len(some)]


def kinds(errors: Sequence[StreamKitError | None]) -> list[type[StreamKitError] | None]:
    return [None if error is None else type(error) for error in errors]


async def given_up(call: Coroutine[Any, Any, T], turns: int) -> T | None:
    """What a call answers that is cancelled so many turns of the loop after it began; None: it does not any more."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


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
        self.model.pass_to(self.clock.now_ms())
        while self.model.in_line():
            before = self.model.counts()[0]
            self.receive(5, 5_000)
            assert self.model.counts()[0] < before or self.fifo
            if self.model.counts()[0] == before:
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
IN_MEMORY = settings(max_examples=75, stateful_step_count=40, deadline=None, suppress_health_check=_CHECKS)
ON_DISK = settings(max_examples=17, stateful_step_count=40, deadline=None, suppress_health_check=_CHECKS)
TestStandardQueueInMemory.settings = TestFifoQueueInMemory.settings = IN_MEMORY
TestStandardQueueOnDisk.settings = TestFifoQueueOnDisk.settings = ON_DISK
TestStandardBacklog.settings = TestFifoBacklog.settings = ON_DISK

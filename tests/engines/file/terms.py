"""What the tests of the file engine share: opening it, a script of everything it can do, and what that must lead to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamkit.clock import Clock
from streamkit.engines.base import Durability, Engine
from streamkit.engines.embedded import queue_sends
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.files import Files
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ConditionFailedError, StorageError
from streamkit.functions.effects import Effects
from streamkit.limits import MIB, Limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.store import Merge, ProducerSequences, PutEntry, Split, StreamAttributes
from streamkit.tables.condition import attribute
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Delete, Put, Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.faults import Call, FaultyFiles

LIMITS = Limits.relaxed()
A_DAY = 86_400
START_MS = 1_700_000_000_000
END_MS = START_MS + 40_000
"""When the script ends."""

Contents = dict[str, Any]


@contextmanager
def message_ids() -> Iterator[None]:
    """The same ids in every run, so that two engines that did the same hold the same."""
    numbers = count(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue_sends.QueueSends, "_message_id", lambda _: f"message-{next(numbers)}")
        yield


async def open_file(
    path: Path,
    clock: Clock | None = None,
    *,
    files: Files | None = None,
    durability: Durability = "fsync",
    settle_after_bytes: int = 64 * MIB,
) -> FileEngine:
    return await FileEngine.open(
        path,
        clock=clock or ManualClock(START_MS),
        limits=LIMITS,
        durability=durability,
        files=files or FaultyFiles(),
        settle_after_bytes=settle_after_bytes,
    )


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None, **options: Any) -> AsyncIterator[FileEngine]:
    engine = await open_file(path, clock, **options)
    try:
        yield engine
    finally:
        await engine.aclose()


async def close_broken(engine: FileEngine) -> None:
    """Close an engine whose disk is gone."""
    with suppress(StorageError):
        await engine.aclose()


async def all_of_it(engine: Engine, clock: ManualClock) -> Contents:
    """Everything an engine holds, and what of it was hidden. Moves the clock by a day, and nothing else."""
    now = await contents(engine)
    await clock.advance(A_DAY)
    later = await contents(engine)
    return {"now": now, "later": later["messages"]}


async def reopened(path: Path, **options: Any) -> Contents:
    """What is in a directory. It is closed and opened once more, because settling must change nothing."""
    clock = ManualClock(END_MS)
    async with opened(path, clock, **options) as engine:
        replayed = await contents(engine)
    async with opened(path, clock, **options) as engine:
        found = await all_of_it(engine, clock)
    assert found["now"] == replayed
    return found


async def after_crash(files: FaultyFiles, path: Path, destination: Path, survives: Callable[[], bool]) -> None:
    await asyncio.to_thread(files.after_crash, str(path), str(destination), survives)


def lost() -> bool:
    """A power loss at its worst: nothing is left of what was not synced."""
    return False


def kept() -> bool:
    """A process that was killed: everything is left that was written."""
    return True


def torn(seed: int) -> Callable[[], bool]:
    """What lies between."""
    random = Random(seed)
    return lambda: random.random() < 0.5


class Held:
    """Holds every call of one kind of thread back until the test lets it through."""

    def __init__(self, thread: str) -> None:
        self.thread = thread
        self.holding = False
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)

    def __call__(self, call: Call) -> None:
        if self.holding and threading.current_thread().name.startswith(self.thread):
            self.arrived.release()
            assert self.opened.acquire(timeout=30)

    async def reached(self, task: asyncio.Task[object]) -> bool:
        """Whether a call is held; False once the task is done."""
        while not self.arrived.acquire(blocking=False):
            if task.done():
                return False
            await asyncio.sleep(0)
        return True

    def let_through(self) -> None:
        self.opened.release()

    def let_go(self) -> None:
        self.holding = False
        self.opened.release()

    def let_all_through(self) -> None:
        """As many as are held by now, and those that come."""
        self.holding = False
        self.opened.release(1_000)


PRODUCED_AGAIN = ProducerSequences("importer", [7, 8])


class Script:
    """Everything an engine can do, one call after the other."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.received: list[ReceivedMessage] = []

    def steps(self) -> list[Callable[[], Awaitable[object]]]:
        streams, queues, tables = self.engine.streams, self.engine.queues, self.engine.tables
        redrive = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
        return [
            lambda: streams.create_stream("s", 2, StreamAttributes(retention_ms=None)),
            lambda: tables.create_table(TableSchema("totals", "customer")),
            lambda: queues.create_queue("dead", QueueAttributes()),
            lambda: queues.create_queue("jobs", QueueAttributes(redrive_policy=redrive)),
            lambda: self.put(b"one", b"two", b"three"),
            lambda: queues.send_messages("jobs", [SendEntry(b"a"), SendEntry(b"b"), SendEntry(b"c", 5_000)]),
            lambda: tables.write([Put({"customer": "ann", "total": 1}, "totals"), Put({"customer": "bob"}, "totals")]),
            self.receive,
            lambda: queues.delete_messages("jobs", [self.received[0].receipt_handle]),
            lambda: self.engine.commit(self.effects("ann", b"four")),
            self.settle,
            lambda: streams.reshard("s", Split("shardId-000000000000", KEY_SPACE // 4)),
            lambda: self.put(b"five" * 2_000, b"six"),
            lambda: streams.put_records("s", [PutEntry("k", b"once")], ProducerSequences("importer", [7])),
            lambda: tables.write([Update(key={"customer": "ann"}, add={"total": 10}, table="totals")]),
            self.refused_write,
            lambda: queues.send_messages("jobs", [SendEntry(b"d" * 5_000)]),
            self.later,
            self.receive,
            lambda: queues.change_visibility("jobs", [VisibilityEntry(self.received[-1].receipt_handle, 60_000)]),
            self.settle,
            lambda: streams.update_stream("s", StreamAttributes(retention_ms=10**12)),
            lambda: self.engine.commit(self.effects("cat", b"seven" * 3_000)),
            lambda: streams.reshard("s", Merge("shardId-000000000003", "shardId-000000000001")),
            lambda: streams.put_records("s", [PutEntry("k", b"once"), PutEntry("k", b"2")], PRODUCED_AGAIN),
            lambda: tables.write([Delete({"customer": "bob"}, "totals")]),
            lambda: queues.move_messages("dead", ["message-2"], "jobs"),
            lambda: streams.create_stream("gone", 1),
            lambda: streams.put_records("gone", [PutEntry("k", b"x")]),
            self.settle,
            lambda: streams.delete_stream("gone"),
            lambda: tables.write([Put({"customer": "bob", "total": 3}, "totals")]),
            lambda: queues.delete_messages("jobs", [message.receipt_handle for message in self.received[-1:]]),
            self.settle,
        ]

    async def put(self, *data: bytes) -> None:
        # Some have attributes, neighbours the same.
        given = [{"of": each[:1].decode()} if each[:1] in b"tf" else None for each in data]
        entries = [PutEntry(f"key-{each[:3]!r}", each, None, has) for each, has in zip(data, given, strict=True)]
        await self.engine.streams.put_records("s", entries)

    async def receive(self) -> None:
        self.received += await self.engine.queues.receive_messages("jobs", 2)

    async def later(self) -> None:
        await self.clock.advance(40)

    async def refused_write(self) -> None:
        with suppress(ConditionFailedError):
            await self.engine.tables.write(
                [Put({"customer": "ann"}, "totals", condition=attribute("customer").absent())]
            )

    async def settle(self) -> None:
        if isinstance(self.engine, FileEngine):
            await self.engine.settle()

    def effects(self, customer: str, data: bytes) -> Effects:
        """One commit to all three kinds: it is there whole or not at all."""
        return Effects(
            writes=(Put({"customer": customer, "data": data}, "totals"),),
            sends=(("jobs", (SendEntry(b"from " + data),)), ("dead", (SendEntry(b"late " + data),))),
            puts=(("s", (PutEntry("k", data, None, {"of": customer}), PutEntry("l", data))),),
        )


async def expected_after_each_step() -> list[Contents]:
    """What an engine holds after no step of the script, after one, and so on, as it shows when the script ends."""
    expected: list[Contents] = []
    while True:
        clock = ManualClock(START_MS)
        with message_ids():
            engine = MemoryEngine(clock, LIMITS)
            steps = Script(engine, clock).steps()
            for step in steps[: len(expected)]:
                await step()
        await clock.advance((END_MS - clock.now_ms()) / 1000)
        expected.append(await all_of_it(engine, clock))
        await engine.aclose()
        if len(expected) > len(steps):
            return expected


async def turns(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")

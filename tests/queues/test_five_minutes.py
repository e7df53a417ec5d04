"""The edge of deduplication's five minutes: a repeat 1 ms before it is one, and from it on it is a new message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from streamkit.engines.file.engine import FileEngine
from streamkit.limits import Limits
from streamkit.queues import deduplication
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.store import SendEntry, SendResult
from streamkit.testing.clock import ManualClock

SCOPES = ("queue", "messageGroup")
EDGE = [(299_999, True), (300_000, False), (300_001, False)]
"""Milliseconds after the original, and whether it is a repeat."""


class Store:
    """A FIFO queue with a dead-letter queue on disk."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self._path = path
        self.clock = clock
        self.engine: FileEngine

    async def open(self) -> None:
        self.engine = await FileEngine.open(self._path, clock=self.clock, limits=Limits.relaxed())

    async def reopen(self) -> None:
        await self.engine.aclose()
        await self.open()

    async def settle_and_reopen(self) -> None:
        """So that its ids are in a file of their own, and not in the snapshot."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deduplication, "_FEW_IDS", 1)
            await self.engine.settle()
        assert list(self._path.glob("queues/*.ids"))
        await self.reopen()

    async def create(self, scope: str) -> None:
        attributes = {"fifo": True, "deduplication_scope": scope}
        await self.engine.queues.create_queue("dead.fifo", QueueAttributes(**attributes))  # type: ignore[arg-type]
        policy = RedrivePolicy(dead_letter_queue="dead.fifo", max_receive_count=1)
        await self.engine.queues.create_queue("q.fifo", QueueAttributes(redrive_policy=policy, **attributes))  # type: ignore[arg-type]

    async def send(self, group: str, name: str = "q.fifo") -> SendResult:
        entry = SendEntry(b"x", group_id=group, deduplication_id="id")
        (result,) = await self.engine.queues.send_messages(name, [entry])
        assert result.error is None
        return result

    async def receive(self, name: str = "q.fifo") -> list[str]:
        return [m.message_id for m in await self.engine.queues.receive_messages(name, 10, 1_000, 0)]

    async def peek(self, name: str) -> list[str]:
        return [m.message_id for m in await self.engine.queues.peek_messages(name, 10)]

    async def delete_all(self) -> None:
        received = await self.engine.queues.receive_messages("q.fifo", 10, 1_000, 0)
        assert received
        errors = await self.engine.queues.delete_messages("q.fifo", [m.receipt_handle for m in received])
        assert not any(errors)


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    store = Store(tmp_path / "data", clock)
    await store.open()
    yield store
    await store.engine.aclose()


async def nothing(store: Store) -> None:
    """The original is where it was."""


async def purged_elsewhere(store: Store) -> None:
    await store.engine.queues.purge_queue("dead.fifo")


MEANWHILE: dict[str, Callable[[Store], Awaitable[None]]] = {
    "nothing": nothing,
    "deleted": Store.delete_all,
    "reopened": Store.reopen,
    "settled": Store.settle_and_reopen,
    "another purged": purged_elsewhere,
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("later_ms", "repeats"), EDGE)
async def test_a_repeat(store: Store, scope: str, later_ms: int, repeats: bool, meanwhile: str) -> None:
    """Whatever became of the original; its own repeats do not lengthen its window."""
    await store.create(scope)
    original = await store.send("a")
    await store.clock.advance(100)
    assert (await store.send("a")).duplicate
    await MEANWHILE[meanwhile](store)
    await store.clock.advance(later_ms / 1000 - 100)
    again = await store.send("a")
    assert again.duplicate == repeats
    assert (again.message_id == original.message_id) == repeats
    assert (again.sequence_number == original.sequence_number) == repeats
    # What is new has a window of its own.
    await store.clock.advance(299.999)
    following = await store.send("a")
    assert following.duplicate != repeats
    assert (following.message_id == again.message_id) != repeats


@pytest.mark.parametrize("reopen", [nothing, Store.reopen, Store.settle_and_reopen])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("later_ms", "repeats"), EDGE)
async def test_a_repeat_in_another_group(
    store: Store, scope: str, later_ms: int, repeats: bool, reopen: Callable[[Store], Awaitable[None]]
) -> None:
    """It is one if the id is unique in the queue, and never if it is in its group."""
    await store.create(scope)
    original = await store.send("a")
    await reopen(store)
    await store.clock.advance(later_ms / 1000)
    other = await store.send("b")
    assert other.duplicate == (repeats and scope == "queue")
    assert (other.message_id == original.message_id) == other.duplicate


@pytest.mark.parametrize("reopen", [nothing, Store.reopen, Store.settle_and_reopen])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("later_ms", "repeats"), EDGE)
async def test_a_repeat_of_a_dead_letter(
    store: Store, scope: str, later_ms: int, repeats: bool, reopen: Callable[[Store], Awaitable[None]]
) -> None:
    """Its first queue remembers it from when it was sent; the dead-letter queue takes it, and does not know its id."""
    await store.create(scope)
    before = await store.send("a", "dead.fifo")
    original = await store.send("a")
    assert await store.receive() == [original.message_id]
    await store.clock.advance(1)
    assert await store.receive() == []
    assert await store.peek("dead.fifo") == [before.message_id, original.message_id]
    await reopen(store)
    await store.clock.advance(later_ms / 1000 - 1)
    again = await store.send("a")
    assert again.duplicate == repeats
    assert (again.message_id == original.message_id) == repeats
    # Counted from what was sent there, not from the move.
    there = await store.send("a", "dead.fifo")
    assert there.duplicate == repeats
    assert (there.message_id == before.message_id) == repeats


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("later_ms", "repeats"), EDGE)
async def test_a_repeat_of_what_was_moved_back(store: Store, scope: str, later_ms: int, repeats: bool) -> None:
    """It comes back within its own window, and is no repeat of itself; nor does its window begin again with that."""
    await store.create(scope)
    original = await store.send("a")
    await store.receive()
    await store.clock.advance(1)
    await store.receive()
    await store.clock.advance(100)
    assert await store.engine.queues.move_messages("dead.fifo", [original.message_id], "q.fifo") == 1
    assert await store.peek("q.fifo") == [original.message_id]
    await store.clock.advance(later_ms / 1000 - 101)
    again = await store.send("a")
    assert again.duplicate == repeats
    assert await store.peek("q.fifo") == [original.message_id, again.message_id][: 2 - repeats]

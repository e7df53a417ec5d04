"""What becomes of a delete, or a change of visibility, whose message has left the queue meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamkit.codecs import Codec
from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import MessageNotInflightError
from streamkit.functions.effects import Effects
from streamkit.limits import Limits
from streamkit.metrics.window import Metrics
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.queue import Queue
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.testing.clock import ManualClock


@pytest.fixture(params=["memory", "file"])
async def engine(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Engine]:
    if request.param == "memory":
        engine: Engine = MemoryEngine(clock, Limits.relaxed())
    else:
        engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    yield engine
    await engine.aclose()


@pytest.fixture(params=["standard", "fifo"])
def suffix(request: pytest.FixtureRequest) -> str:
    return ".fifo" if request.param == "fifo" else ""


async def dead_letter(engine: Engine, clock: ManualClock, suffix: str, *, eager: bool = False) -> list[str]:
    """Make a queue ``q`` whose one message is a dead letter, and give all the receipt handles it had, oldest first."""
    fifo = suffix != ""
    await engine.queues.create_queue(f"dead{suffix}", QueueAttributes(fifo=fifo))
    policy = RedrivePolicy(dead_letter_queue=f"dead{suffix}", max_receive_count=2, eager=eager)
    await engine.queues.create_queue(f"q{suffix}", QueueAttributes(fifo=fifo, redrive_policy=policy))
    entry = SendEntry(b"x", group_id="a", deduplication_id="1") if fifo else SendEntry(b"x")
    await engine.queues.send_messages(f"q{suffix}", [entry])
    handles = []
    for _ in range(2):
        (message,) = await engine.queues.receive_messages(f"q{suffix}", 1, 1_000, 0)
        handles.append(message.receipt_handle)
        await clock.advance(1)
    if not eager:
        assert await engine.queues.receive_messages(f"q{suffix}", 1, 1_000, 0) == []
    return handles


@pytest.mark.parametrize("eager", [False, True])
async def test_deleting_what_became_a_dead_letter_succeeds_and_it_stays(
    engine: Engine, clock: ManualClock, suffix: str, eager: bool
) -> None:
    """With any of its handles. As in SQS, where deleting with an old handle succeeds and need not delete."""
    handles = await dead_letter(engine, clock, suffix, eager=eager)
    for handle in handles:
        assert await engine.queues.delete_messages(f"q{suffix}", [handle]) == [None]
    assert await engine.queues.delete_messages(f"q{suffix}", handles) == [None, None]
    (letter,) = await engine.queues.peek_messages(f"dead{suffix}", 10)
    assert (letter.body, letter.receive_count, letter.dead_letter_source) == (b"x", 2, f"q{suffix}")


async def test_a_dead_letter_cannot_be_shown_or_hidden_where_it_came_from(
    engine: Engine, clock: ManualClock, suffix: str
) -> None:
    handles = await dead_letter(engine, clock, suffix)
    for timeout_ms in (0, 60_000):
        entries = [VisibilityEntry(handle, timeout_ms) for handle in handles]
        errors = await engine.queues.change_visibility(f"q{suffix}", entries)
        assert [type(error) for error in errors] == [MessageNotInflightError] * 2
    assert len(await engine.queues.peek_messages(f"dead{suffix}", 10)) == 1


async def test_what_comes_back_is_not_deleted_by_what_it_was_received_with_before(
    engine: Engine, clock: ManualClock, suffix: str
) -> None:
    """A redriven message is a new one, with the same id: neither while it is visible nor while somebody has it."""
    handles = await dead_letter(engine, clock, suffix)
    (letter,) = await engine.queues.peek_messages(f"dead{suffix}", 10)
    assert await engine.queues.move_messages(f"dead{suffix}", [letter.message_id], f"q{suffix}") == 1
    assert await engine.queues.delete_messages(f"q{suffix}", handles) == [None, None]
    (again,) = await engine.queues.receive_messages(f"q{suffix}", 1, 1_000, 0)
    assert (again.message_id, again.receive_count) == (letter.message_id, 1)
    assert again.receipt_handle not in handles
    assert await engine.queues.delete_messages(f"q{suffix}", handles) == [None, None]
    (queue,) = await engine.queues.describe_queues([f"q{suffix}"])
    assert (queue.visible, queue.not_visible) == (0, 1)
    assert await engine.queues.delete_messages(f"q{suffix}", [again.receipt_handle]) == [None]
    (queue,) = await engine.queues.describe_queues([f"q{suffix}"])
    assert (queue.visible, queue.not_visible) == (0, 0)


async def test_an_effect_on_what_became_a_dead_letter_is_refused(
    engine: Engine, clock: ManualClock, suffix: str
) -> None:
    """To delete it is a claim that it takes effect now, and once: then it must still be there."""
    handles = await dead_letter(engine, clock, suffix)
    for handle in handles:
        with pytest.raises(MessageNotInflightError):
            await engine.commit(Effects(deletes=((f"q{suffix}", (handle,)),)))
    assert len(await engine.queues.peek_messages(f"dead{suffix}", 10)) == 1


async def test_a_handler_that_takes_too_long_does_not_fail_when_it_deletes_a_dead_letter(
    engine: Engine, clock: ManualClock, suffix: str
) -> None:
    """Through the handle that users hold."""
    handles = await dead_letter(engine, clock, suffix)
    queue: Queue[bytes] = Queue(f"q{suffix}", Codec(bytes), engine.queues, clock, Metrics())
    for handle in handles:
        await queue.delete(handle)
    assert await queue.delete_batch(handles) == [None, None]
    with pytest.raises(MessageNotInflightError):
        await queue.change_visibility(handles[-1], 10)

"""Moving dead letters back, at a rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import streamkit
from streamkit import Kit, Queue, RedrivePolicy, Send, ValidationError
from streamkit.queues.move_task import MoveTask
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def dead_letters(kit: Kit, count: int, *, source: str = "jobs") -> tuple[Queue[str], Queue[str]]:
    """A queue and its dead-letter queue, which holds that many messages of it."""
    dead = await kit.create_queue("dead", type=str, exist_ok=True)
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    jobs = await kit.create_queue(source, type=str, visibility_timeout=0, redrive_policy=policy)
    await jobs.send_batch([f"{source} {number}" for number in range(count)])
    await jobs.receive(10_000)
    await jobs.receive(10_000)
    assert (await dead.describe()).visible >= count
    return jobs, dead


async def bodies(queue: Queue[str]) -> list[str]:
    return [message.value for message in await queue.peek(10_000)]


async def test_all_go_back_to_where_they_came_from(kit: Kit) -> None:
    """In their order, to be received afresh."""
    jobs, dead = await dead_letters(kit, 1_200)
    other, _ = await dead_letters(kit, 3, source="other")
    task = dead.move_task()
    await task.run(Stop())
    assert (task.status, task.moved, task.to_move, task.failure_reason) == ("COMPLETED", 1_203, 1_203, None)
    assert await bodies(jobs) == [f"jobs {number}" for number in range(1_200)]
    assert await bodies(other) == ["other 0", "other 1", "other 2"]
    assert [message.receive_count for message in await jobs.receive(1)] == [1]
    assert await bodies(dead) == []


async def test_or_to_one_queue(kit: Kit) -> None:
    """Also those that were sent to the dead-letter queue itself, which have nowhere to go back to."""
    _, dead = await dead_letters(kit, 2)
    await dead.send("sent here")
    task = dead.move_task()
    await task.run(Stop())
    assert task.status == "FAILED"
    assert "move with to=" in str(task.failure_reason)
    rest = await kit.create_queue("rest", type=str)
    await dead.move_task(to=rest).run(Stop())
    assert len(await bodies(rest)) == 3
    assert await bodies(dead) == []


async def test_at_a_rate(kit: Kit, clock: ManualClock) -> None:
    """So many each second, in the order of the queue."""
    jobs, dead = await dead_letters(kit, 25)
    task = kit.start(dead.move_task(rate=10))
    ended = asyncio.create_task(task.wait_ended())
    for moved in (10, 20, 25):
        await clock.advance(0)
        assert (task.moved, len(await bodies(jobs))) == (moved, moved)
        assert ended.done() == (moved == 25)
        await clock.advance(1)
    assert await ended == "COMPLETED"


async def test_what_comes_meanwhile_stays(kit: Kit, clock: ManualClock) -> None:
    """A message that fails again at once does not go round and round."""
    jobs, dead = await dead_letters(kit, 4)
    task = kit.start(dead.move_task(rate=2))
    await clock.advance(0)
    await jobs.receive(10)
    await jobs.receive(10)
    await clock.advance(60)
    assert (task.status, task.moved) == ("COMPLETED", 4)
    assert len(await bodies(dead)) + len(await bodies(jobs)) == 4


async def test_cancelling_leaves_the_rest(kit: Kit, clock: ManualClock) -> None:
    """And a cancelled task says how many it moved."""
    jobs, dead = await dead_letters(kit, 25)
    task = kit.start(dead.move_task(rate=10))
    await clock.advance(0)
    assert task.cancel() == 10
    assert str(task.status) == "CANCELLING"
    await clock.advance(0)
    assert str(task.status) == "CANCELLED"
    await clock.advance(60)
    assert (len(await bodies(jobs)), len(await bodies(dead))) == (10, 15)
    never = dead.move_task()
    assert never.cancel() == 0
    await never.run(Stop())
    assert (never.status, never.moved, await never.wait_ended()) == ("CANCELLED", 0, "CANCELLED")


async def test_a_stop_is_a_cancellation(kit: Kit, clock: ManualClock) -> None:
    """As when the kit closes."""
    _, dead = await dead_letters(kit, 25)
    task = kit.start(dead.move_task(rate=10))
    await clock.advance(0)
    await kit.stop(task)
    assert (task.status, task.moved) == ("CANCELLED", 10)
    task = dead.move_task(rate=1)
    running = asyncio.create_task(task.run(Stop()))
    await clock.advance(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (task.status, task.moved) == ("CANCELLED", 1)


async def test_one_at_a_time_and_listed(kit: Kit, clock: ManualClock) -> None:
    """Of one dead-letter queue; those that run are among the kit's services."""
    _, dead = await dead_letters(kit, 25)
    task = kit.start(dead.move_task(rate=1))
    with pytest.raises(ValidationError, match="move:dead"):
        kit.start(dead.move_task())
    await clock.advance(0)
    assert kit.health().services["move:dead"]
    assert repr(task) == "MoveTask('dead', RUNNING, moved=1 of 25)"


async def test_what_cannot_be_moved(kit: Kit) -> None:
    """Says so."""
    jobs, dead = await dead_letters(kit, 1)
    for rate in (0, 501, 1.5, True):
        with pytest.raises(ValidationError, match="1 to 500"):
            dead.move_task(rate=rate)  # type: ignore[arg-type]
    for task in (jobs.move_task(), dead.move_task(to="missing"), kit.queue("missing").move_task()):
        await task.run(Stop())
        assert (task.status, task.moved) == ("FAILED", 0)
        assert task.failure_reason
    assert isinstance(jobs.move_task(), MoveTask)


async def late_letters(kit: Kit, clock: ManualClock, *, delay: float = 0) -> tuple[Queue[str], Queue[str]]:
    """Dead letters that were sent with delays of their own: 0, 40 and 20 s, and died in the order 0, 20, 40."""
    dead = await kit.create_queue("dead", type=str, delay=delay)
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    jobs = await kit.create_queue("jobs", type=str, visibility_timeout=0, redrive_policy=policy)
    await jobs.send_batch([Send(value=f"{own} s", delay=own) for own in (0, 40, 20)])
    for _ in range(3):
        assert len(await jobs.receive(10)) == 1
        assert await jobs.receive(10) == []
        await clock.advance(20)
    assert await bodies(dead) == ["0 s", "20 s", "40 s"]
    return jobs, dead


@pytest.mark.parametrize("delay", [0, 30])
async def test_what_was_sent_with_a_delay_comes_back_without(kit: Kit, clock: ManualClock, delay: float) -> None:
    """It has waited. Nor does the delay of the queue that it goes to count, which is for what is sent there."""
    jobs, dead = await late_letters(kit, clock)
    await jobs.update(delay=delay)
    task = dead.move_task()
    await task.run(Stop())
    assert (task.status, task.moved) == ("COMPLETED", 3)
    assert await bodies(jobs) == ["0 s", "20 s", "40 s"]
    counts = await jobs.describe()
    assert (counts.visible, counts.delayed) == (3, 0)
    assert [(m.value, m.receive_count) for m in await jobs.receive(10)] == [("0 s", 1), ("20 s", 1), ("40 s", 1)]


async def test_a_dead_letter_queue_s_own_delay_is_for_what_is_sent_there(kit: Kit, clock: ManualClock) -> None:
    """Dead letters are there at once. A task moves what is visible, so what was sent there and waits stays."""
    jobs, dead = await late_letters(kit, clock, delay=50)
    await dead.send_batch(["its own", Send(value="mine", delay=5)])
    assert len(await bodies(dead)) == 3
    await clock.advance(5)
    task = dead.move_task(to=jobs)
    await task.run(Stop())
    assert (task.status, task.moved, task.to_move) == ("COMPLETED", 4, 4)
    assert await bodies(jobs) == ["0 s", "20 s", "40 s", "mine"]
    await clock.advance(45)
    assert await bodies(dead) == ["its own"]
    assert await dead.redrive(await dead.peek(), to=jobs) == 1
    assert len(await bodies(jobs)) == 5


async def test_what_comes_to_be_visible_while_a_task_runs_stays(kit: Kit, clock: ManualClock) -> None:
    """The task moves as many as were visible when it began, and they are before what waits."""
    jobs, dead = await late_letters(kit, clock)
    await dead.send("late", delay=1)
    task = kit.start(dead.move_task(to=jobs, rate=1))
    await clock.advance(10)
    assert (task.status, task.moved) == ("COMPLETED", 3)
    assert await bodies(dead) == ["late"]


async def test_a_fifo_queue_s_delay_holds_up_what_comes_back_behind_it(kit: Kit, clock: ManualClock) -> None:
    """It is not delayed itself, but in its group it comes after what was sent before it."""
    dead = await kit.create_queue("dead.fifo", type=str, fifo=True)
    policy = RedrivePolicy(dead_letter_queue="dead.fifo", max_receive_count=1)
    jobs = await kit.create_queue(
        "jobs.fifo", type=str, fifo=True, delay=10, visibility_timeout=0, redrive_policy=policy
    )
    await jobs.send_batch([Send(value=group, group_id=group, deduplication_id=group) for group in "ab"])
    await clock.advance(10)
    assert len(await jobs.receive(10)) == 2
    assert await jobs.receive(10) == []
    await jobs.send("younger", group_id="a", deduplication_id="younger")
    task = dead.move_task()
    await task.run(Stop())
    assert (task.status, task.moved) == ("COMPLETED", 2)
    assert await bodies(jobs) == ["b"]
    await clock.advance(10)
    assert [message.value for message in await jobs.receive(10)] == ["b", "younger", "a"]

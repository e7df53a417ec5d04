from __future__ import annotations

import asyncio

import pytest

from streamkit.errors import ClosedError, JournalFailedError
from streamkit.queues.message import Message
from streamkit.queues.portions import Portions
from streamkit.queues.settling import Settling, described
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue, Wire
from .working import turns


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ArithmeticError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (KeyError("a"), "KeyError: 'a'"),
        (UnspeakableError(), "UnspeakableError: (its text raises an error itself)"),
        (ValueError("x" * 5_000), "ValueError: " + "x" * 1_000),
    ],
)
def test_what_a_dead_letter_says_it_failed_with(error: Exception, expected: str) -> None:
    assert described(error) == expected


async def received(queue: object, count: int) -> list[Message[int]]:
    await queue.send_batch(range(count))  # type: ignore[attr-defined]
    messages: list[Message[int]] = await queue.receive(count)  # type: ignore[attr-defined]
    return messages


async def test_deletes_of_one_turn_go_together(make_queue: MakeQueue, clock: ManualClock, wire: Wire) -> None:
    queue = await make_queue(over=wire)
    messages = await received(queue, 20)
    settling = Settling(Portions(queue), clock, "worker")
    counts = await asyncio.gather(*(settling.delete([message]) for message in messages[:10]))
    assert counts == [1] * 10
    assert wire.calls["delete_messages"] == 1
    counts = await asyncio.gather(*(settling.delete(messages[at : at + 5]) for at in (10, 15)))
    assert counts == [5, 5]
    assert wire.calls["delete_messages"] == 2
    assert (await queue.describe()).not_visible == 0


async def test_one_that_is_not_ours_any_more_is_the_problem_of_its_own_delete(
    make_queue: MakeQueue, clock: ManualClock
) -> None:
    queue = await make_queue()
    messages = await received(queue, 3)
    await queue.change_visibility(messages[1], 0)
    assert len(await queue.receive()) == 1
    settling = Settling(Portions(queue), clock, "worker")
    assert await asyncio.gather(*(settling.delete([message]) for message in messages)) == [1, 0, 1]


async def test_all_of_a_turn_fail_together_and_the_next_goes_on(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(over=wire)
    messages = await received(queue, 3)
    settling = Settling(Portions(queue), clock, "worker")
    wire.fail["delete_messages"] = JournalFailedError("journal", OSError(5, "Input/output error"))
    answers = await asyncio.gather(*(settling.delete([m]) for m in messages), return_exceptions=True)
    assert [type(answer) for answer in answers] == [JournalFailedError] * 3
    wire.fail.clear()
    assert await settling.delete(messages) == 3


async def test_who_waits_for_a_delete_that_somebody_gave_up_does_not_take_it_for_done(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(over=wire)
    messages = await received(queue, 2)
    settling = Settling(Portions(queue), clock, "worker")
    wire.hold["delete_messages"] = asyncio.Event()
    first = asyncio.create_task(settling.delete(messages[:1]))
    second = asyncio.create_task(settling.delete(messages[1:]))
    await turns()
    first.cancel()
    with pytest.raises(ClosedError):
        await second
    assert (await queue.describe()).not_visible == 2


async def test_a_delete_that_is_cancelled_leaves_nothing_behind(
    make_queue: MakeQueue, clock: ManualClock, wire: Wire
) -> None:
    queue = await make_queue(over=wire)
    settling = Settling(Portions(queue), clock, "worker")
    messages = await received(queue, 2)

    async def the_next_one_works() -> None:
        nonlocal messages
        assert await settling.delete(messages) == 2
        messages = await received(queue, 2)

    assert await cancel_at_every_step(lambda: settling.delete(messages), the_next_one_works) >= 2

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamkit.errors import JournalFailedError
from streamkit.queues.message import Message, QueueAttributes
from streamkit.queues.portions import Portions
from streamkit.queues.queue import Queue, Send
from streamkit.queues.receiving import Receiving
from streamkit.testing.cancellation import cancel_at_every_step

from .conftest import MakeQueue, Wire


class Calls:
    """What was handed on, and for how many calls there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.values: list[list[int]] = []
        self.messages: list[Message[int]] = []

    def start(self, messages: Sequence[Message[int]]) -> None:
        self.room -= 1
        self.values.append([message.value for message in messages])
        self.messages += messages


def receiving(queue: Queue[int], calls: Calls, *, call_size: int = 1, fifo: bool = False) -> Receiving[int]:
    return Receiving(
        Portions(queue), call_size=call_size, fifo=fifo, timeout=30, room=lambda: calls.room, start=calls.start
    )


async def fifo(make_queue: MakeQueue, wire: Wire, groups: int, count: int) -> Queue[int]:
    """A FIFO queue with ``count`` numbers, those of a group ``groups`` apart."""
    queue: Queue[int] = await make_queue("standard", over=wire)
    await queue._store.create_queue("jobs.fifo", QueueAttributes(fifo=True))
    queue.name = "jobs.fifo"
    sends = [Send(value=at, group_id=f"{at % groups:03}", deduplication_id=str(at)) for at in range(count)]
    await queue.send_batch(sends)
    return queue


async def test_one_receive_asks_for_all_there_is_room_for(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)
    await queue.send_batch(range(100))
    calls = Calls(room=30)
    assert await receiving(queue, calls).once(careful=False)
    assert calls.values == [[value] for value in range(30)]
    assert wire.calls["receive_messages"] == 1


async def test_batches_are_cut_from_one_receive(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await make_queue(over=wire)
    await queue.send_batch(range(10))
    calls = Calls(room=5)
    assert await receiving(queue, calls, call_size=4).once(careful=True)
    assert calls.values == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert wire.calls["receive_messages"] == 1


@pytest.mark.parametrize(("room", "groups"), [(1, 64), (20, 64), (500, 64), (10, 1), (100, 3)])
async def test_one_message_of_each_group_is_in_hand(make_queue: MakeQueue, wire: Wire, room: int, groups: int) -> None:
    queue = await fifo(make_queue, wire, groups, 4 * groups)
    calls = Calls(room)
    assert await receiving(queue, calls, fifo=True).once(careful=False)
    assert sorted(calls.values) == [[group] for group in range(min(room, groups))]


async def test_receives_that_find_something_grow_in_number_and_those_in_vain_shrink(
    make_queue: MakeQueue, wire: Wire
) -> None:
    queue = await fifo(make_queue, wire, groups=64, count=64 * 6)
    calls = Calls(500)
    receives = receiving(queue, calls, fifo=True)
    asked = []
    for _ in range(3):
        before = wire.calls["receive_messages"]
        assert await receives.once(careful=False)
        asked.append(wire.calls["receive_messages"] - before)
        await queue.delete_batch(calls.messages)
        calls.messages.clear()
    assert asked[0] == 1 + 1 + 2 + 4 + 8 + 16 + 32 + 32
    assert asked[2] <= 64 + 32
    await queue.purge()
    await queue.send_batch([Send(value=at, group_id="one", deduplication_id=f"one-{at}") for at in range(10)])
    asked.clear()
    for _ in range(3):
        before = wire.calls["receive_messages"]
        assert await receives.once(careful=False)
        asked.append(wire.calls["receive_messages"] - before)
        await queue.delete_batch(calls.messages)
        calls.messages.clear()
    assert asked[1:] == [2, 2]


async def test_a_fifo_batch_has_several_of_a_group_and_one_if_care_is_taken(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await fifo(make_queue, wire, groups=2, count=8)
    calls = Calls(room=3)
    assert await receiving(queue, calls, call_size=3, fifo=True).once(careful=False)
    assert calls.values == [[0, 2, 4], [1, 3, 5]]  # Of the second group, and not what is behind the first.
    await queue.change_visibility_batch([(message, 0) for message in calls.messages])
    calls = Calls(room=3)
    assert await receiving(queue, calls, call_size=3, fifo=True).once(careful=True)
    assert calls.values == [[0], [1]]


async def test_what_came_before_a_failure_is_handed_on(
    make_queue: MakeQueue, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await fifo(make_queue, wire, groups=8, count=8)
    calls = Calls(room=8)
    receives = receiving(queue, calls, fifo=True)
    receive, made = queue.receive, 0

    async def receive_twice(max_messages: int = 1, **options: float) -> list[Message[int]]:
        nonlocal made
        made += 1
        if made > 2:
            raise JournalFailedError("journal", OSError(5, "Input/output error"))
        return await receive(max_messages, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "receive", receive_twice)
    with pytest.raises(JournalFailedError):
        await receives.once(careful=False)
    assert calls.values == [[0], [1]]


async def test_a_receive_that_is_cancelled_has_handed_on_what_it_received(make_queue: MakeQueue, wire: Wire) -> None:
    queue = await fifo(make_queue, wire, groups=8, count=16)
    calls = Calls(room=8)

    async def all_in_flight_were_handed_on() -> None:
        found = await queue.describe()
        assert found.not_visible == len(calls.messages)
        if calls.messages:
            await queue.change_visibility_batch([(message, 0) for message in calls.messages])
        calls.messages.clear()
        calls.room = 8
        await asyncio.sleep(0)

    make = lambda: receiving(queue, calls, fifo=True).once(careful=False)  # noqa: E731
    assert await cancel_at_every_step(make, all_in_flight_were_handed_on) >= 4

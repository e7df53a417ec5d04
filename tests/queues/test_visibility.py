"""The pure queue: its own edges, and a model that is obviously right."""

from __future__ import annotations

import random

import pytest

from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState


def queue(max_receive_count: int | None = None) -> QueueState:
    policy = None
    if max_receive_count is not None:
        policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=max_receive_count)
    return QueueState(1, "jobs", 0, QueueAttributes(redrive_policy=policy))


def send(state: QueueState, number: int, now_ms: int = 0, delay_ms: int = 0) -> None:
    place = "delayed" if delay_ms else "ready"
    state.add(StoredMessage(number, f"m{number}", b"x", now_ms, place, now_ms + delay_ms, delay_ms))  # type: ignore[arg-type]


def receive(state: QueueState, count: int, now_ms: int, timeout_ms: int = 30_000) -> list[int]:
    taken = state.take(count, now_ms, dead_letters=True)
    for message in taken.received:
        state.receive(message, now_ms, timeout_ms)
    for message in taken.moved:
        state.remove(message)
    return [message.number for message in taken.received]


def test_delivered_exactly_max_receive_count_times_then_moved() -> None:
    state = queue(max_receive_count=2)
    send(state, 1)
    assert receive(state, 1, 0) == [1]
    assert receive(state, 1, 30_000) == [1]
    taken = state.take(1, 60_000, dead_letters=True)
    assert (taken.received, [message.receive_count for message in taken.moved]) == ([], [2])


def test_without_a_dead_letter_queue_it_is_delivered_again() -> None:
    state = queue(max_receive_count=1)
    send(state, 1)
    assert receive(state, 1, 0) == [1]
    assert [message.number for message in state.take(1, 30_000, dead_letters=False).received] == [1]


def test_a_released_message_is_first_again_and_uncounted() -> None:
    state = queue()
    send(state, 1)
    send(state, 2)
    (first,) = state.take(1, 0, dead_letters=False).received
    state.receive(first, 0, 30_000)
    state.release(first)
    assert (first.receive_count, first.first_received_ms) == (0, 0)
    assert receive(state, 2, 0) == [1, 2]


def test_a_message_hidden_again_while_it_waits_is_handed_out_once() -> None:
    state = queue()
    send(state, 1)
    receive(state, 1, 0, 1000)
    state.surface(1000)
    state.hide(state.messages[1], 1000, 5000)
    assert receive(state, 5, 2000) == []
    state.hide(state.messages[1], 2000, 0)
    assert receive(state, 5, 2000) == [1]
    assert receive(state, 5, 2001) == []


@pytest.mark.parametrize("set_back_ms", [3_600_000, 86_400_000])
def test_a_clock_set_back_does_not_hide_for_longer(set_back_ms: int) -> None:
    state = queue()
    now_ms = 100_000_000
    send(state, 1, now_ms)
    receive(state, 1, now_ms)
    now_ms -= set_back_ms
    state.clamp(now_ms)
    assert state.next_visible_ms() == now_ms + 30_000
    assert receive(state, 1, now_ms + 30_000) == [1]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_model(seed: int) -> None:
    """Random sends, receives, deletes and changes: the same visible set and counts as a dict of deadlines."""
    chance = random.Random(seed)
    state = queue()
    model: dict[int, int] = {}
    received: set[int] = set()
    now_ms = 1
    for step in range(300):
        now_ms += chance.choice([0, 1, 50, 400])
        action = chance.random()
        if action < 0.35:
            delay_ms = chance.choice([0, 0, 200])
            send(state, step + 1, now_ms, delay_ms)
            model[step + 1] = now_ms + delay_ms
        elif action < 0.7:
            visible = {number for number, at_ms in model.items() if at_ms <= now_ms}
            timeout_ms = chance.choice([0, 100, 1000])
            count = chance.randint(1, 4)
            found = receive(state, count, now_ms, timeout_ms)
            assert set(found) <= visible
            assert len(set(found)) == len(found) == min(count, len(visible))
            model.update(dict.fromkeys(found, now_ms + timeout_ms))
            received.update(found)
        elif received & set(model):
            number = chance.choice(sorted(received & set(model)))
            if action < 0.85:
                state.remove(state.messages[number])
                del model[number]
            else:
                timeout_ms = chance.choice([0, 300])
                state.hide(state.messages[number], now_ms, timeout_ms)
                model[number] = now_ms + timeout_ms
        described = state.describe(now_ms)
        hidden = {number for number, at_ms in model.items() if at_ms > now_ms}
        assert described.visible == len(model) - len(hidden)
        assert described.not_visible == len(hidden & received)
        assert described.delayed == len(hidden - received)
        assert state.next_visible_ms() == min((model[number] for number in hidden), default=None)

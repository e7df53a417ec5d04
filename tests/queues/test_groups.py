"""The order of FIFO queues: the receive rules one by one, and a model that keeps lists."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.queues import groups
from streamkit.queues.groups import FifoOrder
from streamkit.queues.stored import Place, StoredMessage


def message(number: int, group_id: str = "a", place: Place = "ready") -> StoredMessage:
    return StoredMessage(number, f"m{number}", b"", 0, place, 0, group_id=group_id, receive_count=place == "in flight")


class Queue:
    """An order and the little around it that moves messages from place to place."""

    def __init__(self, *sent: str) -> None:
        self.order = FifoOrder()
        self.at: dict[int, StoredMessage] = {}
        for group_id in sent:
            self.send(group_id)

    def send(self, group_id: str, place: Place = "ready") -> None:
        number = max(self.at, default=0) + 1
        self.at[number] = message(number, group_id, place)
        self.order.add(self.at[number])

    def receive(self, count: int = 10, timeout: bool = True) -> list[int]:
        taken = [m.number for m, _ in zip(self.order.choose(), range(count), strict=False)]
        for number in taken:
            self.at[number].receive_count += 1
            self.at[number].place = "in flight"
            self.order.hide(self.at[number])
            if not timeout:
                self.show(number)
        return taken

    def show(self, number: int) -> None:
        self.at[number].place = "ready"
        self.order.show(self.at[number])

    def release(self, numbers: list[int]) -> None:
        for number in reversed(numbers):
            self.at[number].receive_count -= 1
            self.at[number].place = "ready"
            self.order.show(self.at[number], first=True)

    def delete(self, *numbers: int) -> None:
        for number in numbers:
            self.order.remove(self.at.pop(number))


def test_rule_1_a_call_drains_a_group_and_goes_on_with_others() -> None:
    queue = Queue("a", "b", "a", "c", "b")
    assert queue.receive(4) == [1, 3, 2, 5]


def test_rule_2_a_group_is_blocked_by_what_is_in_flight_also_for_new_arrivals() -> None:
    queue = Queue("a", "a")
    assert queue.receive(1) == [1]
    assert queue.receive() == []
    queue.send("a")
    queue.send("b")
    assert queue.receive() == [4]


def test_rule_3_a_group_unblocks_when_all_is_deleted() -> None:
    queue = Queue("a", "a", "a")
    assert queue.receive(2) == [1, 2]
    queue.delete(2, 1)
    assert queue.receive() == [3]


def test_rule_3_a_group_unblocks_when_one_is_visible_again() -> None:
    queue = Queue("a", "a", "a")
    assert queue.receive(2) == [1, 2]
    queue.show(1)
    assert queue.receive() == [1]


def test_rule_3_a_move_to_a_dead_letter_queue_unblocks_within_the_same_receive() -> None:
    queue = Queue("a", "a", "b")
    (dead, *others) = queue.order.choose()
    assert [m.number for m in others] == [2, 3]
    queue.delete(dead.number)
    dead.number, dead.place = 71, "ready"
    assert queue.receive() == [2, 3]


def test_rule_4_a_partial_delete_leaves_the_group_blocked() -> None:
    queue = Queue("a", "a", "a")
    assert queue.receive(2) == [1, 2]
    queue.delete(1)
    assert queue.receive() == []
    queue.delete(2)
    assert queue.receive() == [3]


def test_rule_5_an_earlier_visible_one_is_receivable_while_a_later_stays_hidden() -> None:
    queue = Queue("a", "a", "a")
    assert queue.receive(2) == [1, 2]
    queue.show(1)
    assert queue.receive() == [1]
    queue.delete(1)
    assert queue.receive() == []


def test_rule_6_a_hidden_one_hides_what_comes_after_it() -> None:
    queue = Queue("a", "a", "a", "a")
    assert queue.receive(3) == [1, 2, 3]
    queue.show(3)
    assert queue.receive() == []
    queue.show(1)
    assert queue.receive() == [1]


def test_rule_7_a_delayed_one_does_not_block_earlier_ones_but_those_behind_it() -> None:
    queue = Queue("a")
    queue.send("a", "delayed")
    queue.send("a")
    assert queue.receive() == [1]
    queue.delete(1)
    assert queue.receive() == []
    queue.show(2)
    assert queue.receive() == [2, 3]


def test_rule_8_after_an_expiry_it_starts_from_the_oldest() -> None:
    queue = Queue("a", "a", "a")
    assert queue.receive(2) == [1, 2]
    queue.show(2)
    queue.show(1)
    assert queue.receive() == [1, 2, 3]


def test_a_group_that_was_served_goes_to_the_back() -> None:
    queue = Queue("a", "a", "b", "c")
    assert queue.receive(1) == [1]
    queue.delete(1)
    assert [queue.receive(1) for _ in range(3)] == [[3], [4], [2]]


def test_received_and_shown_in_one_goes_to_the_back() -> None:
    queue = Queue("a", "b")
    assert [queue.receive(1, timeout=False) for _ in range(3)] == [[1], [2], [1]]


def test_a_receive_that_reached_nobody_leaves_everything_as_it_was() -> None:
    queue = Queue("a", "a", "b", "c")
    queue.release(queue.receive(3))
    assert queue.receive() == [1, 2, 3, 4]


def test_a_group_whose_message_was_moved_keeps_its_turn() -> None:
    queue = Queue("a", "b", "a")
    queue.delete(1)
    assert queue.receive() == [3, 2]


def test_groups_in_flight_are_counted() -> None:
    queue = Queue("a", "a", "b")
    queue.send("c", "delayed")
    assert queue.order.groups_in_flight == 0
    queue.receive()
    assert queue.order.groups_in_flight == 2
    queue.show(4)
    queue.show(2)
    assert queue.order.groups_in_flight == 2
    queue.delete(1, 3)
    assert queue.order.groups_in_flight == 0


def test_choosing_changes_nothing() -> None:
    queue = Queue("a", "b", "a")
    assert list(queue.order.choose()) == list(queue.order.choose())


def test_groups_that_come_and_go_leave_nothing_behind() -> None:
    order = FifoOrder()
    order.add(message(1, "one that waits, so that the others never come to the front of the turns"))
    for number in range(2, 2000):
        one = message(number, f"group {number}")
        order.add(one)
        order.remove(one)
    assert len(order._turns) < 200
    assert len(order._groups) == 1


def test_a_group_holds_on_to_nothing_that_was_removed() -> None:
    """Also with its first message in flight for long, while those behind it go one after another."""
    order = FifoOrder()
    sent = [message(number) for number in range(1, 5001)]
    for one in sent:
        order.add(one)
    for one in sent[1:-1]:
        order.remove(one)
    (group,) = order._groups.values()
    assert group.later is not None
    assert len(group.later) < 100
    assert list(order.choose()) == [sent[0], sent[-1]]


def test_a_group_holds_on_to_nothing_that_was_received_and_deleted() -> None:
    order = FifoOrder()
    sent = [message(number) for number in range(1, 50)]
    for one in sent:
        order.add(one)
    for one in sent[:10]:
        order.remove(one)
    (group,) = order._groups.values()
    assert group.later is not None
    assert not [one for one in group.later if one in sent[:11]]
    assert list(order.choose()) == sent[10:]


def test_first_again_it_comes_before_where_it_stood() -> None:
    queue = Queue("a", "b", "c")
    queue.at[2].place = "in flight"
    queue.order.hide(queue.at[2])
    queue.release([2])
    assert queue.receive() == [2, 1, 3]
    queue.show(2)
    queue.show(1)
    queue.at[1].place = "in flight"
    queue.order.hide(queue.at[1])
    assert queue.receive() == [2]


class Model:
    """Groups are lists, and so are the turns: who gets something to receive queues up, who has nothing steps out."""

    def __init__(self) -> None:
        self.groups: dict[str | None, list[StoredMessage]] = {}
        self.turns: list[str | None] = []

    def settle(self, group_id: str | None, first: bool = False) -> None:
        has = next(iter(self.receivable(group_id)), None) is not None
        if has and group_id not in self.turns:
            self.turns.insert(0 if first else len(self.turns), group_id)
        elif not has and group_id in self.turns:
            self.turns.remove(group_id)

    def receivable(self, group_id: str | None) -> Iterator[StoredMessage]:
        return takewhile(lambda m: m.place == "ready", self.groups.get(group_id, []))

    def choose(self) -> list[StoredMessage]:
        return [m for group_id in self.turns for m in self.receivable(group_id)]

    def groups_in_flight(self) -> int:
        return sum(any(m.place == "in flight" for m in messages) for messages in self.groups.values())


def run(steps: list[tuple[str, int]]) -> int:
    """Do the steps with both, compare after each; answers how many messages there were at most."""
    order, model = FifoOrder(), Model()
    last, most = 0, 0
    received: list[StoredMessage] = []

    def hide(one: StoredMessage) -> None:
        one.receive_count += 1
        one.place = "in flight"
        order.hide(one)
        model.settle(one.group_id)

    def show(one: StoredMessage, first: bool = False) -> None:
        one.receive_count -= first
        one.place = "ready"
        order.show(one, first=first)
        model.settle(one.group_id, first)

    def remove(one: StoredMessage) -> None:
        order.remove(one)
        model.groups[one.group_id].remove(one)
        model.settle(one.group_id)
        # As a dead letter it is somebody else's now.
        one.number, one.place = 10**9 - one.number, "ready"

    for kind, value in steps:
        everything = [m for messages in model.groups.values() for m in messages]
        most = max(most, len(everything))
        some = everything[value % len(everything)] if everything else None
        if kind == "send" or kind == "send hidden":
            last += 1
            place: Place = "ready" if kind == "send" else "delayed" if value % 2 else "in flight"
            one = message(last, "abcd"[value % 4], place)
            order.add(one)
            model.groups.setdefault(one.group_id, []).append(one)
            model.settle(one.group_id)
        elif kind == "receive":
            received = model.choose()[: value % 5]
            for one in received:
                hide(one)
        elif kind == "receive backwards":
            received = model.choose()[: value % 5]
            for one in reversed(received):
                hide(one)
        elif kind == "receive and move":
            for position, one in enumerate(model.choose()[: value % 5]):
                hide(one) if position % 2 else remove(one)
            received = []
        elif kind == "receive and show":
            for one in model.choose()[: value % 5]:
                hide(one)
                show(one)
            received = []
        elif kind == "release":
            for one in reversed(received):
                if one.place == "in flight":
                    show(one, first=True)
            received = []
        elif some is not None and kind == "remove":
            remove(some)
            received = [one for one in received if one is not some]
        elif some is not None and some.place != "ready":
            show(some)
            received = [one for one in received if one is not some]
        assert list(order.choose()) == model.choose()
        ready = [m for group in model.groups.values() for m in group if m.place == "ready"]
        assert {m.number for m in ready if order.is_receivable(m)} == {m.number for m in model.choose()}
        for name, messages in model.groups.items():
            assert (
                not messages
                or order.is_blocked(name) == any(m.place == "in flight" for m in messages)
                or (messages[0].place == "delayed")
            )
        assert order.groups_in_flight == model.groups_in_flight()
        assert len(order._groups) == sum(map(bool, model.groups.values()))
        for group in order._groups.values():
            assert group.removed == sum(isinstance(entry, int) for entry in (group.later or [])[group.start :])
    return most


KINDS = [
    *("send", "send", "send hidden", "receive", "receive backwards", "receive and move", "receive and show"),
    *("release", "remove", "show", "show"),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 999)), max_size=60))
def test_fifo_order_is_that_of_the_model(steps: list[tuple[str, int]]) -> None:
    run(steps)


@pytest.mark.parametrize("seed", range(6))
def test_fifo_order_is_that_of_the_model_also_after_long(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_FEW_STALE", seed % 3)
    monkeypatch.setattr(groups, "_NEAR", seed % 4)
    rng = random.Random(seed)
    assert run([(rng.choice([*KINDS, "send"]), rng.randrange(10**6)) for _ in range(1500)]) > 10

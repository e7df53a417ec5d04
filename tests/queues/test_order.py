"""The order of standard queues: first ready, first received, and noisy tenants last; and a model that keeps a list."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.queues import order as rooms
from streamkit.queues.order import StandardOrder
from streamkit.queues.stored import Place, StoredMessage


class Queue:
    """An order, and a model of it: the ready messages in a list, and tenants judged by counting."""

    def __init__(self) -> None:
        self.order = StandardOrder()
        self.last = 0
        self.ready: list[StoredMessage] = []
        self.hidden: list[StoredMessage] = []
        self.noisy: set[str] = set()
        self.ever_noisy: set[str] = set()

    def send(self, tenant: str | None = None, place: Place = "ready") -> StoredMessage:
        self.last += 1
        one = StoredMessage(self.last, f"m{self.last}", b"", 0, place, 0, group_id=tenant)
        one.receive_count = place == "in flight"
        (self.ready if place == "ready" else self.hidden).append(one)
        self.order.add(one)
        if place == "in flight":
            self.judge(tenant)
        return one

    def hide(self, one: StoredMessage) -> None:
        one.receive_count += 1
        one.place = "in flight"
        self.ready.remove(one)
        self.hidden.append(one)
        self.order.hide(one)
        self.judge(one.group_id)

    def show(self, one: StoredMessage, *, first: bool = False) -> None:
        was_in_flight = one.place == "in flight"
        one.receive_count -= first
        one.place = "ready"
        self.hidden.remove(one)
        self.ready.insert(0 if first else len(self.ready), one)
        self.order.show(one, first=first)
        if was_in_flight:
            self.judge(one.group_id)

    def remove(self, one: StoredMessage) -> None:
        self.order.remove(one)
        (self.ready if one.place == "ready" else self.hidden).remove(one)
        if one.place == "in flight":
            self.judge(one.group_id)
        # As a dead letter it is somebody else's now.
        one.number, one.place = 10**9 - one.number, "ready"

    def receive(self, count: int) -> list[StoredMessage]:
        for tenant in [*self.noisy]:
            self.judge(tenant)
        taken = [one for one, _ in zip(self.order.choose(), range(count), strict=False)]
        for one in taken:
            self.hide(one)
        return taken

    def release(self, received: list[StoredMessage]) -> None:
        for one in reversed(received):
            self.show(one, first=True)

    def judge(self, tenant: str | None) -> None:
        if tenant is None:
            return
        in_flight = [m.group_id for m in self.hidden if m.place == "in flight" and m.group_id is not None]
        active = {m.group_id for m in self.ready if m.group_id is not None} | set(in_flight)
        mine, others = in_flight.count(tenant), len(in_flight) - in_flight.count(tenant)
        peers = len(active - {tenant})
        if not peers:
            self.noisy.discard(tenant)
            return
        mean, share = Fraction(others, peers), Fraction(mine, max(len(in_flight), 1))
        if tenant in self.noisy:
            if mine <= mean or share < Fraction(5, 100):
                self.noisy.discard(tenant)
        elif mine >= 2 and mine > 2 * mean and share >= Fraction(10, 100):
            self.noisy.add(tenant)
            self.ever_noisy.add(tenant)

    def check(self) -> None:
        for tenant in [*self.noisy]:
            self.judge(tenant)
        chosen = list(self.order.choose())
        assert list(self.order.choose()) == chosen
        assert sorted(m.number for m in chosen) == sorted(m.number for m in self.ready)
        is_noisy = [m.group_id in self.noisy for m in chosen]
        assert is_noisy == sorted(is_noisy)
        for tenant in self.ever_noisy:
            assert [m for m in chosen if m.group_id == tenant] == [m for m in self.ready if m.group_id == tenant]
        assert [m for m in chosen if m.group_id not in self.ever_noisy] == [
            m for m in self.ready if m.group_id not in self.ever_noisy
        ]
        assert all(map(self.order.is_receivable, self.ready))
        assert self.order.noisy_groups == len(self.noisy)
        assert len(is_noisy) - self.order.noisy_ready == is_noisy.count(False)
        delayed = [m for m in self.hidden if m.place == "delayed"]
        assert self.order.noisy_delayed == len([m for m in delayed if m.group_id in self.noisy])
        assert all(self.order.is_noisy(m) == (m.group_id in self.noisy) for m in (*self.ready, *self.hidden))
        assert set(self.order._tenants) == {
            m.group_id for m in (*self.ready, *self.hidden) if m.place != "delayed" and m.group_id is not None
        }


def numbers(messages: list[StoredMessage]) -> list[int]:
    return [one.number for one in messages]


def backlog(**counts: int) -> Queue:
    queue = Queue()
    for tenant, count in counts.items():
        for _ in range(count):
            queue.send(tenant)
    return queue


def test_they_come_in_the_order_in_which_they_became_ready() -> None:
    queue = Queue()
    late = queue.send(place="delayed")
    for _ in range(3):
        queue.send()
    (first,) = queue.receive(1)
    queue.show(late)
    queue.show(first)
    assert numbers(queue.receive(9)) == [3, 4, 1, 2]


def test_a_receive_that_reached_nobody_leaves_everything_as_it_was() -> None:
    queue = backlog(a=3, b=2)
    queue.release(queue.receive(3))
    assert numbers(queue.receive(9)) == [1, 2, 3, 4, 5]


def test_a_dead_letter_that_is_ready_elsewhere_is_not_chosen_here() -> None:
    queue = Queue()
    one, two = queue.send(), queue.send()
    queue.remove(two)
    assert two.place == "ready"
    assert list(queue.order.choose()) == [one]


def test_quiet_tenants_come_before_a_noisy_one() -> None:
    queue = backlog(noisy=20, quiet=2)
    queue.send(None)
    assert queue.order.noisy_groups == 0
    assert numbers(queue.receive(5)) == [1, 2, 3, 4, 5]
    assert queue.order.noisy_groups == 1
    assert queue.order.noisy_ready == 15
    assert queue.order.noisy_in_flight == 5
    assert numbers(queue.receive(4)) == [21, 22, 23, 6]


def test_a_noisy_one_comes_when_nothing_else_waits() -> None:
    queue = backlog(noisy=20, quiet=1)
    queue.receive(5)
    assert numbers(queue.receive(1)) == [21]
    assert numbers(queue.receive(3)) == [6, 7, 8]


def test_a_tenant_alone_is_never_noisy() -> None:
    queue = backlog(a=20)
    queue.receive(15)
    assert queue.order.noisy_groups == 0


def test_tenants_with_equal_shares_are_not_noisy() -> None:
    queue = Queue()
    for _ in range(10):
        queue.send("a")
        queue.send("b")
    queue.receive(16)
    assert queue.order.noisy_groups == 0


def test_messages_without_a_group_are_never_held_back() -> None:
    queue = Queue()
    for _ in range(20):
        queue.send(None)
    queue.send("a")
    queue.receive(15)
    assert queue.order.noisy_groups == 0
    assert numbers(queue.receive(9)) == [16, 17, 18, 19, 20, 21]


def test_a_share_below_a_tenth_is_not_noisy() -> None:
    queue = Queue()
    for tenant in range(60):
        queue.send(f"t{tenant}", "in flight")
    for _ in range(5):
        queue.send("a", "in flight")
    assert queue.order.noisy_groups == 0
    for _ in range(2):
        queue.send("a", "in flight")
    assert queue.order.noisy_groups == 1


def test_quiet_again_only_when_it_has_no_more_than_the_others() -> None:
    queue = backlog(quiet=4, noisy=9)
    queue.receive(4)
    noisy = queue.receive(9)
    assert queue.order.noisy_groups == 1
    for one in noisy[:4]:
        queue.remove(one)
    assert queue.order.noisy_groups == 1
    queue.remove(noisy[4])
    assert queue.order.noisy_groups == 0


def test_quiet_again_it_comes_where_it_stood() -> None:
    queue = backlog(noisy=4, quiet=2)
    received = queue.receive(2)
    assert numbers(queue.receive(1)) == [5]
    queue.send("third")
    for one in received:
        queue.remove(one)
    assert queue.order.noisy_groups == 0
    assert numbers(queue.receive(9)) == [3, 4, 6, 7]


def test_noisy_tenants_take_turns() -> None:
    queue = Queue()
    for tenant in "ab":
        for _ in range(8):
            queue.send(tenant, "in flight")
    for tenant in "cdefgh":
        queue.send(tenant, "in flight")
    for tenant in "abaaabbb":
        queue.send(tenant)
    queue.receive(2)
    assert queue.order.noisy_groups == 2
    assert [one.group_id for _ in range(4) for one in queue.receive(1)] == ["a", "b", "a", "b"]


def test_first_again_it_comes_before_where_it_stood() -> None:
    queue = backlog(a=3)
    queue.hide(queue.ready[1])
    queue.release([queue.hidden[0]])
    assert numbers(queue.receive(9)) == [2, 1, 3]


def test_hidden_again_and_again_from_the_middle_it_comes_once() -> None:
    queue = backlog(a=3)
    one = queue.ready[1]
    for _ in range(5):
        queue.hide(one)
        queue.show(one)
    assert numbers(queue.receive(9)) == [1, 3, 2]


def test_a_tenant_that_goes_with_entries_out_of_date_takes_them_along() -> None:
    queue = Queue()
    for _ in range(3):
        queue.send("noisy", "in flight")
    queue.send("quiet", "in flight")
    first, second = queue.send("noisy"), queue.send("noisy")
    queue.send("quiet")
    queue.hide(second)
    assert queue.order.noisy_groups == 1
    queue.hide(first)
    for one in [one for one in queue.hidden if one.group_id == "noisy"]:
        queue.remove(one)
    queue.check()
    assert not queue.order._gone


def test_removed_tenants_leave_nothing_behind() -> None:
    order = StandardOrder()
    first = StoredMessage(1, "m", b"", 0, "ready", 0, group_id="waits")
    order.add(first)
    for number in range(2, 3000):
        one = StoredMessage(number, "m", b"", 0, "ready", 0, group_id=f"tenant {number}")
        order.add(one)
        order.remove(one)
    assert len(order._tenants) == 1
    assert len(order._line) < 200
    assert list(order.choose()) == [first]


def run(steps: list[tuple[str, int]], tenants: list[str | None]) -> Queue:
    queue = Queue()
    received: list[StoredMessage] = []
    for kind, value in steps:
        everything = queue.ready + queue.hidden
        some = everything[value % len(everything)] if everything else None
        tenant = tenants[value % len(tenants)]
        if kind == "send":
            queue.send(tenant)
        elif kind == "send hidden":
            queue.send(tenant, "delayed" if value % 2 else "in flight")
        elif kind == "receive":
            received = queue.receive(value % 6)
        elif kind == "receive and move":
            taken = [one for one, _ in zip(queue.order.choose(), range(value % 6), strict=False)]
            for one in taken[::2]:
                queue.hide(one)
            for one in taken[1::2]:
                queue.remove(one)
        elif kind == "release":
            queue.release([one for one in received if one in queue.hidden])
            received = []
        elif some is not None and kind == "remove":
            queue.remove(some)
        elif kind == "flip often" and queue.ready:
            for _ in range(3):
                queue.hide(queue.ready[value % len(queue.ready)])
                queue.show(queue.hidden[-1])
            received = []
        elif some is not None and some.place == "ready":
            queue.hide(some)
        elif some is not None:
            queue.show(some)
        received = [one for one in received if one is not some]
        queue.check()
    return queue


KINDS = [
    "send",
    "send",
    "send hidden",
    "receive",
    "receive",
    "receive and move",
    "release",
    "remove",
    "flip",
    "flip often",
]
TENANTS: dict[str, list[str | None]] = {
    "none": [None],
    "few": [None, "a", "a", "a", "a", "b", "c"],
    "many": [None, "a", "a", "a", *"bcdefghijkl"],
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 999)), max_size=60), st.sampled_from(sorted(TENANTS)))
def test_standard_order_is_that_of_the_model(steps: list[tuple[str, int]], tenants: str) -> None:
    run(steps, TENANTS[tenants])


@pytest.mark.parametrize("tenants", sorted(TENANTS))
@pytest.mark.parametrize("few_stale", [0, 3, 64])
def test_standard_order_is_that_of_the_model_also_after_long(
    tenants: str, few_stale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "_FEW_STALE", few_stale)
    rng = random.Random(few_stale)
    steps = [(rng.choice(["send", *KINDS]), rng.randrange(10**6)) for _ in range(1000)]
    queue = run(steps, TENANTS[tenants])
    assert bool(queue.ever_noisy) == (tenants != "none")

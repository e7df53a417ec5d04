from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.streams.balance import (
    Claim,
    Leasing,
    Moves,
    Sightings,
    claims,
    expired,
    next_moves,
    readable,
    session_of,
)
from streamkit.streams.keyspace import HashKeyRange, shard_id_of
from streamkit.streams.lease import LEASES, Lease
from streamkit.streams.store import ShardDescription, StreamDescription
from streamkit.tables.condition import Condition
from streamkit.tables.item import Item
from streamkit.tables.write import Update, updated

LEASING = Leasing()
STREAM = StreamDescription("orders", 1, 0, ())


def lease(index: int, owner: str | None = None, **fields: Any) -> Lease:
    return Lease("billing", "orders", 1, shard_id_of(index), owner, fields.pop("counter", 1), **fields)


def claim(index: int, owner: str | None, wanted_by: str | None = None, overdue: bool = False) -> Claim:
    return Claim(shard_id_of(index), owner, wanted_by, overdue)


def indexes(shard_ids: tuple[str, ...]) -> list[int]:
    return [int(shard_id[-3:]) for shard_id in shard_ids]


def stream_of(*parents: tuple[int, ...], first: int = 0) -> StreamDescription:
    shards = tuple(
        ShardDescription(shard_id_of(index), HashKeyRange(0, 1), 0, parent_shard_ids=tuple(map(shard_id_of, each)))
        for index, each in enumerate(parents, first)
    )
    return StreamDescription("orders", 1, 0, shards)


# ---- the values


@pytest.mark.parametrize(
    "wrong",
    [
        {"failover": 0},
        {"failover": -1.0},
        {"failover": "10"},
        {"failover": True},
        {"failover": float("nan")},
        {"handover": -0.1},
        {"handover": float("inf")},
        {"max_leases": 0},
        {"max_leases": 1.5},
        {"steal_at_once": 0},
        {"steal_at_once": None},
        {"steal_at_once": True},
    ],
)
def test_leasing_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Leasing(**wrong)


def test_leasing_in_milliseconds() -> None:
    leasing = Leasing(failover=0.003, handover=0, max_leases=3, steal_at_once=2)
    assert (leasing.failover_ms, leasing.look_ms, leasing.handover_ms) == (3, 1, 0)
    assert (LEASING.failover_ms, LEASING.look_ms, LEASING.handover_ms) == (10_000, 3_333, 30_000)


# ---- what is seen


def test_a_lease_is_idle_from_when_it_was_first_seen_so_until_anything_changes() -> None:
    sightings = Sightings(LEASING)
    idle = []
    history = [lease(0, "a"), lease(0, "a"), lease(0, "a", heartbeat=1), lease(0, "a", heartbeat=1)]
    history += [lease(0, "b", counter=2, heartbeat=1), lease(0, "b", counter=2, heartbeat=1)]
    for turn, each in enumerate(history):
        sightings.see([each], turn * 1000)
        idle.append(sightings.idle_ms(each.shard_id))
    assert idle == [0, 1000, 0, 1000, 0, 1000]


def test_a_wish_is_as_old_as_it_was_seen_of_the_same_owner() -> None:
    sightings = Sightings(LEASING)
    wanted = []
    history = [lease(0, "a"), lease(0, "a", wanted_by="b"), lease(0, "a", wanted_by="b", heartbeat=1)]
    history += [lease(0, "a", wanted_by="c", heartbeat=1), lease(0, "d", wanted_by="c", counter=2)]
    for turn, each in enumerate(history):
        sightings.see([each], turn * 1000)
        wanted.append(sightings.wanted_ms(each.shard_id))
    assert wanted == [0, 0, 1000, 0, 0]


def test_time_in_which_nobody_looked_makes_nobody_dead() -> None:
    sightings = Sightings(LEASING)
    for now_ms in (0, 3_000, 3_600_000, 3_000_000):  # Also if a clock goes back.
        sightings.see([lease(0, "a")], now_ms)
    assert sightings.idle_ms(shard_id_of(0)) == 3_000 + 4_999
    assert claims([lease(0, "a")], "b", None, sightings, LEASING)[0].owner is not None


def test_the_next_look_is_when_something_runs_out() -> None:
    sightings = Sightings(LEASING)
    assert sightings.next_look_ms(LEASING) == 3_333
    for now_ms in (0, 3_333, 6_666, 9_999):
        sightings.see([lease(0, "a"), lease(1, "c", heartbeat=now_ms)], now_ms)
    assert sightings.next_look_ms(LEASING) == 1
    sightings.see([lease(0, "a")], 10_000)
    assert sightings.next_look_ms(LEASING) == 3_333
    short = Leasing(handover=1.0)
    sightings.see([lease(0, "a", wanted_by="b")], 10_001)
    assert sightings.next_look_ms(short) == 1_000


def test_claims_say_who_has_what_and_who_is_gone() -> None:
    sightings = Sightings(LEASING)
    leases = [
        lease(0, "s/me"),
        lease(1, "s/other", wanted_by="s/me"),
        lease(2),
        lease(3, "old/dead"),
        lease(4, "s/other", wanted_by="old/dead"),
    ]
    sightings.see(leases, 0)
    assert claims(leases, "s/me", "s", sightings, LEASING) == [
        claim(0, "s/me"),
        claim(1, "s/other", "s/me"),
        claim(2, None),
        claim(3, None),
        claim(4, "s/other"),
    ]
    # Where there are no sessions, only time tells.
    assert claims(leases, "s/me", None, sightings, LEASING)[3:] == [
        claim(3, "old/dead"),
        claim(4, "s/other", "old/dead"),
    ]
    for now_ms in range(0, 10_001, 2_500):
        sightings.see(leases, now_ms)
    assert claims(leases, "s/me", "s", sightings, LEASING) == [
        claim(0, "s/me"),
        claim(1, None),
        claim(2, None, overdue=True),
        claim(3, None, overdue=True),
        claim(4, None),
    ]
    assert session_of("s/me") == "s"


def test_a_shard_is_read_when_its_parents_are_finished_or_expired() -> None:
    # 0 became 1 and 2, which became 3; 4 was always there, and 5 is not described yet.
    stream = stream_of((), (0,), (0,), (1, 2), ())
    leases = {each.shard_id: each for each in map(lease, range(5))}
    assert [each.shard_id for each in readable(leases, stream)] == [shard_id_of(0), shard_id_of(4)]
    leases[shard_id_of(0)] = lease(0, finished=True)
    leases[shard_id_of(1)] = lease(1, finished=True)
    assert [each.shard_id for each in readable(leases, stream)] == [shard_id_of(2), shard_id_of(4)]
    later = stream_of((1, 2), (), first=3)
    assert [each.shard_id for each in readable(leases, later)] == [shard_id_of(3), shard_id_of(4)]
    assert [each.shard_id for each in expired(leases, later)] == [shard_id_of(index) for index in range(3)]
    # Of a shard that was made after the stream was described, the lease knows the parents.
    leases[shard_id_of(5)] = lease(5, parents=(shard_id_of(4),))
    assert shard_id_of(5) not in [each.shard_id for each in readable(leases, later)]
    leases[shard_id_of(4)] = lease(4, finished=True)
    assert [each.shard_id for each in readable(leases, later)] == [shard_id_of(3), shard_id_of(5)]
    leases[shard_id_of(6)] = lease(6, parents=(shard_id_of(9),))
    assert shard_id_of(6) not in [each.shard_id for each in readable(leases, later)]
    assert expired(leases, later)[-1].shard_id == shard_id_of(2)
    assert readable({}, STREAM) == expired({}, STREAM) == []


def test_an_empty_shard_lets_nobody_pass() -> None:
    # 0 became 1 and 2; 1 took no record, so it was finished when it was first seen, and became 3.
    stream = stream_of((), (0,), (0,), (1,))
    leases = {each.shard_id: each for each in (lease(0), lease(1, finished=True), lease(2), lease(3))}
    assert [each.shard_id for each in readable(leases, stream)] == [shard_id_of(0)]
    leases[shard_id_of(0)] = lease(0, finished=True)
    assert [each.shard_id for each in readable(leases, stream)] == [shard_id_of(2), shard_id_of(3)]


# ---- what to do


def moves(found: list[Claim], **leasing: Any) -> Moves:
    return next_moves(found, "me", Leasing(**leasing))


def test_who_is_alone_takes_all_that_is_free() -> None:
    found = [claim(index, None) for index in range(5)]
    assert indexes(moves(found).take) == [0, 1, 2, 3, 4]
    assert indexes(moves(found, max_leases=2).take) == [0, 1]


def test_free_ones_are_taken_up_to_an_even_share() -> None:
    found = [claim(0, "a"), claim(1, "a"), *(claim(index, None) for index in range(2, 5))]
    assert indexes(moves(found).take) == [2, 3, 4]
    found = [claim(0, "me"), claim(1, "me"), claim(2, "a"), claim(3, None)]
    assert moves(found) == Moves()


def test_what_nobody_took_for_long_is_taken_whatever_the_share() -> None:
    found = [claim(0, "me"), claim(1, "me"), claim(2, "a"), claim(3, None, overdue=True), claim(4, None)]
    assert indexes(moves(found).take) == [3]
    assert moves(found, max_leases=2).take == ()


def test_one_is_stolen_from_who_has_most_and_only_if_that_makes_shares_more_even() -> None:
    found = [claim(0, "a"), claim(1, "a"), claim(2, "a"), claim(3, "b"), claim(4, "b")]
    assert indexes(moves(found).want) == [2]
    assert moves([claim(0, "a"), claim(1, "b")]) == Moves()
    assert indexes(moves([claim(0, "a"), claim(1, "a")]).want) == [1]
    assert moves([claim(0, "a"), claim(1, "a"), claim(2, "me")]) == Moves()


def test_as_many_are_asked_for_at_once_as_are_allowed() -> None:
    found = [claim(index, "a") for index in range(10)]
    assert len(moves(found).want) == 1
    assert len(moves(found, steal_at_once=3).want) == 3
    assert len(moves(found, steal_at_once=30).want) == 5
    assert len(moves(found, steal_at_once=30, max_leases=2).want) == 2
    found[9] = claim(9, "a", "me")
    assert moves(found) == Moves()
    assert len(moves(found, steal_at_once=2).want) == 1


def test_what_was_not_handed_over_in_time_is_taken_by_force() -> None:
    found = [claim(0, "a"), claim(1, "a", "me", overdue=True)]
    assert (moves(found).force, moves(found, max_leases=1).force) == ((shard_id_of(1),), (shard_id_of(1),))


def test_workers_that_see_the_same_never_ask_for_the_same() -> None:
    found = [*(claim(index, "a") for index in range(9)), claim(9, "b"), claim(10, "c"), claim(11, "d")]
    wanted = [shard_id for each in "abcd" for shard_id in next_moves(found, each, Leasing(steal_at_once=9)).want]
    assert len(wanted) == len(set(wanted)) == 6
    assert all(next_moves(found, each, LEASING).want for each in "bcd")


# ---- any worker, any time


class Worker:
    """One worker, over items that several change: what it saw, and what it then does, at different times."""

    def __init__(self, name: str, leasing: Leasing) -> None:
        self.name = name
        self.leasing = leasing
        self.sightings = Sightings(leasing)
        self.seen: dict[str, Lease] = {}
        self.looked_ms = -1
        self.busy = False

    def look(self, items: dict[str, Item], now_ms: int) -> None:
        self.seen = {shard_id: Lease.of_item("billing", STREAM, item) for shard_id, item in items.items()}
        self.sightings.see(self.seen.values(), now_ms)
        self.looked_ms = now_ms

    def act(self, items: dict[str, Item]) -> int:
        """How many leases changed their owner by it."""
        writes = []
        for each in self.seen.values():
            if each.owner == self.name:
                writes.append(each.renewal())
                if each.wanted_by not in (None, self.name) and not self.busy:
                    writes.append(each.release())
                elif each.wanted_by is not None and self.sightings.wanted_ms(each.shard_id) >= (
                    self.leasing.handover_ms + self.leasing.failover_ms
                ):
                    writes.append(each.unwish())
        found = claims(list(self.seen.values()), self.name, None, self.sightings, self.leasing)
        todo = next_moves(found, self.name, self.leasing)
        writes += [self.seen[shard_id].taking(self.name) for shard_id in todo.take]
        writes += [self.seen[shard_id].taking(self.name, by_force=True) for shard_id in todo.force]
        writes += [self.seen[shard_id].wish(self.name) for shard_id in todo.want]
        return sum(write(items, each) for each in writes)

    def leave(self, items: dict[str, Item]) -> None:
        for item in list(items.values()):
            each = Lease.of_item("billing", STREAM, item)
            if each.owner == self.name:
                write(items, each.release())
            elif each.wanted_by == self.name:
                write(items, each.unwish())


def write(items: dict[str, Item], update: Update) -> bool:
    """Apply it if its condition holds; whether the owner changed."""
    shard_id = update.key["shard"]
    before = items[shard_id]
    assert isinstance(update.condition, Condition)
    if not update.condition.holds(before):
        return False
    after = items[shard_id] = updated(LEASES, before, update)
    changed = before.get("owner") != after.get("owner")
    # INVARIANT: fencing: whoever was the owner before is refused from now on.
    assert after["counter"] == before["counter"] + changed
    return changed


class Step(msgspec.Struct, frozen=True):
    kind: str
    worker: int
    seconds: float


steps = st.builds(
    Step,
    kind=st.sampled_from(["join", "leave", "die", "busy", "look", "act", "act", "look"]),
    worker=st.integers(0, 5),
    seconds=st.sampled_from([0.0, 0.0, 0.5, 3.0, 12.0]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=60), st.integers(1, 12), st.integers(1, 3))
def test_from_any_state_workers_come_to_even_shares_and_stay_there(
    chaos: list[Step], shards: int, at_once: int
) -> None:
    leasing = Leasing(failover=3.0, handover=4.0, steal_at_once=at_once)
    items: dict[str, Item] = {shard_id_of(at): dict(lease(at).creation().item) for at in range(shards)}
    workers: dict[int, Worker] = {}
    now_ms = 0
    names = 0
    for step in chaos:
        now_ms += round(step.seconds * 1000)
        worker = workers.get(step.worker)
        if step.kind == "join" and worker is None:
            names += 1
            workers[step.worker] = Worker(f"w{names}", leasing)
        elif worker is None:
            continue
        elif step.kind == "leave":
            workers.pop(step.worker).leave(items)
        elif step.kind == "die":
            workers.pop(step.worker)
        elif step.kind == "busy":
            worker.busy = not worker.busy
        elif step.kind == "look":
            worker.look(items, now_ms)
        else:
            worker.act(items)
    # From here on nobody comes or goes, and everybody looks around in time.
    workers.setdefault(0, Worker("w0", leasing))
    for worker in workers.values():
        worker.busy = False
    unowned_ms = dict.fromkeys(items, 0)
    longest_ms = 0
    alive = {worker.name for worker in workers.values()}
    changes: list[int] = []
    for _ in range(200):
        now_ms += 500
        for worker in workers.values():
            if now_ms - worker.looked_ms >= leasing.look_ms:
                worker.look(items, now_ms)
                if worker.act(items):
                    changes.append(now_ms)
        for shard_id, item in items.items():
            unowned_ms[shard_id] = 0 if item.get("owner") in alive else unowned_ms[shard_id] + 500
            longest_ms = max(longest_ms, unowned_ms[shard_id])
    load = Counter(item.get("owner") for item in items.values())
    assert set(load) <= alive
    shares = [load[name] for name in alive]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1
    assert longest_ms <= 2 * (leasing.failover_ms + leasing.look_ms)
    assert not any("wanted_by" in item for item in items.values())
    # Every lease moves at most once for itself and once more for those whom nobody saw yet.
    assert len(changes) <= 3 * shards + len(workers)
    assert not changes or changes[-1] <= now_ms - 20_000

"""Which leases a worker takes, and which it asks others for. Pure: `now` is an argument.

Follows the Kinesis Client Library 2.x (LeaseTaker): workers see only the leases, and each decides for itself. Two that
see the same leases come to the same plan, so they do not get into each other's way; two that see different ones are
kept apart by the conditions of their writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streamkit.errors import ValidationError
from streamkit.streams.lease import Lease
from streamkit.streams.store import StreamDescription


class Leasing(msgspec.Struct, frozen=True, kw_only=True):
    """How the workers of one consumer share its shards.

    Raises:
        ValidationError: a value is out of range.
    """

    failover: float = 10.0
    """Seconds. A worker whose lease nobody saw renewed for so long is dead to the others; it renews every third."""
    max_leases: int | None = None
    """Most shards of one worker. Some are read by nobody when all workers together have room for fewer than there are.
    None: no bound."""
    steal_at_once: int = 1
    """Most shards that a worker with too few asks others for at the same time."""
    handover: float = 30.0
    """Seconds a worker that is asked for a shard has to finish what it has in hand. Then the shard is taken from it."""

    def __post_init__(self) -> None:
        for name, least in (("failover", 0.003), ("handover", 0.0)):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not least <= seconds < 10**9:
                raise ValidationError(f"{name} is a number of seconds of at least {least:g}, not {seconds!r}")
        for name in ("max_leases", "steal_at_once"):
            count = getattr(self, name)
            if name == "max_leases" and count is None:
                continue
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValidationError(f"{name} is a whole number of at least 1, not {count!r}")

    @property
    def failover_ms(self) -> int:
        """The same in milliseconds."""
        return round(self.failover * 1000)

    @property
    def handover_ms(self) -> int:
        """The same in milliseconds."""
        return round(self.handover * 1000)

    @property
    def look_ms(self) -> int:
        """How often a worker renews its leases and looks at the others'."""
        return max(1, self.failover_ms // 3)


# ---- what changes, and what does not any more


class _Sighting(msgspec.Struct):
    counter: int
    heartbeat: int
    wanted_by: str | None
    idle_ms: int = 0
    wanted_ms: int = 0


class Sightings:
    """For how long one worker has seen each lease unchanged, by its own clock alone.

    Time in which the worker itself did not look counts as one and a half turns at most: after a stall of the whole
    process, in which nobody could renew, nobody is taken for dead.
    """

    def __init__(self, leasing: Leasing) -> None:
        self._most_ms = leasing.look_ms * 3 // 2
        self._seen: dict[str, _Sighting] = {}
        self._last_ms: int | None = None

    def see(self, leases: Iterable[Lease], now_ms: int) -> None:
        """These are all the leases there are now."""
        passed_ms = 0 if self._last_ms is None else min(max(0, now_ms - self._last_ms), self._most_ms)
        self._last_ms = now_ms
        seen: dict[str, _Sighting] = {}
        for lease in leases:
            new = _Sighting(lease.counter, lease.heartbeat, lease.wanted_by)
            old = self._seen.get(lease.shard_id)
            if old is not None and old.counter == new.counter:
                if old.heartbeat == new.heartbeat:
                    new.idle_ms = old.idle_ms + passed_ms
                if old.wanted_by == new.wanted_by is not None:
                    new.wanted_ms = old.wanted_ms + passed_ms
            seen[lease.shard_id] = new
        self._seen = seen

    def wished(self, shard_id: str, worker: str) -> None:
        """A worker wants it from now on."""
        self._seen[shard_id].wanted_by = worker

    def idle_ms(self, shard_id: str) -> int:
        """For how long its owner, or that nobody has it, and its heartbeat have not changed."""
        return self._seen[shard_id].idle_ms

    def wanted_ms(self, shard_id: str) -> int:
        """For how long the same worker has wanted it of the same owner."""
        return self._seen[shard_id].wanted_ms

    def next_look_ms(self, leasing: Leasing) -> int:
        """In how many milliseconds to look again: at the next turn, or when a lease would run out before."""
        left = [leasing.look_ms]
        for seen in self._seen.values():
            left.append(leasing.failover_ms - seen.idle_ms)
            if seen.wanted_by is not None:
                left.append(leasing.handover_ms - seen.wanted_ms)
        return min(ms for ms in left if ms > 0)


def expired(leases: Mapping[str, Lease], stream: StreamDescription) -> list[Lease]:
    """The leases of shards that the stream does not have any more. (It may have newer ones than are described.)"""
    described = {shard.shard_id for shard in stream.shards}
    # Ids are as long as each other, and only grow.
    newest = max(described, default="")
    return [lease for shard_id, lease in leases.items() if shard_id not in described and shard_id < newest]


def readable(leases: Mapping[str, Lease], stream: StreamDescription) -> list[Lease]:
    """The leases that somebody should hold now: not finished, and the shards before them finished or expired."""
    described = {shard.shard_id: shard.parent_shard_ids for shard in stream.shards}
    newest = max(described, default="")
    gone = {lease.shard_id for lease in expired(leases, stream)}
    done: dict[str, bool] = {}

    def is_done(shard_id: str) -> bool:
        if shard_id in leases:
            return shard_id in gone or done.get(shard_id, False)
        return shard_id not in described and shard_id < newest

    found: list[Lease] = []
    for shard_id, lease in sorted(leases.items()):  # Parents come before their children.
        if shard_id in gone:
            continue
        ready = all(map(is_done, described.get(shard_id, lease.parents)))
        # A shard without a record is finished before its turn has come, and its children are to wait for that as well.
        # INVARIANT: test_an_empty_shard_lets_nobody_pass
        done[shard_id] = lease.finished and ready
        if ready and not lease.finished:
            found.append(lease)
    return found


# ---- what to do


class Claim(msgspec.Struct, frozen=True):
    """A lease that somebody should hold, as one worker sees it."""

    shard_id: str
    owner: str | None
    """None: it is free, or its owner is dead."""
    wanted_by: str | None = None
    overdue: bool = False
    """It was free, or we waited for it to be handed over, for longer than is right."""


class Moves(msgspec.Struct, frozen=True):
    """What a worker does now, as shard ids."""

    take: tuple[str, ...] = ()
    """Free ones."""
    force: tuple[str, ...] = ()
    """Ones that were to be handed over to it, and were not."""
    want: tuple[str, ...] = ()
    """Ones to ask their owners for."""


def claims(
    leases: Sequence[Lease], worker: str, session: str | None, sightings: Sightings, leasing: Leasing
) -> list[Claim]:
    """What these leases say, to one worker."""

    def is_gone(other: str | None) -> bool:
        return other is None or (session is not None and session_of(other) != session)

    found: list[Claim] = []
    for lease in leases:
        idle_ms = sightings.idle_ms(lease.shard_id)
        wanted_by = None if is_gone(lease.wanted_by) else lease.wanted_by
        if is_gone(lease.owner):
            found.append(Claim(lease.shard_id, None, None, idle_ms >= leasing.failover_ms))
        elif lease.owner != worker and idle_ms >= leasing.failover_ms:
            found.append(Claim(lease.shard_id, None, None, idle_ms >= 2 * leasing.failover_ms))
        else:
            overdue = wanted_by == worker and sightings.wanted_ms(lease.shard_id) >= leasing.handover_ms
            found.append(Claim(lease.shard_id, lease.owner, wanted_by, overdue))
    return found


def session_of(worker: str) -> str:
    """The first part of a worker's id."""
    return worker.partition("/")[0]


def next_moves(claims: Sequence[Claim], worker: str, leasing: Leasing) -> Moves:
    """What a worker does about leases that look so to it. A lease that is asked for counts as the asker's.

    Free leases are taken up to an even share, rounded up; those that nobody took for long are taken in any case. Only
    when none is free others are asked, and only those with too many, so that no two workers' shares differ by more
    than one in the end. Who has none and can have none is not counted; who is full leaves the rest to others.
    """
    # INVARIANT: test_from_any_state_workers_come_to_even_shares_and_stay_there
    load = {worker: 0}
    for claim in claims:
        if claim.owner is not None:
            load.setdefault(claim.owner, 0)
            holder = claim.wanted_by or claim.owner
            load[holder] = load.get(holder, 0) + 1
    room = len(claims) if leasing.max_leases is None else max(0, leasing.max_leases - load[worker])
    force = tuple(claim.shard_id for claim in claims if claim.overdue and claim.owner and claim.wanted_by == worker)
    free = sorted((not claim.overdue, claim.shard_id) for claim in claims if claim.owner is None)
    if free:
        share = max(0, -(-len(claims) // len(load)) - load[worker])
        overdue = sum(not early for early, _ in free)
        return Moves(tuple(shard_id for _, shard_id in free[: min(room, max(share, overdue))]), force)
    pending = sum(claim.wanted_by == worker and claim.owner != worker for claim in claims)
    due = _due_to(worker, load, claims)
    return Moves((), force, tuple(due[: max(0, min(room, leasing.steal_at_once - pending))]))


def _due_to(worker: str, load: Mapping[str, int], claims: Sequence[Claim]) -> list[str]:
    """Which leases should change over to a worker, in a plan for all that each of them comes to from what it sees."""
    least, larger = divmod(len(claims), len(load))
    # Those that have most keep the larger shares, so nothing moves that need not.
    shares = {each: least + (at < larger) for at, each in enumerate(sorted(load, key=lambda each: (-load[each], each)))}
    takers = sorted((turn, each) for each, share in shares.items() for turn in range(load[each], share))
    given: list[str] = []
    for each in sorted(load, key=lambda each: (-load[each], each)):
        surplus = load[each] - shares[each]
        if surplus > 0:
            asked = [claim.shard_id for claim in claims if claim.owner == each and claim.wanted_by is None]
            given.extend(asked[-surplus:])
    return [shard_id for (_, each), shard_id in zip(takers, given, strict=False) if each == worker]

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from streamkit.engines.memory import MemoryEngine
from streamkit.errors import LeaseLostError, NotFoundError
from streamkit.streams.lease import LEASES, Lease, Start
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.store import PutEntry, StreamDescription
from streamkit.tables.item import Item
from streamkit.tables.write import Write
from streamkit.testing.cancellation import cancel_at_every_step

FIRST = "shardId-000000000000"
SECOND = "shardId-000000000001"
THIRD = "shardId-000000000002"


class RacingTables:
    """Tables in which somebody else does something between our look at an item and our write of it."""

    def __init__(self, tables: Any) -> None:
        self._tables = tables
        self.between: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def write(self, writes: Sequence[Write], client_request_token: str | None = None) -> list[Item | None]:
        while self.between:
            await self.between.pop()()
        answers: list[Item | None] = await self._tables.write(writes, client_request_token)
        return answers


@pytest.fixture
async def stream(engine: MemoryEngine) -> StreamDescription:
    await engine.streams.create_stream("orders", 3)
    await engine.streams.put_records("orders", [PutEntry(key, b"") for key in "abcdefgh"])
    return await engine.streams.describe_stream("orders")


@pytest.fixture
def leases(engine: MemoryEngine) -> LeaseTable:
    return LeaseTable(engine.tables)


async def test_a_fresh_lease_has_no_checkpoint(leases: LeaseTable, stream: StreamDescription) -> None:
    lease = await leases.take("billing", stream, FIRST, "one")
    assert (lease.consumer, lease.stream, lease.shard_id, lease.owner) == ("billing", "orders", FIRST, "one")
    assert (lease.counter, lease.checkpoint, lease.finished) == (1, None, False)
    assert await leases.peek("billing", stream) == {FIRST: None, SECOND: None, THIRD: None}


async def test_a_checkpoint_stays_when_the_lease_changes_hands(leases: LeaseTable, stream: StreamDescription) -> None:
    first = await leases.take("billing", stream, FIRST, "one")
    moved = await leases.checkpoint(first, 17)
    assert moved.checkpoint == 17
    taken = await leases.take("billing", stream, FIRST, "two")
    assert (taken.owner, taken.counter, taken.checkpoint, taken.finished) == ("two", 2, 17, False)
    await leases.checkpoint(taken, 20, finished=True)
    again = await leases.take("billing", stream, FIRST, "two")
    assert (again.counter, again.checkpoint, again.finished) == (3, 20, True)


async def test_a_fenced_owner_cannot_move_the_checkpoint(leases: LeaseTable, stream: StreamDescription) -> None:
    old = await leases.checkpoint(await leases.take("billing", stream, FIRST, "one"), 17)
    await leases.take("billing", stream, FIRST, "two")
    with pytest.raises(LeaseLostError) as lost:
        await leases.checkpoint(old, 18)
    assert (lost.value.consumer, lost.value.shard_id) == ("billing", FIRST)
    assert (await leases.peek("billing", stream))[FIRST] == 17


async def test_the_same_owner_is_fenced_by_itself(leases: LeaseTable, stream: StreamDescription) -> None:
    old = await leases.take("billing", stream, FIRST, "one")
    await leases.take("billing", stream, FIRST, "one")
    with pytest.raises(LeaseLostError):
        await leases.checkpoint(old, 18)


async def test_consumers_shards_and_streams_of_one_name_are_apart(
    engine: MemoryEngine, leases: LeaseTable, stream: StreamDescription
) -> None:
    await leases.checkpoint(await leases.take("billing", stream, FIRST, "one"), 17)
    assert (await leases.take("billing", stream, SECOND, "one")).checkpoint is None
    assert (await leases.take("mailing", stream, FIRST, "one")).checkpoint is None
    await engine.streams.delete_stream("orders")
    later = await engine.streams.create_stream("orders", 3)
    assert (await leases.take("billing", later, FIRST, "one")).checkpoint is None


async def test_take_all_takes_every_shard_where_the_consumer_starts(
    leases: LeaseTable, stream: StreamDescription
) -> None:
    oldest = await leases.take_all("old", stream, "one", start="TRIM_HORIZON")
    newest = await leases.take_all("new", stream, "one", start="LATEST")
    assert list(oldest) == list(newest) == [FIRST, SECOND, THIRD]
    for shard in stream.shards:
        assert oldest[shard.shard_id].checkpoint == shard.starting_sequence_number
        assert newest[shard.shard_id].checkpoint == shard.latest_sequence_number
    assert await leases.peek("new", stream) == {s.shard_id: s.latest_sequence_number for s in stream.shards}


async def test_where_a_consumer_starts_is_decided_once(
    engine: MemoryEngine, leases: LeaseTable, stream: StreamDescription
) -> None:
    first = await leases.take_all("billing", stream, "one", start="LATEST")
    await engine.streams.put_records("orders", [PutEntry(key, b"") for key in "abcdefgh"])
    now = await engine.streams.describe_stream("orders")
    starts: tuple[Start | None, ...] = ("LATEST", "TRIM_HORIZON", None)
    for start in starts:
        again = await leases.take_all("billing", now, "two", start=start)
        assert [lease.checkpoint for lease in again.values()] == [lease.checkpoint for lease in first.values()]


async def test_a_descendant_of_a_known_shard_starts_with_its_oldest_record(
    leases: LeaseTable, stream: StreamDescription
) -> None:
    parents = {FIRST: (), SECOND: (FIRST,), THIRD: (SECOND,)}
    shards = [msgspec.structs.replace(shard, parent_shard_ids=parents[shard.shard_id]) for shard in stream.shards]
    resharded = msgspec.structs.replace(stream, shards=tuple(shards))
    # Nobody was there before: the children are as new to the consumer as their parent.
    new = await leases.take_all("new", resharded, "one", start="LATEST")
    assert new[SECOND].checkpoint == stream.shards[1].latest_sequence_number
    await leases.take("old", stream, FIRST, "one")
    old = await leases.take_all("old", resharded, "two", start="LATEST")
    assert old[SECOND].checkpoint == stream.shards[1].starting_sequence_number
    assert old[THIRD].checkpoint == stream.shards[2].starting_sequence_number


async def test_of_two_that_take_at_once_the_later_has_it(engine: MemoryEngine, stream: StreamDescription) -> None:
    tables = RacingTables(engine.tables)
    ours, theirs = LeaseTable(tables), LeaseTable(engine.tables)
    for shard_ids in ([FIRST], None):
        taken: list[dict[str, Lease]] = []

        async def take(shard_ids: list[str] | None = shard_ids, taken: list[dict[str, Lease]] = taken) -> None:
            taken.append(await theirs.take_all("billing", stream, "theirs", shard_ids=shard_ids))

        tables.between = [take, take]
        mine = (await ours.take_all("billing", stream, "ours", shard_ids=shard_ids))[FIRST]
        assert [mine.counter - lease[FIRST].counter for lease in taken] == [2, 1]
        await ours.checkpoint(mine, 5)
        for older in taken:
            with pytest.raises(LeaseLostError):
                await theirs.checkpoint(older[FIRST], 5)


async def test_many_shards_are_taken_in_calls_that_a_transaction_allows(
    engine: MemoryEngine, leases: LeaseTable
) -> None:
    stream = await engine.streams.create_stream("wide", 250)
    taken = await leases.take_all("billing", stream, "one", start="TRIM_HORIZON")
    assert list(taken) == [shard.shard_id for shard in stream.shards]
    assert len((await engine.tables.scan(LEASES.name)).items) == 250


async def test_an_unknown_shard_is_not_found(leases: LeaseTable, stream: StreamDescription) -> None:
    with pytest.raises(NotFoundError, match="orders"):
        await leases.take("billing", stream, "shardId-000000000009", "one")


async def test_many_may_come_at_once(engine: MemoryEngine, stream: StreamDescription) -> None:
    taken = await asyncio.gather(
        *(LeaseTable(engine.tables).take_all("billing", stream, f"{index}") for index in range(5))
    )
    assert sorted(leases[FIRST].counter for leases in taken) == [1, 2, 3, 4, 5]


async def test_cancelling_a_take_or_a_checkpoint_leaves_leases_whole(
    engine: MemoryEngine, leases: LeaseTable, stream: StreamDescription, yielding: Callable[[Any], Any]
) -> None:
    numbers = [shard.latest_sequence_number for shard in stream.shards]

    async def work() -> None:
        table = LeaseTable(yielding(engine.tables))
        taken = await table.take_all("billing", stream, "work", start="LATEST")
        await table.checkpoint(taken[FIRST], numbers[0])

    async def check() -> None:
        taken = await leases.take_all("billing", stream, "check", start="LATEST")
        assert [lease.checkpoint for lease in taken.values()] == numbers
        for lease in taken.values():
            await leases.checkpoint(lease, lease.checkpoint or 0)

    assert await cancel_at_every_step(work, check) == 11


async def test_a_checkpoint_that_comes_while_its_lease_is_taken_is_kept(
    engine: MemoryEngine, stream: StreamDescription
) -> None:
    """The old owner may write until the very moment of the take, and the new one goes on after that."""
    tables = RacingTables(engine.tables)
    old, new = LeaseTable(engine.tables), LeaseTable(tables)
    theirs = await old.take("billing", stream, FIRST, "old")

    async def checkpoint() -> None:
        await old.checkpoint(theirs, 5, 2)

    tables.between = [checkpoint]
    ours = await new.take("billing", stream, FIRST, "new")
    assert (ours.owner, ours.counter, ours.checkpoint, ours.subsequence) == ("new", 2, 5, 2)
    with pytest.raises(LeaseLostError):
        await checkpoint()


async def test_a_first_checkpoint_that_comes_while_its_lease_is_taken_is_kept(
    engine: MemoryEngine, stream: StreamDescription
) -> None:
    tables = RacingTables(engine.tables)
    old, new = LeaseTable(engine.tables), LeaseTable(tables)
    theirs = await old.take("billing", stream, FIRST, "old")

    async def checkpoint() -> None:
        await old.checkpoint(theirs, 1)

    tables.between = [checkpoint]
    ours = await new.take_all("billing", stream, "new", start="TRIM_HORIZON")
    assert ours[FIRST].checkpoint == 1


async def test_a_checkpoint_within_an_aggregate_is_not_after_all_of_it(
    leases: LeaseTable, stream: StreamDescription
) -> None:
    lease = await leases.checkpoint(await leases.take("billing", stream, FIRST, "one"), 17, 3)
    assert (lease.position, lease.done_to) == ((17, 3), 16)
    assert (await leases.peek("billing", stream))[FIRST] == 16
    again = await leases.take("billing", stream, FIRST, "one")
    assert (again.checkpoint, again.subsequence) == (17, 3)
    # The next one without it is after all of it.
    done = await leases.checkpoint(again, 17)
    assert (done.subsequence, await leases.take("billing", stream, FIRST, "one")) == (
        None,
        msgspec.structs.replace(done, counter=3),
    )
    assert (await leases.peek("billing", stream))[FIRST] == 17


async def test_taking_a_lease_grants_no_wish(
    engine: MemoryEngine, leases: LeaseTable, stream: StreamDescription
) -> None:
    old = await leases.take("billing", stream, FIRST, "old")
    assert await leases.write_each([old.wish("thief")]) == [True]
    assert (await leases.take("billing", stream, FIRST, "new")).wanted_by is None
    assert (await leases.leases("billing", stream))[FIRST].wanted_by is None


async def test_of_many_writes_those_are_done_whose_conditions_hold(engine: MemoryEngine, leases: LeaseTable) -> None:
    stream = await engine.streams.create_stream("wide", 250)
    taken = list((await leases.take_all("billing", stream, "one")).values())
    lost = {0, 99, 100, 150, 249}
    for at in lost:
        await leases.take("billing", stream, taken[at].shard_id, "thief")
    done = await leases.write_each([lease.renewal() for lease in taken])
    assert {at for at, renewed in enumerate(done) if not renewed} == lost
    now = await leases.leases("billing", stream)
    assert [now[lease.shard_id].heartbeat for lease in taken] == [0 if at in lost else 1 for at in range(250)]
    assert await leases.write_each([]) == []
    assert await leases.write_each([taken[0].renewal()]) == [False]


async def test_those_who_watch_are_told_but_for_the_one_who_tells(engine: MemoryEngine, leases: LeaseTable) -> None:
    told: list[str] = []
    watchers = {name: (lambda name=name: told.append(name)) for name in ("one", "two")}
    for changed in watchers.values():
        leases.watch("billing", "orders", changed)
    LeaseTable(engine.tables).tell("billing", "orders", watchers["one"])
    leases.tell("mailing", "orders", watchers["one"])
    assert told == ["two"]
    leases.unwatch("billing", "orders", watchers["two"])
    leases.unwatch("billing", "orders", watchers["two"])
    leases.unwatch("mailing", "orders", watchers["two"])
    leases.tell("billing", "orders", watchers["two"])
    assert told == ["two", "one"]

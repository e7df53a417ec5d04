"""Lanes: order per key, a checkpoint each, and nobody waits for one that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Retry, Stop, Update
from streamkit.errors import LeaseLostError, ValidationError
from streamkit.functions import shard_lanes, sharing
from streamkit.functions.layout import Layout, lane_of
from streamkit.functions.poller import MappingPoller
from streamkit.streams.lease import LEASES
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

KEYS = 12


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("numbers")
        await kit.create_table("totals", partition_key="key")
        yield kit


async def count(batch: Batch[int]) -> list[Update]:
    await asyncio.sleep(0)
    return [Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value}) for record in batch]


def counting(kit: Kit, lanes: int, **options: Any) -> EventSourceMapping:
    given = {"source": kit.stream("numbers"), "function": count, "sink": kit.table("totals"), "batch_size": 5}
    options = {"retry": Retry(first=1, jitter=False), "parallelization_factor": lanes, **options}
    return EventSourceMapping("counting", **{**given, **options})


def poller(kit: Kit, lanes: int, **options: Any) -> MappingPoller:
    return MappingPoller(counting(kit, lanes, **options), ports(kit))


async def fill(kit: Kit, numbers: Sequence[int]) -> None:
    await kit.stream("numbers").put_batch([(f"k{at % KEYS}", at) for at in numbers])


async def totals(kit: Kit) -> dict[str, tuple[int, int]]:
    return {item["key"]: (item["count"], item["sum"]) async for item in kit.table("totals").scan()}


def truth(numbers: Sequence[int]) -> dict[str, tuple[int, int]]:
    by_key = {f"k{key}": [at for at in numbers if at % KEYS == key] for key in range(KEYS)}
    return {key: (len(values), sum(values)) for key, values in by_key.items() if values}


async def leases(kit: Kit) -> list[Any]:
    page = await kit.engine.tables.scan(LEASES.name)
    return list(page.items)


def test_a_layout_is_read_back_as_it_was_written() -> None:
    item = {"checkpoint": 10, "lanes": 3, "lane-0": 15, "lane-2": 7}
    layout = Layout.of_item(item)
    assert layout == Layout(10, 3, (15, 10, 10))
    assert layout.furthest == 15
    assert layout.switched(2) == ({"checkpoint": 15, "lanes": 2}, ("lane-0", "lane-1", "lane-2"))
    assert Layout.of_item({"checkpoint": 4}) == Layout(4, 1, (4,))
    assert Layout.of_item({}).switched(4) == ({"checkpoint": 0, "lanes": 4}, ())


def test_a_key_is_in_one_lane_and_all_lanes_are_used() -> None:
    for lanes in range(1, 11):
        places = [lane_of(f"key {at}", lanes) for at in range(500)]
        assert places == [lane_of(f"key {at}", lanes) for at in range(500)]
        assert set(places) == set(range(lanes))
    # Stored checkpoints depend on it.
    assert [lane_of(key, 10) for key in ("a", "b", "ä")] == [7, 1, 5]


@pytest.mark.parametrize("lanes", [2, 10])
async def test_lanes_work_side_by_side_one_batch_each_in_the_order_of_each_key(kit: Kit, lanes: int) -> None:
    await fill(kit, range(400))
    busy: set[int] = set()
    most = 0
    order: dict[str, list[int]] = {}

    async def noting(batch: Batch[int]) -> Any:
        nonlocal most
        (lane,) = {lane_of(record.partition_key, lanes) for record in batch}
        assert lane not in busy
        busy.add(lane)
        most = max(most, len(busy))
        for record in batch:
            order.setdefault(record.partition_key, []).append(record.value)
        for _ in range(5):
            await asyncio.sleep(0)
        busy.discard(lane)
        return await count(batch)

    running = kit.start(counting(kit, lanes, function=noting))
    await running.wait_caught_up()
    assert running.counts.errors == 0
    assert most == len({lane_of(f"k{key}", lanes) for key in range(KEYS)})
    assert order == {f"k{key}": list(range(key, 400, KEYS)) for key in range(KEYS)}
    assert await totals(kit) == truth(range(400))
    assert running.counts.polled == running.counts.written == 400


def failing(key: str) -> Any:
    async def fail(batch: Batch[int]) -> Any:
        if any(record.partition_key == key for record in batch):
            raise ValueError(key)
        return await count(batch)

    return fail


@pytest.mark.parametrize("room", [5, 20_000])
async def test_a_lane_that_fails_for_ever_holds_up_no_other(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Also when its room is full long since: then what is not kept for it is read again."""
    monkeypatch.setattr(sharing, "ROOM", room)
    await fill(kit, range(300))
    running = kit.start(counting(kit, 4, function=failing("k3")))
    await clock.advance(2)
    stuck = [at for at in range(KEYS) if lane_of(f"k{at}", 4) == lane_of("k3", 4)]
    assert {key: total for key, total in truth(range(300)).items() if int(key[1:]) not in stuck} == {
        key: total for key, total in (await totals(kit)).items() if int(key[1:]) not in stuck
    }
    await fill(kit, range(300, 600))
    await clock.advance(2)
    found = await totals(kit)
    assert all(found[f"k{at}"] == truth(range(600))[f"k{at}"] for at in range(KEYS) if at not in stuck)
    # Mended, it comes up to the others, and goes on with them.
    await running.update(function=count)
    await running.wait_caught_up()
    await fill(kit, range(600, 700))
    await running.wait_caught_up()
    assert await totals(kit) == truth(range(700))


@pytest.mark.parametrize("room", [5, 20_000])
async def test_a_lane_left_behind_comes_up_by_itself(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(sharing, "ROOM", room)
    await fill(kit, range(500))
    works = False

    async def fail_first(batch: Batch[int]) -> Any:
        return await (count if works else failing("k3"))(batch)

    running = kit.start(counting(kit, 4, function=fail_first))
    await clock.advance(2)
    works = True
    waiting = asyncio.create_task(running.wait_caught_up())
    while not waiting.done():
        await clock.advance(5)
    await fill(kit, range(500, 520))
    await running.wait_caught_up()
    assert await totals(kit) == truth(range(520))
    assert running.counts.polled == 520


async def test_what_waits_for_a_lane_is_bounded_in_bytes(
    kit: Kit, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane that fails holds little memory however large the records behind it are; then it reads them again."""
    monkeypatch.setattr(sharing, "ROOM_BYTES", 50_000)
    shards: list[sharing.SharedShard] = []

    class Watched(sharing.SharedShard):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            shards.append(self)

    monkeypatch.setattr(shard_lanes, "SharedShard", Watched)
    seen: list[int] = []
    works = False

    async def note(batch: Batch[list[Any]]) -> None:
        if not works and any(record.partition_key == "k3" for record in batch):
            raise ValueError("k3")
        seen.extend(value[0] for value in batch.values)

    running = kit.start(counting(kit, 4, function=note, sink=None))
    for first in range(0, 200, 20):
        await kit.stream("numbers").put_batch(
            [(f"k{at % KEYS}", [at, "x" * 10_000]) for at in range(first, first + 20)]
        )
        await clock.advance(0.1)
    stuck = lane_of("k3", 4)
    assert sorted(seen) == [at for at in range(200) if lane_of(f"k{at % KEYS}", 4) != stuck]
    (shard,) = shards
    source = shard.sources[stuck]
    assert 0 < sum(len(record.data) for record in source.queue) == source.bytes <= 50_000
    works = True
    waiting = asyncio.create_task(running.wait_caught_up())
    while not waiting.done():
        await clock.advance(5)
    assert sorted(seen) == list(range(200))
    assert source.bytes == 0


async def test_each_lane_has_a_checkpoint_of_its_own(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, range(100))
    running = kit.start(counting(kit, 3, function=failing("k3")))
    await clock.advance(2)
    await kit.stop(running)
    calls: list[int] = []

    async def noting(batch: Batch[int]) -> Any:
        calls.extend(record.value for record in batch)
        return await count(batch)

    again = kit.start(counting(kit, 3, function=noting))
    await again.wait_caught_up()
    assert {lane_of(f"k{value % KEYS}", 3) for value in calls} == {lane_of("k3", 3)}
    assert await totals(kit) == truth(range(100))


async def test_after_a_stop_nothing_is_read_again(kit: Kit) -> None:
    await fill(kit, range(50))
    running = kit.start(counting(kit, 4))
    await running.wait_caught_up()
    await kit.stop(running)
    again = kit.start(counting(kit, 4))
    await again.wait_caught_up()
    assert again.counts.polled == 0


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (3, 7), (10, 2)])
async def test_another_number_of_lanes_goes_on_in_order(kit: Kit, clock: ManualClock, before: int, after: int) -> None:
    """One lane was stuck when the number changed: it is brought up to the others before any new lane begins."""
    await fill(kit, range(200))
    first = kit.start(counting(kit, before, function=failing("k3")))
    await clock.advance(2)
    await kit.stop(first)
    order: dict[str, list[int]] = {}

    async def noting(batch: Batch[int]) -> Any:
        for record in batch:
            order.setdefault(record.partition_key, []).append(record.value)
        return await count(batch)

    await fill(kit, range(200, 300))
    second = kit.start(counting(kit, after, function=noting))
    await second.wait_caught_up()
    assert await totals(kit) == truth(range(300))
    assert all(values == sorted(set(values)) for values in order.values())
    assert order["k3"] == list(range(3, 300, KEYS))
    (lease,) = await leases(kit)
    assert lease["lanes"] == after


@pytest.mark.parametrize("lanes", [1, 4])
async def test_a_closed_shard_is_done_before_what_came_of_it_begins(kit: Kit, lanes: int) -> None:
    """Also where a shard in between has no record, and so nothing to be done."""
    await fill(kit, range(100))
    stream = kit.stream("numbers")
    await stream.update_shard_count(3)
    await fill(kit, range(100, 200))
    order: dict[str, list[int]] = {}

    async def noting(batch: Batch[int]) -> Any:
        for record in batch:
            order.setdefault(record.partition_key, []).append(record.value)
        return await count(batch)

    running = kit.start(counting(kit, lanes, function=noting))
    await running.wait_caught_up()
    await stream.update_shard_count(2)
    await fill(kit, range(200, 300))
    await running.wait_caught_up()
    assert order == {f"k{key}": list(range(key, 300, KEYS)) for key in range(KEYS)}
    assert await totals(kit) == truth(range(300))
    finished = [lease["shard"] for lease in await leases(kit) if lease["finished"]]
    assert len(finished) >= 2


async def test_filtered_lanes_are_checkpointed(kit: Kit) -> None:
    await fill(kit, range(60))
    running = kit.start(counting(kit, 5, filters=[{"partitionKey": ["k3"]}]))
    await running.wait_caught_up()
    assert (running.counts.filtered_out, running.counts.written) == (55, 5)
    assert await totals(kit) == {"k3": truth(range(60))["k3"]}
    assert (await running.lag()).records >= 0
    await kit.stop(running)
    again = kit.start(counting(kit, 5))
    await again.wait_caught_up()
    assert again.counts.polled == 0


@pytest.mark.parametrize("seed", range(12))
async def test_crashes_steals_and_reshards_with_any_number_of_lanes(kit: Kit, seed: int) -> None:
    """Cancelled at random steps, by another with another number of lanes, while shards split and merge."""
    chance = random.Random(seed)
    stream = kit.stream("numbers")
    total = 0
    stolen: list[asyncio.Task[None]] = []
    for _ in range(12):
        await fill(kit, range(total, total + 30))
        total += 30
        if chance.random() < 0.3:
            await stream.update_shard_count(chance.randint(1, 3))
        task = asyncio.create_task(poller(kit, chance.randint(1, 10)).run(Stop()))
        for _ in range(chance.randint(0, 150)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            task.cancel()
        stolen.append(task)
    last = kit.start(counting(kit, chance.randint(1, 10)))
    await last.wait_caught_up()
    for task in stolen:
        task.cancel()
    ended = await asyncio.gather(*stolen, return_exceptions=True)
    assert all(isinstance(error, (LeaseLostError, asyncio.CancelledError)) for error in ended), ended
    assert await totals(kit) == truth(range(total))


async def test_a_window_does_not_begin_over_lanes_that_are_uneven(kit: Kit, clock: ManualClock) -> None:
    """Its function would miss the records between them."""
    await fill(kit, range(60))
    stuck_lane = lane_of("k0", 3)

    async def stuck(batch: Batch[int]) -> list[Update]:
        if any(lane_of(record.partition_key, 3) == stuck_lane for record in batch):
            raise ConnectionError("not yet")
        return await count(batch)

    running = kit.start(counting(kit, 3, function=stuck))
    with pytest.raises(ValidationError, match="update parallelization_factor to 1 first"):
        await running.update(parallelization_factor=1, tumbling_window=60)
    while running.counts.written < 30:
        await clock.advance(1)
    await kit.stop(running)

    async def windowed(batch: Batch[int]) -> dict[str, Any]:
        return {"state": {}}

    with pytest.raises(ValidationError, match="had 3 lanes, which are not even"):
        await poller(kit, 1, function=windowed, tumbling_window=60).run(Stop())
    even = kit.start(counting(kit, 1))
    await even.wait_caught_up()
    await even.update(function=windowed, tumbling_window=60)
    assert even.mapping.tumbling_window == 60
    assert await totals(kit) == truth(range(60))

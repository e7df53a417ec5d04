"""Mappings that are changed while they work: nothing is lost, and nothing takes effect twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Retry, Update
from streamkit.errors import ClosedError, ValidationError
from streamkit.functions.live import LiveMapping
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("numbers", shards=2)
        await kit.create_table("totals", partition_key="key")
        yield kit


async def count(batch: Batch[int]) -> list[Update]:
    await asyncio.sleep(0)
    return [Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value}) for record in batch]


def counting(kit: Kit, **options: Any) -> EventSourceMapping:
    given = {"source": kit.stream("numbers"), "function": count, "sink": kit.table("totals"), "batch_size": 5}
    return EventSourceMapping("counting", **{**given, **options})


def state_of(running: LiveMapping) -> str:
    return running.state


async def fill(kit: Kit, numbers: range) -> None:
    await kit.stream("numbers").put_batch([(f"k{at % 7}", at) for at in numbers])


async def totals(kit: Kit) -> dict[str, tuple[int, int]]:
    return {item["key"]: (item["count"], item["sum"]) async for item in kit.table("totals").scan()}


def truth(numbers: range) -> dict[str, tuple[int, int]]:
    by_key = {f"k{key}": [at for at in numbers if at % 7 == key] for key in range(7)}
    return {key: (len(values), sum(values)) for key, values in by_key.items()}


async def test_a_disabled_mapping_reads_nothing_and_goes_on_where_it_was(kit: Kit) -> None:
    await fill(kit, range(20))
    running = kit.start(counting(kit))
    assert state_of(running) == "Creating"
    await running.wait_caught_up()
    assert state_of(running) == "Enabled"
    await running.disable()
    assert state_of(running) == "Disabled"
    await fill(kit, range(20, 40))
    for _ in range(50):
        await asyncio.sleep(0)
    assert await totals(kit) == truth(range(20))
    await running.enable()
    assert state_of(running) == "Enabled"
    await running.wait_caught_up()
    assert await totals(kit) == truth(range(40))
    assert running.counts.written == 40


async def test_a_stop_ends_a_disabled_mapping_and_then_nothing_can_be_changed(kit: Kit) -> None:
    running = kit.start(counting(kit))
    await running.disable()
    await kit.stop(running)
    assert state_of(running) == "Disabled"
    for change in (running.enable(), running.disable(), running.update(batch_size=3)):
        with pytest.raises(ClosedError, match="mapping 'counting'"):
            await change


async def test_the_batch_in_hand_is_finished_under_the_old_settings(kit: Kit) -> None:
    await fill(kit, range(4))
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(batch: Batch[int]) -> Any:
        entered.set()
        await release.wait()
        return await count(batch)

    calls: list[int] = []

    async def quick(batch: Batch[int]) -> Any:
        calls.append(len(batch))
        return await count(batch)

    running = kit.start(counting(kit, function=slow, batch_size=1))
    await entered.wait()
    changing = asyncio.create_task(running.update(function=quick, batch_size=100))
    for _ in range(20):
        await asyncio.sleep(0)
    assert state_of(running) == "Updating"
    assert running.mapping.batch_size == 1
    assert not changing.done()
    release.set()
    await changing
    assert state_of(running) == "Enabled"
    assert running.mapping.batch_size == 100
    await running.wait_caught_up()
    assert await totals(kit) == {key: total for key, total in truth(range(4)).items() if total[0]}
    assert sum(calls) < 4


async def test_an_update_ends_the_retries_of_a_batch_that_cannot_work(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, range(10))

    async def broken(batch: Batch[int]) -> None:
        raise ValueError("not yet written")

    running = kit.start(counting(kit, function=broken, retry=Retry(first=60, jitter=False)))
    await clock.advance(1)
    assert running.last_processing_result == "PROBLEM: Function call failed: ValueError: not yet written"
    await running.update(function=count)
    await running.wait_caught_up()
    assert running.last_processing_result == "OK"
    assert await totals(kit) == {key: total for key, total in truth(range(10)).items() if total[0]}


@pytest.mark.parametrize("field", ["name", "source", "starting_position"])
async def test_some_things_cannot_be_changed(kit: Kit, field: str) -> None:
    running = kit.start(counting(kit))
    with pytest.raises(ValidationError, match=f"{field} cannot be changed"):
        await running.update(**{field: "LATEST"})


async def test_an_update_is_checked_as_a_new_mapping_and_changes_nothing_if_refused(
    kit: Kit, clock: ManualClock
) -> None:
    running = kit.start(counting(kit))
    await running.wait_caught_up()
    with pytest.raises(ValidationError, match="batch_size is 1 to 10,000"):
        await running.update(batch_size=0)
    with pytest.raises(ValidationError, match="no such field"):
        await running.update(batch_sizes=1)
    async with streamkit.open("memory:", clock=clock) as other:
        await other.create_table("totals", partition_key="key")
        with pytest.raises(ValidationError, match="belongs to another kit"):
            await running.update(sink=other.table("totals"))
    assert state_of(running) == "Enabled"
    assert running.mapping.batch_size == 5


async def test_lag_and_the_last_result(kit: Kit, clock: ManualClock) -> None:
    running = kit.start(counting(kit))
    await running.wait_caught_up()
    assert running.last_processing_result == "No records processed"
    await running.disable()
    await fill(kit, range(9))
    await clock.advance(3)
    lag = await running.lag()
    assert (lag.records, lag.millis_behind) == (9, 3_000)
    await running.enable()
    await running.wait_caught_up()
    assert (await running.lag()).records == 0
    assert running.last_processing_result == "OK"


async def test_the_mappings_that_run_are_listed(kit: Kit) -> None:
    await kit.create_queue("other")
    first = kit.start(counting(kit))
    second = kit.start(EventSourceMapping("second", source=kit.stream("numbers"), sink=kit.queue("other")))
    assert kit.mappings() == [first, second]
    await first.disable()
    assert next((each.name, each.state) for each in kit.mappings()) == ("counting", "Disabled")
    await kit.stop(first)
    assert kit.mappings() == [second]


@pytest.mark.parametrize("seed", range(8))
async def test_changes_at_random_lose_nothing_and_double_nothing(kit: Kit, seed: int) -> None:
    chance = random.Random(seed)
    await fill(kit, range(200))
    running = kit.start(counting(kit))
    order: dict[str, list[int]] = {}

    async def noting(batch: Batch[int]) -> Any:
        for record in batch:
            order.setdefault(record.partition_key, []).append(record.value)
        return await count(batch)

    await running.update(function=noting)
    for step in range(12):
        for _ in range(chance.randint(0, 40)):
            await asyncio.sleep(0)
        change = chance.choice(["disable", "enable", "lanes", "size"])
        if change == "lanes":
            await running.update(parallelization_factor=chance.randint(1, 10))
        elif change == "size":
            await running.update(batch_size=chance.randint(1, 20), batch_window=0)
        else:
            await (running.disable() if change == "disable" else running.enable())
        await fill(kit, range(200 + 10 * step, 210 + 10 * step))
    await running.enable()
    await running.wait_caught_up()
    assert await totals(kit) == truth(range(320))
    # A batch that was handed over is finished, so nothing was even invoked twice, and each key's order held.
    assert all(values == sorted(values) for values in order.values())
    assert max(Counter(value for values in order.values() for value in values).values()) == 1


async def test_of_changes_at_once_the_last_one_holds(kit: Kit) -> None:
    await fill(kit, range(50))
    running = kit.start(counting(kit))
    await asyncio.gather(
        running.update(batch_size=7), running.disable(), running.update(batch_size=9), running.enable()
    )
    assert (running.state, running.mapping.batch_size) == ("Enabled", 9)
    await running.wait_caught_up()
    assert await totals(kit) == truth(range(50))


async def test_waiting_for_a_change_ends_when_the_mapping_does(kit: Kit) -> None:
    await fill(kit, range(3))
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(batch: Batch[int]) -> None:
        entered.set()
        await release.wait()

    running = kit.start(counting(kit, function=slow))
    await entered.wait()
    changing = asyncio.create_task(running.update(batch_size=9))
    stopping = asyncio.create_task(kit.stop(running))
    for _ in range(10):
        await asyncio.sleep(0)
    release.set()
    await stopping
    with pytest.raises(ClosedError):
        await changing


@pytest.mark.parametrize("kind", ["async def", "in a thread"])
@pytest.mark.parametrize("source", ["stream", "queue"])
async def test_a_function_that_changes_its_own_mapping_does_not_wait_for_itself(
    kit: Kit, source: str, kind: str
) -> None:
    """The change holds once its batch is done, and its results count."""
    await kit.create_queue("jobs")
    await fill(kit, range(10))
    await kit.queue("jobs").send_batch(range(10))
    loop = asyncio.get_running_loop()
    calls = 0

    async def switch_off(items: Any) -> list[Update]:
        nonlocal calls
        calls += 1
        await running.update(batch_size=2)
        await running.disable()
        with pytest.raises(ValidationError, match="cannot be waited for by its own function"):
            await running.wait_caught_up()
        return [Update(key={"key": "all"}, add={"count": 1}) for _ in items]

    def in_a_thread(items: Any) -> list[Update]:
        return asyncio.run_coroutine_threadsafe(switch_off(items), loop).result(30)

    running = kit.start(
        counting(
            kit,
            source=kit.stream("numbers") if source == "stream" else kit.queue("jobs"),
            function=switch_off if kind == "async def" else in_a_thread,
            parallelization_factor=1,
        )
    )
    async with asyncio.timeout(30):
        while state_of(running) != "Disabled":  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0)
    assert calls >= 1
    assert running.mapping.batch_size == 2
    done = running.counts.written
    assert await kit.table("totals").get("all") == {"key": "all", "count": done}
    assert 0 < done <= 10
    for _ in range(100):
        await asyncio.sleep(0)
    assert running.counts.written == done, "it is off"
    await running.update(function=count if source == "stream" else None, sink=kit.table("totals"))
    assert state_of(running) == "Disabled", "and waits where somebody else asks"

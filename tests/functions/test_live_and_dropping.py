"""Changes of a mapping while the disk is full or by tasks of its function, and messages that cannot be handed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Retry
from streamkit.errors import DiskFullError
from streamkit.functions.effects import Effects
from streamkit.functions.poller import MappingPoller
from streamkit.functions.queue_poller import QueuePoller
from streamkit.functions.sink import CallableSink
from streamkit.limits import Limits
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

TIMEOUT = 30


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("numbers")
        await kit.create_table("seen", partition_key="value")
        await kit.create_queue("jobs", visibility_timeout=TIMEOUT)
        await kit.create_queue("jobs.fifo", fifo=True, visibility_timeout=TIMEOUT)
        yield kit


class Full:
    """Effects on a disk that is full for the first commits."""

    def __init__(self, kit: Kit, refusals: int) -> None:
        self._engine = kit.engine
        self.refusals = refusals

    @property
    def limits(self) -> Limits:
        return self._engine.limits

    async def commit(self, effects: Effects) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DiskFullError("/data")
        await self._engine.commit(effects)


async def until(clock: ManualClock, done: Any, step: float = 1) -> None:
    for _ in range(500):
        if done():
            return
        await clock.advance(step)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("who", ["the function", "somebody else"])
@pytest.mark.parametrize("source", ["stream", "queue"])
async def test_a_mapping_that_is_disabled_on_a_full_disk_lives_on(
    kit: Kit, clock: ManualClock, source: str, who: str
) -> None:
    """What was done is committed when there is room again, or done again; the mapping is off, and not ended."""
    await kit.stream("numbers").put_batch([("k", at) for at in range(3)])
    await kit.queue("jobs").send_batch(range(3))

    full = Full(kit, 100)
    calls = 0

    async def items(batch: Any) -> list[dict[str, int]]:
        nonlocal calls
        calls += 1
        if calls == 1 and who == "the function":
            await running.disable()
        return [{"value": one.value} for one in batch]

    of = kit.stream("numbers") if source == "stream" else kit.queue("jobs")
    options: dict[str, Any] = {"batch_size": 3, "retry": Retry(first=5, jitter=False), "sink": kit.table("seen")}
    mapping = EventSourceMapping("m", source=of, function=items, **options)
    running: Any = (MappingPoller if source == "stream" else QueuePoller)(mapping, ports(kit, full))
    kit.start(running)
    await until(clock, lambda: full.refusals < 100, 0)
    await asyncio.wait_for(running.disable(), 5)
    assert (running.state, running.ended) == ("Disabled", False)
    full.refusals = 0
    await running.enable()
    waiting = asyncio.create_task(running.wait_caught_up())
    await until(clock, waiting.done)
    await waiting
    assert sorted([item["value"] async for item in kit.table("seen").scan()]) == [0, 1, 2]


async def test_a_task_that_the_function_left_behind_may_wait_for_the_mapping(kit: Kit) -> None:
    """It is no part of the batch any more."""
    over = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def watch() -> None:
        await over.wait()
        await running.wait_caught_up()

    async def items(batch: Batch[int]) -> list[dict[str, int]]:
        left.append(asyncio.create_task(watch()))
        return [{"value": value} for value in batch.values]

    await kit.stream("numbers").put_batch([("k", 1)])
    running = kit.start(EventSourceMapping("m", source=kit.stream("numbers"), function=items, sink=kit.table("seen")))
    await running.wait_caught_up()
    over.set()
    await asyncio.wait_for(left[0], 5)


@pytest.mark.parametrize("queue", ["jobs", "jobs.fifo"])
async def test_a_message_that_cannot_be_handed_on_takes_no_other_with_it(
    kit: Kit, clock: ManualClock, queue: str
) -> None:
    """All others that no filter matches go on, but for those behind it in its group."""
    fifo = queue.endswith(".fifo")
    rest = await kit.create_queue("rest.fifo" if fifo else "rest", fifo=fifo, maximum_message_bytes=2_000)
    source = kit.queue(queue)
    for at in range(6):
        body = {"n": at, "data": "x" * (5_000 if at == 2 else 1)}
        await source.send(body, group_id=f"g{at % 2}", deduplication_id=str(at) if fifo else None)
    running = kit.start(
        EventSourceMapping(
            "m", source=source, sink=kit.table("seen"), on_filtered=rest, filters=[{"body": {"n": ["none"]}}]
        )
    )
    for _ in range(10):
        await clock.advance(0.1)
    wanted = [0, 1, 3, 5] if fifo else [0, 1, 3, 4, 5]
    assert sorted(message.value["n"] for message in await rest.peek(10)) == wanted
    assert running.counts.filtered_out == len(wanted)


@pytest.mark.parametrize("source", ["stream", "queue"])
async def test_a_sink_that_switches_its_own_mapping_off_does_not_wait_for_itself(kit: Kit, source: str) -> None:
    """The change holds once what it was given is settled."""
    await kit.stream("numbers").put("k", partition_key="k")
    await kit.queue("jobs").send("k")
    seen: list[Any] = []

    async def take(values: list[Any]) -> None:
        seen.extend(values)
        await running.disable()

    of: Any = kit.stream("numbers") if source == "stream" else kit.queue("jobs")
    running = kit.start(EventSourceMapping("m", source=of, sink=CallableSink(take)))
    async with asyncio.timeout(10):
        while running.state != "Disabled":  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0)
    assert seen == ["k"]
    assert not running.ended

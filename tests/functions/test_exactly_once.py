"""Effects and checkpoint are one: whatever happens in between, each record counts once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit, Record, Retry, Stop, Update, each
from streamkit.errors import DiskFullError, LeaseLostError
from streamkit.functions.effects import Effects, EffectStore
from streamkit.functions.poller import MappingPoller
from streamkit.limits import Limits
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

KEYS = 5


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


@each
async def count(record: Record[int]) -> Update:
    await asyncio.sleep(0)
    return Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value})


def poller(kit: Kit, mapping: EventSourceMapping) -> MappingPoller:
    return MappingPoller(mapping, ports(kit))


async def fill(kit: Kit, records: int) -> dict[str, tuple[int, int]]:
    """Puts records and returns what the totals must be."""
    stream = await kit.create_stream("numbers", shards=3)
    await kit.create_table("totals", partition_key="key")
    await stream.put_batch([(f"k{n % KEYS}", n) for n in range(records)])
    return {f"k{key}": (len(range(key, records, KEYS)), sum(range(key, records, KEYS))) for key in range(KEYS)}


async def totals(kit: Kit) -> dict[str, tuple[int, int]]:
    return {item["key"]: (item["count"], item["sum"]) async for item in kit.table("totals").scan()}


def counting(kit: Kit, **options: Any) -> EventSourceMapping:
    return EventSourceMapping(
        "totals",
        source=kit.stream("numbers"),
        function=options.pop("function", count),
        sink=kit.table("totals"),
        **{"batch_size": 7, **options},
    )


@pytest.mark.parametrize("seed", range(10))
async def test_each_record_takes_effect_exactly_once(kit: Kit, seed: int) -> None:
    """Cancelled at random steps again and again, then run to the end."""
    chance = random.Random(seed)
    expected = await fill(kit, 100)
    for _ in range(15):
        task = asyncio.create_task(poller(kit, counting(kit)).run(Stop()))
        for _ in range(chance.randint(0, 60)):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    last = kit.start(counting(kit))
    await last.wait_caught_up()
    assert await totals(kit) == expected


async def test_a_second_poller_of_the_name_fences_the_first(kit: Kit) -> None:
    expected = await fill(kit, 60)
    entered, release = asyncio.Event(), asyncio.Event()

    @each
    async def slow(record: Record[int]) -> Update:
        entered.set()
        await release.wait()
        return Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value})

    first = poller(kit, counting(kit, function=slow))
    task = asyncio.create_task(first.run(Stop()))
    await entered.wait()
    second = kit.start(counting(kit))
    await second.wait_caught_up()
    release.set()
    with pytest.raises(LeaseLostError, match="lost the lease"):
        await task
    assert first.counts.written == 0
    assert await totals(kit) == expected


async def test_a_failing_function_is_tried_again_and_counts_once(kit: Kit, clock: ManualClock) -> None:
    expected = await fill(kit, 40)
    failures = iter([True, False, True, True, False] * 3)

    @each
    async def flaky(record: Record[int]) -> Update:
        if record.value % 10 == 3 and next(failures, False):
            raise ConnectionError("try again")
        return Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value})

    mapping = kit.start(counting(kit, function=flaky, retry=Retry(first=5, jitter=False)))
    caught_up = asyncio.create_task(mapping.wait_caught_up())
    while not caught_up.done():
        await clock.advance(5)
    assert await totals(kit) == expected
    assert mapping.counts.errors > 0
    assert mapping.counts.dropped == 0


@pytest.mark.parametrize("bisect", [False, True])
async def test_a_poison_record_alone_goes_to_the_on_failure_queue(kit: Kit, bisect: bool) -> None:
    expected = await fill(kit, 50)
    failed = await kit.create_queue("failed")

    @each
    async def picky(record: Record[int]) -> Update:
        if record.value == 17:
            raise ValueError("seventeen")
        return Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value})

    mapping = kit.start(
        counting(kit, function=picky, maximum_retry_attempts=0, bisect_on_function_error=bisect, on_failure=failed)
    )
    await mapping.wait_caught_up()
    number, total = expected["k2"]
    assert await totals(kit) == {**expected, "k2": (number - 1, total - 17)}
    (letter,) = await failed.peek()
    document = letter.value
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["KinesisBatchInfo"]["batchSize"] == 1
    assert document["error"] == {"type": "ValueError", "message": "seventeen"}
    assert mapping.counts.dropped == 1


async def test_filtered_records_are_checkpointed_too(kit: Kit) -> None:
    await fill(kit, 30)
    none = counting(kit, filters=[{"partitionKey": ["nobody"]}])
    mapping = kit.start(none)
    await mapping.wait_caught_up()
    assert mapping.counts.filtered_out == 30
    await kit.stop(mapping)
    again = kit.start(counting(kit))
    await again.wait_caught_up()
    assert again.counts.polled == 0


async def test_sends_and_puts_belong_to_the_commit(kit: Kit) -> None:
    await fill(kit, 20)
    queue = await kit.create_queue("copies")
    stream = await kit.create_stream("copy")
    for name, sink in (("to-queue", queue), ("to-stream", stream)):
        mapping = kit.start(EventSourceMapping(name, source=kit.stream("numbers"), sink=sink, batch_size=4))
        await mapping.wait_caught_up()
        await kit.stop(mapping)
        again = kit.start(EventSourceMapping(name, source=kit.stream("numbers"), sink=sink))
        await again.wait_caught_up()
    assert sorted(message.value for message in await queue.receive(100)) == list(range(20))
    copied = [(record.partition_key, record.value) async for record in stream.records()]
    assert sorted(value for _, value in copied) == list(range(20))
    assert all(key == f"k{value % KEYS}" for key, value in copied)


async def test_a_batch_window_waits_for_the_batch_to_fill(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("numbers")
    await kit.create_table("totals", partition_key="key")
    sizes: list[int] = []

    async def note(batch: Any) -> None:
        sizes.append(len(batch))

    kit.start(counting(kit, function=note, batch_size=3, batch_window=10))
    await stream.put(1, partition_key="k")
    await clock.advance(9)
    await stream.put(2, partition_key="k")
    await clock.advance(0.5)
    assert sizes == []
    await clock.advance(0.6)
    assert sizes == [2]
    await stream.put_batch([("k", n) for n in range(3)])
    await clock.advance(0)
    assert sizes == [2, 3]


async def test_latest_begins_after_what_is_there_and_a_restart_forgets_nothing(kit: Kit) -> None:
    await fill(kit, 10)
    mapping = kit.start(counting(kit, starting_position="LATEST"))
    await mapping.wait_caught_up()
    await kit.stop(mapping)
    await kit.stream("numbers").put(5, partition_key="new")
    again = kit.start(counting(kit, starting_position="LATEST"))
    await again.wait_caught_up()
    assert await totals(kit) == {"new": (1, 5)}


async def test_what_a_function_may_not_return_is_said(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    await fill(kit, 1)

    async def junk(batch: Any) -> Any:
        return 42

    mapping = kit.start(counting(kit, function=junk, maximum_retry_attempts=0))
    await mapping.wait_caught_up()
    assert mapping.counts.dropped == 1
    assert "the function returned a value of type int: return None, a list" in caplog.text


class Full:
    """Effects on a disk that is full for the first commits."""

    def __init__(self, effects: EffectStore, refusals: int) -> None:
        self._effects = effects
        self.refusals = refusals

    @property
    def limits(self) -> Limits:
        return self._effects.limits

    async def commit(self, effects: Effects) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DiskFullError("/data")
        await self._effects.commit(effects)


async def test_a_full_disk_is_waited_for(kit: Kit, clock: ManualClock) -> None:
    expected = await fill(kit, 20)
    full = Full(kit.engine, refusals=5)
    mapping = MappingPoller(counting(kit, retry=Retry(first=10, jitter=False)), ports(kit, full))
    kit.start(mapping)
    caught_up = asyncio.create_task(mapping.wait_caught_up())
    await clock.advance(5)
    assert not caught_up.done()
    while not caught_up.done():
        await clock.advance(10)
    assert full.refusals == 0
    assert await totals(kit) == expected
    assert kit.health().healthy

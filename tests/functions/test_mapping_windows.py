"""Tumbling windows: a state per shard and window, stored with the checkpoint, and a last invocation when time is up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Limits, Put, Retry, Stop
from streamkit.functions.lambda_handler import lambda_handler
from streamkit.functions.poller import MappingPoller
from streamkit.functions.tumbling import ANSWER_BYTES, PART_BYTES, STATE_BYTES, WINDOWS, Stored, Tumbling
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

START_MS = 1_700_000_000_000 - 1_700_000_000_000 % 10_000 + 10_000


@pytest.fixture
def clock() -> ManualClock:
    """At the beginning of a window of ten seconds."""
    return ManualClock(START_MS)


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("numbers")
        await kit.create_table("sums", partition_key="start")
        yield kit


class Summing:
    """Adds the values of a window up in its state, and stores the sum at its end, as a Lambda handler does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.fail = 0
        self.state: Any = None

    async def __call__(self, event: dict[str, Any], context: Any) -> Any:
        self.events.append(event)
        if self.fail:
            self.fail -= 1
            raise ValueError("not now")
        state = event["state"]
        count = state.get("count", 0) + len(event["Records"])
        return self.state if self.state is not None else {"state": {"count": count}}

    @property
    def seen(self) -> list[tuple[int, int, bool]]:
        """Records, what was counted before, and whether it was the last, of each invocation."""
        return [
            (len(event["Records"]), event["state"].get("count", 0), event["isFinalInvokeForWindow"])
            for event in self.events
        ]


def mapping(kit: Kit, function: Any, **options: Any) -> EventSourceMapping:
    if isinstance(function, Summing):
        inner = function

        async def handler(event: dict[str, Any], context: Any) -> Any:
            return await inner(event, context)

        function = lambda_handler(handler)
    given = {"tumbling_window": 10, "retry": Retry(first=1, factor=1, jitter=False), **options}
    return EventSourceMapping("windows", source=kit.stream("numbers"), function=function, **given)


async def put(kit: Kit, *values: int) -> None:
    await kit.stream("numbers").put_batch([("k", value) for value in values])


async def test_records_belong_to_the_window_in_which_they_arrived(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    await put(kit, 1, 2)
    await clock.advance(4)
    await put(kit, 3)
    await clock.advance(6)
    await put(kit, 4)
    running = kit.start(mapping(kit, function))
    await running.wait_caught_up()
    assert function.seen == [(3, 0, False), (0, 3, True), (1, 0, False)]
    windows = [event["window"] for event in function.events]
    assert windows[0] == windows[1]
    assert windows[0]["end"] == windows[2]["start"]
    await clock.advance(9.9)
    assert len(function.seen) == 3
    await clock.advance(0.1)
    assert function.seen[3:] == [(0, 1, True)]
    assert not function.events[3]["isWindowTerminatedEarly"]


async def test_the_state_goes_from_batch_to_batch_and_the_last_call_may_write(kit: Kit, clock: ManualClock) -> None:
    async def add_up(batch: Batch[int]) -> Any:
        return {"state": {}, "results": [Put({"start": len(batch), "sum": sum(batch.values)})]}

    function = Summing()
    running = kit.start(mapping(kit, function, batch_size=2))
    await put(kit, 1, 2, 3, 4, 5)
    await running.wait_caught_up()
    assert function.seen == [(2, 0, False), (2, 2, False), (1, 4, False)]
    await kit.stop(running)
    running = kit.start(mapping(kit, add_up, sink=kit.table("sums")))
    await clock.advance(10)
    # Its last call has no records, and what it returns is written.
    assert await kit.table("sums").get(0) == {"start": 0, "sum": 0}


async def test_a_restart_in_the_middle_of_a_window_goes_on_with_its_state(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    running = kit.start(mapping(kit, function))
    await put(kit, 1, 2)
    await running.wait_caught_up()
    await kit.stop(running)
    await clock.advance(5)
    await put(kit, 3)
    running = kit.start(mapping(kit, function))
    await running.wait_caught_up()
    assert function.seen == [(2, 0, False), (1, 2, False)]
    await kit.stop(running)
    await clock.advance(20)
    await put(kit, 4)
    running = kit.start(mapping(kit, function))
    await running.wait_caught_up()
    assert function.seen[2:] == [(0, 3, True), (1, 0, False)]


async def test_an_answer_without_state_is_a_failed_invocation(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    function.state = {"batchItemFailures": []}
    running = kit.start(mapping(kit, function))
    await put(kit, 1)
    await clock.advance(2.5)
    assert (running.counts.errors, running.counts.written) == (3, 0)
    function.state = None
    await clock.advance(1)
    assert running.counts.written == 1


async def test_a_last_call_that_fails_blocks_until_it_works(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    running = kit.start(mapping(kit, function))
    await put(kit, 1)
    await running.wait_caught_up()
    function.fail = 3
    await clock.advance(10)
    await put(kit, 2)
    await clock.advance(2)
    assert function.seen == [(1, 0, False), (0, 1, True), (0, 1, True), (0, 1, True)]
    await clock.advance(1)
    assert function.seen[4:] == [(0, 1, True), (1, 0, False)]


async def test_a_last_call_is_tried_no_more_often_than_a_batch(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    running = kit.start(mapping(kit, function, maximum_retry_attempts=1))
    await put(kit, 1)
    await running.wait_caught_up()
    function.fail = 2
    await clock.advance(11)
    await put(kit, 2)
    await clock.advance(1)
    assert function.seen == [(1, 0, False), (0, 1, True), (0, 1, True), (1, 0, False)]


async def test_a_state_that_is_too_large_ends_its_window_early(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    function.state = {"state": {"count": 7, "large": "x" * STATE_BYTES}}
    running = kit.start(mapping(kit, function, batch_size=1))
    await put(kit, 1, 2)
    await running.wait_caught_up()
    await clock.advance(0)
    assert function.seen == [(1, 0, False), (0, 7, True), (1, 0, False), (0, 7, True)]
    assert [event["isWindowTerminatedEarly"] for event in function.events] == [False, True, False, True]
    assert len({event["window"]["start"] for event in function.events}) == 1


@pytest.mark.parametrize("limits", [Limits.aws(), Limits.relaxed()])
async def test_a_state_of_many_items_is_kept_with_the_checkpoint(clock: ManualClock, limits: Limits) -> None:
    """It grows and shrinks over restarts in the middle of its window, and nothing of it is left at the end."""
    sizes = [3 * PART_BYTES, PART_BYTES + 1, STATE_BYTES - 20, 10]
    states: list[tuple[Any, bool]] = []

    async def handler(event: dict[str, Any], context: Any) -> Any:
        states.append((event["state"].get("large"), event["isFinalInvokeForWindow"]))
        return {"state": {"large": "ä" * (sizes[len(states) - 1] // 2) if len(states) <= len(sizes) else ""}}

    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        await kit.create_stream("numbers")
        for at in range(len(sizes)):
            running = kit.start(mapping(kit, lambda_handler(handler), batch_size=1))
            await put(kit, at)
            await running.wait_caught_up()
            await kit.stop(running)
            assert running.counts.errors == 0
        running = kit.start(mapping(kit, lambda_handler(handler)))
        await clock.advance(10)
        assert running.counts.errors == 0
        large = ["ä" * (size // 2) for size in sizes]
        assert states == [(None, False), *((each, False) for each in large[:-1]), (large[-1], True)]
        assert not (await kit.engine.tables.scan(WINDOWS.name)).items


async def test_a_state_that_no_answer_may_have_is_a_failed_invocation(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    function.state = {"state": {"large": "x" * ANSWER_BYTES}}
    running = kit.start(mapping(kit, function))
    await put(kit, 1)
    await clock.advance(0.5)
    assert (running.counts.errors, running.counts.written) == (1, 0)
    assert "an answer has 6,291,456 at most" in running.last_processing_result
    function.state = {"state": {"large": "x" * (ANSWER_BYTES - 100)}}
    await clock.advance(1)
    assert running.counts.written == 1
    # It was large enough to end its window, though, which is made known with all of it.
    assert [event["isWindowTerminatedEarly"] for event in function.events] == [False, False, True]
    assert function.events[-1]["state"] == function.state["state"]


async def test_the_end_of_a_shard_closes_its_window_and_children_start_fresh(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    running = kit.start(mapping(kit, function))
    await put(kit, 1)
    await running.wait_caught_up()
    await kit.stream("numbers").update_shard_count(2)
    await put(kit, 2)
    await running.wait_caught_up()
    assert function.seen == [(1, 0, False), (0, 1, True), (1, 0, False)]


async def test_what_is_filtered_opens_no_window_and_closes_one(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    running = kit.start(mapping(kit, function, filters=[{"partitionKey": ["k"]}]))
    stream = kit.stream("numbers")
    await stream.put(1, partition_key="other")
    await clock.advance(11)
    assert function.events == []
    await stream.put(2, partition_key="k")
    await running.wait_caught_up()
    assert function.seen == [(1, 0, False)]


async def test_a_window_that_is_open_keeps_its_length_when_the_mapping_changes(kit: Kit, clock: ManualClock) -> None:
    function = Summing()
    running = kit.start(mapping(kit, function))
    await put(kit, 1)
    await running.wait_caught_up()
    await running.update(tumbling_window=3)
    await clock.advance(9)
    assert len(function.seen) == 1
    await clock.advance(1)
    assert function.seen[1:] == [(0, 1, True)]
    await put(kit, 2)
    await clock.advance(3)
    assert function.seen[2:] == [(1, 0, False), (0, 1, True)]


@pytest.mark.parametrize("seed", range(8))
async def test_cancelled_anywhere_the_state_counts_each_record_once(kit: Kit, clock: ManualClock, seed: int) -> None:
    """The last call stores what was counted."""
    chance = random.Random(seed)
    await put(kit, *range(60))
    function = Summing()
    for _ in range(15):
        task = asyncio.create_task(MappingPoller(mapping(kit, function, batch_size=7), ports(kit)).run(Stop()))
        for _ in range(chance.randint(0, 40)):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    running = kit.start(mapping(kit, function, batch_size=7))
    await running.wait_caught_up()
    await clock.advance(10)
    assert function.seen[-1] == (0, 60, True)


def test_windows_are_aligned_to_their_length() -> None:
    windows = Tumbling(10_000)
    assert windows.admits(5)
    windows.open(23_456)
    window = windows.window()
    assert (window.start_ms, window.end_ms, window.state) == (20_000, 30_000, {})
    assert windows.admits(29_999)
    assert not windows.admits(30_000)
    assert windows.admits(1), "a late record belongs to the window that is open"
    assert not windows.over(29_999)
    assert windows.over(30_000)
    kept = windows.kept({"a": 1})
    windows.keep(kept)
    again = Tumbling(5_000, Stored(20_000, 30_000, b'{"a":1}'))
    assert again.window(final=True) == windows.window(final=True)
    again.close()
    assert again.end_ms is None

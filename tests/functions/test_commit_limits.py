"""What one commit may hold, under the limits of AWS: all of it for the function, and more of it in parts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Message, Record, Retry, Send, Stop, Update, each
from streamkit.functions.context import current_context
from streamkit.functions.effects import Effects
from streamkit.functions.poller import MappingPoller
from streamkit.functions.queue_poller import QueuePoller
from streamkit.functions.results import PutRecord, SendMessage
from streamkit.functions.tumbling import STATE_BYTES
from streamkit.limits import Limits
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

MOST = Limits.aws().write_actions
TIMEOUT = 30


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock, limits=Limits.aws()) as kit:
        await kit.create_stream("numbers")
        await kit.create_table("seen", partition_key="value")
        await kit.create_queue("failed")
        await kit.create_queue("jobs", visibility_timeout=TIMEOUT)
        yield kit


class Commits:
    """Effects, and what each commit had."""

    def __init__(self, kit: Kit) -> None:
        self._engine = kit.engine
        self.writes: list[int] = []

    @property
    def limits(self) -> Limits:
        return self._engine.limits

    async def commit(self, effects: Effects) -> None:
        await self._engine.commit(effects)
        self.writes.append(len(effects.writes))


def mapping(kit: Kit, function: Any, **options: Any) -> EventSourceMapping:
    given = {"source": kit.stream("numbers"), "sink": kit.table("seen"), "retry": Retry(first=1, jitter=False)}
    return EventSourceMapping("m", function=function, **{**given, **options})


async def fill(kit: Kit, count: int) -> None:
    await kit.stream("numbers").put_batch([("k", at) for at in range(count)])


async def seen(kit: Kit) -> list[int]:
    return sorted([item["value"] async for item in kit.table("seen").scan()])


async def caught_up(running: Any, clock: ManualClock, step: float = 5) -> None:
    waiting = asyncio.create_task(running.wait_caught_up())
    for _ in range(1_000):
        if waiting.done():
            break
        await clock.advance(step)
    await waiting


@each
async def item(record: Record[int]) -> dict[str, int]:
    return {"value": record.value}


async def items(batch: Batch[int]) -> list[dict[str, int]]:
    return [{"value": value} for value in batch.values]


@pytest.mark.parametrize("function", [item, items])
async def test_a_function_may_write_as_much_as_one_call_may(kit: Kit, function: Any) -> None:
    """The checkpoint has room of its own."""
    await fill(kit, MOST)
    commits = Commits(kit)
    running = kit.start(MappingPoller(mapping(kit, function, batch_size=MOST), ports(kit, commits)))
    await running.wait_caught_up()
    assert await seen(kit) == list(range(MOST))
    assert (running.counts.errors, commits.writes) == (0, [MOST])


async def test_the_state_of_a_window_has_room_of_its_own(kit: Kit, clock: ManualClock) -> None:
    """Here in five items beside the lease's, which the next commit takes away, also beside a full one."""

    async def summing(batch: Batch[int]) -> Any:
        window = current_context().window
        assert window is not None
        results = [{"value": f"{window.final} {at}"} for at in range(MOST)]
        return {"state": {} if window.final else {"large": "x" * STATE_BYTES}, "results": results}

    await fill(kit, 1)
    running = kit.start(mapping(kit, summing, tumbling_window=10))
    await caught_up(running, clock, 1)
    await clock.advance(20)
    assert running.counts.errors == 0
    assert len([one async for one in kit.table("seen").scan()]) == 2 * MOST


@pytest.mark.parametrize("function", [item, items])
async def test_more_than_one_call_may_write_is_committed_in_parts(kit: Kit, function: Any) -> None:
    """One after the other along the records, and the function is called once."""
    await fill(kit, 250)
    commits = Commits(kit)
    running = kit.start(MappingPoller(mapping(kit, function, batch_size=1_000), ports(kit, commits)))
    await running.wait_caught_up()
    assert await seen(kit) == list(range(250))
    assert (running.counts.invocations, running.counts.errors, running.counts.written) == (1, 0, 250)
    assert commits.writes == [MOST, MOST, 50]


async def test_messages_and_records_are_committed_in_as_many_parts_as_their_calls_take(kit: Kit) -> None:
    """By their number and by their size, whichever is full first; in order."""
    queue, stream = await kit.create_queue("copies"), await kit.create_stream("copy")

    @each
    async def copy(record: Record[int]) -> list[Any]:
        large = "x" * 300_000 if record.value >= 90 else ""
        return [SendMessage(queue, [record.value, large]), PutRecord(stream, record.value)]

    await fill(kit, 100)
    commits = Commits(kit)
    running = kit.start(MappingPoller(mapping(kit, copy, sink=None), ports(kit, commits)))
    await running.wait_caught_up()
    assert running.counts.invocations == 1
    assert len(commits.writes) == 9 + 4, "ten messages, or three that are large"
    sent = [message.value[0] for message in await queue.peek(1_000)]
    assert sent == [record.value async for record in stream.records()] == list(range(100))


async def test_writes_of_one_item_count_once(kit: Kit) -> None:
    @each
    async def count(record: Record[int]) -> Update:
        return Update(key={"value": record.value % 7}, add={"count": 1})

    await fill(kit, 500)
    commits = Commits(kit)
    await kit.start(MappingPoller(mapping(kit, count, batch_size=500), ports(kit, commits))).wait_caught_up()
    assert commits.writes == [7]


async def test_too_much_for_one_record_fails_it_alone_and_says_so(kit: Kit, clock: ManualClock) -> None:
    @each
    async def many(record: Record[int]) -> list[dict[str, int]]:
        return [{"value": record.value * 1_000 + at} for at in range(MOST + 1 if record.value == 3 else 1)]

    await fill(kit, 5)
    running = kit.start(
        mapping(kit, many, maximum_retry_attempts=0, bisect_on_function_error=True, on_failure=kit.queue("failed"))
    )
    await caught_up(running, clock)
    assert await seen(kit) == [0, 1_000, 2_000, 4_000]
    (letter,) = await kit.queue("failed").peek(10)
    assert letter.value["KinesisBatchInfo"]["batchSize"] == 1
    assert letter.value["error"]["message"] == (
        "the results are 101 items, and one commit writes 100 at most: return fewer for one record, or as many results "
        "as there are records (None for none), which are committed in parts"
    )


async def test_results_of_the_batch_as_a_whole_are_never_divided(kit: Kit, clock: ManualClock) -> None:
    async def many(batch: Batch[int]) -> list[dict[str, int]]:
        return [{"value": at} for at in range(MOST + 1)]

    await fill(kit, 5)
    running = kit.start(mapping(kit, many, maximum_retry_attempts=0))
    await caught_up(running, clock)
    assert await seen(kit) == []
    assert running.counts.dropped == 5
    assert "one commit writes 100 at most" in running.last_processing_result


async def test_what_comes_after_a_part_that_is_refused_is_tried_again_alone(kit: Kit, clock: ManualClock) -> None:
    """What was committed before it is not done again."""
    batches: list[int] = []

    async def once_wrong(batch: Batch[int]) -> list[Any]:
        batches.append(len(batch))
        wrong = {"value": 150, "data": b"x" * 500_000} if len(batches) == 1 else {"value": 150}
        return [wrong if value == 150 else Update(key={"value": value}, add={"n": 1}) for value in batch.values]

    await fill(kit, 250)
    running = kit.start(mapping(kit, once_wrong, batch_size=1_000))
    await caught_up(running, clock)
    assert batches == [250, 150]
    assert await seen(kit) == list(range(250))
    assert {one["n"] async for one in kit.table("seen").scan() if one["value"] != 150} == {1}


@pytest.mark.parametrize("seed", range(8))
async def test_cancelled_between_parts_each_record_takes_effect_once(kit: Kit, seed: int) -> None:
    chance = random.Random(seed)

    @each
    async def count(record: Record[int]) -> Update:
        return Update(key={"value": record.value}, add={"n": 1})

    await fill(kit, 250)
    for _ in range(10):
        task = asyncio.create_task(MappingPoller(mapping(kit, count, batch_size=1_000), ports(kit)).run(Stop()))
        for _ in range(chance.randint(0, 40)):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await kit.start(mapping(kit, count, batch_size=1_000)).wait_caught_up()
    assert {one["value"]: one["n"] async for one in kit.table("seen").scan()} == dict.fromkeys(range(250), 1)


# ---- queues


@pytest.mark.parametrize("fifo", [False, True])
async def test_messages_of_a_batch_are_committed_in_parts_with_their_deletion(
    kit: Kit, clock: ManualClock, fifo: bool
) -> None:
    source = await kit.create_queue("in.fifo", fifo=True, visibility_timeout=TIMEOUT) if fifo else kit.queue("jobs")
    for first in range(0, 60, 10):
        await source.send_batch(
            [
                Send(value=at, group_id=f"g{at % 3}" if fifo else None, deduplication_id=str(at) if fifo else None)
                for at in range(first, first + 10)
            ]
        )

    @each
    async def thirty(message: Message[int]) -> list[Any]:
        return [{"value": message.value * 100 + at} for at in range(30)]

    commits = Commits(kit)
    running = kit.start(QueuePoller(mapping(kit, thirty, source=source), ports(kit, commits)))
    await caught_up(running, clock)
    assert await seen(kit) == sorted(value * 100 + at for value in range(60) for at in range(30))
    assert running.counts.errors == 0
    assert max(commits.writes) == 90
    assert running.counts.written == 60


async def test_a_message_with_too_much_fails_alone(kit: Kit, clock: ManualClock) -> None:
    @each
    async def many(message: Message[int]) -> list[Any]:
        return [{"value": message.value * 1_000 + at} for at in range(MOST + 1 if message.value == 2 else 40)]

    await kit.queue("jobs").send_batch(range(5))
    running = kit.start(mapping(kit, many, source=kit.queue("jobs")))
    await clock.advance(1)
    assert len(await seen(kit)) == 4 * 40
    assert (running.counts.written, running.counts.errors) == (4, 1)
    assert "one commit writes 100 at most" in running.last_processing_result


async def test_what_no_filter_matches_is_handed_on_in_as_many_calls_as_it_takes(kit: Kit, clock: ManualClock) -> None:
    """Received together, they have more than one call may send."""
    for at in range(6):
        await kit.queue("jobs").send({"n": at, "data": "x" * 400_000})
    rest = await kit.create_queue("rest")
    running = kit.start(
        mapping(kit, None, source=kit.queue("jobs"), on_filtered=rest, filters=[{"body": {"n": ["none"]}}])
    )
    await caught_up(running, clock)
    assert sorted(message.value["n"] for message in await rest.peek(10)) == list(range(6))
    assert running.counts.filtered_out == 6


# ---- destinations


@pytest.mark.parametrize("queue", ["failed", "failed.fifo"])
async def test_a_document_that_is_too_large_goes_without_its_records(kit: Kit, clock: ManualClock, queue: str) -> None:
    """Lambda does so, and the mapping goes on."""
    destination = await kit.create_queue(queue, fifo=queue.endswith(".fifo"), exist_ok=True)

    async def broken(batch: Batch[str]) -> None:
        raise ValueError("\ud800" + "x" * 3_000_000)

    await kit.stream("numbers").put_batch([("k", "x" * 300_000) for _ in range(3)])
    running = kit.start(mapping(kit, broken, maximum_retry_attempts=0, on_failure=destination))
    await caught_up(running, clock)
    (letter,) = await destination.peek(10)
    assert "payload" not in letter.value
    assert letter.value["KinesisBatchInfo"]["batchSize"] == 3
    assert letter.value["error"]["message"] == "?" + "x" * 999
    assert running.counts.dropped == 3


async def test_the_port_takes_progress_beyond_the_writes_and_no_more_writes(kit: Kit) -> None:
    """Also together with a full call; an item may still be written once alone."""
    engine = kit.engine
    writes = tuple(Update(key={"value": at}, set={"n": 1}, table="seen") for at in range(MOST + 1))
    beyond = Update(key={"value": -1}, set={"n": 1}, table="seen")
    with pytest.raises(streamkit.ValidationError, match="100"):
        await engine.commit(Effects(writes=writes, progress=(beyond,)))
    with pytest.raises(streamkit.ValidationError, match="written twice"):
        await engine.commit(Effects(writes=writes[:1], progress=writes[:1]))
    assert await seen(kit) == []
    await engine.commit(Effects(writes=writes[:MOST], progress=(beyond,)))
    assert len(await seen(kit)) == MOST + 1
    assert msgspec.structs.asdict(engine.limits) == msgspec.structs.asdict(Limits.aws())

"""FIFO queues as what a mapping sends to: groups, deduplication, and order, in one commit with the checkpoint."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Message, Record, Retry, Send, Stop, Update, each
from streamkit.functions.function import Function
from streamkit.functions.poller import MappingPoller
from streamkit.functions.queue_poller import QueuePoller
from streamkit.functions.results import SendMessage
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

TIMEOUT = 30


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("numbers", shards=3)
        await kit.create_table("totals", partition_key="key")
        await kit.create_queue("out.fifo", fifo=True)
        await kit.create_queue("content.fifo", fifo=True, content_based_deduplication=True)
        yield kit


def mapping(kit: Kit, function: Any = None, **options: Any) -> EventSourceMapping:
    given = {"source": kit.stream("numbers"), "sink": kit.queue("out.fifo"), "batch_size": 7}
    return EventSourceMapping("out", function=function, **{**given, **options})


async def fill(kit: Kit, count: int) -> None:
    await kit.stream("numbers").put_batch([(f"k{at % 5}", at) for at in range(count)])


async def by_group(kit: Kit, queue: str = "out.fifo") -> dict[str, list[Any]]:
    """What each group has, in the order of the queue."""
    found: dict[str, list[Any]] = defaultdict(list)
    for message in await kit.queue(queue).peek(10_000):
        assert message.group_id is not None
        found[message.group_id].append(message.value)
    return dict(found)


async def caught_up(running: Any, clock: ManualClock, step: float = 5) -> None:
    waiting = asyncio.create_task(running.wait_caught_up())
    for _ in range(2_000):
        if waiting.done():
            break
        await clock.advance(step)
    await waiting


# ---- groups


@pytest.mark.parametrize("how", ["no function", "values", "messages"])
async def test_a_message_is_in_the_group_of_its_records_key(kit: Kit, how: str) -> None:
    """Each once, though their values are equal, and in the order of the key."""
    await fill(kit, 50)
    await kit.stream("numbers").put_batch([("k0", 0), ("k0", 0)])

    @each
    async def value(record: Record[int]) -> Any:
        return record.value if how == "values" else SendMessage(kit.queue("out.fifo"), record.value)

    function = None if how == "no function" else value
    running = kit.start(mapping(kit, function, sink=None if how == "messages" else kit.queue("out.fifo")))
    await running.wait_caught_up()
    found = await by_group(kit)
    assert found.pop("k0") == [*range(0, 50, 5), 0, 0]
    assert found == {f"k{key}": list(range(key, 50, 5)) for key in range(1, 5)}


async def test_a_key_that_is_no_group_id_becomes_one(kit: Kit) -> None:
    """Of 256 characters of any kind, and always the same."""
    keys = ["two words", "ä" * 256, "fine!"]
    await kit.stream("numbers").put_batch([(key, at) for at in range(2) for key in keys])
    await kit.start(mapping(kit)).wait_caught_up()
    names = [*(sha256(key.encode()).hexdigest() for key in keys[:2]), "fine!"]
    assert await by_group(kit) == {name: [0, 1] for name in names}


@pytest.mark.parametrize("how", ["result", "send", "sink"])
async def test_a_result_names_its_group_and_its_id(kit: Kit, how: str) -> None:
    await fill(kit, 12)
    queue = kit.queue("out.fifo")

    @each
    async def named(record: Record[int]) -> Any:
        group, id_ = f"g{record.value % 2}", f"id-{record.value // 2}"
        if how == "result":
            return SendMessage(queue, record.value, group_id=group, deduplication_id=id_)
        send = Send(value=record.value, group_id=group, deduplication_id=id_)
        return send if how == "sink" else SendMessage(queue, send)

    await kit.stream("numbers").update_shard_count(1)
    running = kit.start(mapping(kit, named, sink=queue if how == "sink" else None, batch_size=100))
    await running.wait_caught_up()
    found = await by_group(kit)
    assert sum(map(len, found.values())) == 6, "of each two that share an id, one"
    messages = await queue.peek(100)
    assert {message.deduplication_id for message in messages} == {f"id-{at}" for at in range(6)}
    assert all(message.group_id == f"g{message.value % 2}" for message in messages)


async def test_a_message_without_a_group_is_refused_by_name(kit: Kit, clock: ManualClock) -> None:
    await kit.create_queue("jobs", visibility_timeout=TIMEOUT)
    await kit.queue("jobs").send("x")
    await kit.queue("jobs").send("y", group_id="fair")

    @each
    async def as_it_is(message: Message[str]) -> str:
        return message.value

    running = kit.start(mapping(kit, as_it_is, source=kit.queue("jobs")))
    await clock.advance(1)
    assert running.last_processing_result == (
        "PROBLEM: Function call failed: FunctionError: a message to FIFO queue 'out.fifo' that comes of a message of "
        "no group needs a group id: SendMessage(queue, value, group_id=...)"
    )
    assert await by_group(kit) == {"fair": ["y"]}, "and takes no other with it"


async def test_results_of_several_records_together_say_their_group(kit: Kit) -> None:
    async def all_but_one(batch: Batch[int]) -> list[Any]:
        return [SendMessage(kit.queue("out.fifo"), value, group_id=group) for value in batch.values[1:]]

    group: str | None = None
    await kit.stream("numbers").put_batch([("k", at) for at in range(4)])
    running = kit.start(mapping(kit, all_but_one, sink=None, retry=Retry(first=60)))
    for _ in range(200):
        await asyncio.sleep(0)
    assert "comes of no record, or of several together, needs a group id" in running.last_processing_result
    group = "all"
    await running.update(batch_size=4)
    await running.wait_caught_up()
    assert await by_group(kit) == {"all": [1, 2, 3]}


async def test_the_last_call_of_a_window_has_no_record_to_have_a_group_from(kit: Kit, clock: ManualClock) -> None:
    async def summing(batch: Batch[int]) -> Any:
        final = not len(batch)
        return {"state": {}, "results": [SendMessage(kit.queue("out.fifo"), 1, group_id="g"), 2] if final else []}

    await fill(kit, 1)
    running = kit.start(mapping(kit, summing, tumbling_window=10, maximum_retry_attempts=0))
    await clock.advance(30)
    assert "comes of no record, or of several together, needs a group id" in running.last_processing_result
    assert await by_group(kit) == {}


# ---- deduplication


async def test_what_was_sent_within_five_minutes_is_taken_and_stored_no_second_time(
    kit: Kit, clock: ManualClock
) -> None:
    """The commit goes through: its checkpoint, and its other effects."""
    queue = kit.queue("out.fifo")
    first = await queue.send(0, group_id="k0", deduplication_id="same")

    @each
    async def same(record: Record[int]) -> list[Any]:
        update = Update(key={"key": "all"}, add={"count": 1}, table="totals")
        return [SendMessage(queue, record.value, deduplication_id="same"), update]

    await fill(kit, 20)
    running = kit.start(mapping(kit, same, sink=None))
    await running.wait_caught_up()
    assert (running.counts.written, running.counts.errors) == (20, 0)
    assert await kit.table("totals").get("all") == {"key": "all", "count": 20}
    (message,) = await queue.peek(10)
    assert (message.message_id, message.value) == (first, 0)
    await clock.advance(301)
    await fill(kit, 1)
    await running.wait_caught_up()
    assert [message.value for message in await queue.peek(10)] == [0, 0]


async def test_the_content_tells_duplicates_where_the_queue_says_so(kit: Kit) -> None:
    await fill(kit, 10)
    await fill(kit, 10)
    running = kit.start(mapping(kit, sink=kit.queue("content.fifo")))
    await running.wait_caught_up()
    assert running.counts.written == 20
    assert await by_group(kit, "content.fifo") == {f"k{key}": [key, key + 5] for key in range(5)}


async def test_whether_the_content_tells_may_change_at_any_time(kit: Kit) -> None:
    queue = kit.queue("content.fifo")
    running = kit.start(mapping(kit, sink=queue))
    for content, count in ((True, 1), (False, 3), (True, 3)):
        await queue.update(content_based_deduplication=content)
        await kit.stream("numbers").put_batch([("k", "same"), ("k", "same")])
        await running.wait_caught_up()
        assert len(await queue.peek(10)) == count


# ---- destinations


async def test_what_is_given_up_is_in_the_group_of_its_shard_and_always_arrives(kit: Kit, clock: ManualClock) -> None:
    """Lambda takes no FIFO queue there. Ours keeps the order of each shard, and never drops one as a duplicate."""

    async def broken(batch: Batch[int]) -> None:
        raise ValueError("no")

    await fill(kit, 40)
    running = kit.start(
        mapping(kit, broken, sink=None, batch_size=2, maximum_retry_attempts=0, on_failure=kit.queue("content.fifo"))
    )
    await running.wait_caught_up()
    assert running.counts.dropped == 40
    found = await by_group(kit, "content.fifo")
    described = await kit.stream("numbers").describe()
    assert set(found) <= {f"out:{shard.shard_id}" for shard in described.shards}
    assert len(found) > 1
    for group, documents in found.items():
        info = [document["KinesisBatchInfo"] for document in documents]
        assert {f"out:{one['shardId']}" for one in info} == {group}
        numbers = [int(one["startSequenceNumber"]) for one in info]
        assert numbers == sorted(numbers)
    assert sum(len(each["payload"]["Records"]) for documents in found.values() for each in documents) == 40


async def test_what_no_filter_matches_keeps_its_group_and_always_arrives(kit: Kit, clock: ManualClock) -> None:
    source = await kit.create_queue("jobs.fifo", fifo=True, visibility_timeout=TIMEOUT)
    await source.send_batch(
        [Send(value={"n": at % 2}, group_id=f"g{at % 3}", deduplication_id=str(at)) for at in range(12)]
    )
    rest = kit.queue("content.fifo")
    running = kit.start(
        mapping(kit, sink=kit.queue("out.fifo"), source=source, on_filtered=rest, filters=[{"body": {"n": [1]}}])
    )
    await running.wait_caught_up()
    assert await by_group(kit, "content.fifo") == {f"g{group}": [{"n": 0}] * 2 for group in range(3)}
    assert await by_group(kit) == {f"g{group}": [{"n": 1}] * 2 for group in range(3)}


# ---- exactly once


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("seed", range(5))
async def test_cancelled_anywhere_each_message_is_there_once_and_in_its_order(kit: Kit, seed: int, lanes: int) -> None:
    chance = random.Random(seed)
    await fill(kit, 120)

    @each
    async def flaky(record: Record[int]) -> int:
        await asyncio.sleep(0)
        if chance.random() < 0.05:
            raise ConnectionError("try again")
        return record.value

    options: Any = {"parallelization_factor": lanes, "retry": Retry(first=0.001, jitter=False)}
    for _ in range(15):
        task = asyncio.create_task(MappingPoller(mapping(kit, flaky, **options), ports(kit)).run(Stop()))
        for _ in range(chance.randint(0, 60)):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await kit.start(mapping(kit, **options)).wait_caught_up()
    assert await by_group(kit) == {f"k{key}": list(range(key, 120, 5)) for key in range(5)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("where", ["memory", "file"])
async def test_from_one_fifo_queue_to_another_nothing_is_lost_doubled_or_overtaken(
    clock: ManualClock, tmp_path: Path, where: str, seed: int
) -> None:
    """By a batch function; cancelled at random instants, while timeouts end."""
    chance = random.Random(seed)
    async with streamkit.open("memory:" if where == "memory" else tmp_path / "data", clock=clock) as kit:
        source = await kit.create_queue("jobs.fifo", fifo=True, visibility_timeout=TIMEOUT)
        await kit.create_queue("out.fifo", fifo=True)
        await source.send_batch([Send(value=at, group_id=f"g{at % 4}", deduplication_id=str(at)) for at in range(80)])

        async def flaky(messages: Sequence[Message[int]]) -> list[int]:
            await asyncio.sleep(0)
            if chance.random() < 0.1:
                raise ConnectionError("try again")
            return [message.value for message in messages]

        options: Any = {"source": source, "batch_size": 3}
        for _ in range(10):
            task = asyncio.create_task(QueuePoller(mapping(kit, flaky, **options), ports(kit)).run(Stop()))
            for _ in range(chance.randint(0, 60)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await clock.advance(TIMEOUT + 1)
            task.cancel()
            await asyncio.wait([task])
        await caught_up(kit.start(mapping(kit, Function(flaky), **options)), clock)
        assert await by_group(kit) == {f"g{group}": list(range(group, 80, 4)) for group in range(4)}

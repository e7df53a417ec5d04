"""Mappings from queues: batches, filters, failures, scaling; each message takes effect exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit, Message, RedrivePolicy, Retry, Send, Stop, Update, each
from streamkit.errors import DiskFullError, NotFoundError, ServiceFailedError, ValidationError
from streamkit.functions.effects import Effects, EffectStore
from streamkit.functions.file_sink import FileSink
from streamkit.functions.function import Function
from streamkit.functions.queue_poller import QueuePoller
from streamkit.limits import Limits
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

TIMEOUT = 30


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_queue("dead")
        await kit.create_queue("jobs", visibility_timeout=TIMEOUT)
        await kit.create_table("totals", partition_key="key")
        yield kit


def effect(message: Message[int]) -> Update:
    return Update(key={"key": f"k{message.value % 5}"}, add={"count": 1, "sum": message.value})


@each
async def count(message: Message[int]) -> Update:
    await asyncio.sleep(0)
    return effect(message)


def mapping(kit: Kit, function: Any = count, **options: Any) -> EventSourceMapping:
    source = options.pop("source", "jobs")
    return EventSourceMapping(
        "totals", source=kit.queue(source), function=function, **{"sink": kit.table("totals"), **options}
    )


def poller(kit: Kit, function: Any = count, effects: EffectStore | None = None, **options: Any) -> QueuePoller:
    return QueuePoller(mapping(kit, function, **options), ports(kit, effects))


async def totals(kit: Kit) -> dict[str, tuple[int, int]]:
    return {item["key"]: (item["count"], item["sum"]) async for item in kit.table("totals").scan()}


def expected(values: Sequence[int]) -> dict[str, tuple[int, int]]:
    keys = {value % 5 for value in values}
    by_key = {key: [value for value in values if value % 5 == key] for key in keys}
    return {f"k{key}": (len(found), sum(found)) for key, found in by_key.items()}


async def until(holds: Callable[[], object]) -> None:
    for _ in range(20_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until_done(task: asyncio.Task[Any], clock: ManualClock, step: float = 5) -> None:
    for _ in range(2_000):
        if task.done():
            break
        await clock.advance(step)
    task.result()


async def sizes(kit: Kit, queue: str = "jobs") -> tuple[int, int]:
    found = await kit.queue(queue).describe()
    return found.visible, found.not_visible


async def test_messages_are_handled_and_deleted_with_their_effect(kit: Kit) -> None:
    await kit.queue("jobs").send_batch(range(100))
    running = kit.start(mapping(kit))
    await running.wait_caught_up()
    assert await totals(kit) == expected(range(100))
    assert await sizes(kit) == (0, 0)
    assert (running.counts.polled, running.counts.written, running.counts.errors) == (100, 100, 0)


async def test_messages_that_come_later_are_handled_at_once(kit: Kit) -> None:
    running = kit.start(mapping(kit))
    await turns()
    for value in range(3):
        await kit.queue("jobs").send(value)
        await running.wait_caught_up()
    assert await totals(kit) == expected(range(3))


# ---- batches


async def test_a_batch_has_at_most_its_size(kit: Kit, clock: ManualClock) -> None:
    sizes_seen: list[int] = []

    async def note(messages: Sequence[Message[int]]) -> None:
        sizes_seen.append(len(messages))

    await kit.queue("jobs").send_batch(range(25))
    await kit.start(mapping(kit, note)).wait_caught_up()
    assert sorted(sizes_seen) == [5, 10, 10], "ten unless said"
    await kit.queue("jobs").send_batch(range(250))
    sizes_seen.clear()
    options: Any = {"batch_size": 100, "batch_window": 1}
    task = asyncio.create_task(poller(kit, note, **options).run(stop := Stop()))
    while sum(sizes_seen) < 250:
        await clock.advance(1)
    stop.request()
    await task
    assert max(sizes_seen) <= 100


async def test_a_batch_waits_for_its_window_from_its_first_message_on(kit: Kit, clock: ManualClock) -> None:
    seen: list[list[int]] = []

    async def note(messages: Sequence[Message[int]]) -> None:
        seen.append([message.value for message in messages])

    running = kit.start(mapping(kit, note, batch_size=3, batch_window=60))
    await turns()
    await kit.queue("jobs").send(1)
    await clock.advance(40)
    await kit.queue("jobs").send(2)
    await clock.advance(19)
    assert seen == [], "and its messages stay hidden meanwhile"
    assert await sizes(kit) == (0, 2)
    await clock.advance(2)
    assert seen == [[1, 2]]
    await kit.queue("jobs").send_batch([3, 4, 5])
    await running.wait_caught_up()
    assert sorted(seen[1]) == [3, 4, 5], "it was full"


async def test_the_function_is_called_with_6_mb_at_most(kit: Kit, clock: ManualClock) -> None:
    """But for a message that has more by itself."""
    seen: list[int] = []

    async def note(messages: Sequence[Message[Any]]) -> None:
        seen.append(sum(len(message.body) for message in messages))

    await kit.queue("jobs").send_batch(["x" * 1_000_000 for _ in range(8)])
    await kit.queue("jobs").send("x" * 7_000_000)
    running = kit.start(mapping(kit, note, batch_size=100, batch_window=300))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert running.counts.written == 9
    assert sorted(size > 6_000_000 for size in seen) == [False] * (len(seen) - 1) + [True]
    assert len(seen) == 3


async def test_the_timeout_of_what_failed_counts_from_its_receive(kit: Kit, clock: ManualClock) -> None:
    """And not from when its window was over."""
    calls: list[int] = []

    async def failing(messages: Sequence[Message[Any]]) -> None:
        calls.append(clock.now_ms())
        raise ConnectionError("nobody there")

    began_ms = clock.now_ms()
    kit.start(mapping(kit, failing, batch_size=5, batch_window=20))
    await turns()
    await kit.queue("jobs").send(1)
    for _ in range(70):
        await clock.advance(1)
        await turns(5)
    seconds = [round((at - began_ms) / 1000) for at in calls]
    assert seconds[0] == 20
    assert seconds[1] == 50, "received again after 30 s, and its window is 20 s"


# ---- filters


async def test_what_no_filter_matches_is_deleted_and_counted(kit: Kit) -> None:
    await kit.queue("jobs").send_batch([{"n": value} for value in range(20)])

    @each
    async def count_of(message: Message[Any]) -> Update:
        return Update(key={"key": "all"}, add={"count": 1, "sum": message.value["n"]})

    running = kit.start(mapping(kit, count_of, filters=[{"body": {"n": [{"numeric": [">=", 15]}]}}]))
    await running.wait_caught_up()
    assert await totals(kit) == {"all": (5, 85)}
    assert (running.counts.filtered_out, running.counts.written) == (15, 5)
    assert await sizes(kit) == (0, 0)


async def test_what_no_filter_matches_can_be_handed_on(kit: Kit) -> None:
    await kit.queue("jobs").send_batch([Send(value="keep"), Send(value="other", attributes={"a": "b"})])
    rest = await kit.create_queue("rest")
    running = kit.start(mapping(kit, None, sink=rest, on_filtered=kit.queue("dead"), filters=[{"body": ["keep"]}]))
    await running.wait_caught_up()
    assert await sizes(kit, "rest") == (0, 0), "the body is JSON, and the filter of text"
    letters = await kit.queue("dead").receive(10)
    assert sorted(letter.value for letter in letters) == ["keep", "other"]
    assert {letter.value: dict(letter.attributes) for letter in letters}["other"]["a"].string_value == "b"


# ---- failures


async def test_a_failed_batch_comes_again_after_the_visibility_timeout(kit: Kit, clock: ManualClock) -> None:
    calls: list[int] = []

    async def flaky(messages: Sequence[Message[int]]) -> list[Update]:
        calls.append(messages[0].receive_count)
        if len(calls) == 1:
            raise ConnectionError("nobody there")
        return [Update(key={"key": "all"}, add={"count": 1, "sum": message.value}) for message in messages]

    await kit.queue("jobs").send_batch(range(4))
    running = kit.start(mapping(kit, flaky))
    await until(lambda: calls)
    await turns()
    await clock.advance(TIMEOUT - 1)
    assert await sizes(kit) == (0, 4)
    await clock.advance(2)
    await running.wait_caught_up()
    assert calls == [1, 2]
    assert await totals(kit) == {"all": (4, 6)}
    assert running.counts.errors == 1


async def test_a_poison_message_becomes_a_dead_letter_that_says_why(kit: Kit, clock: ManualClock) -> None:
    await kit.queue("jobs").update(redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=3))

    @each
    async def picky(message: Message[int]) -> Update:
        if message.value == 3:
            raise ValueError("three")
        return effect(message)

    await kit.queue("jobs").send_batch(range(10))
    running = kit.start(mapping(kit, picky))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert await totals(kit) == expected([value for value in range(10) if value != 3])
    (letter,) = await kit.queue("dead").receive(10)
    assert (letter.value, letter.last_error, letter.dead_letter_source) == (3, "ValueError: three", "jobs")
    assert running.counts.errors == 3


async def test_a_mapping_has_caught_up_once_an_eager_policy_has_moved_the_last_message(
    kit: Kit, clock: ManualClock
) -> None:
    async def fails(message: Message[int]) -> None:
        raise ArithmeticError("no number")

    await kit.create_queue("eagerly-dead")
    policy = RedrivePolicy(dead_letter_queue="eagerly-dead", max_receive_count=1, eager=True)
    await kit.queue("jobs").update(redrive_policy=policy)
    await kit.queue("jobs").send(1)
    waiting = asyncio.create_task(kit.start(mapping(kit, each(fails))).wait_caught_up())
    await clock.advance((await kit.queue("jobs").describe()).attributes.visibility_timeout_ms / 1000 + 1)
    assert waiting.done()
    assert await sizes(kit, "eagerly-dead") == (1, 0)


async def test_a_partial_response_keeps_what_it_names(kit: Kit, clock: ManualClock) -> None:
    tried: Counter[int] = Counter()

    async def some(messages: Sequence[Message[int]]) -> Any:
        tried.update(message.value for message in messages)
        failed = [message for message in messages if message.value % 2 and tried[message.value] == 1]
        return {"batchItemFailures": [{"itemIdentifier": message.message_id} for message in failed]}

    await kit.queue("jobs").send_batch(range(6))
    running = kit.start(mapping(kit, some))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert tried == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 2}


async def test_a_response_that_names_a_stranger_fails_the_whole_batch(kit: Kit, clock: ManualClock) -> None:
    calls = 0

    async def wrong(messages: Sequence[Message[int]]) -> Any:
        nonlocal calls
        calls += 1
        return {"batchItemFailures": [{"itemIdentifier": "stranger"}]} if calls == 1 else None

    await kit.queue("jobs").send_batch(range(3))
    running = kit.start(mapping(kit, wrong))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert (calls, running.counts.written) == (2, 3)


async def test_a_write_that_is_refused_fails_the_batch_and_nothing_is_deleted(kit: Kit, clock: ManualClock) -> None:
    async def wrong(messages: Sequence[Message[int]]) -> Any:
        return [Update(key={"key": "x"}, set={"key": "y"}) for _ in messages]

    await kit.queue("jobs").send(1)
    running = kit.start(mapping(kit, wrong))
    await until(lambda: running.counts.errors)
    await turns()
    assert await sizes(kit) == (0, 1)
    assert await totals(kit) == {}


async def test_a_function_that_takes_longer_than_the_timeout_keeps_its_messages(kit: Kit, clock: ManualClock) -> None:
    release = asyncio.Event()

    async def slow(messages: Sequence[Message[int]]) -> list[Update]:
        await release.wait()
        return [Update(key={"key": "all"}, add={"count": 1, "sum": 1}) for _ in messages]

    await kit.queue("jobs").send_batch(range(3))
    running = kit.start(mapping(kit, slow))
    await until(lambda: running.counts.polled)
    for _ in range(10):
        await clock.advance(TIMEOUT / 3)
        assert await sizes(kit) == (0, 3)
    release.set()
    await running.wait_caught_up()
    assert await totals(kit) == {"all": (3, 3)}


async def test_a_message_that_somebody_else_has_meanwhile_takes_effect_once(kit: Kit, clock: ManualClock) -> None:
    """Its visibility was changed under the function, which then has no effect."""
    entered, release = asyncio.Event(), asyncio.Event()
    taken: list[Message[int]] = []

    @each
    async def slow(message: Message[int]) -> Update:
        taken.append(message)
        if len(taken) == 1:
            entered.set()
            await release.wait()
        return Update(key={"key": "all"}, add={"count": 1, "sum": message.value})

    await kit.queue("jobs").send(7)
    running = kit.start(mapping(kit, slow))
    await entered.wait()
    await kit.queue("jobs").change_visibility(taken[0], 0)
    (message,) = await kit.queue("jobs").receive(1)
    release.set()
    await until(lambda: running.counts.errors)
    assert await totals(kit) == {}
    await kit.queue("jobs").change_visibility(message, 0)
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert await totals(kit) == {"all": (1, 7)}


class Full:
    """Effects on a disk that is full for the first commits."""

    def __init__(self, effects: EffectStore) -> None:
        self._effects = effects
        self.refusals = 4

    @property
    def limits(self) -> Limits:
        return self._effects.limits

    async def commit(self, effects: Effects) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DiskFullError("/data")
        await self._effects.commit(effects)


async def test_a_full_disk_is_waited_for_while_the_messages_stay_hidden(kit: Kit, clock: ManualClock) -> None:
    await kit.queue("jobs").send_batch(range(5))
    full = Full(kit.engine)
    running = kit.start(poller(kit, effects=full, retry=Retry(first=25, jitter=False)))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert (full.refusals, running.counts.invocations, running.counts.errors) == (0, 1, 0)
    assert await totals(kit) == expected(range(5))


async def test_a_queue_that_is_deleted_ends_the_mapping(kit: Kit) -> None:
    running = kit.start(mapping(kit))
    await turns()
    await kit.delete_queue("jobs")
    await turns()
    with pytest.raises((NotFoundError, ServiceFailedError)):
        await kit.close()
    assert running.counts.polled == 0


async def test_one_write_that_is_refused_takes_no_other_message_with_it(kit: Kit, clock: ManualClock) -> None:
    await kit.queue("jobs").update(redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=2))

    @each
    async def wrong_for_three(message: Message[int]) -> Update:
        return Update(key={"key": "x"}, set={"key": "y"}) if message.value == 3 else effect(message)

    await kit.queue("jobs").send_batch(range(10))
    running = kit.start(mapping(kit, wrong_for_three))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert await totals(kit) == expected([value for value in range(10) if value != 3])
    (letter,) = await kit.queue("dead").receive(10)
    assert letter.value == 3
    assert "is a key attribute" in (letter.last_error or "")


@pytest.mark.parametrize("results", ["each of its message", "of the batch"])
async def test_results_of_a_batch_function_fail_alone_or_together(kit: Kit, clock: ManualClock, results: str) -> None:
    """One that is refused takes the others with it only if they belong to no message."""
    await kit.queue("jobs").update(redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=1))

    async def wrong_for_three(messages: Sequence[Message[int]]) -> list[Update]:
        updates = [
            Update(key={"key": "x"}, set={"key": "y"}) if message.value == 3 else effect(message)
            for message in messages
        ]
        return updates if results == "each of its message" else [*updates, Update(key={"key": "all"}, add={"n": 1})]

    await kit.queue("jobs").send_batch(range(5))
    running = kit.start(mapping(kit, wrong_for_three))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    letters = sorted(letter.value for letter in await kit.queue("dead").receive(10))
    assert letters == ([3] if results == "each of its message" else [0, 1, 2, 3, 4])


async def test_what_a_sink_has_is_not_delivered_again_for_a_write_that_is_refused(kit: Kit, clock: ManualClock) -> None:
    await kit.queue("jobs").update(redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=1))
    delivered: list[int] = []

    async def take(values: list[int]) -> None:
        delivered.extend(values)

    @each
    async def both(message: Message[int]) -> list[Any]:
        table = "nowhere" if message.value == 3 else "totals"
        return [message.value, Update(key={"key": "all"}, add={"count": 1, "sum": message.value}, table=table)]

    await kit.queue("jobs").send_batch(range(5))
    running = kit.start(mapping(kit, both, sink=take))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert sorted(delivered) == list(range(5))
    assert await totals(kit) == {"all": (4, 7)}


async def test_on_a_fifo_queue_what_is_behind_a_refused_write_waits_for_it(kit: Kit, clock: ManualClock) -> None:
    await fifo(kit, 2, 3)
    done: list[int] = []
    refused = 0

    @each
    async def once_wrong(message: Message[list[Any]]) -> Update:
        nonlocal refused
        at = message.value[1]
        if at == 2 and refused < 2:
            refused += 1
            return Update(key={"key": "x"}, set={"key": "y"})
        done.append(at)
        return Update(key={"key": message.value[0]}, add={"count": 1, "sum": at})

    running = kit.start(mapping(kit, once_wrong, source="jobs.fifo"))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert await totals(kit) == {"g0": (3, 6), "g1": (3, 9)}
    assert [at for at in done if at % 2 == 0][-2:] == [2, 4]


async def test_a_function_that_takes_too_long_fails_and_its_messages_come_again(kit: Kit, clock: ManualClock) -> None:
    calls = 0

    async def slow_once(messages: Sequence[Message[int]]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()

    await kit.queue("jobs").send_batch(range(3))
    running = kit.start(mapping(kit, Function(slow_once, timeout=10)))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert (calls, running.counts.errors, running.counts.written) == (2, 1, 3)


@pytest.mark.parametrize("answer", ["text", {"batchItemFailures": [{"itemIdentifier": ""}]}, {"batchItemFailures": 5}])
async def test_an_answer_that_nobody_understands_fails_the_whole_batch(
    kit: Kit, clock: ManualClock, answer: object
) -> None:
    calls = 0

    async def strange(messages: Sequence[Message[int]]) -> object:
        nonlocal calls
        calls += 1
        return answer if calls == 1 else None

    await kit.queue("jobs").send_batch(range(3))
    running = kit.start(mapping(kit, strange))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert (calls, running.counts.errors, running.counts.written) == (2, 1, 3)


# ---- live


async def test_a_mapping_of_a_queue_is_listed_disabled_enabled_and_updated(kit: Kit) -> None:
    running = kit.start(mapping(kit))
    await turns()
    assert [one.name for one in kit.mappings()] == ["totals"]
    await running.disable()
    await kit.queue("jobs").send_batch(range(10))
    await turns()
    assert await sizes(kit) == (10, 0)
    seen: list[int] = []

    async def note(messages: Sequence[Message[int]]) -> list[Update]:
        seen.append(len(messages))
        return [effect(message) for message in messages]

    await running.update(function=note, batch_size=3)
    await running.enable()
    await running.wait_caught_up()
    assert max(seen) == 3
    assert await totals(kit) == expected(range(10))
    with pytest.raises(ValidationError, match="source cannot be changed"):
        await running.update(source=kit.queue("dead"))
    with pytest.raises(ValidationError, match="parallelization_factor is for a stream"):
        await running.update(parallelization_factor=2)


@pytest.mark.parametrize("seed", range(6))
async def test_changes_at_random_instants_lose_and_double_nothing(kit: Kit, seed: int) -> None:
    chance = random.Random(seed)
    await kit.queue("jobs").send_batch(range(200))
    running = kit.start(mapping(kit))
    for _ in range(8):
        await turns(chance.randint(0, 60))
        change = chance.randrange(3)
        if change == 0:
            await running.update(batch_size=chance.randint(1, 10))
        elif change == 1:
            await running.disable()
        else:
            await running.enable()
    await running.enable()
    await running.wait_caught_up()
    assert await totals(kit) == expected(range(200))
    assert running.counts.errors == 0


# ---- FIFO


async def fifo(kit: Kit, groups: int, each_has: int) -> list[tuple[str, int]]:
    queue = await kit.create_queue("jobs.fifo", fifo=True, visibility_timeout=TIMEOUT, content_based_deduplication=True)
    values = [(f"g{at % groups}", at) for at in range(groups * each_has)]
    await queue.send_batch([Send(value=[group, at], group_id=group) for group, at in values])
    return values


async def test_order_per_group_whatever_fails(kit: Kit, clock: ManualClock) -> None:
    values = await fifo(kit, 7, 12)
    chance = random.Random(1)
    done: list[tuple[str, int]] = []
    running_groups: Counter[str] = Counter()

    @each
    async def flaky(message: Message[list[Any]]) -> Update:
        group, at = message.value
        running_groups[group] += 1
        assert running_groups[group] == 1, "one batch of a group at a time"
        for _ in range(chance.randint(0, 4)):
            await asyncio.sleep(0)
        running_groups[group] -= 1
        if chance.random() < 0.2:
            raise ConnectionError("try again")
        done.append((group, at))
        return Update(key={"key": group}, add={"count": 1, "sum": at})

    running = kit.start(mapping(kit, flaky, source="jobs.fifo", batch_size=5))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock, TIMEOUT + 1)
    for group in running_groups:
        assert [at for one, at in done if one == group] == [at for one, at in values if one == group]
    assert {key: count for key, (count, _) in (await totals(kit)).items()} == dict.fromkeys(running_groups, 12)


async def test_what_follows_a_failed_message_of_its_group_comes_after_it(kit: Kit, clock: ManualClock) -> None:
    await fifo(kit, 2, 3)
    seen: list[int] = []

    async def some(messages: Sequence[Message[list[Any]]]) -> Any:
        first = not seen
        seen.extend(message.value[1] for message in messages)
        failed = [message for message in messages if message.value[1] == 2 and first]
        return {"batchItemFailures": [{"itemIdentifier": message.message_id} for message in failed]}

    running = kit.start(mapping(kit, some, source="jobs.fifo"))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    again = [at for at in (0, 2, 4) if seen.count(at) > 1]
    assert again == [2, 4], "4 is behind 2, and was not named"
    assert [at for at in seen if at % 2 == 0][-2:] == [2, 4]


# ---- scaling


async def test_never_more_batches_than_the_maximum_and_nothing_is_received_before_there_is_room(kit: Kit) -> None:
    active = most = 0
    release = asyncio.Event()

    async def slow(messages: Sequence[Message[int]]) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await release.wait()
        active -= 1

    await kit.queue("jobs").send_batch(range(100))
    running = kit.start(mapping(kit, slow, batch_size=5, maximum_concurrency=3))
    await until(lambda: active == 3)
    await turns(200)
    assert await sizes(kit) == (85, 15)
    release.set()
    await running.wait_caught_up()
    assert most == 3


async def test_it_grows_while_messages_wait(kit: Kit) -> None:
    active = most = 0

    async def slow(messages: Sequence[Message[int]]) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await turns(300)
        active -= 1

    await kit.queue("jobs").send_batch(range(200))
    await kit.start(mapping(kit, slow, batch_size=1)).wait_caught_up()
    assert most > 40


# ---- stopping


async def test_a_stop_finishes_what_is_in_hand_and_hides_nothing_else(kit: Kit) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    @each
    async def slow(message: Message[int]) -> Update:
        entered.set()
        await release.wait()
        return effect(message)

    await kit.queue("jobs").send_batch(range(50))
    running = kit.start(mapping(kit, slow, batch_size=4, maximum_concurrency=2))
    await entered.wait()
    await turns()
    stopping = asyncio.create_task(kit.stop(running))
    await turns()
    release.set()
    await stopping
    assert running.counts.written == 8
    assert await sizes(kit) == (42, 0)


async def test_a_stop_shows_what_waits_for_its_window(kit: Kit) -> None:
    await kit.queue("jobs").send_batch(range(3))
    running = kit.start(mapping(kit, batch_size=10, batch_window=100))
    await until(lambda: running.counts.polled == 3)
    assert await sizes(kit) == (0, 3)
    await kit.stop(running)
    assert await sizes(kit) == (3, 0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("where", ["memory", "file"])
async def test_each_message_takes_effect_exactly_once(
    clock: ManualClock, tmp_path: Path, where: str, seed: int
) -> None:
    """Cancelled at random instants, with timeouts that end and functions that fail, then run to the end."""
    chance = random.Random(seed)
    url = "memory:" if where == "memory" else str(tmp_path / "data")
    async with streamkit.open(url, clock=clock) as kit:
        await kit.create_queue("jobs", visibility_timeout=TIMEOUT)
        await kit.create_table("totals", partition_key="key")
        await kit.queue("jobs").send_batch(range(120))

        @each
        async def flaky(message: Message[int]) -> Update:
            await turns(chance.randint(0, 3))
            if chance.random() < 0.1:
                raise ConnectionError("try again")
            return effect(message)

        for _ in range(10):
            size = chance.randint(1, 10)
            pollers = [poller(kit, flaky, batch_size=size) for _ in range(chance.randint(1, 2))]
            tasks = [asyncio.create_task(one.run(Stop())) for one in pollers]
            await turns(chance.randint(0, 150))
            if chance.random() < 0.4:
                await clock.advance(TIMEOUT + 1)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        running = kit.start(mapping(kit))
        await until_done(asyncio.create_task(running.wait_caught_up()), clock)
        assert await totals(kit) == expected(range(120))


# ---- sinks


async def test_values_go_to_queues_streams_and_files_as_well(kit: Kit, tmp_path: Path) -> None:
    stream = await kit.create_stream("copies")
    await kit.queue("jobs").send_batch(range(10))
    await kit.start(mapping(kit, None, sink=stream)).wait_caught_up()
    assert sorted([record.value async for record in stream.records()]) == list(range(10))
    await kit.stop("totals")
    await kit.queue("jobs").send_batch(range(10))
    await kit.start(mapping(kit, None, sink=FileSink(tmp_path / "out"))).wait_caught_up()
    await kit.stop("totals")
    lines = [line for path in (tmp_path / "out").iterdir() for line in path.read_text().splitlines()]
    assert sorted(map(int, lines)) == list(range(10))


async def test_a_record_has_the_group_of_its_message_as_its_key(kit: Kit) -> None:
    values = await fifo(kit, 3, 2)
    stream = await kit.create_stream("copies")
    await kit.start(mapping(kit, None, source="jobs.fifo", sink=stream)).wait_caught_up()
    assert sorted([(record.partition_key, record.value[1]) async for record in stream.records()]) == sorted(values)


async def test_a_queue_has_no_lag(kit: Kit) -> None:
    with pytest.raises(ValidationError, match=r"queue.describe\(\) says what waits"):
        await kit.start(mapping(kit)).lag()

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from streamkit.errors import (
    DecodeError,
    EncodeError,
    MessageNotInflightError,
    NotFoundError,
    ReceiptHandleInvalidError,
    ThroughputExceededError,
    ValidationError,
)
from streamkit.metrics.window import Metrics
from streamkit.queues.message import RedrivePolicy
from streamkit.queues.queue import Queue
from streamkit.queues.store import SendEntry, SendResult
from streamkit.testing.clock import ManualClock

from .conftest import MakeQueue


@dataclass
class Email:
    to: str


async def test_values_are_typed(make_queue: MakeQueue) -> None:
    queue = await make_queue(type_=Email)
    message_id = await queue.send(Email("ada"))
    (message,) = await queue.receive()
    assert message.value == Email("ada")
    assert message.message_id == message_id
    assert message.receive_count == 1
    assert message.body == b'{"to":"ada"}'
    with pytest.raises(EncodeError):
        await queue.send({"to": object()})


async def test_a_body_of_another_type_fails_when_it_is_asked_for(make_queue: MakeQueue) -> None:
    queue = await make_queue(type_=Email)
    await queue.send({"wrong": 1})
    (message,) = await queue.receive()
    with pytest.raises(DecodeError, match="are not a Email"):
        _ = message.value
    assert message.body == b'{"wrong":1}'


async def test_delete_and_its_rules(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()
    await queue.send("x")
    (first,) = await queue.receive()
    await clock.advance(31)
    (second,) = await queue.receive()
    with pytest.raises(MessageNotInflightError, match="is not in flight under this receipt handle"):
        await queue.delete(first)
    await queue.delete(second.receipt_handle)
    await queue.delete(second)
    with pytest.raises(
        ReceiptHandleInvalidError, match="pass the receipt_handle of a message received from this queue"
    ):
        await queue.delete("nonsense")
    assert (await queue.describe()).visible == 0


async def test_visibility_timeout_of_a_receive(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()
    await queue.send("x")
    (message,) = await queue.receive(visibility_timeout=5)
    await clock.advance(4.9)
    assert await queue.receive() == []
    await clock.advance(0.2)
    (again,) = await queue.receive()
    assert again.receive_count == 2
    await queue.change_visibility(again, 0)
    assert len(await queue.receive()) == 1
    assert message.message_id == again.message_id


async def test_delay(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()
    await queue.send("later", delay=10)
    found = await queue.describe()
    assert (found.visible, found.not_visible, found.delayed) == (0, 0, 1)
    waiting = asyncio.create_task(queue.receive(wait=20))
    await clock.advance(9.9)
    assert not waiting.done()
    await clock.advance(0.2)
    (message,) = await waiting
    assert message.value == "later"


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, True, "1", 1e306, 10**400], ids=lambda bad: f"{bad!r:.10}")
async def test_durations_are_seconds(make_queue: MakeQueue, bad: float) -> None:
    queue = await make_queue()
    await queue.send("x")
    (message,) = await queue.receive()
    with pytest.raises(ValidationError, match="timeout is a number of seconds, 0 or more"):
        await queue.change_visibility(message, bad)
    with pytest.raises(ValidationError, match="delay is a number of seconds, 0 or more"):
        await queue.send("x", delay=bad)
    with pytest.raises(ValidationError, match="visibility_timeout is a number of seconds"):
        await queue.receive(visibility_timeout=bad)
    with pytest.raises(ValidationError, match="wait is a number of seconds"):
        await queue.receive(wait=bad)


async def test_a_visibility_timeout_is_at_most_twelve_hours(make_queue: MakeQueue, clock: ManualClock) -> None:
    queue = await make_queue()
    await queue.send("x")
    with pytest.raises(ValidationError, match=r"0 to 43,200 s, not 43,201\.0 s"):
        await queue.receive(visibility_timeout=43_201)
    (message,) = await queue.receive()
    await clock.advance(20)
    with pytest.raises(ValidationError, match="beyond the limit"):
        await queue.change_visibility(message, 43_200)


async def test_a_timeout_of_zero_shows_a_message_at_once(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    await queue.send("x")
    waiting = asyncio.create_task(queue.receive(wait=20))
    (message,) = await waiting
    waiting = asyncio.create_task(queue.receive(wait=20))
    await asyncio.sleep(0)
    await queue.change_visibility(message, 0)
    (again,) = await waiting
    assert (again.message_id, again.receive_count) == (message.message_id, 2)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "3", True, None])
async def test_how_many_is_a_whole_number(make_queue: MakeQueue, bad: int) -> None:
    queue = await make_queue()
    with pytest.raises(ValidationError, match="max_messages is a whole number, 1 or more"):
        await queue.receive(bad)
    with pytest.raises(ValidationError, match="limit is a whole number, 1 or more"):
        await queue.peek(bad)


async def test_what_is_no_message_says_what_to_pass(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    await queue.send("x")
    (message,) = await queue.peek()
    with pytest.raises(ReceiptHandleInvalidError):
        await queue.delete(message)
    for call in (queue.delete(None), queue.change_visibility(None, 1)):  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="None is neither a received message nor a receipt handle"):
            await call
    with pytest.raises(ValidationError, match="None is neither a message nor a message id"):
        await queue.redrive([None])  # type: ignore[list-item]
    for one in (message, message.message_id):
        with pytest.raises(ValidationError, match="one message where several are expected: pass a list"):
            await queue.delete_batch(one)  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="one message where several are expected: pass a list"):
            await queue.redrive(one, to="other")  # type: ignore[arg-type]


async def test_a_cancelled_receive_has_received_nothing(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    waiting = asyncio.create_task(queue.receive(wait=20))
    await asyncio.sleep(0)
    await queue.send("x")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (message,) = await queue.receive()
    assert message.receive_count == 1


async def test_batches(make_queue: MakeQueue, metrics: Metrics) -> None:
    queue = await make_queue()
    results = await queue.send_batch(range(5))
    assert len({result.message_id for result in results}) == 5
    messages = await queue.receive(10)
    assert [message.value for message in messages] == [0, 1, 2, 3, 4]
    errors = await queue.delete_batch([messages[0], "nonsense", messages[1]])
    assert [type(error) for error in errors] == [type(None), ReceiptHandleInvalidError, type(None)]
    deleted = metrics.total(queue.metric("NumberOfMessagesDeleted"))
    assert deleted is not None
    assert (deleted.sum, deleted.sample_count) == (2, 1)


async def test_peek_neither_hides_nor_counts(make_queue: MakeQueue) -> None:
    queue = await make_queue()
    await queue.send_batch(["a", "b", "c"])
    assert [message.value for message in await queue.peek(2)] == ["a", "b"]
    (message,) = await queue.receive()
    assert (message.value, message.receive_count) == ("a", 1)


async def test_redrive_goes_back_to_where_a_letter_came_from(make_queue: MakeQueue, clock: ManualClock) -> None:
    dead = await make_queue("dead")
    queue = await make_queue("jobs", dead="dead", tries=1)
    other = await make_queue("other", dead="dead", tries=1)
    await queue.send("from jobs")
    await other.send("from other")
    for source in (queue, other):
        await source.receive()
    await clock.advance(31)
    for source in (queue, other):
        assert await source.receive(wait=20) == []
    letters = await dead.peek()
    assert [(letter.dead_letter_source, letter.value) for letter in letters] == [
        ("jobs", "from jobs"),
        ("other", "from other"),
    ]
    assert await dead.redrive(letters) == 2
    (back,) = await queue.receive()
    assert (back.value, back.receive_count, back.dead_letter_source) == ("from jobs", 1, None)
    assert (await other.describe()).visible == 1
    assert (await dead.describe()).visible == 0


async def test_redrive_takes_ids_too_and_leaves_what_is_not_visible(make_queue: MakeQueue) -> None:
    queue, target = await make_queue("jobs"), await make_queue("target")
    first, second, _ = [result.message_id for result in await queue.send_batch([1, 2, 3])]
    await queue.receive()
    with pytest.raises(ValidationError, match=f"message {second} is given by its id alone: pass to="):
        await queue.redrive([second])
    assert await queue.redrive([first, second, "no such id"], to="target") == 1
    (message,) = await target.receive()
    assert (message.message_id, message.value, message.receive_count) == (second, 2, 1)
    assert await queue.redrive([], to=target) == 0


async def test_redrive_to_a_queue_that_is_gone_moves_nothing(make_queue: MakeQueue, clock: ManualClock) -> None:
    dead = await make_queue("dead")
    sources = [await make_queue(name, dead="dead", tries=1) for name in ("jobs", "gone")]
    for source in sources:
        await source.send("x")
        await source.receive(visibility_timeout=0)
        assert await source.receive() == []
    await dead._store.delete_queue("gone")
    letters = await dead.peek()
    with pytest.raises(NotFoundError, match="queue 'gone' does not exist"):
        await dead.redrive(letters)
    with pytest.raises(NotFoundError, match="queue '' does not exist"):
        await dead.redrive(letters, to="")
    assert (await dead.describe()).visible == 2
    assert await dead.redrive(letters, to="jobs") == 2


async def test_redrive_of_what_is_no_dead_letter_needs_a_target(make_queue: MakeQueue) -> None:
    queue, target = await make_queue("jobs"), await make_queue("target")
    await queue.send("x")
    with pytest.raises(ValidationError, match="was sent to 'jobs' itself: pass to="):
        await queue.redrive(await queue.peek())
    assert await queue.redrive(await queue.peek(), to=target) == 1
    assert (await target.describe()).visible == 1


async def test_metrics_are_published_once_per_call(make_queue: MakeQueue, metrics: Metrics, clock: ManualClock) -> None:
    queue = await make_queue()
    await queue.send_batch([1, 2, 3])
    messages = await queue.receive(2)
    await queue.delete_batch(messages)
    await queue.receive()
    await queue.receive()

    def total(name: str) -> tuple[float, int]:
        found = metrics.total(queue.metric(name))
        assert found is not None
        return found.sum, found.sample_count

    assert total("NumberOfMessagesSent") == (3, 1)
    assert total("SentMessageSize") == (3, 3)
    assert total("NumberOfMessagesReceived") == (3, 2)
    assert total("NumberOfMessagesDeleted") == (2, 1)
    assert total("NumberOfEmptyReceives") == (1, 1)
    await metrics.sample(clock.now_ms())
    assert metrics.latest(queue.metric("ApproximateNumberOfMessagesVisible")) == 0
    assert metrics.latest(queue.metric("ApproximateNumberOfMessagesNotVisible")) == 1


async def test_the_gauges_of_a_deleted_queue_go(make_queue: MakeQueue, metrics: Metrics, engine: object) -> None:
    queue = await make_queue()
    await queue._store.delete_queue("jobs")
    await metrics.sample(0)
    assert list(metrics.gauges()) == []
    with pytest.raises(NotFoundError):
        await queue.describe()


async def test_the_gauges_of_a_queue_are_registered_once(
    make_queue: MakeQueue, metrics: Metrics, clock: ManualClock
) -> None:
    queue = await make_queue()
    again = Queue("jobs", queue.codec, queue._store, clock, metrics)
    await again.send("now")
    await again.send("later", delay=60)
    await metrics.sample(clock.now_ms())
    assert {metric.name: value for metric, value in metrics.gauges()} == {
        "ApproximateNumberOfMessagesVisible": 1,
        "ApproximateNumberOfMessagesNotVisible": 0,
        "ApproximateNumberOfMessagesDelayed": 1,
        "ApproximateAgeOfOldestMessage": 0,
        "ApproximateNumberOfGroupsWithInflightMessages": 0,
        "ApproximateNumberOfNoisyGroups": 0,
        "ApproximateNumberOfMessagesVisibleInQuietGroups": 1,
        "ApproximateNumberOfMessagesNotVisibleInQuietGroups": 0,
        "ApproximateNumberOfMessagesDelayedInQuietGroups": 1,
        "ApproximateAgeOfOldestMessageInQuietGroups": 0,
    }


async def test_sizes_are_those_of_bodies_and_attributes(make_queue: MakeQueue, metrics: Metrics) -> None:
    queue = await make_queue()
    await queue.send("four", attributes={"name": "value"})
    sizes = metrics.total(queue.metric("SentMessageSize"))
    assert sizes is not None
    assert sizes.sum == len('"four"') + len("name") + len("String") + len("value")


async def test_the_sources_of_a_dead_letter_queue(make_queue: MakeQueue) -> None:
    dead, _ = await make_queue("dead"), await make_queue("none")
    for name in ("b", "a"):
        await make_queue(name, dead="dead")
    assert await dead.dead_letter_sources() == ["a", "b"]
    assert await (await make_queue("other")).dead_letter_sources() == []


async def test_what_was_refused_is_not_counted_as_sent(
    make_queue: MakeQueue, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(name: str, entries: Sequence[SendEntry]) -> list[SendResult]:
        return [SendResult("id"), SendResult("", ThroughputExceededError("too fast"))]

    queue = await make_queue()
    monkeypatch.setattr(queue._store, "send_messages", send)
    results = await queue.send_batch([1, 2])
    assert isinstance(results[1].error, ThroughputExceededError)
    sent = metrics.total(queue.metric("NumberOfMessagesSent"))
    assert sent is not None
    assert sent.sum == 1


@pytest.mark.parametrize("count", [0, 1001, True, 1.5, "3"])
def test_max_receive_count_has_a_range(count: Any) -> None:
    with pytest.raises(ValidationError, match="a whole number, 1 to 1,000"):
        RedrivePolicy(dead_letter_queue="dead", max_receive_count=count)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("redrive_policy", "dead"), ("redrive_policy", {"maxReceiveCount": 3}), ("redrive_allow_policy", None)],
)
async def test_a_policy_that_is_none_says_what_to_pass(make_queue: MakeQueue, attribute: str, value: Any) -> None:
    queue = await make_queue()
    options: Any = {attribute: value}
    with pytest.raises(ValidationError, match=f"{attribute} is a Redrive"):
        await queue.update(**options)


async def test_its_gauges_look_at_it_once_for_all_of_them(
    make_queue: MakeQueue, metrics: Metrics, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await make_queue()
    await queue.send({"id": 1})
    described = queue._store.describe_queues
    looks = 0

    async def counting(names: Any = None) -> Any:
        nonlocal looks
        looks += 1
        return await described(names)

    monkeypatch.setattr(queue._store, "describe_queues", counting)
    await metrics.sample(clock.now_ms())
    assert looks == 1
    await queue.send({"id": 2})
    # Another look, at the very same instant, sees what has changed.
    await metrics.sample(clock.now_ms())
    assert looks == 2
    assert metrics.latest(queue.metric("ApproximateNumberOfMessagesVisible")) == 2
    await queue.receive()
    await metrics.sample(clock.now_ms(), queue.metric("ApproximateNumberOfMessagesNotVisible"))
    assert metrics.latest(queue.metric("ApproximateNumberOfMessagesNotVisible")) == 1

"""Which dead letters somebody means, and moving just those."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamkit
from streamkit import Kit, Queue, RedrivePolicy, ValidationError
from streamkit.functions.pattern import Pattern
from streamkit.queues.message import MessageAttribute, ReceivedMessage
from streamkit.queues.selection import event_of, selects
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock


def stored(body: bytes = b"{}", **more: Any) -> ReceivedMessage:
    return ReceivedMessage("an id", body, "", 3, 1_000, 2_000, **more)


def test_a_message_is_an_event_as_a_function_sees_it() -> None:
    attributes = {"n": MessageAttribute("Number", "7"), "raw": MessageAttribute("Binary", None, b"\0")}
    event = event_of(
        stored(b'{"a": [1]}', group_id="g", dead_letter_source="jobs", last_error="boom", attributes=attributes)
    )
    assert event == {
        "messageId": "an id",
        "body": {"a": [1]},
        "attributes": {
            "ApproximateReceiveCount": "3",
            "SentTimestamp": "1000",
            "DeadLetterQueueSourceArn": "jobs",
            "MessageGroupId": "g",
        },
        "messageAttributes": {"n": {"stringValue": "7", "dataType": "Number"}},
        "lastError": "boom",
    }


@pytest.mark.parametrize(
    ("body", "pattern", "meant"),
    [
        (b'{"kind": "order"}', {"body": {"kind": ["order"]}}, True),
        (b'{"kind": "other"}', {"body": {"kind": ["order"]}}, False),
        (b"plain text", {"body": [{"prefix": "plain"}]}, True),
        (b"plain text", {"body": {"kind": ["order"]}}, False),
        (b"\xff\xfe", {"body": {"kind": ["order"]}}, False),
        (b"[" * 100_000, {"body": {"kind": ["order"]}}, False),
        (b"{}", {"lastError": [{"wildcard": "*Timeout*"}]}, True),
    ],
)
def test_patterns_look_into_the_body(body: bytes, pattern: dict[str, Any], meant: bool) -> None:
    assert selects(Pattern(pattern), stored(body, last_error="TimeoutError: too late")) is meant


def test_or_a_function_says_so() -> None:
    assert selects(None, stored())
    assert selects(lambda message: message.receive_count == 3, stored())
    assert not selects(lambda message: message.receive_count == 4, stored())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def letters(kit: Kit, count: int) -> tuple[Queue[Any], Queue[Any]]:
    dead = await kit.create_queue("dead")
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    jobs = await kit.create_queue("jobs", visibility_timeout=0, redrive_policy=policy)
    await jobs.send_batch([{"n": number, "odd": number % 2} for number in range(count)])
    for _ in range(2):
        await jobs.receive(10_000)
    assert (await dead.describe()).visible == count
    return jobs, dead


async def numbers(queue: Queue[Any]) -> list[int]:
    return [message.value["n"] for message in await queue.peek(10_000)]


async def test_only_those_that_match_are_moved(kit: Kit) -> None:
    jobs, dead = await letters(kit, 1_300)
    task = dead.move_task(where=Pattern({"body": {"odd": [1]}}))
    await task.run(Stop())
    assert (task.status, task.moved, task.looked_at, task.to_move) == ("COMPLETED", 650, 1_300, 1_300)
    assert await numbers(jobs) == list(range(1, 1_300, 2))
    assert await numbers(dead) == list(range(0, 1_300, 2))
    assert {message.receive_count for message in await dead.peek(10_000)} == {1}


async def test_the_last_ten_tasks_are_listed(kit: Kit) -> None:
    _, dead = await letters(kit, 3)
    first = kit.start(dead.move_task(where=lambda message: False))
    assert await first.wait_ended() == "COMPLETED"
    tasks = [first]
    for _ in range(11):
        await kit.stop(tasks[-1])
        tasks.append(kit.start(dead.move_task(rate=1)))
    with pytest.raises(ValidationError, match="running already"):
        kit.start(dead.move_task())
    assert kit.list_move_tasks("dead") == tasks[:1:-1]
    assert kit.list_move_tasks("jobs") == []
    assert first.began_ms is not None

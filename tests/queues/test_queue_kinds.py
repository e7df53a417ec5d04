"""Queues as users make and change them: options, FIFO, attributes, tenants, ages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

import streamkit
from streamkit import (
    AlreadyExistsError,
    Kit,
    Limits,
    RedrivePolicy,
    Send,
    ValidationError,
)
from streamkit.errors import OverLimitError
from streamkit.queues.message import MessageAttribute, RedriveAllowPolicy
from streamkit.testing.clock import ManualClock

DAY = 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def test_a_fifo_queue_from_the_face(kit: Kit) -> None:
    queue = await kit.create_queue("orders.fifo", fifo=True, content_based_deduplication=True)
    first = await queue.send({"n": 1}, group_id="ada")
    assert await queue.send({"n": 1}, group_id="ada") == first
    results = await queue.send_batch(
        [Send(value={"n": 2}, group_id="ada"), Send(value={"n": 3}, group_id="bob", deduplication_id="three")]
    )
    assert [result.error for result in results] == [None, None]
    one, two, three = await queue.receive(10)
    assert [message.value["n"] for message in (one, two, three)] == [1, 2, 3]
    assert (three.group_id, three.deduplication_id) == ("bob", "three")
    assert one.sequence_number is not None
    assert two.sequence_number is not None
    assert one.sequence_number < two.sequence_number
    with pytest.raises(ValidationError, match="needs the message's group_id"):
        await queue.send({"n": 4})


async def test_a_receive_that_failed_half_way_is_made_again(kit: Kit, clock: ManualClock) -> None:
    queue = await kit.create_queue("orders.fifo", type=str, fifo=True, content_based_deduplication=True)
    await queue.send("one", group_id="a")
    (first,) = await queue.receive(attempt_id="try")
    await clock.advance(10)
    (again,) = await queue.receive(attempt_id="try")
    assert (again.receipt_handle, again.receive_count) == (first.receipt_handle, 1)


async def test_attributes_of_many_kinds(kit: Kit) -> None:
    queue = await kit.create_queue("jobs")
    own = MessageAttribute("Number.float", "1.50")
    await queue.send(
        "x", attributes={"kind": "invoice", "total": 12, "raw": b"\x00", "own": own}, trace_header="Root=1"
    )
    (message,) = await queue.receive()
    assert message.trace_header == "Root=1"
    assert message.attributes["kind"] == MessageAttribute("String", "invoice")
    assert message.attributes["total"].string_value == "12"
    assert message.attributes["raw"].binary_value == b"\x00"
    assert message.attributes["own"] == own


async def test_messages_stay_four_days_unless_said_otherwise(kit: Kit, clock: ManualClock) -> None:
    usual = await kit.create_queue("usual")
    forever = await kit.create_queue("forever", retention=None)
    for queue in (usual, forever):
        await queue.send("x")
    await clock.advance(4 * DAY)
    assert (await usual.describe()).visible == 1
    await clock.advance(0.001)
    assert (await usual.describe()).visible == 0
    await clock.advance(400 * DAY)
    assert (await forever.describe()).visible == 1


async def test_options_change_live(kit: Kit) -> None:
    dead = await kit.create_queue("dead")
    queue = await kit.create_queue("jobs", visibility_timeout=5)
    await queue.update(delay=2.5, redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=3))
    attributes = (await queue.describe()).attributes
    assert (attributes.visibility_timeout_ms, attributes.delay_ms) == (5_000, 2_500)
    assert attributes.redrive_policy is not None
    await queue.update(redrive_policy=None, retention=60)
    attributes = (await queue.describe()).attributes
    assert (attributes.redrive_policy, attributes.retention_ms, attributes.delay_ms) == (None, 60_000, 2_500)
    await dead.update(redrive_allow_policy=RedriveAllowPolicy(redrive_permission="denyAll"))
    with pytest.raises(ValidationError, match="does not allow 'jobs'"):
        await queue.update(redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=3))
    unknown: dict[str, Any] = {"visability_timeout": 3}
    with pytest.raises(ValidationError, match="has no attribute 'visability_timeout'"):
        await queue.update(**unknown)
    with pytest.raises(ValidationError, match="is and stays a standard queue"):
        await queue.update(fifo=True)  # type: ignore[call-arg]


async def test_exist_ok_compares_what_is_said(kit: Kit) -> None:
    await kit.create_queue("jobs", visibility_timeout=5)
    await kit.create_queue("jobs", visibility_timeout=5, exist_ok=True)
    await kit.create_queue("jobs", exist_ok=True)
    with pytest.raises(AlreadyExistsError) as raised:
        await kit.create_queue("jobs", visibility_timeout=6, exist_ok=True)
    assert raised.value.difference == "visibility_timeout"


async def test_a_purge_says_how_many(kit: Kit) -> None:
    queue = await kit.create_queue("jobs")
    await queue.send_batch(["a", "b", "c"])
    await queue.receive()
    assert await queue.purge() == 3
    assert await queue.receive(10) == []


async def test_one_that_is_refused_is_refused_alone(kit: Kit) -> None:
    queue = await kit.create_queue("jobs", type=bytes, maximum_message_bytes=1024)
    results = await queue.send_batch([b"a", b"x" * 1025, Send(value=b"b", group_id="tenant")])
    assert [result.error is None for result in results] == [True, False, True]
    assert "the limit is 1,024" in str(results[1].error)
    with pytest.raises(ValidationError, match="the limit is 1,024"):
        await queue.send(b"x" * 1025)


async def test_as_many_in_flight_as_aws_allows(clock: ManualClock) -> None:
    """A receive that does not wait says so; one that waits gets nothing until there is room."""
    limits = replace(Limits.aws(), in_flight_messages=3)
    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        queue = await kit.create_queue("jobs", type=bytes)
        await queue.send_batch([b"x"] * 5)
        held = await queue.receive(10)
        assert len(held) == 3
        with pytest.raises(OverLimitError, match="3 messages in flight"):
            await queue.receive(10)
        waiting = asyncio.create_task(queue.receive(10, wait=20))
        await clock.advance(0)
        assert not waiting.done()
        await queue.delete_batch(held[:2])
        assert len(await waiting) == 2

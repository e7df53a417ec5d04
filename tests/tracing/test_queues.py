"""Spans of sends, receives, workers and deletions, and the context that messages carry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

import streamkit
from streamkit import tracing
from streamkit.backoff import Retry
from streamkit.limits import Limits
from streamkit.queues.queue import Send
from streamkit.testing.clock import ManualClock
from tests.test_trace_context import HEADER, PARENT
from tests.tracing.seen import Alive, Seen, id_of, links_of, parent_of, parent_text, trace_of

AT_ONCE = Retry(first=0.0, longest=0.0)


def of(kind: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "messaging.system": "streamkit",
        "messaging.destination.name": "jobs",
        "messaging.operation.type": kind,
        "messaging.operation.name": name or kind,
        **{f"messaging.{key.replace('__', '.')}": value for key, value in more.items()},
    }


def carried(message: streamkit.Message[Any]) -> str | None:
    found = message.attributes.get("traceparent")
    return None if found is None else found.string_value


async def test_a_message_carries_the_span_of_its_send(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        tracing.instrument(kit, tracer_provider=seen.provider)
        with seen.tracer.start_as_current_span("request"):
            message_id = await jobs.send("s3cret", attributes={"kind": "s3cret"})
        (message,) = await jobs.receive()
        await jobs.delete(message)
        sent, received, deleted = seen.one("send jobs"), seen.one("receive jobs"), seen.one("delete jobs")
        assert (sent.kind, parent_of(sent)) == (SpanKind.PRODUCER, id_of(seen.one("request")))
        assert sent.attributes == of("send", message__id=message_id)
        assert set(message.attributes) == {"kind", "traceparent"}
        assert carried(message) == parent_text(sent)
        assert (received.kind, links_of(received), parent_of(received)) == (SpanKind.CLIENT, [id_of(sent)], None)
        assert received.attributes == of("receive", message__id=message_id)
        assert (deleted.kind, links_of(deleted), parent_of(deleted)) == (SpanKind.CLIENT, [id_of(sent)], id_of(sent))
        assert deleted.attributes == of("settle", "delete", message__id=message_id)


async def test_a_batch_is_one_span_of_each_kind(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await jobs.send_batch(["s3cret", Send(value="s3cret", attributes={"kind": 1})])
        await jobs.send("s3cret")
        messages = await jobs.receive(10)
        await jobs.delete_batch([messages[0], messages[1].receipt_handle, messages[2]])
        batch, single = seen.named("send jobs")
        assert batch.attributes == of("send", batch__message_count=2)
        assert [carried(message) for message in messages] == [*[parent_text(batch)] * 2, parent_text(single)]
        received, deleted = seen.one("receive jobs"), seen.one("delete jobs")
        assert received.attributes == of("receive", batch__message_count=3)
        assert links_of(received) == [id_of(batch), id_of(single)]
        assert deleted.attributes == of("settle", "delete", batch__message_count=3)
        assert (links_of(deleted), parent_of(deleted)) == ([id_of(batch), id_of(single)], None)


async def test_a_receive_that_gives_nothing_leaves_no_span(seen: Seen, clock: ManualClock) -> None:
    """Nor does one that is cancelled; one that fails does. None begins that never ends: somebody may count those."""
    alive = Alive()
    seen.provider.add_span_processor(alive)
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        tracing.instrument(kit, tracer_provider=seen.provider)
        assert await jobs.receive() == []
        waiting = asyncio.create_task(jobs.receive(wait=20))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert seen.names() == []
        with pytest.raises(streamkit.NotFoundError):
            await kit.queue("none").receive()
        assert seen.one("receive none").status.description == "NotFoundError"
        await jobs.send(1)
        await jobs.receive()
        (received,) = seen.named("receive jobs")
        # It began when it was asked for, as far as anybody can see.
        assert (received.start_time or 0) <= (received.end_time or 0)
        assert alive.spans == 0


async def test_a_refused_message_says_so_in_its_span(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs", maximum_message_bytes=1024)
        tracing.instrument(kit, tracer_provider=seen.provider)
        with pytest.raises(streamkit.ValidationError):
            await jobs.send("s3cret" * 1000)
        span = seen.one("send jobs")
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValidationError")
        assert span.attributes == {**of("send"), "error.type": "ValidationError"}


async def test_no_message_is_refused_because_it_is_traced(seen: Seen, clock: ManualClock) -> None:
    """With ten attributes, or full to the byte, it carries its context in AWSTraceHeader, and the trace goes on."""
    async with streamkit.open("memory:", clock=clock, limits=Limits.aws()) as kit:
        jobs = await kit.create_queue("jobs", type=str)
        tracing.instrument(kit, tracer_provider=seen.provider)
        ten = {f"n{n}": "v" for n in range(10)}
        await jobs.send("x", attributes=ten)
        await jobs.send("x" * Limits.aws().message_bytes)
        await jobs.send("x", attributes=ten, trace_header="Root=1-own")
        messages = await jobs.receive(10)
        assert [set(message.attributes) for message in messages] == [set(ten), set(), set(ten)]
        assert messages[2].trace_header == "Root=1-own"
        first, second, _ = seen.named("send jobs")
        assert links_of(seen.one("receive jobs")) == [id_of(first), id_of(second)]


async def test_a_context_of_the_senders_own_is_left_alone(seen: Seen, clock: ManualClock) -> None:
    """In an attribute or in AWSTraceHeader: the message is as it was sent, and the span links there."""
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await jobs.send("s3cret", attributes={"traceparent": PARENT})
        await jobs.send_batch([Send(value="s3cret", trace_header=HEADER)])
        first, second = await jobs.peek()
        assert (set(first.attributes), carried(first), first.trace_header) == ({"traceparent"}, PARENT, None)
        assert (second.attributes, second.trace_header) == ({}, HEADER)
        for span in seen.named("send jobs"):
            assert (span.kind, links_of(span)) == (SpanKind.CLIENT, [int(PARENT.split("-")[2], 16)])


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_worker_handles_a_message_in_its_trace(kind: str, seen: Seen, clock: ManualClock) -> None:
    """Within it is what the handler does; the deletion comes after it, in the same trace."""

    def plain(value: str) -> None:
        seen.tracer.start_span("work").end()

    async def handler(value: str) -> None:
        plain(value)
        await done.put({"id": "s3cret"})

    async with streamkit.open("memory:", clock=clock) as kit:
        jobs = await kit.create_queue("jobs")
        done = await kit.create_table("done", partition_key="id")
        worker = kit.start(jobs.worker(plain if kind == "plain" else handler))
        tracing.instrument(kit, tracer_provider=seen.provider)
        message_id = await jobs.send("s3cret")
        await worker.wait_drained()
    below = ["    work"] if kind == "plain" else ["    work", "    PutItem done"]
    tree = [name for name in seen.tree() if "receive" not in name]
    assert tree == ["send jobs", "  process jobs", *below, "  delete jobs"]
    span = seen.one("process jobs")
    assert (span.kind, links_of(span)) == (SpanKind.CONSUMER, [id_of(seen.one("send jobs"))])
    assert span.attributes == of("process", message__id=message_id)


async def test_a_batch_worker_links_to_every_send(seen: Seen, clock: ManualClock) -> None:
    async def handler(messages: list[streamkit.Message[Any]]) -> Any:
        return {messages[1]: ValueError("s3cret")} if messages[1].receive_count == 1 else None

    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        jobs = await kit.create_queue("jobs")
        for n in range(3):
            await jobs.send(n)
        worker = kit.start(jobs.batch_worker(handler, max_messages=10, retry=AT_ONCE))
        while worker.failed == 0:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    span = seen.named("process jobs")[0]
    assert links_of(span) == [id_of(sent) for sent in seen.named("send jobs")]
    assert parent_of(span) is None
    assert span.attributes == {**of("process", batch__message_count=3), "error.type": "ValueError"}
    assert span.status.status_code is StatusCode.ERROR


async def test_a_dead_letter_and_its_redrive_stay_in_the_trace(seen: Seen, clock: ManualClock) -> None:
    """What it carries is what its first send gave it."""
    fails = True

    async def handler(value: str) -> None:
        if fails:
            raise ValueError("s3cret")

    async with streamkit.open("memory:", clock=clock) as kit:
        dead = await kit.create_queue("dead")
        policy = streamkit.RedrivePolicy(dead_letter_queue="dead", max_receive_count=2, eager=True)
        jobs = await kit.create_queue("jobs", redrive_policy=policy)
        tracing.instrument(kit, tracer_provider=seen.provider)
        await jobs.send("s3cret")
        worker = kit.start(jobs.worker(handler, retry=AT_ONCE))
        while not (letters := await dead.peek()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        fails = False
        assert carried(letters[0]) == parent_text(seen.one("send jobs"))
        await dead.redrive(letters)
        await worker.wait_drained()
    spans = seen.named("process jobs")
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert {trace_of(span) for span in spans} == {trace_of(seen.one("send jobs"))}
    assert {parent_of(span) for span in spans} == {id_of(seen.one("send jobs"))}

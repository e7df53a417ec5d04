"""Spans of what consumers hand out and handle, and their ties to what put the records."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import streamkit
from streamkit import tracing
from streamkit.errors import ValidationError
from streamkit.testing.clock import ManualClock
from tests.tracing.seen import Seen, id_of, links_of, parent_of, trace_of

SHARD = "shardId-000000000000"


def of_process(count: int | None = None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": "streamkit",
        "messaging.destination.name": "orders",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.partition.id": SHARD,
        "messaging.consumer.group.name": "billing",
    }
    if count is None:
        return {**attributes, "messaging.message.id": "1"}
    return {**attributes, "messaging.batch.message_count": count}


async def run_until(consumer: streamkit.Consumer[Any], handler: Any, enough: asyncio.Event, **options: Any) -> None:
    running = asyncio.create_task(consumer.run(handler, **options))
    await enough.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("kind", ["async", "plain", "awaitable"])
async def test_a_record_is_processed_in_the_trace_of_its_put(kind: str, seen: Seen, clock: ManualClock) -> None:
    """A child of the put, and linked to it; what the handler does is within, in whatever thread."""
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    def plain(batch: streamkit.Batch[Any]) -> None:
        seen.tracer.start_span("work").end()
        loop.call_soon_threadsafe(enough.set)

    async def handler(batch: streamkit.Batch[Any]) -> None:
        plain(batch)

    def awaitable(batch: streamkit.Batch[Any]) -> Any:
        return handler(batch)

    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        orders = await kit.create_stream("orders")
        await orders.put("s3cret", partition_key="s3cret")
        async with orders.consumer("billing") as consumer:
            await run_until(consumer, {"async": handler, "plain": plain, "awaitable": awaitable}[kind], enough)
    assert seen.tree() == ["send orders", "  process orders", "    work"]
    span = seen.one("process orders")
    assert span.kind is SpanKind.CONSUMER
    assert links_of(span) == [id_of(seen.one("send orders"))]
    assert span.attributes == of_process()


async def test_a_batch_is_processed_in_a_trace_of_its_own(seen: Seen, clock: ManualClock) -> None:
    """It links to each put once, also where the handler runs within a span of the application."""
    enough = asyncio.Event()

    async def handler(batch: streamkit.Batch[Any]) -> None:
        enough.set()

    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        await orders.put("before anybody traced", partition_key="k")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put_batch([("k", n) for n in range(3)])
        await orders.put(3, partition_key="k")
        with seen.tracer.start_as_current_span("main"):
            async with orders.consumer("billing") as consumer:
                await run_until(consumer, handler, enough)
    span = seen.one("process orders")
    assert parent_of(span) is None
    assert links_of(span) == [id_of(sent) for sent in seen.named("send orders")]
    assert trace_of(span) not in {trace_of(sent) for sent in seen.named("send orders")}
    assert span.attributes == of_process(5)


async def test_each_attempt_of_a_handler_is_a_span(seen: Seen, clock: ManualClock) -> None:
    async def handler(batch: streamkit.Batch[Any]) -> None:
        raise ValueError("s3cret")

    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        orders = await kit.create_stream("orders")
        await orders.put(1, partition_key="k")
        async with orders.consumer("billing") as consumer:
            running = asyncio.create_task(consumer.run(handler, attempts=2))
            while not running.done():
                await clock.advance(1)
            with pytest.raises(ValueError, match="s3cret"):
                await running
    spans = seen.named("process orders")
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 2
    assert [span.status.description for span in spans] == ["ValueError"] * 2
    assert {(span.attributes or {})["error.type"] for span in spans} == {"ValueError"}
    assert {span.events for span in spans} == {()}


async def test_what_is_handed_out_is_a_receive(seen: Seen, clock: ManualClock) -> None:
    """What the loop does with it is up to the loop, which can say so itself."""
    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        orders = await kit.create_stream("orders")
        async with orders.consumer("billing") as consumer:
            batches = consumer.batches()
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            assert seen.names() == []
            await orders.put("s3cret", partition_key="s3cret")
            batch = await waiting
            with seen.tracer.start_as_current_span("by hand", tracing.context_of(batch[0])):
                pass
            await orders.put_batch([("k", 1), ("k", 2)])
            second = await anext(batches)
            with seen.tracer.start_as_current_span("both by hand", links=tracing.links_of(second)):
                pass
    first, two = seen.named("send orders")
    received, again = seen.named("receive orders")
    assert received.kind is SpanKind.CLIENT
    assert links_of(received) == [id_of(first)]
    assert received.attributes == {
        **of_process(),
        "messaging.operation.type": "receive",
        "messaging.operation.name": "receive",
    }
    assert (links_of(again), (again.attributes or {})["messaging.batch.message_count"]) == ([id_of(two)], 2)
    assert parent_of(seen.one("by hand")) == id_of(first)
    assert links_of(seen.one("both by hand")) == [id_of(two)]


async def test_what_carries_nothing_gives_an_empty_context(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        await orders.put(1, partition_key="k")
        (record,) = await orders.head()
        assert not trace.get_current_span(tracing.context_of(record)).get_span_context().is_valid
        assert tracing.links_of([record]) == []
        with pytest.raises(ValidationError, match="only a Record or a Message"):
            tracing.context_of("x")  # type: ignore[arg-type]


async def test_a_service_does_not_stay_in_the_span_it_was_started_in(seen: Seen, clock: ManualClock) -> None:
    """While the span lasts it is within; when that has ended what it does begins traces of its own."""
    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        jobs = await kit.create_queue("jobs")
        goes_on, done = asyncio.Event(), asyncio.Event()

        async def service() -> None:
            await jobs.send(1)
            await goes_on.wait()
            await jobs.send(2)
            done.set()

        with seen.tracer.start_as_current_span("request"):
            task = asyncio.create_task(service())
            while not seen.names():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        goes_on.set()
        await done.wait()
        await task
    assert seen.tree() == ["request", "  send jobs", "send jobs"]

"""Spans of puts and producers, and what the records carry of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from opentelemetry.trace import SpanKind, StatusCode

import streamkit
from streamkit import tracing
from streamkit.errors import ThroughputExceededError, ValidationError
from streamkit.limits import Limits
from streamkit.streams.buffer import Batching
from streamkit.testing.clock import ManualClock
from tests.tracing.seen import Seen, id_of, links_of, parent_of, parent_text, trace_of

SHARD = "shardId-000000000000"
BASE = {"messaging.system": "streamkit", "messaging.destination.name": "orders"}
SEND = {**BASE, "messaging.operation.type": "send", "messaging.operation.name": "send"}


async def carried(stream: streamkit.Stream[Any]) -> dict[Any, str | None]:
    return {record.value: record.attributes.get("traceparent") async for record in stream.records()}


async def test_a_put_is_a_span_that_its_record_carries(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        await orders.put("s3cret 1", partition_key="s3cret key")
        tracing.instrument(kit, tracer_provider=seen.provider)
        with seen.tracer.start_as_current_span("request"):
            await orders.put("s3cret 2", partition_key="s3cret key")
        span = seen.one("send orders")
        assert span.kind is SpanKind.PRODUCER
        assert parent_of(span) == id_of(seen.one("request"))
        assert span.attributes == {**SEND, "messaging.message.id": "2", "messaging.destination.partition.id": SHARD}
        assert (span.status.status_code, span.events, span.links) == (StatusCode.UNSET, (), ())
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
        assert await carried(orders) == {"s3cret 1": None, "s3cret 2": parent_text(span)}


async def test_puts_that_are_gathered_are_a_span_each(seen: Seen, clock: ManualClock) -> None:
    """Of the task that put it, though one call stores all."""
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=seen.provider)

        async def request(number: int) -> None:
            with seen.tracer.start_as_current_span(f"request {number}"):
                await orders.put(number, partition_key="k")

        await asyncio.gather(*map(request, range(3)))
        for number, text in (await carried(orders)).items():
            (span,) = [span for span in seen.named("send orders") if parent_text(span) == text]
            assert parent_of(span) == id_of(seen.one(f"request {number}"))
            assert span.attributes is not None
            assert span.attributes["messaging.message.id"] == str(number + 1)


async def test_a_batch_is_one_span_that_all_its_records_carry(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders", shards=2)
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put_batch([(f"s3cret {n}", n) for n in range(5)])
        await orders.put_batch([])
        span = seen.one("send orders")
        assert span.kind is SpanKind.PRODUCER
        assert span.attributes == {**SEND, "messaging.batch.message_count": 5}
        assert await carried(orders) == dict.fromkeys(range(5), parent_text(span))


async def test_a_batch_of_which_one_is_refused_says_so(seen: Seen, clock: ManualClock) -> None:
    limits = msgspec.structs.replace(Limits.relaxed(), shard_put_records=2)
    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=seen.provider)
        results = await orders.put_batch([(f"s3cret {n}", n) for n in range(3)])
        assert [isinstance(result.error, ThroughputExceededError) for result in results] == [False, False, True]
        span = seen.one("send orders")
        assert span.attributes is not None
        assert span.attributes["error.type"] == "ThroughputExceededError"
        assert await carried(orders) == dict.fromkeys(range(2), parent_text(span))


@pytest.mark.parametrize("batching", [Batching(), Batching(aggregate=True)], ids=["plain", "aggregated"])
async def test_a_producer_creates_now_and_sends_later(batching: Batching, seen: Seen, clock: ManualClock) -> None:
    """A record carries the context in which it was put; the send is a span of its own, which links to those."""
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=seen.provider)
        async with orders.producer(batching, id="p") as producer:
            for number in range(3):
                with seen.tracer.start_as_current_span(f"request {number}"):
                    await producer.put(number, partition_key="s3cret")
            await producer.put("a duplicate", partition_key="k", sequence=0)
            assert producer.duplicates == 1
        created = seen.named("create orders")
        assert {span.kind for span in created} == {SpanKind.PRODUCER}
        assert [parent_of(span) for span in created] == [id_of(seen.one(f"request {n}")) for n in range(3)]
        assert created[0].attributes == {
            **BASE,
            "messaging.operation.type": "create",
            "messaging.operation.name": "create",
        }
        assert await carried(orders) == {n: parent_text(span) for n, span in enumerate(created)}
        sent = seen.named("send orders")
        assert {span.kind for span in sent} == {SpanKind.CLIENT}
        assert [link for span in sent for link in links_of(span)] == [id_of(span) for span in created]
        counts = [(span.attributes or {})["messaging.batch.message_count"] for span in sent]
        assert sum(count for count in counts if isinstance(count, int)) == 3


async def test_a_context_of_ones_own_is_left_alone(seen: Seen, clock: ManualClock) -> None:
    """The span links to it."""
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=seen.provider)
        with seen.tracer.start_as_current_span("elsewhere") as elsewhere:
            pass
        own = {"traceparent": parent_text(elsewhere), "note": "s3cret"}  # type: ignore[arg-type]
        await orders.put(1, partition_key="k", attributes=own)
        assert [record.attributes async for record in orders.records()] == [own]
        span = seen.one("send orders")
        assert (span.kind, links_of(span)) == (SpanKind.CLIENT, [id_of(seen.one("elsewhere"))])


async def test_no_record_is_refused_because_it_is_traced(seen: Seen, clock: ManualClock) -> None:
    """Neither one of the greatest size nor one whose attributes leave no room; that one carries nothing."""
    limits = msgspec.structs.replace(Limits.aws(), shard_put_bytes=None)
    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        raw = await kit.create_stream("orders", type=bytes)
        tracing.instrument(kit, tracer_provider=seen.provider)
        await raw.put(b"x" * (limits.record_bytes - 1), partition_key="k")
        full = {"k": "v" * 1023}
        ten = {f"k{n}": "" for n in range(10)}
        for attributes in (full, ten):
            await raw.put(b"x", partition_key="k", attributes=attributes)
        first, second, third = [record async for record in raw.records()]
        assert set(first.attributes) == {"traceparent"}
        assert (second.attributes, third.attributes) == (full, ten)
        bad: list[Any] = [["s3cret"], {"s3cret": 1}, {"s3cret": "v" * 1024}]
        for attributes in bad:
            with pytest.raises(ValidationError, match="attribute"):
                await raw.put(b"x", partition_key="k", attributes=attributes)
        failed = seen.all()[-1]
        assert failed.status.status_code is StatusCode.ERROR
        assert failed.attributes is not None
        assert failed.attributes["error.type"] == "ValidationError"


async def test_an_error_is_told_by_its_type_alone(seen: Seen, clock: ManualClock) -> None:
    """Its text may quote what was put."""
    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        with pytest.raises(streamkit.NotFoundError):
            await kit.stream("orders").put(1, partition_key="s3cret" * 100)
        span = seen.one("send orders")
        assert (span.status.description, span.events) == ("NotFoundError", ())


async def test_what_is_not_sampled_says_so(clock: ManualClock) -> None:
    """The decision travels, so that a consumer does not begin in the middle."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
        await orders.put(1, partition_key="k")
        ((_, text),) = (await carried(orders)).items()
        assert text is not None
        assert int(text[-2:], 16) & 1 == 0


async def test_an_application_that_set_no_provider_pays_with_nothing(clock: ManualClock) -> None:
    """Spans go nowhere, and records carry nothing."""
    async with streamkit.open("memory:", clock=clock) as kit:
        orders, jobs = await kit.create_stream("orders"), await kit.create_queue("jobs")
        tracing.instrument(kit)
        await orders.put(1, partition_key="k")
        await orders.put_batch([("k", 2)])
        async with orders.producer() as producer:
            await producer.put(3, partition_key="k")
        await jobs.send(1)
        assert await carried(orders) == {1: None, 2: None, 3: None}
        (message,) = await jobs.receive()
        assert message.attributes == {}
        await jobs.delete(message)


async def test_several_kits_have_each_their_own(seen: Seen, clock: ManualClock) -> None:
    other = Seen()
    async with streamkit.open("memory:", clock=clock) as one, streamkit.open("memory:", clock=clock) as two:
        tracing.instrument(one, tracer_provider=seen.provider)
        tracing.instrument(two, tracer_provider=other.provider)
        streams = [await kit.create_stream("orders") for kit in (one, two)]
        await streams[0].put(1, partition_key="k")
        await streams[1].put(1, partition_key="k")
        assert len(seen.named("send orders")) == len(other.named("send orders")) == 1
        assert trace_of(seen.one("send orders")) != trace_of(other.one("send orders"))
        tracing.uninstrument(one)
        await streams[0].put(2, partition_key="k")
        assert len(seen.named("send orders")) == 1
        assert (await carried(streams[0]))[2] is None

"""Spans of event source mappings, and traces that go on through them: from put to sink, over restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.trace import SpanKind, StatusCode

import streamkit
from streamkit import tracing
from streamkit.backoff import Retry
from streamkit.functions.lambda_handler import lambda_handler
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.results import PutRecord, SendMessage
from streamkit.testing.clock import ManualClock
from tests.tracing.seen import Seen, id_of, links_of, parent_of, parent_text, trace_of

SHARD = "shardId-000000000000"
AT_ONCE = Retry(first=0.0, longest=0.0)


def carried(item: Any) -> str | None:
    found = item.attributes.get("traceparent")
    return found if found is None or isinstance(found, str) else found.string_value


async def test_a_trace_goes_from_put_to_table_over_restarts(seen: Seen, tmp_path: Path) -> None:
    """Each step in a process of its own, as far as the directory can tell: what is not on disk is gone."""
    clock = ManualClock()
    at = tmp_path / "data"

    def opened() -> Any:
        return streamkit.open(at, clock=clock)

    async with opened() as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        orders = await kit.create_stream("orders")
        await kit.create_stream("copies")
        await kit.create_queue("jobs")
        await kit.create_table("done", partition_key="id")
        with seen.tracer.start_as_current_span("request"):
            await orders.put({"id": "s3cret"}, partition_key="s3cret")
        await kit.engine.settle()
    async with opened() as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        copies = kit.stream("copies")

        def copy(record: streamkit.Record[Any]) -> PutRecord[Any]:
            return PutRecord(copies, record.value)

        mapping = EventSourceMapping("copy", source=kit.stream("orders"), function=streamkit.each(copy))
        await kit.start(mapping).wait_caught_up()
    async with opened() as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        mapping = EventSourceMapping("pick", source=kit.stream("copies"), sink=kit.queue("jobs"))
        await kit.start(mapping).wait_caught_up()
    async with opened() as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        done = kit.table("done")

        async def handler(order: dict[str, Any]) -> None:
            await done.put(order)

        await kit.start(kit.queue("jobs").worker(handler)).wait_drained()
        assert await done.get("s3cret") == {"id": "s3cret"}
    assert [name for name in seen.tree() if "receive" not in name] == [
        "request",
        "  send orders",
        "    process orders",
        "      send copies",
        "        process copies",
        "          send jobs",
        "            process jobs",
        "              PutItem done",
        "            delete jobs",
    ]


async def test_a_mapping_of_a_batch_links_to_its_puts(seen: Seen, clock: ManualClock) -> None:
    """One invocation is one span, and below it is one for each queue, stream and table that its commit wrote to."""
    async with streamkit.open("memory:", clock=clock) as kit:
        orders, copies = await kit.create_stream("orders"), await kit.create_stream("copies")
        jobs, table = await kit.create_queue("jobs"), await kit.create_table("totals", partition_key="id")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put(1, partition_key="s3cret")
        await orders.put_batch([("s3cret", 2), ("s3cret", 3)])

        def function(record: streamkit.Record[Any]) -> list[Any]:
            return [{"id": "s3cret"}, SendMessage(jobs, "s3cret"), PutRecord(copies, "s3cret")]

        mapping = EventSourceMapping("pick", source=orders, function=streamkit.each(function), sink=table)
        await kit.start(mapping).wait_caught_up()
        process = seen.one("process orders")
        assert process.kind is SpanKind.CONSUMER
        assert parent_of(process) is None
        assert process.attributes == {
            "messaging.system": "streamkit",
            "messaging.destination.name": "orders",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.partition.id": SHARD,
            "messaging.consumer.group.name": "pick",
            "messaging.batch.message_count": 3,
        }
        assert links_of(process) == [id_of(span) for span in seen.named("send orders")]
        sent, put, wrote = seen.one("send jobs"), seen.one("send copies"), seen.one("TransactWriteItems totals")
        assert {parent_of(span) for span in (sent, put, wrote)} == {id_of(process)}
        assert [span.kind for span in (sent, put, wrote)] == [SpanKind.PRODUCER, SpanKind.PRODUCER, SpanKind.CLIENT]
        counts = [(span.attributes or {}).get("messaging.batch.message_count") for span in (sent, put)]
        assert counts == [3, 3]
        assert [carried(message) for message in await jobs.peek()] == [parent_text(sent)] * 3
        assert [carried(record) for record in await copies.head()] == [parent_text(put)] * 3


async def test_a_mapping_of_a_queue_goes_on_in_the_messages_trace(seen: Seen, clock: ManualClock) -> None:
    """The deletion is part of its commit."""
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs, table = await kit.create_queue("jobs"), await kit.create_table("done", partition_key="id")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await jobs.send({"id": "s3cret"})
        mapping = EventSourceMapping("work", source=jobs, function=streamkit.each(lambda m: m.value), sink=table)
        await kit.start(mapping).wait_caught_up()
    tree = [name for name in seen.tree() if "receive" not in name]
    assert tree == ["send jobs", "  process jobs", "    TransactWriteItems done", "    delete jobs"]
    attributes = seen.one("process jobs").attributes or {}
    assert attributes["messaging.consumer.group.name"] == "work"
    assert "messaging.message.id" in attributes


async def test_what_no_filter_matches_keeps_its_trace(seen: Seen, clock: ManualClock) -> None:
    """Handed on as it is: the message carries what it carried, and the send only links there."""
    async with streamkit.open("memory:", clock=clock) as kit:
        jobs, rest = await kit.create_queue("jobs"), await kit.create_queue("rest")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await jobs.send({"id": 1})
        mapping = EventSourceMapping(
            "some",
            source=jobs,
            function=streamkit.each(lambda m: None),
            filters=[{"body": {"id": [2]}}],
            on_filtered=rest,
        )
        await kit.start(mapping).wait_caught_up()
        (message,) = await rest.peek()
        assert carried(message) == parent_text(seen.one("send jobs"))
        handed_on = seen.one("send rest")
        assert (handed_on.kind, links_of(handed_on)) == (SpanKind.CLIENT, [id_of(seen.one("send jobs"))])


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
async def test_what_a_mapping_gives_up_stays_in_its_trace(several: bool, seen: Seen, clock: ManualClock) -> None:
    """The letter of a record carries what the record did; that of several traces what the failed invocation was."""

    def function(records: streamkit.Batch[Any]) -> None:
        raise ValueError("s3cret")

    async with streamkit.open("memory:", clock=clock) as kit:
        orders, dead = await kit.create_stream("orders"), await kit.create_queue("dead")
        tracing.instrument(kit, tracer_provider=seen.provider)
        for n in range(1 + several):
            await orders.put(n, partition_key="s3cret")
        mapping = EventSourceMapping(
            "pick", source=orders, function=function, on_failure=dead, maximum_retry_attempts=1, retry=AT_ONCE
        )
        await kit.start(mapping).wait_caught_up()
        (letter,) = await dead.peek()
    attempts, sent = seen.named("process orders"), seen.one("send dead")
    assert [span.status.description for span in attempts] == ["ValueError"] * 2
    assert parent_of(sent) == id_of(attempts[-1])
    if several:
        assert (sent.kind, carried(letter)) == (SpanKind.PRODUCER, parent_text(sent))
    else:
        put = seen.one("send orders")
        assert (carried(letter), links_of(sent)) == (parent_text(put), [id_of(put)])
        assert {trace_of(span) for span in seen.all()} == {trace_of(put)}


async def test_a_commit_that_is_refused_says_so(seen: Seen, clock: ManualClock) -> None:
    """In the span of its process's sink; the process itself went well."""
    async with streamkit.open("memory:", clock=clock) as kit:
        orders, table = await kit.create_stream("orders"), await kit.create_table("done", partition_key="id")
        await table.put({"id": "s3cret"})
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put(1, partition_key="k")
        condition = streamkit.attribute("id").absent()
        mapping = EventSourceMapping(
            "pick",
            source=orders,
            function=streamkit.each(lambda record: streamkit.Put({"id": "s3cret"}, condition=condition)),
            sink=table,
            maximum_retry_attempts=0,
        )
        await kit.start(mapping).wait_caught_up()
    wrote = seen.one("TransactWriteItems done")
    assert wrote.status.status_code is StatusCode.ERROR
    assert parent_of(wrote) == id_of(seen.one("process orders"))


async def test_a_lambda_handler_works_within_its_span(seen: Seen, clock: ManualClock) -> None:
    """In its thread, too."""

    def handler(event: dict[str, Any], context: object) -> None:
        seen.tracer.start_span("work").end()

    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put(1, partition_key="k")
        mapping = EventSourceMapping("pick", source=orders, function=lambda_handler(handler))
        await kit.start(mapping).wait_caught_up()
    assert seen.tree() == ["send orders", "  process orders", "    work"]


async def test_a_callable_sink_is_called_within(seen: Seen, clock: ManualClock) -> None:
    def sink(values: list[Any]) -> None:
        seen.tracer.start_span("write elsewhere").end()

    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put(1, partition_key="k")
        mapping = EventSourceMapping("pick", source=orders, sink=sink)
        await kit.start(mapping).wait_caught_up()
    assert seen.tree() == ["send orders", "  process orders", "    write elsewhere"]


async def test_a_tumbling_window_closes_without_records(seen: Seen, clock: ManualClock) -> None:
    """The invocation that ends it is of no record, and so of no span."""
    invoked: list[bool] = []
    async with streamkit.open("memory:", clock=clock) as kit:
        orders, table = await kit.create_stream("orders"), await kit.create_table("sums", partition_key="id")
        tracing.instrument(kit, tracer_provider=seen.provider)
        await orders.put(1, partition_key="k")

        def function(event: dict[str, Any], context: Any) -> Any:
            invoked.append(event["isFinalInvokeForWindow"])
            return {"state": {}}

        mapping = EventSourceMapping(
            "sum", source=orders, function=lambda_handler(function), sink=table, tumbling_window=1
        )
        running = kit.start(mapping)
        await running.wait_caught_up()
        await clock.advance(3)
        await kit.stop(running)
    assert invoked == [False, True]
    assert seen.names() == ["send orders", "process orders"]


async def test_nothing_is_put_into_the_parts_that_a_port_has(seen: Seen, clock: ManualClock) -> None:
    """An engine is asked for the same effects, but for what they carry."""
    from streamkit.functions.effects import Effects
    from streamkit.functions.traced import TracedEffects
    from streamkit.queues.store import SendEntry
    from streamkit.spans import Tracing
    from streamkit.streams.store import PutEntry
    from streamkit.tracing.otel import OtelSpans

    asked: list[Effects] = []

    class Store:
        limits = streamkit.Limits.relaxed()

        async def commit(self, effects: Effects) -> None:
            asked.append(effects)

    effects = Effects(
        writes=(streamkit.Delete({"id": 1}, "t"),),
        progress=(streamkit.Delete({"id": 2}, "t"),),
        sends=(("q", (SendEntry(b"1"),)),),
        puts=(("s", (PutEntry("k", b"1"),)),),
        deletes=(("q", ("handle",)),),
    )
    traced = Tracing()
    store = TracedEffects(Store(), traced)
    await store.commit(effects)
    traced.spans = OtelSpans(seen.provider)
    await store.commit(effects)
    assert asked[0] is effects
    ((_, (send,)),), ((_, (put,)),) = asked[1].sends, asked[1].puts
    assert (send.context, put.attributes) == (
        {"traceparent": parent_text(seen.one("send q"))},
        {"traceparent": parent_text(seen.one("send s"))},
    )
    assert msgspec.structs.replace(asked[1], sends=effects.sends, puts=effects.puts) == effects

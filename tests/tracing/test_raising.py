"""What samplers and span processors raise is theirs: nothing is refused, lost or done twice because of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import streamkit
from streamkit import tracing
from streamkit.functions.mapping import EventSourceMapping
from streamkit.testing.clock import ManualClock


class Raising(SpanProcessor):
    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._at == "begin":
            raise RuntimeError("s3cret")

    def on_end(self, span: Any) -> None:
        if self._at == "end":
            raise RuntimeError("s3cret")


@pytest.mark.parametrize("at", ["begin", "end"])
async def test_a_tracer_that_raises_refuses_nothing(
    at: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A put that was stored and raises would be put again; a batch that was received and raises would be lost."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Raising(at))
    caplog.set_level(logging.WARNING)
    async with streamkit.open("memory:", clock=clock) as kit:
        orders, jobs = await kit.create_stream("orders"), await kit.create_queue("jobs")
        done = await kit.create_table("done", partition_key="id")
        tracing.instrument(kit, tracer_provider=provider)

        await orders.put(1, partition_key="k")
        await orders.put_batch([("k", 2)])
        async with orders.producer() as producer:
            await producer.put(3, partition_key="k")
        async with orders.consumer("c") as consumer:
            batch = await anext(aiter(consumer.batches()))
            assert [record.value for record in batch] == [1, 2, 3]

        calls: list[list[Any]] = []

        def function(records: Sequence[Any]) -> list[Any]:
            calls.append([record.value for record in records])
            return [str(record.value) for record in records]

        await kit.start(EventSourceMapping("m", source=orders, function=function, sink=jobs)).wait_caught_up()
        assert calls == [[1, 2, 3]]
        messages = await jobs.receive(10)
        assert sorted(message.value for message in messages) == ["1", "2", "3"]
        await jobs.delete_batch(messages)
        await done.put({"id": "1"})
        assert await done.get("1") == {"id": "1"}
    told = [record.getMessage() for record in caplog.records if record.name == "streamkit.tracing"]
    assert set(told) == {f"a span did not {at}, because a sampler or span processor raised RuntimeError"}

"""Spans of writes to tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from opentelemetry.trace import SpanKind

import streamkit
from streamkit import tracing
from streamkit.errors import ConditionFailedError, ValidationError
from streamkit.limits import Limits
from streamkit.tables.condition import attribute
from streamkit.testing.clock import ManualClock
from tests.tracing.seen import Seen


async def test_what_is_no_write_is_refused_as_ever(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_table("one", partition_key="id")
        bad: Any = 5
        for _ in range(2):
            with pytest.raises(ValidationError, match="not a write"):
                await kit.write(streamkit.Put({"id": "a"}, table="one"), bad)
            tracing.instrument(kit, tracer_provider=seen.provider)
        assert seen.one("TransactWriteItems one").status.description == "ValidationError"


async def test_a_batch_of_which_one_is_refused_says_so(seen: Seen, clock: ManualClock) -> None:
    """Also one that is refused before the others are written; and nobody has to trace it for the others."""
    limits = msgspec.structs.replace(Limits.relaxed(), item_bytes=100)
    async with streamkit.open("memory:", clock=clock, limits=limits) as kit:
        one = await kit.create_table("one", partition_key="id")
        for bad in ({"id": "s3cret" * 100}, {"no": "s3cret"}):
            tracing.uninstrument(kit)
            errors = await one.write_batch(put=[bad, {"id": "a"}])
            tracing.instrument(kit, tracer_provider=seen.provider)
            assert [type(error) for error in errors] == [ValidationError, type(None)]
            assert [type(error) for error in await one.write_batch(put=[bad, {"id": "a"}])] == list(map(type, errors))
        spans = seen.named("BatchWriteItem one")
        assert [span.status.description for span in spans] == ["ValidationError"] * 2


async def test_writes_are_spans_and_reads_are_none(seen: Seen, clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        tracing.instrument(kit, tracer_provider=seen.provider)
        one = await kit.create_table("one", partition_key="id")
        two = await kit.create_table("two", partition_key="id")
        await one.put({"id": "s3cret"})
        await one.update("s3cret", set={"n": 1})
        await one.delete("s3cret")
        await one.put_batch([{"id": "a"}, {"id": "b"}])
        assert await one.write_batch(put=[{"id": "c"}], delete=["a"]) == [None, None]
        await kit.write(
            streamkit.Put({"id": "d"}, table="one"),
            streamkit.Put({"id": "e"}, table="two"),
            streamkit.Delete({"id": "b"}, table="one"),
        )
        assert await one.get("d") == {"id": "d"}
        assert [page async for page in two.scan()] == [{"id": "e"}]
        with pytest.raises(ConditionFailedError):
            await one.put({"id": "s3cret"}, condition=attribute("id").exists())
        names = [
            "PutItem one",
            "UpdateItem one",
            "DeleteItem one",
            "TransactWriteItems one",
            "BatchWriteItem one",
            "TransactWriteItems two",
            "TransactWriteItems one",
            "PutItem one",
        ]
        spans = seen.all()
        assert [span.name for span in spans] == names
        assert {span.kind for span in spans} == {SpanKind.CLIENT}
        assert spans[0].attributes == {
            "db.system.name": "streamkit",
            "db.operation.name": "PutItem",
            "db.collection.name": "one",
        }
        counts = [(span.attributes or {}).get("db.operation.batch.size") for span in spans]
        assert counts == [None, None, None, 2, 2, None, 2, None]
        assert spans[-1].status.description == "ConditionFailedError"

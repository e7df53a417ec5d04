"""Nothing that streamkit logs quotes the data: failures of every kind, with a secret wherever one can be.

In a value, a key, an attribute, a group, an answer, an exception.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit, RedrivePolicy, Retry, Stop, each
from streamkit.errors import FunctionError, NotFoundError, StorageError, ValidationError
from streamkit.functions.function import Function
from streamkit.queues.message import MessageAttribute
from tests.logged import SECRET, Written, until, written

__all__ = ["written"]
AT_ONCE = Retry(first=0.0)


async def fail(anything: Any) -> None:
    raise ValueError(f"cannot charge {SECRET}")


def fail_in_a_thread(anything: Any) -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValidationError(SECRET) from error


async def junk(anything: Any) -> Any:
    return SECRET


async def junk_item(batch: Any) -> Any:
    return [SECRET]


async def reported(batch: Any) -> Any:
    return {"batchItemFailures": [{"itemIdentifier": SECRET}]}


async def exits(anything: Any) -> None:
    raise SystemExit(SECRET)


async def refused_write(batch: Any) -> Any:
    return streamkit.Put({"id": SECRET}, table="items", condition=streamkit.attribute("id").absent())


def refusing_sink(values: list[Any]) -> None:
    raise OSError(SECRET)


class Failing:
    name = "failing"

    async def run(self, stop: Stop) -> None:
        raise RuntimeError(SECRET)


FUNCTIONS: tuple[Any, ...] = (
    fail,
    fail_in_a_thread,
    junk,
    junk_item,
    reported,
    exits,
    refused_write,
    each(fail),
    Function(fail, timeout=9),
)


def check(lines: Sequence[dict[str, Any]], wanted: set[str]) -> None:
    about = {line.get("service") for line in lines} | {line.get("consumer") for line in lines}
    assert wanted <= about, f"nothing was logged of {wanted - about}, so that nothing was tested of them"
    leaks = [line for line in lines if SECRET in json.dumps(line)]
    assert not leaks, leaks


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with asyncio.timeout(50), streamkit.open("memory:") as kit:
        await (await kit.create_table("items", partition_key="id")).put({"id": SECRET})
        orders = await kit.create_stream("orders")
        await orders.put_batch([(SECRET, {"card": SECRET}), (SECRET, {"card": SECRET})])
        await kit.create_queue("dead")
        yield kit


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: getattr(each, "__name__", type(each).__name__))
async def test_a_mapping_of_a_stream(written: Written, kit: Kit, function: Any) -> None:
    mapping = EventSourceMapping(
        "m", source=kit.stream("orders"), function=function, maximum_retry_attempts=1, retry=AT_ONCE,
        on_failure=kit.queue("dead"),
    )  # fmt: skip
    await kit.start(mapping).wait_caught_up()
    check(written(), {"m"})


async def test_mappings_whose_sink_refuses_or_whose_records_cannot_be_read(written: Written, kit: Kit) -> None:
    orders, dead = kit.stream("orders"), kit.queue("dead")
    sinks = EventSourceMapping("sinks", source=orders, sink=refusing_sink, maximum_retry_attempts=0, on_failure=dead)
    await kit.start(sinks).wait_caught_up()
    await (await kit.create_stream("undecodable")).put(SECRET, partition_key=SECRET)
    numbers = kit.stream("undecodable", type=int)
    await kit.start(EventSourceMapping("wrong", source=numbers, sink=dead, maximum_retry_attempts=0)).wait_caught_up()
    check(written(), {"sinks", "wrong"})


async def test_a_mapping_of_a_queue(written: Written, kit: Kit) -> None:
    jobs = await kit.create_queue("jobs")
    await jobs.send(SECRET)
    mapping = kit.start(EventSourceMapping("mapped", source=jobs, function=fail))
    await until(lambda: mapping.counts.errors > 0)
    check(written(), {"mapped"})


@pytest.mark.parametrize("handler", [fail, fail_in_a_thread])
async def test_a_worker(written: Written, kit: Kit, handler: Any) -> None:
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1, eager=True)
    jobs = await kit.create_queue("jobs", redrive_policy=policy)
    attributes = {"card": MessageAttribute("String", SECRET)}
    await jobs.send({"card": SECRET}, attributes=attributes, group_id=SECRET)
    await kit.start(jobs.worker(handler, retry=AT_ONCE)).wait_drained()
    check(written(), {"worker:jobs"})


async def test_a_worker_of_batches(written: Written, kit: Kit) -> None:
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1, eager=True)
    jobs = await kit.create_queue("jobs", redrive_policy=policy)
    await jobs.send(SECRET)
    await kit.start(jobs.batch_worker(junk, max_messages=5, retry=AT_ONCE)).wait_drained()
    check(written(), {"worker:jobs"})


async def test_a_consumer(written: Written, kit: Kit) -> None:
    async with kit.stream("orders").consumer("billing") as consumer:
        with pytest.raises(ValueError, match=SECRET):
            await consumer.run(fail, retry=AT_ONCE, attempts=2)
    check(written(), {"billing"})


async def test_a_service(written: Written) -> None:
    kit = await streamkit.open("memory:")
    kit.start(Failing())
    await until(lambda: bool(kit.health().errors))
    with pytest.raises(streamkit.errors.ServiceFailedError):
        await kit.close()
    check(written(), {"failing"})


@pytest.mark.parametrize("error", [FunctionError(SECRET), NotFoundError("customer", SECRET), StorageError(SECRET)])
async def test_what_a_handler_raises_is_not_said_whatever_its_type(written: Written, error: Exception) -> None:
    async def handle(item: Any) -> None:
        raise error

    async with streamkit.open("memory:") as kit:
        jobs = await kit.create_queue("jobs")
        orders = await kit.create_stream("orders")
        await jobs.send(SECRET)
        await orders.put(SECRET, partition_key="k")
        worker = kit.start(jobs.worker(handle))
        retry = Retry(first=0.0)
        mapping = EventSourceMapping("m", source=orders, function=handle, maximum_retry_attempts=0, retry=retry)
        await kit.start(mapping).wait_caught_up()
        await until(lambda: worker.failed > 0)
    lines = written()
    assert {line["logger"] for line in lines} >= {"streamkit.queues", "streamkit.functions"}
    assert not [line for line in lines if SECRET in json.dumps(line)]

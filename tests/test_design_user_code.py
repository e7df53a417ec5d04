"""The code of the design, as a user pastes it: on memory and on a directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

import streamkit
from streamkit import Alarm, Batch, EventSourceMapping, Item, Record, RedrivePolicy, each
from streamkit.alarms.transition import AlarmTransition
from streamkit.testing.clock import ManualClock


class Order(msgspec.Struct):
    customer: str
    status: str
    total: int


class Email(msgspec.Struct):
    to: str


@pytest.fixture(params=["memory:", "directory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory:" else str(tmp_path / "data")


async def test_produce_and_consume(url: str) -> None:
    charged: list[Order] = []
    third = asyncio.Event()

    async def charge(batch: Batch[Order]) -> None:
        charged.extend(batch.values)
        if len(charged) == 3:
            third.set()

    order = Order("ada", "paid", 1200)
    async with streamkit.open(url) as kit:
        orders = await kit.create_stream("orders", shards=4, type=Order, exist_ok=True)
        put = await orders.put(order, partition_key=order.customer)
        assert put.sequence_number > 0
        async with orders.producer() as producer:
            await producer.put(order, partition_key=order.customer)

        async with orders.consumer("billing", start="TRIM_HORIZON") as consumer:
            async for batch in consumer.batches(max_records=500):
                await charge(batch)
                await consumer.checkpoint(batch)
                if len(charged) == 2:
                    break
        assert charged == [order, order]

        await orders.put(order, partition_key=order.customer)
        async with orders.consumer("billing") as consumer:
            running = asyncio.create_task(consumer.run(charge))
            await third.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running


async def test_queue_with_dead_letters_and_an_alarm(url: str, clock: ManualClock) -> None:
    paged: list[AlarmTransition] = []
    tries: list[str] = []

    async def send_email(email: Email) -> None:
        tries.append(email.to)
        raise OSError("no route to host")

    async with streamkit.open(url, clock=clock) as kit:
        dead = await kit.create_queue("emails-dead", exist_ok=True)
        emails = await kit.create_queue(
            "emails",
            type=Email,
            visibility_timeout=30,
            exist_ok=True,
            redrive_policy=RedrivePolicy(dead_letter_queue="emails-dead", max_receive_count=5),
        )
        await emails.send(Email("ada@example.org"))
        working = asyncio.create_task(emails.work(send_email, concurrency=8))
        alarm = kit.start(
            Alarm(
                "emails-are-dying",
                metric=dead.metric("ApproximateNumberOfMessagesVisible"),
                statistic="Maximum",
                period=60,
                evaluation_periods=3,
                datapoints_to_alarm=2,
                threshold=0,
                comparison="GreaterThanThreshold",
                treat_missing_data="notBreaching",
            ),
            on_alarm=paged.append,
        )
        while (await dead.describe()).visible == 0:
            await clock.advance(1)
        assert tries == ["ada@example.org"] * 5
        assert not paged  # One datapoint of three breaches so far.
        await clock.advance(120)
        assert [(change.alarm, change.state) for change in paged if change.state == "ALARM"] == [(alarm.name, "ALARM")]
        assert kit.health().alarms == {"emails-are-dying": "ALARM"}
        assert not kit.health().healthy
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


async def test_a_mapping(url: str) -> None:
    @each
    async def total_by_order(record: Record[Order]) -> Item | None:
        order = record.value
        return {"customer": order.customer, "total": order.total}

    async with streamkit.open(url) as kit:
        orders = await kit.create_stream("orders", shards=4, type=Order)
        table = await kit.create_table("big_orders", partition_key="customer")
        await kit.create_queue("big-orders-failed")
        mapping = kit.start(
            EventSourceMapping(
                "big-orders",
                source=orders,
                function=total_by_order,
                sink=table,
                filters=[{"data": {"status": ["paid"], "total": [{"numeric": [">=", 1000]}]}}],
                batch_size=100,
                batch_window=0.01,
                bisect_on_function_error=True,
                maximum_retry_attempts=3,
                on_failure=kit.queue("big-orders-failed"),
            )
        )
        for customer, status, total in (("ada", "paid", 1200), ("bob", "open", 5000), ("eve", "paid", 10)):
            await orders.put(Order(customer, status, total), partition_key=customer)
        await mapping.wait_caught_up()
        assert [item async for item in table.scan()] == [{"customer": "ada", "total": 1200}]


async def test_await_instead_of_async_with(url: str) -> None:
    kit = await streamkit.open(url)
    queue = await kit.create_queue("jobs")
    await queue.send({"n": 1})
    (message,) = await queue.receive()
    assert message.value == {"n": 1}
    await kit.close()
    await kit.close()
    with pytest.raises(streamkit.StreamKitError, match="closed"):
        kit.queue("jobs")

"""``kit.overview()``: counts that are right, of a kit that owns and of one that looks on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import streamkit
from streamkit import Alarm, EventSourceMapping, Item, Kit, Metric, Record, RedrivePolicy, each
from streamkit.errors import ClosedError
from streamkit.overview.overview import Overview
from streamkit.testing.clock import ManualClock


def alarm(name: str) -> Alarm:
    metric = Metric.of("AWS/SQS", "ApproximateNumberOfMessagesVisible", QueueName="letters")
    return Alarm(
        name=name, metric=metric, statistic="Maximum", threshold=1, comparison="GreaterThanThreshold", period=60
    )


async def _fill(kit: Kit, clock: ManualClock) -> None:
    orders = await kit.create_stream("orders", shards=2, retention=None)
    await orders.put_batch([(f"k{number}", {"n": number}) for number in range(10)])
    async with orders.consumer("billing") as consumer:
        done = 0
        async for batch in consumer.batches(max_records=3):
            await consumer.checkpoint(batch)
            done += len(batch.records)
            if done >= 4:
                break
    await kit.create_queue("letters")
    mails = await kit.create_queue(
        "mails", redrive_policy=RedrivePolicy(dead_letter_queue="letters", max_receive_count=2)
    )
    await mails.send_batch(["a", "b", "c"])
    await mails.send("later", delay=60)
    await mails.receive()
    await kit.queue("letters").send("dead")
    await kit.create_table("totals", partition_key="id", sort_key="day", ttl="until")
    await clock.advance(5)


async def test_counts_are_those_of_the_services(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        await _fill(kit, clock)
        seen = await kit.overview()
        (orders,) = seen.streams
        assert (orders.name, orders.records, orders.open_shards, orders.retention_ms) == ("orders", 10, 2, None)
        assert sum(shard.hash_keys for shard in orders.shards) == 1
        (billing,) = orders.consumers
        lag = await kit.stream("orders").lag("billing")
        assert billing.name == "billing"
        assert billing.lag == lag
        assert 0 < billing.records < 10
        queues = {queue.name: queue for queue in seen.queues}
        mails = queues["mails"]
        assert (mails.visible, mails.in_flight, mails.delayed, mails.messages) == (2, 1, 1, 4)
        assert (mails.oldest_age_ms, mails.dead_letter_queue, mails.maximum_receives) == (5000, "letters", 2)
        assert queues["letters"].dead_letters_of == ("mails",)
        assert seen.dead_letters == 1
        (totals,) = [table for table in seen.tables if not table.is_internal]
        assert (totals.name, totals.partition_key, totals.sort_key, totals.ttl) == ("totals", "id", "day", "until")
        assert (seen.owner, seen.now_ms) == ("this process", clock.now_ms())


async def test_looking_takes_and_makes_nothing(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("orders")
        queue = await kit.create_queue("mails")
        await queue.send("a")
        first = await kit.overview()
        assert await kit.tables() == []
        assert first.queues == (await kit.overview()).queues
        (message,) = await queue.receive()
        assert message.receive_count == 1


async def test_throughput_is_of_the_last_ten_seconds_that_are_over(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        await clock.advance(10 - clock.now_ms() / 1000 % 10)
        await orders.put_batch([("k", "23456789")] * 50)
        assert (await kit.overview()).streams[0].records_per_second == 0
        await clock.advance(10)
        shown = (await kit.overview()).streams[0]
        assert (shown.records_per_second, shown.bytes_per_second) == (
            5,
            50,
        )  # The value as JSON has ten bytes; the key is not counted.
        await clock.advance(10)
        assert (await kit.overview()).streams[0].records_per_second == 0


async def test_mappings_alarms_and_services_that_run(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders")
        totals = await kit.create_table("totals", partition_key="id")

        @each
        async def keep(record: Record[Any]) -> Item:
            return {"id": str(record.value)}

        mapping = kit.start(EventSourceMapping("keep", source=orders, function=keep, sink=totals))
        kit.start(alarm("too-many"))
        await orders.put(1, partition_key="k")
        await mapping.wait_caught_up()
        seen = await kit.overview()
        (shown,) = seen.mappings
        assert (shown.name, shown.source, shown.state, shown.counts.written) == ("keep", "orders", "Enabled", 1)
        assert [(consumer.name, consumer.records) for consumer in seen.streams[0].consumers] == [("mapping:keep", 0)]
        assert len(seen.streams[0].consumers[0].workers) == 1
        assert [(alarm.name, alarm.state) for alarm in seen.alarms] == [("too-many", "INSUFFICIENT_DATA")]
        assert {"keep"} <= {service.name for service in seen.services}
        assert {service.state for service in seen.services} == {"running"}


async def test_who_looks_on_sees_what_the_owner_sees(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path, clock=clock) as kit:
        await _fill(kit, clock)
        kit.start(alarm("too-many"))
        await clock.advance(0)
        kit.alarms.get("too-many").set_state("ALARM", "by hand")
        await kit.alarms.history()
        own = await kit.overview()
        async with streamkit.open(f"{tmp_path}?mode=ro", clock=clock) as looking:
            seen = await looking.overview()
        assert (seen.queues, seen.tables) == (own.queues, own.tables)
        assert [(stream.shards, stream.consumers) for stream in seen.streams] == [
            (stream.shards, stream.consumers) for stream in own.streams
        ]
        assert [(alarm.name, alarm.state, alarm.reason) for alarm in seen.alarms] == [("too-many", "ALARM", "by hand")]
        assert seen.owner == "looking on"


async def test_it_goes_through_json(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        await _fill(kit, clock)
        seen = await kit.overview()
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Overview) == seen


async def test_as_text_it_is_a_table_of_each(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        await _fill(kit, clock)
        text = repr(await kit.overview())
    assert text.splitlines()[0] == "memory: (this process; 1 dead letter, no alarms)"
    assert re.search(r"\n  orders +2 +10 .* for ever +billing +\d+ ", text)
    assert re.search(r"\n  letters +1 +0 +0 +5\.0 s +dead letters of mails", text)
    assert re.search(r"\n  mails +2 +1 +1 +5\.0 s +after 2 receives to letters", text)
    assert "streamkit-leases" not in text


async def test_a_name_tells_the_terminal_nothing(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        kit.start(alarm("\x1b[2Jbad\nname"))
        text = repr(await kit.overview())
    assert "\x1b" not in text
    assert " [2Jbad name" in text


async def test_a_kit_that_is_closed_shows_nothing() -> None:
    async with streamkit.open("memory:") as kit:
        await kit.create_stream("orders")
    with pytest.raises(ClosedError):
        await kit.overview()

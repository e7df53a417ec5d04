"""Everything that users hold shows itself in a notebook: at once, without I/O, and harmlessly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import pytest

import streamkit
from streamkit import (
    Alarm,
    EventSourceMapping,
    Item,
    Kit,
    Metric,
    RedrivePolicy,
    Retry,
    Service,
    Stop,
)
from streamkit.alarms.composite import CompositeAlarm
from streamkit.tables.index import Index
from streamkit.testing.clock import ManualClock

HOSTILE = "<script>alert('1')</script>"


def shown(thing: Any) -> str:
    """What a notebook has of it as text; every tag is closed, and nothing in it is a script."""
    html: str = thing._repr_html_()
    parsed = ElementTree.fromstring(f"<all>{html}</all>")
    assert not [each for each in parsed.iter() if each.tag == "script"]
    for style in parsed.iter("style"):
        style.text = ""
    return " ".join(" ".join(parsed.itertext()).split())


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


@pytest.fixture
async def used(kit: Kit, clock: ManualClock) -> Kit:
    """With one of everything, and something in it."""
    orders = await kit.create_stream("orders", shards=2)
    await kit.create_queue("dead")
    jobs = await kit.create_queue("jobs", redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=1))
    big = await kit.create_table(
        "big", partition_key="customer", indexes=[Index("by-total", "total")], ttl="expires", exist_ok=True
    )
    await orders.put_batch([(f"<b>{n}", {"total": n, "note": HOSTILE}) for n in range(1500)])
    await big.put({"customer": HOSTILE, "total": 5})
    for _ in range(3):
        await clock.advance(2)
        await jobs.send({"note": HOSTILE})
        await orders.put({"total": 1}, partition_key="a")
        await kit.metrics.sample()
    return kit


class Cut:
    """An engine that cannot be asked anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked of the engine")


def cut(handle: Any) -> Any:
    handle._store = Cut()
    return handle


async def test_handles_show_themselves_without_asking_the_engine(used: Kit) -> None:
    text = shown(cut(used.stream("orders")))
    assert text.startswith("Stream orders values JSON put since the kit was opened 1,503 records, ")
    assert "records in 1 s" in text
    text = shown(cut(used.queue("jobs", type=bytes)))
    assert text.startswith("Queue jobs values bytes sent 3")
    assert "visible messages" in text
    text = shown(cut(used.table("big")))
    assert text.startswith("Table big key customer items written 1")


async def test_handles_of_what_is_not_there(kit: Kit) -> None:
    assert "Stream no stream can be called so/ü" in shown(kit.stream("no stream can be called so/ü"))
    assert "Queue nothing" in shown(kit.queue("nothing"))
    assert HOSTILE in shown(kit.stream(HOSTILE))
    assert "not entered" in shown(kit.stream("ü").consumer("billing"))


async def test_records_and_batches(used: Kit) -> None:
    stream = used.stream("orders")
    record = (await stream.head(1))[0]
    text = shown(record)
    assert text.startswith("Record <b>")
    assert f"shard {record.shard_id} sequence number {record.sequence_number}" in text
    assert f"note {HOSTILE}" in text
    await stream.put({"year": 2013}, partition_key="k")
    assert "year 2013" in shown((await stream.tail(1))[0])
    async with stream.consumer("billing") as consumer:
        async for batch in consumer.batches():
            text = shown(batch)
            assert text.startswith(f"Batch {batch.shard_id} records 500 millis behind latest ")
            assert "and 400 more" in text
            break
        assert shown(consumer).startswith("Consumer billing stream orders reading records behind 1,504")
    assert "left" in shown(consumer)
    assert "not entered" in shown(stream.consumer("other"))
    assert shown(await stream.lag("billing")).startswith("Lag of consumer billing stream orders 1,504 records behind")


async def test_descriptions(used: Kit) -> None:
    text = shown(await used.stream("orders").describe())
    assert text.startswith("Stream orders records 1,503 open shards 2 mode PROVISIONED kept 24 h created ")
    assert "50.0%" in text
    text = shown(await used.queue("jobs").describe())
    assert text.startswith("Queue jobs visible 3 in flight 0 delayed 0 oldest ")
    assert text.endswith("kept 4 d dead letters to dead after 1 receives")
    text = shown(await used.table("big").describe())
    assert "by-total total GLOBAL ALL ready" in text
    assert "expires by expires" in text


async def test_messages_and_items(used: Kit) -> None:
    jobs = used.queue("jobs")
    found = await jobs.peek()
    assert found == [found[0], found[1], found[2]]
    assert shown(found).startswith("Messages jobs messages 3")
    assert HOSTILE in shown(found)
    assert found.to_polars().columns == ["sent", "message_id", "receive_count", "note"]
    await jobs.send("no object", group_id="tenant", attributes={"kind": HOSTILE})
    mixed = await jobs.peek()
    assert mixed.to_polars()["value"].to_list()[-1] == '"no object"'
    assert mixed.to_polars()["group_id"].to_list() == [None, None, None, "tenant"]
    text = shown(mixed[3])
    assert text.startswith(f"Message {mixed[3].message_id} sent ")
    assert f"kind {HOSTILE}" in text
    assert "DecodeError" not in shown((await used.queue("jobs", type=int).peek())[0])
    assert "stored bytes are not a int" in shown((await used.queue("jobs", type=int).peek())[0])
    assert "error" in (await used.queue("jobs", type=int).peek()).to_polars().columns
    page = await used.table("big").scan_page()
    assert shown(page).startswith("Page items 1 looked at 1")
    assert page.to_polars().rows() == [(HOSTILE, 5)]


async def test_services(used: Kit, clock: ManualClock) -> None:
    jobs, dead = used.queue("jobs"), used.queue("dead")

    async def refuse(job: Item) -> None:
        raise LookupError("no")

    worker = used.start(jobs.worker(refuse, retry=Retry(first=0.1, longest=0.1)))
    mapping = used.start(
        EventSourceMapping("keep", source=used.stream("orders"), sink=dead, function=None, batch_size=500)
    )
    await mapping.wait_caught_up()
    while worker.failed < 3:
        await clock.advance(1)
    text = shown(worker)
    assert text.startswith("Worker worker:jobs queue jobs handled 0 failed 3 in hand 0")
    text = shown(mapping)
    assert text.startswith("Event source mapping keep Enabled from orders to dead polled 1,503 filtered out 0")
    assert mapping.metric("IteratorAge") == Metric.of("AWS/Lambda", "IteratorAge", EventSourceMappingUUID="keep")
    await used.stop(mapping)
    assert "Disabled" in shown(mapping)
    await used.stop(worker)
    assert "ended" in shown(worker)
    task = used.start(dead.move_task(to="jobs"))
    assert "CREATED" in shown(task)
    await task.wait_ended()
    assert shown(task).startswith("Move task from dead COMPLETED moved 1,5")


class Failing:
    name = f"failing {HOSTILE}"

    async def run(self, stop: Stop) -> None:
        raise LookupError("it is gone")


async def test_a_kit_its_health_and_its_alarms(used: Kit, clock: ManualClock) -> None:
    service: Service = Failing()
    alarm = used.start(
        Alarm(
            "many-jobs",
            metric=used.queue("jobs").metric("ApproximateNumberOfMessagesVisible"),
            statistic="Maximum",
            period=10,
            threshold=2,
            comparison="GreaterThanThreshold",
        )
    )
    site = used.start(CompositeAlarm("site", rule="ALARM(many-jobs)"))
    assert await alarm.evaluate_now() == "ALARM"
    await clock.advance(5)
    text = shown(alarm)
    assert text.startswith("Alarm many-jobs ALARM since ")
    assert "is in ALARM" in text
    assert "threshold 2" in text
    assert "INSUFFICIENT_DATA" in text
    assert shown(site).startswith("Composite alarm site ")
    text = shown(used.alarms)
    assert "many-jobs ALARM" in text
    history = await used.alarms.history("many-jobs")
    assert shown(history).startswith("Alarm history many-jobs items 2 ALARM for ")
    text = shown(used)
    assert text.startswith("Kit memory: open durability memory")
    assert "many-jobs ALARM" in text
    used.start(service)
    while service.name not in used.health().errors:
        await clock.advance(0.1)
    text = shown(used.health())
    assert text.startswith("Health not healthy service state error")
    assert f"{service.name} failed LookupError: it is gone" in text
    text = shown(await used.overview())
    assert text.startswith("Kit memory: durability memory dead letters none alarms ")
    assert "1 stream stream shards" in text
    assert "2 queues queue visible" in text
    assert f"services that failed service error {service.name} LookupError" in text
    with pytest.raises(streamkit.errors.ServiceFailedError):
        await used.close()
    assert shown(used).startswith("Kit memory: closed")


async def test_opening_that_was_not_awaited_says_so() -> None:
    assert repr(streamkit.open("memory:")) == (
        "open('memory:') has not begun: `kit = await streamkit.open(...)`, or `async with` it"
    )

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import (
    Alarm,
    AlreadyExistsError,
    Check,
    EventSourceMapping,
    Kit,
    NotFoundError,
    Put,
    RedrivePolicy,
    Stop,
    TransactionCanceledError,
    ValidationError,
    attribute,
)
from streamkit.errors import ClosedError, ServiceFailedError
from streamkit.metrics.metric import Metric
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


class Waits:
    """A service that waits until it is stopped."""

    def __init__(self, name: str = "waits") -> None:
        self.name = name
        self.finished = False

    async def run(self, stop: Stop) -> None:
        with stop.interruptible():
            await asyncio.Event().wait()
        self.finished = True


class Fails:
    def __init__(self, name: str = "fails") -> None:
        self.name = name

    async def run(self, stop: Stop) -> None:
        raise LookupError(f"{self.name} had nothing to look at")


class Stubborn:
    """A service that does not stop when it is asked."""

    name = "stubborn"
    cancelled = False

    async def run(self, stop: Stop) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


# ---- opening


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "pass 'memory:', or a directory"),
        ("redis://localhost", "is of an unknown kind: use 'memory:', 'file:PATH' or a path"),
        ("file:", "names no directory"),
    ],
)
async def test_what_cannot_be_opened_is_said(url: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        await streamkit.open(url)


async def test_durability_is_one_of_three() -> None:
    with pytest.raises(ValidationError, match="durability is 'fsync', 'interval' or 'memory'"):
        await streamkit.open("memory:", durability="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "file:"])
async def test_a_directory_keeps_everything(tmp_path: Path, prefix: str) -> None:
    url = f"{prefix}{tmp_path / 'new' / 'data'}"
    async with streamkit.open(url) as kit:
        stream = await kit.create_stream("orders", shards=2)
        await stream.put({"n": 1}, partition_key="a")
        queue = await kit.create_queue("jobs")
        await queue.send({"n": 2})
        table = await kit.create_table("items", partition_key="id")
        await table.put({"id": "x", "n": 3})
        assert kit.durability == "fsync"
    async with streamkit.open(tmp_path / "new" / "data", durability="interval") as kit:
        assert await kit.streams() == ["orders"]
        assert await kit.queues() == ["jobs"]
        assert await kit.tables() == ["items"]
        assert [record.value async for record in kit.stream("orders").records()] == [{"n": 1}]
        assert [message.value for message in await kit.queue("jobs").receive()] == [{"n": 2}]
        assert await kit.table("items").get("x") == {"id": "x", "n": 3}
        assert kit.durability == "interval"


async def test_a_second_kit_on_a_directory_is_told_who_has_it(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data"):
        with pytest.raises(streamkit.errors.DirectoryInUseError, match=r"this process \(pid \d+\), in another kit"):
            await streamkit.open(tmp_path / "data")


# ---- creating


async def test_exist_ok(kit: Kit) -> None:
    await kit.create_stream("orders")
    with pytest.raises(AlreadyExistsError, match="pass exist_ok=True"):
        await kit.create_stream("orders")
    await kit.create_stream("orders", exist_ok=True)
    await kit.create_queue("jobs", visibility_timeout=10)
    await kit.create_queue("jobs", visibility_timeout=10, exist_ok=True)
    with pytest.raises(AlreadyExistsError, match="with another visibility_timeout"):
        await kit.create_queue("jobs", visibility_timeout=20, exist_ok=True)
    await kit.create_table("items", partition_key="id")
    await kit.create_table("items", partition_key="id", exist_ok=True)
    with pytest.raises(AlreadyExistsError, match="with another key"):
        await kit.create_table("items", partition_key="name", exist_ok=True)


async def test_a_dead_letter_queue_must_be_there(kit: Kit) -> None:
    with pytest.raises(NotFoundError, match="queue 'dead' does not exist: create it"):
        await kit.create_queue("jobs", redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=3))


async def test_deleting(kit: Kit) -> None:
    await kit.create_stream("orders")
    await kit.create_queue("jobs")
    await kit.create_table("items", partition_key="id")
    await kit.delete_stream("orders")
    await kit.delete_queue("jobs")
    await kit.delete_table("items")
    assert (await kit.streams(), await kit.queues(), await kit.tables()) == ([], [], [])
    with pytest.raises(NotFoundError, match="table 'items' does not exist"):
        kit.table("items")


async def test_write_is_atomic_over_tables(kit: Kit) -> None:
    left = await kit.create_table("left", partition_key="id")
    await kit.create_table("right", partition_key="id")
    with pytest.raises(TransactionCanceledError) as refused:
        await kit.write(Put({"id": 1}, table="left"), Check({"id": 1}, attribute("id").exists(), table="right"))
    assert refused.value.reasons == ["None", "ConditionalCheckFailed"]
    assert await left.get(1) is None
    await kit.write(Put({"id": 1}, table="left"), Put({"id": 1}, table="right"))
    assert await left.get(1) == {"id": 1}


# ---- services


async def test_a_service_is_asked_to_finish_when_the_kit_closes(clock: ManualClock) -> None:
    service = Waits()
    async with streamkit.open("memory:", clock=clock) as kit:
        assert kit.start(service) is service
        await asyncio.sleep(0)
        assert kit.health().services == {"waits": "running"}
    assert service.finished


async def test_services_outlive_the_code_that_started_them(kit: Kit) -> None:
    service = Waits()

    async def cell() -> None:
        kit.start(service)

    await asyncio.create_task(cell())
    await clock_settle()
    assert kit.health().services == {"waits": "running"}
    await kit.stop(service)
    assert service.finished
    assert kit.health().services == {"waits": "stopped"}


async def test_a_failing_service_stops_only_itself(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    waits = Waits()
    kit = await streamkit.open("memory:", clock=clock)
    kit.start(waits)
    kit.start(Fails())
    await clock_settle()
    health = kit.health()
    assert not health.healthy
    assert health.services == {"waits": "running", "fails": "failed"}
    assert health.errors == {"fails": "LookupError: fails had nothing to look at"}
    total = kit.metrics.total(Metric.of("streamkit", "ServiceFailures", Service="fails"))
    assert total is not None
    assert total.sum == 1
    assert "service fails failed" in caplog.text
    with pytest.raises(ServiceFailedError, match="service 'fails' failed: LookupError") as failed:
        await kit.close()
    assert isinstance(failed.value.__cause__, LookupError)
    assert waits.finished


async def test_several_failures_come_as_a_group(clock: ManualClock) -> None:
    kit = await streamkit.open("memory:", clock=clock)
    kit.start(Fails("one"))
    kit.start(Fails("two"))
    await clock_settle()
    with pytest.raises(ExceptionGroup) as failed:
        await kit.close()
    assert [str(error).split(" failed")[0] for error in failed.value.exceptions] == ["service 'one'", "service 'two'"]


async def test_a_failure_does_not_mask_what_leaves_the_block(clock: ManualClock) -> None:
    async def block() -> None:
        async with streamkit.open("memory:", clock=clock) as kit:
            kit.start(Fails())
            await clock_settle()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()


async def test_a_service_that_does_not_stop_is_cancelled_after_the_grace_period(clock: ManualClock) -> None:
    service = Stubborn()
    kit = await streamkit.open("memory:", clock=clock)
    kit.start(service)
    await clock_settle()
    closing = asyncio.create_task(kit.close())
    await clock.advance(4.9)
    assert not closing.done()
    await clock.advance(0.2)
    await closing
    assert service.cancelled


async def test_closing_is_complete_even_if_it_is_cancelled(clock: ManualClock, tmp_path: Path) -> None:
    kit = await streamkit.open(tmp_path / "data", clock=clock)
    kit.start(Stubborn())
    await clock_settle()
    closing = asyncio.create_task(kit.close())
    await clock_settle()
    closing.cancel()
    await clock.advance(6)
    await asyncio.wait([closing])
    async with streamkit.open(tmp_path / "data", clock=clock) as again:
        assert await again.streams() == []


async def test_two_services_of_one_name_are_refused(kit: Kit) -> None:
    kit.start(Waits())
    with pytest.raises(ValidationError, match="a service named 'waits' is running already"):
        kit.start(Waits())
    await clock_settle()
    await kit.stop("waits")
    kit.start(Waits())


async def test_what_does_not_run_cannot_be_started(kit: Kit) -> None:
    with pytest.raises(ValidationError, match="is nothing that runs"):
        kit.start("orders")  # type: ignore[call-overload]
    with pytest.raises(ValidationError, match="only an Alarm has actions"):
        kit.start(Waits(), on_alarm=print)  # type: ignore[call-overload]
    with pytest.raises(ValidationError, match="no service named 'gone' was started"):
        await kit.stop("gone")


async def test_an_alarm_shows_in_health_and_its_actions_run(kit: Kit, clock: ManualClock) -> None:
    metric = Metric.of("shop", "Errors")
    changes: list[Any] = []
    alarm = kit.start(
        Alarm("errors", metric=metric, statistic="Sum", period=60, threshold=2, comparison="GreaterThanThreshold"),
        on_alarm=changes.append,
        on_ok=changes.append,
    )
    await clock_settle()
    assert kit.health().alarms == {"errors": "INSUFFICIENT_DATA"}
    kit.metrics.put(metric, 3, clock.now_ms())
    await clock.advance(61)
    assert alarm.state == "ALARM"
    assert kit.health().alarms == {"errors": "ALARM"}
    assert not kit.health().healthy
    assert [change.state for change in changes] == ["ALARM"]


async def test_a_mapping_is_started_and_stopped(kit: Kit) -> None:
    orders = await kit.create_stream("orders")
    table = await kit.create_table("items", partition_key="id")
    mapping = kit.start(EventSourceMapping("copy", source=orders, sink=table))
    await orders.put({"id": 1}, partition_key="a")
    await mapping.wait_caught_up()
    assert await table.get(1) == {"id": 1}
    await kit.stop(mapping)
    await orders.put({"id": 2}, partition_key="a")
    again = kit.start(EventSourceMapping("copy", source=orders, sink=table))
    await again.wait_caught_up()
    assert await table.get(2) == {"id": 2}
    assert again.counts.polled == 1


# ---- closed


async def test_a_closed_kit_says_so(clock: ManualClock) -> None:
    kit = await streamkit.open("memory:", clock=clock)
    stream = await kit.create_stream("orders")
    await kit.close()
    assert repr(kit) == "Kit('memory:', durability='memory', closed)"
    with pytest.raises(ClosedError, match="the kit is closed: open it again"):
        await kit.create_stream("more")
    with pytest.raises(ClosedError):
        await stream.put({}, partition_key="a")
    with pytest.raises(ClosedError):
        kit.start(Waits())


async def clock_settle() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import NoneType
from typing import Any

import anyio
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
    StorageError,
    TransactionCanceledError,
    ValidationError,
    attribute,
)
from streamkit.alarms.transition import AlarmTransition
from streamkit.engines.embedded.tables import EmbeddedTables
from streamkit.errors import ClosedError, EncodeError, ServiceFailedError
from streamkit.metrics.metric import Metric
from streamkit.tables.idempotency import TOKENS
from streamkit.tables.store import TableDescription
from streamkit.tables.transact_get import Get
from streamkit.testing.cancellation import cancel_at_every_step
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
        (":memory:", "is of an unknown kind: use 'memory:'"),
        ("da\0ta", "pass 'memory:', or a directory"),
        (b"data", "pass 'memory:', or a directory"),
        (None, "pass 'memory:', or a directory"),
        (3, "pass 'memory:', or a directory"),
    ],
)
async def test_what_cannot_be_opened_is_said(
    url: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match=says):
        await streamkit.open(url)
    assert os.listdir() == []


@pytest.mark.parametrize("name", ["memory:", "12:30", "redis:"])
async def test_a_path_object_is_a_path_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with streamkit.open(Path(name)) as kit:
        assert kit.url == str(tmp_path / name)


async def test_two_slashes_name_a_host(tmp_path: Path) -> None:
    """As a path, file://tmp/data would be /tmp/data, which nobody means who writes it."""
    with pytest.raises(ValidationError, match=r"names a host: use 'file:\./data'"):
        await streamkit.open(f"file:/{tmp_path}/data")
    assert os.listdir(tmp_path) == []


async def test_three_slashes_are_an_absolute_path(tmp_path: Path) -> None:
    async with streamkit.open((tmp_path / "data").as_uri()) as kit:
        assert kit.url == str(tmp_path / "data")


async def test_what_fails_to_open_lets_go_of_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreadable(self: object, names: object = None) -> list[TableDescription]:
        raise StorageError("cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedTables, "describe_tables", unreadable)
        with pytest.raises(StorageError, match="cannot be read"):
            await streamkit.open(tmp_path / "data")
    async with streamkit.open(tmp_path / "data") as kit:
        assert await kit.tables() == []


async def test_a_cancelled_opening_lets_go_of_its_directory(tmp_path: Path) -> None:
    async def open_and_close() -> None:
        async with streamkit.open(tmp_path / "data"):
            pass

    async def can_be_opened() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            assert await kit.streams() == []

    assert await cancel_at_every_step(open_and_close, can_be_opened) > 0
    for turns in range(10):
        opening = asyncio.create_task(open_and_close())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        await can_be_opened()


async def test_a_cancelled_opening_that_fails_is_cancelled(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data"):
        opening = asyncio.create_task(streamkit.open(tmp_path / "data").__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()


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
        assert await kit.tables() == ["items", "streamkit-metrics"]
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


async def test_a_type_that_cannot_be_stored_creates_nothing(kit: Kit) -> None:
    no_type: Any = 5
    with pytest.raises(EncodeError, match="type=5 cannot be stored as JSON"):
        await kit.create_stream("orders", type=no_type)
    with pytest.raises(EncodeError, match="type=5 cannot be stored as JSON"):
        await kit.create_queue("jobs", type=no_type)
    assert (await kit.streams(), await kit.queues()) == ([], [])


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


async def test_a_kit_lets_tokens_of_writes_expire(kit: Kit, clock: ManualClock) -> None:
    """From the first write with one on, and not twice."""
    await kit.create_table("left", partition_key="id")
    for number in range(3):
        await kit.write(Put({"id": number}, table="left"), client_request_token=f"{number}")
    assert await kit.get(Get({"id": 2}, "left"), Get({"id": 7}, "left")) == [{"id": 2}, None]
    keeping = [name for name in kit.health().services if TOKENS.name in name]
    assert len(keeping) == 1
    await clock.advance(700)
    async with asyncio.timeout(10):
        while (await kit.engine.tables.scan(TOKENS.name)).items:
            await clock.advance(60)


async def test_the_table_of_tokens_is_a_table_like_others(kit: Kit) -> None:
    """From the first write with one on, also where it was deleted in between."""
    await kit.create_table("left", partition_key="id")
    for token in ("one", "two"):
        await kit.write(Put({"id": 1}, table="left"), client_request_token=token)
        found = await kit.table(TOKENS.name).get(token)
        assert found is not None
        assert found["token"] == token
        await kit.delete_table(TOKENS.name)


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


@pytest.mark.parametrize("name", ["überwachung", " ", "x" * 2000])
async def test_counting_the_failure_of_a_service_of_any_name_is_no_failure_of_others(
    clock: ManualClock, name: str
) -> None:
    """Not every name can be a metric's dimension."""
    waits = Waits()
    kit = await streamkit.open("memory:", clock=clock)
    kit.start(waits)
    kit.start(Fails(name))
    await clock_settle()
    assert kit.health().services == {"waits": "running", name: "failed"}
    total = kit.metrics.total(Metric.of("streamkit", "ServiceFailures"))
    assert total is not None
    assert total.sum == 1
    with pytest.raises(ServiceFailedError):
        await kit.close()
    assert waits.finished


async def test_a_service_that_nobody_cancelled_has_failed(clock: ManualClock) -> None:
    class AwaitsWhatIsCancelled:
        name = "awaits"

        async def run(self, stop: Stop) -> None:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

    waits = Waits()
    kit = await streamkit.open("memory:", clock=clock)
    kit.start(waits)
    kit.start(AwaitsWhatIsCancelled())
    await clock_settle()
    assert kit.health().services == {"waits": "running", "awaits": "failed"}
    with pytest.raises(ServiceFailedError, match="service 'awaits' failed: CancelledError"):
        await kit.close()


async def test_starting_it_again_forgets_a_failure(kit: Kit) -> None:
    kit.start(Fails("jobs"))
    await clock_settle()
    assert not kit.health().healthy
    kit.start(Waits("jobs"))
    await clock_settle()
    assert kit.health().healthy
    await kit.close()


async def test_services_start_again_after_every_task_was_cancelled(kit: Kit) -> None:
    kit.start(Waits("one"))
    await clock_settle()
    (supervisor,) = (task for task in asyncio.all_tasks() if task.get_name() == "streamkit supervisor")
    supervisor.cancel()
    await asyncio.wait([supervisor])
    assert kit.health().services == {"one": "stopped"}
    second = Waits("two")
    kit.start(second)
    await clock_settle()
    await kit.stop(second)
    assert second.finished


async def test_a_handle_stops_only_its_own_service(kit: Kit) -> None:
    first, second = Waits(), Waits()
    kit.start(first)
    await clock_settle()
    await kit.stop(first)
    kit.start(second)
    await clock_settle()
    with pytest.raises(ValidationError, match="'waits' is the name of another service here"):
        await kit.stop(first)
    assert kit.health().services == {"waits": "running"}


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
    assert closing.cancelled()
    async with streamkit.open(tmp_path / "data", clock=clock) as again:
        assert await again.streams() == []


async def test_closing_within_a_cancelled_scope(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the services as long as ever, and sleeps meanwhile although a scope cancels again and again."""
    release = asyncio.Event()
    waits: list[object] = []
    wait = asyncio.wait

    class Finishes:
        name = "finishes"

        async def run(self, stop: Stop) -> None:
            await release.wait()

    async def counted(tasks: list[asyncio.Task[None]]) -> object:
        waits.append(tasks)
        return await wait(tasks)

    async def block() -> None:
        with anyio.CancelScope() as scope:
            async with streamkit.open(tmp_path / "data", clock=clock) as kit:
                kit.start(Finishes())
                opened.set()
                scope.cancel()
                await asyncio.Event().wait()
        assert scope.cancelled_caught

    opened = asyncio.Event()
    closing = asyncio.create_task(block())
    await opened.wait()
    monkeypatch.setattr(asyncio, "wait", counted)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not closing.done()
    assert len(waits) <= 2
    monkeypatch.undo()
    release.set()
    await closing
    async with streamkit.open(tmp_path / "data", clock=clock) as again:
        assert await again.streams() == []


async def test_a_failure_that_a_cancelled_close_could_not_raise_is_raised_by_the_next(clock: ManualClock) -> None:
    kit = await streamkit.open("memory:", clock=clock)
    kit.start(Fails())
    await clock_settle()
    closing = asyncio.create_task(kit.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    with pytest.raises(ServiceFailedError, match="service 'fails' failed"):
        await kit.close()
    await kit.close()


async def test_of_two_who_close_both_wait_and_one_is_told(clock: ManualClock, tmp_path: Path) -> None:
    kit = await streamkit.open(tmp_path / "data", clock=clock)
    kit.start(Stubborn())
    kit.start(Fails())
    await clock_settle()
    closings = [asyncio.create_task(kit.close()) for _ in range(2)]
    await clock.advance(4.9)
    assert not any(closing.done() for closing in closings)
    await clock.advance(0.2)
    told = await asyncio.gather(*closings, return_exceptions=True)
    assert [type(error) for error in told] == [ServiceFailedError, NoneType]


async def test_an_engine_that_cannot_close_is_raised_and_masks_nothing(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def disk_full() -> None:
        raise StorageError("no room for the last snapshot")

    async def block(error: BaseException | None) -> None:
        async with streamkit.open("memory:", clock=clock) as kit:
            kit.engine.aclose = disk_full  # type: ignore[method-assign]
            if error is not None:
                raise error

    with pytest.raises(StorageError, match="no room"):
        await block(None)
    caplog.clear()
    with pytest.raises(ZeroDivisionError):
        await block(ZeroDivisionError())
    assert "no room for the last snapshot" in caplog.text


async def test_a_thread_that_hangs_does_not_keep_the_kit_open(clock: ManualClock) -> None:
    entered, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang(value: object) -> None:
        loop.call_soon_threadsafe(entered.set)
        release.wait()

    kit = await streamkit.open("memory:", clock=clock)
    queue = await kit.create_queue("jobs")
    await queue.send(1)
    kit.start(queue.worker(hang))
    try:
        await entered.wait()
        closing = asyncio.create_task(kit.close())
        await clock.advance(9.9)
        assert not closing.done()
        await clock.advance(0.2)
        with pytest.raises(ServiceFailedError, match=r"worker:jobs.*did not end within 5 s of its cancellation"):
            await closing
        await kit.stop("worker:jobs")  # It has ended as far as the kit is concerned: this does not hang.
    finally:
        release.set()
        await asyncio.wait([task for task in asyncio.all_tasks() if task.get_name() == "streamkit supervisor"])


async def test_services_can_use_the_kit_while_they_finish(clock: ManualClock) -> None:
    class Finishes:
        name = "finishes"

        async def run(self, stop: Stop) -> None:
            with stop.interruptible():
                await asyncio.Event().wait()
            await kit.write(Put({"id": 1}, table="items"))
            await kit.queue("jobs").send(await kit.table("items").get(1))
            with pytest.raises(ClosedError):
                kit.start(Waits())
            done.append((await kit.queue("jobs").describe()).visible)

    done: list[int] = []
    kit = await streamkit.open("memory:", clock=clock)
    await kit.create_table("items", partition_key="id")
    await kit.create_queue("jobs")
    kit.start(Finishes())
    await clock_settle()
    await kit.close()
    assert done == [1]


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
    kit.metrics.put(metric, 3)
    await clock.advance(61)
    assert alarm.state == "ALARM"
    assert kit.health().alarms == {"errors": "ALARM"}
    assert not kit.health().healthy
    assert [change.state for change in changes] == ["ALARM"]
    # Nobody looks at it any more, so nobody knows whether it still is in ALARM.
    await kit.stop(alarm)
    assert kit.health().alarms == {}
    assert kit.health().healthy


async def test_stopping_an_alarm_finishes_its_action(kit: Kit, clock: ManualClock) -> None:
    metric = Metric.of("shop", "Errors")
    paging, answer = asyncio.Event(), asyncio.Event()
    paged: list[str] = []

    async def page(change: AlarmTransition) -> None:
        paging.set()
        await answer.wait()
        paged.append(change.alarm)

    alarm = kit.start(
        Alarm("errors", metric=metric, statistic="Sum", period=60, threshold=2, comparison="GreaterThanThreshold"),
        on_alarm=page,
    )
    kit.metrics.put(metric, 3)
    await clock.advance(61)
    assert paging.is_set()
    stopping = asyncio.create_task(kit.stop(alarm))
    await clock_settle()
    assert not stopping.done()
    answer.set()
    await stopping
    assert paged == ["errors"]


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
    assert not kit.health().healthy
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

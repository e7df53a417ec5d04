"""kit.drain(): all is consumed, time goes as far as it must, and what really takes time is waited for."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamkit.testing
from streamkit import Batch, EventSourceMapping, Message, RedrivePolicy, Retry, Stop, StorageError, each
from streamkit.dashboard import dashboard
from streamkit.errors import ClosedError, ServiceFailedError, ValidationError
from streamkit.recording import replay
from streamkit.testing import NotDrainedError, TrialKit

EXACT = Retry(first=2.0, factor=2.0, jitter=False)


@pytest.fixture
async def kit() -> AsyncIterator[TrialKit]:
    async with streamkit.testing.open("memory:") as kit:
        yield kit


class Passed:
    """How many seconds of the clock have passed."""

    def __init__(self, kit: TrialKit) -> None:
        self._kit = kit
        self._began_ms = kit.clock.now_ms()

    @property
    def seconds(self) -> float:
        return (self._kit.clock.now_ms() - self._began_ms) / 1000


async def test_everything_that_one_put_sets_off(kit: TrialKit) -> None:
    """A stream, a mapping into a queue, a worker that puts into another, a mapping into a table; no time passes."""
    first, second = await kit.create_stream("first", shards=2), await kit.create_stream("second")
    jobs = await kit.create_queue("jobs")
    table = await kit.create_table("out", partition_key="id")

    async def work(value: int) -> None:
        await second.put({"id": value}, partition_key="k")

    kit.start(EventSourceMapping("one", source=first, sink=jobs))
    kit.start(EventSourceMapping("two", source=second, sink=table))
    kit.start(jobs.worker(work))
    await first.put_batch([(f"k{n}", n) for n in range(700)])
    passed = Passed(kit)
    await kit.drain()
    assert [await table.get(n) for n in (0, 699)] == [{"id": 0}, {"id": 699}]
    assert passed.seconds == 0


async def test_time_goes_no_further_than_it_must(kit: TrialKit) -> None:
    """Delays, visibility timeouts, back-offs and batching windows, each to the millisecond."""
    dead = await kit.create_queue("dead")
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=2)
    jobs = await kit.create_queue("jobs", redrive_policy=policy, visibility_timeout=50)
    seen: list[tuple[float, int]] = []
    passed = Passed(kit)

    async def work(value: int) -> None:
        seen.append((passed.seconds, value))
        if value == 3:
            raise ValueError(value)

    await jobs.send(1)
    (held,) = await jobs.receive()
    kit.start(jobs.worker(work, retry=EXACT))
    await jobs.send(2, delay=10)
    await jobs.send(3)
    await kit.drain()
    assert seen == [(0, 3), (2, 3), (10, 2), (50, 1)]
    assert held.value == 1
    assert (await dead.describe()).visible == 1, "nobody who was started reads it"

    orders = await kit.create_stream("orders")
    calls: list[tuple[float, list[int]]] = []
    passed = Passed(kit)

    async def twice(batch: Batch[int]) -> None:
        calls.append((passed.seconds, list(batch.values)))
        if len(calls) < 3:
            raise ValueError

    kit.start(EventSourceMapping("m", source=orders, function=twice, batch_window=20, retry=EXACT))
    await orders.put_batch([("k", 1), ("k", 2)])
    await kit.drain()
    assert calls == [(20, [1, 2]), (22, [1, 2]), (26, [1, 2])]
    await kit.drain()
    assert passed.seconds == 26


async def test_a_mapping_of_a_queue_and_a_move_task_at_its_rate(kit: TrialKit) -> None:
    await kit.create_queue("dead")
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    jobs = await kit.create_queue("jobs", redrive_policy=policy, visibility_timeout=30)
    broken = True

    @each
    async def work(message: Message[int]) -> None:
        if broken:
            raise ValueError

    mapping = kit.start(EventSourceMapping("m", source=jobs, function=work))
    await jobs.send_batch(range(7))
    passed = Passed(kit)
    await kit.drain()
    assert (mapping.counts.written, passed.seconds) == (0, 30)
    broken = False
    task = kit.start(kit.queue("dead").move_task(rate=3))
    await kit.drain()
    assert (task.status, task.moved, passed.seconds) == ("COMPLETED", 7, 32)
    assert mapping.counts.written == 7


async def test_a_consumer_is_at_the_end_once_it_has_checkpointed(kit: TrialKit) -> None:
    orders = await kit.create_stream("orders", shards=2)
    await orders.put_batch([(f"k{n}", n) for n in range(20)])
    handled: list[int] = []

    async def handle(batch: Batch[int]) -> None:
        handled.extend(batch.values)
        if len(handled) == len(batch):
            raise ValueError

    async with orders.consumer("billing") as consumer:
        with pytest.raises(NotDrainedError, match=r"consumer billing: 20 records of stream 'orders' behind"):
            await kit.drain(within=60)
        running = asyncio.create_task(consumer.run(handle, retry=EXACT))
        await kit.drain()
        assert (await orders.lag("billing")).records == 0
        assert set(handled) == set(range(20))
        running.cancel()
        await asyncio.wait([running])
    await orders.put(1, partition_key="k")
    await kit.drain(within=0)  # Who has left is not waited for.


class Blocked:
    """Plain functions that wait in their threads until they are let go, in a while of the machine's time."""

    def __init__(self, kit: TrialKit) -> None:
        self.kit = kit
        self.spans: list[tuple[int, int]] = []
        self._go = threading.Event()

    def work(self, *arguments: Any) -> None:
        began_ms = self.kit.clock.now_ms()
        assert self._go.wait(10)
        self.spans.append((began_ms, self.kit.clock.now_ms()))

    def let_go_soon(self) -> None:
        asyncio.get_running_loop().call_later(0.03, self._go.set)


@pytest.mark.parametrize("kind", ["worker", "mapping", "mapping of a queue", "consumer", "sink"])
async def test_time_does_not_run_past_a_plain_function(kind: str, kit: TrialKit) -> None:
    """While it is in its thread; though there are timers, which are due when it is done."""
    blocked = Blocked(kit)
    orders, jobs = await kit.create_stream("orders"), await kit.create_queue("jobs")
    await orders.put(1, partition_key="k")
    await jobs.send(1)
    late = await kit.create_queue("late")
    await late.send(1, delay=5)
    kit.start(late.worker(lambda value: None))
    consumer = orders.consumer("c")
    running: asyncio.Task[None] | None = None
    if kind == "worker":
        kit.start(jobs.worker(blocked.work))
    elif kind == "mapping":
        kit.start(EventSourceMapping("m", source=orders, function=blocked.work))
    elif kind == "mapping of a queue":
        kit.start(EventSourceMapping("m", source=jobs, function=blocked.work))
    elif kind == "sink":
        kit.start(EventSourceMapping("m", source=orders, sink=blocked.work))
    else:
        await consumer.__aenter__()
        running = asyncio.create_task(consumer.run(blocked.work))
    now_ms = kit.clock.now_ms()
    blocked.let_go_soon()
    await kit.drain()
    assert blocked.spans == [(now_ms, now_ms)]
    assert kit.clock.now_ms() == now_ms + 5000
    if running is not None:
        running.cancel()
        await asyncio.wait([running])
        await consumer.__aexit__(None, None, None)


async def test_a_handler_may_wait_for_anything(kit: TrialKit) -> None:
    """For the clock, which then moves; for the machine's time and what comes from outside, while it stands still."""
    jobs = await kit.create_queue("jobs")
    outside = asyncio.Event()
    spans: list[float] = []

    async def work(what: str) -> None:
        passed = Passed(kit)
        if what == "clock":
            await kit.clock.sleep_until(kit.clock.now_ms() + 7000)
        elif what == "receive":
            assert await (await kit.create_queue("other", exist_ok=True)).receive(wait=3) == []
        elif what == "sleep":
            await asyncio.sleep(0.01)
        elif what == "thread":
            await asyncio.to_thread(threading.Event().wait, 0.01)
        else:
            asyncio.get_running_loop().call_later(0.03, outside.set)
            await outside.wait()
        spans.append(passed.seconds)

    kit.start(jobs.worker(work))
    for what in ("clock", "receive", "sleep", "thread", "outside"):
        await jobs.send(what)
    await kit.drain()
    assert spans == [7, 3, 0, 0, 0]


async def test_what_takes_too_long_is_named(kit: TrialKit) -> None:
    jobs = await kit.create_queue("jobs")
    blocked = Blocked(kit)
    kit.start(jobs.worker(blocked.work))
    await jobs.send(1)
    passed = Passed(kit)
    with pytest.raises(NotDrainedError) as caught:
        await kit.drain(patience=0.02)
    assert passed.seconds == 0
    assert str(caught.value).splitlines() == [
        "not drained: 0.02 s of the machine's time were not enough (patience=)",
        "  worker:jobs: queue 'jobs' has 0 visible, 1 in flight and 0 delayed",
        "  at work: Blocked.work in a thread",
    ]
    blocked.let_go_soon()
    await kit.drain()


async def test_what_goes_round_in_a_circle_for_ever(kit: TrialKit) -> None:
    here, there = await kit.create_stream("here"), await kit.create_stream("there")
    kit.start(EventSourceMapping("to", source=here, sink=there))
    kit.start(EventSourceMapping("fro", source=there, sink=here))
    await here.put(1, partition_key="k")
    with pytest.raises(NotDrainedError, match=r"(?s)not enough \(patience=\).*always ready: do they feed one another"):
        await kit.drain(patience=0.1)


async def test_what_always_fails_is_given_up_after_a_while_of_the_clock(kit: TrialKit) -> None:
    jobs = await kit.create_queue("jobs")

    async def work(value: object) -> None:
        raise ValueError(value)

    kit.start(jobs.worker(work))
    await jobs.send("a secret")
    passed = Passed(kit)
    with pytest.raises(AssertionError) as caught:
        await kit.drain(within=300)
    assert isinstance(caught.value, NotDrainedError)
    assert 200 < passed.seconds <= 300
    assert "300 s of the clock were not enough (within=)" in str(caught.value)
    assert "times, and there is no dead-letter queue" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert [(each.who, each.count) for each in caught.value.left] == [("worker:jobs", 1)]

    orders = await kit.create_stream("orders")
    kit.start(EventSourceMapping("m", source=orders, function=work))
    await orders.put("a secret", partition_key="k")
    await jobs.purge()
    with pytest.raises(NotDrainedError, match=r"m: 1 of Stream\('orders', .*; \d+ invocations failed") as again:
        await kit.drain(within=30)
    assert "secret" not in str(again.value)


async def test_a_service_that_failed_is_the_cause() -> None:
    async with streamkit.testing.open("memory:") as kit:
        orders = await kit.create_stream("orders")
        await kit.create_table("out", partition_key="id")
        kit.start(EventSourceMapping("m", source=orders, sink=kit.table("out")))
        await kit.drain()
        await kit.delete_table("out")
        await orders.put({"id": 1}, partition_key="k")
        with pytest.raises(NotDrainedError, match="failed with NotFoundError") as caught:
            await kit.drain()
        assert type(caught.value.__cause__).__name__ == "NotFoundError"
        with pytest.raises(ServiceFailedError):
            await kit.close()


async def test_what_is_disabled_or_stopped_is_not_waited_for(kit: TrialKit) -> None:
    orders, jobs = await kit.create_stream("orders"), await kit.create_queue("jobs")
    mapping = kit.start(EventSourceMapping("m", source=orders, sink=await kit.create_queue("out")))
    worker = kit.start(jobs.worker(lambda value: None))
    await mapping.disable()
    await kit.stop(worker)
    await orders.put(1, partition_key="k")
    await jobs.send(1)
    await kit.drain(within=0)
    await mapping.enable()
    await kit.drain(within=0)
    assert mapping.counts.polled == 1


async def test_a_service_of_ones_own_that_waits_for_ever_is_not_in_the_way(kit: TrialKit) -> None:
    class Listening:
        name = "listening"

        async def run(self, stop: Stop) -> None:
            with stop.interruptible():
                await self.wait()

        async def wait(self) -> None:
            await asyncio.get_running_loop().create_future()

    kit.start(Listening())
    jobs = await kit.create_queue("jobs")
    kit.start(jobs.worker(lambda value: None))
    await jobs.send(1, delay=1)
    await kit.drain(patience=2)


async def test_a_replay_at_its_pace_is_read_on_before_it_returns(kit: TrialKit, tmp_path: Path) -> None:
    """What is due is put and consumed, though a thread reads the file meanwhile; what is not due is not waited for."""
    lines = [{"key": "k", "value": n, "arrival_ms": 1_600_000_000_000 + 1000 * n} for n in range(2500)]
    header, end = {"streamkit_recording": 1, "stream": "orders"}, {"end": len(lines)}
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines, end)))
    orders, table = await kit.create_stream("orders"), await kit.create_table("out", partition_key="id")
    handled: list[int] = []

    async def handle(batch: Batch[int]) -> None:
        handled.extend(batch.values)

    kit.start(EventSourceMapping("m", source=orders, sink=table, function=handle))
    replaying = asyncio.create_task(replay(tmp_path / "r.jsonl", orders, speed=1))
    await kit.clock.advance(2000)
    await kit.drain(within=0)
    assert handled == list(range(2001))
    await kit.clock.advance(499)
    await kit.drain(within=0)
    assert await replaying == len(handled) == 2500


async def test_who_looks_at_a_dashboard_is_not_waited_for(kit: TrialKit) -> None:
    await kit.create_stream("s")
    began = asyncio.Event()

    async def look_for_ever() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        began.set()

    asked = {"method": "GET", "path": "/api/tail", "query_string": b"stream=s", "headers": [(b"host", b"localhost")]}
    looking = asyncio.ensure_future(dashboard(kit)({"type": "http", **asked}, look_for_ever, send))
    await began.wait()
    await kit.drain(patience=0.1)
    looking.cancel()
    await asyncio.wait([looking])


@pytest.mark.parametrize("end", ["close", "crash"])
async def test_a_kit_that_ends_under_it_is_not_drained(end: str) -> None:
    async def fail(value: int) -> None:
        raise ValueError

    async with streamkit.testing.open() as kit:
        jobs = await kit.create_queue("jobs")
        await jobs.send(1)
        kit.start(jobs.worker(fail))
        draining = asyncio.create_task(kit.drain(within=1e6))
        await asyncio.sleep(0)
        await getattr(kit, end)()
        with pytest.raises((ClosedError, StorageError)):  # Whatever it finds first.
            await draining


async def test_bad_bounds_and_a_closed_kit() -> None:
    async with streamkit.testing.open("memory:") as kit:
        for within, patience in ((-1, 1), (1, 0), (float("nan"), 1), (math.inf, 1), (1, math.inf)):
            with pytest.raises(ValidationError, match="within is 0 or more seconds"):
                await kit.drain(within=within, patience=patience)
    with pytest.raises(ClosedError):
        await kit.drain()

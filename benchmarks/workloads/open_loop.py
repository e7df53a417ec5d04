"""Waiting at a rate of arrivals that no answer slows down, at shares of what the machine can do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from benchmarks.figures import Measured
from benchmarks.measure import Chart, Figure, Figures, Lane, Latencies, Setting, Workload, percentile, rate, verify
from benchmarks.order import Check, Records, tasks_verify, verify_once
from benchmarks.pace import OpenLoop, Request, Tally, arrivals, closed_loop, real_time
from benchmarks.queue import NAME, verify_empty
from benchmarks.store import open_store
from benchmarks.stream import SYNCED, create, verify_stream
from streamkit import Kit, Stream

_RECORDS = Records(1024)
_SHARES = (20, 50, 80)
"""Per cent of the capacity."""
_CLIENTS = 256
"""That find out what the capacity is."""
_RECEIVERS = 32
_PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class _Load(Tally):
    """The requests that have reached what they were for."""

    measured: OpenLoop | None = None

    def done(self, place: int) -> None:
        """That one has."""
        if self.measured is not None:
            self.measured.done(place)
        self.add()


_Case = Callable[[Kit, _Load], AbstractAsyncContextManager[Request]]


def _over_shares(case: _Case, unit: str, verified: Callable[[Setting, int], Awaitable[None]]) -> Lane:
    async def run(setting: Setting) -> Figures:
        most = setting.sized(30_000, 100)
        count = most // 10 + most
        figures: dict[str, Measured] = {}
        load = _Load()
        with tasks_verify():
            async with open_store(setting) as kit, case(kit, load) as request:
                # The first have to wait for what is made once.
                await closed_loop(_CLIENTS, range(most // 10), request)
                await load.reaches(most // 10)
                gc.collect()
                started = time.perf_counter()
                await closed_loop(_CLIENTS, range(most // 10, count), request)
                await load.reaches(count)
                capacity = rate(most, time.perf_counter() - started, unit)
                figures["capacity"] = capacity
                with real_time() as pace:
                    for share in _SHARES:
                        schedule = arrivals(capacity.value * share / 100, most * share // 100, seed=share)
                        figures.update(await _open(OpenLoop(pace, schedule, count), load, request, share))
                        count += len(schedule)
        await verified(setting, count)
        return figures

    return Lane(run, SYNCED)


async def _open(loop: OpenLoop, load: _Load, request: Request, share: int) -> Figures:
    load.measured = loop
    gc.collect()
    await loop.run(request)
    await load.reaches(loop.first + loop.count)
    verify(len(loop.latencies) == loop.count, f"{loop.count:,} were due, and {len(loop.latencies):,} were done")
    in_order = sorted(loop.latencies)
    return {
        **{_named(name, share): Figure(percentile(in_order, at) * 1e6, "us") for name, at in _PERCENTILES.items()},
        _named("begun late, p99", share): Figure(percentile(sorted(loop.late), 0.99) * 1e6, "us"),
        f"at {share} % of the capacity": Latencies(loop.latencies),
    }


def _named(what: str, share: int) -> str:
    return f"{what}, at {share} %"


# ---- what is asked for


@contextlib.asynccontextmanager
async def _puts(kit: Kit, load: _Load) -> AsyncIterator[Request]:
    """From when a put was due until it was acknowledged."""
    stream = await create(kit)

    async def put(place: int) -> None:
        await stream.put(_RECORDS.payload(place), partition_key=_RECORDS.key(place))
        load.done(place)

    yield put


@contextlib.asynccontextmanager
async def _to_consumer(kit: Kit, load: _Load) -> AsyncIterator[Request]:
    """From when a put was due until a consumer has the record in its hand."""
    stream = await create(kit)
    check = Check(_RECORDS)

    async def consume(stream: Stream[bytes], entered: asyncio.Event) -> None:
        async with stream.consumer("waiting") as consumer:
            entered.set()
            async for batch in consumer.batches():
                for record in batch:
                    load.done(int(record.data[:20]))
                for record in batch:
                    check.see(record.partition_key, record.data)

    async def put(place: int) -> None:
        await stream.put(_RECORDS.payload(place), partition_key=_RECORDS.key(place))

    async with asyncio.TaskGroup() as tasks:
        entered = asyncio.Event()
        consuming = tasks.create_task(consume(stream, entered))
        await entered.wait()
        yield put
        consuming.cancel()
    check.end(check.seen)


@contextlib.asynccontextmanager
async def _through_queue(kit: Kit, load: _Load) -> AsyncIterator[Request]:
    """From when a send was due until the message, received by one of many who wait, was deleted."""
    queue = await kit.create_queue(NAME, type=bytes)
    received: list[bytes] = []

    async def receive() -> None:
        while True:
            messages = await queue.receive(10, wait=20)
            verify(not any(await queue.delete_batch(messages)), "a message was not deleted")
            for message in messages:
                load.done(int(message.body[:20]))
                received.append(message.body)

    async def send(place: int) -> None:
        await queue.send(_RECORDS.payload(place))

    async with asyncio.TaskGroup() as tasks:
        receiving = [tasks.create_task(receive()) for _ in range(_RECEIVERS)]
        yield send
        for each in receiving:
            each.cancel()
    verify_once(_RECORDS, received, len(received))


async def _stream_verified(setting: Setting, count: int) -> None:
    await verify_stream(setting, _RECORDS, count)


async def _queue_verified(setting: Setting, _: int) -> None:
    await verify_empty(setting)


def _workload(what: str, lane: Lane) -> Workload:
    shares = ", ".join(map(str, _SHARES))
    return Workload(
        "open_loop",
        f"{what}, 1024 B each, due at random moments: at {shares} % of the capacity",
        [lane],
        charts=[
            Chart(
                f"{what}: latency by rate of arrivals",
                "of the capacity (%)",
                {name: {share: _named(name, share) for share in _SHARES} for name in _PERCENTILES},
            )
        ],
    )


OPEN_LOOP = (
    _workload("puts", _over_shares(_puts, "records/s", _stream_verified)),
    _workload("puts until they are consumed", _over_shares(_to_consumer, "records/s", _stream_verified)),
    _workload("messages until they are deleted", _over_shares(_through_queue, "messages/s", _queue_verified)),
)

"""One worker's turns: what they cost, what they do when something fails, and cancelled anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import DiskFullError, JournalFailedError, LeaseLostError, NotFoundError
from streamkit.metrics.window import Metrics
from streamkit.streams.balance import Leasing
from streamkit.streams.consumer import Consumer
from streamkit.streams.lease_table import _WATCHERS, LeaseTable
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from tests.streams.consuming import SHARDS, MakeStream, has_nothing, held, kill, put, read


class Tables:
    """Tables that count their calls, and fail as long as they are told to."""

    def __init__(self, tables: Any) -> None:
        self._tables = tables
        self.session = tables.session
        self.calls: list[str] = []
        self.fail: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._tables, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.fail is not None and name == "write":
                raise self.fail
            return await method(*args, **kwargs)

        return call


@pytest.fixture
def tables(engine: MemoryEngine) -> Tables:
    return Tables(engine.tables)


@pytest.fixture
def worker(engine: MemoryEngine, clock: ManualClock, metrics: Metrics) -> Callable[..., Consumer[Any]]:
    def make(tables: Any) -> Consumer[Any]:
        return Consumer("billing", "orders", Codec(None), engine.streams, LeaseTable(tables), clock, metrics)

    return make


async def test_a_turn_is_one_query_and_one_write_however_many_leases_there_are(
    make_stream: MakeStream, tables: Tables, worker: Any, clock: ManualClock
) -> None:
    await make_stream(shards=100)
    async with worker(tables) as consumer:
        assert len(held(consumer)) == 100
        tables.calls.clear()
        await clock.advance(100)
        assert tables.calls == ["query", "write"] * 30


async def test_a_shard_that_is_finished_while_another_wants_it_is_not_handed_over(
    make_stream: MakeStream, tables: Tables, worker: Any, clock: ManualClock, engine: MemoryEngine
) -> None:
    """To hand it over is refused, and asking again and again would keep the loop from whoever says that it is done."""
    stream = await make_stream(shards=1)
    async with worker(tables) as consumer:
        assert held(consumer) == SHARDS[:1]
        leases = LeaseTable(engine.tables)
        (lease,) = (await leases.leases("billing", await stream.describe())).values()
        await leases.write_each([lease.wish(f"{engine.tables.session}/another")])
        await leases.checkpoint(lease, lease.checkpoint or 0, finished=True)
        tables.calls.clear()
        await clock.advance(3.4)
        assert tables.calls == ["query", "write"]


async def test_many_leases_are_renewed_by_the_hundred(
    make_stream: MakeStream, tables: Tables, worker: Any, clock: ManualClock
) -> None:
    await make_stream(shards=250)
    async with worker(tables) as consumer:
        assert len(held(consumer)) == 250
        tables.calls.clear()
        await clock.advance(3.4)
        assert tables.calls == ["query", "write", "write", "write"]


async def test_a_full_disk_is_waited_out(
    make_stream: MakeStream, tables: Tables, worker: Any, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await make_stream(shards=2)
    async with worker(tables) as consumer:
        tables.fail = DiskFullError("/data")
        with caplog.at_level(logging.WARNING, logger="streamkit.streams"):
            await clock.advance(15)
        assert "looks again later" in caplog.text
        assert vars(caplog.records[0]).items() >= {"consumer": "billing", "stream": "orders"}.items()
        await put(stream, *range(10))
        assert sorted(await read(consumer, 10, checkpoint=False)) == list(range(10))
        tables.fail = None
        await clock.advance(4)
        assert held(consumer) == SHARDS[:2]


async def test_what_cannot_be_waited_out_is_raised_to_whoever_asks_for_batches(
    make_stream: MakeStream, tables: Tables, worker: Any, clock: ManualClock
) -> None:
    stream = await make_stream(shards=2)
    async with worker(tables) as consumer:
        waiting = asyncio.ensure_future(anext(consumer.batches()))
        await clock.advance(0)
        tables.fail = JournalFailedError("journal", OSError("broken"))
        await clock.advance(4)
        with pytest.raises(JournalFailedError):
            await waiting
        # Reading goes on as far as it can.
        await put(stream, 1)
        assert await read(consumer, 1, checkpoint=False) == [1]


async def test_leases_that_cannot_be_released_are_left_to_expire(
    make_stream: MakeStream, tables: Tables, worker: Any, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await make_stream(shards=2)
    async with worker(tables):
        tables.fail = DiskFullError("/data")
        caplog.set_level(logging.WARNING, logger="streamkit.streams")
    assert "could not release" in caplog.text
    assert vars(caplog.records[0]).items() >= {"consumer": "billing", "stream": "orders"}.items()
    tables.fail = None
    async with worker(tables) as heir:
        assert held(heir) == []
        await clock.advance(10)
        assert held(heir) == SHARDS[:2]


async def test_a_closed_engine_is_left_without_a_word(
    make_stream: MakeStream, engine: MemoryEngine, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await make_stream(shards=2)
    async with worker(engine.tables):
        await engine.aclose()
    assert caplog.text == ""


async def test_entering_what_is_not_there_leaves_nothing_behind(engine: MemoryEngine, worker: Any) -> None:
    consumer = worker(engine.tables)
    with pytest.raises(NotFoundError, match="orders"):
        await consumer.__aenter__()
    await engine.streams.create_stream("orders", 1)
    async with consumer:
        assert held(consumer) == SHARDS[:1]


async def test_a_failure_while_entering_lets_go_of_what_was_taken(
    make_stream: MakeStream, engine: MemoryEngine, tables: Tables, worker: Any
) -> None:
    class Forgetful(Tables):
        async def write(self, writes: Any) -> None:
            await self._tables.write(writes)
            if self.fail is not None:
                error, self.fail = self.fail, None
                raise error

    await make_stream(shards=2)
    forgetful = Forgetful(engine.tables)
    async with worker(forgetful):
        pass
    forgetful.fail = DiskFullError("/data")
    with pytest.raises(DiskFullError):
        await worker(forgetful).__aenter__()
    async with worker(tables) as consumer:
        assert held(consumer) == SHARDS[:2]


async def test_how_far_it_is_behind_is_measured_and_told(
    make_stream: MakeStream, engine: MemoryEngine, metrics: Metrics, clock: ManualClock, worker: Any
) -> None:
    stream = await make_stream(shards=2)
    await put(stream, *range(10))
    async with worker(engine.tables) as first, worker(engine.tables) as second:
        await clock.advance(4)
        behind = metrics.total(first.metric("RecordsBehindLatest"))
        assert behind is not None
        assert (behind.minimum, behind.maximum) == (10, 10)
        batch = await anext(second.batches(max_records=1))
        await second.checkpoint(batch)
        lag = await first.lag()
        assert (lag.records, lag.millis_behind) == (9, 4000)
        await clock.advance(4)
        behind = metrics.total(first.metric("RecordsBehindLatest"))
        assert behind is not None
        assert behind.minimum == 9


@pytest.mark.parametrize("kind", ["join", "leave", "hand over", "reshard", "stay"])
async def test_cancelling_a_worker_anywhere_leaves_every_shard_to_somebody(
    make_stream: MakeStream,
    engine: MemoryEngine,
    clock: ManualClock,
    yielding: Callable[[Any], Any],
    kind: str,
) -> None:
    stream = await make_stream(shards=2)
    yielding_tables = yielding(engine.tables)
    runs = 0

    def make(name: str) -> Consumer[Any]:
        return Consumer(
            name,
            "orders",
            Codec(None),
            yielding(engine.streams),
            LeaseTable(yielding_tables),
            clock,
            Metrics(),
            leasing=Leasing(failover=3.0),
        )

    async def turns() -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def work() -> None:
        name = f"billing-{runs}"
        other = make(name)
        try:
            if kind != "join":
                await other.__aenter__()
            async with make(name):
                if kind == "leave":
                    await other.__aexit__(None, None, None)
                elif kind == "hand over":
                    await turns()
                elif kind == "reshard":
                    described = await stream.describe()
                    await stream.split(described.open_shards[0].shard_id)
                    await turns()
        finally:
            if other._open:
                await other.__aexit__(None, None, None)

    async def check() -> None:
        nonlocal runs
        name = f"billing-{runs}"
        runs += 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with make(name) as heir:
            # Whoever was cancelled let go of everything, so nobody waits for anything to expire.
            now_ms = clock.now_ms()
            await put(stream, *range(8))
            assert sorted(await read(heir, 8)) == list(range(8))
            assert clock.now_ms() == now_ms
        await engine.streams.delete_stream("orders")
        await engine.streams.create_stream("orders", 2)

    assert await cancel_at_every_step(work, check) >= 4


async def test_killed_at_any_turn_its_shards_come_to_the_next(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(shards=3)
    await put(stream, *range(30))
    for turns in range(0, 60, 3):
        name = f"billing-{turns}"
        tables = yielding(engine.tables)
        workers: list[Consumer[Any]] = [
            Consumer(name, "orders", Codec(None), engine.streams, LeaseTable(tables), clock, Metrics())
            for _ in range(2)
        ]
        await workers[0].__aenter__()
        entering = asyncio.ensure_future(workers[1].__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        await kill(workers[0])
        await entering
        await clock.advance(25)
        assert held(workers[1]) == SHARDS[:3]
        assert sorted(await read(workers[1], 30)) == list(range(30))
        assert await has_nothing(workers[1], clock)
        await workers[1].__aexit__(None, None, None)


async def test_a_look_around_that_is_late_gives_no_shard_back(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, worker: Any
) -> None:
    """Between its query and what it makes of it, shards are finished, and lost to others."""

    class Late(Tables):
        waits: asyncio.Event | None = None

        async def query(self, *args: Any, **kwargs: Any) -> Any:
            page = await self._tables.query(*args, **kwargs)
            if self.waits is not None:
                await self.waits.wait()
            return page

    stream = await make_stream(shards=2)
    await put(stream, *range(20))
    late = Late(engine.tables)
    leases = LeaseTable(engine.tables)
    consumer: Consumer[Any]
    made: Consumer[Any] = worker(late)
    async with made as consumer:
        batches = {batch.shard_id: batch for batch in [await anext(consumer.batches()) for _ in range(2)]}
        late.waits = asyncio.Event()
        await clock.advance(4)
        await stream.split(SHARDS[0])
        await consumer.checkpoint(batches[SHARDS[0]])
        await clock.advance(0)
        await leases.take("billing", await stream.describe(), SHARDS[1], f"{leases.session}/a thief")
        with pytest.raises(LeaseLostError):
            await consumer.checkpoint(batches[SHARDS[1]])
        assert held(consumer) == []
        feeds = [consumer._feeds.get(shard_id) for shard_id in SHARDS[:2]]
        late.waits.set()
        await clock.advance(0)
        assert [consumer._feeds.get(shard_id) for shard_id in SHARDS[:2]] == feeds
        assert held(consumer) == SHARDS[2:4]


async def test_who_could_not_enter_begins_anew_when_it_can(
    make_stream: MakeStream, engine: MemoryEngine, tables: Tables, worker: Any, clock: ManualClock
) -> None:
    class Failing(Tables):
        async def query(self, *args: Any, **kwargs: Any) -> Any:
            if self.fail is not None and len(self.calls) > 3:
                raise self.fail
            self.calls.append("query")
            return await self._tables.query(*args, **kwargs)

    await make_stream(shards=1)
    failing = Failing(engine.tables)
    failing.fail = DiskFullError("/data")
    consumer: Consumer[Any] = worker(failing)
    with pytest.raises(DiskFullError):
        await consumer.__aenter__()
    failing.fail = None
    await engine.streams.delete_stream("orders")
    stream = await make_stream(shards=2)
    await put(stream, 1)
    async with consumer:
        assert await read(consumer, 1) == [1]
        assert held(consumer) == SHARDS[:2]


async def test_a_lease_that_is_lost_in_the_moment_of_its_renewal_is_lost(
    make_stream: MakeStream, engine: MemoryEngine, clock: ManualClock, worker: Any
) -> None:
    class Racing(Tables):
        between: Any = None

        async def write(self, writes: Any) -> None:
            between, self.between = self.between, None
            if between is not None:
                await between()
            await self._tables.write(writes)

    stream = await make_stream(shards=2)
    racing = Racing(engine.tables)
    leases = LeaseTable(engine.tables)
    async with worker(racing) as consumer:

        async def take() -> None:
            await leases.take("billing", await stream.describe(), SHARDS[0], f"{leases.session}/a thief")

        racing.between = take
        await clock.advance(3.4)
        assert held(consumer) == [SHARDS[1]]


async def test_nobody_is_told_who_has_left(make_stream: MakeStream, engine: MemoryEngine, worker: Any) -> None:
    await make_stream(shards=2)
    async with worker(engine.tables), worker(engine.tables):
        assert len(_WATCHERS[engine.tables]["billing", "orders"]) == 2
    assert _WATCHERS[engine.tables] == {}

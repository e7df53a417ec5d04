"""All parts of an application in one process: producers, consumers, a queue's worker, mappings into tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import cache

from benchmarks.keys import zipf
from benchmarks.measure import Setting, verify
from benchmarks.order import Check, Pair, Records, verify_once
from benchmarks.pace import OpenLoop, Tally
from benchmarks.queue import verify_empty
from benchmarks.store import open_store
from benchmarks.stream import NAME, SHARDS, verify_stream
from streamkit import EventSourceMapping, Kit, Queue, Record, Stream, Update, each

PRODUCERS = 8
BATCH = 25
FAST = "the fast consumer"
RESTS = (0.05, 0.2, 0.5)
"""Seconds that each of the other consumers rests after every batch, until everything else is done."""
TABLES = ("counts", "latest")
_KEYS = 100
"""Of each producer: a key's records come from one, or they would have no order."""
_PAGE = 250
_QUEUE = "jobs"
_AT_ONCE = 8
_JOBS = Records(100, 1)

Found = dict[str, dict[str, int]]
"""By table and key, what is there."""


@cache
def records() -> Records:
    """Batches of the producers in turn, each with keys of its producer, by Zipf's law."""
    drawn = zipf(_KEYS).turns(PRODUCERS * BATCH * 50)
    turns = [place // BATCH % PRODUCERS * _KEYS + at for place, at in enumerate(drawn)]
    return Records(200, PRODUCERS * _KEYS, turns)


def resting(seconds: float) -> str:
    """The name of the consumer that rests so long."""
    return f"one that rests {seconds * 1000:g} ms"


class Mix:
    """One run of it. Batch n has the records from n * ``BATCH`` on, and message n says that it was put."""

    def __init__(self, kit: Kit, stream: Stream[bytes], queue: Queue[bytes], rests: Sequence[float]) -> None:
        self._kit, self._stream, self._queue = kit, stream, queue
        self._rests = {FAST: 0.0} | {resting(each): each for each in rests}
        self._checks = {name: Check(records()) for name in self._rests}
        self.put = Tally()
        self.seen = {name: Tally() for name in self._rests}
        """By consumer."""
        self.mapped = {table: Tally() for table in TABLES}
        """Calls of the functions."""
        self.handled: list[bytes] = []
        self.measured: OpenLoop | None = None
        """Whose batches the fast consumer gets."""
        self._hurry = asyncio.Event()
        self._missing: dict[int, int] = {}
        self._prepared: dict[int, list[Pair]] = {}

    def prepare(self, batches: range) -> None:
        """Make the records of these, so that nobody makes them while the clock runs."""
        self._prepared = {at: records().batch(range(at * BATCH, (at + 1) * BATCH)) for at in batches}
        self._missing = dict.fromkeys(batches, BATCH)

    async def put_batch(self, at: int) -> None:
        """What a producer does: a batch of records, and a message that says so."""
        await self._stream.put_batch(self._prepared[at])
        self.put.add(BATCH)
        await self._queue.send(_JOBS.payload(at))

    async def produce(self, batches: range) -> None:
        """All producers at once, each as fast as it is answered."""

        async def producer(own: range) -> None:
            for at in own:
                await self.put_batch(at)

        await asyncio.gather(*(producer(batches[at::PRODUCERS]) for at in range(PRODUCERS)))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everybody but the producers runs while the block lasts."""
        await self._start()
        async with asyncio.TaskGroup() as tasks:
            entered = Tally()
            consuming = [tasks.create_task(self._consume(name, entered)) for name in self._rests]
            await entered.reaches(len(consuming))
            yield
            for consumer in consuming:
                consumer.cancel()

    async def _start(self) -> None:
        counts, latest = [await self._kit.create_table(name, partition_key="key") for name in TABLES]

        @each
        async def count(record: Record[bytes]) -> Update:
            self.mapped["counts"].add()
            return Update(key={"key": record.partition_key}, add={"seen": 1})

        @each
        async def remember(record: Record[bytes]) -> Update:
            self.mapped["latest"].add()
            return Update(key={"key": record.partition_key}, set={"place": int(record.data[:20])})

        async def handle(body: bytes) -> None:
            self.handled.append(body)

        source = self._stream
        self._mappings = [
            self._kit.start(EventSourceMapping("counts", source, count, counts, batch_size=_PAGE)),
            self._kit.start(EventSourceMapping("latest", source, remember, latest, batch_size=_PAGE)),
        ]
        self._worker = self._queue.worker(handle, concurrency=_AT_ONCE)
        self._kit.start(self._worker)

    async def all_mapped(self) -> None:
        """Return when both tables have what is in the stream now."""
        await asyncio.gather(*(mapping.wait_caught_up() for mapping in self._mappings))

    async def all_handled(self) -> None:
        """Return when the queue is empty."""
        await self._worker.wait_drained()

    async def _consume(self, name: str, entered: Tally) -> None:
        """Each record once and in order, with a checkpoint behind each batch, and then a rest."""
        check, tally, rest = self._checks[name], self.seen[name], self._rests[name]
        async with self._stream.consumer(name.replace(" ", "-")) as consumer:
            entered.add()
            async for batch in consumer.batches(max_records=_PAGE):
                if not rest:
                    self._arrived(batch)
                for record in batch:
                    check.see(record.partition_key, record.data)
                await consumer.checkpoint(batch)
                tally.add(len(batch))
                if rest:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(rest):
                            await self._hurry.wait()

    def _arrived(self, batch: Sequence[Record[bytes]]) -> None:
        """A batch of the open loop is there when all of its records are, whichever shards they were in."""
        if self.measured is None:
            return
        for record in batch:
            at = int(record.data[:20]) // BATCH
            self._missing[at] -= 1
            if not self._missing[at]:
                self.measured.done(at)

    async def finish(self) -> None:
        """Nobody rests any more, and everybody comes to the end of what was put.

        Raises:
            WrongResultError: a consumer did not see each record once and in order, or the worker each message once.
        """
        self._hurry.set()
        for name, tally in self.seen.items():
            await tally.reaches(self.put.count)
            self._checks[name].end(self.put.count)
        await self.all_mapped()
        await self.all_handled()
        verify_once(_JOBS, self.handled, self.put.count // BATCH)


@contextlib.asynccontextmanager
async def open_mix(setting: Setting, rests: Sequence[float]) -> AsyncIterator[Mix]:
    """Everything runs, and waits for records."""
    async with open_store(setting) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes)
        mix = Mix(kit, stream, await kit.create_queue(_QUEUE, type=bytes), rests)
        async with mix.running():
            yield mix


# ---- what must be there afterwards


def expected_tables(count: int) -> Found:
    """What the first records make of the tables, derived without the library."""
    keys = [records().key(place) for place in range(count)]
    return {"counts": dict(Counter(keys)), "latest": {key: place for place, key in enumerate(keys)}}


def verify_tables(found: Found, count: int) -> None:
    """Refuse tables in which a record took no effect, or took it twice, or in another order.

    Raises:
        WrongResultError: the first table that is wrong, with a key.
    """
    for table, wanted in expected_tables(count).items():
        there = found[table]
        wrong = sorted(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))
        if wrong:
            first = wrong[0]
            said = f"{first} has {there.get(first)} and was to have {wanted.get(first)}"
            verify(False, f"table {table}: {len(wrong)} of {len(wanted)} keys are wrong: {said}")


async def verify_mix(setting: Setting, count: int) -> None:
    """Open the store once more: stream, queue and tables are as they must be after so many records.

    Raises:
        WrongResultError: something is lost, doubled, swapped, or came back.
    """
    await verify_stream(setting, records(), count)
    await verify_empty(setting, _QUEUE)
    async with open_store(setting) as kit:
        counts = {item["key"]: item["seen"] async for item in kit.table("counts").scan()}
        latest = {item["key"]: item["place"] async for item in kit.table("latest").scan()}
    verify_tables({"counts": counts, "latest": latest}, count)

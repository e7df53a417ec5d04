"""What an idempotent producer promises when something goes wrong: never twice, never lost, never out of order."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codecs import Codec
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ClosedError, DiskFullError, NotFoundError, StorageError, ValidationError
from streamkit.limits import KIB, Limits
from streamkit.metrics.window import Metrics
from streamkit.streams import state as state_module
from streamkit.streams.buffer import Batching
from streamkit.streams.producer import Producer
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, StreamAttributes
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock


class Failing:
    """Puts into a stream; the next calls fail as they are told to, before or after they happened."""

    def __init__(self, stream: Stream[bytes]) -> None:
        self.stream = stream
        self.next: deque[tuple[str, Exception] | None] = deque()

    async def __call__(
        self, entries: Sequence[PutEntry], producer: ProducerSequences | None = None, newest: str | None = None
    ) -> Sequence[PutResult]:
        how = self.next.popleft() if self.next else None
        if how is not None and how[0] == "before":
            raise how[1]
        results = await self.stream._put_records(entries, producer, newest)
        if how is not None:
            raise how[1]
        return results

    def producer(self, clock: ManualClock, **batching: Any) -> Producer[bytes]:
        return Producer("orders", Codec(bytes), self, self.stream.describe, clock, Batching(**batching), "p")


@pytest.fixture
async def stream(engine: MemoryEngine, clock: ManualClock) -> Stream[bytes]:
    await engine.streams.create_stream("orders", 1)
    return stream_of(engine, clock)


def stream_of(engine: Any, clock: ManualClock) -> Stream[bytes]:
    return Stream("orders", Codec(bytes), engine.streams, engine.tables, clock, Metrics())


async def numbers(stream: Stream[bytes]) -> list[int]:
    return [int(record.value) async for record in stream.records()]


async def put(producer: Producer[bytes], *sequences: int) -> None:
    for sequence in sequences:
        await producer.put(b"%d" % sequence, partition_key="k", sequence=sequence)


# ---- refusals


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_is_refused_is_not_overtaken_by_a_later_sequence(
    stream: Stream[bytes], clock: ManualClock, when: str
) -> None:
    """Or the later one would be the last that is stored, and the refused one a duplicate for ever."""
    failing = Failing(stream)
    failing.next.append((when, StorageError("who knows")))
    async with failing.producer(clock, max_bytes=4) as producer:
        await put(producer, 0, 2, 4, 6, 8)
        with pytest.raises(StorageError, match="who knows"):
            await producer.flush()
        assert [entry.data for entry in producer.refused] == [b"0", b"2", b"4", b"6", b"8"]
        assert producer.last_sequence == -1
        await put(producer, 0, 2, 4, 6, 8, 9)
        await producer.flush()
        assert producer.last_sequence == 9
    assert await numbers(stream) == [0, 2, 4, 6, 8, 9]


async def test_leaving_in_a_hurry_stores_nothing_after_what_it_could_not(
    stream: Stream[bytes], clock: ManualClock
) -> None:
    failing = Failing(stream)
    failing.next.extend([None, ("before", DiskFullError("/data"))])
    producer = failing.producer(clock, max_records=2)

    async def work() -> None:
        async with producer:
            await put(producer, 0, 1, 2, 3, 4, 5)
            raise KeyError("mine")

    failing.next.append(("before", DiskFullError("/data")))
    with pytest.raises(KeyError) as raised:
        await work()
    assert "could not store 4 of the records" in raised.value.__notes__[0]
    assert (await numbers(stream), producer.last_sequence) == ([0, 1], 1)
    async with stream.producer(id="p") as later:
        assert later.last_sequence == 1
        await put(later, *range(8))
    assert await numbers(stream) == list(range(8))


async def test_a_malformed_record_is_refused_alone(engine: MemoryEngine, clock: ManualClock) -> None:
    """It will never be stored, so nothing waits for it."""
    small = MemoryEngine(clock, Limits.aws())
    await small.streams.create_stream("orders", 1)
    stream = stream_of(small, clock)
    async with stream.producer(id="p") as producer:
        await put(producer, 0, 1)
        await producer.put(b"9" * (1025 * KIB), partition_key="k", sequence=2)
        await put(producer, 3)
        with pytest.raises(ValidationError, match="the limit is"):
            await producer.flush()
        assert [len(entry.data) for entry in producer.refused] == [1025 * KIB]
        await put(producer, 4)
    assert await numbers(stream) == [0, 1, 3, 4]
    await small.aclose()


async def test_its_own_count_never_gives_a_number_twice(stream: Stream[bytes], clock: ManualClock) -> None:
    """Whether the refused record was stored is not known, and another one must not be taken for it."""
    failing = Failing(stream)
    failing.next.append(("after", StorageError("who knows")))
    async with failing.producer(clock) as producer:
        await producer.put(b"0", partition_key="k")
        with pytest.raises(StorageError):
            await producer.flush()
        await producer.put(b"1", partition_key="k")
    assert await numbers(stream) == [0, 1]


async def test_a_deleted_stream_refuses_and_goes_on_when_it_is_there_again(
    engine: MemoryEngine, stream: Stream[bytes], clock: ManualClock
) -> None:
    async with stream.producer(id="p") as producer:
        await put(producer, 0)
        await producer.flush()
        await engine.streams.delete_stream("orders")
        await put(producer, 1, 2)
        with pytest.raises(NotFoundError):
            await producer.flush()
        await engine.streams.create_stream("orders", 1)
        await put(producer, 1, 2, 3)
    assert await numbers(stream) == [1, 2, 3]


async def test_a_sender_that_is_killed_lists_each_record_once(stream: Stream[bytes], clock: ManualClock) -> None:
    """What was stored, or refused before, is not among those that were not."""
    failing = Failing(stream)
    failing.next.extend([None, ("before", DiskFullError("/data"))])
    producer = failing.producer(clock, max_records=2)

    async def work() -> None:
        async with producer:
            await put(producer, 0, 1, 2, 3, 4)
            await clock.advance(0)
            assert producer._sender is not None
            producer._sender.cancel()
            await producer.flush()

    with pytest.raises(ClosedError):
        await work()
    assert [entry.data for entry in producer.refused] == [b"2", b"3", b"4"]
    assert producer.last_sequence == 1


# ---- what reaches the store


@pytest.mark.parametrize(
    ("producer_id", "sequences"),
    [
        ("p", [0, 2**64]), ("p", [0, 2**63]), ("p", [0.5, 1]), ("p", [False, True]), ("p", [0, "x"]), ("p", [None, 1]),
        ("\ud800", [0, 1]), (5, [0, 1]), (None, [0, 1]),
    ],
)  # fmt: skip
async def test_what_the_log_cannot_hold_never_reaches_it(
    tmp_path: Path, clock: ManualClock, producer_id: Any, sequences: Any
) -> None:
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    await engine.streams.create_stream("orders", 1)
    entries = [PutEntry("k", b"1"), PutEntry("k", b"2")]
    with pytest.raises(ValidationError, match="producer"):
        await engine.streams.put_records("orders", entries, ProducerSequences(producer_id, sequences))
    with pytest.raises(ValidationError, match="producer"):
        await engine.streams.put_records("orders", entries, ProducerSequences("p", [7, 8], sequences[:1]))
    await engine.streams.put_records("orders", [PutEntry("k", b"3")], ProducerSequences("p", [2**63 - 1]))
    await engine.aclose()
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    assert (await engine.streams.describe_stream("orders")).producers == {"p": 2**63 - 1}
    assert await numbers(stream_of(engine, clock)) == [3]
    await engine.aclose()


async def test_a_sequence_is_told_when_it_is_durable(tmp_path: Path, clock: ManualClock) -> None:
    """Whoever starts from it takes everything up to it for stored."""
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    await engine.streams.create_stream("orders", 1)
    seen = []
    for sequence in (3, 5):
        putting = asyncio.create_task(
            engine.streams.put_records("orders", [PutEntry("k", b"1")], ProducerSequences("p", [sequence]))
        )
        await asyncio.sleep(0)
        assert not putting.done()
        seen.append(dict((await engine.streams.describe_stream("orders")).producers))
        again = engine.streams.put_records("orders", [PutEntry("k", b"1")], ProducerSequences("p", [sequence]))
        assert [result.duplicate for result in await again] == [True]
        await putting
        seen.append(dict((await engine.streams.describe_stream("orders")).producers))
    assert seen == [{}, {"p": 3}, {"p": 3}, {"p": 5}]
    await engine.aclose()


async def test_a_stream_remembers_so_many_ids_and_then_takes_no_new_ones(
    engine: MemoryEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To forget one that is in use would be to store its records again."""
    monkeypatch.setattr(state_module, "_MOST_PRODUCERS", 2)
    streams = engine.streams
    await streams.create_stream("s", 1, StreamAttributes(retention_ms=None))

    async def put_one(name: str, sequence: int) -> None:
        await streams.put_records("s", [PutEntry("k", b"")], ProducerSequences(name, [sequence]))

    await put_one("a", 1)
    await put_one("b", 1)
    with pytest.raises(ValidationError, match="the same id every time"):
        await put_one("c", 1)
    await clock.advance(6 * 86_400)
    await put_one("a", 2)
    await clock.advance(2 * 86_400)
    await streams.describe_stream("s")
    await put_one("c", 1)
    assert (await streams.describe_stream("s")).producers == {"a": 2, "c": 1}


# ---- duplicates, cancellation


async def test_putting_what_was_stored_lets_others_run(stream: Stream[bytes], clock: ManualClock) -> None:
    """A caller that begins again with its first line drops millions, and must not hold up the loop."""
    async with stream.producer(id="p") as producer:
        await put(producer, 5_000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with stream.producer(Batching(max_records=10), id="p") as producer:
        turns = 0
        await put(producer, *range(1_000))
        assert producer.duplicates == 1_000
        assert turns >= 90
    counting.cancel()


@pytest.mark.parametrize("aggregate", [False, True])
async def test_killed_at_any_moment_and_begun_again_each_is_stored_once(
    tmp_path: Path, clock: ManualClock, aggregate: bool
) -> None:
    """What is on the disk at each turn of the loop is what a killed process would leave."""
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    await engine.streams.create_stream("orders", 2)
    stream = stream_of(engine, clock)
    batching = Batching(max_records=3, aggregate=aggregate)
    flushed: list[int] = []

    async def work() -> None:
        async with stream.producer(batching, id="p") as producer:
            for line in range(12):
                await put(producer, line)
                if line % 4 == 3:
                    await producer.flush()
                    flushed.append(line)
                if line == 6:
                    await stream.split("shardId-000000000000")

    working = asyncio.create_task(work())
    left: list[tuple[Path, int]] = []
    while not working.done():
        left.append((tmp_path / f"left-{len(left)}", max(flushed, default=-1)))
        shutil.copytree(tmp_path / "data", left[-1][0])
        await asyncio.sleep(0)
    await working
    await engine.aclose()
    assert len(left) >= 10
    for directory, durable in left[:: max(1, len(left) // 12)]:
        engine = await FileEngine.open(directory, clock=clock, limits=Limits.relaxed())
        stream = stream_of(engine, clock)
        async with stream.producer(batching, id="p") as producer:
            assert durable <= producer.last_sequence < 12
            assert len(await numbers(stream)) == producer.last_sequence + 1
            await put(producer, *range(12))
        assert await numbers(stream) == list(range(12))
        await engine.aclose()


async def test_entering_twice_at_once_makes_one_sender(stream: Stream[bytes]) -> None:
    producer = stream.producer(id="p")
    first, second = await asyncio.gather(producer.__aenter__(), producer.__aenter__(), return_exceptions=True)
    assert (first, type(second)) == (producer, ClosedError)
    await producer.__aexit__(None, None, None)


@pytest.mark.parametrize("aggregate", [False, True])
async def test_cancelled_anywhere_and_begun_again_each_is_stored_once(
    engine: MemoryEngine, clock: ManualClock, yielding: Callable[[Any], Any], aggregate: bool
) -> None:
    """The caller goes on after ``last_sequence`` of its next producer, whatever became of the one before."""
    await engine.streams.create_stream("orders", 2)
    stream: Stream[bytes] = Stream("orders", Codec(bytes), yielding(engine.streams), engine.tables, clock, Metrics())
    end = 0

    async def work() -> None:
        batching = Batching(max_records=3, buffer_records=5, aggregate=aggregate)
        async with stream.producer(batching, id="p") as producer:
            first = producer.last_sequence + 1
            for line in range(first, first + 8):
                await put(producer, line)
                if line == first + 5:
                    await producer.flush()

    async def check() -> None:
        nonlocal end
        assert asyncio.all_tasks() == {asyncio.current_task()}
        found = await numbers(stream)
        assert found == list(range(len(found)))
        assert len(found) >= end
        end = len(found)

    assert await cancel_at_every_step(work, check) >= 8
    assert end >= 8


# ---- as a property

HOW = st.sampled_from(["well", "before", "after", "throttled", "fatal before", "fatal after", "leave"])


@settings(max_examples=100, deadline=None)
@given(plan=st.lists(HOW, max_size=25), max_records=st.integers(1, 6), aggregate=st.booleans(), gap=st.integers(1, 3))
def test_a_caller_that_goes_on_after_the_last_sequence_stores_each_line_once(
    plan: list[str], max_records: int, aggregate: bool, gap: int
) -> None:
    """The model is the caller's list of lines: whatever fails, it ends as the stream."""
    lines = list(range(0, 30 * gap, gap))

    async def main() -> None:
        clock = ManualClock()
        engine = MemoryEngine(clock, Limits.relaxed())
        await engine.streams.create_stream("orders", 1)
        stream = stream_of(engine, clock)
        failing = Failing(stream)
        for how in plan:
            if how != "leave":
                error = StorageError("fatal") if how.startswith("fatal") else DiskFullError("/data")
                failing.next.append(None if how == "well" else ("after" if how.endswith("after") else "before", error))
        leaves = plan.count("leave")

        async def attempt(until: int) -> bool:
            producer = failing.producer(clock, max_records=max_records, aggregate=aggregate)
            try:
                async with producer:
                    for line in lines:
                        if line > producer.last_sequence:
                            await put(producer, line)
                        if line >= until:
                            raise KeyError
            except (KeyError, StorageError):
                return False
            return True

        for run in range(leaves + len(plan) + 1):
            trying = asyncio.create_task(attempt(lines[3 * run % 30] if run < leaves else 10**9))
            while not trying.done():
                await clock.advance(10)
            found = await numbers(stream)
            assert found == lines[: len(found)]
            if await trying:
                break
        else:
            raise AssertionError("it never came to its end")
        assert await numbers(stream) == lines
        await engine.aclose()

    asyncio.run(main())

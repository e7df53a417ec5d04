"""Sinks beyond the engine: they have a batch before the checkpoint moves, whatever happens in between."""

from __future__ import annotations

import asyncio
import errno
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit, Record, Retry, Stop, Update, each
from streamkit.errors import ThroughputExceededError, ValidationError
from streamkit.functions.file_sink import FileSink, JsonLines, Roll
from streamkit.functions.poller import MappingPoller
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def fill(kit: Kit, count: int, shards: int = 1) -> None:
    stream = await kit.create_stream("numbers", shards=shards, exist_ok=True)
    await stream.put_batch([(f"k{at % 7}", at) for at in range(count)])


def mapping(kit: Kit, sink: Any, **options: Any) -> EventSourceMapping:
    retry = Retry(first=5, jitter=False)
    return EventSourceMapping(
        "out", source=kit.stream("numbers"), sink=sink, **{"batch_size": 4, "retry": retry, **options}
    )


def poller(kit: Kit, sink: Any, **options: Any) -> MappingPoller:
    return MappingPoller(mapping(kit, sink, **options), ports(kit))


def stored(directory: Path) -> dict[str, list[Any]]:
    """By file, those that are whole."""
    if not directory.exists():
        return {}
    return {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(directory.iterdir())
        if not path.name.startswith(".")
    }


def everything(directory: Path) -> list[Any]:
    return sorted(value for values in stored(directory).values() for value in values)


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(holds: Callable[[], object]) -> None:
    for _ in range(100_000):
        if holds():
            return
        # Files are written in threads.
        await asyncio.to_thread(int)
    raise AssertionError("it never came")


async def until_done(task: asyncio.Task[Any], clock: ManualClock) -> None:
    while not task.done():
        await clock.advance(5)
    task.result()


async def test_a_function_as_the_sink_has_the_values_of_each_batch(kit: Kit) -> None:
    await fill(kit, 10)
    seen: list[list[int]] = []

    async def take(values: list[int]) -> None:
        seen.append(values)

    running = kit.start(mapping(kit, take, filters=[{"partitionKey": [{"anything-but": "k3"}]}]))
    await running.wait_caught_up()
    assert seen == [[0, 1, 2, 4], [5, 6, 7, 8], [9]]
    assert running.counts.written == 9


async def test_what_a_function_makes_of_records_goes_to_the_sink_and_writes_to_their_tables(kit: Kit) -> None:
    await fill(kit, 6)
    table = await kit.create_table("counts", partition_key="key")
    seen: list[Any] = []

    @each
    async def both(record: Record[int]) -> list[Any]:
        return [{"doubled": record.value * 2}, Update(key={"key": "all"}, add={"count": 1}, table="counts")]

    async def take(values: list[Any]) -> None:
        seen.extend(values)

    await kit.start(mapping(kit, take, function=both)).wait_caught_up()
    assert seen == [{"doubled": 2 * at} for at in range(6)]
    assert await table.get("all") == {"key": "all", "count": 6}


async def test_the_sink_has_a_batch_before_the_checkpoint_moves(kit: Kit) -> None:
    """Cancelled in between, it has it again: at least once."""
    await fill(kit, 4)
    seen: list[list[int]] = []
    entered = asyncio.Event()

    async def slow(values: list[int]) -> None:
        seen.append(values)
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(poller(kit, slow).run(Stop()))
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])

    async def take(values: list[int]) -> None:
        seen.append(values)

    await kit.start(mapping(kit, take)).wait_caught_up()
    assert seen == [[0, 1, 2, 3], [0, 1, 2, 3]]


class Pushing:
    """Pushes back a few times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.seen: list[int] = []

    async def write(self, batch: Any) -> None:
        if self.times:
            self.times -= 1
            raise ThroughputExceededError("the sink")
        self.seen.extend(batch.values)


async def test_push_back_slows_the_mapping_and_loses_nothing(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 10)
    sink, calls = Pushing(5), 0

    async def count(batch: Any) -> list[int]:
        nonlocal calls
        calls += 1
        return list(batch.values)

    running = kit.start(mapping(kit, sink, function=count, maximum_retry_attempts=0))
    task = asyncio.create_task(running.wait_caught_up())
    await turns()
    assert (sink.seen, running.counts.written) == ([], 0)
    await until_done(task, clock)
    assert sink.seen == list(range(10))
    assert (calls, running.counts.errors, running.counts.dropped) == (3, 0, 0), "it was not called again, nor failed"


async def test_a_stop_while_a_sink_pushes_back_ends_the_mapping_and_loses_nothing(kit: Kit) -> None:
    await fill(kit, 4)
    running = kit.start(mapping(kit, Pushing(10**6), maximum_retry_attempts=0))
    await turns()
    await kit.stop(running)
    assert running.counts.written == running.counts.dropped == 0
    sink = Pushing(0)
    await kit.start(mapping(kit, sink)).wait_caught_up()
    assert sink.seen == [0, 1, 2, 3]


async def test_any_other_error_of_the_sink_counts_as_the_function_s(kit: Kit) -> None:
    await fill(kit, 4)
    failed = await kit.create_queue("failed")

    def refuse(values: list[int]) -> None:
        raise ConnectionError("nobody there")

    running = kit.start(mapping(kit, refuse, maximum_retry_attempts=0, on_failure=failed))
    await running.wait_caught_up()
    assert running.counts.dropped == 4
    (letter,) = await failed.peek()
    assert letter.value["error"]["message"] == "the sink failed: ConnectionError: nobody there"


# ---- files


async def test_a_file_is_there_after_its_time_and_the_checkpoint_with_it(
    kit: Kit, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(kit, 6)
    sink = FileSink(tmp_path / "out", roll=Roll(seconds=10))
    running = kit.start(mapping(kit, sink))
    caught_up = asyncio.create_task(running.wait_caught_up())
    await clock.advance(9)
    assert stored(tmp_path / "out") == {}
    assert (running.counts.written, caught_up.done()) == (0, False)
    await clock.advance(2)
    await caught_up
    assert list(stored(tmp_path / "out").values()) == [[0, 1, 2, 3, 4, 5]]
    assert running.counts.written == 6
    await kit.stop(running)
    again = kit.start(mapping(kit, sink))
    await again.wait_caught_up()
    assert again.counts.polled == 0


async def test_records_that_come_later_are_in_the_same_file_or_the_next(
    kit: Kit, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(kit, 3)
    running = kit.start(mapping(kit, FileSink(tmp_path, roll=Roll(seconds=10))))
    await clock.advance(5)
    await kit.stream("numbers").put(100, partition_key="k")
    await until(lambda: running.counts.invocations == 2)
    await turns()
    await clock.advance(6)
    await until(lambda: len(stored(tmp_path)) == 1)
    await kit.stream("numbers").put(200, partition_key="k")
    await until(lambda: running.counts.invocations == 3)
    await turns()
    await clock.advance(11)
    await until(lambda: len(stored(tmp_path)) == 2)
    assert list(stored(tmp_path).values()) == [[0, 1, 2, 100], [200]]


async def test_a_file_is_there_once_it_is_large_enough(kit: Kit, tmp_path: Path) -> None:
    await fill(kit, 100)
    running = kit.start(mapping(kit, FileSink(tmp_path, roll=Roll(bytes=8))))
    await until(lambda: running.counts.written >= 96)
    assert everything(tmp_path)[:96] == list(range(96))
    assert len(stored(tmp_path)) > 10


async def test_a_stop_flushes(kit: Kit, tmp_path: Path) -> None:
    await fill(kit, 6)
    running = kit.start(mapping(kit, FileSink(tmp_path)))
    await turns()
    await kit.stop(running)
    assert everything(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert running.counts.written == 6


async def test_a_discarded_record_waits_for_those_before_it(kit: Kit, tmp_path: Path) -> None:
    await fill(kit, 6)

    @each
    async def picky(record: Record[int]) -> int:
        if record.value == 2:
            raise ValueError("two")
        return record.value

    running = kit.start(mapping(kit, FileSink(tmp_path), function=picky, maximum_retry_attempts=0))
    await until(lambda: running.counts.dropped)
    assert everything(tmp_path)[:2] == [0, 1], "the checkpoint is past them"
    await kit.stop(running)
    kept = everything(tmp_path)
    assert kept in ([0, 1, 3], [0, 1, 3, 4, 5]), "with what was in hand"
    await kit.start(mapping(kit, Pushing(0))).wait_caught_up()
    assert everything(tmp_path) == kept


class Full(JsonLines):
    """On a disk that is full for a while."""

    def __init__(self) -> None:
        self.refusals = 3

    def write(self, path: Path, values: Sequence[bytes]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "no space left on device")
        super().write(path, values)


async def test_a_full_disk_is_waited_for(kit: Kit, clock: ManualClock, tmp_path: Path) -> None:
    await fill(kit, 6)
    running = kit.start(mapping(kit, FileSink(tmp_path, Full(), roll=Roll(seconds=1))))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert everything(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert kit.health().healthy


@pytest.mark.parametrize("seed", range(8))
async def test_files_hold_each_record_once_however_often_the_mapping_dies(
    kit: Kit, clock: ManualClock, tmp_path: Path, seed: int
) -> None:
    """A file that was there before the checkpoint is written again, and takes its place."""
    chance = random.Random(seed)
    await fill(kit, 120, shards=3)
    for _ in range(12):
        sink = FileSink(tmp_path, roll=Roll(seconds=10, bytes=chance.choice([5, 20, 1000])))
        batch_size = chance.randint(1, 9)
        task = asyncio.create_task(poller(kit, sink, batch_size=batch_size).run(Stop()))
        await turns(chance.randint(0, 120))
        if chance.random() < 0.5:
            await clock.advance(11)
            await turns(chance.randint(0, 20))
        task.cancel()
        await asyncio.wait([task])
    running = kit.start(mapping(kit, FileSink(tmp_path, roll=Roll(seconds=10))))
    await until_done(asyncio.create_task(running.wait_caught_up()), clock)
    assert everything(tmp_path) == list(range(120))


async def test_what_is_no_sink_is_refused(kit: Kit) -> None:
    await fill(kit, 1)
    with pytest.raises(ValidationError, match="Sink or function as its sink"):
        mapping(kit, 5)

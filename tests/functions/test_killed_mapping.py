"""Processes that die of ``kill -9`` at random instants, and leases stolen at random: each record counts once.

The function writes to two tables, sends to a queue and to a FIFO queue, which has each key in its order, and puts to
another stream: one commit with its checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Stop, Update
from streamkit.errors import ClosedError, LeaseLostError
from streamkit.functions.poller import MappingPoller
from streamkit.functions.results import PutRecord, SendMessage
from tests.functions.invoking import ports

KEYS = 11
RECORDS = 6_000

# What a child process does: works until everything is settled, a second poller taking over from the first now and then.
CHILD = """
import asyncio, sys, streamkit
from tests.functions.test_killed_mapping import work

async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        print("open", flush=True)
        await work(kit, int(sys.argv[2]), int(sys.argv[3]))
        print("done", flush=True)

asyncio.run(main())
"""


def counting(kit: Kit, lanes: int) -> EventSourceMapping:
    """Counts by key and by residue, and passes some on."""
    letters, row, copies = kit.queue("sevens"), kit.queue("threes.fifo"), kit.stream("fives")

    async def count(batch: Batch[int]) -> list[Any]:
        await asyncio.sleep(0)
        results: list[Any] = []
        for record in batch:
            results.append(Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value}))
            results.append(Update(key={"residue": record.value % 3}, add={"count": 1}, table="residues"))
            if record.value % 7 == 0:
                results.append(SendMessage(letters, record.value))
            if record.value % 3 == 0:
                results.append(SendMessage(row, record.value, group_id=record.partition_key))
            if record.value % 5 == 0:
                results.append(PutRecord(copies, record.value, record.partition_key))
        return results

    return EventSourceMapping(
        "counting",
        source=kit.stream("numbers"),
        function=count,
        sink=kit.table("totals"),
        batch_size=20,
        parallelization_factor=lanes,
    )


def poller(kit: Kit, lanes: int) -> MappingPoller:
    return MappingPoller(counting(kit, lanes), ports(kit))


async def work(kit: Kit, seed: int, most_lanes: int) -> None:
    """Pollers that steal the leases from each other at random instants, until everything is settled.

    With more than one lane each has another number of them, and the stream is resharded meanwhile.
    """
    chance = random.Random(seed)
    running: list[asyncio.Task[None]] = []
    for _ in range(5):
        running.append(asyncio.create_task(poller(kit, chance.randint(1, most_lanes)).run(Stop())))
        if most_lanes > 1 and chance.random() < 0.3:
            await kit.stream("numbers").update_shard_count(chance.randint(2, 4))
        for _ in range(chance.randint(0, 60)):
            await asyncio.sleep(0)
    ended: list[BaseException | None] = []
    while running:
        last, stop = poller(kit, chance.randint(1, most_lanes)), Stop()
        running.append(asyncio.create_task(last.run(stop)))
        # Whoever was started before may still take the leases, and is then fenced or works to the end.
        with contextlib.suppress(ClosedError):
            await last.wait_caught_up()
            for task in running[:-1]:
                task.cancel()
            stop.request()
            ended = await asyncio.gather(*running, return_exceptions=True)
            running = []
    assert ended[-1] is None
    assert all(isinstance(error, (LeaseLostError, asyncio.CancelledError)) for error in ended[:-1]), ended


async def fill(kit: Kit, count: int) -> None:
    numbers = await kit.create_stream("numbers", shards=3)
    await kit.create_table("totals", partition_key="key")
    await kit.create_table("residues", partition_key="residue")
    await kit.create_queue("sevens")
    await kit.create_queue("threes.fifo", fifo=True)
    await kit.create_stream("fives", shards=2)
    await numbers.put_batch([(f"k{at % KEYS}", at) for at in range(count)])


async def found(kit: Kit) -> dict[str, Any]:
    """What came of it."""
    letters: Counter[int] = Counter()
    while messages := await kit.queue("sevens").receive(1000):
        letters.update(message.value for message in messages)
    row: dict[str | None, list[int]] = {}
    for message in await kit.queue("threes.fifo").peek(RECORDS):
        row.setdefault(message.group_id, []).append(message.value)
    return {
        "threes": row,
        "totals": {item["key"]: (item["count"], item["sum"]) async for item in kit.table("totals").scan()},
        "residues": {item["residue"]: item["count"] async for item in kit.table("residues").scan()},
        "sevens": letters,
        "fives": Counter([(record.partition_key, record.value) async for record in kit.stream("fives").records()]),
    }


def truth(numbers: Sequence[int]) -> dict[str, Any]:
    by_key = {f"k{key}": [at for at in numbers if at % KEYS == key] for key in range(KEYS)}
    return {
        "totals": {key: (len(values), sum(values)) for key, values in by_key.items()},
        "threes": {key: [at for at in values if at % 3 == 0] for key, values in by_key.items()},
        "residues": {residue: sum(at % 3 == residue for at in numbers) for residue in range(3)},
        "sevens": Counter(at for at in numbers if at % 7 == 0),
        "fives": Counter((f"k{at % KEYS}", at) for at in numbers if at % 5 == 0),
    }


@pytest.mark.parametrize("lanes", [1, 10])
@pytest.mark.parametrize("seed", range(5))
async def test_whoever_steals_leases_each_record_has_each_of_its_effects_once(seed: int, lanes: int) -> None:
    async with streamkit.open("memory:") as kit:
        await fill(kit, 700)
        await work(kit, seed, lanes)
        assert await found(kit) == truth(range(700))


def live(path: Path, seed: int, lanes: int, seconds: float) -> int | None:
    """How a process ended that was given so long; None: it had to be killed."""
    command = [sys.executable, "-c", CHILD, str(path), str(seed), str(lanes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return None


@pytest.mark.parametrize("lanes", [1, 6])
async def test_killed_at_random_instants_each_record_has_each_of_its_effects_once(tmp_path: Path, lanes: int) -> None:
    path = tmp_path / "data"
    async with streamkit.open(path) as kit:
        await fill(kit, RECORDS)
    chance = random.Random(20261126)
    ends = [await asyncio.to_thread(live, path, seed, lanes, chance.uniform(0, 0.15)) for seed in range(12)]
    assert ends.count(None) >= 3, "it was done before it could be killed: give it more to do"
    assert await asyncio.to_thread(live, path, 12, lanes, 60) == 0
    async with streamkit.open(path) as kit:
        assert await found(kit) == truth(range(RECORDS))

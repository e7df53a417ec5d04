"""Processes that workloads start, to kill them or to watch their memory: ``python -m benchmarks.child WHAT ...``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import streamkit
from benchmarks.measure import WrongResultError, chunks, verify
from benchmarks.order import Check, Records
from benchmarks.samples import Sample
from benchmarks.stream import BATCH, NAME, SHARDS

RECORDS = Records(1024)
_SAMPLES = 200


async def history(directory: str, first: int, end: int) -> None:
    """Put records and close, so that they are settled."""
    async with streamkit.open(directory, durability="memory") as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes, exist_ok=True)
        for chunk in chunks(end - first, BATCH):
            await stream.put_batch(RECORDS.batch(range(first + chunk.start, first + chunk.stop)))


async def tail(directory: str, first: int, end: int) -> None:
    """Put records and die of kill -9 in the moment in which the last is acknowledged."""
    async with streamkit.open(directory) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes, exist_ok=True)
        for chunk in chunks(end - first, BATCH):
            await stream.put_batch(RECORDS.batch(range(first + chunk.start, first + chunk.stop)))
        os.kill(os.getpid(), signal.SIGKILL)


async def passing(directory: str, count: int, retention: float | None) -> None:
    """Put and consume records side by side; print how far that was by when, and how much memory it took."""
    samples: list[Sample] = []
    at_once = 8

    async with streamkit.open(directory) as kit:
        stream = await kit.create_stream(NAME, shards=SHARDS, type=bytes, retention=retention)

        async def put(room: asyncio.Semaphore) -> None:
            for chunk in chunks(count, BATCH):
                # The consumer may fall behind by a few batches, so that what is measured is not a backlog.
                await room.acquire()
                await stream.put_batch(RECORDS.batch(chunk))

        async def consume(room: asyncio.Semaphore) -> None:
            check = Check(RECORDS)
            since = 0
            async with stream.consumer("all") as consumer:
                batches = consumer.batches(max_records=BATCH)
                while check.seen < count:
                    batch = await anext(batches)
                    verify(not batch.trimmed, f"{batch.trimmed} records were trimmed before they were consumed")
                    for record in batch:
                        check.see(record.partition_key, record.data)
                    since += len(batch)
                    await consumer.checkpoint(batch)
                    while since >= BATCH:
                        since -= BATCH
                        room.release()
                    if check.seen * _SAMPLES // count > len(samples):
                        samples.append(Sample(time.perf_counter() - started, check.seen, resident_bytes()))
            check.end(count)

        room = asyncio.Semaphore(at_once)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(put(room))
            tasks.create_task(consume(room))
        seconds = time.perf_counter() - started
    print(json.dumps({"seen": count, "seconds": seconds, "samples": samples}))


def table_items(places: range, partition: int) -> list[dict[str, Any]]:
    """Items of 100 B, so many to a partition, in the order of their keys."""
    return [{"pk": f"p{place // partition:06d}", "sk": place % partition, "value": f"{place:080d}"} for place in places]


async def items(directory: str, count: int) -> None:
    """Put items into one table; print how far that was by when, and how much memory it took."""
    samples: list[Sample] = []
    async with streamkit.open(directory) as kit:
        table = await kit.create_table("items", partition_key="pk", sort_key="sk")
        empty = resident_bytes()
        started = time.perf_counter()
        for chunk in chunks(count, BATCH):
            await table.put_batch(table_items(chunk, 10_000))
            samples.append(Sample(time.perf_counter() - started, chunk.stop, resident_bytes()))
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "samples": samples, "empty": empty}))


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(what: str, directory: str, *numbers: str) -> None:
    """Run one of them; what is wrong is its last word."""
    try:
        if what == "passing":
            asyncio.run(passing(directory, int(numbers[0]), float(numbers[1]) if numbers[1] else None))
        elif what == "items":
            asyncio.run(items(directory, int(numbers[0])))
        else:
            asyncio.run({"history": history, "tail": tail}[what](directory, int(numbers[0]), int(numbers[1])))
    except* WrongResultError as wrong:
        sys.exit("; ".join(map(str, wrong.exceptions)))


if __name__ == "__main__":
    main(*sys.argv[1:])

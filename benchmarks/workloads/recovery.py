"""Reopening after kill -9: it costs the journal's tail, whatever the history."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from pathlib import Path

import streamkit
from benchmarks.child import RECORDS
from benchmarks.measure import ON_DISK, Chart, Figure, Figures, Lane, Setting, Target, Workload, verify
from benchmarks.stream import BATCH, verify_open

_MIB = 1024 * 1024
_TAILS = (48, 16, 4)
_TAIL = 8
_LARGE = f"a history and a tail of {_TAIL} MiB"


async def _child(what: str, directory: Path, first: int, end: int, expected: int) -> None:
    """A process that puts these records, and ends as expected."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.child", what, str(directory), str(first), str(end)
    )
    ended = await process.wait()
    verify(ended == expected, f"the process that was to put records ended with {ended}, not {expected}")


async def _tail(directory: Path, first: int, megabytes: int) -> int:
    """Put about that much after the first records, and die; how many there are then."""
    end = first + max(BATCH, megabytes * _MIB // 1024 // BATCH * BATCH)
    await _child("tail", directory, first, end, -signal.SIGKILL)
    return end


async def _reopen(directory: Path, count: int, *, whole: bool = True) -> float:
    """Seconds that opening takes; all records are there."""
    gc.collect()
    started = time.perf_counter()
    kit = await streamkit.open(directory)
    seconds = time.perf_counter() - started
    async with kit:
        stream = kit.stream("orders", type=bytes)
        shards = (await stream.describe()).shards
        there = sum(shard.latest_sequence_number - shard.starting_sequence_number for shard in shards)
        verify(there == count, f"{count:,} records were acknowledged before kill -9 and {there:,} are there")
        if whole:
            await verify_open(stream, RECORDS, count)
    return seconds


def _of_tail(megabytes: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        size = setting.sized(megabytes, 1)
        count = await _tail(setting.directory / "data", 0, size)
        seconds = await _reopen(setting.directory / "data", count)
        return {
            f"{megabytes} MiB of tail, per 100 MB": Figure(seconds / (count * RECORDS.size) * 1e8, "s"),
            f"{megabytes} MiB of tail": Figure(seconds * 1000, "ms"),
        }

    return Lane(run, "kill -9 after the last answer", engines=ON_DISK)


async def _with_history(setting: Setting) -> Figures:
    """The history is made in the first round, which also reads it all; each round adds a tail."""
    directory, noted = setting.kept / "data", setting.kept / "records"
    fresh = not directory.exists()
    if fresh:
        count = int((0.01 if setting.small else setting.gigabytes) * 1e9 / RECORDS.size) // BATCH * BATCH
        await _child("history", directory, 0, count, 0)
    else:
        count = int(noted.read_text())
    count = await _tail(directory, count, setting.sized(_TAIL, 1))
    noted.write_text(str(count))
    seconds = await _reopen(directory, count, whole=fresh)
    return {_LARGE: Figure(seconds * 1000, "ms")}


async def _without_history(setting: Setting) -> Figures:
    count = await _tail(setting.directory / "data", 0, setting.sized(_TAIL, 1))
    seconds = await _reopen(setting.directory / "data", count)
    return {"the tail alone": Figure(seconds * 1000, "ms")}


async def _settled(setting: Setting) -> Figures:
    """The same history once more, now without a tail: the round before closed it."""
    directory = setting.kept / "data"
    count = int((setting.kept / "records").read_text())
    seconds = await _reopen(directory, count, whole=False)
    return {"the history alone": Figure(seconds * 1000, "ms")}


RECOVERY = (
    Workload(
        "reopen",
        "opening after kill -9, by the size of the journal's tail",
        [_of_tail(size) for size in _TAILS],
        tuple(Target(f"{size} MiB of tail, per 100 MB", at_most=2.0, ratio=False) for size in _TAILS),
        charts=[
            Chart(
                "Opening after kill -9 by the size of the journal's tail, ms",
                "tail (MiB)",
                {"opening": {size: f"{size} MiB of tail" for size in _TAILS[::-1]}},
            )
        ],
    ),
    Workload(
        "history",
        "opening after kill -9, of a large store (--gigabytes)",
        [
            Lane(_with_history, "kill -9 after the last answer", engines=ON_DISK),
            Lane(_without_history, "kill -9 after the last answer", engines=ON_DISK),
            Lane(_settled, "closed", engines=ON_DISK),
        ],
        (Target(_LARGE, at_most=1000.0, ratio=False, all_counts=True),),
        ["the tail alone", "the history alone"],
    ),
)

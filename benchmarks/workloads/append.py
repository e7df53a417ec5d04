"""Writing: batches one after another, and single puts of many tasks."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import bare
from benchmarks.measure import ON_DISK, Figure, Figures, Lane, Setting, Target, Workload, chunks, rate
from benchmarks.order import Pair, Records
from benchmarks.peers import Log, Peer, logs
from benchmarks.peers.lanes import NOT_STORED, Opened, lanes
from benchmarks.store import open_store, open_used
from benchmarks.stream import BATCH, SHARDS, SYNCED, create, verify_stream

_TASKS = 256


def _append(size: int, targets: tuple[Target, ...]) -> Workload:
    """Batches of 500 on 4 shards, one after another."""
    records = Records(size)

    def total(setting: Setting, share: float = 1.0) -> int:
        return max(2, int(setting.sized(200, 4) * share)) * BATCH

    async def appended(setting: Setting, *, in_use: bool) -> Figure:
        count = total(setting)
        prepared = [records.batch(chunk) for chunk in chunks(count, BATCH)]
        async with open_used(setting) if in_use else open_store(setting) as kit:
            stream = await create(kit)
            gc.collect()
            started = time.perf_counter()
            for batch in prepared:
                await stream.put_batch(batch)
            seconds = time.perf_counter() - started
        await verify_stream(setting, records, count)
        return rate(count, seconds)

    async def ours(setting: Setting) -> Figures:
        return {"streamkit": await appended(setting, in_use=True)}

    async def new(setting: Setting) -> Figures:
        return {"streamkit, a new store": await appended(setting, in_use=False)}

    async def loop(setting: Setting) -> Figures:
        count = total(setting)
        parts = [b"".join(key.encode() + data for key, data in records.batch(chunk)) for chunk in chunks(count, BATCH)]
        return {"bare loop": rate(count, bare.append_seconds(setting.directory / "bare", parts))}

    async def theirs(peer: Peer[Log], setting: Setting) -> Figures:
        count = total(setting, peer.share)
        prepared = [records.batch(chunk) for chunk in chunks(count, BATCH)]
        before = prepared[: len(prepared) // 5]
        async with Opened() as opened:
            log = await opened.first(peer, setting.directory)
            # They have written before, too.
            for batch in before:
                await log.append(batch)
            gc.collect()
            started = time.perf_counter()
            for batch in prepared[len(before) :]:
                await log.append(batch)
            seconds = time.perf_counter() - started
            log = await opened.again(peer, setting.directory, log)
            records.verify(log.pairs(await log.read()), count)
        return {peer.name: rate(count - len(before) * BATCH, seconds)}

    return Workload(
        "append",
        f"put_batch of {BATCH} x {size} B, {SHARDS} shards, one after another; a store in use",
        [
            Lane(ours, SYNCED),
            Lane(new, SYNCED),
            Lane(loop, "a limit: fdatasync per batch", engines=ON_DISK),
            *lanes(theirs, logs()),
        ],
        targets,
        [*(peer.name for peer in logs()), "bare loop"],
    )


def _tasks(each: int, put: Callable[[int], Coroutine[Any, Any, object]]) -> Coroutine[Any, Any, float]:
    """Seconds that 256 tasks take for ``each`` puts one after another; record n is put by task n mod 256."""

    async def one(task: int) -> None:
        for at in range(each):
            await put(at * _TASKS + task)

    async def all_of_them() -> float:
        started = time.perf_counter()
        await asyncio.gather(*map(one, range(_TASKS)))
        return time.perf_counter() - started

    return all_of_them()


_SINGLE = Records(1024, _TASKS)


async def _puts(setting: Setting) -> Figures:
    each = setting.sized(100, 2)
    async with open_used(setting) as kit:
        stream = await create(kit)
        seconds = await _tasks(each, lambda place: stream.put(_SINGLE.payload(place), partition_key=_SINGLE.key(place)))
    await verify_stream(setting, _SINGLE, each * _TASKS)
    return {"streamkit": rate(each * _TASKS, seconds)}


async def _limit_of_puts(setting: Setting) -> Figures:
    """The same tasks put into a queue of asyncio's, from which one takes: no put that is awaited is faster."""
    each = setting.sized(100, 2)
    queue: asyncio.Queue[Pair] = asyncio.Queue()

    async def taken() -> list[Pair]:
        return [await queue.get() for _ in range(each * _TASKS)]

    started = time.perf_counter()
    _, found = await asyncio.gather(
        _tasks(each, lambda place: queue.put((_SINGLE.key(place), _SINGLE.payload(place)))), taken()
    )
    seconds = time.perf_counter() - started
    _SINGLE.verify(found, each * _TASKS)
    return {"asyncio.Queue": rate(each * _TASKS, seconds)}


async def _peer_puts(peer: Peer[Log], setting: Setting) -> Figures:
    # A single put is slow with all of them; who cannot take many batches cannot take so many of these either.
    each = setting.sized(max(1, min(15, int(200 * peer.share))), 1)
    async with Opened() as opened:
        log = await opened.first(peer, setting.directory)
        seconds = await _tasks(each, lambda place: log.put(_SINGLE.key(place), _SINGLE.payload(place)))
        log = await opened.again(peer, setting.directory, log)
        _SINGLE.verify(log.pairs(await log.read()), each * _TASKS)
    return {peer.name: rate(each * _TASKS, seconds)}


APPEND = (
    _append(1024, (Target("bare loop", at_least=0.6), Target("lmdb", at_least=2.5), Target("redis", at_least=15.0))),
    _append(100, (Target("lmdb", at_least=2.5),)),
    Workload(
        "puts",
        f"{_TASKS} tasks, each awaiting one put of 1024 B after another; a store in use",
        [Lane(_puts, SYNCED), Lane(_limit_of_puts, NOT_STORED), *lanes(_peer_puts, logs())],
        (Target("redis", at_least=15.0), Target("sqlite", at_least=30.0)),
        [*(peer.name for peer in logs()), "asyncio.Queue"],
    ),
)

"""Items of tables: puts, gets and queries beside a plain SQLite table, and memory by the number of items."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks import peers
from benchmarks.child import table_items
from benchmarks.measure import ON_DISK, Chart, Figure, Figures, Lane, Setting, Target, Workload, chunks, rate, verify
from benchmarks.peers.lanes import lanes
from benchmarks.peers.peer import Item, Peer
from benchmarks.samples import costs, memory, peak, samples_of
from benchmarks.store import open_store, use
from benchmarks.stream import BATCH, SYNCED
from streamkit import Kit, Table
from streamkit.limits import MIB
from streamkit.tables.store import SortKeyRange

_NAME = "items"
_PARTITION = 10_000
"""Items in a partition."""
_RANGE = 1000


def _batches(setting: Setting) -> list[list[Item]]:
    return [table_items(chunk, _PARTITION) for chunk in chunks(setting.sized(200, 4) * BATCH, BATCH)]


def _in_order(batches: Sequence[Sequence[Item]]) -> list[Item]:
    return sorted((item for batch in batches for item in batch), key=lambda item: (item["pk"], item["sk"]))


async def _create(kit: Kit) -> Table:
    return await kit.create_table(_NAME, partition_key="pk", sort_key="sk")


async def _fill(setting: Setting, batches: Sequence[Sequence[Item]]) -> None:
    """Ours, closed and so settled."""
    async with open_store(setting) as kit:
        table = await _create(kit)
        for batch in batches:
            await table.put_batch(batch)


# ---- puts


def _put(*, used: bool) -> Lane:
    async def run(setting: Setting) -> Figures:
        batches = _batches(setting)
        async with open_store(setting) as kit:
            if used:
                await use(kit, setting.sized(320, 1) * MIB)
            table = await _create(kit)
            gc.collect()
            started = time.perf_counter()
            for batch in batches:
                await table.put_batch(batch)
            seconds = time.perf_counter() - started
        async with open_store(setting) as kit:
            found = [dict(item) async for item in kit.table(_NAME).scan()]
        _verify_all(found, batches)
        return {"streamkit" if used else "streamkit, a new store": rate(len(found), seconds, "items/s")}

    return Lane(run, SYNCED)


async def _peer_put(peer: Peer[peers.Table], setting: Setting) -> Figures:
    batches = _batches(setting)
    async with peer.open(setting.directory) as table:
        gc.collect()
        started = time.perf_counter()
        for batch in batches:
            table.put_batch(batch)
        seconds = time.perf_counter() - started
    async with peer.open(setting.directory) as table:
        found = table.scan()
    _verify_all(found, batches)
    return {peer.name: rate(len(found), seconds, "items/s")}


def _verify_all(found: Sequence[Item], batches: Sequence[Sequence[Item]]) -> None:
    expected = _in_order(batches)
    verify(found == expected, f"{len(expected):,} items were put, and the {len(found):,} that are there are others")


# ---- reads: what is asked for, then how each store answers

Keys = list[tuple[str, int]]
Read = Callable[[Keys], Awaitable[tuple[float, list[Any]]]]
"""What a pass of reads took, in seconds, and its answers."""
Asked = Callable[[list[Item], int], tuple[Keys, list[Any]]]
"""Keys, and what each is answered with."""


def _gets(items: list[Item], calls: int) -> tuple[Keys, list[Any]]:
    chosen = random.Random(5).sample(items, min(calls, len(items)))
    return [(item["pk"], item["sk"]) for item in chosen], list(chosen)


def _ranges(items: list[Item], calls: int) -> tuple[Keys, list[Any]]:
    """Where each range begins in a partition, and its items."""
    chosen = random.Random(5)
    starts = [
        whole * _PARTITION + chosen.randrange(max(1, min(_PARTITION, len(items)) - _RANGE))
        for whole in (chosen.randrange(max(1, len(items) // _PARTITION)) for _ in range(calls))
    ]
    return [(items[at]["pk"], items[at]["sk"]) for at in starts], [items[at : at + _RANGE] for at in starts]


def _ours(table: Table, asked: Asked) -> Read:
    async def get(keys: Keys) -> tuple[float, list[Any]]:
        started = time.perf_counter()
        found = [await table.get(partition, sort) for partition, sort in keys]
        return time.perf_counter() - started, found

    async def query(keys: Keys) -> tuple[float, list[Any]]:
        started = time.perf_counter()
        found = [
            (await table.query_page(partition, SortKeyRange(at_least=first, at_most=first + _RANGE - 1))).items
            for partition, first in keys
        ]
        return time.perf_counter() - started, found

    return get if asked is _gets else query


def _one_by_one(table: Table, asked: Asked) -> Read:
    async def query(keys: Keys) -> tuple[float, list[Any]]:
        started = time.perf_counter()
        found = [
            [item async for item in table.query(partition, SortKeyRange(at_least=first, at_most=first + _RANGE - 1))]
            for partition, first in keys
        ]
        return time.perf_counter() - started, found

    return query


def _theirs(table: peers.Table, asked: Asked) -> Read:
    async def get(keys: Keys) -> tuple[float, list[Any]]:
        started = time.perf_counter()
        found = [table.get(partition, sort) for partition, sort in keys]
        return time.perf_counter() - started, found

    async def query(keys: Keys) -> tuple[float, list[Any]]:
        started = time.perf_counter()
        found = [table.query(partition, first, first + _RANGE - 1) for partition, first in keys]
        return time.perf_counter() - started, found

    return get if asked is _gets else query


async def _passes(read: Read, asked: Asked, setting: Setting, name: str, *, warm: bool) -> Figures:
    items = [item for batch in _batches(setting) for item in batch]
    keys, expected = asked(items, setting.sized(20_000 if asked is _gets else 200, 20))
    gc.collect()
    for _ in range(2 if warm else 1):
        seconds, found = await read(keys)
        verify(found == expected, f"of {len(keys):,} reads some were answered with other items than were put")
    count = len(keys) if asked is _gets else sum(map(len, expected))
    return {name: rate(count, seconds, "items/s")}


def _reads(asked: Asked, *, warm: bool) -> list[Lane]:
    """Out of a store that was just opened; or once more, after the same reads."""

    def ours(name: str, reader: Callable[[Table, Asked], Read]) -> Lane:
        async def run(setting: Setting) -> Figures:
            await _fill(setting, _batches(setting))
            async with open_store(setting) as kit:
                return await _passes(reader(kit.table(_NAME), asked), asked, setting, name, warm=warm)

        return Lane(run, "", engines=ON_DISK)

    async def theirs(peer: Peer[peers.Table], setting: Setting) -> Figures:
        async with peer.open(setting.directory) as table:
            for batch in _batches(setting):
                table.put_batch(batch)
        async with peer.open(setting.directory) as table:
            return await _passes(_theirs(table, asked), asked, setting, peer.name, warm=warm)

    both = [ours("streamkit", _ours), *lanes(theirs, peers.tables())]
    return both if asked is _gets else [*both, ours("streamkit, async for", _one_by_one)]


# ---- memory

_FLAT = "peak, last quarter / second quarter"


def _quarter(at: int) -> str:
    return f"put, quarter {at}"


async def _scale(setting: Setting) -> Figures:
    count = setting.sized(setting.items, 5000)
    command = ("items", str(setting.directory / "data"), str(count))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.child", *command, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    verify(process.returncode == 0, f"the process that put {count:,} items ended with {process.returncode}")
    said = json.loads(output)
    async with open_store(setting) as kit:
        # A sum, since the items themselves would be what this is about.
        seen = total = 0
        async for item in kit.table(_NAME).scan():
            seen += 1
            total += int(item["value"])
    verify((seen, total) == (count, count * (count - 1) // 2), f"{count:,} items were put, {seen:,} are there")
    samples = samples_of(said)
    # In the first quarter what waits to be settled grows to its bound.
    second, last = peak(samples, 2), peak(samples, 4)
    return {
        _FLAT: Figure(last / second, ""),
        "peak, last quarter": Figure(last / MIB, "MiB"),
        "peak, second quarter": Figure(second / MIB, "MiB"),
        "more than without items, per item": Figure(max((samples[-1].size - said["empty"]) / count, 0.1), "B"),
        "put": rate(count, said["seconds"], "items/s"),
        **{_quarter(at): Figure(cost * 1e6, "us/item") for at, cost in enumerate(costs(samples), 1)},
        "resident memory": memory(samples),
    }


TABLES = (
    Workload(
        "table_put",
        f"put_batch of {BATCH} items of 100 B",
        [_put(used=True), *lanes(_peer_put, peers.tables()), _put(used=False)],
        (Target("sqlite", at_least=5.0),),
    ),
    Workload(
        "table_get",
        "single gets, each item for the first time after a reopening",
        _reads(_gets, warm=False),
        (Target("sqlite", at_least=2.0),),
    ),
    Workload(
        "table_get",
        "single gets, once more",
        _reads(_gets, warm=True),
        (Target("sqlite", at_least=2.0),),
    ),
    Workload(
        "table_query",
        f"{_RANGE:,} items by a range of sort keys, a page, after a reopening",
        _reads(_ranges, warm=False),
        (Target("sqlite", at_least=1.0),),
    ),
    Workload(
        "table_scale",
        "resident memory of a process that puts --items of 100 B into one table",
        [Lane(_scale, SYNCED, engines=ON_DISK)],
        (Target(_FLAT, at_most=1.1, ratio=False, all_counts=True),),
        charts=[
            Chart(
                "Cost of an item by how many the table has, us",
                "of --items (%)",
                {"put": {quarter * 25: _quarter(quarter) for quarter in range(1, 5)}},
            )
        ],
    ),
)

"""Reading: everything warm and cold, and one shard of few and of many."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import streamkit
from benchmarks import bare
from benchmarks.measure import ON_DISK, Chart, Figures, Lane, Setting, Target, Workload, chunks, rate, verify
from benchmarks.order import Records
from benchmarks.peers import Log, Peer, logs
from benchmarks.peers.lanes import lanes
from benchmarks.store import open_store
from benchmarks.stream import BATCH, SHARDS, create, fill, verify_open
from streamkit import Kit, Record, Stream

_PAGE = 1000


async def _timed(read: Callable[[], Coroutine[Any, Any, list[Record[bytes]]]]) -> tuple[float, list[Record[bytes]]]:
    """Seconds and records. Garbage of whoever ran before is not collected on this reader's time."""
    gc.collect()
    started = time.perf_counter()
    found = await read()
    return time.perf_counter() - started, found


async def _all(stream: Stream[bytes]) -> list[Record[bytes]]:
    return [record async for record in stream.records()]


async def _consumed(stream: Stream[bytes], count: int) -> list[Record[bytes]]:
    found: list[Record[bytes]] = []
    async with stream.consumer("reader") as consumer:
        batches = consumer.batches(max_records=_PAGE)
        while len(found) < count:
            found += await anext(batches)
    return found


async def _data(setting: Setting, records: Records, count: int, shards: int = SHARDS) -> Path:
    """A directory with that many records, settled and closed; made in the first round and kept."""
    directory = setting.kept / f"data-{shards}"
    if not directory.exists():
        async with streamkit.open(directory, durability="memory") as kit:
            await fill(await create(kit, shards), records, range(count))
    return directory


def _warm(size: int, full: int, targets: tuple[Target, ...]) -> Workload:
    records = Records(size)

    def checked(found: list[Record[bytes]], count: int) -> None:
        records.verify(((record.partition_key, record.data) for record in found), count)

    def total(setting: Setting, share: float = 1.0) -> int:
        return max(1, int(setting.sized(full, 4 * BATCH) * share) // BATCH) * BATCH

    async def ours(setting: Setting) -> Figures:
        count = total(setting)
        figures = {}
        async with open_store(setting, durability="memory") as kit:
            stream = await create(kit)
            await fill(stream, records, range(count))
            seconds, found = await _timed(lambda: _all(stream))
            checked(found, count)
            figures["streamkit, just put"] = rate(count, seconds)
            del found
            seconds, found = await _timed(lambda: _consumed(stream, count))
            checked(found, count)
            figures["by a consumer, just put"] = rate(count, seconds)
            del found
        async with open_store(setting) as kit:
            stream = kit.stream("orders", type=bytes)
            seconds, found = await _timed(lambda: _all(stream))
            checked(found, count)
            if setting.engine == "file":
                figures["reopened, page cache warm"] = rate(count, seconds)
        return figures

    async def theirs(peer: Peer[Log], setting: Setting) -> Figures:
        count = total(setting, peer.share)
        async with peer.open(setting.directory) as log:
            for chunk in chunks(count, BATCH):
                await log.append(records.batch(chunk))
            gc.collect()
            started = time.perf_counter()
            raw = await log.read()
            seconds = time.perf_counter() - started
            records.verify(log.pairs(raw), count)
        return {peer.name: rate(count, seconds)}

    return Workload(
        "read",
        f"read back as Record objects, {size} B, {SHARDS} shards, warm (peers: raw rows)",
        [Lane(ours, ""), *lanes(theirs, logs(read_quickly=True))],
        targets,
        [peer.name for peer in logs(read_quickly=True)],
    )


# ---- cold

_COLD = Records(1024)


async def _cold(setting: Setting) -> Figures:
    count = setting.sized(400_000, 4 * BATCH)
    directory = await _data(setting, _COLD, count)
    async with streamkit.open(directory) as kit:
        # Opened first: what opening reads is not what is measured.
        how = bare.evict(directory / "streams")
        stream = kit.stream("orders", type=bytes)
        seconds, found = await _timed(lambda: _all(stream))
        verify(bool(how), "the page cache could not be told to forget the files")
        _COLD.verify(((record.partition_key, record.data) for record in found), count)
        del found
    return {"streamkit": rate(count, seconds)}


async def _cold_raw(setting: Setting) -> Figures:
    count = setting.sized(400_000, 4 * BATCH)
    directory = await _data(setting, _COLD, count) / "streams"
    how = bare.evict(directory)
    seconds, size = bare.read_seconds(directory)
    verify(bool(how), "the page cache could not be told to forget the files")
    verify(size >= count * 1024, f"{count:,} records of 1 KiB cannot be in {size:,} bytes")
    return {"its files read raw": rate(count, seconds)}


# ---- one shard

_NARROW = Records(100)


async def _one_shard(kit: Kit, shard_id: str, shards: int) -> list[Record[bytes]]:
    """A whole shard through the port, as whoever has a lease on just this one reads it."""
    store = kit.engine.streams
    codec = kit.stream("orders", type=bytes).codec
    iterator: str | None = await store.get_shard_iterator("orders", shard_id, "TRIM_HORIZON")
    found: list[Record[bytes]] = []
    while iterator is not None:
        batch = await store.get_records(iterator, _PAGE)
        if not batch.records:
            break
        found += [Record(stored, shard_id, codec) for stored in batch.records]
        iterator = batch.next_iterator
    return found


def _one_of(shards: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        each = setting.sized(20_000, 100)
        directory = await _data(setting, _NARROW, each * shards, shards)
        seconds, read = 0.0, 0
        async with streamkit.open(directory) as kit:
            for shard in (await kit.stream("orders").describe()).shards[:SHARDS]:
                took, found = await _timed(lambda shard_id=shard.shard_id: _one_shard(kit, shard_id, shards))  # type: ignore[misc]
                seconds += took
                read += len(found)
                verify(
                    [record.sequence_number for record in found]
                    == list(range(shard.starting_sequence_number + 1, shard.latest_sequence_number + 1)),
                    f"{shard.shard_id} was not read whole and in order",
                )
            await verify_open(kit.stream("orders", type=bytes), _NARROW, each * shards)
        return {f"one shard of {shards}": rate(read, seconds)}

    return Lane(run, "", engines=ON_DISK)


READ = (
    _warm(1024, 100_000, (Target("lmdb", at_least=1.0),)),
    _warm(100, 400_000, (Target("streamkit, just put", at_least=1_000_000, ratio=False),)),
    Workload(
        "cold",
        "read back as Record objects, 1024 B, the page cache empty",
        [Lane(_cold, "", engines=ON_DISK), Lane(_cold_raw, "a limit: nothing is decoded", engines=ON_DISK)],
        (Target("its files read raw", at_least=0.7),),
    ),
    Workload(
        "one-shard",
        "one shard alone, 100 B, reopened: does it cost more when there are many?",
        [_one_of(64), _one_of(4)],
        (Target("one shard of 4", at_least=1.0),),
        charts=[
            Chart(
                "Records/s of one shard by how many the stream has",
                "shards",
                {"read": {shards: f"one shard of {shards}" for shards in (4, 64)}},
            )
        ],
    ),
)

"""Throughput by how large a record is, and by how many there are in a call."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.figures import Measured
from benchmarks.measure import Chart, Figure, Figures, Lane, Setting, Workload, chunks, rate, verify
from benchmarks.order import Records, verify_once
from benchmarks.queue import left
from benchmarks.store import open_store, open_used
from benchmarks.stream import SHARDS, SYNCED, verify_open
from streamkit import Kit, Limits, Queue
from streamkit.limits import KIB, MIB

SIZES = {100: "100 B", KIB: "1 KiB", 100 * KIB: "100 KiB"}
_PER_CALL = (1, 10, 100, 500)
_QUEUED_PER_CALL = (1, 10, 100)
_MOST_BYTES = Limits.aws().put_bytes
"""Of a call: as many as PutRecords takes."""


def cells(per_call: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sizes, and how many of these go into a call."""
    for size in SIZES:
        for batch in per_call:
            if size * batch <= _MOST_BYTES:
                yield size, batch


def calls(setting: Setting, size: int, batch: int, most: int) -> int:
    """How many a cell makes: at most ``most``, 25,000 records, 32 MiB; but three."""
    return setting.sized(max(3, min(most, 25_000 // batch, 32 * MIB // (size * batch))), 2)


def _named(what: str, size: int, batch: int) -> str:
    return f"{what}, {SIZES[size]} x {batch}"


def _bytes(what: str, size: int, batch: int) -> str:
    return f"{_named(what, size, batch)}, bytes"


def _figures(what: str, cell: tuple[int, int], count: int, seconds: float, unit: str) -> dict[str, Measured]:
    return {
        _named(what, *cell): rate(count, seconds, unit),
        _bytes(what, *cell): Figure(count * cell[0] / MIB / seconds, "MiB/s"),
    }


# ---- streams


async def _put_cell(kit: Kit, setting: Setting, size: int, batch: int) -> tuple[int, float]:
    """Into a stream of its own: how many, and the seconds that their puts took."""
    records = Records(size)
    count = calls(setting, size, batch, 250) * batch
    prepared = [records.batch(chunk) for chunk in chunks(count, batch)]
    stream = await kit.create_stream(_stream(size, batch), shards=SHARDS, type=bytes)
    gc.collect()
    started = time.perf_counter()
    if batch == 1:
        for ((key, data),) in prepared:
            await stream.put(data, partition_key=key)
    else:
        for each in prepared:
            await stream.put_batch(each)
    return count, time.perf_counter() - started


def _stream(size: int, batch: int) -> str:
    return f"of-{size}-{batch}"


async def _streams(setting: Setting) -> Figures:
    figures: dict[str, Measured] = {}
    counts: dict[tuple[int, int], int] = {}
    async with open_used(setting) as kit:
        for cell in cells(_PER_CALL):
            counts[cell], seconds = await _put_cell(kit, setting, *cell)
            figures |= _figures("put", cell, counts[cell], seconds, "records/s")
    async with open_store(setting) as kit:
        for (size, batch), count in counts.items():
            await verify_open(kit.stream(_stream(size, batch), type=bytes), Records(size), count)
    return figures


# ---- queues


async def _queue_cell(queue: Queue[bytes], setting: Setting, size: int, batch: int) -> tuple[int, float, float]:
    """How many were sent, the seconds that this took, and those until they were received and deleted."""
    records = Records(size, 1)
    count = calls(setting, size, batch, 150) * batch
    prepared = [[records.payload(place) for place in chunk] for chunk in chunks(count, batch)]
    received: list[bytes] = []
    gc.collect()
    started = time.perf_counter()
    for bodies in prepared:
        results = await queue.send_batch(bodies)
        verify(all(result.error is None for result in results), "a message was refused")
    sent = time.perf_counter() - started
    gc.collect()
    started = time.perf_counter()
    while len(received) < count:
        messages = await queue.receive(batch)
        verify(bool(messages), f"{count:,} messages were sent, and only {len(received):,} came")
        verify(not any(await queue.delete_batch(messages)), "a message was not deleted")
        received += [message.body for message in messages]
    seconds = time.perf_counter() - started
    verify_once(records, received, count)
    return count, sent, seconds


async def _queues(setting: Setting) -> Figures:
    figures: dict[str, Measured] = {}
    async with open_used(setting) as kit:
        for cell in cells(_QUEUED_PER_CALL):
            queue = await kit.create_queue(_stream(*cell), type=bytes)
            count, sent, received = await _queue_cell(queue, setting, *cell)
            figures |= _figures("sent", cell, count, sent, "messages/s")
            # Their bytes were not far away: how many of them there were says little.
            figures[_named("received and deleted", *cell)] = rate(count, received, "messages/s")
    async with open_store(setting) as kit:
        for cell in cells(_QUEUED_PER_CALL):
            verify(await left(kit.queue(_stream(*cell))) == 0, "a deleted message came back")
    return figures


# ---- charts


def _by_size(what: str, per_call: Sequence[int], unit: str, row: Callable[[str, int, int], str]) -> Chart:
    lines: dict[str, dict[float, str]] = {
        f"{batch} a call": {size: row(what, size, at) for size, at in cells(per_call) if at == batch}
        for batch in per_call
    }
    return Chart(f"{what}: {unit} by size", "size (B)", lines)


def _by_batch(what: str, per_call: Sequence[int], unit: str) -> Chart:
    lines: dict[str, dict[float, str]] = {
        name: {batch: _named(what, at, batch) for at, batch in cells(per_call) if at == size}
        for size, name in SIZES.items()
    }
    return Chart(f"{what}: {unit} by how many a call has", "a call", lines)


SIZED = (
    Workload(
        "sizes",
        f"records by their size and by how many a call has, {SHARDS} shards, one call after another; a store in use",
        [Lane(_streams, SYNCED)],
        charts=[
            _by_size("put", _PER_CALL, "records/s", _named),
            _by_size("put", _PER_CALL, "MiB/s", _bytes),
            _by_batch("put", _PER_CALL, "records/s"),
        ],
    ),
    Workload(
        "sizes",
        "messages by their size and by how many a call has, one client; a store in use",
        [Lane(_queues, SYNCED)],
        charts=[
            _by_size("sent", _QUEUED_PER_CALL, "messages/s", _named),
            _by_size("sent", _QUEUED_PER_CALL, "MiB/s", _bytes),
            _by_batch("sent", _QUEUED_PER_CALL, "messages/s"),
            _by_batch("received and deleted", _QUEUED_PER_CALL, "messages/s"),
        ],
    ),
)

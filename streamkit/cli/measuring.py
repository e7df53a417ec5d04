"""What streamkit does on a disk in some seconds, each figure with a proof that nothing was lost, doubled or swapped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

import streamkit
from streamkit.cli.disk import sync_seconds
from streamkit.engines.base import Durability
from streamkit.kit import Kit
from streamkit.queues.queue import Queue
from streamkit.streams.record import Record
from streamkit.streams.stream import Stream

_SIZE = 1024
_BATCH = 500
_KEYS = 64
_PUTTERS = 256
_CLIENTS = 32
_MOST_BYTES = 256 << 20
"""Of one measurement, however long it takes."""


class Measured(msgspec.Struct, frozen=True):
    """One figure."""

    name: str
    what: str
    """How it was measured, as words."""
    value: float
    unit: str
    checked: int = 0
    """How many records or messages were held against what was promised."""
    wrong: tuple[str, ...] = ()


def measure_sync(directory: Path) -> Measured:
    """The disk's own sync, without streamkit: what the others are to be compared with."""
    times = sync_seconds(directory)
    return Measured("sync", "the disk's own sync of 4 KiB, p50", round(times[len(times) // 2] * 1e6, 1), "us")


async def measure(directory: Path, seconds: float, durability: Durability) -> AsyncIterator[Measured]:
    """One figure after the other, as soon as it is there.

    Args:
        directory: empty; what is measured is written here.
        seconds: of each of the four that take some.
        durability: when a record is on disk.

    Raises:
        StorageError: the disk cannot be used.
    """
    async with streamkit.open(directory / "data", durability=durability) as kit:
        for measured in (_append, _puts, _delivery, _cycles):
            yield await measured(kit, seconds)


async def _append(kit: Kit, seconds: float) -> Measured:
    stream = await kit.create_stream("append", type=bytes, shards=4)
    count = 0
    began = time.perf_counter()
    while not count or (time.perf_counter() - began < seconds and count * _SIZE < _MOST_BYTES):
        numbers = range(count, count + _BATCH)
        await stream.put_batch([(str(number % _KEYS), _value(number)) for number in numbers])
        count += _BATCH
    rate = count / (time.perf_counter() - began)
    wrong = await _disorder(stream, count, _KEYS)
    return Measured("append", f"records of 1 KiB, {_BATCH} a batch", round(rate), "records/s", count, wrong)


async def _puts(kit: Kit, seconds: float) -> Measured:
    stream = await kit.create_stream("puts", type=bytes, shards=4)
    count = 0
    began = time.perf_counter()
    until = began + seconds

    async def put(key: int) -> None:
        nonlocal count
        number = key
        while number == key or (time.perf_counter() < until and count * _SIZE < _MOST_BYTES):
            await stream.put(_value(number), partition_key=str(key))
            number += _PUTTERS
            count += 1

    await asyncio.gather(*map(put, range(_PUTTERS)))
    rate = count / (time.perf_counter() - began)
    wrong = await _disorder(stream, count, _PUTTERS)
    return Measured("puts", f"records of 1 KiB one by one, {_PUTTERS} tasks", round(rate), "records/s", count, wrong)


async def _delivery(kit: Kit, seconds: float) -> Measured:
    stream = await kit.create_stream("delivery", type=bytes)
    times: list[float] = []
    seen = Seen(1)
    async with stream.consumer("bench") as consumer:
        batches = consumer.batches()
        began = time.perf_counter()
        while not times or time.perf_counter() - began < seconds:
            put_at = time.perf_counter()
            putting = asyncio.ensure_future(stream.put(_value(len(times)), partition_key="0"))
            batch = await anext(batches)
            times.append(time.perf_counter() - put_at)
            for record in batch:
                seen.add(record)
            await putting
    median = sorted(times)[len(times) // 2]
    wrong = seen.wrong(len(times))
    return Measured("delivery", "from a put to a waiting consumer, p50", round(median * 1e6), "us", len(times), wrong)


async def _cycles(kit: Kit, seconds: float) -> Measured:
    queue = await kit.create_queue("cycles", type=bytes)
    sent: set[bytes] = set()
    handled: list[bytes] = []
    began = time.perf_counter()
    until = began + seconds

    async def client(first: int) -> None:
        number = first
        while number == first or time.perf_counter() < until:
            value = _value(number)
            await queue.send(value)
            sent.add(value[:8])
            number += _CLIENTS
            for message in await queue.receive():
                await queue.delete(message)
                handled.append(message.body[:8])

    await asyncio.gather(*map(client, range(_CLIENTS)))
    rate = len(handled) / (time.perf_counter() - began)
    wrong = _mishandled(sent, handled, await _left(queue))
    what = f"messages of 1 KiB, {_CLIENTS} clients that send, receive, delete"
    return Measured("queue", what, round(rate), "messages/s", len(sent), wrong)


# ---- what was put, and what came of it


def _value(number: int) -> bytes:
    return number.to_bytes(8, "big") + bytes(_SIZE - 8)


async def _left(queue: Queue[bytes]) -> list[bytes]:
    left = (await queue.describe()).visible
    return [message.body[:8] for message in await queue.peek(left)] if left else []


def _mishandled(sent: set[bytes], handled: list[bytes], left: list[bytes]) -> tuple[str, ...]:
    """What is wrong if these were sent, these deleted, and these are still there."""
    found = []
    every = [*handled, *left]
    if twice := len(every) - len(set(every)):
        found.append(f"{twice:,} messages came twice")
    if astray := len(sent ^ set(every)):
        found.append(f"{astray:,} of {len(sent):,} messages are missing, or were never sent")
    return tuple(found)


async def _disorder(stream: Stream[bytes], count: int, keys: int) -> tuple[str, ...]:
    """What is wrong with a stream into which the numbers from 0 on were put, each under itself modulo ``keys``."""
    seen = Seen(keys)
    async for record in stream.records():
        seen.add(record)
    return seen.wrong(count)


class Seen:
    """Holds records against what was put: each number once, and those of a key one after the other."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._next = {str(key): key for key in range(keys)}
        self._count = 0
        self._astray = 0

    def add(self, record: Record[bytes]) -> None:
        """The next record."""
        number = int.from_bytes(record.data[:8], "big")
        if number != self._next.get(record.partition_key):
            self._astray += 1
        self._next[record.partition_key] = number + self._keys
        self._count += 1

    def wrong(self, count: int) -> tuple[str, ...]:
        """What is, if so many were acknowledged."""
        found = []
        if self._count != count:
            found.append(f"{count:,} records were acknowledged and {self._count:,} are there")
        if self._astray:
            found.append(f"{self._astray:,} records are lost, doubled or out of order")
        return tuple(found)

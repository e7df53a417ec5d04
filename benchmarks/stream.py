"""The stream that most workloads are about: how it is made, filled, and looked at afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamkit
from benchmarks.measure import chunks
from benchmarks.order import Check, Records
from streamkit import Kit, Stream
from streamkit.engines.file.engine import FileEngine
from streamkit.limits import MIB

NAME = "orders"
SHARDS = 4
BATCH = 500
SYNCED = "synced before the answer"


async def create(kit: Kit, shards: int = SHARDS) -> Stream[bytes]:
    """The empty stream."""
    return await kit.create_stream(NAME, shards=shards, type=bytes)


async def use(kit: Kit, size: int) -> None:
    """Have the store take so many bytes, and settle: its journal goes on in segments that were written before.

    So was the file of the bare loop that it is compared with. A new store fills its first segments while it works.
    """
    other = await kit.create_stream("before", shards=SHARDS, type=bytes)
    batch = [(f"key-{at}", bytes(4096)) for at in range(256)]
    for _ in range(size // MIB):
        await other.put_batch(batch)
    await kit.delete_stream("before")
    assert isinstance(kit.engine, FileEngine)
    await kit.engine.settle()


async def fill(stream: Stream[bytes], records: Records, places: Sequence[int]) -> None:
    """Put records in batches."""
    for chunk in chunks(len(places), BATCH):
        await stream.put_batch(records.batch(places[chunk.start : chunk.stop]))


async def verify_stream(directory: Path, records: Records, count: int, stream: str = NAME) -> None:
    """Open the directory and see that records 0 to ``count`` - 1 are there, each once and in order."""
    async with streamkit.open(directory) as kit:
        await verify_open(kit.stream(stream, type=bytes), records, count)


async def verify_open(stream: Stream[bytes], records: Records, count: int) -> None:
    """The same for a stream that is open."""
    check = Check(records)
    async for record in stream.records():
        check.see(record.partition_key, record.data)
    check.end(count)

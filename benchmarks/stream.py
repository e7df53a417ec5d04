"""The stream that most workloads are about: how it is made, filled, and looked at afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import SYNCED, Setting, chunks
from benchmarks.order import Check, Records
from benchmarks.store import open_store
from streamkit import Kit, Stream

__all__ = ["BATCH", "NAME", "SHARDS", "SYNCED", "create", "fill", "verify_open", "verify_stream"]

NAME = "orders"
SHARDS = 4
BATCH = 500


async def create(kit: Kit, shards: int = SHARDS) -> Stream[bytes]:
    """The empty stream."""
    return await kit.create_stream(NAME, shards=shards, type=bytes)


async def fill(stream: Stream[bytes], records: Records, places: Sequence[int]) -> None:
    """Put records in batches."""
    for chunk in chunks(len(places), BATCH):
        await stream.put_batch(records.batch(places[chunk.start : chunk.stop]))


async def verify_stream(setting: Setting, records: Records, count: int, stream: str = NAME) -> None:
    """Open the store once more and see that records 0 to ``count`` - 1 are there, each once and in order."""
    async with open_store(setting) as kit:
        await verify_open(kit.stream(stream, type=bytes), records, count)


async def verify_open(stream: Stream[bytes], records: Records, count: int) -> None:
    """The same for a stream that is open."""
    check = Check(records)
    async for record in stream.records():
        check.see(record.partition_key, record.data)
    check.end(count)

"""Leases and checkpoints: who reads a shard, and how far. Items of a table, as in the Kinesis Client Library.

A lease is taken by raising its counter. Every checkpoint is conditional on owner and counter, so an owner that lost
its lease is refused and cannot move the checkpoint any more (fencing).
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from streamkit.errors import AlreadyExistsError, ConditionFailedError, LeaseLostError
from streamkit.streams.store import StreamDescription
from streamkit.tables.condition import Condition, attribute
from streamkit.tables.item import TableSchema
from streamkit.tables.store import TableStore
from streamkit.tables.write import Put, Update

LEASES = TableSchema(name="streamkit-leases", partition_key="consumer", sort_key="shard")


class Lease(msgspec.Struct, frozen=True):
    """The right of one owner to read one shard for one consumer, as of ``counter``."""

    consumer: str
    stream: str
    stream_id: int
    shard_id: str
    owner: str
    counter: int
    checkpoint: int | None = None
    """Sequence number of the last record done; None: nothing was done yet, start where the consumer starts."""
    finished: bool = False
    """The shard is closed and everything in it was done (SHARD_END)."""

    @property
    def key(self) -> dict[str, str]:
        """The item's key. It holds the stream's id: a later stream of the same name starts anew."""
        return {"consumer": f"{self.stream}#{self.stream_id}#{self.consumer}", "shard": self.shard_id}

    def held(self) -> Condition:
        """True for the stored lease as long as nobody else took it."""
        return (attribute("owner") == self.owner) & (attribute("counter") == self.counter)

    def checkpoint_write(self, sequence_number: int, *, finished: bool = False) -> Update:
        """The write that moves the checkpoint, to be committed together with what was done up to it."""
        stored = {"checkpoint": sequence_number, "finished": finished}
        return Update(key=self.key, set=stored, table=LEASES.name, condition=self.held())


class LeaseTable:
    """Takes, moves and releases leases in a table of the engine."""

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables
        self._ready = False

    async def take(self, consumer: str, stream: StreamDescription, shard_id: str, owner: str) -> Lease:
        """Take the shard's lease for ``owner``, whoever had it; the checkpoint stays.

        Raises:
            LeaseLostError: another worker took it in the same moment.
        """
        await self._create_table()
        wanted = Lease(consumer, stream.name, stream.stream_id, shard_id, owner, 1)
        (item,) = await self._tables.get(LEASES.name, [wanted.key])
        if item is None:
            condition: Condition = attribute("owner").absent()
        else:
            wanted = _from_item(wanted, item)
            condition = attribute("counter") == item["counter"]
        stored = {**wanted.key, "owner": owner, "counter": wanted.counter, "finished": wanted.finished}
        if wanted.checkpoint is not None:
            stored["checkpoint"] = wanted.checkpoint
        try:
            await self._tables.write([Put(stored, table=LEASES.name, condition=condition)])
        except ConditionFailedError:
            raise LeaseLostError(consumer, shard_id) from None
        return wanted

    async def checkpoint(self, lease: Lease, sequence_number: int, *, finished: bool = False) -> Lease:
        """Move the checkpoint to ``sequence_number``: everything up to it is done.

        Raises:
            LeaseLostError: somebody else holds the lease; nothing was stored.
        """
        try:
            await self._tables.write([lease.checkpoint_write(sequence_number, finished=finished)])
        except ConditionFailedError:
            raise LeaseLostError(lease.consumer, lease.shard_id) from None
        return msgspec.structs.replace(lease, checkpoint=sequence_number, finished=finished)

    async def peek(self, consumer: str, stream: StreamDescription) -> dict[str, int | None]:
        """The stored checkpoint of each shard of the stream, taking nothing; None where nothing was done yet."""
        await self._create_table()
        shard_ids = [shard.shard_id for shard in stream.shards]
        keys = [Lease(consumer, stream.name, stream.stream_id, shard_id, "", 0).key for shard_id in shard_ids]
        items = await self._tables.get(LEASES.name, keys)
        return {
            shard_id: item.get("checkpoint") if item else None for shard_id, item in zip(shard_ids, items, strict=True)
        }

    async def _create_table(self) -> None:
        if self._ready:
            return
        with contextlib.suppress(AlreadyExistsError):
            await self._tables.create_table(LEASES)
        self._ready = True


def _from_item(wanted: Lease, item: dict[str, Any]) -> Lease:
    return msgspec.structs.replace(
        wanted, counter=item["counter"] + 1, checkpoint=item.get("checkpoint"), finished=item["finished"]
    )

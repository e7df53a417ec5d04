"""Leases and checkpoints: who reads a shard, and how far. Items of a table, as in the Kinesis Client Library.

A lease is taken by raising its counter. Every checkpoint is conditional on owner and counter, so an owner that lost
its lease is refused and cannot move the checkpoint any more (fencing).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence, Set
from typing import Literal

import msgspec

from streamkit.errors import (
    AlreadyExistsError,
    ConditionFailedError,
    LeaseLostError,
    NotFoundError,
    TransactionCanceledError,
)
from streamkit.streams.store import ShardDescription, StreamDescription
from streamkit.tables.condition import Condition, attribute
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.store import TableStore
from streamkit.tables.write import Put, Update

LEASES = TableSchema(name="streamkit-leases", partition_key="consumer", sort_key="shard")

Start = Literal["TRIM_HORIZON", "LATEST"]
"""Where a consumer begins that was never there before: with the oldest record, or after the newest."""

# AWS: a TransactWriteItems call has 100 actions at most.
_WRITES_AT_ONCE = 100


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
    """Takes leases and moves their checkpoints, in a table of the engine."""

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables
        self._ready = False

    async def take(self, consumer: str, stream: StreamDescription, shard_id: str, owner: str) -> Lease:
        """Take one shard's lease for ``owner``, whoever had it; the checkpoint stays, also when it is None.

        Raises:
            NotFoundError: the stream has no such shard.
        """
        return (await self.take_all(consumer, stream, owner, shard_ids=[shard_id]))[shard_id]

    async def take_all(
        self,
        consumer: str,
        stream: StreamDescription,
        owner: str,
        *,
        start: Start | None = None,
        shard_ids: Collection[str] | None = None,
    ) -> dict[str, Lease]:
        """Take the leases of these shards, or of all, for ``owner``, whoever had them; checkpoints stay.

        ``start`` becomes the first checkpoint of a shard that has none, so that a restart goes on from there: LATEST
        is the shard's newest record as ``stream`` describes it. A descendant of a shard that the consumer knows begins
        with its oldest record in any case, because the consumer has seen nothing of it.

        Of two that take a lease in the same moment one comes after the other, and the later has it.
        Cancellation: some of the leases may have been taken.

        Raises:
            NotFoundError: the stream has no such shard.
        """
        await self._create_table()
        wanted = [shard.shard_id for shard in stream.shards] if shard_ids is None else list(shard_ids)
        fresh = {
            shard.shard_id: Lease(consumer, stream.name, stream.stream_id, shard.shard_id, owner, 1)
            for shard in stream.shards
        }
        for shard_id in wanted:
            if shard_id not in fresh:
                raise NotFoundError("shard", shard_id, f"stream {stream.name!r} has {len(fresh)} shards")
        if start is not None:
            items = await self._tables.get(LEASES.name, [lease.key for lease in fresh.values()])
            known = {shard_id for shard_id, item in zip(fresh, items, strict=True) if item is not None}
            for shard_id, number in _first_checkpoints(stream.shards, start, known).items():
                fresh[shard_id] = msgspec.structs.replace(fresh[shard_id], checkpoint=number)
        taken: dict[str, Lease] = {}
        for first in range(0, len(wanted), _WRITES_AT_ONCE):
            some = [fresh[shard_id] for shard_id in wanted[first : first + _WRITES_AT_ONCE]]
            while (leases := await self._try_to_take(some)) is None:
                pass  # Each turn that is lost is one that another owner won, so this ends.
            taken.update((lease.shard_id, lease) for lease in leases)
        return taken

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

    async def _try_to_take(self, fresh: Sequence[Lease]) -> list[Lease] | None:
        """Take these leases as one. None: somebody took one of them between our look and our write."""
        items = await self._tables.get(LEASES.name, [lease.key for lease in fresh])
        leases: list[Lease] = []
        writes: list[Put] = []
        for lease, item in zip(fresh, items, strict=True):
            unchanged = attribute("owner").absent()
            if item is not None:
                lease = _taken_over(lease, item)
                unchanged = attribute("counter") == item["counter"]
            stored = {**lease.key, "owner": lease.owner, "counter": lease.counter, "finished": lease.finished}
            if lease.checkpoint is not None:
                stored["checkpoint"] = lease.checkpoint
            leases.append(lease)
            writes.append(Put(stored, table=LEASES.name, condition=unchanged))
        try:
            await self._tables.write(writes)
        except (ConditionFailedError, TransactionCanceledError):
            return None
        return leases

    async def _create_table(self) -> None:
        if self._ready:
            return
        with contextlib.suppress(AlreadyExistsError):
            await self._tables.create_table(LEASES)
        self._ready = True


def _taken_over(fresh: Lease, item: Item) -> Lease:
    stored = item.get("checkpoint")
    return msgspec.structs.replace(
        fresh,
        counter=item["counter"] + 1,
        checkpoint=fresh.checkpoint if stored is None else stored,
        finished=item["finished"],
    )


def _first_checkpoints(shards: Sequence[ShardDescription], start: Start, known: Set[str]) -> dict[str, int]:
    """Where a consumer begins in each shard, given those that it knows. A parent stands before its children."""
    descendants: set[str] = set()
    first: dict[str, int] = {}
    for shard in shards:
        if any(parent in known or parent in descendants for parent in shard.parent_shard_ids):
            descendants.add(shard.shard_id)
        at_latest = start == "LATEST" and shard.shard_id not in descendants
        first[shard.shard_id] = shard.latest_sequence_number if at_latest else shard.starting_sequence_number
    return first

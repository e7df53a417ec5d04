"""The table of leases: read, take, checkpoint, and tell the other workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from streamkit.errors import (
    AlreadyExistsError,
    ConditionFailedError,
    LeaseLostError,
    NotFoundError,
    TransactionCanceledError,
)
from streamkit.streams.lease import LEASES, Lease, Start, fresh_leases, partition_of, parts_of
from streamkit.streams.store import StreamDescription
from streamkit.tables.condition import attribute
from streamkit.tables.item import Key
from streamkit.tables.store import TableStore
from streamkit.tables.write import Update, Write

# AWS: a TransactWriteItems call has 100 actions at most.
_WRITES_AT_ONCE = 100

_WATCHERS: WeakKeyDictionary[TableStore, dict[tuple[str, str], list[Callable[[], None]]]] = WeakKeyDictionary()


class LeaseTable:
    """Takes leases and moves their checkpoints, in a table of the engine."""

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables
        self._ready = False

    @property
    def session(self) -> str | None:
        """See TableStore."""
        return self._tables.session

    # ---- telling others that use the same tables in this process

    def watch(self, consumer: str, stream: str, changed: Callable[[], None]) -> None:
        """``changed`` is called when somebody tells of a change to leases of this consumer."""
        _WATCHERS.setdefault(self._tables, {}).setdefault((consumer, stream), []).append(changed)

    def unwatch(self, consumer: str, stream: str, changed: Callable[[], None]) -> None:
        """Not any more."""
        watchers = _WATCHERS.get(self._tables, {}).get((consumer, stream), [])
        if changed in watchers:
            watchers.remove(changed)
        if not watchers:
            _WATCHERS.get(self._tables, {}).pop((consumer, stream), None)

    def watched(self) -> list[tuple[str, str]]:
        """The consumers that are entered on these tables in this process, each with its stream."""
        return list(_WATCHERS.get(self._tables, {}))

    def tell(self, consumer: str, stream: str, but: Callable[[], None]) -> None:
        """Call all of them but one."""
        for changed in list(_WATCHERS.get(self._tables, {}).get((consumer, stream), [])):
            if changed != but:
                changed()

    # ---- reading and writing

    async def leases(self, consumer: str, stream: StreamDescription) -> dict[str, Lease]:
        """All leases of a consumer by shard id, taking none. Also those of shards that have expired meanwhile."""
        await self._create_table()
        return await self._stored(consumer, stream)

    async def _stored(self, consumer: str, stream: StreamDescription) -> dict[str, Lease]:
        partition = partition_of(consumer, stream.name, stream.stream_id)
        found: dict[str, Lease] = {}
        after: Key | None = None
        while True:
            page = await self._tables.query(LEASES.name, partition, after=after)
            found.update((item["shard"], Lease.of_item(consumer, stream, item)) for item in page.items)
            if (after := page.last_key) is None:
                return found

    async def write_each(self, writes: Sequence[Write]) -> list[bool]:
        """Do those of the writes whose conditions hold, in as few calls as that takes; which they were.

        Cancellation: some may have been done.
        """
        done = [False] * len(writes)
        for first in range(0, len(writes), _WRITES_AT_ONCE):
            left = list(range(first, min(first + _WRITES_AT_ONCE, len(writes))))
            while left:
                try:
                    await self._tables.write([writes[at] for at in left])
                except ConditionFailedError:
                    break
                except TransactionCanceledError as error:
                    left = [at for at, reason in zip(left, error.reasons, strict=True) if reason == "None"]
                else:
                    for at in left:
                        done[at] = True
                    break
        return done

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
        start: Start | Mapping[str, int] | None = None,
        shard_ids: Collection[str] | None = None,
    ) -> dict[str, Lease]:
        """Take the leases of these shards, or of all, for ``owner``, whoever had them; checkpoints stay.

        ``start`` becomes the first checkpoint of a shard that has none, so that a restart goes on from there: LATEST
        is the shard's newest record as ``stream`` describes it; a mapping has a number for each shard. A shard that
        was made after the consumer began is read from its beginning in any case, because the consumer has seen nothing
        of it.

        Of two that take a lease in the same moment one comes after the other, and the later has it.
        Cancellation: some of the leases may have been taken.

        Raises:
            NotFoundError: the stream has no such shard.
        """
        known = await self.leases(consumer, stream)
        fresh = fresh_leases(consumer, stream, start, known)
        wanted = list(fresh) if shard_ids is None else list(shard_ids)
        for shard_id in wanted:
            if shard_id not in fresh:
                raise NotFoundError("shard", shard_id, f"stream {stream.name!r} has {len(fresh)} shards")
        taken: dict[str, Lease] = {}
        for first in range(0, len(wanted), _WRITES_AT_ONCE):
            some = [replace(fresh[shard_id], owner=owner) for shard_id in wanted[first : first + _WRITES_AT_ONCE]]
            while (leases := await self._try_to_take(some, stream)) is None:
                pass  # Each turn that is lost is one that another owner won, so this ends.
            taken.update((lease.shard_id, lease) for lease in leases)
        return taken

    async def checkpoint(
        self, lease: Lease, sequence_number: int, subsequence: int | None = None, *, finished: bool = False
    ) -> Lease:
        """Move the checkpoint to ``sequence_number``: everything up to it is done.

        With ``subsequence``, of that aggregated record only the user records up to this one.

        Raises:
            LeaseLostError: somebody else holds the lease; nothing was stored.
        """
        try:
            await self._tables.write([lease.checkpoint_write(sequence_number, subsequence, finished=finished)])
        except ConditionFailedError:
            raise LeaseLostError(lease.consumer, lease.shard_id) from None
        return replace(lease, checkpoint=sequence_number, subsequence=subsequence, finished=finished)

    async def peek(self, consumer: str, stream: StreamDescription) -> dict[str, int | None]:
        """Up to which number each shard of the stream is wholly done, taking nothing; None: nothing was done yet."""
        try:
            leases = await self._stored(consumer, stream)
        except NotFoundError:
            # Nobody has made the table yet, and a look does not: it may be one of a store that is open read-only.
            leases = {}
        return {
            shard.shard_id: lease.done_to
            if (lease := leases.get(shard.shard_id)) is not None and lease.checkpoint is not None
            else None
            for shard in stream.shards
        }

    async def workers(self) -> dict[tuple[str, int], dict[str, list[str]]]:
        """Who holds leases: worker names by consumer, by the name and id of a stream. Makes and takes nothing.

        A consumer whose shards nobody holds is there too. Also of streams that are not there any more.
        """
        found: dict[tuple[str, int], dict[str, set[str]]] = {}
        after: Key | None = None
        while True:
            try:
                page = await self._tables.scan(LEASES.name, after=after)
            except NotFoundError:
                break  # No consumer has entered yet, and a look makes no table.
            for item in page.items:
                stream, stream_id, consumer = parts_of(item["consumer"])
                owners = found.setdefault((stream, stream_id), {}).setdefault(consumer, set())
                if item.get("owner") is not None and not item["finished"]:
                    owners.add(item["owner"])
            if (after := page.last_key) is None:
                break
        return {
            stream: {consumer: sorted(owners) for consumer, owners in consumers.items()}
            for stream, consumers in found.items()
        }

    async def _try_to_take(self, fresh: Sequence[Lease], stream: StreamDescription) -> list[Lease] | None:
        """Take these leases as one. None: somebody took one of them between our look and our write."""
        keys = [lease.key for lease in fresh]
        writes: list[Write] = []
        counters: list[int] = []
        for lease, item in zip(fresh, await self._tables.get(LEASES.name, keys), strict=True):
            counters.append(1 if item is None else item["counter"] + 1)
            if item is None:
                writes.append(lease.creation())
                continue
            taking = Lease.of_item(lease.consumer, stream, item).taking(str(lease.owner), by_force=True)
            condition = attribute("counter") == item["counter"]
            first: dict[str, Any] = {}
            if "checkpoint" not in item and lease.checkpoint is not None:
                condition &= attribute("checkpoint").absent()
                first = {"checkpoint": lease.checkpoint}
            writes.append(
                Update(
                    key=taking.key,
                    set={**taking.set, **first},
                    remove=taking.remove,
                    table=LEASES.name,
                    condition=condition,
                )
            )
        try:
            await self._tables.write(writes)
        except (ConditionFailedError, TransactionCanceledError):
            return None
        # The owner before us may have moved its checkpoint until our write. Now nobody but us moves it.
        # INVARIANT: test_a_checkpoint_that_comes_while_its_lease_is_taken_is_kept
        items = await self._tables.get(LEASES.name, keys)
        return [
            replace(
                lease if item is None else Lease.of_item(lease.consumer, stream, item),
                owner=lease.owner,
                counter=counter,
            )
            for lease, item, counter in zip(fresh, items, counters, strict=True)
        ]

    async def _create_table(self) -> None:
        if self._ready:
            return
        with contextlib.suppress(AlreadyExistsError):
            await self._tables.create_table(LEASES)
        self._ready = True

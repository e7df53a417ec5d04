"""Where the lanes of one shard are: every write to the shard's lease that a mapping makes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from streamkit.errors import AlreadyExistsError, ConditionFailedError, LeaseLostError
from streamkit.functions.layout import Layout, attribute_of
from streamkit.functions.tumbling import ATTRIBUTE, WINDOWS, Stored, part_keys
from streamkit.streams.lease import LEASES, Lease
from streamkit.tables.item import Item
from streamkit.tables.store import TableStore
from streamkit.tables.write import Update


class Place:
    """A shard's lease as its owner holds it."""

    def __init__(self, lease: Lease, tables: TableStore) -> None:
        self.lease = lease
        self.layout = Layout(lease.checkpoint or 0, 1, (lease.checkpoint or 0,))
        """As it was when it was last read or switched."""
        self.settled: list[Callable[[], int]] = []
        """How far each lane is now; none while no lane works."""
        self._tables = tables

    @property
    def checkpoint(self) -> int:
        """Everything up to this number is settled."""
        if not self.settled:
            return self.layout.checkpoint
        return min(settled() for settled in self.settled)

    @property
    def stream(self) -> str:
        """Whose shard it is."""
        return self.lease.stream

    @property
    def shard_id(self) -> str:
        """Which it is."""
        return self.lease.shard_id

    async def read(self) -> Item:
        """The lease's item; takes over the layout in it.

        Raises:
            LeaseLostError: somebody else has the lease.
        """
        (item,) = await self._tables.get(LEASES.name, [self.lease.key])
        if item is None or not self.lease.held().holds(item):
            raise LeaseLostError(self.lease.consumer, self.lease.shard_id) from None
        self.layout = Layout.of_item(item)
        return item

    async def window(self, item: Item) -> Stored | None:
        """The window that is open according to the lease's item, with its whole state; None: none is."""
        with contextlib.suppress(AlreadyExistsError):
            await self._tables.create_table(WINDOWS)
        if (window := item.get(ATTRIBUTE)) is None:
            return None
        parts = (
            await self._tables.get(WINDOWS.name, part_keys(self.lease.key, window["more"])) if window["more"] else []
        )
        state = window["state"] + b"".join(part["state"] for part in parts if part is not None)
        return Stored(window["start"], window["end"], state, window["early"], window["more"])

    async def check_lease(self) -> None:
        """Refuse to go on without it.

        Raises:
            LeaseLostError: somebody else has it.
        """
        (item,) = await self._tables.get(LEASES.name, [self.lease.key])
        if not self.lease.held().holds(item):
            raise LeaseLostError(self.lease.consumer, self.lease.shard_id) from None

    def moving(self, lane: int, number: int, kept: Mapping[str, Any]) -> Update:
        """The write that moves a lane's checkpoint, fenced by the lease.

        Args:
            lane: Whose.
            number: Everything up to it is settled.
            kept: Further attributes of the lease's item; None removes one.
        """
        others = [settled() for at, settled in enumerate(self.settled) if at != lane]
        write = self.lease.checkpoint_write(min([number, *others]))
        changed = {name: value for name, value in kept.items() if value is not None}
        if self.layout.lanes > 1:
            changed[attribute_of(lane)] = number
        removed = tuple(name for name, value in kept.items() if value is None)
        return replace(write, set={**write.set, **changed}, remove=(*write.remove, *removed))

    async def switch(self, lanes: int) -> None:
        """Have so many lanes, all where the furthest is; the others must be there, too.

        Raises:
            LeaseLostError: somebody else has the lease.
        """
        changed, removed = self.layout.switched(lanes)
        write = self.lease.checkpoint_write(changed["checkpoint"])
        await self._write(replace(write, set={**write.set, **changed}, remove=(*write.remove, *removed)))
        at = changed["checkpoint"]
        self.layout = Layout(at, lanes, (at,) * lanes)

    async def store(self, *, finished: bool = False) -> None:
        """Store how far all lanes are; ``finished``: the shard is closed, and everything in it is settled.

        Raises:
            LeaseLostError: somebody else has the lease.
        """
        at = self.checkpoint
        await self._write(self.lease.checkpoint_write(at, finished=finished))
        self.layout = replace(self.layout, checkpoint=at)
        self.lease = replace(self.lease, checkpoint=at, finished=finished)

    async def _write(self, write: Update) -> None:
        try:
            await self._tables.write([write])
        except ConditionFailedError:
            raise LeaseLostError(self.lease.consumer, self.lease.shard_id) from None

"""An event source mapping at work: one lane per shard, side by side."""

from __future__ import annotations

import asyncio
import uuid
from typing import cast

import anyio
import msgspec
from anyio.abc import TaskGroup

from streamkit.clock import Clock
from streamkit.errors import ClosedError
from streamkit.functions.effects import EffectStore
from streamkit.functions.lane import Lane
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Target
from streamkit.functions.tally import Counts, Ports, Tally
from streamkit.metrics.window import Metrics
from streamkit.service import Stop
from streamkit.streams.lease import Start
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.store import StreamStore
from streamkit.tables.store import TableStore


class MappingPoller:
    """A service. Order: by sequence number within a shard, one batch at a time; shards side by side.

    A batch's effects and its checkpoint are one commit, fenced by the lease: each record takes effect exactly once,
    through crashes, cancellation, and a second poller of the same name (the older one then fails with LeaseLostError).
    The function itself may be called more than once with a record. A shard that a split or a merge made is read once
    its parents are done to their end.
    """

    def __init__(
        self,
        mapping: EventSourceMapping,
        *,
        streams: StreamStore,
        tables: TableStore,
        effects: EffectStore,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.name = mapping.name
        self.mapping = mapping
        self._ports = Ports(streams, tables, effects)
        self._clock = clock
        self._owner = uuid.uuid4().hex
        self._tally = Tally(mapping.name, clock, metrics, self._tell)
        self._leases = LeaseTable(tables)
        self._lanes: dict[str, Lane] = {}
        self._started: set[str] = set()
        self._adopting = asyncio.Lock()
        self._progress = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"MappingPoller({self.name!r}, {self.counts!r})"

    @property
    def counts(self) -> Counts:
        """What it has done so far; a copy."""
        return msgspec.structs.replace(self._tally.counts)

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested; the batch in hand is finished.

        Raises:
            LeaseLostError: another poller of this name took over.
            NotFoundError: the source, the sink or the on-failure queue was deleted.
            StorageError: the engine cannot read or commit.
        """
        try:
            target = await Target.of(self.mapping.sink, self._ports.tables)
            async with anyio.create_task_group() as tasks:
                await self._adopt(target, stop, tasks)
        finally:
            self._ended = True
            self._tell()
        if self._failure is not None:
            raise self._failure

    async def wait_caught_up(self) -> None:
        """Return once every record that is durable in the source now is settled, and checkpointed as that.

        Raises:
            ClosedError: the mapping ended before.
        """
        source = await self._ports.streams.describe_stream(self.mapping.source.name)
        wanted = {shard.shard_id: shard.latest_sequence_number for shard in source.shards}
        while True:
            progress = self._progress
            if all(
                shard_id in self._lanes and self._lanes[shard_id].checkpoint >= number
                for shard_id, number in wanted.items()
            ):
                return
            if self._ended:
                raise ClosedError(f"mapping {self.name!r}, with records left in its source,")
            await progress.wait()

    async def _adopt(self, target: Target, stop: Stop, tasks: TaskGroup) -> None:
        """Take the leases that are not ours yet, and start a lane for each shard whose parents are done or gone."""
        async with self._adopting:
            source = await self._ports.streams.describe_stream(self.mapping.source.name)
            fresh = [shard.shard_id for shard in source.shards if shard.shard_id not in self._lanes]
            leases = await self._leases.take_all(
                f"mapping:{self.name}",
                source,
                self._owner,
                start=cast(Start, self.mapping.starting_position),
                shard_ids=fresh,
            )
            for shard_id, lease in leases.items():
                self._lanes[shard_id] = Lane(self.mapping, lease, target, self._ports, self._clock, self._tally)
            parents = {shard.shard_id: shard.parent_shard_ids for shard in source.shards}
            for shard_id, lane in self._lanes.items():
                if shard_id in self._started or lane.finished:
                    continue
                before = [self._lanes[parent] for parent in parents.get(shard_id, ()) if parent in self._lanes]
                if all(parent.finished for parent in before):
                    self._started.add(shard_id)
                    tasks.start_soon(self._run_lane, lane, target, stop, tasks)
            self._tell()

    async def _run_lane(self, lane: Lane, target: Target, stop: Stop, tasks: TaskGroup) -> None:
        try:
            await lane.run(stop)
            if lane.finished:
                await self._adopt(target, stop, tasks)
        except Exception as error:
            # One lane's failure is the mapping's: the others stop where they are, at their last commit.
            self._failure = self._failure or error
            tasks.cancel_scope.cancel()

    def _tell(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

"""An event source mapping from a stream at work: shards side by side."""

from __future__ import annotations

import asyncio
import uuid

import anyio
import msgspec
from anyio.abc import TaskGroup

from streamkit.errors import ClosedError
from streamkit.functions.beginning import beginning_of
from streamkit.functions.live import LiveMapping
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.shard_lanes import ShardLanes
from streamkit.functions.tally import Ports
from streamkit.functions.target import Target
from streamkit.service import Stop
from streamkit.streams.lag import Lag, lag_of
from streamkit.streams.lease_table import LeaseTable


class _Shards(msgspec.Struct):
    """What runs under one setting of the mapping."""

    mapping: EventSourceMapping
    target: Target
    stop: Stop
    tasks: TaskGroup
    owner: str
    adopting: asyncio.Lock
    all: dict[str, ShardLanes]
    started: set[str]
    failure: Exception | None = None


class MappingPoller(LiveMapping):
    """A service. Order: by sequence number within a shard, or within a key where a shard has lanes.

    A batch's effects and its checkpoint are one commit, fenced by the lease: each record takes effect exactly once,
    through crashes, cancellation, and a second poller of the same name (the older one then fails with LeaseLostError).
    The function itself may be called more than once with a record. A shard that a split or a merge made is read once
    its parents are done to their end.
    """

    def __init__(self, mapping: EventSourceMapping, ports: Ports) -> None:
        super().__init__(mapping, ports)
        self._leases = LeaseTable(ports.tables)
        self._shards: dict[str, ShardLanes] = {}

    async def lag(self) -> Lag:
        """How far it is behind, by its checkpoints as they are stored.

        Raises:
            NotFoundError: the stream is gone, or the mapping has not begun.
        """
        stream = self.mapping.source.name
        return await lag_of(f"mapping:{self.name}", stream, self._ports.streams, self._leases, self._ports.clock)

    async def wait_caught_up(self) -> None:
        """Return once every record that is durable in the source now is settled, and checkpointed as that.

        Raises:
            ClosedError: the mapping ended before.
            ValidationError: the mapping's own function asks.
        """
        self._check_not_within()
        source = await self._ports.streams.describe_stream(self.mapping.source.name)
        wanted = {shard.shard_id: shard.latest_sequence_number for shard in source.shards}
        while True:
            progress = self._progress
            if all(
                shard_id in self._shards and self._shards[shard_id].checkpoint >= number
                for shard_id, number in wanted.items()
            ):
                return
            if self.ended:
                raise ClosedError(f"mapping {self.name!r}, with records left in its source,")
            await progress.wait()

    async def left(self) -> int:
        """How many records that are durable in the source are not settled; what retention took is not among them."""
        source = await self._ports.streams.describe_stream(self.mapping.source.name)
        left = 0
        for shard in source.shards:
            done_to = max(shard.starting_sequence_number, shard.trim_horizon)
            if (lanes := self._shards.get(shard.shard_id)) is not None:
                done_to = max(done_to, lanes.checkpoint)
            left += max(0, shard.latest_sequence_number - done_to)
        return left

    async def _work(self, mapping: EventSourceMapping, stop: Stop) -> None:
        target = await Target.of(mapping.sink, self._ports)
        self._shards = {}
        async with anyio.create_task_group() as tasks:
            owner = uuid.uuid4().hex
            shards = _Shards(mapping, target, stop, tasks, owner, asyncio.Lock(), self._shards, set())
            try:
                await self._adopt(shards)
            except Exception as error:
                shards.failure = error
                tasks.cancel_scope.cancel()
        if shards.failure is not None:
            raise shards.failure

    async def _adopt(self, shards: _Shards) -> None:
        """Take the leases that are not ours yet, and start each shard whose parents are done or gone."""
        async with shards.adopting:
            mapping = shards.mapping
            source = await self._ports.streams.describe_stream(mapping.source.name)
            fresh = [shard.shard_id for shard in source.shards if shard.shard_id not in shards.all]
            leases = await self._leases.take_all(
                f"mapping:{self.name}",
                source,
                shards.owner,
                start=await beginning_of(mapping.starting_position, source, self._ports),
                shard_ids=fresh,
            )
            for shard_id, lease in leases.items():
                shards.all[shard_id] = ShardLanes(
                    mapping, lease, target=shards.target, ports=self._ports, tally=self._tally
                )
            # Whether a shard and all before it are done, or gone: one without a record is finished before it is begun.
            done = {shard_id: lanes.finished for shard_id, lanes in shards.all.items()}
            for shard in source.shards:  # A parent comes before its children.
                shard_id, lanes = shard.shard_id, shards.all[shard.shard_id]
                ready = all(done.get(parent, True) for parent in shard.parent_shard_ids)
                done[shard_id] = ready and lanes.finished
                if ready and not lanes.finished and shard_id not in shards.started:
                    shards.started.add(shard_id)
                    shards.tasks.start_soon(self._run_shard, lanes, shards)
            self._tell()

    async def _run_shard(self, lanes: ShardLanes, shards: _Shards) -> None:
        try:
            await lanes.run(shards.stop)
            if lanes.finished:
                await self._adopt(shards)
        except Exception as error:
            # One shard's failure is the mapping's: the others stop where they are, at their last commit.
            shards.failure = shards.failure or error
            shards.tasks.cancel_scope.cancel()

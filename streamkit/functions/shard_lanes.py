"""The lanes of one shard of a mapping: as many as the mapping says, after those that were there before are even."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from streamkit.errors import ValidationError
from streamkit.functions.lane import Lane
from streamkit.functions.layout import lane_of
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.place import Place
from streamkit.functions.sharing import SharedShard
from streamkit.functions.source import Behind, Source, WholeShard
from streamkit.functions.tally import Ports, Tally
from streamkit.functions.target import Target
from streamkit.functions.tumbling import Tumbling
from streamkit.service import Stop
from streamkit.streams.lease import Lease
from streamkit.streams.record import StoredRecord

logger = logging.getLogger("streamkit.functions")


class ShardLanes:
    """One shard of a mapping, from its lease on."""

    def __init__(
        self, mapping: EventSourceMapping, lease: Lease, *, target: Target, ports: Ports, tally: Tally
    ) -> None:
        self._mapping = mapping
        self._place = Place(lease, ports.tables)
        self._target = target
        self._ports = ports
        self._tally = tally
        self._windows: Tumbling | None = None

    @property
    def checkpoint(self) -> int:
        """Everything up to this number is settled, durably."""
        return self._place.checkpoint

    @property
    def finished(self) -> bool:
        """The shard is closed, and everything in it is settled."""
        return self._place.lease.finished

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested, or the shard is closed and done; see MappingPoller."""
        place, lanes = self._place, self._mapping.parallelization_factor
        item = await place.read()
        if place.layout.lanes != lanes and not await self._even_out(lanes, stop):
            return
        if self._mapping.tumbling_window:
            self._windows = Tumbling(round(self._mapping.tumbling_window * 1000), await place.window(item))
        ended = await (self._work_alone(stop) if lanes == 1 else self._work_side_by_side(stop))
        if ended:
            await place.store(finished=True)
        elif lanes > 1 and place.checkpoint > place.layout.checkpoint:
            # Lanes that had nothing are as far as the others; whoever comes next need not look again.
            await place.store()
        place.settled = []

    async def _even_out(self, lanes: int, stop: Stop) -> bool:
        """Bring the lanes that were stored to one number, and switch to so many in one write. False: a stop came.

        Until then each key stays in its lane, so its order holds, and what a lane has done is not done again.
        """
        place, old = self._place, self._place.layout
        sources = [
            Behind(self._reader_after(start), _mine(lane, old.lanes), lambda: old.furthest)
            for lane, start in enumerate(old.own)
        ]
        if any(not source.at_end for source in sources):
            if self._mapping.tumbling_window:
                raise ValidationError(
                    f"mapping {self._mapping.name!r} had {old.lanes} lanes, which are not even in {place.shard_id}, "
                    "and a window takes its records in one row: run it with parallelization_factor=1 and without "
                    "tumbling_window until it has caught up, then with it"
                )
            logger.info(
                "mapping %s brings %d lanes of %s to %d before it has %d",
                *(self._mapping.name, old.lanes, place.shard_id, old.furthest, lanes),
            )
            made = self._lanes(sources)
            await together([partial(lane.run, stop) for lane in made])
            place.settled = []
            if any(lane.settled_to < old.furthest for lane in made):
                place.layout = old
                return False
        await place.switch(lanes)
        return True

    async def _work_alone(self, stop: Stop) -> bool:
        source = self._reader_after(self._place.layout.own[0])
        (lane,) = self._lanes([source])
        await lane.run(stop)
        return source.at_end and lane.settled_to >= source.position

    async def _work_side_by_side(self, stop: Stop) -> bool:
        shared = SharedShard(
            self._place.layout.own, self._reader_after, clock=self._ports.clock, moved=self._tally.moved
        )
        made = self._lanes(shared.sources)
        await together([partial(shared.run, stop), *(partial(lane.run, stop) for lane in made)])
        return shared.at_end and all(lane.settled_to >= shared.position for lane in made)

    def _lanes(self, sources: Sequence[Source]) -> list[Lane]:
        made = [
            Lane(
                self._mapping,
                self._place,
                number,
                source,
                target=self._target,
                ports=self._ports,
                tally=self._tally,
                windows=self._windows,
            )
            for number, source in enumerate(sources)
        ]
        self._place.settled = [lane.settled_at for lane in made]
        return made

    def _reader_after(self, number: int) -> WholeShard:
        return WholeShard(self._mapping.name, self._place.lease, number, self._ports, self._tally)


def _mine(lane: int, lanes: int) -> Callable[[StoredRecord], bool]:
    return lambda record: lane_of(record.partition_key, lanes) == lane


async def together(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do jobs side by side. The first that fails cancels the others, and is what is raised."""
    failure: Exception | None = None

    async def one(job: Callable[[], Awaitable[None]]) -> None:
        nonlocal failure
        try:
            await job()
        except Exception as error:
            failure = failure or error
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(one, job)
    if failure is not None:
        raise failure

"""One reader of a shard for all its lanes, which goes as far ahead of a slow lane as the lane's room allows.

A lane whose room is full is left behind: what does not fit is dropped, and read again by a reader of its own until it
has reached the others. So a lane that fails for ever holds up nobody, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from streamkit.clock import Clock, wait_until, wake
from streamkit.functions.layout import lane_of
from streamkit.functions.source import Behind, WholeShard
from streamkit.limits import MIB
from streamkit.service import Stop
from streamkit.streams.record import StoredRecord

# How many records, and bytes of them, may wait for one lane. What is read at once is no more than that, so a lane that
# keeps up has room.
ROOM = 20_000
ROOM_BYTES = 64 * MIB
_WAIT_MS = 240_000
# Distributing so many holds the loop for a millisecond.
_AT_ONCE = 1_000


class SharedShard:
    """Reads a shard when one of its lanes wants more, and hands every record to the lane of its key."""

    def __init__(
        self,
        starts: Sequence[int],
        reader_after: Callable[[int], WholeShard],
        *,
        clock: Clock,
        moved: Callable[[], None],
        room: int | None = None,
    ) -> None:
        """``starts``: how far each lane is. Those that are not the furthest begin behind."""
        self.position = max(starts)
        """Everything up to this number is with its lane, or the lane is behind."""
        self.waiting = False
        """Everything there is was read."""
        self.room = ROOM if room is None else room
        self.room_bytes = ROOM_BYTES
        self.clock = clock
        self._reader_after = reader_after
        self._reader = reader_after(self.position)
        self._moved = moved
        self._wanted = asyncio.Event()
        self._waiters: list[asyncio.Future[bool]] = []
        self.sources = [SharedSource(self, lane, len(starts)) for lane in range(len(starts))]
        for source, start in zip(self.sources, starts, strict=True):
            if start < self.position:
                source.leave_behind(reader_after(start))

    @property
    def at_end(self) -> bool:
        """The shard is closed, and everything is with its lane."""
        return self._reader.at_end and self.position >= self._reader.position

    async def run(self, stop: Stop) -> None:
        """Read until a stop, or the shard's end."""
        while not stop.requested and not self.at_end:
            with stop.interruptible():
                await self._wanted.wait()
            if not self._wanted.is_set():
                break  # A stop came.
            self._wanted.clear()
            found = await self._reader.read(0, stop)
            if not found and not self._reader.at_end:
                self.waiting = True
                self._wake()
                found = await self._reader.read(_WAIT_MS, stop)
                self.waiting = False
            await self._distribute(found)
        self._wake()

    async def more(self, deadline_ms: int | None) -> bool:
        """Wait until something was read, or nothing was found; False if the deadline came first."""
        self._wanted.set()
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await wait_until(self.clock, waiter, deadline_ms)
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def _distribute(self, found: Sequence[StoredRecord]) -> None:
        sources, lanes = self.sources, len(self.sources)
        for first in range(0, len(found), _AT_ONCE):
            some = found[first : first + _AT_ONCE]
            for record in some:
                source = sources[lane_of(record.partition_key, lanes)]
                if source.behind is None:
                    source.queue.append(record)
                    source.bytes += len(record.data)
            self.position = some[-1].sequence_number
            for source in sources:
                if source.behind is None and source.drop_over(self.room, self.room_bytes):
                    source.leave_behind(self._reader_after(source.queue[-1].sequence_number))
            self._wake()
            await asyncio.sleep(0)
        if not found:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            wake(waiter)
        self._moved()


class SharedSource:
    """One lane's part of a shard."""

    def __init__(self, shard: SharedShard, lane: int, lanes: int) -> None:
        self.queue: list[StoredRecord] = []
        self.bytes = 0
        """Of the data in the queue."""
        self.behind: Behind | None = None
        """What reads on after the queue, until it has reached the others."""
        self._shard = shard
        self._lane = lane
        self._lanes = lanes

    def drop_over(self, room: int, room_bytes: int) -> bool:
        """Drop the last of the queue, but for one record, while it is over its room; whether anything was."""
        queue, before = self.queue, len(self.queue)
        while len(queue) > 1 and (len(queue) > room or self.bytes > room_bytes):
            self.bytes -= len(queue.pop().data)
        return len(queue) < before

    def leave_behind(self, reader: WholeShard) -> None:
        """Read alone from there on."""
        lane, lanes = self._lane, self._lanes
        self.behind = Behind(
            reader, lambda record: lane_of(record.partition_key, lanes) == lane, lambda: self._shard.position
        )

    @property
    def position(self) -> int:
        """See Source."""
        if self.queue:
            return self.queue[0].sequence_number - 1
        return self._shard.position if self.behind is None else self.behind.position

    @property
    def at_end(self) -> bool:
        """See Source."""
        return not self.queue and self.behind is None and self._shard.at_end

    async def read(self, wait_ms: int, stop: Stop) -> Sequence[StoredRecord]:
        """See Source."""
        if not self.queue and self.behind is not None:
            found = await self.behind.read(0, stop)
            if self.behind.at_end:
                self.behind = None
            return found
        shard = self._shard
        deadline_ms = shard.clock.now_ms() + wait_ms
        with stop.interruptible():
            while not self.queue and self.behind is None and not shard.at_end:
                if wait_ms == 0 and shard.waiting:
                    break
                # Whoever only looks waits as well, for what is read without waiting.
                if not await shard.more(deadline_ms if wait_ms else None) or wait_ms == 0:
                    break
        found, self.queue, self.bytes = self.queue, [], 0
        return found

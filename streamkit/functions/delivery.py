"""What one lane of a mapping hands to a sink beyond the engine, and what of it is not safe yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamkit.functions.calling import calling
from streamkit.functions.sink import BufferingSink, Sink, SinkBatch


class Deliveries:
    """A lane's side of its sink; without a sink nothing ever waits."""

    def __init__(self, sink: Sink | None, lane: str, who: object) -> None:
        """``who`` the sink is called by."""
        self._sink = sink
        self._buffering = sink if isinstance(sink, BufferingSink) else None
        self._lane = lane
        self._who = who
        self.settled = 0
        """Where the lane may be checkpointed after the next flush."""
        self.count = 0
        """How many records wait for that."""
        if self._buffering is not None:
            # What a lane before this one left unflushed is read again, from its checkpoint.
            self._buffering.forget(lane)

    @property
    def buffers(self) -> bool:
        """The checkpoint waits for flushes."""
        return self._buffering is not None

    @property
    def waiting(self) -> bool:
        """Something is not checkpointed because it is not flushed."""
        return self.count > 0

    def due_in_ms(self, now_ms: int) -> int | None:
        """How long until a flush is due, not below 0; None: nothing waits."""
        if self._buffering is None or not self.waiting:
            return None
        due_ms = self._buffering.due_ms(self._lane)
        return 0 if due_ms is None else max(0, due_ms - now_ms)

    async def write(self, values: Sequence[Any], start: int, now_ms: int) -> None:
        """Hand over what an invocation gave; the lane stood at ``start`` before it."""
        if self._sink is not None and values:
            with calling(self._who):
                await self._sink.write(SinkBatch(lane=self._lane, start=f"{start:020d}", values=values, now_ms=now_ms))

    def wait_for_flush(self, settled: int, count: int) -> None:
        """So many records more wait, and with them the checkpoint."""
        self.settled = settled
        self.count += count

    async def flush(self) -> None:
        """Make everything safe."""
        if self._buffering is not None and self.waiting:
            with calling(self._who):
                await self._buffering.flush(self._lane)

    def checkpointed(self) -> int:
        """The checkpoint is past everything that waited; how many records those were."""
        count, self.count = self.count, 0
        return count

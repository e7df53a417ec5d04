"""The sink port: where a mapping's results go when it is no table, queue or stream of its kit.

What goes to those is one commit with the checkpoint, so that each record counts once. A sink is beyond the engine: its
results are written first and the checkpoint moves afterwards, so a crash in between writes them again (at least once).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import anyio.to_thread
import msgspec

from streamkit.errors import ValidationError


class SinkBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one invocation, in the order of the records they came from."""

    lane: str
    """Which shard, lane of a shard, or queue they are from; letters, digits, ``-``, ``_`` and ``.``."""
    start: str
    """Where the lane stood before it: equal for whatever is written again from there after a crash."""
    values: Sequence[Any]
    now_ms: int


@runtime_checkable
class Sink(Protocol):
    """The port. One batch of a lane at a time; batches of several lanes side by side."""

    async def write(self, batch: SinkBatch) -> None:
        """Take a batch; it is safe when this returns, unless the sink is a ``BufferingSink``.

        Push-back: wait here as long as the sink is busy, or raise a ``StreamKitError`` that is ``retryable``: the batch
        is then written again later, and the function is not called again. Any other error counts as the function's.
        Cancellation: it may have been written, and is written again.
        """
        ...


@runtime_checkable
class BufferingSink(Sink, Protocol):
    """A sink that makes what it took safe later; the checkpoint waits for it."""

    def due_ms(self, lane: str) -> int | None:
        """When what the lane wrote must be flushed, in milliseconds; the past: now. None: nothing waits."""
        ...

    async def flush(self, lane: str) -> None:
        """Make everything safe that the lane wrote.

        Raises:
            StorageError: it is not; everything still waits, and a retryable one may be tried again.
        """
        ...

    def forget(self, lane: str) -> None:
        """Let go of what the lane wrote and did not flush: it will be written again from its checkpoint."""
        ...


class CallableSink:
    """A function as a sink: it is called with the values of a batch, a list, and has them when it returns."""

    def __init__(self, function: Callable[[list[Any]], Awaitable[object] | object]) -> None:
        if not callable(function):
            raise ValidationError(f"{function!r:.80} cannot be called with a batch of values")
        self._function = function

    def __repr__(self) -> str:
        return f"CallableSink({getattr(self._function, '__name__', self._function)!s})"

    async def write(self, batch: SinkBatch) -> None:
        """See Sink. A plain ``def`` runs in a thread, so that it never blocks the event loop."""
        values = list(batch.values)
        if inspect.iscoroutinefunction(self._function):
            await self._function(values)
            return
        answer = await anyio.to_thread.run_sync(self._function, values)
        if inspect.isawaitable(answer):
            await answer

"""What a worker receives: as much as it has room for, and of a FIFO queue no more of a group than it can hold to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import anyio

from streamkit.queues.message import Message
from streamkit.queues.portions import Portions

T = TypeVar("T")

_WAIT_SECONDS = 20.0
# Receives at the same time, which share a sync of the disk. More cost more than a sync does.
_WIDEST = 32


class Receiving(Generic[T]):
    """Receives for a worker. What a receive gave is handed on in the same step, so a cancellation loses nothing.

    Of a standard queue one receive asks for all there is room for. Of a FIFO queue each receive is for one call of the
    handler, since those of a group that were received together must be handled in order: with a handler of single
    messages one message, so that those behind one that fails are not received and counted in vain. Receives for
    several calls are made at the same time.
    """

    def __init__(
        self,
        portions: Portions[T],
        *,
        call_size: int,
        fifo: bool,
        timeout: float,
        room: Callable[[], int],
        start: Callable[[Sequence[Message[T]]], None],
    ) -> None:
        self._portions = portions
        self._call_size = call_size
        self._fifo = fifo
        self._timeout = timeout
        self._room = room
        self._start = start
        # How many receives at a time found something lately.
        self._width = 1

    async def once(self, *, careful: bool) -> bool:
        """Wait for messages, and start the handling of all there are and is room for. False if there were none.

        Args:
            careful: FIFO: receive one message for each call, whatever its size.

        Cancellation: what was not handed on was not received.

        Raises:
            StreamKitError: as of ``Queue.receive``; what came before it was handed on.
        """
        call_size = 1 if careful and self._fifo else self._call_size
        size, calls = self._portion(self._room(), call_size)
        found = await self._receive(size, call_size, _WAIT_SECONDS)
        if found == 0:
            return False
        more = self._fifo or found == size
        while more and (room := self._room()) > 0:
            size, calls = self._portion(room, call_size)
            receives = min(self._width, room // calls)
            fruitful = await self._receives(receives, size, call_size)
            more = fruitful == receives
            self._width = min(max(self._width, 2 * receives), _WIDEST) if more else max(1, fruitful)
        return True

    def _portion(self, room: int, call_size: int) -> tuple[int, int]:
        """How many messages to ask for at a time, and for how many calls of the handler those may be."""
        # INVARIANT: test_a_message_that_fails_takes_none_behind_it_with_it
        calls = 1 if self._fifo else max(1, min(room, self._portions.most // call_size))
        return min(calls * call_size, self._portions.most), calls

    async def _receives(self, receives: int, size: int, call_size: int) -> int:
        """Receive several times at the same time, without waiting; how many of them gave something."""
        if receives == 1:
            return int(await self._receive(size, call_size, 0) > 0)
        fruitful = 0
        failure: Exception | None = None

        async def receive() -> None:
            nonlocal fruitful, failure
            try:
                found = await self._receive(size, call_size, 0)
                fruitful += found > 0
            except Exception as error:
                failure = failure or error

        async with anyio.create_task_group() as tasks:
            for _ in range(receives):
                tasks.start_soon(receive)
        if failure is not None:
            raise failure
        return fruitful

    async def _receive(self, size: int, call_size: int, wait: float) -> int:
        messages = await self._portions.receive(size, self._timeout, wait)
        # ATOMIC: they are handed on before anything can be cancelled
        for at in range(0, len(messages), call_size):
            self._start(messages[at : at + call_size])
        return len(messages)

"""Receives that wait: woken by a send, by the end of a visibility timeout or delay, or by their deadline."""

from __future__ import annotations

import asyncio
from collections import deque

from streamkit.clock import Clock, Timer, wait_until, wake
from streamkit.queues.visibility import QueueState


class QueueWaits:
    """Who waits at which queue. A thousand waiting receives cost one timer, and nothing while nothing comes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: dict[int, deque[asyncio.Future[bool]]] = {}
        self._timers: dict[int, tuple[int, Timer]] = {}

    async def wait(self, queue: QueueState, deadline_ms: int) -> bool:
        """Wait until something may be visible, or for the deadline. False: not to be waited for any more."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(queue.queue_id, deque())
        waiters.append(waiter)
        self._arm(queue)
        try:
            return await wait_until(self._clock, waiter, deadline_ms)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.wake(queue, 1)  # This wake was for a message; somebody else must take it.
            raise
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    def wake(self, queue: QueueState, count: int) -> None:
        """Wake as many waiting receives as there are new messages to take."""
        waiters = self._waiters.get(queue.queue_id)
        while waiters and count > 0:
            if wake(waiters.popleft()):
                count -= 1
        if waiters:
            self._arm(queue)

    def end(self, queue: QueueState) -> None:
        """Have every receive that waits answer with nothing, now."""
        for waiter in self._waiters.get(queue.queue_id, ()):
            if not waiter.done():
                waiter.set_result(False)

    def is_anybody_at(self, queue: QueueState) -> bool:
        """Whether a receive waits."""
        return bool(self._waiters.get(queue.queue_id))

    def arm(self, queue: QueueState) -> None:
        """Messages were hidden: whoever waits is to be woken when they are visible again."""
        if self._waiters.get(queue.queue_id):
            self._arm(queue)

    def forget(self, queue: QueueState) -> None:
        """The queue is gone: wake everybody, so that they find out."""
        if (armed := self._timers.pop(queue.queue_id, None)) is not None:
            armed[1].cancel()
        for waiter in self._waiters.pop(queue.queue_id, ()):
            wake(waiter)

    def close(self) -> None:
        """The engine closes: wake everybody, so that they find out."""
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for waiters in self._waiters.values():
            for waiter in waiters:
                wake(waiter)

    def _arm(self, queue: QueueState) -> None:
        """See that somebody looks when the next hidden message becomes visible."""
        when_ms = queue.next_visible_ms()
        armed = self._timers.get(queue.queue_id)
        if when_ms is None or (armed is not None and armed[0] <= when_ms):
            return
        if armed is not None:
            armed[1].cancel()
        self._timers[queue.queue_id] = (when_ms, self._clock.call_at(when_ms, lambda: self._surface(queue)))

    def _surface(self, queue: QueueState) -> None:
        del self._timers[queue.queue_id]
        visible = queue.visible(self._clock.now_ms())
        if visible:
            self.wake(queue, visible)
        else:
            self.arm(queue)

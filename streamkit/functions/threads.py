"""Threads for functions that are plain ``def``: kept for the next call, left behind when one takes too long.

They are daemons, unlike anyio's: a function that never returns must not keep the process from ending once its time
limit has passed.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Thread

_IDLE_SECONDS = 10.0
_Call = tuple[Callable[[], object], Context, asyncio.Future[None]]

# Of the whole process. Appending and popping are atomic, and a worker belongs to no event loop.
_idle: deque[_Thread] = deque()
if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's threads.
    os.register_at_fork(after_in_child=_idle.clear)


def run_in_thread(call: Callable[[], object], context: Context) -> asyncio.Future[None]:
    """Run ``call``, which raises nothing, in a thread; the future is done when it has ended.

    Cancelling the future only stops the waiting.
    """
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    try:
        thread = _idle.pop()
    except IndexError:
        thread = _Thread()
        thread.start()
    thread.calls.put((call, context, ended))
    return ended


class _Thread(Thread):
    def __init__(self) -> None:
        super().__init__(name="streamkit function", daemon=True)
        self.calls: SimpleQueue[_Call] = SimpleQueue()

    def run(self) -> None:
        while True:
            try:
                call, context, ended = self.calls.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # Somebody took it from there just now, and its call is on the way.
                return
            context.run(call)
            _idle.append(self)
            _report(ended)
            # What the call held must not live until the next one.
            del call, context, ended


def _report(ended: asyncio.Future[None]) -> None:
    loop = ended.get_loop()
    try:
        loop.call_soon_threadsafe(_end, ended)
    except RuntimeError:
        # The loop was closed while the call ran on, abandoned: nobody waits for it.
        if not loop.is_closed():
            raise


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)

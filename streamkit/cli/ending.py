"""Being asked to end: Ctrl-C or SIGTERM, upon which a command finishes what is in hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from streamkit.cli.printing import FINE, INTERRUPTED, say
from streamkit.service import Stop


class Asked:
    """Whether it was asked, and by what."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.by: signal.Signals | None = None

    async def requested(self) -> None:
        """Return once it was."""
        while not self.stop.requested:
            with self.stop.interruptible():
                await asyncio.Event().wait()

    @property
    def code(self) -> int:
        """The exit code of a command that was cut short by it: 130, or 0 of one that nobody asked."""
        return FINE if self.by is None else INTERRUPTED


def interrupt() -> None:
    """What a second signal does: it leaves the loop, as without a handler."""
    raise KeyboardInterrupt


def exit_at_once() -> None:
    """The same where others' code runs, which may be in a thread that nobody can end. What was acknowledged is kept."""
    with contextlib.suppress(OSError):
        say("interrupted")
        sys.stdout.flush()
    os._exit(INTERRUPTED)


async def until_asked(work: Coroutine[Any, Any, None], asked: Asked, grace: float) -> bool:
    """Do the work; once asked to end, give it some seconds more, and then cancel it. False: it was cancelled.

    Raises:
        Exception: what the work raised.
    """
    task = asyncio.ensure_future(work)
    ends = asyncio.ensure_future(asked.requested())
    try:
        await asyncio.wait((task, ends), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait((task,), timeout=grace)
    finally:
        for each in (task, ends):
            each.cancel()
        await asyncio.wait((task, ends))
    if task.cancelled():
        return False
    task.result()
    return True


@contextlib.contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """While in this block: for what cleans up after itself when it is left."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Which gets no signals.
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def asked_to_end(again: Callable[[], None] = interrupt) -> Iterator[Asked]:
    """While in this block the first signal is a request; upon a second one ``again`` is called."""
    loop = asyncio.get_running_loop()
    asked = Asked()
    signals = (signal.SIGINT, signal.SIGTERM)

    def ask(by: signal.Signals) -> None:
        if asked.by is not None:
            again()
        asked.by = by
        asked.stop.request()

    if threading.current_thread() is not threading.main_thread():
        yield asked  # Which gets no signals.
        return
    for each in signals:
        loop.add_signal_handler(each, ask, each)
    try:
        yield asked
    finally:
        for each in signals:
            loop.remove_signal_handler(each)

"""Being asked to end: Ctrl-C or SIGTERM, upon which a command finishes what is in hand."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator

from streamkit.cli.printing import FINE, INTERRUPTED
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


@contextlib.contextmanager
def asked_to_end() -> Iterator[Asked]:
    """While in this block the first signal is a request, and a second one ends the process as it would have."""
    loop = asyncio.get_running_loop()
    asked = Asked()
    signals = (signal.SIGINT, signal.SIGTERM)

    def ask(by: signal.Signals) -> None:
        if asked.by is not None:
            raise KeyboardInterrupt  # Which leaves the loop, as without a handler.
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

"""Turns of the event loop for others: a loop of calls that need not wait would keep it.

An ``await`` of something that is there already does not let anybody else run, so a reader of a million records in
memory would keep the loop until it is done. Such calls count what they do, and now and then one gives the loop a turn.
Counted and not timed, so that tests run the same way each time.
"""

from __future__ import annotations

import asyncio

_UNITS = 1_000
CALL = 50
"""Of a call, whatever it does: 20 in a row, some 100 to 500 us."""


class Turns:
    """Counts what was done since others last had a turn. HOT: `python -m benchmarks --only read`."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _UNITS

    def count(self, units: int) -> None:
        """A call was of so many records: the next one has to give a turn the sooner."""
        self._left -= units

    async def call(self) -> None:
        """A call that does not wait."""
        self._left -= CALL
        if self._left <= 0:
            self._left = _UNITS
            await asyncio.sleep(0)

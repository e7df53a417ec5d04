"""Turns of the event loop for others: a loop of calls that need not wait would keep it.

An ``await`` of something that is there already does not let anybody else run, so a reader of a million records in
memory would keep the loop until it is done. Such calls count what they do, and now and then one gives the loop a turn.
Counted and not timed, so that tests run the same way each time.
"""

from __future__ import annotations

CALL = 50
"""Units of a call, whatever it does; a record is one."""
_UNITS = 20 * CALL


class Turns:
    """Counts what was done since others last had a turn. HOT: `python -m benchmarks gate --only table_get`."""

    __slots__ = ("_each", "_left")

    def __init__(self, each: int = _UNITS) -> None:
        """``each`` so many units one turn. A turn costs some 10 us, so calls that take less than that want more."""
        self._each = self._left = each

    def count(self, units: int) -> None:
        """A call was of so many records: the next one has to give a turn the sooner."""
        self._left -= units

    def due(self) -> bool:
        """A call does not wait; whether it has to give a turn: ``await asyncio.sleep(0)``."""
        self._left -= CALL
        if self._left > 0:
            return False
        self._left = self._each
        return True

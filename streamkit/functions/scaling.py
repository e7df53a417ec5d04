"""How many batches of a queue are handled at a time. Pure.

After the AWS Lambda Developer Guide ("Using Lambda with Amazon SQS", scaling), with the steps of a process in place of
those of a fleet: it doubles where Lambda adds 300 a minute.
"""

from __future__ import annotations

FIRST = 5
"""Batches at a time to begin with."""
MOST = 1_250
"""Unless ``maximum_concurrency`` says less."""


class Scaling:
    """Grows while messages wait, shrinks when none do, and when the function fails."""

    def __init__(self, maximum_concurrency: int | None) -> None:
        self._most = MOST if maximum_concurrency is None else maximum_concurrency
        self.limit = min(FIRST, self._most)
        """Batches at a time, now."""
        self._held_down = False

    def full(self) -> None:
        """A receive gave all that it asked for, so more may wait."""
        if not self._held_down:
            self.limit = min(self._most, 2 * self.limit)

    def idle(self) -> None:
        """A receive gave nothing."""
        self.limit = min(self.limit, FIRST)

    def failed(self) -> None:
        """A batch failed as a whole: fewer at a time until one succeeds."""
        self._held_down = True
        self.limit = max(1, self.limit // 2)

    def succeeded(self) -> None:
        """A batch did not fail."""
        if self._held_down:
            self._held_down = False
            self.limit = min(self._most, self.limit + 1)

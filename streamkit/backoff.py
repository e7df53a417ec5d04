"""How long to wait before the next attempt: pure, with the randomness passed in."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential back-off with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

    Durations in seconds. ``delay(1)`` is the wait after the first failed attempt.
    """

    first: float = 1.0
    """The longest wait after the first failure."""
    factor: float = 2.0
    """How much longer each further wait may be."""
    longest: float = 60.0
    """No wait is longer than this."""
    jitter: bool = True
    """Draw each wait uniformly from zero to its bound, so that many that failed together do not return together."""

    def delay(self, failures: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after that many failures in a row (1 or more). ``draw`` returns a number in [0, 1)."""
        # A large count would overflow the power long before it matters.
        bound = min(self.longest, self.first * self.factor ** min(failures - 1, 64))
        return bound * draw() if self.jitter else bound

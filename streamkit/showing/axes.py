"""Where an axis has its marks, and what they say. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_STEPS_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000),
    *(60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000),
    *(86_400_000, 2 * 86_400_000, 7 * 86_400_000, 14 * 86_400_000, 28 * 86_400_000, 91 * 86_400_000, 365 * 86_400_000),
)


def value_marks(least: float, most: float, about: int = 4) -> list[float]:
    """Round numbers from at or below ``least`` to at or above ``most``, about so many steps apart."""
    if not most > least:
        most = least + (abs(least) or 1.0)
    rough = (most - least) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def time_marks(start_ms: float, end_ms: float, about: int = 6) -> list[tuple[int, str]]:
    """Round instants within a span, and each as text in UTC: a date where the day is new, a time otherwise."""
    rough = max(1.0, (end_ms - start_ms) / about)
    step = next((each for each in _STEPS_MS if each >= rough), _STEPS_MS[-1])
    marks = range(math.ceil(start_ms / step) * step, math.floor(end_ms) + 1, step)
    return [(mark, _time(mark, step)) for mark in marks]


def _time(at_ms: int, step_ms: int) -> str:
    when = datetime.fromtimestamp(at_ms / 1000, UTC)
    if step_ms >= 86_400_000:
        return f"{when:%b %d}"
    if at_ms % 86_400_000 == 0:
        return f"{when:%b %d}"
    if step_ms >= 60_000:
        return f"{when:%H:%M}"
    text = f"{when:%H:%M:%S}"
    return text if step_ms >= 1000 else f"{text}.{at_ms % 1000:03d}"

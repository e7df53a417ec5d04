"""How long which resolution is kept, and which periods can be asked for. Pure.

Follows "Metrics retention" of the CloudWatch user guide, and ``MetricStat`` of its API reference.
"""

from __future__ import annotations

from typing import NamedTuple

from streamkit.errors import ValidationError

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
SECONDS_KEPT_MS = 3 * HOUR_MS
"""How long buckets of one second are kept, and with them every period under a minute."""
MINUTES_KEPT_MS = 15 * DAY_MS
"""How long buckets of one minute are kept."""
HIGH_RESOLUTION_PERIODS_MS = frozenset({1000, 5000, 10_000, 20_000, 30_000})
"""The periods under a minute that can be asked for."""


class Resolution(NamedTuple):
    """Buckets of one width."""

    width_ms: int
    kept_ms: int
    values_bytes: int
    """What the distributions of all its buckets may take, for one series."""


RESOLUTIONS = (
    Resolution(SECOND_MS, SECONDS_KEPT_MS, 3 << 20),
    Resolution(MINUTE_MS, MINUTES_KEPT_MS, 5 << 20),
    Resolution(5 * MINUTE_MS, 63 * DAY_MS, 4 << 20),
    Resolution(HOUR_MS, 455 * DAY_MS, 3 << 20),
)
"""From fine to coarse; each width is a multiple of the one before, and kept for longer."""


def resolution_of(period_ms: int) -> int:
    """Which of ``RESOLUTIONS`` answers for a period: the coarsest that divides it, as that is kept for longest.

    Raises:
        ValidationError: ``period_ms`` is neither 1, 5, 10, 20 or 30 seconds nor a multiple of 60.
    """
    if period_ms not in HIGH_RESOLUTION_PERIODS_MS and (period_ms < MINUTE_MS or period_ms % MINUTE_MS):
        raise ValidationError(
            f"period of {period_ms} ms: choose 1, 5, 10, 20 or 30 seconds or a multiple of 60 seconds"
        )
    return max(at for at, resolution in enumerate(RESOLUTIONS) if period_ms % resolution.width_ms == 0)


def check_range(start_ms: int, end_ms: int, period_ms: int, now_ms: int | None = None) -> int:
    """Accept a range of time and a period whose data is still kept; answers with ``resolution_of`` the period.

    Args:
        start_ms: Where the range begins.
        end_ms: Where it ends, not in it.
        period_ms: Of one datapoint.
        now_ms: What the age of ``start_ms`` is counted to; None: any age will do.

    Raises:
        ValidationError: The period is none, too short for data of that age, or the end is not after the start.
    """
    chosen = resolution_of(period_ms)
    if start_ms >= end_ms:
        raise ValidationError(f"the end {end_ms} is not after the start {start_ms}")
    # AWS: a start older than all that is kept needs a multiple of an hour, and finds what there is.
    age_ms = 0 if now_ms is None else now_ms - start_ms
    needed = next((at for at, each in enumerate(RESOLUTIONS) if age_ms <= each.kept_ms), len(RESOLUTIONS) - 1)
    if chosen < needed:
        width = RESOLUTIONS[needed].width_ms // SECOND_MS
        kept = RESOLUTIONS[chosen].kept_ms
        raise ValidationError(
            f"a period of {period_ms // SECOND_MS} seconds has data for {_span(kept)}, the start is {_span(age_ms)} "
            f"old: choose a period that is a multiple of {width} seconds, or a later start"
        )
    return chosen


def _span(span_ms: int) -> str:
    return f"{span_ms / HOUR_MS:.4g} hours" if span_ms < 2 * DAY_MS else f"{span_ms / DAY_MS:.4g} days"

"""What is put of a metric: one value, several with counts, or a statistic set. Pure.

Follows ``MetricDatum`` and ``PutMetricData`` of the CloudWatch API reference.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import DAY_MS, HOUR_MS
from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic_set import StatisticSet, check_sample, check_statistic_set
from streamkit.metrics.unit import Unit, check_unit

MAX_DATA = 1000
"""Of one call."""
MAX_VALUES = 150
"""Of one datum."""
OLDEST_MS = 14 * DAY_MS
"""How far back a timestamp may be."""
NEWEST_MS = 2 * HOUR_MS
"""How far ahead a timestamp may be."""

StorageResolution = Literal[1, 60]


class MetricDatum(msgspec.Struct, frozen=True):
    """Samples of one metric at one instant: of ``value``, ``values`` and ``statistic_values`` exactly one is given.

    ::

        MetricDatum(latency, values=(12.5, 40.0), counts=(90, 10), unit="Milliseconds")

    Raises:
        ValidationError: Something is not allowed; the message says what is.
    """

    metric: Metric
    value: float | None = None
    """One sample, within ±2^360."""
    statistic_values: StatisticSet | None = None
    """What is known of some samples. They have no percentiles and the like, unless they are all of one value."""
    values: tuple[float, ...] = ()
    """Up to 150 samples."""
    counts: tuple[int, ...] = ()
    """How often each of ``values`` was measured; empty: once."""
    timestamp_ms: int | None = None
    """From two weeks back to two hours ahead; None: now."""
    unit: Unit = "None"
    storage_resolution: StorageResolution = 60
    """Seconds: 60 is standard, 1 is high resolution."""

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if self.storage_resolution not in get_args(StorageResolution):
            raise ValidationError(
                f"{self.metric}: storage_resolution is {self.storage_resolution!r}: choose 60 (standard) or 1 (high)"
            )
        given = (self.value is not None) + (self.statistic_values is not None) + bool(self.values)
        if given != 1:
            raise ValidationError(
                f"{self.metric}: {given} of value, statistic_values and values are given: give exactly one"
            )
        if self.counts and len(self.counts) != len(self.values):
            raise ValidationError(
                f"{self.metric}: {len(self.counts)} counts of {len(self.values)} values: give one for each, or none"
            )
        if len(self.values) > MAX_VALUES:
            raise ValidationError(f"{self.metric}: {len(self.values)} values: put {MAX_VALUES} at most in one datum")
        if self.value is not None:
            check_sample(self.metric, self.value)
        if self.statistic_values is not None:
            check_statistic_set(self.metric, self.statistic_values)
        for value, count in zip(self.values, self.counts or (1,) * len(self.values), strict=True):
            check_sample(self.metric, value, count)

    @property
    def latest(self) -> float | None:
        """The last of its values; None: it names none."""
        if self.statistic_values is not None:
            one_value = self.statistic_values.minimum == self.statistic_values.maximum
            return self.statistic_values.minimum if one_value else None
        return self.value if self.value is not None else self.values[-1]

    def instant_ms(self, now_ms: int) -> int:
        """When its samples are from.

        Raises:
            ValidationError: That is over two weeks back or two hours ahead.
        """
        instant = now_ms if self.timestamp_ms is None else self.timestamp_ms
        if not now_ms - OLDEST_MS <= instant <= now_ms + NEWEST_MS:
            raise ValidationError(
                f"{self.metric}: timestamp {instant} is {abs(now_ms - instant) / HOUR_MS:.1f} hours "
                f"{'back' if instant < now_ms else 'ahead'}: put samples from two weeks back to two hours ahead"
            )
        return instant

    def samples(self) -> Samples:
        """Its samples."""
        if self.statistic_values is not None:
            return Samples.of_set(self.statistic_values)
        if self.value is not None:
            return Samples(1, self.value, self.value, self.value)
        counts: Counter[float] = Counter()
        for value, count in zip(self.values, self.counts or (1,) * len(self.values), strict=True):
            counts[value] += count
        return Samples.of_counts(counts)

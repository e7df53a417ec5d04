"""One metric's samples of one unit, in buckets of four widths. Pure."""

from __future__ import annotations

from collections import Counter

import msgspec

from streamkit.metrics.buckets import Buckets, BucketsState
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import MINUTE_MS, RESOLUTIONS, SECOND_MS
from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.unit import Unit

MAX_COLLECTED = 1024
"""Samples that wait to be counted."""


class SeriesState(msgspec.Struct, frozen=True, array_like=True):
    """All that is kept of a series, to be encoded."""

    metric: Metric
    unit: Unit = "None"
    latest: float | None = None
    total: StatisticSet | None = None
    sampled: bool = False
    buckets: tuple[BucketsState, ...] = ()
    """Of ``RESOLUTIONS``, in their order."""


class Series:
    """Samples: those of the newest second as they come, which is what makes ``Metrics.put`` fast.

    Seconds are handed on to minutes when they are over, these to five minutes, and these to hours; what is asked for is
    brought up to date first, so a question always finds everything.

    Memory: 61,500 buckets when all are full, in 455 days: 3 MB, and up to 15 MiB and 2 MB of headers for distributions
    of values, so 21 MB at most; of a series that has one value in each bucket, 3 MB.
    """

    __slots__ = (
        *("_buckets", "_total", "collected", "end_ms", "latest", "metric", "sampled", "start_ms", "unit"),
        "weighted",
    )

    def __init__(self, metric: Metric, unit: Unit, now_ms: int) -> None:
        self.metric = metric
        self.unit = unit
        self.latest: float | None = None
        self.sampled = False
        """Whether a gauge filled it."""
        self.start_ms = now_ms - now_ms % SECOND_MS
        """The second that collects, from here up to but not with ``end_ms``."""
        self.end_ms = self.start_ms + SECOND_MS
        self.collected: list[float] = []
        """Its samples that came one by one. ``Metrics.put`` adds to it, and calls ``collect`` at ``MAX_COLLECTED``."""
        self.weighted: dict[float, int] = {}
        """Its samples that came with a count, in the same way."""
        self._total: StatisticSet | None = None
        then: Buckets | None = None
        made: list[Buckets] = []
        for resolution in reversed(RESOLUTIONS):
            then = Buckets(resolution, then)
            made.append(then)
        self._buckets = made[::-1]

    def turn_to(self, now_ms: int) -> None:
        """Let another second be the one that collects, which may also be an earlier one."""
        self.collect()
        self.start_ms = now_ms - now_ms % SECOND_MS
        self.end_ms = self.start_ms + SECOND_MS

    def collect(self) -> None:
        """Count what the second has collected."""
        if not self.collected and not self.weighted:
            return
        if self.weighted:
            counts, self.weighted = self.weighted, {}
            for value, count in Counter(self.collected).items():
                counts[value] = counts.get(value, 0) + count
            samples = Samples.of_counts(counts)
        else:
            samples = Samples.of_list(self.collected)
        self.collected = []
        self._count(samples)
        self._buckets[0].add(self.start_ms, samples)

    def add(self, instant_ms: int, samples: Samples, storage_resolution_ms: int) -> None:
        """Add samples of one instant: to its second, or of standard resolution to its minute."""
        self.collect()
        self._count(samples)
        self._buckets[1 if storage_resolution_ms >= MINUTE_MS else 0].add(instant_ms, samples)

    @property
    def total(self) -> StatisticSet | None:
        """Everything ever put; None: nothing."""
        self.collect()
        return self._total

    def buckets(self, resolution: int) -> Buckets:
        """Those of one of ``RESOLUTIONS``, up to date."""
        self.collect()
        for finer in self._buckets[:resolution]:
            finer.close()
        return self._buckets[resolution]

    def state(self) -> SeriesState:
        """All of it, to be encoded."""
        self.collect()
        for buckets in self._buckets:
            buckets.close()
        states = tuple(buckets.state() for buckets in self._buckets)
        latest, total = self.latest, self._total
        # Whole numbers of over 64 bits have no form in MessagePack.
        if latest is not None:
            latest = float(latest)
        if total is not None:
            total = StatisticSet(total.sample_count, float(total.sum), float(total.minimum), float(total.maximum))
        return SeriesState(self.metric, self.unit, latest, total, self.sampled, states)

    @classmethod
    def of(cls, state: SeriesState) -> Series:
        """The series that had this state."""
        made = cls(state.metric, state.unit, 0)
        made.latest, made._total, made.sampled = state.latest, state.total, state.sampled
        for buckets, each in zip(made._buckets, state.buckets, strict=True):
            buckets.restore(each)
        return made

    def _count(self, samples: Samples) -> None:
        self._total = samples.set if self._total is None else self._total.merge(samples.set)

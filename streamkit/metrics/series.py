"""One metric's samples of one unit, in buckets of four widths; and which of them are not on disk yet. Pure."""

from __future__ import annotations

from collections import Counter

import msgspec

from streamkit.metrics.buckets import Buckets, Row, Usage, row_of
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import MINUTE_MS, RESOLUTIONS, SECOND_MS, SECONDS_KEPT_MS
from streamkit.metrics.samples import Samples
from streamkit.metrics.statistic_set import StatisticSet
from streamkit.metrics.unit import Unit

MAX_COLLECTED = 1024
"""Samples that wait to be counted."""
SERIES_BYTES = 1650
"""What a series takes beside its buckets."""
BEFORE_ALL = -(2**63)
AFTER_ALL = 2**63 - 1
_SECONDS, _MINUTES = RESOLUTIONS[0], RESOLUTIONS[1]
_WIDTHS = _SECONDS.width_ms, _MINUTES.width_ms


class Added(msgspec.Struct, frozen=True):
    """What was added to a series and is to be stored: merged with what is stored of the same buckets."""

    seconds: list[Row]
    """By start. Not of all that is in ``minutes``: some have standard resolution, others were forgotten."""
    minutes: list[Row]
    """By start."""


class Series:
    """Samples: those of the newest second as they come, which is what makes ``Metrics.put`` fast.

    Seconds are handed on to minutes when they are over, these to five minutes, and these to hours; what is asked for is
    brought up to date first, so a question always finds everything.

    What is not on disk is known by its start: ``take`` hands out what starts before an instant, and from then on that
    is taken. What comes later for what is taken already (a late sample, or one that a failed flush gives back) is kept
    twice, in its bucket and by itself, until the next ``take``.

    Memory: see ``Usage`` and ``forgetting``. What it has can be forgotten bucket by bucket.
    """

    __slots__ = (
        *("_buckets", "_late", "_total", "_usage", "collected", "end_ms", "key", "latest", "listed_ms", "metric"),
        *("minute_ms", "minutely", "sampled", "start_ms", "taken_ms", "told_ms", "unit", "wanted_ms", "weighted"),
    )

    def __init__(self, metric: Metric, unit: Unit, now_ms: int, usage: Usage | None = None) -> None:
        self.metric = metric
        self.unit = unit
        self.latest: float | None = None
        self.sampled = False
        """Whether a gauge filled it."""
        self.start_ms = now_ms - now_ms % SECOND_MS
        """The second that collects, from here up to but not with ``end_ms``."""
        self.end_ms = self.start_ms + SECOND_MS
        self.told_ms = now_ms
        """See ``tell``."""
        self.collected: list[float] = []
        """Its samples that came one by one. ``Metrics.put`` adds to it, and calls ``collect`` at ``MAX_COLLECTED``."""
        self.weighted: dict[float, int] = {}
        """Its samples that came with a count, in the same way."""
        self.minutely: list[float] = []
        """Samples of standard resolution that came one by one, all of one minute."""
        self.minute_ms = 0
        """When that minute begins."""
        self.taken_ms = BEFORE_ALL
        """What starts before it was taken to be stored."""
        self.key = ""
        """What it is called where it is stored, once that was asked for."""
        self.listed_ms = BEFORE_ALL
        """When it was last said there that it exists."""
        self.wanted_ms = 0
        """How far back from the newest sample somebody needs it in memory."""
        self._total: StatisticSet | None = None
        self._usage = usage or Usage()
        self._late: tuple[Buckets, Buckets] | None = None
        then: Buckets | None = None
        made: list[Buckets] = []
        for resolution in reversed(RESOLUTIONS):
            then = Buckets(resolution, then, self._usage)
            made.append(then)
        self._buckets = made[::-1]

    def turn_to(self, now_ms: int) -> None:
        """Let another second be the one that collects, which may also be an earlier one."""
        self.collect()
        self.tell(now_ms)
        self.start_ms = now_ms - now_ms % SECOND_MS
        self.end_ms = self.start_ms + SECOND_MS

    # INVARIANT: test_a_clock_set_back_by_more_than_is_kept_leaves_no_alarm_blind
    def tell(self, now_ms: int) -> None:
        """Say what time it is, before samples of now are added.

        A clock that was set back may make them too old to be kept beside what came before.
        """
        if now_ms < self.told_ms - SECONDS_KEPT_MS:
            self.collect()
            for buckets in self._buckets:
                buckets.set_back(now_ms)
        self.told_ms = now_ms

    def collect(self) -> None:
        """Count what the second has collected, and the minute."""
        if self.minutely:
            values, self.minutely = self.minutely, []
            self._add(1, self.minute_ms, Samples.of_list(values))
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
        self._add(0, self.start_ms, samples)

    # HOT: the gauge of every alarm, several times each period.
    def put_minutely(self, instant_ms: int, value: float) -> None:
        """Add one sample of standard resolution, which is the latest."""
        minute_ms = instant_ms - instant_ms % MINUTE_MS
        if minute_ms != self.minute_ms or len(self.minutely) >= MAX_COLLECTED:
            self.collect()
            self.tell(instant_ms)
            self.minute_ms = minute_ms
        self.latest = value
        self.minutely.append(value)

    def add(self, instant_ms: int, samples: Samples, storage_resolution_ms: int) -> None:
        """Add samples of one instant: to its second, or of standard resolution to its minute."""
        self.collect()
        self._add(1 if storage_resolution_ms >= MINUTE_MS else 0, instant_ms, samples)

    def _add(self, resolution: int, instant_ms: int, samples: Samples) -> None:
        self._total = samples.set if self._total is None else self._total.merge(samples.set)
        if instant_ms < self.taken_ms:
            for late, width in zip(self._later()[resolution:], _WIDTHS[resolution:], strict=True):
                late.insert(row_of(instant_ms - instant_ms % width, samples))
        self._buckets[resolution].add(instant_ms, samples)

    @property
    def total(self) -> StatisticSet | None:
        """Everything ever put; None: nothing."""
        self.collect()
        return self._total

    @property
    def count(self) -> int:
        """How many samples there ever were; leaves what is collected as it is."""
        count = len(self.collected) + len(self.minutely)
        if self.weighted:
            count += sum(self.weighted.values())
        return count if self._total is None else count + self._total.sample_count

    def running(self) -> tuple[int, float, float]:
        """How many samples there ever were, their sum, and the smallest or 0; leaves what is collected as it is."""
        total = self._total
        count, sum_of, least = (0, 0.0, 0.0) if total is None else (total.sample_count, total.sum, total.minimum)
        for values in (self.collected, self.minutely):
            if values:
                count += len(values)
                sum_of += sum(values)
                least = min(least, *values)
        for value, times in self.weighted.items():
            count += times
            sum_of += value * times
            least = min(least, value)
        return count, sum_of, least

    def buckets(self, resolution: int) -> Buckets:
        """Those of one of ``RESOLUTIONS``, up to date."""
        self.collect()
        for finer in self._buckets[:resolution]:
            finer.close()
            finer.hand_on()
        return self._buckets[resolution]

    # ---- what is to be stored

    # INVARIANT: test_what_is_taken_is_what_was_added
    def take(self, until_ms: int) -> Added | None:
        """What starts before an instant, a whole minute, and was not taken yet, and what came late; None: nothing."""
        self.collect()
        seconds, minutes = self._buckets[:2]
        seconds.close()
        seconds.hand_on(until_ms)
        since_ms = self.taken_ms
        self.taken_ms = max(since_ms, until_ms)
        added = Added(seconds.rows(since_ms, until_ms), minutes.rows(since_ms, until_ms))
        late, self._late = self._late, None
        if late is not None:
            # What was not taken starts after all that was, so what came late only joins what is before it.
            found = _all_of(late)
            _drop(late)
            added = Added([*found.seconds, *added.seconds], [*found.minutes, *added.minutes])
        return added if added.minutes else None

    def give_back(self, added: Added) -> None:
        """It was not stored after all."""
        seconds, minutes = self._later()
        for row in added.seconds:
            seconds.insert(row)
        for row in added.minutes:
            minutes.insert(row)

    def not_taken(self) -> Added:
        """What ``take`` would hand out, were it to take all."""
        minutes = self.buckets(1).rows(self.taken_ms, AFTER_ALL)
        seconds = self._buckets[0].rows(self.taken_ms, AFTER_ALL)
        if self._late is None:
            return Added(seconds, minutes)
        late = _all_of(self._late)
        return Added([*late.seconds, *seconds], [*late.minutes, *minutes])

    def drop_late(self) -> int:
        """Forget what came late and was not taken; how many samples."""
        if self._late is None:
            return 0
        lost = sum(row[1] for row in _all_of(self._late).minutes)
        _drop(self._late)
        self._late = None
        return lost

    def load(self, resolution: int, start_ms: int, end_ms: int, rows: list[Row]) -> None:
        """Have these buckets in place of those that start in [start_ms, end_ms). They count as stored, and as no new
        samples; so what is in that range and is not stored must have been taken before, and be in ``rows``."""
        for finer in self._buckets[:resolution]:
            finer.close()
            finer.hand_on()
        self._buckets[resolution].replace(start_ms, end_ms, rows)

    def forget(self, resolution: int, before_ms: int) -> None:
        """Forget the buckets of one resolution that start before an instant."""
        self._buckets[resolution].forget(before_ms)
        for coarser in self._buckets[resolution + 1 :]:
            coarser.close()  # An open one takes more than one that is kept, and is not counted.

    def _later(self) -> tuple[Buckets, Buckets]:
        if self._late is None:
            # None is handed on: what is given back has its minutes with it.
            self._late = Buckets(_SECONDS, None, self._usage), Buckets(_MINUTES, None, self._usage)
        return self._late


def _all_of(late: tuple[Buckets, Buckets]) -> Added:
    return Added(late[0].rows(BEFORE_ALL, AFTER_ALL), late[1].rows(BEFORE_ALL, AFTER_ALL))


def _drop(late: tuple[Buckets, Buckets]) -> None:
    for buckets in late:
        buckets.replace(BEFORE_ALL, AFTER_ALL, ())

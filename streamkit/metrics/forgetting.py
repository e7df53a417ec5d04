"""What of many series is forgotten when they take more memory than they may. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from streamkit.metrics.buckets import Usage
from streamkit.metrics.periods import DAY_MS, HOUR_MS, MINUTE_MS
from streamkit.metrics.series import AFTER_ALL, Series

MIB = 1 << 20
MAX_BYTES = 64 * MIB
"""What all series of a kit may take, unless said otherwise."""


class _Step(msgspec.Struct, frozen=True):
    """Buckets of one resolution that go, but for the newest."""

    resolution: int
    newest_ms: int
    """How far back from the newest sample they stay."""


_STEPS = (
    _Step(0, 0),
    _Step(1, DAY_MS),
    _Step(1, 3 * HOUR_MS),
    _Step(1, 10 * MINUTE_MS),
    _Step(2, DAY_MS),
    _Step(3, 7 * DAY_MS),
    _Step(1, 0),
    _Step(2, 0),
    _Step(3, 0),
)


class Forgetting:
    """Keeps all series of a kit within a number of bytes.

    When they take more, buckets are forgotten until they take a sixteenth less, from the series that were longest not
    reported to the others, in this order: seconds; minutes, at first those of over a day ago, then of over three hours,
    then of over ten minutes; five minutes of over a day ago; hours of over a week ago; then the newer ones.

    What is not stored (where metrics are stored at all) and what somebody needs in memory, such as an alarm, stays as
    long as there is anything else. If there is not, it goes in the same order, and last what came late and waits to be
    stored, which is counted in ``lost``.

    What a series takes beside its buckets stays, and is counted.
    """

    def __init__(self, usage: Usage, max_bytes: int) -> None:
        self.lost = 0
        """Samples that were forgotten before they were stored."""
        self._usage = usage
        self._max_bytes = max_bytes
        self.limit = max_bytes
        """More than this is too much. It is over ``max_bytes`` while there is nothing left that can be forgotten."""

    # INVARIANT: test_memory_of_all_series_is_bounded
    def __call__(self, series: Iterable[Series], *, stored: bool) -> None:
        """Forget what is too much; ``stored``: what was taken of a series is on disk."""
        target = self._max_bytes - self._max_bytes // 16
        ordered = sorted(series, key=lambda each: each.end_ms)
        for _ in self._forget(ordered, stored=stored):
            if self._usage.bytes <= target:
                self.limit = self._max_bytes
                return
        # Nothing is left but what it has itself: it is no use to look again before there is more.
        self.limit = max(self._max_bytes, self._usage.bytes + self._max_bytes // 16)

    def _forget(self, ordered: list[Series], *, stored: bool) -> Iterator[None]:
        for step in _STEPS:
            for each in ordered:
                before_ms = each.end_ms - step.newest_ms
                if stored:
                    before_ms = min(before_ms, _stored_to(each, step.resolution))
                if each.wanted_ms:
                    before_ms = min(before_ms, each.end_ms - each.wanted_ms)
                each.forget(step.resolution, before_ms)
                yield
        for step in _STEPS:
            if step.newest_ms == 0:
                for each in ordered:
                    if stored and step.resolution == 1:
                        self.lost += sum(row[1] for row in each.buckets(1).rows(each.taken_ms, AFTER_ALL))
                    each.forget(step.resolution, AFTER_ALL)
                    yield
        for each in ordered:
            self.lost += each.drop_late()
            yield


def _stored_to(series: Series, resolution: int) -> int:
    """Before which instant all buckets of a resolution are on disk; of the coarser ones, what they are made of is."""
    return series.taken_ms if resolution < 2 else AFTER_ALL

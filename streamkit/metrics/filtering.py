"""Metric filters at work: lines in, samples into ``Metrics``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.datum import MAX_DATA, MAX_VALUES, NEWEST_MS, OLDEST_MS, MetricDatum
from streamkit.metrics.metric import Metric
from streamkit.metrics.metric_filter import FilterState, MetricFilter
from streamkit.metrics.periods import MINUTE_MS
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics

MAX_FILTERS = 100
"""Of one source, as of one log group."""

logger = logging.getLogger("streamkit.metrics")


class FilterCounts(msgspec.Struct):
    """What filters have done, all together."""

    events: int = 0
    """Lines and records they looked at."""
    matched: int = 0
    """Matches, of one filter each."""
    published: int = 0
    """Samples, those of default values too."""
    unpublished: int = 0
    """Matches without a sample: the value is no number, or a dimension is not there or not allowed."""
    dropped: int = 0
    """Matches without a sample: a filter had 1,000 pairs of dimensions in that hour already."""
    out_of_time: int = 0
    """Samples that were over two weeks back or two hours ahead."""


class Filtering:
    """Some filters, what they remember, and where their samples go: in standard resolution, at the events' own time."""

    def __init__(self, filters: Iterable[MetricFilter], metrics: Metrics) -> None:
        """Check them.

        Raises:
            ValidationError: there are none or more than 100, one is no metric filter, or two have one name.
        """
        self.filters = tuple(filters)
        self.counts = FilterCounts()
        self._metrics = metrics
        self._dropping: set[str] = set()
        """Filters that said so in the log."""
        self._states = [FilterState() for _ in self.filters]
        for each in self.filters:
            if not isinstance(each, MetricFilter):
                raise ValidationError(f"{each!r:.100} is no MetricFilter")
        names = Counter(each.name for each in self.filters)
        if not 1 <= len(self.filters) <= MAX_FILTERS:
            raise ValidationError(f"{len(self.filters)} metric filters: give 1 to {MAX_FILTERS}")
        if len(names) < len(self.filters):
            raise ValidationError(f"two metric filters have the name {names.most_common(1)[0][0]!r}: rename one")

    def put(self, events: Sequence[tuple[int, object]], now_ms: int) -> None:
        """Put what the filters make of these events: a string is a line, anything else a decoded record.

        Each comes with its instant. A default value is for each minute whose first events are here and of which none
        here matches, so give the events of a minute together.
        """
        counts = self.counts
        counts.events += len(events)
        data: list[MetricDatum] = []
        for each, state in zip(self.filters, self._states, strict=True):
            found = each.extract(events, state)
            counts.matched += found.matched
            counts.unpublished += found.unpublished
            if found.dropped and each.name not in self._dropping:
                self._dropping.add(each.name)
                logger.warning("metric filter %s drops matches: its dimensions have too many values an hour", each.name)
            counts.dropped += found.dropped
            # Thousands of matches are few values of few metrics.
            minutes: dict[tuple[Metric, int], dict[float, int]] = {}
            for sample in found.samples:
                if not now_ms - OLDEST_MS <= sample.timestamp_ms <= now_ms + NEWEST_MS:
                    counts.out_of_time += 1
                    continue
                values = minutes.setdefault((sample.metric, sample.timestamp_ms // MINUTE_MS * MINUTE_MS), {})
                # The last value stays the last.
                values[sample.value] = values.pop(sample.value, 0) + 1
                counts.published += 1
            data += _data(minutes, each.transformation.unit, now_ms)
        for start in range(0, len(data), MAX_DATA):
            self._metrics.put_data(data[start : start + MAX_DATA], now_ms)


def _data(minutes: dict[tuple[Metric, int], dict[float, int]], unit: Unit, now_ms: int) -> Iterable[MetricDatum]:
    for (metric, minute_ms), values in minutes.items():
        pairs = list(values.items())
        # The minute may begin a little before what is taken.
        instant_ms = max(minute_ms, now_ms - OLDEST_MS)
        for start in range(0, len(pairs), MAX_VALUES):
            part = pairs[start : start + MAX_VALUES]
            yield MetricDatum(
                metric,
                values=tuple(value for value, _ in part),
                counts=tuple(count for _, count in part),
                timestamp_ms=instant_ms,
                unit=unit,
            )

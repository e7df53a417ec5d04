"""Metric filters: from lines and records to samples of a metric. Pure; what a filter remembers is given to it.

Follows "Creating metrics from log events using filters" of the CloudWatch Logs user guide, and ``PutMetricFilter`` and
``MetricTransformation`` of its API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import force_setattr

from streamkit.errors import ValidationError
from streamkit.metrics.filter_json import Selector
from streamkit.metrics.filter_pattern import EventPattern, FilterPattern, Match, RegexFilter, as_document
from streamkit.metrics.filter_values import number, shown
from streamkit.metrics.metric import Metric
from streamkit.metrics.statistic_set import LARGEST_VALUE
from streamkit.metrics.unit import Unit, check_unit

MAX_NAME_LENGTH = 512
MAX_FILTER_DIMENSIONS = 3
MAX_DIMENSION_PAIRS = 1000
"""Distinct names and values of dimensions that one filter may publish in an hour."""
_MOST_MINUTES = 180
"""With events, of which it is remembered that they had some."""
MAX_HOURS = 24
"""How many hours a filter's dimensions are counted for, the newest first."""

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000

Lookup = Callable[[Match], Any]
"""What a reference leads to in a match; None: nothing."""


class Sample(NamedTuple):
    """One value of a metric."""

    metric: Metric
    value: float
    timestamp_ms: int


class MetricTransformation(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric filter publishes for each match.

    Raises:
        ValidationError: A part is not allowed; the message says which and what is.
    """

    metric_namespace: str
    metric_name: str
    metric_value: str | float
    """A number such as ``1`` or ``"1"``, or a reference: ``$.path`` into JSON, ``$name`` of a field or named group."""
    default_value: float | None = None
    """Published for each minute that has lines but no match. Not together with dimensions."""
    dimensions: Mapping[str, str] = {}
    """Up to 3: from the dimension's name to a reference."""
    unit: Unit = "None"
    """One of ``unit.UNITS``."""

    def __post_init__(self) -> None:
        Metric(self.metric_namespace, self.metric_name, tuple((name, "x") for name in self.dimensions))
        if len(self.dimensions) > MAX_FILTER_DIMENSIONS:
            raise ValidationError(f"dimensions: a metric filter has at most {MAX_FILTER_DIMENSIONS}")
        if self.default_value is not None:
            if self.dimensions:
                raise ValidationError("default_value is not allowed together with dimensions: leave one of them out")
            if _published(self.default_value) is None:
                raise ValidationError(f"default_value is {self.default_value!r}: it must be a finite number")
        check_unit(self.unit)
        force_setattr(self, "dimensions", dict(self.dimensions))


class FilterState:
    """What one filter has published: dimensions by hour, at most 1,000 pairs for each of 24 hours, and minutes.

    CloudWatch may disable a filter that has more dimensions. Here what needs another pair is dropped.
    """

    def __init__(self) -> None:
        self._hours: dict[int, set[tuple[str, str]]] = {}
        self._minutes: dict[int, None] = {}

    def is_first(self, minute: int) -> bool:
        """Note that a minute has events; false: that was known already."""
        if minute in self._minutes:
            return False
        self._minutes[minute] = None
        if len(self._minutes) > _MOST_MINUTES:
            del self._minutes[next(iter(self._minutes))]
        return True

    def admit(self, pairs: Iterable[tuple[str, str]], timestamp_ms: int) -> bool:
        """Count ``pairs``; false: they are too many for their hour, or the hour is older than those counted."""
        hour = timestamp_ms // _HOUR_MS
        known = self._hours.get(hour)
        if known is None:
            if len(self._hours) == MAX_HOURS:
                oldest = min(self._hours)
                if hour < oldest:
                    return False
                del self._hours[oldest]
            known = self._hours[hour] = set()
        new = set(pairs) - known
        if len(known) + len(new) > MAX_DIMENSION_PAIRS:
            return False
        known |= new
        return True

    def __len__(self) -> int:
        """How many pairs are remembered, over all hours."""
        return sum(map(len, self._hours.values()))


class Extraction(msgspec.Struct):
    """What a filter made of some lines."""

    samples: list[Sample] = []
    """In the order of the lines; those of the default value follow."""
    matched: int = 0
    """Lines that matched, whether or not they gave a sample."""
    unpublished: int = 0
    """Of these, without a sample: the value is no number, or a dimension is not there or not allowed."""
    dropped: int = 0
    """Of these, without a sample: the dimensions of the hour were used up."""


class MetricFilter:
    """Publishes a sample of a metric for each line or record that matches."""

    def __init__(
        self, name: str, pattern: FilterPattern | RegexFilter | EventPattern, transformation: MetricTransformation
    ) -> None:
        """Check that the pattern has what the transformation refers to.

        Args:
            name: 1 to 512 characters without ``:`` and ``*``.
            pattern: A CloudWatch filter pattern, a regular expression, or an event pattern.
            transformation: What is published.

        Raises:
            ExpressionError: A ``$.path`` is not valid.
            ValidationError: The name is not allowed, or a reference leads nowhere.
        """
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH or {":", "*"} & set(name):
            raise ValidationError(
                f"metric filter name {name!r}: use 1 to {MAX_NAME_LENGTH} characters, and neither a colon nor *"
            )
        self.name = name
        self.pattern = pattern
        self.transformation = transformation
        if isinstance(pattern, (FilterPattern, RegexFilter)):
            self._match: Callable[[Any], Match | None] = pattern.match
        else:
            self._match = lambda event: (
                None
                if (document := as_document(event)) is None or not pattern.matches(document)
                else Match({}, document)
            )
        value = transformation.metric_value
        constant = number(value) if isinstance(value, str) else value
        if constant is None:
            self._value = self._lookup("metric_value", str(value))
        elif _published(constant) is None:
            raise ValidationError(f"metric_value is {value!r}: it must be a finite number, or a reference")
        else:
            self._value = lambda match: constant
        self._dimensions = [
            (dimension, self._lookup(f"dimension {dimension!r}", reference))
            for dimension, reference in transformation.dimensions.items()
        ]
        self._metric = Metric(transformation.metric_namespace, transformation.metric_name)

    def __repr__(self) -> str:
        return f"MetricFilter({self.name!r}, {self.pattern!r})"

    def extract(self, events: Iterable[tuple[int, Any]], state: FilterState | None = None) -> Extraction:
        """The samples of some lines and decoded records. The same input gives the same samples.

        The default value is published at the start of each minute that has events here and no match among them, unless
        the minute had events before: give the first events of a minute together.

        Args:
            events: Each with its timestamp in milliseconds. A string is a line, anything else a decoded record.
            state: What was published so far, which this call adds to; None: nothing.
        """
        extraction = Extraction()
        state = FilterState() if state is None else state
        minutes: dict[int, bool] = {}
        for timestamp_ms, event in events:
            minute = timestamp_ms // _MINUTE_MS
            match = self._match(event)
            minutes[minute] = minutes.get(minute, False) or match is not None
            if match is not None:
                extraction.matched += 1
                self._publish(match, timestamp_ms, state, extraction)
        default = self.transformation.default_value
        if default is not None:
            # INVARIANT: test_a_minute_has_its_default_value_once_however_often_lines_are_looked_at
            idle = [minute for minute, matched in minutes.items() if state.is_first(minute) and not matched]
            extraction.samples += [Sample(self._metric, float(default), minute * _MINUTE_MS) for minute in idle]
        return extraction

    def _publish(self, match: Match, timestamp_ms: int, state: FilterState, extraction: Extraction) -> None:
        value = _published(self._value(match))
        metric = self._metric if value is None else self._dimensioned(match)
        if value is None or metric is None:
            extraction.unpublished += 1
        elif metric.dimensions and not state.admit(metric.dimensions, timestamp_ms):
            extraction.dropped += 1
        else:
            extraction.samples.append(Sample(metric, value, timestamp_ms))

    def _dimensioned(self, match: Match) -> Metric | None:
        """None: a dimension is not there, or not what a dimension may be."""
        if not self._dimensions:
            return self._metric
        pairs: list[tuple[str, str]] = []
        for name, lookup in self._dimensions:
            text = shown(lookup(match))
            if text is None:
                return None
            pairs.append((name, text))
        try:
            return Metric(self._metric.namespace, self._metric.name, tuple(pairs))
        except ValidationError:
            return None

    def _lookup(self, what: str, reference: str) -> Lookup:
        pattern = self.pattern
        if not isinstance(reference, str) or not reference.startswith("$"):
            raise ValidationError(f"{what} is {reference!r}: use a reference such as $.field or $name")
        if reference.startswith(("$.", "$[")):
            if isinstance(pattern, RegexFilter) or (isinstance(pattern, FilterPattern) and pattern.kind != "json"):
                raise ValidationError(f"{what} is {reference!r}: only JSON and event patterns have {reference}")
            selector = Selector.of(reference)
            return lambda match: selector.first(match.document)
        name = reference[1:]
        names = pattern.names if isinstance(pattern, (FilterPattern, RegexFilter)) else ()
        numbered = isinstance(pattern, FilterPattern) and pattern.kind == "fields" and name.isdecimal()
        if name not in names and not numbered:
            known = ", ".join(f"${each}" for each in names) or "none"
            raise ValidationError(f"{what} is {reference!r}, which the pattern does not have: it has {known}")
        return lambda match: match.values.get(reference)


def _published(value: object) -> float | None:
    """The number that is published for ``value``; None: it is none that a metric takes."""
    found = number(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not -LARGEST_VALUE <= found <= LARGEST_VALUE:
        return None
    return float(found)

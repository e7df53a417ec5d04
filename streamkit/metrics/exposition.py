"""All metrics as text that Prometheus reads, in slices, so that nobody waits for the whole of it.

Follows "Exposition formats" of the Prometheus documentation, and the OpenMetrics 1.0 specification.

HOT: `python -m benchmarks --only scrape`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.prometheus_names import SCALES, Scale, family_name, labels_of, labels_text
from streamkit.metrics.series import Series
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The ``Content-Type`` of the text format."""
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The ``Content-Type`` of OpenMetrics."""
SERIES_DROPPED = "streamkit_prometheus_series_dropped"
"""The gauge that says how many series an answer leaves out."""
SERIES_FOLDED = "streamkit_prometheus_series_folded"
"""The gauge that says how many series are told together, as ``other``."""
SAMPLES_DROPPED = "streamkit_metrics_samples_dropped"
"""The counter (with ``_total``) of samples that ``Metrics`` had no room for."""
OTHER = "other"
"""What a label says of all values that it has no room for."""
SLICE = 500
"""Series of one slice."""

Kind = Literal["gauge", "counter", "summary"]
_ENDINGS: dict[Kind, tuple[str, ...]] = {"gauge": ("",), "counter": ("_total",), "summary": ("_count", "_sum")}
_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much an answer may have. What is more is told together or left out, and counted in the answer.

    Raises:
        ValidationError: One is below 1, or labels would be too short to be told apart.
    """

    series: int = 100_000
    """In all; gauges go first, then what was reported first."""
    series_per_metric: int = 20_000
    label_values: int = 10_000
    """Different values of one label of one metric. Series of further values are summed up as ``other``; gauges, which
    cannot be, are left out."""
    label_length: int = 128
    """Characters; a value that is longer is cut, and ends in a digest of all of it."""

    def __post_init__(self) -> None:
        if min(self.series, self.series_per_metric, self.label_values) < 1 or self.label_length < 16:
            raise ValidationError(f"{self}: each is 1 or more, and label_length 16 or more")


_Value = tuple[int, float] | float | None
"""What a series has to tell: how many samples and their sum, or the last one."""


class _Family:
    """Series of one name and kind."""

    __slots__ = ("folded", "help", "kind", "labels", "name", "scale", "values")

    def __init__(self, name: str, kind: Kind, of: str, scale: Scale) -> None:
        self.name = name
        self.kind: Kind = kind
        self.help = of.translate(_HELP)
        self.scale = scale
        self.labels: set[str] = set()
        """What its series have, as text."""
        self.values: dict[str, set[str]] = {}
        """By the name of the label."""
        self.folded: set[str] = set()


class _Place(msgspec.Struct, gc=False):
    """Where a series is told."""

    kind: Kind
    family: _Family | None
    """None: it has no place."""
    labels: str = ""
    """As they stand behind the name."""
    folded: bool = False


class Exposition:
    """The metrics of a kit as text. Keep it: what does not change from one answer to the next is kept with it.

    - What a gauge measures is a gauge, with its last value: ``await metrics.sample(now_ms)`` first.
    - A metric in ``Count`` is a counter: the sum of its samples, ``..._total``.
    - Any other is a summary without quantiles: ``..._count`` samples and their ``..._sum``, so that
      ``rate(sum) / rate(count)`` is the average. Quantiles could not be put together over series.
    - One that has had a negative value is a gauge with its last value, ``..._latest``, since counters and sums grow.

    Units are base units and part of names (``_seconds``, ``_bytes``, ``_ratio``). Counters run from the start of the
    process, or from what was restored. Names that two metrics would share are the first one's; the other is left out.

    Call it on the event loop's thread: metrics are not thread-safe. One answer at a time.
    """

    def __init__(self, metrics: Metrics, bounds: Bounds | None = None) -> None:
        self._metrics = metrics
        self._bounds = bounds or Bounds()
        self._places: dict[tuple[Metric, Unit], _Place] = {}
        self._families: dict[str, _Family] = {}
        self._samples: dict[str, _Family] = {}
        self._labels: dict[tuple[tuple[str, str], ...], tuple[dict[str, str] | None, str]] = {}
        self._dropped = 0

    def text(self, *, openmetrics: bool = False) -> bytes:
        """All at once."""
        return "".join(self.slices(openmetrics=openmetrics)).encode()

    def slices(self, *, openmetrics: bool = False) -> Iterator[str]:
        """The answer, a slice at a time, which may be empty. Metrics may be put in between."""
        metrics = self._metrics
        # Those that come meanwhile wait for the next answer.
        for _ in range(0, metrics.spread(SLICE // 10), SLICE // 10):
            yield ""
            metrics.spread(SLICE // 10)
        found = metrics.series()
        if len(self._places) > 2 * len(found):
            self._forget()
        gauges = metrics.registered()
        chosen = [each for each in found if each.metric in gauges]
        chosen += [each for each in found if each.metric not in gauges]
        self._dropped = 0
        room = self._bounds.series
        told: dict[_Family, tuple[list[_Value], list[_Place]]] = {}
        for at, series in enumerate(chosen):
            if at % SLICE == SLICE - 1:
                yield ""
            if series.sampled and series.metric not in gauges:
                continue  # What it measured is gone.
            count, sum_of, least = series.running()
            place = self._place(series, gauge=series.metric in gauges, negative=least < 0)
            family = place.family
            if not count and place.kind != "gauge":
                continue
            if family is None or room <= 0:
                self._dropped += 1
                continue
            lists = told.get(family)
            if lists is None:
                lists = told[family] = [], []
            if len(lists[0]) >= self._bounds.series_per_metric:
                self._dropped += 1
                continue
            room -= not place.folded
            lists[0].append(series.latest if place.kind == "gauge" else (count, sum_of))
            lists[1].append(place)
        for family, lists in told.items():
            yield _header(family, openmetrics=openmetrics)
            yield from _lines(family, *lists)
        yield self._own(openmetrics=openmetrics)

    def _forget(self) -> None:
        self._places.clear()
        self._families.clear()
        self._samples.clear()
        self._labels.clear()

    def _place(self, series: Series, *, gauge: bool, negative: bool) -> _Place:
        key = (series.metric, series.unit)
        kind: Kind = "gauge" if gauge or negative else "counter" if series.unit == "Count" else "summary"
        place = self._places.get(key)
        if place is None or place.kind != kind:
            place = self._places[key] = self._find_place(series, kind, gauge=gauge)
        return place

    def _find_place(self, series: Series, kind: Kind, *, gauge: bool) -> _Place:
        metric = series.metric
        labels, text = self._labels_of(metric)
        # A gauge without a gauge: it has another name than the sums that it may have been.
        latest = kind == "gauge" and not gauge
        family = self._family(metric, series.unit, kind, latest=latest)
        if labels is None or family is None:
            return _Place(kind, None)
        over: dict[str, str] = {}
        for name, value in labels.items():
            values = family.values.get(name)
            if values is None:
                values = family.values[name] = set()
            if len(values) < self._bounds.label_values:
                values.add(value)
            elif value not in values:
                over[name] = OTHER
        folded = bool(over)
        if folded:
            text = labels_text({**labels, **over})
        if (folded and kind == "gauge") or (not folded and text in family.labels):
            return _Place(kind, None)
        (family.folded if folded else family.labels).add(text)
        return _Place(kind, family, text, folded)

    def _labels_of(self, metric: Metric) -> tuple[dict[str, str] | None, str]:
        # The metrics of one queue or stream have the same dimensions.
        known = self._labels.get(metric.dimensions)
        if known is None:
            labels = labels_of(metric, self._bounds.label_length)
            known = self._labels[metric.dimensions] = labels, labels_text(labels or {})
        return known

    def _family(self, metric: Metric, unit: Unit, kind: Kind, *, latest: bool) -> _Family | None:
        name = family_name(metric, unit, latest=latest)
        family = self._families.get(name)
        if family is not None:
            return family if family.kind == kind and family.scale == SCALES[unit] else None
        if name in (SERIES_DROPPED, SERIES_FOLDED, SAMPLES_DROPPED):
            return None
        # Prometheus refuses a whole answer for one name that is there twice.
        names = [name, *(f"{name}{ending}" for ending in _ENDINGS[kind])]
        if any(each in self._samples for each in names):
            return None
        family = self._families[name] = _Family(name, kind, f"{metric.namespace} {metric.name}", SCALES[unit])
        self._samples.update(dict.fromkeys(names, family))
        return family

    def _own(self, *, openmetrics: bool) -> str:
        folded = sum(place.folded for place in self._places.values())
        one = Scale()
        lines = [
            _header(_Family(SERIES_DROPPED, "gauge", "Series left out of this answer.", one), openmetrics=openmetrics),
            f"{SERIES_DROPPED} {self._dropped}\n",
            _header(_Family(SERIES_FOLDED, "gauge", f"Series told as {OTHER}.", one), openmetrics=openmetrics),
            f"{SERIES_FOLDED} {folded}\n",
            _header(
                _Family(SAMPLES_DROPPED, "counter", "Samples that there was no room for.", one), openmetrics=openmetrics
            ),
            f"{SAMPLES_DROPPED}_total {self._metrics.dropped}\n",
        ]
        return "".join([*lines, "# EOF\n"] if openmetrics else lines)


def accepts_openmetrics(accept: str) -> bool:
    """Whether a request's ``Accept`` asks for OpenMetrics rather than the text format."""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in wanted:
            quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
            try:
                wanted[kind] = max(wanted[kind], min(float(quality), 1.0))
            except ValueError:
                continue
    return wanted["application/openmetrics-text"] > 0 and wanted["application/openmetrics-text"] >= wanted["text/plain"]


def _header(family: _Family, *, openmetrics: bool) -> str:
    name = family.name if openmetrics or family.kind != "counter" else f"{family.name}_total"
    unit = f"# UNIT {name} {family.scale.suffix}\n" if openmetrics and family.scale.suffix else ""
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n{unit}"


# HOT: every series of every answer.
def _lines(family: _Family, values: list[_Value], places: list[_Place]) -> Iterator[str]:
    name, times, by = family.name, family.scale.times, family.scale.by
    counter = family.kind == "counter"
    folded: dict[str, list[float]] = {}
    lines: list[str] = []

    def tell(labels: str, count: float, sum_of: float) -> None:
        if counter:
            lines.append(f"{name}_total{labels} {float(sum_of)!r}\n")
        else:
            lines.append(f"{name}_count{labels} {count}\n{name}_sum{labels} {float(sum_of) * times / by!r}\n")

    for at, (value, place) in enumerate(zip(values, places, strict=True)):
        if at % SLICE == SLICE - 1:
            yield "".join(lines)
            lines.clear()
        if value is None:
            continue
        if not isinstance(value, tuple):
            lines.append(f"{name}{place.labels} {float(value) * times / by!r}\n")
        elif place.folded:
            sums = folded.setdefault(place.labels, [0, 0])
            sums[0] += value[0]
            sums[1] += value[1]
        else:
            tell(place.labels, *value)
    for labels, (count, sum_of) in folded.items():
        tell(labels, count, sum_of)
    yield "".join(lines)

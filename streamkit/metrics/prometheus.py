"""Metrics as Prometheus reads them: its text format, on request.

Only this module imports ``prometheus_client``, and nothing imports this module before somebody asks for the text.
Follows "Exposition formats" and "Metric and label naming" of the Prometheus documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What to answer as ``Content-Type`` with the text of ``render``."""
SERIES_DROPPED = "streamkit_prometheus_series_dropped"
"""The gauge that says how many series this answer leaves out."""
SAMPLES_DROPPED = "streamkit_metrics_samples_dropped"
"""The counter (with ``_total``) of samples that ``Metrics`` had no room for."""


def render(metrics: Metrics, *, max_series: int = 10_000) -> bytes:
    """All metrics in the Prometheus text format, as a ``/metrics`` endpoint answers with ``CONTENT_TYPE``.

    A metric with a registered gauge is a gauge, as it was last sampled: ``await metrics.sample(now_ms)`` first, to
    show what it says now. Any other is two counters, which run since the start of the process: ``..._count_total``
    (samples) and ``..._sum_total`` (their sum), so that ``rate(sum) / rate(count)`` is the average. ``streamkit/sqs``
    ``NumberOfMessagesSent`` by ``QueueName`` reads::

        streamkit_sqs_number_of_messages_sent_sum_total{queue_name="orders"} 42.0

    Values of metrics without a gauge are taken not to be negative; a sum that falls looks like a restart to Prometheus.

    At most ``max_series`` series are shown, gauges first, then what was reported first. Left out, and counted in
    ``streamkit_prometheus_series_dropped``, are the rest and any whose name and labels another one has already.

    Call it on the event loop's thread: metrics are not thread-safe.
    """
    registry = CollectorRegistry()
    registry.register(collector(metrics, max_series=max_series))
    return generate_latest(registry)


def collector(metrics: Metrics, *, max_series: int = 10_000) -> Collector:
    """A collector to register in a ``prometheus_client`` registry of your own; see ``render`` for what it shows."""
    return _MetricsCollector(metrics, max_series)


class _MetricsCollector(Collector):
    def __init__(self, metrics: Metrics, max_series: int) -> None:
        self._metrics = metrics
        self._max_series = max_series

    def describe(self) -> Iterator[Family]:
        """Nothing: what there is changes from one answer to the next."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """Every family of series, with what it says now."""
        page = _Page(self._max_series)
        for metric, value in self._metrics.gauges():
            page.add(metric, _family_name(metric), "gauge", value)
        for metric in self._metrics.list_metrics():
            total = self._metrics.total(metric)
            if total is not None and not self._metrics.is_gauge(metric):
                page.add(metric, _family_name(metric) + "_count", "counter", total.sample_count)
                page.add(metric, _family_name(metric) + "_sum", "counter", total.sum)
        yield from page.families.values()
        series = Family(SERIES_DROPPED, "Series left out of this answer: over its bound, or names that clash.", "gauge")
        series.add_sample(SERIES_DROPPED, {}, page.dropped)
        yield series
        samples = Family(SAMPLES_DROPPED, "Samples of metrics that there was no room for.", "counter")
        samples.add_sample(SAMPLES_DROPPED + "_total", {}, self._metrics.dropped)
        yield samples


class _Page:
    """One answer: families by name, no series twice, at most so many in all."""

    def __init__(self, max_series: int) -> None:
        self.families: dict[str, Family] = {}
        self.dropped = 0
        self._room = max_series
        self._seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()

    def add(self, metric: Metric, name: str, kind: str, value: float) -> None:
        labels = {_snake_case(dimension): text for dimension, text in metric.dimensions}
        series = (name, frozenset(labels.items()))
        family = self.families.get(name)
        # Two metrics can become one name ("FooBar", "foo_bar"), and Prometheus refuses a whole page for one duplicate.
        clashes = series in self._seen or (family is not None and family.type != kind)
        if clashes or name in (SERIES_DROPPED, SAMPLES_DROPPED) or self._room <= 0:
            self.dropped += 1
            return
        if family is None:
            family = self.families[name] = Family(name, f"{metric.namespace} {metric.name}", kind)
        family.add_sample(name + "_total" if kind == "counter" else name, labels, value)
        self._seen.add(series)
        self._room -= 1


def _family_name(metric: Metric) -> str:
    return _snake_case(f"{metric.namespace} {metric.name}")


def _snake_case(text: str) -> str:
    """``AWS/SQS GetRecords.IteratorAgeMilliseconds`` -> ``aws_sqs_get_records_iterator_age_milliseconds``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    name = re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
    return name if name[:1].isalpha() else f"_{name}"

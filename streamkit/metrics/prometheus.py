"""Metrics in a ``prometheus_client`` registry of the program's own, beside what it has there already.

Only this module imports ``prometheus_client``. Those who want the text alone use ``exposition``, or ``kit.metrics``.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streamkit.metrics.exposition import Bounds, Exposition
from streamkit.metrics.window import Metrics


def collector(metrics: Metrics, bounds: Bounds | None = None) -> Collector:
    """A collector to register in a registry of your own; see ``Exposition`` for what it shows.

    Gauges are as they were last sampled: ``await kit.metrics.sample()`` before the registry is asked. Ask it on the
    event loop's thread: metrics are not thread-safe.
    """
    return _MetricsCollector(Exposition(metrics, bounds))


class _MetricsCollector(Collector):
    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition

    def describe(self) -> Iterator[Family]:
        """Nothing: what there is changes from one answer to the next."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """Every family of series, with what it says now."""
        return iter(text_string_to_metric_families(self._exposition.text().decode()))

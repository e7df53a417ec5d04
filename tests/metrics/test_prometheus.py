from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamkit.metrics.exposition import Bounds, Exposition
from streamkit.metrics.metric import Metric
from streamkit.metrics.prometheus import collector
from streamkit.metrics.window import Metrics

NOW = 1_700_000_000_000


async def test_the_collector_joins_a_registry_without_reading_gauges() -> None:
    metrics = Metrics()
    reads: list[float] = []

    def read() -> float:
        reads.append(1.0)
        return reads[-1]

    metrics.register_gauge(Metric.of("n", "Depth", Queue='a"b\\c'), read, "Count")
    metrics.put(Metric.of("n", "Sent"), 3, NOW, 1, "Count")
    metrics.put(Metric.of("n", "Took"), 3, NOW, 2, "Milliseconds")
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector(metrics))
    assert reads == []
    await metrics.sample(NOW)
    told = list(text_string_to_metric_families(Exposition(metrics).text().decode()))
    assert list(text_string_to_metric_families(generate_latest(registry).decode())) == told
    assert len(reads) == 1


def test_its_bounds_hold() -> None:
    metrics = Metrics()
    for at in range(5):
        metrics.put(Metric.of("n", "Sent", Queue=f"q{at}"), 3, NOW, 1, "Count")
    registry = CollectorRegistry()
    registry.register(collector(metrics, Bounds(label_values=2)))
    assert registry.get_sample_value("n_sent_total", {"queue": "other"}) == 9

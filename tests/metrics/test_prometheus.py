from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamkit.metrics.metric import Metric
from streamkit.metrics.prometheus import collector, render
from streamkit.metrics.window import Metrics

NOW = 1_700_000_000_000
Sample = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: bytes) -> tuple[dict[Sample, float], dict[str, str]]:
    """Values by name and labels, and kinds by family, as Prometheus's own parser sees them."""
    families = list(text_string_to_metric_families(text.decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    values: dict[Sample, float] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in values
            values[key] = sample.value
    return values, {family.name: family.type for family in families}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def test_a_gauge_is_a_gauge(metrics: Metrics) -> None:
    visible = Metric.of("streamkit/sqs", "ApproximateNumberOfMessagesVisible", QueueName="orders")
    depth = 3.0
    metrics.register_gauge(visible, lambda: depth)
    depth = 4.0
    await metrics.sample(NOW)
    values, kinds = parse(render(metrics))
    name = "streamkit_sqs_approximate_number_of_messages_visible"
    assert values[name, (("queue_name", "orders"),)] == 4.0
    assert kinds[name] == "gauge"
    assert not any(other.startswith(name + "_") for other in kinds)
    metrics.unregister(visible)
    values, kinds = parse(render(metrics))
    assert not any(other.startswith(name) for other in kinds)


def test_anything_else_is_two_counters(metrics: Metrics) -> None:
    sent = Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders")
    metrics.put(sent, 10.0, NOW)
    metrics.put(sent, 5.0, NOW + 1)
    values, kinds = parse(render(metrics))
    labels = (("queue_name", "orders"),)
    assert values["streamkit_sqs_number_of_messages_sent_count_total", labels] == 2
    assert values["streamkit_sqs_number_of_messages_sent_sum_total", labels] == 15
    assert kinds["streamkit_sqs_number_of_messages_sent_sum"] == "counter"
    assert kinds["streamkit_sqs_number_of_messages_sent_count"] == "counter"


def test_one_family_holds_series_of_any_dimensions(metrics: Metrics) -> None:
    metrics.put(Metric.of("streamkit", "Errors"), 1.0, NOW)
    metrics.put(Metric.of("streamkit", "Errors", Shard="s-0", StreamName='a"b\\c\nd'), 2.0, NOW)
    values, _ = parse(render(metrics))
    assert values["streamkit_errors_sum_total", ()] == 1
    assert values["streamkit_errors_sum_total", (("shard", "s-0"), ("stream_name", 'a"b\\c\nd'))] == 2


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("AWS/SQS", "GetRecords.IteratorAgeMilliseconds", "aws_sqs_get_records_iterator_age_milliseconds"),
        ("streamkit/sqs", "Sent", "streamkit_sqs_sent"),
        ("9lives", "SQSMessages per-second (peak)", "_9lives_sqs_messages_per_second_peak"),
        ("été", "%", "t"),
        ("::x", "__y", "x_y"),
        ("日", "本", "_"),
    ],
)
async def test_names_become_snake_case(metrics: Metrics, namespace: str, name: str, expected: str) -> None:
    metric = Metric.of(namespace.lstrip(":"), name)
    metrics.register_gauge(metric, lambda: 1.0)
    await metrics.sample(NOW)
    values, _ = parse(render(metrics))
    assert values[expected, ()] == 1.0


async def test_labels_are_always_valid(metrics: Metrics) -> None:
    metric = Metric("n", "m", (("__name__", "a"), ("9", "b"), ("le gende", "c")))
    metrics.register_gauge(metric, lambda: 1.0)
    await metrics.sample(NOW)
    values, _ = parse(render(metrics))
    assert values["n_m", (("_9", "b"), ("le_gende", "c"), ("name", "a"))] == 1.0


def test_series_beyond_the_bound_are_left_out_and_counted(metrics: Metrics) -> None:
    for at in range(20):
        metrics.put(Metric.of("n", "m", Key=str(at)), 1.0, NOW)
    values, _ = parse(render(metrics, max_series=10))
    shown = [labels for name, labels in values if name == "n_m_sum_total"]
    assert shown == [(("key", str(at)),) for at in range(5)]
    assert values["streamkit_prometheus_series_dropped", ()] == 30
    values, _ = parse(render(metrics))
    assert values["streamkit_prometheus_series_dropped", ()] == 0


async def test_names_that_clash_are_left_out_and_counted(metrics: Metrics) -> None:
    metrics.register_gauge(Metric.of("n", "FooBar"), lambda: 1.0)
    metrics.register_gauge(Metric.of("n", "foo_bar"), lambda: 2.0)
    metrics.register_gauge(Metric.of("n", "BazSum"), lambda: 3.0)
    metrics.register_gauge(Metric.of("streamkit", "PrometheusSeriesDropped"), lambda: 3.0)
    metrics.put(Metric.of("n", "Baz"), 4.0, NOW)
    await metrics.sample(NOW)
    values, kinds = parse(render(metrics))
    assert values["n_foo_bar", ()] == 1.0
    assert kinds["n_baz_sum"] == "gauge"
    assert values["n_baz_count_total", ()] == 1
    assert values["streamkit_prometheus_series_dropped", ()] == 3


def test_samples_without_room_are_counted() -> None:
    metrics = Metrics(max_series=1)
    metrics.put(Metric.of("n", "a"), 1.0, NOW)
    metrics.put(Metric.of("n", "b"), 1.0, NOW)
    values, _ = parse(render(metrics))
    assert values["streamkit_metrics_samples_dropped_total", ()] == 1


async def test_the_collector_joins_a_registry_without_reading_gauges(metrics: Metrics) -> None:
    reads: list[float] = []

    def read() -> float:
        reads.append(1.0)
        return reads[-1]

    metrics.register_gauge(Metric.of("n", "m"), read)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector(metrics))
    assert reads == []
    await metrics.sample(NOW)
    values, _ = parse(generate_latest(registry))
    assert values["n_m", ()] == 1.0

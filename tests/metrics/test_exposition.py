from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from streamkit.errors import ValidationError
from streamkit.metrics import exposition
from streamkit.metrics.exposition import Bounds, Exposition, accepts_openmetrics
from streamkit.metrics.metric import Metric
from streamkit.metrics.rows import Column
from streamkit.metrics.unit import UNITS, Unit
from streamkit.metrics.window import Metrics

NOW = 1_700_000_000_000
Sample = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: bytes, *, openmetrics: bool = False) -> tuple[dict[Sample, float], dict[str, str]]:
    """Values by name and labels, and kinds by family, as Prometheus's own parsers see them."""
    families = list((openmetrics_families if openmetrics else text_string_to_metric_families)(text.decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    values: dict[Sample, float] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in values
            values[key] = sample.value
    return values, {family.name: family.type for family in families}


def told(metrics: Metrics, bounds: Bounds | None = None) -> tuple[dict[Sample, float], dict[str, str]]:
    """The same in both formats."""
    shown = Exposition(metrics, bounds)
    plain = parse(shown.text())
    assert parse(shown.text(openmetrics=True), openmetrics=True) == plain
    return plain


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def test_a_gauge_is_a_gauge(metrics: Metrics) -> None:
    visible = Metric.of("AWS/SQS", "ApproximateNumberOfMessagesVisible", QueueName="orders")
    depth = 3.0
    metrics.register_gauge(visible, lambda: depth, "Count")
    depth = 4.0
    await metrics.sample(NOW)
    values, kinds = told(metrics)
    name = "aws_sqs_approximate_number_of_messages_visible"
    assert values[name, (("queue_name", "orders"),)] == 4.0
    assert kinds[name] == "gauge"
    assert [other for other in kinds if other.startswith("aws")] == [name]
    metrics.unregister(visible)
    assert not [other for other in told(metrics)[1] if other.startswith("aws")]


def test_counts_are_counters(metrics: Metrics) -> None:
    sent = Metric.of("AWS/SQS", "NumberOfMessagesSent", QueueName="orders")
    metrics.put(sent, 10, NOW, 1, "Count")
    metrics.put(sent, 5, NOW + 1, 1, "Count")
    values, kinds = told(metrics)
    assert values["aws_sqs_number_of_messages_sent_total", (("queue_name", "orders"),)] == 15
    assert kinds["aws_sqs_number_of_messages_sent"] == "counter"


def test_anything_else_is_a_summary(metrics: Metrics) -> None:
    latency = Metric.of("AWS/Kinesis", "GetRecords.Latency", StreamName="orders")
    metrics.put(latency, 250, NOW, 3, "Milliseconds")
    metrics.put(latency, 1_500, NOW, 1, "Milliseconds")
    values, kinds = told(metrics)
    labels = (("stream_name", "orders"),)
    assert values["aws_kinesis_get_records_latency_seconds_count", labels] == 4
    assert values["aws_kinesis_get_records_latency_seconds_sum", labels] == 2.25
    assert kinds["aws_kinesis_get_records_latency_seconds"] == "summary"


@pytest.mark.parametrize("unit", ["Count", "Seconds", "None"])
def test_what_has_been_negative_is_the_last_value(metrics: Metrics, unit: Unit) -> None:
    balance = Metric.of("shop", "Balance")
    ending = "_seconds" if unit == "Seconds" else ""
    shown = Exposition(metrics)
    metrics.put(balance, 10, NOW, 1, unit)
    assert (f"shop_balance{ending}_latest", ()) not in parse(shown.text())[0]
    metrics.put(balance, -3, NOW, 1, unit)
    values, kinds = parse(shown.text())
    name = f"shop_balance_latest{ending}"
    assert values[name, ()] == -3
    assert {each for each in kinds if each.startswith("shop")} == {name}
    assert kinds[name] == "gauge"


@pytest.mark.parametrize(
    ("namespace", "name", "unit", "expected", "value"),
    [
        (
            "AWS/Kinesis",
            "GetRecords.IteratorAgeMilliseconds",
            "Milliseconds",
            "get_records_iterator_age_seconds",
            0.012,
        ),
        ("AWS/Kinesis", "SubscribeToShardEvent.MillisBehindLatest", "Milliseconds", None, 0.012),
        ("AWS/Kinesis", "IncomingBytes", "Bytes", "incoming_bytes", 12),
        ("AWS/Kinesis", "PutRecord.Bytes", "Kilobytes", "put_record_bytes", 12_000),
        ("AWS/Kinesis", "Sent", "Megabits", "sent_bytes", 1_500_000),
        ("AWS/Kinesis", "Speed", "Gigabytes/Second", "speed_bytes_per_second", 12e9),
        ("AWS/Kinesis", "Calls", "Count/Second", "calls_per_second", 12),
        ("AWS/Kinesis", "UsedPercent", "Percent", "used_ratio", 0.12),
        ("AWS/Kinesis", "Wait", "Microseconds", "wait_seconds", 12e-6),
        ("AWS/Kinesis", "Seconds", "Seconds", "seconds", 12),
        ("AWS/Kinesis", "Score", "None", "score", 12),
    ],
)
def test_units_are_base_units_and_part_of_the_name(
    metrics: Metrics, namespace: str, name: str, unit: Unit, expected: str | None, value: float
) -> None:
    metrics.put(Metric.of(namespace, name), 12, NOW, 1, unit)
    values, _ = told(metrics)
    expected = expected or "subscribe_to_shard_event_behind_latest_seconds"
    assert values[f"aws_kinesis_{expected}_sum", ()] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_told(metrics: Metrics, unit: Unit) -> None:
    metrics.put(Metric.of("n", "Thing"), 1, NOW, 1, unit)
    metrics.put(Metric.of("n", "Below"), -1, NOW, 1, unit)
    assert len([name for name in told(metrics)[1] if name.startswith("n_")]) == 2


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("streamkit/sqs", "Sent", "streamkit_sqs_sent"),
        ("9lives", "SQSMessages per-second (peak)", "_9lives_sqs_messages_per_second_peak"),
        ("été", "%", "t"),
        ("::x", "__y", "x_y"),
        ("日", "本", "_"),
        ("n", "RequestsTotal", "n_requests"),
    ],
)
async def test_names_become_snake_case(metrics: Metrics, namespace: str, name: str, expected: str) -> None:
    metrics.register_gauge(Metric.of(namespace.lstrip(":"), name), lambda: 1.0)
    await metrics.sample(NOW)
    assert told(metrics)[0][expected, ()] == 1.0


async def test_labels_are_always_valid(metrics: Metrics) -> None:
    metric = Metric("n", "m", (("__name__", "a"), ("9", "b"), ("le gende", "c"), ("Quantile", "0.5"), ("le", "7")))
    metrics.put(metric, 1, NOW)
    labels = (("_9", "b"), ("le_", "7"), ("le_gende", "c"), ("name", "a"), ("quantile_", "0.5"))
    assert told(metrics)[0]["n_m_sum", labels] == 1.0


def test_dimensions_of_one_label_are_left_out(metrics: Metrics) -> None:
    metrics.put(Metric("n", "m", (("QueueName", "a"), ("queue_name", "b"))), 1, NOW)
    values, kinds = told(metrics)
    assert "n_m" not in kinds
    assert values[exposition.SERIES_DROPPED, ()] == 1


@pytest.mark.parametrize("value", ['a"b\\c\nd', "{}", 'x"} 1\nevil_total 5', "a\rb", "\\n", "#"])
def test_values_of_labels_cannot_break_out(metrics: Metrics, value: str) -> None:
    metrics.put(Metric.of("streamkit", "Errors", StreamName=value), 2.0, NOW, 1, "Count")
    values, kinds = parse(Exposition(metrics).text())
    assert values["streamkit_errors_total", (("stream_name", value),)] == 2
    assert {name for name in kinds if "dropped" not in name and "folded" not in name} == {"streamkit_errors"}


def test_long_values_are_cut_and_stay_apart(metrics: Metrics) -> None:
    for end in "ab":
        metrics.put(Metric.of("n", "m", Key="k" * 1_000 + end), 1, NOW, 1, "Count")
    values, _ = told(metrics, Bounds(label_length=32))
    keys = [dict(labels)["key"] for name, labels in values if name == "n_m_total"]
    assert len(set(keys)) == 2
    assert {len(key) for key in keys} == {32}
    assert all(key.startswith("kkk") for key in keys)


def test_exploding_values_of_a_label_are_told_together(metrics: Metrics) -> None:
    for at in range(50):
        metrics.put(Metric.of("n", "Sent", User=f"u{at}", Stage="live"), 2, NOW, 1, "Count")
        metrics.put(Metric.of("n", "Took", User=f"u{at}"), 500, NOW, 2, "Milliseconds")
    shown = Exposition(metrics, Bounds(label_values=10))
    for _ in range(2):
        values, _ = parse(shown.text())
        assert len([name for name, _ in values if name == "n_sent_total"]) == 11
        assert values["n_sent_total", (("stage", "live"), ("user", "other"))] == 80
        assert values["n_took_seconds_count", (("user", "other"),)] == 80
        assert values["n_took_seconds_sum", (("user", "other"),)] == 40
        assert values[exposition.SERIES_FOLDED, ()] == 80
        assert values[exposition.SERIES_DROPPED, ()] == 0
    # What is told together goes on growing, wherever it comes from.
    metrics.put(Metric.of("n", "Sent", User="u999", Stage="live"), 2, NOW, 1, "Count")
    assert parse(shown.text())[0]["n_sent_total", (("stage", "live"), ("user", "other"))] == 82


async def test_exploding_gauges_are_left_out(metrics: Metrics) -> None:
    for at in range(20):
        metrics.register_gauge(Metric.of("n", "Depth", Queue=f"q{at}"), lambda: 1.0)
    await metrics.sample(NOW)
    values, _ = told(metrics, Bounds(label_values=10))
    assert len([name for name, _ in values if name == "n_depth"]) == 10
    assert values[exposition.SERIES_DROPPED, ()] == 10


async def test_series_beyond_the_bound_are_left_out_and_counted(metrics: Metrics) -> None:
    for at in range(20):
        metrics.put(Metric.of("n", "m", Key=str(at)), 1.0, NOW, 1, "Count")
    metrics.register_gauge(Metric.of("n", "g"), lambda: 1.0)
    await metrics.sample(NOW)
    values, _ = told(metrics, Bounds(series=10))
    assert ("n_g", ()) in values  # Gauges go first.
    shown = [labels for name, labels in values if name == "n_m_total"]
    assert shown == [(("key", str(at)),) for at in range(9)]
    assert values[exposition.SERIES_DROPPED, ()] == 11
    values, _ = told(metrics, Bounds(series_per_metric=5))
    assert len([name for name, _ in values if name == "n_m_total"]) == 5
    assert values[exposition.SERIES_DROPPED, ()] == 15
    assert told(metrics)[0][exposition.SERIES_DROPPED, ()] == 0


@pytest.mark.parametrize("wrong", [{"series": 0}, {"label_values": 0}, {"series_per_metric": 0}, {"label_length": 15}])
def test_bounds_have_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="1 or more"):
        Bounds(**wrong)


async def test_names_that_clash_are_left_out_and_counted(metrics: Metrics) -> None:
    for name in ("FooBar", "foo_bar", "BazSum", "QuxTotal"):
        metrics.register_gauge(Metric.of("n", name), lambda: 1.0)
    metrics.register_gauge(Metric.of("streamkit", "PrometheusSeriesDropped"), lambda: 3.0)
    metrics.put(Metric.of("n", "Baz"), 4.0, NOW)
    metrics.put(Metric.of("n", "Qux"), 4.0, NOW, 1, "Count")
    await metrics.sample(NOW)
    values, kinds = told(metrics)
    assert values["n_foo_bar", ()] == 1.0
    assert kinds["n_baz_sum"] == "gauge"
    assert kinds["n_qux"] == "gauge"
    assert values[exposition.SERIES_DROPPED, ()] == 4


def test_samples_without_room_are_counted() -> None:
    metrics = Metrics(max_series=1)
    metrics.put(Metric.of("n", "a"), 1.0, NOW)
    metrics.put(Metric.of("n", "b"), 1.0, NOW)
    assert told(metrics)[0]["streamkit_metrics_samples_dropped_total", ()] == 1


def test_openmetrics_names_units_and_an_end(metrics: Metrics) -> None:
    metrics.put(Metric.of("n", "Took"), 1.0, NOW, 1, "Milliseconds")
    metrics.put(Metric.of("n", "Sent"), 1.0, NOW, 1, "Count")
    lines = Exposition(metrics).text(openmetrics=True).decode().splitlines()
    assert "# UNIT n_took_seconds seconds" in lines
    assert "# TYPE n_sent counter" in lines
    assert lines[-1] == "# EOF"
    plain = Exposition(metrics).text().decode().splitlines()
    assert "# TYPE n_sent_total counter" in plain
    assert not [line for line in plain if line.startswith(("# UNIT", "# EOF"))]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text; version=1.0.0", True),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        ("text/plain, application/openmetrics-text;q=0.2", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
    ],
)
def test_the_format_is_what_the_client_prefers(accept: str, expected: bool) -> None:
    assert accepts_openmetrics(accept) is expected


def test_a_slice_has_few_series_and_what_is_put_meanwhile_does_no_harm(metrics: Metrics) -> None:
    for at in range(3_000):
        name = Metric.of("n", "m", Key=str(at))
        metrics.rows(Column(name, "Count")).add((1,), NOW)
    shown = Exposition(metrics)
    slices: list[str] = []
    for at, each in enumerate(shown.slices()):
        assert each.count("\n") <= exposition.SLICE + 10
        slices.append(each)
        metrics.put(Metric.of("n", "m", Key=f"new{at}"), 1, NOW, 1, "Count")
        metrics.put(Metric.of("other", f"m{at}"), 1, NOW, 1, "Count")
        metrics.rows(Column(Metric.of("n", "m", Key="1"), "Count")).add((1,), NOW)
    assert len(slices) > 3_000 // exposition.SLICE
    values, _ = parse("".join(slices).encode())
    assert all(("n_m_total", (("key", str(at)),)) in values for at in range(3_000))


def test_what_is_gone_is_forgotten(metrics: Metrics) -> None:
    shown = Exposition(metrics)
    for at in range(10):
        metrics.put(Metric.of("n", "m", Key=str(at)), 1, NOW, 1, "Count")
    shown.text()
    shown._metrics = Metrics()
    shown._metrics.put(Metric.of("n", "m", Key="one"), 1, NOW, 1, "Count")
    assert [labels for name, labels in parse(shown.text())[0] if name == "n_m_total"] == [(("key", "one"),)]
    assert len(shown._places) == 1


TEXTS = st.text(st.characters(codec="ascii"), min_size=1, max_size=8).filter(lambda text: not text.isspace())


NAMES = st.text(min_size=1, max_size=8)
EACH = st.tuples(
    NAMES.filter(lambda text: text[0] != ":"),
    NAMES,
    st.dictionaries(TEXTS.filter(lambda text: text[0] != ":"), TEXTS, max_size=3),
    st.floats(-1e9, 1e9),
    st.sampled_from(UNITS),
)


@given(st.lists(EACH, max_size=12))
def test_any_metrics_make_an_answer_that_prometheus_reads(each: list[Any]) -> None:
    metrics = Metrics()
    for namespace, name, dimensions, value, unit in each:
        metrics.put(Metric(namespace, name, tuple(dimensions.items())), value, NOW, 1, unit)
    told(metrics, Bounds(label_values=3, label_length=16))

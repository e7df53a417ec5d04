from __future__ import annotations

import msgspec
import pytest

from streamkit.errors import ValidationError
from streamkit.metrics.metric import STATISTICS, Metric, check_statistic


def test_metrics_are_equal_whatever_the_order_of_their_dimensions() -> None:
    one = Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders", Kind="fifo")
    other = Metric("streamkit/sqs", "NumberOfMessagesSent", (("QueueName", "orders"), ("Kind", "fifo")))
    assert one == other
    assert hash(one) == hash(other)
    assert one.dimensions == (("Kind", "fifo"), ("QueueName", "orders"))


def test_another_dimension_is_another_metric() -> None:
    bare = Metric.of("n", "m")
    assert bare != Metric.of("n", "m", a="1")
    assert Metric.of("n", "m", a="1") != Metric.of("n", "m", a="2")
    assert len({bare, Metric.of("n", "m", a="1"), Metric.of("n", "m", a="2"), Metric.of("n", "m")}) == 3


def test_dimensions_may_be_called_as_the_parameters_are() -> None:
    metric = Metric.of("n", "m", namespace="x", name="y")
    assert metric.dimensions == (("name", "y"), ("namespace", "x"))


def test_reads_well() -> None:
    metric = Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders")
    assert repr(metric) == "Metric.of('streamkit/sqs', 'NumberOfMessagesSent', QueueName='orders')"
    assert str(metric) == "streamkit/sqs NumberOfMessagesSent{QueueName=orders}"
    assert str(Metric.of("n", "m")) == "n m"
    assert eval(repr(metric)) == metric


def test_survives_encoding() -> None:
    metric = Metric.of("n", "m", b="2", a="1")
    assert msgspec.json.decode(msgspec.json.encode(metric), type=Metric) == metric


@pytest.mark.parametrize(
    ("namespace", "name", "dimensions", "words"),
    [
        ("", "m", (), "namespace has 0 characters"),
        ("n" * 256, "m", (), "256 characters: use 1 to 255"),
        (":n", "m", (), "starts with a colon"),
        (7, "m", (), "must be a string"),
        ("n", "", (), "name has 0 characters"),
        ("n", "m" * 256, (), "256 characters"),
        ("n", "m", tuple((f"d{at}", "v") for at in range(31)), "31 dimensions: 30 at most"),
        ("n", "m", (("d", "1"), ("d", "2")), "twice"),
        ("n", "m", (("", "v"),), "dimension name has 0"),
        ("n", "m", (("d" * 256, "v"),), "256 characters"),
        ("n", "m", ((":d", "v"),), "starts with a colon"),
        ("n", "m", (("  ", "v"),), "not a space"),
        ("n", "m", (("é", "v"),), "ASCII"),
        ("n", "m", (("d", ""),), "value of dimension 'd' has 0 characters"),
        ("n", "m", (("d", "v" * 1025),), "use 1 to 1,024"),
        ("n", "m", (("d", "日本"),), "ASCII"),
        ("n", "m", (("d", 3),), "must be a string"),
    ],
)
def test_refuses_what_cloudwatch_refuses(
    namespace: str, name: str, dimensions: tuple[tuple[str, str], ...], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Metric(namespace, name, dimensions)


def test_accepts_the_longest_of_everything() -> None:
    metric = Metric("n" * 255, "m" * 255, tuple((f"{at:0255}", "v" * 1024) for at in range(30)))
    assert len(metric.dimensions) == 30


def test_an_unknown_statistic_is_answered_with_the_known_ones() -> None:
    for statistic in STATISTICS:
        check_statistic(statistic)
    with pytest.raises(ValidationError, match=r"p99.*SampleCount, Sum, Average, Minimum, Maximum"):
        check_statistic("p99")

"""What metrics, units and dimensions are called in Prometheus. Pure.

Follows "Metric and label naming" of the Prometheus documentation and the OpenMetrics 1.0 specification.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

import msgspec

from streamkit.metrics.metric import Metric
from streamkit.metrics.unit import Unit

_DECIMAL = {"": 1, "Kilo": 1e3, "Mega": 1e6, "Giga": 1e9, "Tera": 1e12}
_TIME = {"millis", "milliseconds", "micros", "microseconds", "seconds"}
_SIZE = {*(f"{prefix.lower()}{unit}" for prefix in _DECIMAL for unit in ("bytes", "bits"))}
# Of a histogram and a summary; a series must not have two of one name.
_RESERVED = {"le", "quantile"}


class Scale(msgspec.Struct, frozen=True):
    """A base unit, and what a value in a unit of CloudWatch is multiplied with, then divided by, to be in it."""

    suffix: str = ""
    times: float = 1
    by: float = 1
    words: frozenset[str] = frozenset()
    """What names say of the unit, which the suffix says."""


def _scales() -> dict[Unit, Scale]:
    time = frozenset(_TIME)
    size = frozenset(_SIZE)
    scales: dict[str, Scale] = {
        "None": Scale(),
        "Count": Scale(),
        "Percent": Scale("ratio", 1, 100, frozenset({"percent", "percentage"})),
        "Seconds": Scale("seconds", 1, 1, time),
        "Milliseconds": Scale("seconds", 1, 1e3, time),
        "Microseconds": Scale("seconds", 1, 1e6, time),
        "Count/Second": Scale("per_second"),
    }
    for prefix, times in _DECIMAL.items():
        for unit, by in (("bytes", 1), ("bits", 8)):
            name = f"{prefix}{unit}".capitalize()
            scales[name] = Scale("bytes", times, by, size)
            scales[f"{name}/Second"] = Scale("bytes_per_second", times, by, size)
    return scales  # type: ignore[return-value]


SCALES = _scales()
"""Base units are seconds, bytes and ratios; a kilobyte is 1,000 bytes, and bits are told in bytes."""


def family_name(metric: Metric, unit: Unit, *, latest: bool = False) -> str:
    """``AWS/Kinesis GetRecords.IteratorAgeMilliseconds`` in Milliseconds:
    ``aws_kinesis_get_records_iterator_age_seconds``."""
    return _family_name(f"{metric.namespace} {metric.name}", unit, latest)


@lru_cache(4096)
def _family_name(text: str, unit: Unit, latest: bool) -> str:
    scale = SCALES[unit]
    words = snake_case(text).split("_")
    if scale.words and len(words) > 1:
        words = [words[0], *(word for word in words[1:] if word not in scale.words)]
    if words[-1] == "total" and len(words) > 1:
        words.pop()  # The ending of counters, which each has once.
    if latest:
        words.append("latest")
    return "_".join([*words, scale.suffix] if scale.suffix else words)


@lru_cache(4096)
def snake_case(text: str) -> str:
    """``AWS/SQS GetRecords.IteratorAge`` -> ``aws_sqs_get_records_iterator_age``; a legal name, whatever the text."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    name = re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
    return name if name[:1].isalpha() else f"_{name}"


def labels_of(metric: Metric, longest: int) -> dict[str, str] | None:
    """Dimensions by the names of their labels, sorted; None: two have the same name.

    A value of more than ``longest`` characters is cut, and ends in a digest of all of it.
    """
    labels: dict[str, str] = {}
    for dimension, value in metric.dimensions:
        name = snake_case(dimension)
        if name in _RESERVED:
            name += "_"
        if len(value) > longest:
            value = f"{value[: max(0, longest - 9)]}~{blake2b(value.encode(), digest_size=4).hexdigest()}"
        labels[name] = value
    return dict(sorted(labels.items())) if len(labels) == len(metric.dimensions) else None


def labels_text(labels: dict[str, str]) -> str:
    """As it stands behind a name: ``{queue_name="orders"}``, or nothing."""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    if '"' not in value and "\\" not in value and "\n" not in value:
        return value
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

"""What a series of measurements is called, and the words for what is asked of it.

Follows "Metrics concepts" and ``PutMetricData`` of the CloudWatch user guide and API reference.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
from msgspec.structs import force_setattr

from streamkit.errors import ValidationError

Statistic = Literal["SampleCount", "Sum", "Average", "Minimum", "Maximum"]
"""What can be asked of the samples of a period."""

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

MAX_NAME_LENGTH = 255
MAX_DIMENSIONS = 30
MAX_DIMENSION_VALUE_LENGTH = 1024


class Metric(msgspec.Struct, frozen=True, repr_omit_defaults=True, cache_hash=True, gc=False):
    """The identity of one series: a namespace, a name and the exact set of dimensions.

    Another set of dimensions is another series; nothing is summed over dimensions. The order of the dimensions does
    not matter: they are kept sorted. ``Metric.of`` is the short way to write one.

    Keep the object when you report often: its hash is computed once.

    Raises:
        ValidationError: A part is missing, too long or not allowed; the message says which and what is.
    """

    namespace: str
    """1 to 255 characters, not starting with a colon, such as ``"streamkit/sqs"``."""
    name: str
    """1 to 255 characters."""
    dimensions: tuple[tuple[str, str], ...] = ()
    """Up to 30 (name, value) pairs in ASCII: names of 1 to 255 characters, values of 1 to 1,024."""

    @classmethod
    def of(cls, namespace: str, name: str, /, **dimensions: str) -> Metric:
        """``Metric.of("streamkit/sqs", "NumberOfMessagesSent", QueueName="orders")``."""
        return cls(namespace, name, tuple(dimensions.items()))

    def __post_init__(self) -> None:
        _check_text("namespace", self.namespace, MAX_NAME_LENGTH)
        if self.namespace.startswith(":"):
            raise ValidationError(f"metric namespace {self.namespace!r} starts with a colon: leave the colon out")
        _check_text("name", self.name, MAX_NAME_LENGTH)
        # INVARIANT: test_metrics_are_equal_whatever_the_order_of_their_dimensions
        dimensions = tuple(sorted((name, value) for name, value in self.dimensions))
        if len(dimensions) > MAX_DIMENSIONS:
            raise ValidationError(f"metric {self.name!r} has {len(dimensions)} dimensions: {MAX_DIMENSIONS} at most")
        names = [name for name, _ in dimensions]
        if len(set(names)) != len(names):
            raise ValidationError(f"metric {self.name!r} names a dimension twice: {', '.join(names)}")
        for name, value in dimensions:
            _check_dimension_text("dimension name", name, MAX_NAME_LENGTH)
            if name.startswith(":"):
                raise ValidationError(f"dimension name {name!r} starts with a colon: leave the colon out")
            _check_dimension_text(f"value of dimension {name!r}", value, MAX_DIMENSION_VALUE_LENGTH)
        force_setattr(self, "dimensions", dimensions)

    def __repr__(self) -> str:
        dimensions = "".join(f", {name}={value!r}" for name, value in self.dimensions)
        return f"Metric.of({self.namespace!r}, {self.name!r}{dimensions})"

    def __str__(self) -> str:
        dimensions = ",".join(f"{name}={value}" for name, value in self.dimensions)
        return f"{self.namespace} {self.name}" + (f"{{{dimensions}}}" if dimensions else "")


def check_statistic(statistic: str) -> None:
    """Accept one of ``STATISTICS``.

    Raises:
        ValidationError: It is another one; the message lists what is allowed.
    """
    if statistic not in STATISTICS:
        raise ValidationError(f"statistic {statistic!r} is not known: choose one of {', '.join(STATISTICS)}")


def _check_text(what: str, text: object, longest: int) -> None:
    if not isinstance(text, str):
        raise ValidationError(f"metric {what} is {text!r}: it must be a string")
    if not 1 <= len(text) <= longest:
        raise ValidationError(f"metric {what} has {len(text)} characters: use 1 to {longest:,}")


def _check_dimension_text(what: str, text: str, longest: int) -> None:
    _check_text(what, text, longest)
    if not text.isascii() or text.isspace():
        raise ValidationError(f"metric {what} is {text!r}: use ASCII characters, at least one of them not a space")

"""The units of samples.

Follows ``StandardUnit`` of ``MetricDatum`` in the CloudWatch API reference.
"""

from __future__ import annotations

from typing import Literal, get_args

from streamkit.errors import ValidationError

Unit = Literal[
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
]
"""What samples are measured in. ``"None"`` is a unit like the others, that of samples which name none.

No part of a metric's identity, but samples of different units are never mixed, and nothing is converted.
"""

UNITS: tuple[Unit, ...] = get_args(Unit)


def check_unit(unit: str) -> None:
    """Accept one of ``UNITS``.

    Raises:
        ValidationError: It is another one; the message lists what is allowed.
    """
    if unit not in UNITS:
        raise ValidationError(f"unit {unit!r} is not known: choose one of {', '.join(UNITS)}")

from __future__ import annotations

import pytest

from streamkit.errors import ValidationError
from streamkit.metrics.unit import UNITS, check_unit


def test_has_all_of_cloudwatchs() -> None:
    sizes = [f"{prefix}{noun}s" for noun in ("Byte", "Bit") for prefix in ("Kilo", "Mega", "Giga", "Tera")]
    named = ["Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "None", "Bytes", "Bits"]
    named += [size.capitalize() for size in sizes]
    rates = [f"{unit}/Second" for unit in named if unit.endswith(("ytes", "its")) or unit == "Count"]
    assert set(UNITS) == {*named, *rates}
    assert len(UNITS) == 27


@pytest.mark.parametrize("unit", ["", "seconds", "Minutes", "Seconds/Second"])
def test_another_is_answered_with_the_known_ones(unit: str) -> None:
    with pytest.raises(ValidationError, match=r"choose one of Seconds, .*Count/Second, None"):
        check_unit(unit)


def test_accepts_each() -> None:
    for unit in UNITS:
        check_unit(unit)

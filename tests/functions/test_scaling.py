"""How many batches at a time: grows while messages wait, shrinks when none do and when the function fails."""

from __future__ import annotations

import pytest

from streamkit.functions.scaling import Scaling


@pytest.mark.parametrize(
    ("maximum", "steps", "expected"),
    [
        (None, "", [5]),
        (None, "fff", [5, 10, 20, 40]),
        (None, "f" * 9, [5, 10, 20, 40, 80, 160, 320, 640, 1250, 1250]),
        (12, "fff", [5, 10, 12, 12]),
        (2, "ff", [2, 2, 2]),
        (None, "ffi", [5, 10, 20, 5]),
        (None, "ffxx", [5, 10, 20, 10, 5]),
        (None, "xxxx", [5, 2, 1, 1, 1]),
        (None, "xf", [5, 2, 2]),
        (None, "xfs", [5, 2, 2, 3]),
        (None, "xfsf", [5, 2, 2, 3, 6]),
        (None, "ss", [5, 5, 5]),
        (None, "xi", [5, 2, 2]),
    ],
)
def test_steps(maximum: int | None, steps: str, expected: list[int]) -> None:
    scaling = Scaling(maximum)
    limits = [scaling.limit]
    for step in steps:
        {"f": scaling.full, "i": scaling.idle, "x": scaling.failed, "s": scaling.succeeded}[step]()
        limits.append(scaling.limit)
    assert limits == expected

"""How much is done in the time that was given. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SCALES = (1.0, 0.5, 0.2, 0.1, 0.05)
"""Shares of the full counts. Few of them, so that runs of two machines often have the same."""
PASSES = 3
"""Rounds that each workload should get: a median of fewer is none."""
UNKNOWN = 5.0
"""Seconds that a round takes of which nothing is known."""
_FIXED = 0.5
"""Share of a round that more records do not make longer: opening, checking, starting servers. About half of a round at
a small share of the counts, so that a tenth of them takes a fifth of the time and not a tenth."""


def scale_for(remaining: float, expected: Sequence[float], slowdown: float) -> float:
    """The share of the full counts with which these workloads can have their rounds in the seconds that remain.

    Args:
        remaining: seconds.
        expected: what a round of each workload takes at full counts on the machine of which that is known.
        slowdown: how much longer everything took here until now.
    """
    needed = sum(expected) * slowdown * PASSES
    return next((scale for scale in SCALES if at_scale(needed, scale) <= remaining), SCALES[-1])


def at_scale(full: float, scale: float) -> float:
    """Seconds of a round at a share of the counts, by those of a full one."""
    return full / (_FIXED + (1 - _FIXED) / scale)


def slowdown(took: Sequence[tuple[float, float]]) -> float:
    """How much longer this machine takes than the one of which it is known: from (expected, measured) seconds so far.

    A few rounds say little: until they make 20 seconds, the rest is filled up with the known machine's pace.
    """
    expected = sum(each for each, _ in took)
    measured = sum(each for _, each in took)
    missing = max(0.0, 20.0 - expected)
    return (measured + missing) / (expected + missing)


def known_seconds(document: Mapping[str, object] | None) -> dict[str, float]:
    """By a workload's title, the seconds of a round at full counts that a run's document tells."""
    if document is None:
        return {}
    workloads = document.get("workloads")
    found: dict[str, float] = {}
    for workload in workloads if isinstance(workloads, list) else []:
        rounds = sorted(workload["seconds"])
        if rounds:
            found[workload["title"]] = rounds[len(rounds) // 2] / at_scale(1.0, workload["scale"])
    return found

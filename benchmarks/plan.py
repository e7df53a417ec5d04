"""How much is done in the time that was given. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SCALES = (1.0, 0.5, 0.2, 0.1, 0.05)
"""Shares of the full counts. Few of them, so that runs of two machines often have the same."""
PASSES = 3
"""Rounds that each workload should get: a median of fewer is none."""
UNKNOWN = 5.0
"""Seconds that a round takes of which nothing is known."""
LEAST_TELLING = 0.5
"""Share of the full counts: a round at less is mostly what counts do not change, and tells little of a full one."""


def scale_for(remaining: float, expected: Sequence[float], slowdown: float) -> float:
    """The share of the full counts with which these workloads can have their rounds in the seconds that remain.

    Args:
        remaining: seconds.
        expected: what a round of each workload takes at full counts on the machine of which that is known.
        slowdown: how much longer everything took here until now.
    """
    needed = sum(expected) * slowdown * PASSES
    return next((scale for scale in SCALES if needed * scale <= remaining), SCALES[-1])


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
        if rounds and workload["scale"] >= LEAST_TELLING:
            found[workload["title"]] = rounds[len(rounds) // 2] / workload["scale"]
    return found

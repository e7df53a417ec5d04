"""What a process that is watched says of itself: how far it was by when, and how much memory it had then. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.figures import Timeline, verify
from streamkit.limits import MIB


class Sample(NamedTuple):
    """One look."""

    seconds: float
    """Since it began."""
    done: int
    """Of what it does, by then."""
    size: int
    """Its resident memory, in bytes."""


def samples_of(said: Mapping[str, Any]) -> list[Sample]:
    """Of what the process printed, ascending."""
    return [Sample(*each) for each in said["samples"]]


def peak(samples: Sequence[Sample], quarter: int) -> int:
    """The most memory in one of the quarters 1 to 4 of all looks."""
    return max(each.size for each in samples[len(samples) * (quarter - 1) // 4 : max(1, len(samples) * quarter // 4)])


def memory(samples: Sequence[Sample]) -> Timeline:
    """How its memory went."""
    return Timeline("MiB", [(each.seconds, each.size / MIB) for each in samples])


def costs(samples: Sequence[Sample]) -> list[float]:
    """Seconds for one of what it does, in each quarter of all it did: what a longer history costs."""
    total = samples[-1].done
    ends = (next(each for each in samples if each.done * 4 >= total * quarter) for quarter in range(1, 5))
    reached = [Sample(0.0, 0, 0), *ends]
    verify(
        all(later.done > earlier.done for earlier, later in pairwise(reached)),
        f"{len(samples)} looks at {total:,} of them do not tell one quarter from another",
    )
    return [(later.seconds - earlier.seconds) / (later.done - earlier.done) for earlier, later in pairwise(reached)]

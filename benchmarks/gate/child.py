"""One side of a pair: ``python -m benchmarks.gate.child PATH DIRECTORY``, in the tree that it is to measure.

It says a line when it is ready, and then answers each line that it reads with what one turn of the path took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamkit
from benchmarks.figures import Figure, WrongResultError
from benchmarks.gate.paths import HOT_PATHS, Place
from benchmarks.measure import Figures, Lane, Setting


@dataclass(frozen=True)
class Part(Setting):
    """A share of the full counts, in a store that was in use for a little: that takes as long as the rest else."""

    small: bool = True

    def sized(self, full: int, small: int) -> int:
        return max(small, int(full * self.scale))


class Watch:
    """What the lane's module knows as ``time``: its clock tells the CPU time of all threads, user and system.

    Between each reading and the next but one, as lanes take them, it also counts the time on the wall.
    """

    def __init__(self) -> None:
        self._read: list[tuple[float, float]] = []

    def perf_counter(self) -> float:
        self._read.append((time.process_time(), time.perf_counter()))
        return self._read[-1][0]

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @property
    def wall_over_cpu(self) -> float:
        """Seconds on the wall for each second of CPU, while the lane measured."""
        spans = list(zip(self._read[::2], self._read[1::2], strict=True))
        return sum(end[1] - start[1] for start, end in spans) / sum(end[0] - start[0] for start, end in spans)


@contextmanager
def _watched(lane: Lane) -> Iterator[Watch]:
    """The lane reads this clock; the library goes on with the system's."""
    names: dict[str, Any] = lane.run.__globals__
    before, names["time"] = names["time"], Watch()
    try:
        yield names["time"]
    finally:
        names["time"] = before


def cost(figures: Figures, rows: Sequence[str]) -> float:
    """Seconds for one operation of each row."""
    found = [figures[row] for row in rows]
    return sum(_seconds(each) for each in found if isinstance(each, Figure))


def _seconds(figure: Figure) -> float:
    return 1 / figure.value if figure.unit.endswith("/s") else figure.value * {"us": 1e-6, "s": 1.0}[figure.unit]


def turn(places: Sequence[Place], directory: Path, share: float = 1.0) -> tuple[float, float]:
    """Seconds for an operation of the path, of CPU and on the wall.

    Raises:
        WrongResultError: something was lost, doubled or swapped.
    """
    cpu = wall = 0.0
    setting = Part(Path(), Path(), durability="memory")
    for place in places:
        lane = place.find()
        with tempfile.TemporaryDirectory(dir=directory) as kept, tempfile.TemporaryDirectory(dir=directory) as empty:
            this = replace(setting, directory=Path(empty), kept=Path(kept), scale=place.share * share)
            with _watched(lane) as watch:
                took = cost(asyncio.run(lane.run(this)), place.rows)
            cpu += took
            wall += took * watch.wall_over_cpu
    return cpu, wall


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def main(name: str, directory: str) -> int:
    """Answer turns until nobody asks; 1 and a last line that says why if it cannot."""
    try:
        here = Path(streamkit.__file__).resolve()
        if Path.cwd().resolve() not in here.parents:
            raise ImportError(f"streamkit is that of {here.parent.parent}, and not that of {Path.cwd()}")
        places = HOT_PATHS[name].lanes
        turn(places, Path(directory), 0.1)
        _say(ready=name)
        for _ in sys.stdin:
            cpu, wall = turn(places, Path(directory))
            _say(cpu=cpu, wall=wall)
    except WrongResultError as error:
        _say(wrong=str(error))
        return 1
    except Exception as error:
        _say(failed=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

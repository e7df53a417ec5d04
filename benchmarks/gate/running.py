"""Pairs: a process of the base and one of the change that take turns; and which path gets the next pair."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gate.base import Trees
from benchmarks.gate.decision import Judged, following, judge

TURNS = 5
"""Of each side in a pair."""
PATIENCE = 120.0
"""Seconds that one turn may take: what takes longer hangs."""


class SideError(Exception):
    """A side cannot run the path."""

    def __init__(self, side: str, why: str, *, wrong: bool = False) -> None:
        super().__init__(why)
        self.side = side
        self.wrong = wrong
        """It ran, and something was lost, doubled or swapped."""


@dataclass(frozen=True)
class Pair:
    """What an operation took on either side: medians of their turns, and of the ratios of neighbouring turns."""

    base: float
    change: float
    """Seconds of CPU."""
    cpu: float
    wall: float
    """Logarithms of change over base."""


def pair_of(base: Sequence[tuple[float, float]], change: Sequence[tuple[float, float]]) -> Pair:
    """From the (CPU, wall) seconds of turns that were taken in turn."""
    neighbours = list(zip(base, change, strict=True))
    return Pair(
        statistics.median(cpu for cpu, _ in base),
        statistics.median(cpu for cpu, _ in change),
        statistics.median(math.log(ours[0] / theirs[0]) for theirs, ours in neighbours),
        statistics.median(math.log(ours[1] / theirs[1]) for theirs, ours in neighbours),
    )


def measure(trees: Trees, directory: Path, name: str, number: int) -> Pair:
    """One pair. Who begins changes from turn to turn and from pair to pair: base, change, change, base, ...

    Each pair has its own processes, as how a process happens to lie in memory and to hash strings is luck that lasts as
    long as it does; the two of a pair hash alike.

    Raises:
        SideError: one of them cannot.
    """
    took: dict[str, list[tuple[float, float]]] = {"base": [], "change": []}
    with (
        tempfile.TemporaryDirectory(prefix="pair-", dir=directory, ignore_cleanup_errors=True) as where,
        _side("base", trees.base, name, where, number) as base,
        _side("change", trees.change, name, where, number) as change,
    ):
        base.ready()
        change.ready()
        for turn in range(TURNS):
            for side in (base, change) if (turn + number) % 2 == 0 else (change, base):
                took[side.name].append(side.turn())
    return pair_of(took["base"], took["change"])


@contextlib.contextmanager
def _side(name: str, tree: Path, path: str, directory: str, seed: int) -> Iterator[_Side]:
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gate.child", path, directory],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": str(seed)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,  # Ctrl-C is for the gate, which then ends them.
        )
        try:
            yield _Side(name, process, said)
        finally:
            process.kill()
            process.communicate()


@dataclass
class _Side:
    """A process that waits for its turn."""

    name: str
    process: subprocess.Popen[str]
    said: Any
    """What it wrote to standard error."""

    def ready(self) -> None:
        self._answer()

    def turn(self) -> tuple[float, float]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It ended; its answer, or that there is none, says why.
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        answer = self._answer()
        return float(answer["cpu"]), float(answer["wall"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        # It writes whole lines, each at once.
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise SideError(self.name, f"it did not answer for {PATIENCE:g} s")
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": f"its process ended: {self._last_words()}"}
        if "wrong" in answer:
            raise SideError(self.name, answer["wrong"], wrong=True)
        if "failed" in answer:
            raise SideError(self.name, answer["failed"])
        return answer

    def _last_words(self) -> str:
        self.process.wait(PATIENCE)
        self.said.seek(0)
        lines = self.said.read().strip().splitlines()
        return lines[-1] if lines else f"with {self.process.returncode}"


@dataclass
class Compared:
    """A hot path so far."""

    name: str
    pairs: list[Pair] = field(default_factory=list)
    failed: SideError | None = None

    @property
    def judged(self) -> Judged:
        """What its pairs say."""
        return judge([pair.cpu for pair in self.pairs], [pair.wall for pair in self.pairs])

    @property
    def refused(self) -> bool:
        """Whether the change is not to be taken because of it."""
        if self.failed is not None:
            return self.failed.side == "change"
        return self.judged.outcome == "slower"


def run(
    compared: Sequence[Compared],
    pair: Callable[[str, int], Pair],
    seconds: float,
    say: Callable[[Compared], None],
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Fill in pairs until all are decided, or the time is up. It is safe to stop it.

    Returns:
        Whether there was time enough.
    """
    began, longest = clock(), 0.0
    while True:
        open_ = [each for each in compared if each.failed is None]
        chosen = following([each.judged for each in open_])
        if chosen is None:
            return True
        at = clock()
        if at - began + longest > seconds:
            return False
        this = open_[chosen]
        try:
            this.pairs.append(pair(this.name, len(this.pairs)))
        except SideError as error:
            this.failed = error
        longest = max(longest * 0.9, clock() - at)
        say(this)

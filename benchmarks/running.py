"""The run: workload after workload, pass after pass, until the time is used up."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.figures import Checked, WrongResultError
from benchmarks.measure import Lane, Play, Result, Setting, Workload, play, play_round, violation
from benchmarks.plan import PASSES, UNKNOWN, at_scale, scale_for, slowdown
from benchmarks.progress import Progress

MOST_ROUNDS = 7
"""Of one workload: more would not change its median by much."""


class ViolationError(Exception):
    """A guarantee did not hold: there are no numbers at all."""

    def __init__(self, workload: str, checked: Checked) -> None:
        super().__init__(f"{workload}: {checked.guarantee}, under {checked.under}: {checked.first}")
        self.checked = checked


@dataclass
class Runner:
    """Runs workloads in passes, so that the rounds of each are spread over the whole time.

    What disturbs the machine for a minute then disturbs one round of many workloads and not all rounds of one.
    """

    setting: Setting
    base: Path
    """Where all directories are."""
    seconds: float = float("inf")
    """That it may take."""
    rounds: int | None = None
    """Exactly so many, at full counts; None: as many as there is time for, with counts that suit the machine."""
    known: Mapping[str, float] = field(default_factory=dict)
    """Seconds of a round at full counts, by title."""
    lanes: Mapping[str, Sequence[Lane]] = field(default_factory=dict)
    """By title, those that run."""
    play: Play = play
    left_out: dict[str, str] = field(default_factory=dict)
    """What did not run, and why."""
    results: list[Result] = field(default_factory=list)

    def run(self, workloads: Sequence[Workload], progress: Progress) -> None:
        """Fill ``results``. It is safe to stop it: they hold what was measured.

        Raises:
            WrongResultError, ViolationError: something was lost, doubled or swapped.
        """
        self._began = time.monotonic()
        kept: dict[str, Path] = {}
        with ExitStack() as stack:
            for number in range(1, (self.rounds or MOST_ROUNDS) + 1):
                before = sum(len(result.seconds) for result in self.results)
                if number == 1:
                    self._first_pass(workloads, progress, stack, kept)
                else:
                    for result in list(self.results):
                        if self.rounds is not None or self._fits(result):
                            self._round(result, number, progress, kept)
                if sum(len(result.seconds) for result in self.results) == before:
                    break

    @property
    def _left(self) -> float:
        return self.seconds - (time.monotonic() - self._began)

    def _fits(self, result: Result) -> bool:
        return statistics.median(result.seconds) < self._left

    def _first_pass(
        self, workloads: Sequence[Workload], progress: Progress, stack: ExitStack, kept: dict[str, Path]
    ) -> None:
        expected = [self.known.get(workload.title, UNKNOWN) for workload in workloads]
        took: list[tuple[float, float]] = []
        for at, workload in enumerate(workloads):
            result = Result(workload)
            if self.rounds is None and not self.setting.small:
                if self._left <= 0:
                    self.left_out[workload.title] = "the time was used up; --minutes gives more"
                    continue
                # What is left pays for the rest of this pass, and for all of the others.
                passed = sum(measured for _, measured in took) * (PASSES - 1)
                result.scale = scale_for(self._left - passed, expected[at:], slowdown(took))
            self.results.append(result)
            kept[workload.title] = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.base, prefix="kept-")))
            self._round(result, 1, progress, kept)
            took.append((at_scale(expected[at], result.scale), result.seconds[-1]))

    def _round(self, result: Result, number: int, progress: Progress, kept: Mapping[str, Path]) -> None:
        title = result.workload.title
        progress.begins(result.workload.name, number, self._done(number))
        setting = replace(self.setting, kept=kept[title], scale=result.scale)
        lanes = [lane for lane in self.lanes[title] if f"{title}: {lane.peer}" not in self.left_out]
        try:
            failed = play_round(result, lanes, self.base, setting, self.play)
        except WrongResultError as error:
            raise WrongResultError(f"{result.workload.name}: {error}") from error
        for peer, why in failed.items():
            self.left_out[f"{title}: {peer}"] = why
        if (found := violation(result)) is not None:
            raise ViolationError(result.workload.name, found)

    def _done(self, number: int) -> float:
        if self.rounds is not None:
            rounds = sum(len(result.seconds) for result in self.results)
            return min(1.0, rounds / (self.rounds * max(1, len(self.lanes))))
        return min(1.0, 1 - self._left / self.seconds)

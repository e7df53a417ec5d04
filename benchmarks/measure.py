"""What a workload is, and what its rounds say."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.figures import (
    Checked,
    Figure,
    Figures,
    Latencies,
    Timeline,
    WrongResultError,
    percentile,
    rate,
    verify,
)
from streamkit.engines.base import Durability

__all__ = [
    "ENGINES",
    "ON_DISK",
    "Chart",
    "Checked",
    "EngineName",
    "Figure",
    "Figures",
    "Lane",
    "Latencies",
    "Result",
    "Row",
    "Setting",
    "Target",
    "Timeline",
    "Workload",
    "WrongResultError",
    "chunks",
    "percentile",
    "rate",
    "sit",
    "verify",
]

EngineName = Literal["file", "memory"]
ENGINES: tuple[EngineName, ...] = ("file", "memory")
ON_DISK: tuple[EngineName, ...] = ("file",)
"""Of a lane that asks something of files, or of a process that is killed."""


@dataclass(frozen=True)
class Setting:
    """How much a workload does, and where."""

    directory: Path
    """Empty, and gone after this lane of this round."""
    kept: Path
    """Stays for all rounds of the workload."""
    small: bool = False
    durability: Durability = "fsync"
    gigabytes: float = 1.0
    """How much history and throughput the workloads about large stores build up."""
    messages: int = 100_000
    """How many wait in the queue of the workload about a backlog."""
    items: int = 1_000_000
    """How many the workload about a large table puts."""
    engine: EngineName = "file"
    """What keeps streamkit's data: see ``benchmarks.store``."""
    scale: float = 1.0
    """Of the full counts, what this machine can do in the time that was given; at most 1."""

    def sized(self, full: int, small: int) -> int:
        """A count: the full one, less of it on a slow machine, or that of a small run."""
        return small if self.small else max(small, int(full * self.scale))


@dataclass(frozen=True)
class Lane:
    """One of those that run in each round of a workload."""

    run: Callable[[Setting], Coroutine[Any, Any, Figures]]
    """Measures one round and verifies it, or raises WrongResultError."""
    durability: str
    """What its acknowledgements mean, or "" where there are none."""
    peer: str = ""
    """The peer it needs, if it is one."""
    engines: Sequence[EngineName] = ENGINES
    """Those of streamkit with which it says something."""


@dataclass(frozen=True)
class Target:
    """What a row is to reach: itself, or the workload's headline (its first row) in relation to it."""

    row: str
    at_least: float | None = None
    at_most: float | None = None
    ratio: bool = True
    """Of the headline to this row; else the row's own value."""
    all_counts: bool = False
    """It is about much of something: what a share of the counts reaches is no answer to it."""

    def met(self, value: float) -> bool:
        """Whether the value, or the ratio, is good enough."""
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f">= {self.at_least:,g}" if self.at_least is not None else f"<= {self.at_most:,g}"


@dataclass(frozen=True)
class Chart:
    """A plot of a workload's rows over something that was varied."""

    title: str
    x: str
    """What was varied, with its unit: "shards", "record size (B)"."""
    lines: Mapping[str, Mapping[float, str]]
    """By the line's label: the row at each x. Rows that did not run are left out."""


@dataclass(frozen=True)
class Workload:
    """Something measured: lanes that run one after the other in each round, so that ratios are of neighbours."""

    name: str
    title: str
    lanes: Sequence[Lane]
    targets: Sequence[Target] = ()
    compared: Sequence[str] = ()
    """Rows that the headline is put in relation to, beside those of targets."""
    charts: Sequence[Chart] = ()
    """How the report shows it; without one, as bars: rows of one unit side by side."""


@dataclass
class Row:
    """One figure over all rounds."""

    name: str
    unit: str
    durability: str
    peer: str = ""
    """Whose it is, if it is not streamkit's."""
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Result:
    """What the rounds of one workload said."""

    workload: Workload
    rows: dict[str, Row] = field(default_factory=dict)
    latencies: dict[str, Latencies] = field(default_factory=dict)
    """Of all rounds together."""
    timelines: dict[str, Timeline] = field(default_factory=dict)
    """Of the last round."""
    checked: dict[tuple[str, str], Checked] = field(default_factory=dict)
    """By guarantee and circumstances, of all rounds together."""
    seconds: list[float] = field(default_factory=list)
    """What each round took, with everything that is not measured."""
    scale: float = 1.0
    """See ``Setting.scale``."""

    def add(self, lane: Lane, figures: Figures, durability: str | None = None) -> None:
        """Those of a lane's round; ``durability`` if the lane's own is not what was asked for."""
        for name, found in figures.items():
            match found:
                case Figure():
                    row = self.rows.setdefault(name, Row(name, found.unit, durability or lane.durability, lane.peer))
                    row.values.append(found.value)
                case Latencies():
                    if name in self.latencies:
                        self.latencies[name].merge(found)
                    else:
                        self.latencies[name] = found
                case Timeline():
                    self.timelines[name] = found
                case Checked():
                    key = found.guarantee, found.under
                    self.checked[key] = self.checked[key] + found if key in self.checked else found

    def drop(self, peer: str) -> None:
        """Forget a peer's figures."""
        self.rows = {name: row for name, row in self.rows.items() if row.peer != peer}

    @property
    def headline(self) -> Row | None:
        """The first row of the first lane: what the others are compared with."""
        return next(iter(self.rows.values()), None)

    def ratio(self, row: Row) -> float | None:
        """The median over the rounds of headline / row, where that is asked for."""
        asked = row.name in self.workload.compared or any(
            target.row == row.name and target.ratio for target in self.workload.targets
        )
        headline = self.headline
        if not asked or headline is None or row is headline:
            return None
        pairs = zip(headline.values, row.values, strict=True)
        return statistics.median(ours / max(theirs, 1e-12) for ours, theirs in pairs)

    def judged(self, row: Row) -> tuple[Target, bool] | None:
        """The row's target, and whether it is met."""
        for target in self.workload.targets:
            if target.row == row.name and (self.scale == 1.0 or not target.all_counts):
                value = self.ratio(row) if target.ratio else row.median
                if value is not None:
                    return target, target.met(value)
        return None


def sit(workload: Workload, lanes: Sequence[Lane], rounds: int, base: Path, setting: Setting) -> Result:
    """One sitting: in each round every lane, in a directory of its own.

    Raises:
        WrongResultError: a lane lost, doubled or swapped something.
    """
    result = Result(workload)
    with tempfile.TemporaryDirectory(dir=base, prefix="kept-") as kept:
        for _ in range(rounds):
            play_round(result, lanes, base, replace(setting, kept=Path(kept)))
    return result


SYNCED = "synced before the answer"
"""The durability of streamkit's lanes, unless it is run with less."""


def told(lane: Lane, setting: Setting) -> str:
    """What a lane's acknowledgements mean in this run."""
    if lane.durability != SYNCED:
        return lane.durability
    if setting.engine == "memory":
        return "in memory: gone with the process"
    return {"fsync": SYNCED, "interval": "synced within 50 ms", "memory": "synced when the system likes"}[
        setting.durability
    ]


Play = Callable[[Lane, Setting], Figures]
"""Runs a lane once."""


def play(lane: Lane, setting: Setting) -> Figures:
    """In an event loop of its own."""
    return asyncio.run(lane.run(setting))


def play_round(
    result: Result, lanes: Sequence[Lane], base: Path, setting: Setting, with_: Play = play
) -> dict[str, str]:
    """Every lane once, each in a directory of its own, all with what ``setting.kept`` has.

    A violation of a guarantee is part of the result; see ``violation``.

    Returns:
        Peers that failed, and why. What they measured before is taken out: it has no neighbours any more.

    Raises:
        WrongResultError: a lane lost, doubled or swapped something.
    """
    failed: dict[str, str] = {}
    started = time.perf_counter()
    for lane in lanes:
        with tempfile.TemporaryDirectory(dir=base, prefix="round-", ignore_cleanup_errors=bool(lane.peer)) as directory:
            try:
                figures = with_(lane, replace(setting, directory=Path(directory)))
            except WrongResultError:
                raise
            except Exception as error:
                if not lane.peer:
                    raise
                failed[lane.peer] = f"{type(error).__name__}: {error}"
                result.drop(lane.peer)
            else:
                result.add(lane, figures, told(lane, setting))
    result.seconds.append(time.perf_counter() - started)
    return failed


def violation(result: Result) -> Checked | None:
    """The first guarantee that did not hold: after it there are no numbers."""
    return next((each for each in result.checked.values() if each.violations), None)


def chunks(total: int, size: int) -> Iterator[range]:
    """``range(total)`` in parts of ``size``."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))

"""What a workload is, and what its rounds say."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from streamkit.engines.base import Durability


class WrongResultError(Exception):
    """Something was lost, doubled or out of order: there is no number."""


def verify(holds: bool, otherwise: str) -> None:
    """Refuse a number that comes from a wrong run."""
    if not holds:
        raise WrongResultError(otherwise)


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

    def sized(self, full: int, small: int) -> int:
        """A count: the full one, or that of a small run."""
        return small if self.small else full


@dataclass(frozen=True)
class Figure:
    """One number of one round."""

    value: float
    unit: str


Figures = Mapping[str, Figure]
"""By the row that they belong to."""


@dataclass(frozen=True)
class Lane:
    """One of those that run in each round of a workload."""

    run: Callable[[Setting], Coroutine[Any, Any, Figures]]
    """Measures one round and verifies it, or raises WrongResultError."""
    durability: str
    """What its acknowledgements mean, or "" where there are none."""
    peer: str = ""
    """The peer it needs, if it is one."""


@dataclass(frozen=True)
class Target:
    """What a row is to reach: itself, or the workload's headline (its first row) in relation to it."""

    row: str
    at_least: float | None = None
    at_most: float | None = None
    ratio: bool = True
    """Of the headline to this row; else the row's own value."""

    def met(self, value: float) -> bool:
        """Whether the value, or the ratio, is good enough."""
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f">= {self.at_least:,g}" if self.at_least is not None else f"<= {self.at_most:,g}"


@dataclass(frozen=True)
class Workload:
    """Something measured: lanes that run one after the other in each round, so that ratios are of neighbours."""

    name: str
    title: str
    lanes: Sequence[Lane]
    targets: Sequence[Target] = ()
    compared: Sequence[str] = ()
    """Rows that the headline is put in relation to, beside those of targets."""


@dataclass
class Row:
    """One figure over all rounds."""

    name: str
    unit: str
    durability: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Result:
    """What the rounds of one workload said."""

    workload: Workload
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, lane: Lane, figures: Figures) -> None:
        for name, figure in figures.items():
            row = self.rows.setdefault(name, Row(name, figure.unit, lane.durability))
            row.values.append(figure.value)

    @property
    def headline(self) -> Row:
        """The first row of the first lane: what the others are compared with."""
        return next(iter(self.rows.values()))

    def ratio(self, row: Row) -> float | None:
        """The median over the rounds of headline / row, where that is asked for."""
        asked = row.name in self.workload.compared or any(
            target.row == row.name and target.ratio for target in self.workload.targets
        )
        if not asked or row is self.headline:
            return None
        pairs = zip(self.headline.values, row.values, strict=True)
        return statistics.median(ours / max(theirs, 1e-12) for ours, theirs in pairs)

    def judged(self, row: Row) -> tuple[Target, bool] | None:
        """The row's target, and whether it is met."""
        for target in self.workload.targets:
            if target.row == row.name:
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
            for lane in lanes:
                with tempfile.TemporaryDirectory(dir=base, prefix="round-") as directory:
                    placed = replace(setting, directory=Path(directory), kept=Path(kept))
                    result.add(lane, asyncio.run(lane.run(placed)))
    return result


def rate(count: int, seconds: float, unit: str = "records/s") -> Figure:
    """So many in so long; none is no figure."""
    verify(count > 0, "nothing was measured")
    return Figure(count / seconds, unit)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def chunks(total: int, size: int) -> Iterator[range]:
    """``range(total)`` in parts of ``size``."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))

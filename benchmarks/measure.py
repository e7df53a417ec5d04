"""What a workload is, and what a run of it says."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
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
class Round:
    """One verified round."""

    units: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.units / self.seconds


@dataclass(frozen=True)
class Setting:
    """How much a workload does, and where."""

    directory: Path
    scale: float
    durability: Durability

    def sized(self, full: int, least: int = 1) -> int:
        """A count of the full size, scaled down for a small run."""
        return max(least, int(full * self.scale))


@dataclass(frozen=True)
class Workload:
    """Something measured. ``run`` measures one round and verifies it, or raises WrongResultError."""

    name: str
    title: str
    unit: str
    run: Callable[[Setting], Coroutine[Any, Any, Round]]


@dataclass(frozen=True)
class Result:
    """Several rounds of one workload."""

    workload: Workload
    rounds: tuple[Round, ...]

    @property
    def median(self) -> float:
        return statistics.median(round_.rate for round_ in self.rounds)

    def line(self) -> str:
        rates = [round_.rate for round_ in self.rounds]
        digits = 2 if self.median < 100 else 0
        return (
            f"{self.workload.name:<10} {self.workload.title:<52} {self.median:>12,.{digits}f} {self.workload.unit:<12}"
            f" {min(rates):>12,.{digits}f} {max(rates):>12,.{digits}f}"
        )


HEADER = f"{'':<10} {'':<52} {'median':>12} {'':<12} {'min':>12} {'max':>12}"


def machine(directory: Path) -> str:
    """What the numbers were measured on."""
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores; "
        f"bare sync of 4 KiB here: {bare_sync_seconds(directory) * 1e6:,.0f} us median"
    )


def bare_sync_seconds(directory: Path) -> float:
    """The median time of a 4 KiB write and fdatasync in a file whose blocks exist."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        file.write(bytes(4096 * 64))
        file.flush()
        os.fsync(file.fileno())
        for at in range(64):
            before = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, at * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - before)
    return statistics.median(times)

"""What a person sees while it runs: which workload, which round, how long it will take."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self, TextIO


class Progress(Protocol):
    """Shown from ``__enter__`` to ``__exit__``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begins(self, name: str, round_number: int, done: float) -> None:
        """A workload's round begins, and so much (0 to 1) of everything is done."""


def progress(out: TextIO | None = None) -> Progress:
    """A live line if ``out`` (standard error unless given) is a terminal and rich is installed, else plain lines."""
    out = out or sys.stderr
    if out.isatty():
        try:
            return _Live()
        except ImportError:
            pass
    return _Plain(out)


class _Plain:
    """A line when a pass through all workloads begins, and one every half minute."""

    _EVERY = 30.0

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = time.monotonic()
        self._said = -self._EVERY
        self._round = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def begins(self, name: str, round_number: int, done: float) -> None:
        after = time.monotonic() - self._began
        if round_number == self._round and after - self._said < self._EVERY:
            return
        self._round, self._said = round_number, after
        line = f"[{int(after) // 60}:{int(after) % 60:02}] round {round_number}, {done:.0%} done: {name}"
        print(line, file=self._out, flush=True)


class _Live:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar: Any = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = self._bar.add_task("", total=1.0)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._bar.__exit__(*exc_info)

    def begins(self, name: str, round_number: int, done: float) -> None:
        self._bar.update(self._task, completed=done, description=f"round {round_number}: {name}")

"""What a person sees while the demo runs: a live line where the terminal can, plain lines where it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

Counts = dict[str, int]
"""What is shown, by its label, in order."""


class Progress(Protocol):
    """Shows counts as they grow, and lines between them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, counts: Counts, seconds: float) -> None:
        """The counts after so many seconds."""

    def say(self, line: str) -> None:
        """A line that stays."""


def progress(out: TextIO | None = None) -> Progress:
    """A live line if ``out`` (standard output unless given) is a terminal and rich is installed, else plain lines."""
    out = out or sys.stdout
    if out.isatty():
        try:
            return _LiveProgress()
        except ImportError:
            pass
    return _PlainProgress(out)


def describe(counts: Counts, seconds: float) -> str:
    """One line: every count, and the rate of the first."""
    first = next(iter(counts.values()), 0)
    shown = " · ".join(f"{count:,} {label}" for label, count in counts.items())
    return f"{seconds:6.1f} s  {shown}  ({first / max(seconds, 1e-9):,.0f} records/s)"


class _PlainProgress:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def show(self, counts: Counts, seconds: float) -> None:
        self.say(describe(counts, seconds))

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class _LiveProgress:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = Console(highlight=False)
        self._spinner = Spinner("dots", text="")
        self._live: Any = Live(self._spinner, console=self._console, refresh_per_second=10, transient=True)
        self._print: Callable[..., None] = self._console.print

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._live.__exit__(*exc_info)

    def show(self, counts: Counts, seconds: float) -> None:
        self._spinner.update(text=describe(counts, seconds))

    def say(self, line: str) -> None:
        # Text from the data file must stay text, whatever brackets it holds.
        self._print(line, markup=False)

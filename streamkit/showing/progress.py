"""Progress of long work: a line in a terminal, a bar in a notebook, nothing where nobody looks.

::

    with progress("loading flights", total=27_004) as shown:
        for row in shown.over(rows):
            ...

    with progress("waiting for late-departures", total=lag.records) as shown:
        await shown.until(mapping.wait_caught_up(), lambda: mapping.counts.polled, clock=kit.clock)
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self, TextIO, TypeVar

from streamkit.clock import Clock, SystemClock
from streamkit.showing.words import count, one_line, short

T = TypeVar("T")

_EVERY_SECONDS = 0.1
_EVERY_MS = 200
_NOTE = 60


class Surface(Protocol):
    """Where progress is shown."""

    def show(self, state: State) -> None:
        """Replace what was shown."""

    def end(self, state: State) -> None:
        """It is over."""


class State:
    """How far the work is."""

    def __init__(self, title: str, total: float | None, noun: str) -> None:
        self.title = title
        self.total = total
        """None: nobody knows."""
        self.noun = noun
        self.done: float = 0
        self.note = ""
        """What is in hand."""
        self.seconds = 0.0
        self.failed = False

    @property
    def share(self) -> float | None:
        """0 to 1; None: nobody knows."""
        return None if not self.total else min(1.0, max(0.0, self.done / self.total))

    def words(self) -> str:
        """Such as ``12,000 of 27,004 rows (44%), 3.1k a second, 5 s left``."""
        told = [] if self.total is None and not self.done else [self._counted()]
        rate = self.done / self.seconds if self.seconds > _EVERY_SECONDS and self.done else 0.0
        if rate:
            told.append(f"{short(rate)} a second")
        if rate and self.total and self.done < self.total:
            told.append(f"{_clock((self.total - self.done) / rate)} left")
        elif self.seconds >= 1:
            told.append(_clock(self.seconds))
        return ", ".join(told)

    def _counted(self) -> str:
        noun = f" {self.noun}" if self.noun else ""
        if self.share is None:
            return count(self.done) + noun
        return f"{count(self.done)} of {count(self.total or 0)}{noun} ({self.share:.0%})"


class Progress:
    """One piece of long work; see ``progress``. Not more is drawn than ten times a second."""

    def __init__(self, state: State, surface: Surface | None) -> None:
        self.state = state
        self._surface = surface
        self._began = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._draw(at_once=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.state.failed = error is not None
        self.state.seconds = time.monotonic() - self._began
        if self._surface is not None:
            self._surface.end(self.state)

    def add(self, number: float = 1) -> None:
        """So much more is done."""
        self.update(self.state.done + number)

    def update(self, done: float | None = None, *, total: float | None = None, note: str | None = None) -> None:
        """How much is done, of how much, and what is in hand; what is left out stays."""
        if done is not None:
            self.state.done = done
        if total is not None:
            self.state.total = total
        if note is not None:
            self.state.note = note
        self._draw()

    def say(self, note: str) -> None:
        """One more is done, and this is in hand now: what ``backup`` and ``verify`` take as their ``progress``."""
        self.update(self.state.done + 1, note=note)

    def tell(self, done: float, total: float) -> None:
        """So much of so much is done: what ``record`` and ``replay`` take as their ``progress``."""
        self.update(done, total=total)

    def over(self, things: Iterable[T]) -> Iterator[T]:
        """The things, counted as they are done."""
        for thing in things:
            yield thing
            self.add()

    async def aover(self, things: AsyncIterable[T]) -> AsyncIterator[T]:
        """The same of ``async for``."""
        async for thing in things:
            yield thing
            self.add()

    async def until(
        self, work: Awaitable[T], done: Callable[[], float | Awaitable[float]], *, clock: Clock | None = None
    ) -> T:
        """What ``work`` answers; until then ``done`` is asked five times a second how far it is.

        Cancellation: ``work`` is cancelled.
        """
        timing = SystemClock() if clock is None else clock
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self._ask(done)
                pause = asyncio.ensure_future(timing.sleep_until(timing.now_ms() + _EVERY_MS))
                try:
                    await asyncio.wait([task, pause], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pause.cancel()
            await self._ask(done)
            return task.result()
        finally:
            task.cancel()

    async def _ask(self, done: Callable[[], float | Awaitable[float]]) -> None:
        answer = done()
        self.update(answer if isinstance(answer, (int, float)) else await answer)

    def _draw(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._surface is None or (now - self._drawn < _EVERY_SECONDS and not at_once):
            return
        self._drawn = now
        self.state.seconds = now - self._began
        self._surface.show(self.state)


def progress(title: str, total: float | None = None, *, noun: str = "", out: TextIO | None = None) -> Progress:
    """Progress of long work, to be used as ``with``.

    In a notebook a bar below the cell; in a terminal a line on ``out`` (standard error unless given), which is gone
    when the work is done; elsewhere, such as in a log, nothing.

    Args:
        title: What is done.
        total: How much there is of it; None: nobody knows, and what is done is counted.
        noun: What is counted: ``"rows"``.
        out: Where a terminal may be.
    """
    surface: Surface | None = None
    if out is None and (display := _display()) is not None:
        surface = _Cell(display)
    else:
        out = out or sys.stderr
        surface = _Line(out) if out.isatty() else None
    return Progress(State(title, total, noun), surface)


class _Line:
    """A line of a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, state: State) -> None:
        told = [one_line(state.title), _blocks(state.share), state.words(), one_line(state.note, _NOTE)]
        self._out.write("\r\033[K" + "  ".join(part for part in told if part))
        self._out.flush()

    def end(self, state: State) -> None:
        self._out.write("\r\033[K")
        self._out.flush()


class _Cell:
    """The output of a notebook's cell."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, state: State) -> None:
        shown = _Shown(_bar(state, ended=False), f"{state.title}: {state.words()}")
        if self._handle is None:
            self._handle = self._display.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def end(self, state: State) -> None:
        if self._handle is not None:
            self._handle.update(_Shown(_bar(state, ended=True), f"{state.title}: {state.words()}"))


class _Shown:
    """As IPython displays something: HTML, or text where there is no HTML."""

    def __init__(self, html: str, text: str) -> None:
        self._html = html
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def _display() -> Any:
    """IPython's display, if this is the kernel of a notebook."""
    # Who runs in one has it loaded.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    return import_module("IPython.display")


def _bar(state: State, *, ended: bool) -> str:
    from streamkit.showing.html import COLORS, Html, Tone, badge, card, quiet

    tone: Tone = "bad" if state.failed else "good" if ended else "quiet"
    facts = {"": badge("failed" if state.failed else "done" if ended else "running", tone), " ": quiet(state.words())}
    if ended:
        return card("", state.title, facts)
    share = state.share
    wide = "100%;opacity:.35" if share is None else f"{share:.1%}"
    filled = f'<div style="height:100%;border-radius:4px;width:{wide};background:{COLORS["good"]}"></div>'
    track = "height:8px;max-width:420px;border-radius:4px;background:rgba(128,128,128,.25);margin:.3em 0"
    return card(
        "", state.title, facts, Html(f'<div style="{track}">{filled}</div>'), quiet(one_line(state.note, _NOTE))
    )


def _blocks(share: float | None, wide: int = 20) -> str:
    if share is None:
        return ""
    filled = round(share * wide)
    return "█" * filled + "░" * (wide - filled)


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

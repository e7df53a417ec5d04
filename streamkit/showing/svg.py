"""Plots as SVG: lines over time or over numbers, states over time. Pure.

Small on purpose: a plot beside a cell needs no library. Colours as in ``html``: they read in light and in dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

from streamkit.showing.axes import time_marks, value_marks
from streamkit.showing.html import COLORS, Html, Tone
from streamkit.showing.words import age, instant, short

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 24, 22
_SERIES = ("#3b82f6", "#d9762b", "#2f9e6b", "#a855f7", "#e5484d", "#0891a5", "#b08900", "#8b8d98")
_MOST_DOTS = 60
"""A line of more points has no dot for each, and tells the values of about so many to who points at it."""
_TEXT = 'fill="currentColor" font-size="11" font-family="system-ui,sans-serif"'


class Line(NamedTuple):
    """One line of a plot."""

    label: str
    points: Sequence[tuple[float, float]]
    """From left to right; x is milliseconds since the epoch in a plot over time."""


class State(NamedTuple):
    """What something was in, from one instant to another."""

    name: str
    tone: Tone
    start_ms: float
    end_ms: float
    why: str = ""


def plot(
    lines: Sequence[Line],
    *,
    unit: str = "",
    span: tuple[float, float] | None = None,
    gap: float | None = None,
    threshold: float | None = None,
    of_time: bool = True,
    x_unit: str = "",
    height: int = 170,
) -> Html:
    """Lines with axes; empty without a point.

    Args:
        lines: at most eight have colours of their own.
        unit: of the values, above the axis.
        span: what x goes from and to; None: of the points.
        gap: points that are farther apart are not joined.
        threshold: where a dashed line goes.
        of_time: whether x is an instant, or a number.
        x_unit: of x, if it is a number.
        height: in pixels, at a width of 720.
    """
    shown = [line for line in lines if line.points]
    if not shown:
        return Html("")
    ys = [y for line in shown for _, y in line.points] + ([] if threshold is None else [threshold])
    xs = [x for line in shown for x, _ in line.points]
    marks = value_marks(min(0.0, min(ys)), max(ys))
    frame = _Frame(_wide(span or (min(xs), max(xs)), of_time=of_time), (marks[0], marks[-1]), height)
    parts = [_text(2, 12, unit, opacity=0.7)]
    for mark in marks:
        y = frame.y(mark)
        parts.append(_rule(_LEFT, y, WIDTH - _RIGHT, y, 0.3 if mark == 0 else 0.13))
        parts.append(_text(_LEFT - 8, y + 4, short(mark), anchor="end", opacity=0.7))
    parts += _x_axis(frame, of_time=of_time, unit=x_unit)
    if threshold is not None:
        y = frame.y(threshold)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{COLORS["bad"]}" '
            f'stroke-dasharray="5 4" stroke-width="1.2"><title>threshold {threshold:,g}</title></line>'
        )
    for at, line in enumerate(shown):
        parts += _line(frame, line, _SERIES[at % len(_SERIES)], gap, unit=unit, of_time=of_time, alone=len(shown) == 1)
    return _svg(height, [*parts, *_legend([line.label for line in shown])], " and ".join(line.label for line in shown))


def states(rows: Sequence[tuple[str, Sequence[State]]]) -> Html:
    """A band for each row, with the state in which it was over time; empty without a state."""
    known = [(name, found) for name, found in rows if found]
    if not known:
        return Html("")
    starts = [state.start_ms for _, found in known for state in found]
    ends = [state.end_ms for _, found in known for state in found]
    left = min(240, 12 + 7 * max(len(name) for name, _ in known)) if len(known) > 1 else _LEFT
    height = 8 + 28 * len(known) + _BOTTOM
    frame = _Frame(_wide((min(starts), max(ends))), (0, 1), height, left=left)
    parts: list[str] = []
    for at, (name, found) in enumerate(known):
        top = 6 + 28 * at
        if len(known) > 1:
            parts.append(_text(2, top + 15, _cut(name, left - 8)))
        for state in found:
            x, wide = frame.x(state.start_ms), max(1.5, frame.x(state.end_ms) - frame.x(state.start_ms))
            told = f"{state.name} for {age(state.end_ms - state.start_ms)}, from {instant(int(state.start_ms))} UTC" + (
                f": {state.why}" if state.why else ""
            )
            parts.append(
                f'<g><title>{html.escape(told)}</title><rect x="{x:.1f}" y="{top}" width="{wide:.1f}" height="21" '
                f'rx="3" fill="{COLORS[state.tone]}" fill-opacity="{0.35 if state.tone == "quiet" else 0.85}"/>'
            )
            word = _cut(state.name, wide - 8)
            if word == state.name:
                ink = "currentColor" if state.tone == "quiet" else "#fff"
                parts.append(_text(x + 6, top + 14.5, word, ink=ink))
            parts.append("</g>")
    return _svg(height, [*parts, *_x_axis(frame, of_time=True, rules=False)], "states over time")


class Bar(NamedTuple):
    """One of several that are compared."""

    label: str
    value: float
    text: str
    """What stands at its end."""
    ours: bool = False
    """Whether it has the first colour."""


def bars(rows: Sequence[Bar], *, told: str = "") -> Html:
    """A bar for each row, from zero on; empty without one that is above it."""
    most = max((row.value for row in rows), default=0.0)
    if most <= 0:
        return Html("")
    left = min(300.0, 14 + 6.6 * max(len(row.label) for row in rows))
    right = WIDTH - 14 - 6.6 * max(len(row.text) for row in rows)
    parts: list[str] = []
    for at, row in enumerate(rows):
        top = 4 + 22 * at
        wide = max(1.0, row.value / most * (right - left))
        look = f'fill="{_SERIES[0]}"' if row.ours else f'fill="{COLORS["quiet"]}" fill-opacity=".6"'
        parts.append(_text(left - 8, top + 12.5, _cut(row.label, left - 10), anchor="end"))
        parts.append(f'<rect x="{left:.1f}" y="{top}" width="{wide:.1f}" height="17" rx="3" {look}/>')
        parts.append(_text(left + wide + 6, top + 12.5, row.text, opacity=0.8))
    return _svg(8 + 22 * len(rows), parts, told or ", ".join(f"{row.label}: {row.text}" for row in rows))


class _Frame(NamedTuple):
    """From values to places."""

    span: tuple[float, float]
    range: tuple[float, float]
    height: int
    left: int = _LEFT

    def x(self, of: float) -> float:
        start, end = self.span
        return self.left + (min(max(of, start), end) - start) / (end - start) * (WIDTH - _RIGHT - self.left)

    def y(self, of: float) -> float:
        least, most = self.range
        return self.height - _BOTTOM - (of - least) / (most - least) * (self.height - _BOTTOM - _TOP)


def _wide(span: tuple[float, float], *, of_time: bool = True) -> tuple[float, float]:
    start, end = span
    return (start, end) if end > start else (start - 1, start + (1000.0 if of_time else 1.0))


def _x_axis(frame: _Frame, *, of_time: bool, unit: str = "", rules: bool = True) -> list[str]:
    if of_time:
        marks: Sequence[tuple[float, str]] = time_marks(*frame.span)
        unit = "UTC"
    else:
        marks = [(mark, short(mark)) for mark in value_marks(*frame.span, 8) if frame.span[0] <= mark <= frame.span[1]]
    parts: list[str] = []
    taken = WIDTH - _RIGHT - 6.5 * len(unit) - 10
    for mark, text in marks:
        x = frame.x(mark)
        if rules:
            parts.append(_rule(x, _TOP, x, frame.height - _BOTTOM, 0.07))
        wide = 3.2 * len(text)
        if x + wide < taken:
            anchor, at = ("start", 0.0) if x < wide else ("middle", x)
            parts.append(_text(at, frame.height - 6, text, anchor=anchor, opacity=0.7))
    parts.append(_text(WIDTH - _RIGHT, frame.height - 6, unit, anchor="end", opacity=0.5))
    return parts


def _line(
    frame: _Frame, line: Line, color: str, gap: float | None, *, unit: str, of_time: bool, alone: bool
) -> list[str]:
    runs: list[list[tuple[float, float]]] = []
    before: float | None = None
    for x, y in line.points:
        if before is None or (gap is not None and x - before > gap):
            runs.append([])
        runs[-1].append((frame.x(x), frame.y(y)))
        before = x
    parts: list[str] = []
    floor = frame.y(max(frame.range[0], 0.0))
    for run in runs:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
        if len(run) > 1:
            if alone:
                parts.append(
                    f'<polygon points="{run[0][0]:.1f},{floor:.1f} {path} {run[-1][0]:.1f},{floor:.1f}" '
                    f'fill="{color}" fill-opacity=".14"/>'
                )
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8" stroke-linejoin="round"/>'
            )
    dense = len(line.points) > _MOST_DOTS
    single = {run[0] for run in runs if len(run) == 1}
    step = max(1, len(line.points) // _MOST_DOTS)
    for number, (x, y) in enumerate(line.points):
        place = frame.x(x), frame.y(y)
        seen = not dense or place in single
        if not seen and number % step:
            continue
        at = f"{instant(int(x))} UTC" if of_time else f"{x:,g}"
        told = f"{line.label}: {y:,.6g} {unit}".rstrip() + f" ({at})"
        parts.append(
            f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{2.4 if seen else 4}" fill="{color}" '
            f'fill-opacity="{1 if seen else 0}"><title>{html.escape(told)}</title></circle>'
        )
    return parts


def _legend(labels: Sequence[str]) -> list[str]:
    parts: list[str] = []
    right = float(WIDTH - _RIGHT)
    for at in range(len(labels) - 1, -1, -1):
        label = _cut(labels[at], 300)
        right -= 6.4 * len(label)
        parts.append(_text(right, 12, label))
        parts.append(f'<rect x="{right - 15:.1f}" y="5" width="10" height="3" fill="{_SERIES[at % len(_SERIES)]}"/>')
        right -= 32
    return parts


def _svg(height: int, parts: Sequence[str], told: str) -> Html:
    return Html(
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{html.escape(told)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", opacity: float = 1.0, ink: str = "") -> str:
    look = _TEXT.replace("currentColor", ink) if ink else _TEXT
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {look} opacity="{opacity}">{html.escape(text)}</text>'


def _cut(text: str, wide: float) -> str:
    """What of a text fits into so many pixels."""
    most = int(wide / 6.6)
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"

"""Plots as SVG: one picture for a bright and a dark page, whose colours are the page's variables.

matplotlib is imported when a plot is drawn, and only its figures are used: nothing is kept between plots.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.report.svg import COLOURS, FONT, GRID, INK, SOFT, colour, inline
from benchmarks.report.words import duration, percentile_name, short, size

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""So that no line is known by its colour alone."""
SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
"""The same in a legend's text."""

_WIDTH, _PANEL, _BAR = 400, 280, 34
_LINEAR_UP_TO = 8.0
_BARS_UP_TO = 300.0
_APART = 0.1  # Of an axis.


@dataclass(frozen=True)
class Plot:
    """A picture, and what is said about it."""

    title: str
    about: str
    """What those hear who cannot see it."""
    svg: str
    """To be put into HTML as it is: all text in it is escaped."""
    legend: Sequence[str] = ()
    """Labels of the lines, by their colour's number."""


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, the least and the largest."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Bar:
    """One of several that are compared."""

    label: str
    spread: Spread
    ours: bool
    """Whether it is shown in the first colour."""


def lacks() -> str:
    """What is missing to draw, in a sentence; or ""."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return "matplotlib is not installed"
    return ""


def chart(title: str, x: str, unit: str, lines: Mapping[str, Mapping[float, Spread]]) -> Plot:
    """Lines over what was varied, with the band between the slowest and the fastest round.

    An axis on which the largest is more than eight times the least is logarithmic.
    """
    shown = {label: dict(sorted(line.items())) for label, line in lines.items() if line}
    places = sorted({place for line in shown.values() for place in line})
    values = [each for line in shown.values() for spread in line.values() for each in (spread.low, spread.high)]
    with _drawing(250) as (figure, axes):
        for at, line in enumerate(list(shown.values())[:COLOURS]):
            middles = [spread.middle for spread in line.values()]
            lows, highs = [spread.low for spread in line.values()], [spread.high for spread in line.values()]
            axes.fill_between(list(line), lows, highs, color=colour(at), alpha=0.16, linewidth=0)
            axes.plot(list(line), middles, color=colour(at), marker=MARKERS[at], markersize=5, linewidth=1.8)
        name = size if x.endswith("(B)") else short
        if _wide(places):
            axes.set_xscale("log")
        if len(places) <= 8:
            _ticks(axes.xaxis, apart(places), name)
        else:
            _formatted(axes.xaxis, name)
        _value_axis(axes, values, short)
        axes.set_xlabel(x)
        axes.set_ylabel(unit)
        about = "; ".join(
            f"{label}: " + ", ".join(f"{short(spread.middle)} at {name(place)}" for place, spread in line.items())
            for label, line in shown.items()
        )
        return _plot(figure, title, f"{unit} over {x}. {about}", list(shown)[:COLOURS])


def bars(title: str, compared: Sequence[Bar], of: str = "") -> Plot:
    """Bars below their labels, or dots on a logarithmic axis where one bar would be a hair.

    Args:
        title: what they measure, with the unit.
        compared: from top to bottom.
        of: what was measured, for those who hear of the plot.
    """
    with _drawing(_BAR * len(compared) + 6) as (figure, axes):
        logarithmic = _draw(axes, compared)
        about = _told(compared)
        return _plot(
            figure, f"{title}, on a logarithmic axis" if logarithmic else title, f"{of}: {about}" if of else about, ()
        )


def panels(title: str, groups: Mapping[str, Sequence[Bar]]) -> Plot:
    """Groups of bars side by side, each with its own axis."""
    most = max(map(len, groups.values()))
    with _drawing(_BAR * most + 50, width=_PANEL * len(groups), columns=len(groups)) as (figure, _):
        figure.get_layout_engine().set(w_pad=14 / 72, h_pad=10 / 72)
        for axes, (name, compared) in zip(figure.axes, groups.items(), strict=True):
            _draw(axes, compared, room_for=most)
            axes.set_title(name, loc="left", fontsize=12, color=INK, weight="bold")
        return _plot(figure, title, of_panels(groups), ())


def of_panels(groups: Mapping[str, Sequence[Bar]]) -> str:
    """What ``panels`` says about itself."""
    return ". ".join(f"{name}: {_told(compared)}" for name, compared in groups.items())


def _told(compared: Sequence[Bar]) -> str:
    return "; ".join(f"{bar.label} {short(bar.spread.middle)}" for bar in compared)


def _draw(axes: Any, compared: Sequence[Bar], room_for: int = 0) -> bool:
    """Whether the axis is logarithmic."""
    largest = max(bar.spread.high for bar in compared)
    least = min(bar.spread.low for bar in compared)
    middles = [bar.spread.middle for bar in compared]
    logarithmic = least > 0 and max(middles) / min(middles) > _BARS_UP_TO
    told = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "bottom", "color": INK}
    for at, bar in enumerate(compared):
        shade = colour(0) if bar.ours else SOFT
        if logarithmic:
            axes.plot([least, largest], [at, at], color=GRID, linewidth=1)
            axes.plot([bar.spread.middle], [at], color=shade, marker="o", markersize=7)
        else:
            axes.barh(at, bar.spread.middle, height=0.25, color=shade, linewidth=0)
        axes.plot([bar.spread.low, bar.spread.high], [at, at], color=INK, linewidth=1.2, solid_capstyle="butt")
        axes.annotate(bar.label, (0, at), (0, 5), ha="left", **told)
        axes.annotate(short(bar.spread.middle), (1, at), (0, 5), ha="right", weight="bold", **told)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.2, largest * 1.2)
    else:
        axes.set_xlim(0, largest * 1.01 or 1)
    axes.set_ylim(max(room_for, len(compared)) - 0.7, -0.85)
    axes.set_axis_off()
    return logarithmic


def latencies(title: str, curves: Mapping[str, tuple[int, Sequence[tuple[float, float]]]]) -> Plot:
    """Whole distributions: the time by the share that took no longer, with each nine as wide as the one before.

    Args:
        title: of the plot.
        curves: by label, how many there were and (share, seconds) ascending.
    """
    with _drawing(270) as (figure, axes):
        most = 1.0
        for at, (count, curve) in enumerate(list(curves.values())[:COLOURS]):
            points = [(_nines(share, count), seconds) for share, seconds in curve if seconds > 0]
            most = max([most, *(x for x, _ in points)])
            axes.plot(
                *zip(*points, strict=True),
                color=colour(at),
                linewidth=1.8,
                marker=MARKERS[at],
                markersize=4.5,
                markevery=[len(points) - 1],
                drawstyle="steps-post" if len(points) < 20 else "default",
            )
        shares = [0.0, *(1 - 10.0**-nines for nines in range(1, math.floor(most) + 1))]
        _ticks(axes.xaxis, [-math.log10(1 - share) for share in shares], lambda x: _percent(1 - 10.0**-x))
        axes.set_xlim(0, most * 1.03)
        axes.set_yscale("log")
        _value_axis(axes, [each for _, curve in curves.values() for _, each in curve if each > 0], duration)
        axes.set_xlabel("share that took no longer")
        about = "; ".join(
            f"{label}: "
            + ", ".join(f"{percentile_name(share)} {duration(_at(curve, share))}" for share in (0.5, 0.99, 1.0))
            for label, (_, curve) in curves.items()
        )
        return _plot(figure, title, f"Latency by percentile. {about}", list(curves)[:COLOURS])


def timelines(title: str, unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Plot:
    """What was looked at while a round ran."""
    with _drawing(230) as (figure, axes):
        for at, points in enumerate(list(lines.values())[:COLOURS]):
            axes.plot(
                *zip(*points, strict=True),
                color=colour(at),
                linewidth=1.6,
                marker=MARKERS[at],
                markersize=4.5,
                markevery=[len(points) - 1],
            )
        _formatted(axes.xaxis, short)
        _value_axis(axes, [value for points in lines.values() for _, value in points], short)
        axes.set_xlabel("seconds since the round began")
        axes.set_ylabel(unit)
        about = "; ".join(
            f"{label}: from {short(points[0][1])} to {short(points[-1][1])}, at most {short(max(y for _, y in points))}"
            for label, points in lines.items()
        )
        return _plot(figure, title, f"{unit} over time. {about}", list(lines)[:COLOURS])


def _wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > _LINEAR_UP_TO


def apart(places: Sequence[float]) -> list[float]:
    """Those of ascending places whose labels do not run into each other: the last is among them."""
    scale: Callable[[float], float] = math.log if _wide(places) else float
    least = (scale(places[-1]) - scale(places[0])) * _APART
    kept: list[float] = []
    for place in reversed(places):
        if not kept or scale(kept[-1]) - scale(place) >= least:
            kept.append(place)
    return kept[::-1]


def _nines(share: float, count: int) -> float:
    # The slowest of n stands for the last half of an n-th: on this axis the share 1 has no place.
    return -math.log10(max(1 - share, 0.5 / count))


def _percent(share: float) -> str:
    return f"{share * 100:.10g} %"


def _at(curve: Sequence[tuple[float, float]], share: float) -> float:
    return next((seconds for reached, seconds in curve if reached >= share - 1e-12), curve[-1][1])


@contextmanager
def _drawing(height: int, width: int = _WIDTH, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """A figure of so many pixels, with a pair of axes or a row of them.

    What matplotlib is told for it is told to nobody else.
    """
    import matplotlib
    from matplotlib.figure import Figure

    told = {
        "svg.fonttype": "none",  # Text stays text: it can be read aloud, found and copied.
        "svg.hashsalt": "streamkit",  # The same document makes the same bytes.
        "text.parse_math": False,
        "font.family": FONT,
        "font.size": 11.5,
        "axes.edgecolor": SOFT,
        "axes.labelcolor": INK,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
    }
    with matplotlib.rc_context(told):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        figure.patch.set_visible(False)
        figure.subplots(ncols=columns)
        for each in figure.axes:
            each.patch.set_visible(False)
            each.minorticks_off()
        try:
            yield figure, figure.axes[0]
        finally:
            figure.clear()


def _ticks(axis: Any, places: Sequence[float], name: Callable[[float], str]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FixedFormatter([name(place) for place in places]))
    axis.set_minor_locator(NullLocator())


def _formatted(axis: Any, name: Callable[[float], str]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))
    axis.set_minor_locator(NullLocator())


def _value_axis(axes: Any, values: Sequence[float], name: Callable[[float], str]) -> None:
    """From 0, or logarithmic with ticks at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator

    if axes.get_yscale() == "log" or _wide(values):
        axes.set_yscale("log")
        axes.set_ylim(min(values) / 1.25, max(values) * 1.25)
        few = max(values) / min(values) < 100
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    else:
        axes.set_ylim(min(0.0, *values), max(*values, 0.0) * 1.08 or 1)
    _formatted(axes.yaxis, name)


def _plot(figure: Any, title: str, about: str, legend: Sequence[str]) -> Plot:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Plot(title, about, inline(out.getvalue(), title, about), legend)

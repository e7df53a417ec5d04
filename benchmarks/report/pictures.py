"""Which plots a workload of a document is shown with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from benchmarks.report.plots import Bar, Plot, Spread, bars, chart, latencies, timelines
from benchmarks.report.story import is_ours
from benchmarks.report.svg import COLOURS

T = TypeVar("T")


def pictures(workload: Mapping[str, Any]) -> list[Plot]:
    """Charts; bars of what is in none; distributions; timelines. As many as there is something to see in."""
    rows = {row["row"]: row for row in workload["rows"] if row["rounds"]}
    made: list[Plot] = []
    charted: set[str] = set()
    for each in workload["charts"]:
        for unit, lines in _by_unit(each["lines"], rows).items():
            charted.update(name for line in lines.values() for name in line.values())
            spreads = {label: {x: _spread(rows[name]) for x, name in line.items()} for label, line in lines.items()}
            made += [chart(each["title"], each["x"], unit, part) for part in _parts(spreads)]
    made += _bars(workload["title"], [row for name, row in rows.items() if name not in charted])
    curves = {name: (found["count"], found["curve"]) for name, found in workload["latencies"].items()}
    made += [latencies("Latency, every call counted", part) for part in _parts(curves)]
    by_unit: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for name, found in workload["timelines"].items():
        if len(found["points"]) > 1:
            by_unit.setdefault(found["unit"], {})[name] = found["points"]
    for unit, watched in by_unit.items():
        made += [timelines("Over time, in the last round", unit, part) for part in _parts(watched)]
    return made


def _by_unit(
    lines: Mapping[str, Iterable[tuple[float, str]]], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, dict[float, str]]]:
    """Lines with two points at least, by the unit of their rows: an axis has one."""
    found: dict[str, dict[str, dict[float, str]]] = {}
    for label, line in lines.items():
        there = {x: name for x, name in line if name in rows}
        for unit in dict.fromkeys(rows[name]["unit"] for name in there.values()):
            of_unit = {x: name for x, name in there.items() if rows[name]["unit"] == unit}
            if len(of_unit) > 1:
                found.setdefault(unit, {})[label] = of_unit
    return found


def _bars(title: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Plot]:
    for unit in dict.fromkeys(row["unit"] for row in rows):
        of_unit = [row for row in rows if row["unit"] == unit]
        if len(of_unit) > 1 and any(row["median"] for row in of_unit):
            kind = (unit or "ratio") + ("" if of_unit[0]["higher_is_better"] else ", less is better")
            yield bars(kind, [Bar(row["row"], _spread(row), is_ours(row, rows)) for row in of_unit], title)


def _parts(lines: Mapping[str, T]) -> Iterator[dict[str, T]]:
    """As many at once as a plot can tell apart."""
    each = iter(lines.items())
    while part := dict(islice(each, COLOURS)):
        yield part


def _spread(row: Mapping[str, Any]) -> Spread:
    return Spread(min(row["rounds"]), row["median"], max(row["rounds"]))

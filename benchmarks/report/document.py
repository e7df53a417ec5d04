"""The JSON document of a run: everything that was measured, and what it was measured on. All else is made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Checked, Latencies, Timeline, higher_is_better
from benchmarks.measure import Result, Row

FORMAT = 1
_MOST_POINTS = 200
"""Of a curve or a timeline: as many as a plot shows."""
_NUMBERS = re.compile(r"\[\n\s*([^\[\]{}\"]*?)\n\s*\]")
"""A list of numbers alone, over several lines. Text has its line ends escaped, so that none of it looks like one."""


@dataclass(frozen=True)
class Run:
    """What is known of a run beside its results."""

    machine: Mapping[str, object]
    """Name and value: processor, cores, kernel, disk, its syncs, Python, versions, commit, when."""
    options: Mapping[str, object]
    """What was asked for: engine, durability, rounds, sizes."""
    left_out: Mapping[str, str]
    """Peers and workloads that did not run, and why."""
    promises: Mapping[str, str]
    """By peer, what it promises when it acknowledges, and how it was used."""
    seconds: float
    """What the whole run took."""


def document(run: Run, results: Sequence[Result]) -> dict[str, Any]:
    """The document, as ``json`` takes it.

    Shape: ``format``, ``machine``, ``options``, ``left_out``, ``promises``, ``seconds``; ``workloads``, each with
    ``name``, ``title``, ``scale``, ``seconds`` (of each round), ``rows``, ``latencies``, ``timelines``, ``charts``;
    ``guarantees``. Whoever reads one takes it through ``load``.
    """
    return {
        "format": FORMAT,
        "machine": dict(run.machine),
        "options": dict(run.options),
        "left_out": dict(run.left_out),
        "promises": dict(run.promises),
        "seconds": round(run.seconds, 1),
        "workloads": [_workload(result) for result in results],
        "guarantees": [_checked(each) for result in results for each in result.checked.values()],
    }


def save(path: Path, made: Mapping[str, Any]) -> None:
    """Write a document.

    Raises:
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(made, indent=1))
    path.write_text(text + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read a document.

    Raises:
        ValueError: there is no file, or none that this version can read; the message says what to do.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); a run with --json {path} makes it") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); a run with --json {path} makes it anew") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is no report of format {FORMAT}; a run with --json {path} makes it anew")
    return found


def _workload(result: Result) -> dict[str, Any]:
    return {
        "name": result.workload.name,
        "title": result.workload.title,
        "scale": result.scale,
        "seconds": [round(each, 3) for each in result.seconds],
        "rows": [_row(result, row) for row in result.rows.values()],
        "latencies": {name: _latencies(found) for name, found in result.latencies.items()},
        "timelines": {name: _timeline(found) for name, found in result.timelines.items()},
        "charts": [
            {
                "title": chart.title,
                "x": chart.x,
                "lines": {
                    label: [[x, row] for x, row in line.items() if row in result.rows]
                    for label, line in chart.lines.items()
                },
            }
            for chart in result.workload.charts
        ],
    }


def _row(result: Result, row: Row) -> dict[str, Any]:
    judged = result.judged(row)
    return {
        "row": row.name,
        "peer": row.peer,
        "unit": row.unit,
        "higher_is_better": higher_is_better(row.unit),
        "durability": row.durability,
        "median": _digits(row.median),
        "rounds": [_digits(value) for value in row.values],
        "ratio": None if (ratio := result.ratio(row)) is None else _digits(ratio),
        "target": None if judged is None else str(judged[0]),
        "met": None if judged is None else judged[1],
    }


def _latencies(found: Latencies) -> dict[str, Any]:
    """Seconds. ``curve`` is [share, seconds] ascending, at latencies that differ by about the same factor."""
    curve = found.curve()
    if len(curve) > _MOST_POINTS:
        step = len(curve) / _MOST_POINTS
        curve = [curve[min(len(curve) - 1, int(at * step))] for at in range(_MOST_POINTS)] + [curve[-1]]
    return {
        "count": found.count,
        "min": _digits(found.least),
        "max": _digits(found.largest),
        "quantiles": [[share, _digits(seconds)] for share, seconds in found.quantiles().items()],
        "curve": [[round(share, 9), _digits(seconds)] for share, seconds in curve],
    }


def _timeline(found: Timeline) -> dict[str, Any]:
    points = list(found.points)
    if len(points) > _MOST_POINTS:
        step = len(points) / _MOST_POINTS
        points = [points[int(at * step)] for at in range(_MOST_POINTS)]
    return {"unit": found.unit, "points": [[_digits(at), _digits(value)] for at, value in points]}


def _digits(value: float) -> float:
    """With six: more than any of them is true to, and a file that is small enough to be kept."""
    return float(f"{value:.6g}")


def _checked(each: Checked) -> dict[str, Any]:
    return {
        "guarantee": each.guarantee,
        "under": each.under,
        "events": each.events,
        "violations": each.violations,
        "first": each.first,
    }

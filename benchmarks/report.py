"""The table that people read, and the JSON that tools read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, Row

_COLUMNS = (("", 42), ("median", 12), ("", 11), ("min", 12), ("max", 12), ("ours/this", 9), ("target", 12), ("", 6))


def header(small: bool) -> str:
    """The line above all workloads."""
    words = _line([(name, width) for name, width in _COLUMNS]) + "  durability"
    return words + (
        "\na small run: it shows that everything runs and is right; its figures mean nothing" if small else ""
    )


def table(result: Result, *, judge: bool) -> str:
    """One workload's rows. Without ``judge`` no target is held against them."""
    lines = [f"{result.workload.name}: {result.workload.title}"]
    lines += [_row(result, row, judge=judge) for row in result.rows.values()]
    return "\n".join(lines)


def _row(result: Result, row: Row, *, judge: bool) -> str:
    ratio = result.ratio(row)
    judged = result.judged(row) if judge else None
    target = verdict = ""
    if judged is not None:
        target = f"{judged[0]} {'x' if judged[0].ratio else row.unit if len(row.unit) < 4 else ''}".strip()
        verdict = "met" if judged[1] else "MISSED"
    cells = (
        f"  {row.name}",
        _number(row.median),
        row.unit,
        _number(min(row.values)),
        _number(max(row.values)),
        "" if ratio is None else f"{_number(ratio)} x",
        target,
        verdict,
    )
    return f"{_line(zip(cells, (width for _, width in _COLUMNS), strict=True))}  {row.durability}".rstrip()


def _line(cells: Iterable[tuple[str, int]]) -> str:
    words = [
        f"{text:<{width}}" if place in (0, 2, 7) else f"{text:>{width}}" for place, (text, width) in enumerate(cells)
    ]
    return " ".join(words)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.1f}"


def summary(results: Sequence[Result]) -> str:
    """How many targets were met, and which were not."""
    judged = [
        (result, row, found) for result in results for row in result.rows.values() if (found := result.judged(row))
    ]
    missed = [f"  {result.workload.name}: {row.name} {target}" for result, row, (target, met) in judged if not met]
    return "\n".join([f"{len(judged) - len(missed)} of {len(judged)} targets met", *missed])


def save(path: Path, machine: Mapping[str, object], results: Sequence[Result]) -> None:
    """Everything as JSON: each round's figures, ratios, targets."""
    path.write_text(
        json.dumps({"machine": machine, "workloads": [_as_json(each) for each in results]}, indent=2) + "\n"
    )


def _as_json(result: Result) -> dict[str, Any]:
    rows = []
    for row in result.rows.values():
        judged = result.judged(row)
        rows.append(
            {
                "row": row.name,
                "unit": row.unit,
                "durability": row.durability,
                "median": row.median,
                "rounds": row.values,
                "ratio": result.ratio(row),
                "target": None if judged is None else str(judged[0]),
                "met": None if judged is None else judged[1],
            }
        )
    return {"name": result.workload.name, "title": result.workload.title, "rows": rows}

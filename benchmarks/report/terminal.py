"""The tables that people read in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.figures import Checked, Latencies
from benchmarks.measure import Result, Row
from benchmarks.report.compare import Comparison
from benchmarks.report.words import duration, number, percentile_name

_COLUMNS = (("", 42), ("median", 12), ("", 11), ("min", 12), ("max", 12), ("ours/this", 9), ("target", 12), ("", 6))
_BESIDE = (("base", 12), ("gain", 9), ("", 6))


def header(small: bool, compared: bool = False) -> str:
    """The line above all workloads."""
    words = _line([(name, width) for name, width in _COLUMNS + (_BESIDE if compared else ())]) + "  durability"
    return words + (
        "\na small run: it shows that everything runs and is right; its figures mean nothing" if small else ""
    )


def table(result: Result, *, judge: bool, comparison: Comparison | None = None) -> str:
    """One workload's rows. Without ``judge`` no target is held against them."""
    lines = [f"{result.workload.name}: {result.workload.title}"]
    lines += [_row(result, row, judge=judge, comparison=comparison) for row in result.rows.values()]
    lines += [_latencies(name, found) for name, found in result.latencies.items()]
    return "\n".join(lines)


def guarantees(checked: Sequence[Checked]) -> str:
    """What was promised about order, how often that was looked at, and how often it did not hold."""
    widths = (44, 34, 15, 11)
    heads = ("guarantee", "under", "events checked", "violations")
    rows = [heads, *((each.guarantee, each.under, f"{each.events:,}", f"{each.violations:,}") for each in checked)]
    return "\n".join(
        " ".join(
            f"{cell:<{width}}" if place < 2 else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _latencies(name: str, found: Latencies) -> str:
    told = "  ".join(f"{percentile_name(share)} {duration(seconds)}" for share, seconds in found.quantiles().items())
    return f"  {name}: {found.count:,} calls, {told}"


def _row(result: Result, row: Row, *, judge: bool, comparison: Comparison | None) -> str:
    ratio = result.ratio(row)
    judged = result.judged(row) if judge else None
    target = verdict = ""
    if judged is not None:
        target = f"{judged[0]} {'x' if judged[0].ratio else row.unit if len(row.unit) < 4 else ''}".strip()
        verdict = "met" if judged[1] else "MISSED"
    cells = [
        f"  {row.name}",
        number(row.median),
        row.unit,
        number(min(row.values)),
        number(max(row.values)),
        "" if ratio is None else f"{number(ratio)} x",
        target,
        verdict,
    ]
    widths = [width for _, width in _COLUMNS]
    if comparison is not None:
        cells += _beside(comparison, (result.workload.title, row.name))
        widths += [width for _, width in _BESIDE]
    return f"{_line(zip(cells, widths, strict=True))}  {row.durability}".rstrip()


def _beside(comparison: Comparison, key: tuple[str, str]) -> tuple[str, str, str]:
    beside = comparison.rows.get(key)
    if beside is None:
        return "", "", ""
    mark = beside.verdict if beside.verdict in ("better", "worse") else ""
    return number(beside.base), "" if beside.gain is None else f"{number(beside.gain)} x", mark


def _line(cells: Iterable[tuple[str, int]]) -> str:
    words = [
        f"{text:<{width}}" if place in (0, 2, 7, 10) else f"{text:>{width}}"
        for place, (text, width) in enumerate(cells)
    ]
    return " ".join(words)


def summary(results: Sequence[Result]) -> str:
    """How many targets were met, and which were not."""
    judged = [
        (result, row, found) for result in results for row in result.rows.values() if (found := result.judged(row))
    ]
    missed = [f"  {result.workload.name}: {row.name} {target}" for result, row, (target, met) in judged if not met]
    return "\n".join([f"{len(judged) - len(missed)} of {len(judged)} targets met", *missed])

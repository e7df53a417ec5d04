"""The tables that people read in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.figures import Checked, Latencies
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
    told = "  ".join(f"{_share(share)} {duration(seconds)}" for share, seconds in found.quantiles().items())
    return f"  {name}: {found.count:,} calls, {told}"


def _share(share: float) -> str:
    return {0.0: "min", 1.0: "max"}.get(share, f"p{share * 100:.6g}")


def duration(seconds: float) -> str:
    """A time with the unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


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

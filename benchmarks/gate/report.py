"""What the gate says: a table, and the same as JSON. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.gate.decision import LEAST, LIMIT, WALL_LIMIT, Verdict
from benchmarks.gate.running import Compared
from benchmarks.report.words import duration

_WIDTHS = (14, 9, 9, 7, 14, 7, 6)
_HEADS = ("hot path", "base", "change", "ratio", "19 of 20", "wall", "pairs")


def table(compared: Sequence[Compared]) -> str:
    """A line for each path: CPU time of an operation, their ratio and where it lies, the ratio on the wall."""
    return "\n".join([_line(_HEADS) + "  verdict", *(_line(_cells(each)) + "  " + verdict(each) for each in compared)])


def _line(cells: Sequence[str]) -> str:
    return " ".join(
        f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}"
        for place, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )


def _cells(compared: Compared) -> Sequence[str]:
    if not compared.pairs:
        return (compared.name, "", "", "", "", "", "0")
    judged = compared.judged
    return (
        compared.name,
        duration(statistics.median(pair.base for pair in compared.pairs)),
        duration(statistics.median(pair.change for pair in compared.pairs)),
        f"{judged.cpu.ratio:.3f}",
        f"{judged.cpu.low:.3f}-{judged.cpu.high:.3f}" if judged.cpu.low > 0 else "",
        f"{judged.wall.ratio:.2f}",
        str(judged.cpu.pairs),
    )


def verdict(compared: Compared) -> str:
    """In words."""
    if compared.failed is not None:
        return _failed(compared)
    judged = compared.judged
    if judged.outcome == "slower":
        which = "SLOWER" if judged.cpu.outcome == "slower" else "SLOWER on the wall: something waits"
        found = judged.cpu if judged.cpu.outcome == "slower" else judged.wall
        return f"{which}, by {found.ratio - 1:.0%}"
    if judged.outcome == "fine":
        return "fine"
    if judged.cpu.pairs < LEAST:
        return "undecided: there was no time for enough pairs"
    if judged.cpu.outcome == "fine":
        return f"undecided: CPU is fine, on the wall it may be slower by {judged.wall.ratio - 1:.0%}"
    return "undecided: too noisy to tell; it is not refused for that"


def _failed(compared: Compared) -> str:
    assert compared.failed is not None
    if compared.failed.side == "change":
        return f"{'WRONG' if compared.failed.wrong else 'FAILED'} with the change: {compared.failed}"
    if compared.failed.wrong:
        return f"not compared: the base is wrong where the change may be right: {compared.failed}"
    return f"not compared: the base cannot run this benchmark: {compared.failed}"


def summary(compared: Sequence[Compared], enough: bool) -> str:
    """The last sentence, and what is to be warned of before it."""
    lines = []
    if not enough:
        lines.append("The time was used up before all was decided; --minutes gives more, --only asks for less.")
    refused = [each.name for each in compared if each.refused]
    if refused:
        lines.append(
            f"REFUSED because of {', '.join(refused)}: slower by more than {LIMIT:.0%} of CPU time or "
            f"{WALL_LIMIT:.0%} on the wall, and certainly slower, or wrong."
        )
    else:
        left = [each.name for each in compared if each.failed is not None or each.judged.outcome == "undecided"]
        lines.append(
            f"No hot path is slower by more than {LIMIT:.0%}" + (f"; not known of {', '.join(left)}" if left else "")
        )
        lines[-1] += "."
    return "\n".join(lines)


def document(compared: Sequence[Compared], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, each pair too."""
    return {
        **about,
        "limit": LIMIT,
        "wall_limit": WALL_LIMIT,
        "paths": {
            each.name: {
                "verdict": verdict(each),
                "refused": each.refused,
                "cpu": _told(each.judged.cpu),
                "wall": _told(each.judged.wall),
                "pairs": [asdict(pair) for pair in each.pairs],
            }
            for each in compared
        },
    }


def _told(found: Verdict) -> dict[str, Any]:
    # JSON has no infinity.
    return {name: value for name, value in asdict(found).items() if value != math.inf}

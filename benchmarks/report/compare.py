"""A run beside an earlier one: how much better or worse each figure is, and whether that is more than noise. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.figures import geometric_mean
from benchmarks.report.story import is_ours
from benchmarks.report.words import number, times

LEAST_CHANGE = 0.03
"""A change of less is not marked, however steady both runs were."""
FEWEST_ROUNDS = 3
"""Of either run: fewer have no spread that says anything."""
HOW = (
    "A figure is marked where the rounds of the two runs do not overlap (the slowest of one is faster than the fastest "
    f"of the other) and their medians differ by {LEAST_CHANGE:.0%} or more. With fewer than {FEWEST_ROUNDS} rounds in "
    "either nothing is marked."
)
_SAME_MACHINE = ("processor", "cores", "memory_gib", "system", "python", "disk", "cold_by", "versions")
_SAME_OPTIONS = ("engine", "durability", "dir", "small", "gigabytes", "messages", "items")
_SYNCS = ("sync_4_kib_us", "sync_512_kib_us")
_SYNCS_DIFFER = 1.3

Verdict = Literal["better", "worse", "same", "unknown"]
Key = tuple[str, str]
"""A workload's title, and a row of it."""


@dataclass(frozen=True)
class Beside:
    """One figure beside that of the base."""

    base: float
    """Its median."""
    gain: float | None
    """How many times as good it is now: above 1 is better, whatever the unit; None where a zero forbids it."""
    verdict: Verdict
    by_chance: float
    """How likely it would be marked if nothing had changed."""


@dataclass(frozen=True)
class Comparison:
    """Two runs."""

    rows: Mapping[Key, Beside]
    others: frozenset[Key]
    """Those that are not streamkit's: of peers, and of the bare disk."""
    warnings: Sequence[str]
    """Why the two cannot be compared as they are."""
    only_now: Sequence[Key]
    only_base: Sequence[Key]


def compare(base: Mapping[str, Any], made: Mapping[str, Any]) -> Comparison:
    """Two documents; every row that both have."""
    before, now = _rows(base), _rows(made)
    both = [key for key in now if key in before and before[key]["unit"] == now[key]["unit"]]
    return Comparison(
        {key: beside(before[key], now[key]) for key in both},
        frozenset(
            (each["title"], row["row"])
            for each in made["workloads"]
            for row in each["rows"]
            if not is_ours(row, each["rows"])
        ),
        _warnings(base, made),
        [key for key in now if key not in both],
        [key for key in before if key not in both],
    )


def beside(base: Mapping[str, Any], now: Mapping[str, Any]) -> Beside:
    """A row of a document beside the base's."""
    before, after = base["rounds"], now["rounds"]
    higher = now["higher_is_better"]
    numerator, denominator = (now["median"], base["median"]) if higher else (base["median"], now["median"])
    gain = 1.0 if numerator == denominator else numerator / denominator if numerator and denominator else None
    if min(len(before), len(after)) < FEWEST_ROUNDS:
        return Beside(base["median"], gain, "unknown", 0.0)
    risen, fallen = min(after) > max(before), max(after) < min(before)
    moved = gain is None or abs(gain - 1) >= LEAST_CHANGE
    verdict: Verdict = "same"
    if moved and (risen or fallen):
        verdict = "better" if risen == higher else "worse"
    return Beside(base["median"], gain, verdict, 2 / math.comb(len(before) + len(after), len(after)))


def summary(found: Comparison) -> list[str]:
    """What it comes to, in sentences: warnings first."""
    said = [f"not the same: {warning}" for warning in found.warnings]
    for whose, rows in (
        ("streamkit's", [each for key, each in found.rows.items() if key not in found.others]),
        ("others'", [each for key, each in found.rows.items() if key in found.others]),
    ):
        gains = [each.gain for each in rows if each.gain]
        if not gains:
            continue
        better, worse = (sum(each.verdict == verdict for each in rows) for verdict in ("better", "worse"))
        chance = sum(each.by_chance for each in rows)
        line = f"{whose} figures ({len(rows)}): geometric mean {times(geometric_mean(gains))} as good as the base"
        line += f"; {better} better and {worse} worse beyond noise"
        if chance:
            line += f" (about {chance:.1f} of these would be by chance alone)"
        if whose == "others'":
            line += "; peers and the bare disk did not change, so this is what the machine did"
        said.append(line)
    if not found.rows:
        said.append("the two runs have no figure in common")
    for keys, which in ((found.only_now, "not in the base"), (found.only_base, "only in the base")):
        if keys:
            said.append(f"{len(keys)} figures are {which}")
    return [*said, HOW]


def _rows(document: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    return {(each["title"], row["row"]): row for each in document["workloads"] for row in each["rows"] if row["rounds"]}


def _warnings(base: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    said = []
    for group, names in (("machine", _SAME_MACHINE), ("options", _SAME_OPTIONS)):
        before, now = base[group], made[group]
        said += [
            f"{name}: {_told(before.get(name))} then, {_told(now.get(name))} now"
            for name in names
            if before.get(name) != now.get(name)
        ]
    for name in _SYNCS:
        before, now = base["machine"].get(name), made["machine"].get(name)
        if before and now and max(before, now) / min(before, now) > _SYNCS_DIFFER:
            said.append(f"the disk: {name} was {number(before)} then, is {number(now)} now")
    scales = {each["title"]: each["scale"] for each in base["workloads"]}
    differ = [
        each
        for each in made["workloads"]
        if each["title"] in scales and scales[each["title"]] != each["scale"] and each["rows"]
    ]
    if differ:
        first = differ[0]
        said.append(
            f"counts of {len(differ)} workloads, as {first['name']}: {scales[first['title']]:g} of the full ones then, "
            f"{first['scale']:g} now; --rounds runs at full counts"
        )
    durable = {key: row["durability"] for key, row in _rows(base).items()}
    changed = [key for key, row in _rows(made).items() if durable.get(key, row["durability"]) != row["durability"]]
    if changed:
        title, row = changed[0]
        now = _rows(made)[changed[0]]["durability"]
        said.append(
            f"durability of {len(changed)} figures, as of {row} ({title}): {durable[changed[0]]} then, {now} now"
        )
    return said


def _told(value: object) -> str:
    return "not told" if value in (None, "") else str(value)

"""The report as one HTML page that needs nothing else: no script, no request, one style for bright and dark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import document, plots
from benchmarks.report.compare import Beside, Comparison, Key, compare, summary
from benchmarks.report.pictures import pictures
from benchmarks.report.plots import Plot
from benchmarks.report.story import is_ours, judged, story
from benchmarks.report.words import duration, number, percentile_name, roughly, short, times

INSTALL = "pip install -e '.[bench]'"
_TEMPLATE = "page.html.jinja"
_TOLD_FIRST = ("when", "commit", "processor", "cores", "memory_gib", "system", "python", "disk")
_CALLED = {
    "memory_gib": "memory (GiB)",
    "sync_4_kib_us": "a synced write of 4 KiB (us)",
    "sync_512_kib_us": "a synced write of 512 KiB (us)",
    "cold_by": "page cache emptied by",
}


@dataclass(frozen=True)
class Line:
    """A row of a workload's table, as words."""

    name: str
    ours: bool
    median: str
    unit: str
    low: str
    high: str
    ratio: str
    target: str
    met: bool | None
    durability: str
    beside: Beside | None
    base: str
    gain: str


@dataclass(frozen=True)
class Section:
    """A workload."""

    anchor: str
    name: str
    title: str
    made: str
    """How many rounds, and of what size."""
    lines: Sequence[Line]
    plots: Sequence[Plot]
    latencies: Sequence[tuple[str, str, Sequence[str]]]
    """Label, count, and the value at each of the shares that are told."""
    shares: Sequence[str]
    promises: Mapping[str, str]

    @property
    def has_ratios(self) -> bool:
        return any(line.ratio for line in self.lines)

    @property
    def has_targets(self) -> bool:
        return any(line.target for line in self.lines)

    @property
    def has_durability(self) -> bool:
        return any(line.durability for line in self.lines)


def lacks() -> str:
    """What is missing to make a page, in a sentence; or ""."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        return f"jinja2 is not installed; {INSTALL}"
    return f"{why}; {INSTALL}" if (why := plots.lacks()) else ""


def page(made: Mapping[str, Any], comparison: Comparison | None = None) -> str:
    """The page of a document, beside a base if there is one.

    Raises:
        ImportError: something that ``lacks`` names is not installed.
    """
    import jinja2

    rooms = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    judge = judged(made)
    sections = [
        _section(at, each, judge, made["promises"], comparison)
        for at, each in enumerate(made["workloads"])
        if each["rows"] or each["latencies"] or each["timelines"]
    ]
    lines = [(section, line) for section in sections for line in section.lines if line.met is not None]
    text: str = rooms.get_template(_TEMPLATE).render(
        machine=_machine(made["machine"]),
        when=str(made["machine"].get("when", "")),
        commit=str(made["machine"].get("commit", "")),
        options=_options(made["options"]),
        took=duration(made["seconds"]) if made["seconds"] < 120 else f"{made['seconds'] / 60:.1f} minutes",
        warning=_warning(made),
        story=story(made),
        guarantees=made["guarantees"],
        checked=sum(each["events"] for each in made["guarantees"]),
        violations=sum(each["violations"] for each in made["guarantees"]),
        met=[each for each in lines if each[1].met],
        missed=[each for each in lines if not each[1].met],
        sections=sections,
        names=_names(sections),
        promises={peer: said for section in sections for peer, said in section.promises.items()},
        left_out=made["left_out"],
        compared=summary(comparison) if comparison else [],
        changes=_changes(comparison, sections) if comparison else [],
        signs=plots.SIGNS,
        roughly=roughly,
    )
    return text


def save(path: Path, made: Mapping[str, Any], comparison: Comparison | None = None) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(made, comparison))


def _machine(machine: Mapping[str, Any]) -> dict[str, str]:
    ordered = [
        *(name for name in _TOLD_FIRST if name in machine),
        *(name for name in machine if name not in _TOLD_FIRST),
    ]
    return {_CALLED.get(name, name): str(machine[name]) for name in ordered if machine[name] not in (None, "")}


def _options(options: Mapping[str, Any]) -> str:
    told = []
    for name, value in options.items():
        if isinstance(value, bool):
            told += [f"--{name}"] if value else []
        else:
            told += [f"--{name} {each}" for each in (value if isinstance(value, list) else [value])]
    return " ".join(told)


def _warning(made: Mapping[str, Any]) -> str:
    if made["options"].get("small"):
        return "A small run: it shows that everything runs and is right. Its figures mean nothing."
    if not judged(made):
        return "Not on a disk that syncs before it answers: no target is judged."
    return ""


def _names(sections: Sequence[Section]) -> dict[str, str]:
    """By a workload's name, the anchor of its first section."""
    found: dict[str, str] = {}
    for section in sections:
        found.setdefault(section.name, section.anchor)
    return found


def _section(
    at: int, workload: Mapping[str, Any], judge: bool, promises: Mapping[str, str], comparison: Comparison | None
) -> Section:
    rounds = len(workload["seconds"])
    size = "" if workload["scale"] == 1 else f", {workload['scale']:.0%} of the full counts"
    latencies = workload["latencies"]
    shares = sorted({share for found in latencies.values() for share, _ in found["quantiles"]})
    rows = workload["rows"]
    peers = {row["peer"] for row in rows}
    return Section(
        f"w{at + 1}",
        workload["name"],
        workload["title"],
        f"{rounds} round{'s' if rounds != 1 else ''}{size}",
        [_line(workload["title"], row, is_ours(row, rows), judge, comparison) for row in rows],
        pictures(workload),
        [(name, f"{found['count']:,}", _quantiles(found["quantiles"], shares)) for name, found in latencies.items()],
        [percentile_name(share) for share in shares],
        {peer: text for peer, text in promises.items() if peer in peers},
    )


def _quantiles(told: Sequence[tuple[float, float]], shares: Sequence[float]) -> list[str]:
    known = dict(told)
    return [duration(known[share]) if share in known else "" for share in shares]


def _line(title: str, row: Mapping[str, Any], ours: bool, judge: bool, comparison: Comparison | None) -> Line:
    ratio, target = row["ratio"], row["target"] if judge else None
    beside = comparison.rows.get((title, row["row"])) if comparison else None
    return Line(
        row["row"],
        ours,
        number(row["median"]),
        row["unit"],
        number(min(row["rounds"])),
        number(max(row["rounds"])),
        "" if ratio is None else times(ratio),
        "" if target is None else _target(target, "x" if ratio is not None else row["unit"]),
        row["met"] if target is not None else None,
        row["durability"],
        beside,
        number(beside.base) if beside else "",
        times(beside.gain) if beside and beside.gain is not None else "",
    )


def _target(told: str, unit: str) -> str:
    sign, _, value = told.partition(" ")
    return f"{sign} {short(float(value.replace(',', '')))} {unit}"


def _changes(comparison: Comparison, sections: Sequence[Section]) -> list[tuple[Section, Line]]:
    """What moved beyond noise, the worst first."""
    found = [
        (section, line)
        for section in sections
        for line in section.lines
        if line.beside is not None and line.beside.verdict in ("better", "worse")
    ]

    def gain(each: tuple[Section, Line]) -> float:
        beside: Beside = comparison.rows[_key(each)]
        return beside.gain if beside.gain is not None else 0.0 if beside.verdict == "worse" else float("inf")

    return sorted(found, key=gain)


def _key(each: tuple[Section, Line]) -> Key:
    return each[0].title, each[1].name


def main(arguments: Sequence[str]) -> int:
    """``python -m benchmarks page``: 0, or 1 if there is no page and why."""
    made = argparse.ArgumentParser(prog="python -m benchmarks page", description="Makes the HTML page of a run's JSON.")
    made.add_argument("report", type=Path, nargs="?", default=Path("report.json"), help="of a run (report.json)")
    made.add_argument("--out", type=Path, metavar="FILE", help="the page (beside the report, with .html)")
    made.add_argument("--compare", type=Path, metavar="BASE.json", help="each figure beside that of an earlier run")
    options = made.parse_args(arguments)
    if why := lacks():
        print(f"no page: {why}", file=sys.stderr)
        return 1
    out = options.out or options.report.with_suffix(".html")
    try:
        report = document.load(options.report)
        comparison = compare(document.load(options.compare), report) if options.compare else None
        save(out, report, comparison)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{out} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"the page is {out}")
    return 0

"""``python -m benchmarks readme``: the README's table and picture, from the results that are kept."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.report import document, plots
from benchmarks.report.page import INSTALL
from benchmarks.report.plots import Bar, Spread
from benchmarks.report.story import HEADLINES, Neighbour, Told, is_ours, story, weaker
from benchmarks.report.svg import standalone
from benchmarks.report.words import duration, roughly, short

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "full.json"
PICTURE = "throughput.svg"
BEGIN = "<!-- made by `python -m benchmarks readme` -->"
END = "<!-- until here -->"
_PICTURED = {"append": HEADLINES[0], "single puts": HEADLINES[1], "queue cycles": HEADLINES[4]}
_TITLE = "Throughput beside peers that sync before they answer, more is better"
_CALLED = {
    "lmdb": "LMDB",
    "nats": "NATS",
    "redis": "Redis",
    "rocksdb": "RocksDB",
    "sqlite": "SQLite",
    "ministack": "MiniStack",
    "nats, default sync": "NATS as it comes",
    "litequeue": "litequeue as it comes",
    "bare sync at that pace, p50": "the disk's own sync takes",
    "by hand, at least once": "a loop by hand that may count a record twice",
}


def block(made: Mapping[str, Any], picture: str) -> str:
    """What stands between the marks.

    Args:
        made: the document.
        picture: its path from the README.

    Raises:
        ValueError: the run has none of the figures.
    """
    groups = _groups(made)
    told = [each for each in story(made) if each.durability]
    durability = told[0].durability
    lines = [
        f'{BEGIN}<img src="{escape(picture)}" alt="{_TITLE}: {escape(plots.of_panels(groups))}" width="100%">',
        f"| {durability} | streamkit | how many times as fast as others, run in turns with it |",
        "|---|---|---|",
        *(
            f"| {each.what}{'' if each.durability == durability else f' ({each.durability})'} "
            f"| {' '.join(each.figure)} | {_beside(each)} |"
            for each in told
        ),
        "",
        f"{_stamp(made)} {END}",
    ]
    return "\n".join(lines)


def _beside(told: Told) -> str:
    """How many times as fast, or as long: those that sync as it does first, then those that do not. Stand-ins that keep
    all in memory, and limits, are on the page."""
    synced, unsynced = (
        ", ".join(_ratio(each) for each in told.neighbours if each.weaker == kind) for kind in ("", "not synced")
    )
    parts = [synced, f"of those that do not sync: {unsynced}" if unsynced else ""]
    words = "; ".join(part for part in parts if part)
    return words if told.higher_is_better else words.replace(" x ", " x as long as ")


def _ratio(each: Neighbour) -> str:
    return f"{roughly(each.ratio)} {_CALLED.get(each.name, each.name)}"


def _stamp(made: Mapping[str, Any]) -> str:
    machine = made["machine"]
    said = [f"{str(machine.get('when', ''))[:10]}, {machine.get('processor')}, {machine.get('cores')} cores"]
    if sync := machine.get("sync_4_kib_us"):
        said.append(f"4 KiB synced in {duration(sync / 1e6)}")
    if made["guarantees"]:
        events, violations = (sum(each[what] for each in made["guarantees"]) for what in ("events", "violations"))
        said.append(f"{short(events)} events held against their guarantees, {violations} violations")
    return f"{'; '.join(said)}. [What was measured, and all else that was](docs/benchmarks.md)."


def picture(made: Mapping[str, Any]) -> str:
    """The picture's file.

    Raises:
        ValueError: the run has none of its figures.
        ImportError: matplotlib is not installed.
    """
    return standalone(plots.panels(_TITLE, _groups(made)).svg)


def _groups(made: Mapping[str, Any]) -> dict[str, list[Bar]]:
    by_title = {each["title"]: each["rows"] for each in made["workloads"] if each["rows"]}
    found = {
        f"{name} ({rows[0]['unit']})": _bars(rows)
        for name, headline in _PICTURED.items()
        if (rows := by_title.get(headline.title))
    }
    if not found:
        raise ValueError("the results have none of the README's figures; python -m benchmarks makes all")
    return found


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Streamkit's headline, and those that are compared with it and sync."""
    return [
        Bar(
            _CALLED.get(row["row"], row["row"]),
            Spread(min(row["rounds"]), row["median"], max(row["rounds"])),
            is_ours(row, rows),
        )
        for row in rows
        if row is rows[0] or (row["ratio"] is not None and row["peer"] and not weaker(row["durability"]))
    ]


def put_in(text: str, made: str) -> str:
    """The README with another block.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no place for the table: a line {BEGIN} and a line {END}")
    return before + made + after


def differs(text: str, drawn: str, made: Mapping[str, Any], place: str) -> str:
    """Why a README and its picture are not what the results say, in a sentence; or "".

    A picture is known by what it says of itself: another matplotlib draws the same in another way.

    Raises:
        ValueError: as ``block`` and ``put_in``.
    """
    if put_in(text, block(made, place)) != text:
        return "the README's table is not what the results say"
    if f"<desc>{escape(plots.of_panels(_groups(made)))}</desc>" not in re.sub(r"<desc [^>]*>", "<desc>", drawn):
        return "the README's picture is not what the results say"
    return ""


def main(arguments: Sequence[str]) -> int:
    """``python -m benchmarks readme``: 0, or 1 if the README cannot be written or is not what the results say."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks readme", description="Makes the README's table and picture from the kept results."
    )
    made.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="(benchmarks/results/full.json)")
    made.add_argument("--readme", type=Path, default=ROOT / "README.md", metavar="FILE", help="(README.md)")
    made.add_argument("--check", action="store_true", help="change nothing; 1 if the README is not what they say")
    options = made.parse_args(arguments)
    try:
        return _write(options.readme, options.results, check=options.check)
    except ValueError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _write(readme: Path, results: Path, *, check: bool) -> int:
    found = document.load(results)
    file = results.parent / PICTURE
    place = Path(os.path.relpath(file, readme.parent)).as_posix()
    text = readme.read_text()
    if check:
        why = differs(text, file.read_text(), found, place)
        if why:
            print(f"{why}; python -m benchmarks readme makes it anew", file=sys.stderr)
        return 1 if why else 0
    if why := plots.lacks():
        print(f"there is no picture: {why}; {INSTALL}", file=sys.stderr)
        return 1
    changed = put_in(text, block(found, place))
    file.write_text(picture(found))
    readme.write_text(changed)
    print(f"{readme} and {file} are what {results} says")
    return 0

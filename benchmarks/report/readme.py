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
from benchmarks.report.story import HEADLINES, Told, is_ours, story
from benchmarks.report.svg import standalone
from benchmarks.report.words import roughly, short

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "full.json"
PICTURE = "throughput.svg"
BEGIN = "<!-- made by `python -m benchmarks readme` -->"
END = "<!-- until here -->"
_PICTURED = {"append": HEADLINES[0], "single puts": HEADLINES[1], "a queue's cycle": HEADLINES[4]}
_TITLE = "Throughput beside peers, more is better"
_CALLED = {
    "lmdb": "LMDB",
    "nats": "NATS",
    "redis": "Redis",
    "rocksdb": "RocksDB",
    "sqlite": "SQLite",
}


def block(made: Mapping[str, Any], picture: str) -> str:
    """What stands between the marks.

    Args:
        made: the document.
        picture: its path from the README.

    Raises:
        ValueError: the run has none of the figures.
    """
    told = story(made)
    if not told:
        raise ValueError("the results have none of the README's figures; python -m benchmarks makes all")
    lines = [
        BEGIN,
        f"![{_TITLE}: {_alternative(told)}]({picture})",
        "",
        "| one process, one core; synced before it answers | streamkit | beside it |",
        "|---|---|---|",
        *(f"| {each.what}{_how_durable(each)} | {' '.join(each.figure)} | {_beside(each)} |" for each in told),
        "",
        _stamp(made),
        END,
    ]
    return "\n".join(lines)


def _alternative(told: Sequence[Told]) -> str:
    first = told[0]
    return f"{first.what}, {' '.join(first.figure)}"


def _how_durable(told: Told) -> str:
    return "" if told.durability in ("", "synced before the answer") else f" ({told.durability})"


def _beside(told: Told) -> str:
    if not told.neighbours:
        return ""
    words = ", ".join(
        f"{roughly(each.ratio)} {_CALLED.get(each.name, each.name)}{'' if each.synced else ' (not synced)'}"
        for each in told.neighbours
    )
    return words if told.higher_is_better else f"takes {words}"


def _stamp(made: Mapping[str, Any]) -> str:
    machine = made["machine"]
    said = f"{str(machine.get('when', ''))[:10]}, {machine.get('processor', '')}, {machine.get('cores', '')} cores"
    if sync := machine.get("sync_4_kib_us"):
        said += f", a disk that syncs 4 KiB in {sync:.0f} us"
    if made["guarantees"]:
        events = sum(each["events"] for each in made["guarantees"])
        violations = sum(each["violations"] for each in made["guarantees"])
        said += f"; order and exactly-once held against {short(events)} events, {violations} violations"
    return f"{said}. [What each means, and all the others](docs/benchmarks.md)."


def picture(made: Mapping[str, Any]) -> str:
    """The picture's file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return standalone(plots.panels(_TITLE, _groups(made)).svg)


def _groups(made: Mapping[str, Any]) -> dict[str, list[Bar]]:
    by_title = {each["title"]: each["rows"] for each in made["workloads"]}
    return {
        f"{name} ({rows[0]['unit']})": _bars(rows)
        for name, headline in _PICTURED.items()
        if (rows := by_title.get(headline.title))
    }


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    return [
        Bar(
            _CALLED.get(row["row"], row["row"]) + (" (not synced)" if "not synced" in row["durability"] else ""),
            Spread(min(row["rounds"]), row["median"], max(row["rounds"])),
            is_ours(row, rows),
        )
        for row in rows
        if row["unit"] == rows[0]["unit"] and (row is rows[0] or row["ratio"] is not None)
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

"""``streamkit demo``: the whole stack on real data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import (
    FINE,
    FOUND,
    add_text,
    cannot_run,
    describe,
    logging_errors_alone,
    print_json,
    wants_json,
)

if TYPE_CHECKING:
    import argparse

CODES = {0: "everything adds up", 1: "it does not", 2: "it cannot run"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Departures from New York go into a stream; three event source mappings filter, total and route them; a "
        "worker rebooks cancelled flights; those that cannot be rebooked become dead letters, and too many of them "
        "raise an alarm. Everything is durable: kill it at any instant and run it again on the same --dir.",
        "streamkit demo --dir ./flights --json figures.json",
        codes=CODES,
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="a .csv or .csv.gz file of the nycflights13 columns")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="keep the data here (default: a temporary directory)")
    parser.add_argument(
        "--json",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write the figures here; without FILE print them as JSON (default: where the output is no terminal)",
    )
    parser.add_argument(
        "--durability",
        choices=["fsync", "interval", "memory"],
        default="fsync",
        help="when a record is on disk: before it is acknowledged, 20 times a second, or when the system likes",
    )
    add_text(parser)


def run(options: argparse.Namespace) -> int:
    """Run it."""
    import asyncio

    from streamkit.demo.progress import progress
    from streamkit.demo.run import run

    path = None if options.json in (None, True) else Path(options.json)
    if path is not None and not path.absolute().parent.is_dir():
        return cannot_run(f"there is no directory {path.absolute().parent} for --json: create it first")
    if options.json is True:
        options.output = "json"
    as_json = wants_json(options)
    shown = progress(sys.stderr if as_json else None)
    # A retry is nothing to report here: flights without an aircraft are meant to fail.
    with logging_errors_alone("streamkit"):
        report = asyncio.run(run(options.data, options.dir, shown, durability=options.durability))
    if as_json:
        print_json({**report.figures(), "wrong": report.wrong})
    else:
        print("\n".join(report.lines()))
    if path is not None:
        try:
            report.save(path)
        except OSError as error:
            return cannot_run(f"the figures could not be written to {path} ({error.strerror})")
    return FOUND if report.wrong else FINE

"""``streamkit backup``: how to keep a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import (
    FINE,
    FOUND,
    add_output,
    clear,
    describe,
    escaped,
    print_json,
    say,
    show,
    wants_json,
)

if TYPE_CHECKING:
    import argparse

    from streamkit.engines.file.verify import Report

CODES = {0: "copied and verified", 1: "what was copied is damaged", 2: "it cannot be copied"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "The copy holds everything that was acknowledged before it began, and maybe some of what came while it was "
        "made, and never half of a commit. It is a data directory itself: open it, verify it, restore it.",
        "streamkit backup ./data ./data-2026-11-23",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("to", type=Path, metavar="TO", help="a directory that does not exist, or is empty")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Copy it."""
    from streamkit.engines.file.backup import backup
    from streamkit.engines.file.verify import verify

    began = time.monotonic()
    try:
        size = backup(str(options.directory), str(options.to), show)
        report = verify(str(options.to), show)
    finally:
        clear()
    seconds = time.monotonic() - began
    if wants_json(options):
        print_json(
            {
                "backup": str(options.to),
                "bytes": size,
                "seconds": round(seconds, 3),
                "records": report.records,
                "sound": report.sound,
                "findings": [str(finding) for finding in report.findings],
            }
        )
    elif report.sound:
        print(f"{options.to}: {size:,} bytes in {seconds:.1f} s, {report.records:,} records; verified")
    if report.sound:
        return FINE
    return damaged(options, report, f"what was copied is damaged, and so is {options.directory}")


def damaged(options: argparse.Namespace, report: Report, verdict: str) -> int:
    """Say where, unless a program was told, and that it is."""
    if not wants_json(options):
        print(*(escaped(str(finding)) for finding in report.findings), sep="\n")
    say(f"streamkit: {verdict}")
    return FOUND

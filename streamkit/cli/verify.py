"""``streamkit verify``: what a directory is worth."""

from __future__ import annotations

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
    show,
    wants_json,
)

if TYPE_CHECKING:
    import argparse

CODES = {0: "sound", 1: "damaged", 2: "it cannot be checked"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Reads everything in a directory that nobody has open, changes nothing, and prints one line for each thing "
        "that is wrong: file, position, what. What a crash left behind is no damage.",
        "streamkit verify ./data",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Check it."""
    import msgspec

    from streamkit.engines.file.verify import verify

    try:
        report = verify(str(options.directory), show)
    finally:
        clear()
    code = FINE if report.sound else FOUND
    if wants_json(options):
        print_json({"sound": report.sound, **msgspec.to_builtins(report)})
        return code
    for finding in report.findings:
        print(escaped(str(finding)))
    damage = sum(finding.severity == "damage" for finding in report.findings)
    verdict = "sound" if report.sound else f"DAMAGED in {damage} places"
    print(
        f"{options.directory} is {verdict}: {report.bytes:,} bytes, {report.frames:,} commits in the journal, "
        f"{report.records:,} records, {report.messages:,} settled messages, {report.items:,} settled items"
    )
    return code

"""What can be asked of ``python -m benchmarks``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import ENGINES

_EXAMPLES = """examples:
  python -m benchmarks                               everything, in under ten minutes; report.html and report.json
  python -m benchmarks --only append --only cycle    two workloads
  python -m benchmarks --json before.json            keep the figures, change something, and then:
  python -m benchmarks --compare before.json         the same once more, beside them
  python -m benchmarks --only puts --profile where   what puts spend their time on

other commands, each with --help:
  python -m benchmarks gate      is this change slower than what it is based on?
  python -m benchmarks page      the HTML page of a report.json
  python -m benchmarks readme    the README's table and picture from the results that are kept
"""


def parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a run; ``names`` are those of the workloads."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the hot paths on this machine, and peers beside them. Order and loss are verified before "
        "a number counts. docs/benchmarks.md says what each figure means.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = made.add_argument_group("what runs")
    what.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    what.add_argument("--engine", choices=ENGINES, default="file", help="that keeps streamkit's data (default file)")
    what.add_argument(
        "--durability", choices=["fsync", "interval", "memory"], default="fsync", help="of streamkit (default fsync)"
    )
    what.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="those installed (default: unless --small or --engine memory)",
    )
    what.add_argument("--dir", type=Path, help="a directory on the disk to measure (default: the temporary one)")
    much = made.add_argument_group("how much")
    much.add_argument(
        "--minutes", type=float, default=9.0, help="time that all of it has; counts and rounds are chosen for it (9)"
    )
    much.add_argument("--rounds", type=int, help="exactly so many of each workload, at full counts, however long")
    much.add_argument("--small", action="store_true", help="a few records, one round: does everything still run?")
    much.add_argument("--gigabytes", type=float, help="of the large store and of what passes through (1)")
    much.add_argument("--messages", type=int, help="that wait in a queue (100,000)")
    much.add_argument("--items", type=int, help="in one table (1,000,000)")
    says = made.add_argument_group(
        "what it says",
        "beside the tables. Without --json and --html: report.json and report.html, unless --small or --profile",
    )
    says.add_argument("--json", type=Path, metavar="FILE", help="everything, each round's figures too")
    says.add_argument("--html", type=Path, metavar="FILE", help="the page with the plots")
    says.add_argument("--compare", type=Path, metavar="BASE.json", help="each figure beside that of an earlier run")
    says.add_argument(
        "--profile", type=Path, metavar="DIR", help="one round of streamkit's lanes under cProfile, kept there"
    )
    return made


def checked(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, or an exit that says what is wrong with them."""
    options = made.parse_args(arguments)
    counts = {"--rounds": options.rounds, "--messages": options.messages, "--items": options.items}
    for name, count in counts.items():
        if count is not None and count < 1:
            made.error(f"{name} is at least 1, not {count}")
    for name, amount in {"--gigabytes": options.gigabytes, "--minutes": options.minutes}.items():
        if amount is not None and not amount > 0:
            made.error(f"{name} is above 0, not {amount:g}")
    if options.dir is not None and not options.dir.is_dir():
        made.error(f"--dir {options.dir} is no directory; make it, on the disk that is to be measured")
    return options

"""``streamkit``: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from streamkit.cli import alarms, store

DOES_NOT_ADD_UP = 1
CANNOT_RUN = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 the result is wrong, 2 it could not run, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamkit",
        description="An embedded event-streaming stack: streams, queues, tables, functions and alarms, on disk.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run the whole stack on real data and check what comes out",
        description=(
            "Departures from New York go into a stream; three event source mappings filter, total and route them; a "
            "worker rebooks cancelled flights; those that cannot be rebooked become dead letters, and too many of them "
            "raise an alarm. Everything is durable: kill it at any instant and run it again on the same --dir."
        ),
        epilog="example: streamkit demo --dir ./flights --json figures.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--data", type=Path, metavar="FILE", help="a .csv or .csv.gz file of the nycflights13 columns")
    demo.add_argument("--dir", type=Path, metavar="DIR", help="keep the data here (default: a temporary directory)")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    demo.add_argument(
        "--durability",
        choices=["fsync", "interval", "memory"],
        default="fsync",
        help="when a record is on disk: before it is acknowledged, 20 times a second, or when the system likes",
    )
    demo.set_defaults(command=_demo)
    store.add_commands(commands)
    alarms.add_command(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("streamkit")
        except PackageNotFoundError:
            found = "from a source tree that is not installed"
        print(f"streamkit {found}")
        parser.exit()


def _demo(options: argparse.Namespace) -> int:
    import asyncio
    import logging

    from streamkit import StreamKitError
    from streamkit.demo.progress import progress
    from streamkit.demo.run import run

    # A retry is nothing to report here: flights without an aircraft are meant to fail.
    logging.getLogger("streamkit").setLevel(logging.ERROR)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        return _cannot_run(f"there is no directory {options.json.absolute().parent} for --json: create it first")
    try:
        report = asyncio.run(run(options.data, options.dir, progress(), durability=options.durability))
    except StreamKitError as error:
        return _cannot_run(str(error))
    print("\n".join(report.lines()))
    if options.json is not None:
        try:
            report.save(options.json)
        except OSError as error:
            return _cannot_run(f"the figures could not be written to {options.json} ({error.strerror})")
    return DOES_NOT_ADD_UP if report.wrong else 0


def _cannot_run(reason: str) -> int:
    print(f"streamkit: {reason}", file=sys.stderr)
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())

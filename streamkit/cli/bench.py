"""``streamkit bench``: what streamkit does on this disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import (
    CANNOT_RUN,
    FINE,
    FOUND,
    add_output,
    cannot_run,
    clear,
    describe,
    print_json,
    say,
    show,
    wants_json,
)

if TYPE_CHECKING:
    import argparse

    from streamkit.cli.measuring import Measured

CODES = {
    0: "measured, and all was right",
    1: "something was lost, doubled or out of order: please report it",
    2: "it cannot be measured",
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Appends, puts, delivers and queues for some seconds in a directory of its own on the disk of --dir, reads "
        "everything back, and says how fast that was; each acknowledged record is looked for, in order. Whatever else "
        "runs on this machine takes its share of the figures.\n\n"
        "--suite runs all of it with its peers instead, from a checkout of the repository; its options come after --.",
        "streamkit bench --dir /var/lib/shop",
        "streamkit bench --suite -- --only append",
        codes=CODES,
    )
    parser.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="on which disk (default: this one)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="about how long (default: 8)")
    parser.add_argument(
        "--durability",
        choices=["fsync", "interval", "memory"],
        default="fsync",
        help="when a record is on disk: before it is acknowledged, 20 times a second, or when the system likes",
    )
    parser.add_argument("--suite", action="store_true", help="run `python -m benchmarks`")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of --suite")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Measure it."""
    import asyncio

    if options.suite:
        return _suite(options.options)
    if options.options:
        return cannot_run(f"{' '.join(options.options)} is for the suite: add --suite, or --dir {options.options[0]}")
    if not 0 < options.seconds <= 3600:
        return cannot_run("--seconds is more than 0, and 3,600 at most")
    if not options.dir.is_dir():
        return cannot_run(f"there is no directory {options.dir}: give one on the disk that is to be measured")
    import tempfile

    from streamkit.cli.ending import sigterm_is_ctrl_c
    from streamkit.cli.measuring import measure_sync

    with sigterm_is_ctrl_c(), tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=options.dir) as directory:
        _print(measure_sync(Path(directory)), options)
        wrong = asyncio.run(_measure(Path(directory), options))
    for each in wrong:
        say(f"WRONG: {each}")
    if not wants_json(options) and not wrong:
        print("every acknowledged record and message was there, once and in order")
    return FOUND if wrong else FINE


async def _measure(directory: Path, options: argparse.Namespace) -> list[str]:
    from streamkit.cli.measuring import measure

    wrong: list[str] = []
    show("measuring")
    async for measured in measure(directory, options.seconds / 4, options.durability):
        clear()
        _print(measured, options)
        wrong += [f"{measured.name}: {each}" for each in measured.wrong]
        show("measuring")
    clear()
    return wrong


def _print(measured: Measured, options: argparse.Namespace) -> None:
    if wants_json(options):
        import msgspec

        print_json({**msgspec.to_builtins(measured), "durability": options.durability})
    else:
        print(f"{measured.name:<10}{measured.value:>12,.0f} {measured.unit:<12}{measured.what}", flush=True)


def _suite(words: list[str]) -> int:
    import subprocess
    import sys

    if not Path("benchmarks", "workloads", "__init__.py").is_file():
        cannot_run(
            "the suite is not installed with the package: clone the repository, pip install -e '.[bench]' in it, and "
            "run this there; without --suite this disk is measured in some seconds"
        )
        return CANNOT_RUN
    return subprocess.run([sys.executable, "-m", "benchmarks", *words], check=False).returncode

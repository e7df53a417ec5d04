"""``python -m benchmarks``: run the workloads and print what they did, if it was right."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import bare, report
from benchmarks.measure import Lane, Result, Setting, Workload, WrongResultError, sit
from benchmarks.peers import PEERS, QUEUE_PEERS
from benchmarks.workloads import WORKLOADS


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    names = list(dict.fromkeys(workload.name for workload in WORKLOADS))
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the hot paths on this machine, and peers beside them. Order and loss are verified before "
        "a number counts. docs/benchmarks.md says what each figure means.",
    )
    made.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    made.add_argument("--rounds", type=int, default=5, help="rounds per workload; medians are printed (default 5)")
    made.add_argument("--small", action="store_true", help="a few records, one round: does everything still run?")
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything there, each round's figures as well")
    made.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=None, help="those installed (default: unless --small)"
    )
    made.add_argument(
        "--gigabytes", type=float, default=1.0, help="of the large store and of what passes through (default 1)"
    )
    made.add_argument("--messages", type=int, default=100_000, help="that wait in a queue (default 100,000)")
    made.add_argument("--items", type=int, default=1_000_000, help="in one table (default 1,000,000)")
    made.add_argument("--durability", choices=["fsync", "interval", "memory"], default="fsync", help="of streamkit")
    made.add_argument("--dir", type=Path, help="a directory on the disk to measure (default: the temporary one)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if something was lost, doubled or swapped."""
    options = parser().parse_args(arguments)
    if options.rounds < 1 or min(options.messages, options.items) < 1 or options.gigabytes <= 0:
        parser().error("--rounds, --messages and --items are at least 1, and --gigabytes is above 0")
    peers = not options.small if options.peers is None else options.peers
    rounds = 1 if options.small else options.rounds
    # What a lane with less durability, or a handful of records, reaches is no answer to a target.
    judge = not options.small and options.durability == "fsync"
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=options.dir) as base:
        machine = bare.machine(Path(base))
        print(", ".join(f"{name} {value}" for name, value in machine.items()))
        size = f"{options.gigabytes:g} GB, {options.messages:,} messages, {options.items:,} items"
        print(f"streamkit's durability {options.durability}; {rounds} rounds, {size}")
        missing = _missing() if peers else {}
        for name, why in missing.items():
            print(f"peer {name} is left out: {why}")
        print(report.header(options.small), flush=True)
        setting = Setting(
            Path(), Path(), options.small, options.durability, options.gigabytes, options.messages, options.items
        )
        for workload in WORKLOADS:
            if options.only and workload.name not in options.only:
                continue
            try:
                results.append(sit(workload, _lanes(workload, missing, peers), rounds, Path(base), setting))
            except WrongResultError as error:
                print(f"{workload.name}: WRONG, so there is no number: {error}", file=sys.stderr)
                return 1
            print(report.table(results[-1], judge=judge), flush=True)
    if judge:
        print(report.summary(results))
    if options.json is not None:
        report.save(options.json, machine, results)
    return 0


def _missing() -> dict[str, str]:
    return {peer.name: f"{why}; {peer.install}" for peer in (*PEERS, *QUEUE_PEERS) if (why := peer.lacks())}


def _lanes(workload: Workload, missing: dict[str, str], peers: bool) -> list[Lane]:
    return [lane for lane in workload.lanes if not lane.peer or (peers and lane.peer not in missing)]


if __name__ == "__main__":
    sys.exit(main())

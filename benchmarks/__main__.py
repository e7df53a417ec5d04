"""``python -m benchmarks``: run the workloads and print what they did, if it was right."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import HEADER, Result, Round, Setting, WrongResultError, machine
from benchmarks.workloads import WORKLOADS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the hot paths on this machine. Order and loss are verified before a number counts.",
    )
    parser.add_argument("--small", action="store_true", help="a few records, one round: does every workload still run?")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per workload; the median is printed (default 5)")
    names = sorted({workload.name for workload in WORKLOADS})
    parser.add_argument("--only", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--durability", choices=["fsync", "interval", "memory"], default="fsync")
    parser.add_argument("--dir", type=Path, help="a directory on the disk to measure (default: the temporary one)")
    options = parser.parse_args()
    rounds = 1 if options.small else options.rounds
    scale = 0.02 if options.small else 1.0
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=options.dir) as base:
        print(machine(Path(base)))
        print(f"durability {options.durability}; {rounds} rounds, each in a fresh directory\n")
        print(HEADER)
        for workload in WORKLOADS:
            if options.only not in (None, workload.name):
                continue
            done: list[Round] = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory(dir=base) as directory:
                    setting = Setting(Path(directory), scale, options.durability)
                    try:
                        done.append(asyncio.run(workload.run(setting)))
                    except WrongResultError as error:
                        print(f"{workload.name}: WRONG, so there is no number: {error}", file=sys.stderr)
                        return 1
            print(Result(workload, tuple(done)).line(), flush=True)
    return 0


sys.exit(main())

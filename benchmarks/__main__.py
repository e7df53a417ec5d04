"""``python -m benchmarks``: run the workloads and say what they did, if it was right."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import WrongResultError
from benchmarks.machine import machine
from benchmarks.measure import Lane, Setting, Workload
from benchmarks.options import checked, parser
from benchmarks.peers import known, promises
from benchmarks.plan import known_seconds
from benchmarks.profiling import profiled
from benchmarks.progress import progress
from benchmarks.report import document, files, terminal
from benchmarks.report.compare import compare, summary
from benchmarks.running import Runner, ViolationError
from benchmarks.workloads import WORKLOADS

_COMMANDS: dict[str, str] = {
    "gate": "benchmarks.gate.main",
    "page": "benchmarks.report.page",
    "readme": "benchmarks.report.readme",
}
"""By the first word, the module whose ``main`` does it."""
_RESULTS = Path(__file__).parent / "results" / "full.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0, or 1 if something was lost, doubled or swapped, 2 if the options make no sense, 130 if interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in _COMMANDS:
        done: int = importlib.import_module(_COMMANDS[words[0]]).main(words[1:])
        return done
    made = parser(list(dict.fromkeys(workload.name for workload in WORKLOADS)))
    options = checked(made, words)
    try:
        base = None if options.compare is None else document.load(options.compare)
    except ValueError as error:
        made.error(str(error))
    json, _ = _where(options)
    if base is not None and json is not None and json.resolve() == options.compare.resolve():
        made.error(f"this run would write over {options.compare}; --json FILE puts its figures elsewhere")
    return _run(options, base)


def _run(options: argparse.Namespace, base: dict[str, Any] | None) -> int:
    peers = not options.small and options.engine == "file" if options.peers is None else options.peers
    missing = _missing() if peers else {}
    chosen = [each for each in WORKLOADS if not options.only or each.name in options.only]
    lanes = {each.title: _lanes(each, missing, peers and not options.profile, options.engine) for each in chosen}
    # What a lane with less durability, or a handful of records, reaches is no answer to a target.
    judge = not options.small and options.durability == "fsync" and options.engine == "file"
    code = 0
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=options.dir) as directory:
        began = time.monotonic()
        stamped = machine(Path(directory), _packages() if peers else ())
        print("\n".join(f"{name:>15} {value}" for name, value in stamped.items()), flush=True)
        for name, why in missing.items():
            print(f"peer {name} is left out: {why}")
        runner = _runner(options, Path(directory), lanes)
        runner.left_out.update({f"peer {name}": why for name, why in missing.items()})
        runner.left_out.update({each.title: "it is not about this engine" for each in chosen if not lanes[each.title]})
        try:
            with progress() as shown:
                runner.run([each for each in chosen if lanes[each.title]], shown)
        except (WrongResultError, ViolationError) as error:
            print(f"WRONG, so there are no numbers: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; what was measured until now:", file=sys.stderr)
            code = 130
        run = document.Run(stamped, _asked(options), runner.left_out, promises(), time.monotonic() - began)
    return _say(options, runner, document.document(run, runner.results), base, judge=judge) or code


def _runner(options: argparse.Namespace, directory: Path, lanes: Mapping[str, Sequence[Lane]]) -> Runner:
    setting = Setting(
        Path(),
        Path(),
        options.small,
        options.durability,
        options.gigabytes or 1.0,
        options.messages or 100_000,
        options.items or 1_000_000,
        options.engine,
    )
    runner = Runner(setting, directory, options.minutes * 60 - 15, options.rounds, lanes=lanes)
    if options.small or options.profile:
        runner.rounds = 1
    if _RESULTS.exists():
        runner.known = known_seconds(document.load(_RESULTS))
    if options.profile:
        runner.play = profiled(
            options.profile,
            {id(lane): f"{title} {at}" for title, several in lanes.items() for at, lane in enumerate(several)},
        )
    return runner


def _say(
    options: argparse.Namespace, runner: Runner, made: dict[str, Any], base: dict[str, Any] | None, *, judge: bool
) -> int:
    """Print the tables and write the files; 1 if one cannot be written."""
    comparison = None if base is None else compare(base, made)
    print(terminal.header(options.small, comparison is not None))
    for result in runner.results:
        print(terminal.table(result, judge=judge, comparison=comparison))
    every = [each for result in runner.results for each in result.checked.values()]
    if every:
        print(terminal.guarantees(every))
    for name, why in runner.left_out.items():
        print(f"left out: {name}: {why}")
    if judge:
        print(terminal.summary(runner.results))
    if comparison is not None:
        print("\n".join(summary(comparison)))
    return files.write(_where(options, nothing=not runner.results), made, comparison)


def _where(options: argparse.Namespace, *, nothing: bool = False) -> files.Chosen:
    """The files of a run; one of which nothing came, or that means nothing, leaves those that were asked for."""
    partial = nothing or options.small or options.profile is not None
    return files.chosen(options.json, options.html, default=not partial)


def _asked(options: argparse.Namespace) -> dict[str, object]:
    return {name: value for name, value in vars(options).items() if isinstance(value, str | int | float | list)}


def _packages() -> list[str]:
    """The distributions that the peers' modules come from."""
    carriers = importlib.metadata.packages_distributions()
    return sorted({name for peer in known() for module in peer.modules for name in carriers.get(module, ())})


def _missing() -> dict[str, str]:
    return {peer.name: f"{why}; {peer.install}" for peer in known() if (why := peer.lacks())}


def _lanes(workload: Workload, missing: Mapping[str, str], peers: bool, engine: str) -> list[Lane]:
    return [
        lane
        for lane in workload.lanes
        if engine in lane.engines and (not lane.peer or (peers and lane.peer not in missing))
    ]


if __name__ == "__main__":
    sys.exit(main())

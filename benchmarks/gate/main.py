"""``python -m benchmarks gate``: the options, and what runs for them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gate import report
from benchmarks.gate.base import Base, Git, NoBaseError, changed, find, trees
from benchmarks.gate.decision import LEAST
from benchmarks.gate.paths import HOT_PATHS
from benchmarks.gate.running import Compared, measure, run

ROOT = Path(__file__).parents[2]
VARIABLE = "STREAMKIT_GATE_BASE"
_IN_MEMORY = Path("/dev/shm")
_ROOM = 2**29
"""Bytes that the files of a pair need at most, with much to spare."""

_EXAMPLES = f"""examples:
  python -m benchmarks gate                      all hot paths, beside what this branch is based on
  python -m benchmarks gate --touched            those that run through files that differ; what CI runs
  python -m benchmarks gate --only append        one of them
  python -m benchmarks gate --base v0.1.0 --minutes 10
  python -m benchmarks gate --base HEAD --only queue     what is not committed yet, beside HEAD

the base is, in this order:
  --base, or {VARIABLE}: its merge base with HEAD
  the merge base with origin/HEAD, origin/main or main, if HEAD is ahead of it
  on main itself: HEAD if there are changes that are not committed, else ten commits before HEAD

it ends with:
  0    no hot path is slower by more than a tenth; or none is touched; or there is one commit and nothing to compare
  1    one is slower, or gives wrong results
  2    the options make no sense, or the base was not found
  130  it was interrupted
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks gate",
        description="Runs hot paths of the base and of this change in turn on this machine, and refuses a change that "
        "is slower by more than a tenth. docs/benchmarks.md says how it decides.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--base", metavar="REF", help="a commit, branch or tag to compare with (see below)")
    made.add_argument("--touched", action="store_true", help="only paths that run through files that differ")
    made.add_argument(
        "--only", action="append", choices=list(HOT_PATHS), metavar="NAME", help=f"of {', '.join(HOT_PATHS)}"
    )
    made.add_argument("--minutes", type=float, default=3.0, help="that all of it may take (3)")
    made.add_argument("--json", type=Path, metavar="FILE", help="every pair and the verdicts")
    made.add_argument("--dir", type=Path, help="where the data is (default: in memory if there is room, or temporary)")
    return made


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run it for the working tree at ``root``; see ``--help`` for what it returns."""
    made = parser()
    options = made.parse_args(arguments)
    if not options.minutes > 0:
        made.error(f"--minutes is above 0, not {options.minutes:g}")
    if options.dir is not None and not options.dir.is_dir():
        made.error(f"--dir {options.dir} is no directory")
    before = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return _gate(options, Git(root))
    except NoBaseError as error:
        print(f"gate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gate: interrupted; the worktree is gone again", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _gate(options: argparse.Namespace, git: Git) -> int:
    base = find(git, options.base or os.environ.get(VARIABLE) or None)
    if base is None:
        print(f"Nothing is compared: {_alone(git)}.")
        return 0
    about = {"base": base.commit, "why": base.why, "change": git("describe", "--always", "--dirty", "--exclude=*")}
    print(f"base {base.commit[:10]}: {base.why}; change {about['change']}", flush=True)
    names = _names(options, git, base)
    if not names:
        return 0
    compared = [Compared(name) for name in names]
    with trees(git, base) as both, tempfile.TemporaryDirectory(prefix="streamkit-gate-", dir=_where(options)) as data:
        progress = _Progress(len(compared))
        try:
            enough = run(
                compared,
                lambda name, number: measure(both, Path(data), name, number),
                options.minutes * 60,
                progress.says,
            )
        except KeyboardInterrupt:
            print(report.table(compared))
            raise
    print(report.table(compared))
    print(report.summary(compared, enough))
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(compared, about), indent=1) + "\n")
    return int(any(each.refused for each in compared))


def _alone(git: Git) -> str:
    if git("rev-parse", "--is-shallow-repository") == "true":
        return "this clone has one commit only; `git fetch --deepen=100` gives it a base"
    return "there is one commit only"


def _names(options: argparse.Namespace, git: Git, base: Base) -> list[str]:
    names: list[str] = list(dict.fromkeys(options.only or HOT_PATHS))
    if not options.touched:
        return names
    files = changed(git, base)
    touched = {name: found for name in names if (found := HOT_PATHS[name].touched_by(files))}
    for name, found in touched.items():
        print(f"{name} runs through {found[0]}" + (f" and {len(found) - 1} more that differ" if found[1:] else ""))
    if not touched:
        print(f"Nothing is compared: of {len(files)} files that differ no hot path runs through any.")
    return list(touched)


def _where(options: argparse.Namespace) -> Path | None:
    if options.dir is not None:
        return Path(options.dir)
    try:
        free = os.statvfs(_IN_MEMORY)
    except OSError:
        return None
    return _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) and free.f_bavail * free.f_frsize >= _ROOM else None


class _Progress:
    """A live line on a terminal; else one every fifteen seconds."""

    _EVERY = 15.0

    def __init__(self, paths: int) -> None:
        self._paths = paths
        self._pairs = 0
        self._began = self._said = time.monotonic()
        self._live = sys.stderr.isatty()

    def says(self, compared: Compared) -> None:
        """A pair of this path was measured."""
        self._pairs += 1
        now = time.monotonic()
        if not self._live and now - self._said < self._EVERY:
            return
        self._said = now
        ratio: Any = f"{compared.judged.cpu.ratio:.2f} x" if compared.pairs else "no figures"
        line = (
            f"{now - self._began:4.0f} s: {self._pairs} pairs of {self._paths} paths, at least {self._paths * LEAST}; "
            f"{compared.name} {ratio} after {len(compared.pairs)}"
        )
        print(f"\r{line:<100}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)

"""What a change is compared with: which commit, which files differ, and both of them as trees to run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BACK = 10
"""Commits of main that are judged together where nothing says with how many it grew: see ``find``."""
MAINS = ("origin/HEAD", "origin/main", "main")
_PACKAGES = ("streamkit", "benchmarks")
_OF_A_CALLER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Which repository a caller is about, a hook perhaps; it need not be this one."""


class NoBaseError(Exception):
    """There is something to compare with, and it was not found; the message says what to do."""


class Git:
    """git in one working tree."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: str) -> str:
        """What it prints.

        Raises:
            NoBaseError: it refuses; with what it says.
        """
        done = self._run(*words)
        if done.returncode:
            raise NoBaseError(f"git {words[0]} in {self.root}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def holds(self, *words: str) -> bool:
        """Whether it ends well."""
        return self._run(*words).returncode == 0

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in _OF_A_CALLER}
        try:
            return subprocess.run(
                ["git", "-c", f"core.hooksPath={os.devnull}", *words],
                cwd=self.root,
                env={**kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
                start_new_session=True,  # Ctrl-C is for the gate, which then has git remove what it made.
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoBaseError(f"git {words[0]} in {self.root}: {error}") from error


@dataclass(frozen=True)
class Base:
    """A commit, and why it is this one."""

    commit: str
    why: str


def find(git: Git, asked: str | None) -> Base | None:
    """The commit that the working tree is compared with.

    What was asked for, as its merge base with HEAD; else the merge base with main, of the upstream repository or here,
    if HEAD is ahead of it. On main itself: HEAD, if files of the library were changed and not committed; else the
    commit ``BACK`` first parents ago, or the oldest that there is. Nothing in a clone says how many commits of main
    came at once, and if only the last were judged, a slow one would pass when it comes as the last but one.

    Returns:
        None if there is only one commit and nothing was changed: there is nothing to compare with.

    Raises:
        NoBaseError: there is no such commit here, or no repository.
    """
    git("rev-parse", "--git-dir")
    if asked is not None:
        if not git.holds("rev-parse", "--verify", "--quiet", f"{asked}^{{commit}}"):
            raise NoBaseError(f"there is no commit {asked!r} here; `git fetch` it, or name another with --base")
        commit = git("rev-parse", f"{asked}^{{commit}}")
        if git.holds("merge-base", commit, "HEAD"):
            return Base(git("merge-base", commit, "HEAD"), f"the merge base with {asked}")
        return Base(commit, f"{asked}, with which no ancestor is shared here")
    for ref in MAINS:
        if git.holds("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"):
            ahead = not git.holds("merge-base", "--is-ancestor", "HEAD", ref)
            if ahead and git.holds("merge-base", ref, "HEAD"):
                return Base(git("merge-base", ref, "HEAD"), f"the merge base with {ref}")
    if not git.holds("diff", "--quiet", "HEAD", "--", "streamkit"):
        return Base(git("rev-parse", "HEAD"), "HEAD, since there are changes that are not committed")
    line = git("rev-list", "--first-parent", f"--max-count={BACK + 1}", "HEAD").split()
    if len(line) == 1:
        return None
    return Base(line[-1], f"{len(line) - 1} commits before HEAD, which is main")


def changed(git: Git, base: Base) -> list[str]:
    """The files that differ between the base and the working tree, new ones too."""
    differ = git("diff", "--name-only", "--no-renames", "-z", base.commit)
    new = git("ls-files", "--others", "--exclude-standard", "-z")
    return sorted({name for name in (differ + "\0" + new).split("\0") if name})


@dataclass(frozen=True)
class Trees:
    """Directories with a ``streamkit`` and the same ``benchmarks``."""

    base: Path
    change: Path


@contextlib.contextmanager
def trees(git: Git, base: Base) -> Iterator[Trees]:
    """The base as a worktree and the working tree as a copy, so that it may be worked on meanwhile. Gone at the end.

    Both have the benchmarks of the change: a benchmark that is another one now says nothing about the library.
    """
    with tempfile.TemporaryDirectory(prefix="streamkit-gate-", ignore_cleanup_errors=True) as scratch:
        made = Trees(Path(scratch) / "base", Path(scratch) / "change")
        try:
            git("worktree", "add", "--detach", "--force", str(made.base), base.commit)
            for package in _PACKAGES:
                _copy(git.root / package, made.change / package)
            _copy(made.change / "benchmarks", made.base / "benchmarks")
            for tree in (made.base, made.change):
                # It imports all workloads, and one that needs what is new would take the others with it.
                workloads = tree / "benchmarks" / "workloads" / "__init__.py"
                if workloads.exists():
                    workloads.write_text("")
            yield made
        finally:
            with _undisturbed(), contextlib.suppress(NoBaseError):
                git.holds("worktree", "remove", "--force", "--force", str(made.base))
                shutil.rmtree(made.base, ignore_errors=True)
                git("worktree", "prune")


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Another Ctrl-C while the worktree is removed would leave it there."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

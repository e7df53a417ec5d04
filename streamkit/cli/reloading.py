"""A pipeline in a process of its own, which is ended and started again when a file changes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkit.cli.printing import FINE, INTERRUPTED, print_json, say, wants_json
from streamkit.errors import MissingExtraError, ValidationError

if TYPE_CHECKING:
    import argparse

_LOOK_EVERY_MS = 200
_LONGEST_END_SECONDS = 30.0
"""After this a process that was asked to end is killed; what it acknowledged is on disk."""


def run_and_reload(options: argparse.Namespace) -> int:
    """Until SIGINT or SIGTERM; the exit code of what ran last, if it was drained.

    Raises:
        MissingExtraError: watchfiles is not installed.
        ValidationError: a directory that is to be watched is not there.
    """
    try:
        import watchfiles
    except ImportError:
        raise MissingExtraError("--reload", "cli") from None

    paths = _watched(options)
    over = threading.Event()
    reloading = _Reloading(options)

    def ask(*_: object) -> None:
        if over.is_set():
            reloading.end_at_once()
        over.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, ask)
    changes = watchfiles.watch(
        *paths,
        watch_filter=watchfiles.PythonFilter(),
        stop_event=over,
        rust_timeout=_LOOK_EVERY_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    return reloading.follow(changes)


class _Reloading:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: subprocess.Popen[bytes] | None = None
        self._at_once = False

    def end_at_once(self) -> None:
        """Wait for nothing any more: a second signal."""
        self._at_once = True
        for each in (self._ending, self._process):
            if each is not None:
                each.kill()

    def follow(self, changes: Iterator[set[tuple[Any, str]]]) -> int:
        self._start()
        try:
            for changed in changes:
                if changed:
                    self._say("reloading", changed=sorted({path for _, path in changed}))
                    self._end()
                    self._start()
                elif self._process is not None and (code := self._process.poll()) is not None:
                    self._process = None
                    self._say("waiting", exit_code=code)
        finally:
            code = self._end()
        return code

    def _start(self) -> None:
        options = self._options
        command = [
            # Not the caches of its modules: a file may change twice within their second.
            *(sys.executable, "-B", "-m", "streamkit", "run", options.target, "--supervised"),
            *("--dir", options.dir, "--durability", options.durability, "--log-level", options.log_level),
            "--json" if wants_json(options) else "--text",
        ]
        # A group of its own, so that Ctrl-C asks it once, through us; and a pipe that tells it when we are gone.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)

    def _end(self) -> int:
        process = self._ending = self._process
        self._process = None
        if process is None:
            return FINE
        process.terminate()
        try:
            code = process.wait(_LONGEST_END_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"streamkit: it did not end within {_LONGEST_END_SECONDS:g} s, and is killed")
            process.kill()
            code = process.wait()
        finally:
            self._ending = None
            if process.stdin is not None:
                process.stdin.close()
        if self._at_once:
            return INTERRUPTED
        if code == -signal.SIGTERM:
            return FINE  # It had not begun.
        return code if code >= 0 else 128 - code  # As a shell says it.

    def _say(self, event: str, **facts: Any) -> None:
        if wants_json(self._options):
            print_json({"event": event, "app": self._options.target, **facts})
        elif event == "reloading":
            names = ", ".join(Path(path).name for path in facts["changed"])
            say(f"streamkit: {names} changed")
        else:
            say(f"streamkit: it has ended with {facts['exit_code']}; waiting for a change")


def _watched(options: argparse.Namespace) -> list[Path]:
    if options.reload_dir:
        for path in options.reload_dir:
            if not path.is_dir():
                raise ValidationError(f"there is no directory {path} to watch")
        return list(options.reload_dir)
    place = options.target.partition(":")[0]
    here = Path.cwd()
    found = [here]
    if place.endswith(".py"):
        parent = Path(place).absolute().parent
        if parent.is_dir() and not parent.is_relative_to(here):
            found.append(parent)
    return found

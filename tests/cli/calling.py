"""Calls the command line, in this process or as one."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamkit.cli.main import main

DEADLINE_SECONDS = 60.0
ROOT = str(Path(__file__).parent.parent.parent)


class Called(NamedTuple):
    """What became of it."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """The output, which is JSON lines."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


def call(*arguments: object) -> Called:
    """Run it here. Not from within an event loop."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Called(code, out.getvalue(), err.getvalue())


def call_aside(*arguments: object) -> Called:
    """The same from within an event loop, which waits meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call, *arguments).result()


class Running:
    """A process of its own, of which each wait has a deadline."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out = b""

    def wait_for(self, text: str, *, after: int = 0) -> int:
        """Return where the output has this text, from a place on, and behind it."""
        wanted = text.encode()
        while (at := self.out.find(wanted, after)) < 0:
            assert self._read(), f"{text!r} did not come: {self.out.decode(errors='replace')}"
        return at + len(wanted)

    def ends_with(self) -> int:
        """Its exit code; what it wrote until then is in ``out``. Its input stays open."""
        while self._read():
            pass
        return self.process.wait(DEADLINE_SECONDS)

    def _read(self) -> bool:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        assert select.select([fd], [], [], DEADLINE_SECONDS)[0], f"nothing came: {self.out.decode(errors='replace')}"
        data = os.read(fd, 1 << 16)
        self.out += data
        return bool(data)


@contextlib.contextmanager
def running(*arguments: object, cwd: Path | None = None, stdin: Any = subprocess.DEVNULL) -> Iterator[Running]:
    """Start it as a process; its two streams are one. It is killed at the end, if it has not ended."""
    command = [sys.executable, "-W", "error", "-m", "streamkit", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()


class Screen:
    """What a terminal was sent."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.seen = b""

    def press(self, key: bytes) -> None:
        """As on its keyboard."""
        os.write(self._fd, key)

    def wait_for(self, text: str) -> None:
        """Return once it was sent this."""
        until = time.monotonic() + DEADLINE_SECONDS
        while text.encode() not in self.seen:
            left = until - time.monotonic()
            assert left > 0, f"{text!r} did not come: {self.seen[-2000:]!r}"
            if select.select([self._fd], [], [], left)[0]:
                self.seen += os.read(self._fd, 1 << 16)


@contextlib.contextmanager
def on_a_terminal(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    """A process whose three streams are a terminal of its own. It is killed at the end, if it has not ended."""
    ours, theirs = pty.openpty()

    def control() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # So that Ctrl-C is a signal.

    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "streamkit", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=control,
        env={**os.environ, "COLUMNS": "100", "LINES": "50", "PYTHONPATH": ROOT},
    )
    os.close(theirs)
    try:
        yield process, Screen(ours)
    finally:
        process.kill()
        os.close(ours)
        process.wait()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return once it does."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.02)

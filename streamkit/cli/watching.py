"""A live view: looked at again and again, drawn over what was there before, until q or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from streamkit.cli.ending import asked_to_end
from streamkit.cli.printing import draws, print_json, styles
from streamkit.clock import to_datetime

if TYPE_CHECKING:
    from streamkit.clock import Clock
    from streamkit.overview.overview import Overview

_ENTER, _LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
"""The alternate screen, without a cursor, so that what was on the terminal is there again afterwards."""
_HOME, _TO_LINE_END, _TO_SCREEN_END = "\033[H", "\033[K", "\033[J"
_BOLD, _RED, _PLAIN = "\033[1m", "\033[31m", "\033[0m"
_STATE = re.compile(r"(?<=  )ALARM(?=  )")


async def watch(look: Callable[[], Awaitable[Overview]], clock: Clock, interval: float, *, as_json: bool) -> int:
    """Look every ``interval`` seconds; the exit code.

    Raises:
        StorageError: it cannot be looked at any more.
    """
    with contextlib.ExitStack() as held:
        asked = held.enter_context(asked_to_end())
        live = not as_json and draws(sys.stdout)
        if live:
            held.enter_context(_screen())
            held.enter_context(_quits_on_q(asked.stop.request))
        while not asked.stop.requested:
            overview = await look()
            if as_json:
                print_json(msgspec.to_builtins(overview))
            elif live:
                columns, rows = shutil.get_terminal_size()
                head = f"{to_datetime(overview.now_ms):%H:%M:%S} UTC  every {interval:g} s  q ends it"
                sys.stdout.write(drawn([head, *repr(overview).splitlines()], columns, rows, styled=styles(sys.stdout)))
                sys.stdout.flush()
            else:
                print(f"{to_datetime(overview.now_ms):%Y-%m-%d %H:%M:%S} UTC", repr(overview), "", sep="\n", flush=True)
            with asked.stop.interruptible():
                await clock.sleep_until(clock.now_ms() + round(interval * 1000))
    return asked.code


def drawn(lines: Sequence[str], columns: int, rows: int, *, styled: bool = True) -> str:
    """What to write so that a terminal of this size shows these lines, and says if there are more. Pure."""
    if len(lines) > rows:
        left = len(lines) - rows + 1
        lines = [*lines[: rows - 1], f"... and {left} more lines: make the window higher, or leave --watch out"]
    return (
        _HOME
        + "\n".join((_styled(line[:columns]) if styled else line[:columns]) + _TO_LINE_END for line in lines)
        + _TO_SCREEN_END
    )


def _styled(line: str) -> str:
    if line and not line.startswith(" "):
        return f"{_BOLD}{line}{_PLAIN}"
    return _STATE.sub(f"{_RED}ALARM{_PLAIN}", line)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


@contextlib.contextmanager
def _quits_on_q(quits: Callable[[], None]) -> Iterator[None]:
    """Keys count at once, and are not shown."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import os
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    loop = asyncio.get_running_loop()

    def pressed() -> None:
        keys = os.read(fd, 64)
        if not keys or keys.lower() in (b"q", b"\x1b"):
            quits()

    tty.setcbreak(fd)
    loop.add_reader(fd, pressed)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)

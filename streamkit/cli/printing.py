"""What commands say: lines for people on a terminal, JSON lines for programs everywhere else; and how they end."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import argparse

FINE = 0
FOUND = 1
"""It ran, and what it found is wrong, or not all of it could be done."""
CANNOT_RUN = 2
INTERRUPTED = 130
READER_GONE = 141
"""Whoever read the output went away (``| head``): what a shell says of a program that a SIGPIPE ended."""


def describe(parser: argparse.ArgumentParser, what: str, *examples: str, codes: Mapping[int, str]) -> None:
    """Give a command what every one has: a description, its exit codes, and examples.

    Args:
        parser: the command's.
        what: it does, as sentences.
        examples: whole command lines.
        codes: what 0, 1 and 2 mean of this command; the others mean the same of all.
    """
    import shutil
    import textwrap

    width = min(100, shutil.get_terminal_size().columns - 2)
    parser.description = "\n\n".join(textwrap.fill(part, width) for part in what.split("\n\n"))
    meanings = {**codes, INTERRUPTED: "interrupted"}
    said = "\n".join(f"  {code:<4}{meaning}" for code, meaning in meanings.items())
    parser.epilog = f"exit codes:\n{said}\n\nexample: " + "\n         ".join(examples)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json`` and ``--text``."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--json",
        dest="output",
        action="store_const",
        const="json",
        help="print JSON lines (default: where the output is no terminal)",
    )
    add_text(which)


def add_text(parser: argparse._ActionsContainer) -> None:
    """Declare ``--text`` alone, of a command whose ``--json`` is its own."""
    parser.add_argument(
        "--text",
        dest="output",
        action="store_const",
        const="text",
        help="print text for people (default: on a terminal)",
    )


def wants_json(options: argparse.Namespace) -> bool:
    """Whether the output is read by a program."""
    return bool(options.output == "json") if options.output else not sys.stdout.isatty()


def print_json(found: Mapping[str, Any], *, flush: bool = True) -> None:
    """One JSON line, at once unless there is more to come. ``msgspec.Raw`` stands in it as it is."""
    import msgspec

    try:
        line = msgspec.json.encode(found).decode()
    except UnicodeEncodeError:  # A file's name that is no text.
        line = msgspec.json.encode(_sayable(found)).decode()
    print(escaped(line) if sys.stdout.isatty() else line, flush=flush)


def _sayable(found: Any) -> Any:
    if isinstance(found, str):
        return found.encode(errors="backslashreplace").decode()
    if isinstance(found, Mapping):
        return {_sayable(name): _sayable(value) for name, value in found.items()}
    return [_sayable(each) for each in found] if isinstance(found, list | tuple) else found


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows in columns that begin at one place; the last column is as long as it is."""
    lines = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]) - 1)]
    for row in lines:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())


def escaped(text: str) -> str:
    """Text that stays on its line and tells a terminal nothing: what cannot be printed is shown as JSON escapes it.

    A name, a payload or a reason is anybody's text. Of JSON this is the same JSON.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def escape_what_cannot_be_encoded(stream: io.TextIOWrapper) -> None:
    """A name may be no text, and a terminal's encoding may lack a character: neither ends a command in the middle."""
    codecs.register_error("streamkit", _escape_for_codec)
    stream.reconfigure(errors="streamkit")


def _escape_for_codec(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


def cannot_run(error: object) -> int:
    """Say why on the error stream."""
    say(f"streamkit: {error}")
    return CANNOT_RUN


def say(line: str) -> None:
    """Lines beside the output: they stay, and no program has to parse them. An error's text may quote anybody's."""
    clear()
    print("\n".join(escaped(each.expandtabs()) for each in line.split("\n")), file=sys.stderr, flush=True)


def draws(stream: TextIO) -> bool:
    """Whether it is a terminal that can be told to write elsewhere than at its end."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def styles(stream: TextIO) -> bool:
    """Whether what is written may be bold or red there; see https://no-color.org."""
    return draws(stream) and not os.environ.get("NO_COLOR")


def show(progress: str) -> None:
    """How far it is, over what was shown before; on a terminal alone."""
    if draws(sys.stderr):
        print(f"\r\033[K{escaped(progress)}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Take away what ``show`` left."""
    if draws(sys.stderr):
        print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def logging_errors_alone(name: str) -> Iterator[None]:
    """While in this block a logger's warnings are left out, of which the command itself says what matters."""
    import logging

    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def when(instant_ms: int) -> str:
    """An instant as JSON and AWS write it: UTC, in milliseconds."""
    from streamkit.clock import to_datetime

    return to_datetime(instant_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def named(names: Iterable[str], most: int = 10) -> str:
    """Some names for a sentence."""
    every = [escaped(name) for name in names]
    return ", ".join(every[:most]) + (", ..." if len(every) > most else "")

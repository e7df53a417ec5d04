"""``streamkit``: the command line.

Only the module of the command that was chosen is loaded, and what it works with only once it runs.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from streamkit.cli.printing import FINE, INTERRUPTED, READER_GONE, cannot_run, escape_what_cannot_be_encoded, say

COMMANDS = {
    "demo": "run the whole stack on real data and check what comes out",
    "run": "run a pipeline file, and run it anew when it changes",
    "put": "put JSON lines into a stream or a queue",
    "tail": "show the newest records of a stream, and those that come",
    "peek": "show messages of a queue without receiving them",
    "redrive": "move dead letters back to where they came from",
    "inspect": "show streams, shards, lag, queues and alarms at a glance, once or live",
    "alarms": "list the alarms of a data directory, or what happened to one",
    "verify": "check a data directory: every checksum, every continuity, every reference",
    "backup": "copy a data directory, also while it is in use",
    "restore": "make a data directory of a backup",
    "bench": "measure what streamkit does on this disk, and check that it did it right",
    "doctor": "check what streamkit needs: Python, packages, disk, limits, a directory",
    "completion": "print what a shell needs to complete this command line",
}
"""Each in the module of its name, with what the first screen says of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 the result is wrong, 2 it could not run, 130 interrupted."""
    _fill_closed_streams()
    if arguments is None and isinstance(sys.stdout, io.TextIOWrapper):
        escape_what_cannot_be_encoded(sys.stdout)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        parser().parse_args(words or ["--help"])  # Which ends here, for want of a command.
    # Intermixed: a file may follow an option. argparse cannot do that behind a command's name, nor around a "--".
    chosen = command(words[0])
    options = chosen.parse_args(words[1:]) if "--" in words else chosen.parse_intermixed_args(words[1:])
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        if (known := _known(error)) is None:
            raise
        return known
    return code


def _fill_closed_streams() -> None:
    """With ``>&-`` the next file that is opened, the journal maybe, would have the number of an output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    # They are never closed: as with what is there otherwise, whatever writes last may use them.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def command(name: str) -> argparse.ArgumentParser:
    """The parser of one command, whose module is loaded."""
    made = argparse.ArgumentParser(prog=f"streamkit {name}", formatter_class=argparse.RawDescriptionHelpFormatter)
    return _declared(name, made)


def parser(*, whole: bool = False) -> argparse.ArgumentParser:
    """What knows the commands by their names; ``whole``: with all their options."""
    made = argparse.ArgumentParser(
        prog="streamkit",
        description="An embedded event-streaming stack: streams, queues, tables, functions and alarms, on disk.",
        epilog=(
            "exit codes: 0 fine, 1 it ran and the result is wrong, 2 it could not run, 130 interrupted,\n"
            "            141 whoever read its output went away; each command's --help says more\n"
            "example: streamkit inspect ./data\n"
            "         streamkit tail ./data orders --follow"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action=_Version)
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        each = commands.add_parser(name, help=does, formatter_class=argparse.RawDescriptionHelpFormatter)
        if whole:
            _declared(name, each)
    return made


def _declared(name: str, made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    module = import_module(f"streamkit.cli.{name}")
    module.declare(made)
    made.set_defaults(run=module.run)
    return made


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("streamkit")
        except PackageNotFoundError:
            found = "from a source tree that is not installed"
        print(f"streamkit {found}")
        parser.exit(FINE)
        raise AssertionError("it has ended")


def _known(error: Exception) -> int | None:
    """What a user can do something about is a sentence; None: anything else is our fault, and a traceback."""
    from streamkit.errors import StreamKitError

    several = list(error.exceptions) if isinstance(error, ExceptionGroup) else [error]
    if not all(isinstance(each, StreamKitError | OSError) for each in several):
        return None
    return max(cannot_run(each) for each in several)


def _reader_gone() -> int:
    # Or the interpreter complains once more at its end, when it flushes what nobody reads.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return READER_GONE


if __name__ == "__main__":
    sys.exit(main())

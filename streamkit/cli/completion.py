"""``streamkit completion``: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse

from streamkit.cli.printing import FINE, describe

CODES = {0: "printed", 2: "the extra is not installed, or there is no such shell"}
_SHELLS = ("bash", "zsh", "tcsh")


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Prints a script that completes commands, options, their values, and files and directories where these are "
        "expected (extra: cli). It is made from the parser itself, so make it anew after an upgrade.",
        "streamkit completion bash > ~/.local/share/bash-completion/completions/streamkit",
        'streamkit completion zsh > "${fpath[1]}/_streamkit"',
        "streamkit completion tcsh > /etc/profile.d/streamkit.completion.csh",
        codes=CODES,
    )
    parser.add_argument("shell", choices=_SHELLS)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from streamkit.cli.main import parser
    from streamkit.errors import MissingExtraError

    try:
        import shtab
    except ImportError:
        raise MissingExtraError("completion", "cli") from None

    whole = parser(whole=True)
    for each in _actions(whole):
        # What is expected is told by the word in the usage, which people read as well.
        if each.metavar in ("DIR", "TO", "BACKUP"):
            each.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif each.metavar in ("FILE", "APP"):
            each.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, options.shell))
    return FINE


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = list(parser._actions)
    for each in parser._actions:
        if isinstance(each, argparse._SubParsersAction):
            for command in each.choices.values():
                found += _actions(command)
    return found

"""The commands of a page's ``sh`` blocks: which are run, and what is known of those that are not.

``streamkit`` runs as it would in a terminal, ``python FILE`` too. What sets a machine up, and what takes minutes, is
not run here but read: an extra that is installed must exist, options must parse, what CI runs must be in ``.ci/run``.
"""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import threading
import tomllib
import traceback
from pathlib import Path
from typing import NoReturn

import streamkit.kit  # noqa: F401 - so that programs, which are forked off, need not load it
from tests.pages.blocks import ROOT

_SET_UP = (("python3", "-m", "venv"), ("python", "-m", "venv"), (".", ".venv/bin/activate"))
_OTHERS = {
    ("mkdocs", "build", "--strict"): "tests/test_site.py",
    ("mkdocs", "serve"): "tests/test_site.py",
    ("bash", ".ci/run"): ".ci/run",
    ("ruff", "check"): ".ci/run",
    ("ruff", "format"): ".ci/run",
    ("mypy",): ".ci/run",
    ("pytest",): ".ci/run",
}
"""What else may be named, by how it begins, and the file which shows that it is run."""


def commands_of(text: str) -> list[list[str]]:
    """The words of each command; ``&&`` stands between two."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        command: list[str] = []
        for word in (*words, "&&"):
            if word != "&&":
                command.append(word.removeprefix(".venv/bin/") if not command else word)
            elif command:
                found.append(command)
                command = []
    return found


def run(command: list[str], directory: Path) -> tuple[int, str]:
    """Run a command where the page is, or see that it is one that there is; its exit code, and what it printed.

    Raises:
        AssertionError: nobody runs it, or something of it does not exist.
    """
    head = tuple(command)
    if head[0] == "streamkit" and head[1:2] != ("demo",):
        # What whoever reads the page sees on a terminal; where there is none, it prints JSON.
        text = [] if head[1].startswith("-") or "--json" in head else ["--text"]
        return _ran([sys.executable, "-W", "error", "-m", "streamkit", *command[1:], *text], directory)
    if head[0] == "python" and head[1].endswith(".py"):
        return _program(command[1:], directory)
    if head[:2] == ("streamkit", "demo"):
        _parses_streamkit(command[1:])  # tests/demo runs it.
    elif head[:3] == ("python", "-m", "benchmarks"):
        _parses_benchmarks(command[3:])
    elif head[:2] == ("pip", "install"):
        _installs(command[2:])
    elif head[0] in ("ls", "cat") and len(head) == 2:
        return _ran(command, directory)
    elif not any(head[: len(known)] == known for known in _SET_UP):
        _is_run_elsewhere(head)
    return 0, ""


def _program(command: list[str], directory: Path) -> tuple[int, str]:
    if threading.active_count() > 1 or not (directory / command[0]).exists():
        return _ran([sys.executable, "-W", "error", *command], directory)
    # A copy of this process has imported streamkit already, which is most of what a short program takes.
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            _be(command, directory, printed.fileno())
        _, status = os.waitpid(child, 0)
        printed.seek(0)
        return os.waitstatus_to_exitcode(status), printed.read().decode()


def _be(command: list[str], directory: Path, output: int) -> NoReturn:
    """Be that program, and end as it does."""
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.argv = command
        os.chdir(directory)
        runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _ran(command: list[str], directory: Path) -> tuple[int, str]:
    done = subprocess.run(
        command,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def _parses_streamkit(arguments: list[str]) -> None:
    from streamkit.cli.main import parser

    parser(whole=True).parse_args(arguments)


def _parses_benchmarks(arguments: list[str]) -> None:
    from benchmarks.__main__ import _COMMANDS
    from benchmarks.options import parser
    from benchmarks.workloads import WORKLOADS

    if arguments and arguments[0] in _COMMANDS:
        source = (ROOT / f"{_COMMANDS[arguments[0]].replace('.', '/')}.py").read_text()
        for option in (word for word in arguments if word.startswith("--")):
            assert f'"{option}"' in source, f"python -m benchmarks {arguments[0]} has no {option}"
        return

    parser([workload.name for workload in WORKLOADS]).parse_args(arguments)


def _installs(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in (each for each in arguments if not each.startswith("-")):
        name, _, extras = wanted.rstrip("]").partition("[")
        assert name in ("streamkit", "."), f"pip install {wanted}: the page is about streamkit"
        for extra in filter(None, extras.split(",")):
            assert extra in project["optional-dependencies"], f"pip install {wanted}: there is no extra {extra!r}"


def _is_run_elsewhere(head: tuple[str, ...]) -> None:
    for known, shown in _OTHERS.items():
        if head[: len(known)] == known:
            assert known[-1] in (ROOT / shown).read_text(), f"{shown} does not run {' '.join(known)!r}"
            paths = [word for word in head[1:] if word.startswith("tests/")]
            missing = [path for path in paths if not (ROOT / path.partition("::")[0]).exists()]
            assert not missing, f"{' '.join(head)}: there is no {missing[0]}"
            return
    raise AssertionError(f"nobody runs {' '.join(head)!r}: see tests/pages/commands.py")

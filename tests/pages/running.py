"""Runs a page: ``python -m tests.pages.running docs/tutorial.md``, in the directory that it may write to.

It ends with 1 and a traceback, whose lines are those of the page, if a block fails or prints something else than the
page says.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Sequence
from importlib import import_module
from inspect import CO_COROUTINE
from pathlib import Path

from tests.pages import commands
from tests.pages.blocks import ROOT, Block, blocks_of

_ENDS = re.compile(r"exits with (\d+)")


class Page:
    """One page while it runs."""

    def __init__(self, path: Path, directory: Path, runner: asyncio.Runner) -> None:
        self.path = path
        self.directory = directory
        self._runner = runner
        # A module, because what is defined in a page is looked for by the name of its module.
        self._module = types.ModuleType("__main__")
        self._module.__dict__["__file__"] = str(path)
        sys.modules["__main__"] = self._module
        self.printed = ""

    def run(self, block: Block) -> None:
        """Run one block.

        Raises:
            AssertionError: it is not as the page says.
            Exception: what a block raises.
        """
        match block.language:
            case "python" if block.title:
                compile(block.text, block.title, "exec")
                (self.directory / block.title).write_text(block.text)
            case "python":
                self.printed = self._python(block)
            case "sh":
                self.printed = self._shell(block)
            case "text" if block.title == "output":
                self._compare(block)
            case "toml":
                tomllib.loads(block.text)
            case "json":
                json.loads(block.text)
            case "yaml":
                import_module("yaml").safe_load(block.text)
            case _:
                pass

    def _python(self, block: Block) -> str:
        # As many lines above it as in the page, for tracebacks.
        code = compile(
            "\n" * (block.line - 1) + block.text,
            str(self.path),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & CO_COROUTINE:
                self._runner.run(eval(code, self._module.__dict__))
            else:
                exec(code, self._module.__dict__)
        return printed.getvalue()

    def _shell(self, block: Block) -> str:
        ends = _ENDS.fullmatch(block.title)
        wanted = int(ends[1]) if ends else 0
        *earlier, last = commands.commands_of(block.text)
        printed = ""
        for command in (*earlier, last):
            code, said = commands.run(command, self.directory)
            printed += said
            expected = wanted if command is last else 0
            # The shell says 128 and the signal's number of what a signal ended.
            assert (128 - code if code < 0 else code) == expected, (
                f"{self.path}:{block.line}: {' '.join(command)!r} ended with {code} and not {expected}:\n{said}"
            )
        return printed

    def _compare(self, block: Block) -> None:
        """Raise AssertionError unless it is what was printed; ``...`` stands for anything, line breaks for blanks."""
        words = " ".join(block.text.split())
        pattern = ".*".join(re.escape(part) for part in re.split(r" ?\.{3} ?", words))
        got = " ".join(self.printed.split())
        assert re.fullmatch(pattern, got), (
            f"{self.path}:{block.line}: the page says\n{block.text}\nand what was printed is\n{self.printed}"
        )


def run(path: Path, directory: Path, blocks: Sequence[Block] | None = None) -> None:
    """Run all blocks of a page, in a directory that is there."""
    with asyncio.Runner() as runner:
        page = Page(path, directory, runner)
        for block in blocks_of(path.read_text()) if blocks is None else blocks:
            page.run(block)


def run_in_a_process(path: Path, directory: Path, more: str = "") -> None:
    """The same in a process of its own, with warnings as errors; then ``more``, Python that sees the page's names.

    Raises:
        AssertionError: with what the process said.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.pages.running", str(path), more],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    run(_page, Path.cwd(), [*blocks_of(_page.read_text()), Block("python", "", sys.argv[2], 1)])

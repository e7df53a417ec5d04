"""docs/cli.md is run from top to bottom, and holds what the parser does."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from streamkit.cli.main import COMMANDS, command
from tests.cli.calling import call, running, wait_until

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def steps() -> Iterator[tuple[str, list[str]]]:
    """Each command of the page with the lines that it prints."""
    for block in blocks("console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *printed = step.splitlines()
            yield line, printed


def rows(heading: str) -> list[list[str]]:
    """Of the first table behind it, without its two heads."""
    table = re.search(r"(?:^\|.*\n)+", PAGE.split(heading, 1)[1], re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def assert_prints(said: str, expected: list[str]) -> None:
    """``…`` is anything within a line, and on a line of its own any lines."""
    parts = [r"(?:.*\n)*?" if line == "…" else _line(line) for line in expected]
    assert re.fullmatch("".join(parts), said), f"{said}\nis not what the page says:\n" + "\n".join(expected)


def _line(line: str) -> str:
    # Columns are as wide as what is in them.
    return r" +".join(".*".join(map(re.escape, word.split("…"))) for word in re.split(" +", line)) + r" *\n"


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (pipeline,) = blocks("python")
    Path("pipeline.py").write_text(pipeline)
    last = 0
    ran = set()
    for line, printed in steps():
        words = shlex.split(line)
        if words[0] == "cat":
            Path(words[1]).write_text("".join(f"{text}\n" for text in printed))
        elif words[0] == "echo":
            assert [str(last)] == printed
        elif "^C" in printed:
            run_until_interrupted(words, printed)
            ran.add(words[1])
        else:
            assert words.pop(0) == "streamkit"
            done = call(*words, *([] if "--json" in words else ["--text"]))
            assert_prints(done.err + done.out, printed)
            last = done.code
            ran.add(words[0])
    assert ran == set(COMMANDS) - {"demo", "completion"}, "these two have tests of their own"


def run_until_interrupted(words: list[str], printed: list[str]) -> None:
    at = printed.index("^C")
    with running(*words[1:], "--text") as process:
        process.wait_for(printed[0])
        wait_until(lambda: call("peek", "data", "emails-dead").out.count("\n") == 2, "its dead letters")
        process.process.send_signal(signal.SIGINT)
        assert process.ends_with() == 0
    assert_prints(process.out.decode(), [*printed[:at], *printed[at + 1 :]])


def test_every_command_is_on_it_with_what_it_does() -> None:
    assert [(re.findall(r"`(\w+)`", name)[0], does) for name, does, _ in rows("choose.")] == list(COMMANDS.items())


def test_the_exit_codes_are_those_of_the_commands() -> None:
    told = {name.strip("`"): tuple(meanings) for name, *meanings in rows("## Exit codes")}
    codes = {name: import_module(f"streamkit.cli.{name}").CODES for name in COMMANDS}
    assert told == {name: tuple(each.get(code, "") for code in (0, 1, 2)) for name, each in codes.items()}


def command_lines() -> list[str]:
    """Those of the page and of each ``--help``."""
    shown = [line for block in blocks("sh") for line in block.splitlines()]
    for name in COMMANDS:
        epilog = command(name).epilog
        assert epilog is not None
        shown += [line.strip() for line in epilog.split("example: ")[1].splitlines()]
    return [*shown, *(line for line, _ in steps())]


@pytest.mark.parametrize("line", dict.fromkeys(command_lines()))
def test_every_command_line_that_is_shown_parses(line: str) -> None:
    ours = [part.strip() for part in re.split(r"[|>]", line) if part.strip().startswith("streamkit ")]
    assert ours or line.split()[0] in ("cat", "echo")
    for part in ours:
        _, name, *words = shlex.split(part)
        parser = command(name)
        parser.parse_args(words) if "--" in words else parser.parse_intermixed_args(words)

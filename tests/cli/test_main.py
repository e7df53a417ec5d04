from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamkit import opening
from streamkit.cli import main as cli
from streamkit.errors import StorageError
from tests.cli.calling import ROOT


def streamkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "streamkit", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_has_an_example() -> None:
    done = streamkit("demo", "--help")
    assert done.returncode == 0
    assert "example: streamkit demo --dir ./flights --json figures.json" in done.stdout
    assert "demo" in streamkit("--help").stdout


def test_version() -> None:
    done = streamkit("--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("streamkit ")


def test_an_unknown_command_is_refused() -> None:
    done = streamkit("dance")
    assert done.returncode == 2
    assert "invalid choice: 'dance'" in done.stderr


def test_a_place_for_the_figures_that_is_not_there(tmp_path: Path) -> None:
    done = streamkit("demo", "--json", str(tmp_path / "gone" / "figures.json"))
    assert done.returncode == 2
    assert "create it first" in done.stderr


def test_a_directory_that_holds_other_files(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear diary")
    done = streamkit("demo", "--dir", str(tmp_path))
    assert done.returncode == 2
    assert "holds other files (letter.txt) and no streamkit data: choose an empty directory" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_figures_that_do_not_add_up_are_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from streamkit.demo import run as demo

    class Wrong:
        wrong = ("27,004 rows went in and 27,003 records are in the stream",)

        def lines(self) -> list[str]:
            return list(self.wrong)

    async def run(*_: object, **__: object) -> Wrong:
        return Wrong()

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo", "--text"]) == 1
    assert "27,003 records" in capsys.readouterr().out
    assert logging.getLogger("streamkit").level == logging.NOTSET  # As the program had it.


def test_an_interrupt_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from streamkit.demo import run as demo

    async def run(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo", "--text"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_place_for_the_figures_that_is_a_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    from streamkit.demo import run as demo
    from tests.demo.test_report import report

    async def run(*_: object, **__: object) -> object:
        return report()

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo", "--text", "--json", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "everything adds up" in captured.out
    assert "the figures could not be written" in captured.err


# ---- of every command


def test_a_command_alone_is_loaded_and_nothing_that_it_works_with() -> None:
    code = """
import sys
from streamkit.cli.main import main
try:
    main(["put", "--help"])
except SystemExit:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {name for name in loaded if name.startswith("streamkit.")} == {
        "streamkit.cli",
        "streamkit.cli.main",
        "streamkit.cli.printing",
        "streamkit.cli.put",
    }
    assert loaded.isdisjoint({"asyncio", "anyio", "msgspec", "json", "rich", "shtab", "watchfiles", "sqlite3"})


async def make_store(directory: Path) -> None:
    async with opening.open(directory) as kit:
        await kit.create_stream("orders")


def test_what_looks_on_loads_no_kit(tmp_path: Path) -> None:
    """Which takes longer to load than to look."""
    code = """
import sys
from streamkit.cli.main import main
main(["inspect", sys.argv[1], "--text"])
print(*sys.modules)
"""
    asyncio.run(make_store(tmp_path / "data"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "  orders " in done.stdout
    assert loaded.isdisjoint({"streamkit.kit", "streamkit.opening", "streamkit.functions.mapping", "prometheus_client"})


def test_nothing_is_the_help(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(f"\n    {name}" in said for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_description_examples_and_exit_codes(
    name: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: streamkit {name} ")
    assert f"streamkit {name}" in said.split("\nexample: ")[1]
    codes = said.split("\nexit codes:\n")[1].split("\n\n")[0]
    assert [line.split()[0] for line in codes.splitlines()][-1] == "130"
    assert "  2   " in codes
    assert all(len(line) <= 100 for line in said.splitlines())


def test_what_nobody_foresaw_is_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(_: object) -> int:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("streamkit.cli.verify.run", fails)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        cli.main(["verify", str(tmp_path)])


def test_several_failures_are_a_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    def fails(_: object) -> int:
        raise ExceptionGroup("both", [StorageError("one"), OSError("two")])

    monkeypatch.setattr("streamkit.cli.verify.run", fails)
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "streamkit: one\nstreamkit: two\n"


def test_options_and_files_in_any_order(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "lines").write_text("1\n")
    file, data = str(tmp_path / "lines"), str(tmp_path / "data")
    for words in (
        [data, "numbers", "--create", file, "--json"],
        ["--json", data, "numbers", file, "--create"],
        ["--create", "--json", "--", data, "numbers", file],
    ):
        assert cli.main(["put", *words]) == 0
        assert '"put":1' in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["put", "--help"], ["inspect", "--help"]])
def test_it_starts_in_less_than_150_ms(arguments: list[str]) -> None:
    # Of the processor, and the best of five, so that it says nothing of what else the machine does.
    assert min(_processor_seconds(arguments) for _ in range(5)) < 0.150


def _processor_seconds(arguments: list[str]) -> float:
    nowhere = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    command = [sys.executable, "-m", "streamkit", *arguments]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[nowhere])
    _, status, used = os.wait4(pid, 0)
    assert status == 0
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "says"),
    [
        ("<&-", "put data orders --create", 2, "no standard input, it is closed: give a FILE"),
        (">&-", "inspect nowhere", 2, "holds no streamkit data"),
        ("2>&-", "inspect nowhere", 2, ""),
        (">&-", "doctor --json", 0, ""),
    ],
)
def test_streams_that_are_closed(tmp_path: Path, closed: str, arguments: str, code: int, says: str) -> None:
    command = f"exec {sys.executable} -m streamkit {arguments} {closed}"
    ended = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert says in ended.stderr.decode()
    assert b"Traceback" not in ended.stderr


def test_json_is_json_whatever_a_terminal_or_a_name_lacks(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('"é"\n')
    name = os.fsdecode(b"d\xff")
    for arguments in (["put", name, "x", "--create", "lines"], ["verify", name], ["tail", name, "x"]):
        ended = subprocess.run(
            [sys.executable, "-m", "streamkit", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": ROOT, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=True,
        )
        found = json.loads(ended.stdout)
    assert found["value"] == "é"

"""The guards of conftest.py really fire: a guard that never does protects nothing."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import streamkit

TESTS = Path(__file__).parent
PACKAGE = Path(streamkit.__file__).parent

GUARDED = '''
import asyncio, contextlib, os, time
import pytest
import streamkit

def code_of(file, source):
    """Functions as if they stood in a module of streamkit."""
    names = {"time": time, "os": os}
    exec(compile(source, os.path.join(streamkit.__path__[0], file), "exec"), names)
    return names

SLEEPY = code_of("sleepy.py", "def nap(): time.sleep(0.001)")
JOURNAL = code_of("engines/file/journal.py", "def _write(): time.sleep(0.001)\\ndef other(): time.sleep(0.001)")
DISK = code_of("disk.py", "def look(path): os.close(os.open(path, os.O_RDONLY))\\ndef sync(fd): os.fdatasync(fd)")

async def test_fails_on_a_sleep():
    SLEEPY["nap"]()

async def test_fails_on_a_swallowed_sleep():
    with contextlib.suppress(Exception):
        SLEEPY["nap"]()

async def test_fails_on_an_open(tmp_path):
    DISK["look"](tmp_path)

async def test_fails_on_a_sync(tmp_path):
    with open(tmp_path / "f", "wb") as file:
        DISK["sync"](file.fileno())

async def test_fails_elsewhere_in_an_allowed_file():
    JOURNAL["other"]()

async def test_fails_on_a_task_left():
    test_fails_on_a_task_left.task = asyncio.create_task(asyncio.Event().wait())

@pytest.fixture
async def careless():
    yield
    careless.task = asyncio.create_task(asyncio.Event().wait())

async def test_fails_on_a_task_a_fixture_left(careless):
    pass

async def test_passes_where_blocking_is_allowed():
    JOURNAL["_write"]()

async def test_passes_in_a_thread():
    await asyncio.to_thread(SLEEPY["nap"])

async def test_passes_outside_of_streamkit():
    time.sleep(0.001)

def test_passes_without_a_loop():
    SLEEPY["nap"]()

async def test_passes_with_a_cancelled_task():
    asyncio.create_task(asyncio.Event().wait()).cancel()
    await asyncio.create_task(asyncio.sleep(0))
'''


def test_the_guards_fire(tmp_path: Path) -> None:
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_guarded.py").write_text(GUARDED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--tb=line", "-p", "no:cacheprovider", "test_guarded.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    names = re.findall(r"def (test_\w+)", GUARDED)
    outcomes = {name: set(re.findall(rf"^(\w+) test_guarded\.py::{name}\b", done.stdout, re.M)) for name in names}
    assert outcomes, done.stdout
    for name, outcome in outcomes.items():
        if name.startswith("test_fails"):
            assert outcome & {"FAILED", "ERROR"}, f"{name}: {outcome}\n{done.stdout}"
        else:
            assert outcome == {"PASSED"}, f"{name}: {outcome}\n{done.stdout}"
    assert "streamkit blocked the event loop: time.sleep" in done.stdout
    assert "tasks were left running" in done.stdout


def test_every_allowance_is_of_code_that_exists() -> None:
    """And none is wider than one function."""
    conftest = ast.parse((TESTS / "conftest.py").read_text())
    (allowed,) = [
        node.value
        for node in conftest.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "MAY_BLOCK"
    ]
    assert isinstance(allowed, ast.Dict)
    places = [ast.literal_eval(key) for key in allowed.keys if key is not None]
    assert places
    for file, function in places:
        tree = ast.parse((PACKAGE / file).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert function in functions, f"{function} of {file} may block and is not there"

"""The pytest plugin, in the two modes of pytest-asyncio and under anyio's plugin, each in a pytest of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import asyncio
import pytest
import streamkit
import streamkit.testing
from streamkit.errors import ServiceFailedError, StorageError

class Failing:
    name = "failing"

    async def run(self, stop):
        raise ValueError("so it is")


@MARK
async def test_the_fixtures_belong_together(streamkit_kit, streamkit_clock, streamkit_faults, streamkit_url, tmp_path):
    assert isinstance(streamkit_kit, streamkit.testing.TrialKit)
    assert streamkit_kit.clock is streamkit_clock
    assert streamkit_kit.faults is streamkit_faults
    assert streamkit_kit.directory == str(streamkit_url) == str(tmp_path / "streamkit")
    jobs = await streamkit_kit.create_queue("jobs")
    await jobs.send(1, delay=60)
    got = []
    streamkit_kit.start(jobs.worker(got.append))
    await streamkit_kit.drain()
    assert got == [1]


@MARK
async def test_a_kit_that_crashed_is_closed_with_the_one_that_came_of_it(streamkit_kit):
    await streamkit_kit.create_stream("s")
    with streamkit_kit.faults.full_disk(), pytest.raises(StorageError):
        await streamkit_kit.create_stream("t")
    kit = await streamkit_kit.crash()
    assert await kit.streams() == ["s"]


@MARK
async def test_fails_a_failed_service(streamkit_kit):
    streamkit_kit.start(Failing())
    await streamkit_kit.drain()


class FailingAtLast:
    name = "failing at last"

    async def run(self, stop):
        with stop.interruptible():
            await asyncio.Event().wait()
        raise ValueError("at last")


@MARK
async def test_fails_as_it_is_closed(streamkit_kit):
    streamkit_kit.start(FailingAtLast())
    await streamkit_kit.drain()


@MARK
async def test_fails_by_itself(streamkit_kit):
    streamkit_kit.start(Failing())
    await streamkit_kit.drain()
    assert 1 == 2


@MARK
async def test_a_failure_that_is_expected(streamkit_kit):
    streamkit_kit.start(Failing())
    await streamkit_kit.drain()
    with pytest.raises(ServiceFailedError, match="so it is"):
        await streamkit_kit.close()


@MARK
async def test_leaves_a_trial_open():
    await streamkit.testing.open("memory:")


@MARK
async def test_leaves_a_kit_open():
    kit = pytest.kept = await streamkit.open("memory:")
    kit.start(Failing())  # It is not for the plugin to say what that means for a program.
    while not kit.health().errors:
        await asyncio.sleep(0)


@MARK
async def test_closes_what_it_opens(tmp_path):
    async with streamkit.open(tmp_path / "data") as kit, streamkit.testing.open() as trial:
        assert await kit.streams() == await trial.streams()


class TestOnMemory:
    @pytest.fixture
    def streamkit_url(self):
        return "memory:"

    @MARK
    async def test_the_url_is_overridden(self, streamkit_kit):
        assert streamkit_kit.url == "memory:"


def test_wrong_plain(streamkit_kit):
    pass
"""
PASS = {
    "test_the_fixtures_belong_together",
    "test_a_kit_that_crashed_is_closed_with_the_one_that_came_of_it",
    "test_a_failure_that_is_expected",
    "test_closes_what_it_opens",
    "TestOnMemory::test_the_url_is_overridden",
}
LOOPS = ["-o", "asyncio_default_fixture_loop_scope=function"]
MODES = {
    "strict": ("pytest.mark.asyncio", [*LOOPS, "-o", "asyncio_mode=strict"], ""),
    "auto": ("(lambda function: function)", [*LOOPS, "-o", "asyncio_mode=auto"], ""),
    "anyio": ("pytest.mark.anyio", ["-p", "no:asyncio"], "@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"),
}


PLUGIN = ["-p", "streamkit.testing.plugin"]
LOADED = {"strict": [], "auto": PLUGIN, "anyio": PLUGIN}
"""How pytest comes to the plugin: by its entry point; by that and by name, which must not be twice; by name."""


def announce(site: Path) -> None:
    """As an installation does."""
    info = site / "streamkit-0.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: streamkit\nVersion: 0.0.0\n")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    lines = (f"{name} = {module}\n" for name, module in points.items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{''.join(lines)}")


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rA", "--tb=short", "-W", "error", "-p", "no:cacheprovider"),
            *("--rootdir", str(folder), *arguments, str(folder)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{folder / 'site'}", "PATH": "/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "200"},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_in_each_mode(mode: str, tmp_path: Path) -> None:
    mark, arguments, more = MODES[mode]
    (tmp_path / "test_users.py").write_text(TESTS.replace("MARK", mark) + more)
    if mode != "anyio":
        announce(tmp_path / "site")
    output = run(tmp_path, *arguments, *LOADED[mode])
    outcomes = {
        outcome: set(re.findall(rf"^{outcome} test_users\.py::([\w:]+)", output, re.MULTILINE))
        for outcome in ("PASSED", "FAILED", "ERROR")
    }
    left_open = {"test_leaves_a_trial_open", "test_leaves_a_kit_open"}
    assert outcomes == {
        # What a test leaves open is known once its fixtures are done with it.
        "PASSED": PASS | left_open | {"test_fails_as_it_is_closed"},
        "FAILED": {"test_fails_a_failed_service", "test_fails_by_itself"},
        "ERROR": {"test_wrong_plain", "test_fails_as_it_is_closed", *left_open},
    }, output
    assert output.count("a service failed during the test: expect it with") == 3  # In full, in the summary, beside.
    assert output.count("  failing of Kit(") == 2
    assert "ValueError: so it is" in output
    assert "assert 1 == 2" in output
    assert re.search(r"the test left kits open.*\n  Kit\('memory:'.*\), opened at .*test_users\.py:\d+", output)
    assert "streamkit_kit is for tests that are `async def`" in output


SCOPES = """
import pytest

async def used(kit):
    jobs = await kit.create_queue("jobs")
    await jobs.send(1)
    got = []
    kit.start(jobs.worker(got.append))
    await kit.drain()
    assert got == [1]

async def test_by_default(streamkit_kit):
    await used(streamkit_kit)

@pytest.mark.asyncio(loop_scope="module")
async def test_of_a_module(streamkit_kit):
    await used(streamkit_kit)

@pytest.mark.asyncio(loop_scope="function")
async def test_of_its_own(streamkit_kit):
    await used(streamkit_kit)
"""


@pytest.mark.parametrize(("fixtures", "tests"), [("session", "function"), ("function", "session")])
def test_a_kit_is_of_its_tests_event_loop_whatever_its_scope(fixtures: str, tests: str, tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(SCOPES)
    defaults = (
        "-o",
        f"asyncio_default_fixture_loop_scope={fixtures}",
        "-o",
        f"asyncio_default_test_loop_scope={tests}",
    )
    assert "3 passed" in (output := run(tmp_path, "-o", "asyncio_mode=auto", *defaults, *PLUGIN)), output


def test_it_costs_next_to_nothing_where_nobody_uses_it() -> None:
    """pytest imports it at every start. What is imported before coverage begins would not count."""
    code = "import sys, pytest, streamkit.testing.plugin; print(*sorted(n for n in sys.modules if 'streamkit' in n))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["streamkit", "streamkit.testing", "streamkit.testing.plugin"]
    assert "msgspec" not in done.stderr
    times = re.findall(r"import time: +(\d+) \| +\d+ \|\s+streamkit", done.stderr)
    assert len(times) == 3

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit.cli.reloading import _Reloading
from streamkit.kit import GRACE_SECONDS
from tests.cli.calling import DEADLINE_SECONDS, Called, Running, call, on_a_terminal, running, wait_until

PIPELINE = '''
import contextlib

import streamkit
from streamkit import EventSourceMapping, Stop, each


def note(text):
    print("note:", text, flush=True)


async def app(kit):
    """Creates things and starts them."""
    orders = await kit.create_stream("orders", exist_ok=True)
    big = await kit.create_table("big", partition_key="id", exist_ok=True, ttl="expires")
    await orders.put({"n": 1}, partition_key="a")

    @each
    async def keep(record):
        return {"id": record.sequence_number, **record.value}

    kit.start(EventSourceMapping("keep", source=orders, function=keep, sink=big))


class Works:
    """Finishes what is in hand."""

    name = "works"

    async def run(self, stop: Stop) -> None:
        note("works")
        while not stop.requested:
            with stop.interruptible():
                await streamkit.clock.SystemClock().sleep_until(10**14)
        note("finished")


class Fails:
    name = "fails"

    async def run(self, stop: Stop) -> None:
        raise OSError("the disk is on fire")


class Ends:
    name = "ends"

    async def run(self, stop: Stop) -> None:
        note("ended by itself")


@contextlib.asynccontextmanager
async def block(kit):
    kit.start(Works())
    note("entered")
    yield
    note("left")
    await kit.create_queue("left-behind", exist_ok=True)


def plain(kit):
    kit.start(Works())


async def goes_on(kit):
    kit.start(Works())
    try:
        await streamkit.clock.SystemClock().sleep_until(10**14)
    finally:
        note("cancelled")


class Stubborn:
    """Takes longer than anybody waits."""

    name = "stubborn"

    async def run(self, stop: Stop) -> None:
        while not stop.requested:
            with stop.interruptible():
                await streamkit.clock.SystemClock().sleep_until(10**14)
        note("asked")
        await streamkit.clock.SystemClock().sleep_until(10**14)


def stubborn(kit):
    kit.start(Stubborn())


async def one_fails(kit):
    kit.start(Works())
    kit.start(Fails())


async def job(kit):
    await kit.create_table("totals", partition_key="id", exist_ok=True, ttl="expires")
    kit.start(Ends())


async def raises(kit):
    kit.start(Works())
    await kit.create_queue("created", exist_ok=True)
    raise ValueError("mine")


number = 7
'''


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pipeline_for_a_test.py"
    path.write_text(PIPELINE.replace("import streamkit\n", "import streamkit\nimport streamkit.clock\n"))
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop(path.stem, None)


def run(file: Path, name: str, *arguments: object) -> Called:
    return call("run", f"{file}:{name}", "--dir", file.parent / "data", *arguments)


def notes(out: str) -> list[str]:
    return [line.removeprefix("note: ") for line in out.splitlines() if line.startswith("note: ")]


def events(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def queues(directory: Path) -> list[str]:
    async def look() -> list[str]:
        async with streamkit.open(f"{directory}?mode=ro") as kit:
            return await kit.queues()

    return asyncio.run(look())


# ---- here


def test_a_job_ends_when_all_that_it_started_has_ended(file: Path) -> None:
    done = run(file, "job")
    assert (done.code, done.err) == (0, "")
    started, ended = events(done.out)
    assert (started["event"], started["app"], started["pid"]) == ("started", f"{file}:job", os.getpid())
    assert (ended["event"], ended["exit_code"], ended["failed"]) == ("ended", 0, None)
    assert notes(done.out) == ["ended by itself"]


def test_a_service_that_fails_drains_the_others(file: Path) -> None:
    done = run(file, "one_fails", "--text")
    assert done.code == 1
    assert "streamkit: service 'fails' failed: OSError: the disk is on fire; everything else was drained" in done.err
    assert notes(done.out) == ["works", "finished"]


def test_what_the_pipeline_raises_is_shown_from_its_own_lines_on(file: Path) -> None:
    done = run(file, "raises")
    assert done.code == 1
    head, first, *_, last = done.err.splitlines()
    assert (head, last) == ("Traceback (most recent call last):", "ValueError: mine")
    assert f'File "{file}", line' in first
    assert "streamkit/cli" not in done.err
    assert notes(done.out) == ["works", "finished"]
    assert queues(file.parent / "data") == ["created"]


def test_an_error_that_quotes_data_tells_the_terminal_nothing(file: Path) -> None:
    with file.open("a") as more:
        more.write("""

async def quotes(kit):
    raise ValueError("\\x1b]0;mine\\x07")
""")
    done = run(file, "quotes")
    assert done.code == 1
    assert done.err.endswith("ValueError: \\u001b]0;mine\\u0007\n")


def test_code_that_does_not_import_is_shown_from_its_own_lines_on(file: Path) -> None:
    file.write_text("x = 1\nimport a_module_that_is_not_there\n")
    done = run(file, "app")
    assert done.code == 1
    assert f'File "{file}", line 2' in done.err.splitlines()[1]
    assert done.err.endswith("ModuleNotFoundError: No module named 'a_module_that_is_not_there'\n")
    file.write_text("def app(kit:\n")
    done = run(file, "app")
    assert done.code == 1
    assert f'File "{file}", line 1' in done.err
    assert "SyntaxError" in done.err
    assert not (file.parent / "data").exists()


def test_what_is_no_pipeline_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    for target, says in (
        (f"{file}:gone", "has no 'gone': it has Ends, EventSourceMapping"),
        (f"{file}:number", "'number' of"),
        ("gone.py", "there is no file gone.py"),
        ("gone.module:app", "there is no module 'gone.module' in"),
        (f"{file}:", "is no pipeline: give module:app or path/to/file.py:app"),
        (f"{file}:a.b", "is no pipeline"),
    ):
        done = call("run", target)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
        assert says in done.err
    assert not (file.parent / "data").exists()
    done = call("run", f"{file}:job", "--reload-dir", ".")
    assert (done.code, "add --reload" in done.err) == (2, True)


def test_a_module_of_the_working_directory_in_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    done = call("run", f"{file.stem}:job", "--dir", "memory:")
    assert (done.code, events(done.out)[0]["dir"]) == (0, "memory:")
    assert [each.name for each in file.parent.iterdir() if each.name != "__pycache__"] == [file.name]


async def test_a_directory_that_somebody_has(file: Path) -> None:
    async with streamkit.open(file.parent / "data"):
        done = await asyncio.to_thread(run, file, "job")
    assert done.code == 2
    assert "is in use by this process" in done.err


# ---- as processes


@pytest.mark.parametrize("name", ["block", "plain", "goes_on"])
def test_a_signal_drains_and_ends_with_0(file: Path, name: str) -> None:
    by = signal.SIGINT if name == "plain" else signal.SIGTERM
    with running("run", f"{file}:{name}", "--dir", file.parent / "data") as process:
        process.wait_for('"event":"started"')
        process.process.send_signal(by)
        assert process.ends_with() == 0, process.out
    noted = notes(process.out.decode())
    assert noted[-1] == "finished"
    assert set(noted) == {"works", "finished"} | {"block": {"entered", "left"}, "goes_on": {"cancelled"}}.get(
        name, set()
    )
    assert queues(file.parent / "data") == ["left-behind"] * (name == "block")


def test_a_second_signal_does_not_wait(file: Path) -> None:
    with running("run", f"{file}:stubborn", "--dir", file.parent / "data") as process:
        process.wait_for('"event":"started"')
        process.process.send_signal(signal.SIGINT)
        process.wait_for("note: asked")
        began = time.monotonic()
        process.process.send_signal(signal.SIGINT)
        assert process.ends_with() == 130
    assert time.monotonic() - began < GRACE_SECONDS, "it waited for what the first one asked"
    assert "Traceback" not in process.out.decode()


THREAD = """
import time


async def app(kit):
    queue = await kit.create_queue("jobs", exist_ok=True)
    await queue.send({})
    kit.start(queue.worker(work))


def work(job):
    print("note: blocks", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("reload", [(), ("--reload",)], ids=["", "reload"])
def test_a_second_signal_does_not_wait_for_a_thread_either(file: Path, reload: tuple[str, ...]) -> None:
    file.write_text(THREAD)
    with running("run", file.name, "--dir", "data", *reload, cwd=file.parent) as process:
        process.wait_for("note: blocks")
        began = time.monotonic()

        def asked_again() -> bool:
            process.process.send_signal(signal.SIGTERM)  # Two that come at once are one.
            return process.process.poll() is not None

        wait_until(asked_again, "its end")
        assert process.ends_with() in (130, -signal.SIGTERM)  # A third may come when Python is ending already.
    assert time.monotonic() - began < GRACE_SECONDS, "it waited for what the first one asked"
    assert "Traceback" not in process.out.decode()


def test_an_exit_of_the_pipelines_code_is_its_exit_code_when_all_is_drained(file: Path) -> None:
    with file.open("a") as more:
        more.write("""

async def exits(kit):
    plain(kit)
    await kit.create_queue("created", exist_ok=True)
    raise SystemExit(7)
""")
    done = run(file, "exits")
    assert done.code == 7
    assert notes(done.out)[-1] == "finished"
    assert "Traceback" not in done.err


def test_a_mapping_works_and_is_drained(file: Path) -> None:
    with running("run", file, "--dir", file.parent / "data", "--text") as process:
        process.wait_for("keep; Ctrl-C ends it")
        process.process.terminate()
        assert process.ends_with() == 0
    assert process.out.decode().endswith("streamkit: drained\n")
    (stream,) = call("inspect", file.parent / "data").lines[0]["streams"]
    assert stream["consumers"][0]["name"] == "mapping:keep"


# ---- and anew when a file changes

SAYS = """
class Says:
    name = "says"

    async def run(self, stop):
        print("running {version}", flush=True)
        while not stop.requested:
            with stop.interruptible():
                await clock.sleep_until(10**14)
        print("finished {version}", flush=True)


async def app(kit):
    global clock
    clock = kit.clock
    kit.start(Says())
"""


def write(file: Path, text: str) -> None:
    # In one step, as editors do: nobody sees half of it.
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def reloading(file: Path) -> Iterator[Running]:
    with running(*("run", file.name, "--dir", "data", "--reload", "--json"), cwd=file.parent) as process:
        yield process


def test_a_change_ends_it_drained_and_runs_what_is_there_now(file: Path) -> None:
    file.write_text(SAYS.format(version=1))
    for process in reloading(file):
        at = process.wait_for("running 1")
        write(file, SAYS.format(version=2))
        at = process.wait_for('"event":"reloading"', after=at)
        at = process.wait_for("finished 1", after=at)
        at = process.wait_for("running 2", after=at)
        # Code that fails waits for the next change.
        write(file, "raise ValueError('not yet')\n")
        at = process.wait_for("finished 2", after=at)
        at = process.wait_for("ValueError: not yet", after=at)
        at = process.wait_for('"event":"waiting","app":"pipeline_for_a_test.py","exit_code":1', after=at)
        write(file, SAYS.format(version=3))
        at = process.wait_for("running 3", after=at)
        process.process.terminate()
        assert process.ends_with() == 0
        assert process.out.find(b"finished 3", at) > 0


def test_ctrl_c_ends_both_once(file: Path) -> None:
    file.write_text(SAYS.format(version=1))
    with on_a_terminal("run", file, "--dir", "memory:", "--reload", "--reload-dir", file.parent) as (process, screen):
        screen.wait_for("running 1")
        screen.press(b"\x03")
        screen.wait_for("finished 1")
        screen.wait_for("streamkit: drained")
        assert process.wait(DEADLINE_SECONDS) == 0


class Process:
    """Notes what is done to it, and takes its time to end."""

    stdin = None
    code = 0

    def __init__(self, done: list[str], *, stubborn: bool = False) -> None:
        self._done = done
        self._stubborn = stubborn
        done.append("started")

    def poll(self) -> int | None:
        return None

    def terminate(self) -> None:
        self._done.append("terminated")

    def kill(self) -> None:
        self._done.append("killed")
        self._stubborn = False

    def wait(self, timeout: float | None = None) -> int:
        if self._stubborn:
            assert timeout is not None
            raise subprocess.TimeoutExpired("run", timeout)
        self._done.append("ended")
        return self.code


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_next_one_starts_when_the_one_before_has_ended(monkeypatch: pytest.MonkeyPatch, stubborn: bool) -> None:
    done: list[str] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Process(done, stubborn=stubborn))
    options = Namespace(target="p.py", dir="data", durability="fsync", log_level="info", output="json")
    assert _Reloading(options).follow(iter([set(), {(1, "p.py")}, set()])) == 0
    ends = ["terminated", "killed", "ended"] if stubborn else ["terminated", "ended"]
    assert done == ["started", *ends, "started", *ends]


@pytest.mark.parametrize(("code", "said"), [(-signal.SIGTERM, 0), (-signal.SIGKILL, 137), (1, 1)])
def test_one_that_was_ended_before_it_began_is_fine(monkeypatch: pytest.MonkeyPatch, code: int, said: int) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Process([]))
    monkeypatch.setattr(Process, "code", code)
    options = Namespace(target="p.py", dir="data", durability="fsync", log_level="info", output="json")
    assert _Reloading(options).follow(iter([set()])) == said


def test_what_is_reloaded_ends_with_who_reloads_it(file: Path) -> None:
    file.write_text(SAYS.format(version=1))
    for process in reloading(file):
        at = process.wait_for("running 1")
        process.process.kill()
        process.wait_for("finished 1", after=at)


def test_reload_names_its_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = run(file, "job", "--reload")
    assert done.code == 2
    assert "pip install 'streamkit[cli]'" in done.err


def test_a_directory_to_watch_that_is_not_there(file: Path) -> None:
    done = run(file, "job", "--reload", "--reload-dir", file.parent / "gone")
    assert done.code == 2
    assert "there is no directory" in done.err

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.lock import DirectoryLock
from streamkit.errors import DirectoryInUseError, StorageError
from streamkit.limits import Limits
from streamkit.queues.store import SendEntry
from streamkit.testing.clock import ManualClock

HOLDER = """
import asyncio, sys, streamkit
async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        await kit.create_stream("orders", exist_ok=True)
        print("open", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""

FORKER = """
import asyncio, os, sys, streamkit
async def main():
    kit = await streamkit.open(sys.argv[1])
    stream = await kit.create_stream("orders")
    if os.fork() == 0:
        try:
            await stream.put(1, partition_key="a")
        except streamkit.errors.DirectoryInUseError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
    await stream.put(2, partition_key="a")
    await kit.close()
asyncio.run(main())
"""


def start(script: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def holder(directory: Path) -> subprocess.Popen[str]:
    process = start(HOLDER, directory)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


async def test_one_process_owns_a_directory(tmp_path: Path) -> None:
    with holder(tmp_path / "data") as process:
        with pytest.raises(DirectoryInUseError, match=f"is in use by process {process.pid}") as refused:
            await streamkit.open(tmp_path / "data")
        assert str(process.pid) in refused.value.holder
        process.kill()
    # The system drops the lock of a process that died.
    async with streamkit.open(tmp_path / "data") as kit:
        assert await kit.streams() == ["orders"]


async def test_a_second_event_loop_is_refused(tmp_path: Path) -> None:
    refused: list[BaseException] = []

    async def open_again() -> None:
        try:
            await streamkit.open(tmp_path / "data")
        except DirectoryInUseError as error:
            refused.append(error)

    async with streamkit.open(tmp_path / "data"):
        thread = threading.Thread(target=lambda: asyncio.run(open_again()))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert len(refused) == 1
    assert "this process" in str(refused[0])


def test_a_forked_child_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKER, str(tmp_path / "data")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "of which this one is a forked child" in done.stdout


LIVING_CHILD = """
import asyncio, os, signal, sys, streamkit
def say(text):
    os.write(1, f"{text}\\n".encode())  # One write: both processes have the pipe.
async def main():
    kit = await streamkit.open(sys.argv[1])
    await kit.create_stream("orders")
    if os.fork() == 0:
        # Such are the workers of multiprocessing: they run no other program, and inherit every descriptor.
        for call in (kit.engine.settle(), kit.engine.aclose()):
            try:
                call.send(None)
            except streamkit.errors.DirectoryInUseError as error:
                say("refused")
        say(f"child {os.getpid()}")
        signal.pause()
    say("forked")
    sys.stdin.readline()
    await kit.close()
    say("closed")
    sys.stdin.readline()
asyncio.run(main())
"""


@pytest.mark.parametrize("ending", ["close", "die"])
async def test_a_forked_child_that_lives_on_holds_nothing(ending: str, tmp_path: Path) -> None:
    """Neither once its parent closed the directory, nor when the parent died and left it behind."""
    child = 0
    with start(LIVING_CHILD, tmp_path / "data") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            lines = Counter(process.stdout.readline().rstrip() for _ in range(4))
            child = next(int(line.removeprefix("child ")) for line in lines if line.startswith("child "))
            assert lines == {"refused": 2, f"child {child}": 1, "forked": 1}
            with pytest.raises(DirectoryInUseError, match=f"process {process.pid}"):
                await streamkit.open(tmp_path / "data")
            if ending == "die":
                process.kill()
                process.wait()
            else:
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "closed\n"
            async with streamkit.open(tmp_path / "data") as kit:
                assert await kit.streams() == ["orders"]
            os.kill(child, 0)  # It is still there.
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
            process.kill()


async def test_another_event_loop_of_the_owner_is_refused(tmp_path: Path) -> None:
    """Also with the very engine in its hands."""
    async with streamkit.open(tmp_path / "data") as kit:
        await kit.create_stream("orders")

        def put() -> None:
            asyncio.run(kit.engine.streams.create_stream("other", 1))

        with pytest.raises(DirectoryInUseError, match="another event loop of this process"):
            await asyncio.to_thread(put)
        assert await kit.streams() == ["orders"]

        queue, queues = await kit.create_queue("jobs", type=bytes), kit.engine.queues
        await kit.create_queue("others", type=bytes)
        await queue.send(b"1")
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: queues.receive_messages("jobs", 1),
            lambda: queues.delete_messages("jobs", ["none"]),
            lambda: queues.purge_queue("jobs"),
            lambda: queues.peek_messages("jobs", 1),
            lambda: queues.describe_queues(["jobs"]),
            lambda: queues.move_messages("jobs", ["none"], "others"),
        ]
        for call in calls:
            # What the owner has begun meanwhile is the owner's to do.
            sending = asyncio.ensure_future(queues.send_messages("jobs", [SendEntry(b"2")]))
            await asyncio.sleep(0)
            assert _is_refused(call)
            assert (await sending)[0].error is None
        assert (await queue.describe()).visible == 1 + len(calls)
        # Who only looks on is refused also while there is nothing to do before.
        for look in calls[-3:]:
            assert _is_refused(look)


def _is_refused(call: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Whether another thread with an event loop of its own is told that this is not its engine."""
    refusals: list[str] = []

    def run() -> None:
        try:
            asyncio.run(call())
        except DirectoryInUseError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(5)
    return ["another event loop of this process" in refusal for refusal in refusals] == [True]


def test_a_lock_file_that_cannot_be_written_still_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it is a courtesy, for which a full disk has no room."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = DirectoryLock(str(tmp_path))
    with pytest.raises(DirectoryInUseError, match="in use by another process"):
        DirectoryLock(str(tmp_path))
    lock.release()
    lock.release()
    DirectoryLock(str(tmp_path)).release()


def test_a_file_system_without_locks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that somebody else has the directory."""

    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks available"):
        DirectoryLock(str(tmp_path))


async def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "streamkit.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot be opened"):
        await FileEngine.open(tmp_path / "data", clock=ManualClock(), limits=Limits.relaxed())
    assert not (tmp_path / "elsewhere").exists()

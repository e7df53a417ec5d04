from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import streamkit
from streamkit.errors import DirectoryInUseError

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


def holder(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
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

"""Two promises of the file engine that have no room of their own; the others bear their names next door."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import streamkit
from streamkit.engines.file import segment
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.files import DiskFiles
from streamkit.errors import DiskFullError
from streamkit.limits import Limits
from streamkit.streams.store import PutEntry
from streamkit.testing.clock import ManualClock


class Filling(DiskFiles):
    """A disk that has no room for new journal segments while it is full."""

    full = False

    def open(self, path: str, *, create: bool = False) -> int:
        if self.full and create and path.endswith(".log.new"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return super().open(path, create=create)


async def test_full_disk_refuses_keeps_reading_recovers(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Filling()
    monkeypatch.setattr(segment, "_RETRY_SECONDS", 0)
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed(), files=disk)
    await engine.streams.create_stream("orders", 1)
    disk.full = True
    stored = 0

    async def put() -> None:
        nonlocal stored
        await engine.streams.put_records("orders", [PutEntry("key", b"%d" % stored + bytes(500))])
        stored += 1

    async def read() -> int:
        shard = (await engine.streams.describe_stream("orders")).shards[0]
        token = await engine.streams.get_shard_iterator("orders", shard.shard_id, "TRIM_HORIZON")
        return len((await engine.streams.get_records(token, 1000)).records)

    async def put_until_refused() -> None:
        while True:
            await put()

    with pytest.raises(DiskFullError, match=r"no space left .*: nothing was acknowledged; free some space"):
        await put_until_refused()
    assert stored > 5
    with pytest.raises(DiskFullError):
        await put()
    assert await read() == stored

    disk.full = False
    for _ in range(1000):  # A refused call asks for room again, and it is made in the background.
        try:
            await put()
            break
        except DiskFullError:
            await clock.advance(0)
    before = stored
    for _ in range(50):
        await put()
    assert stored == before + 50
    assert await read() == stored
    await engine.aclose()
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.relaxed())
    assert await read() == stored
    await engine.aclose()


VICTIM = """
import asyncio, os, signal, sys, streamkit
async def die(value):
    os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        await kit.queue("jobs").work(die)
asyncio.run(main())
"""


def victim(directory: Path) -> int:
    return subprocess.run([sys.executable, "-c", VICTIM, str(directory)], timeout=60, check=False).returncode


async def test_message_that_kills_its_worker_still_counts_a_receive(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data") as kit:
        await kit.create_queue("dead")
        policy = streamkit.RedrivePolicy(dead_letter_queue="dead", max_receive_count=2)
        queue = await kit.create_queue("jobs", visibility_timeout=0.01, redrive_policy=policy)
        await queue.send("poison")
    for _ in range(2):
        assert await asyncio.to_thread(victim, tmp_path / "data") == -signal.SIGKILL
    async with streamkit.open(tmp_path / "data") as kit:
        assert await kit.queue("jobs").receive(wait=20) == []
        (letter,) = await kit.queue("dead").peek()
        assert (letter.value, letter.receive_count, letter.dead_letter_source) == ("poison", 2, "jobs")

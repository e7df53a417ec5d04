"""A message that kills the process of whoever handles it, again and again, ends as a dead letter, and once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import streamkit
from streamkit.testing.clock import ManualClock

NOW_MS = 1_700_000_000_000
TIMEOUT_MS = 30_000
TRIES = 3

WORKER = """
import asyncio, os, sys, streamkit
from streamkit.testing.clock import ManualClock

async def handle(value):
    if value == "poison":
        os._exit(7)
    print(value, flush=True)

async def main():
    async with streamkit.open(sys.argv[1], clock=ManualClock(int(sys.argv[2]))) as kit:
        working = asyncio.create_task(kit.queue("jobs").work(handle))
        letters = asyncio.create_task(kit.queue("dead").receive(visibility_timeout=0, wait=20))
        await asyncio.wait([working, letters], return_when=asyncio.FIRST_COMPLETED)
        while (await kit.queue("jobs").describe()).visible:
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.wait([working])

asyncio.run(main())
"""


def work(directory: Path, now_ms: int) -> tuple[int, list[str]]:
    """How a worker's process ended that began at an instant, and what it had handled."""
    command = [sys.executable, "-c", WORKER, str(directory), str(now_ms)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout.split()


async def test_a_message_that_kills_every_worker_s_process_is_a_dead_letter_once(tmp_path: Path) -> None:
    """After as many tries as it may have; the others are handled, however often a process dies among them."""
    path, others = tmp_path / "data", [f"job-{number}" for number in range(9)]
    async with streamkit.open(path, clock=ManualClock(NOW_MS)) as kit:
        await kit.create_queue("dead")
        policy = streamkit.RedrivePolicy(dead_letter_queue="dead", max_receive_count=TRIES)
        jobs = await kit.create_queue("jobs", visibility_timeout=TIMEOUT_MS / 1000, redrive_policy=policy)
        await jobs.send_batch([*others[:4], "poison", *others[4:]])
    handled: list[str] = []
    for life in range(TRIES + 1):
        code, values = await asyncio.to_thread(work, path, NOW_MS + life * TIMEOUT_MS)
        assert code == (7 if life < TRIES else 0)
        handled += values
    assert set(handled) == set(others)
    async with streamkit.open(path, clock=ManualClock(NOW_MS + 10 * TIMEOUT_MS)) as kit:
        left = await kit.queue("jobs").describe()
        assert left.visible + left.not_visible == 0
        (letter,) = await kit.queue("dead").peek(100)
        assert (letter.value, letter.dead_letter_source) == ("poison", "jobs")
        assert letter.receive_count == TRIES + 1, "the last one saw it as a dead letter"

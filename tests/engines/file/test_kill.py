"""``kill -9`` at random instants: what was acknowledged is there, in order, once; nothing else appears."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import streamkit

WRITER = """
import asyncio, sys, streamkit
from streamkit import attribute

async def main():
    async with streamkit.open(sys.argv[1]) as kit:
        orders = await kit.create_stream("orders", shards=4, exist_ok=True)
        jobs = await kit.create_queue("jobs", visibility_timeout=3600, exist_ok=True)
        table = await kit.create_table("totals", partition_key="id", exist_ok=True)
        run = int(sys.argv[2])

        async def produce(task):
            for n in range(1_000_000):
                await orders.put([run, task, n], partition_key=f"key-{task}")
                print("put", run, task, n, flush=True)

        async def work():
            for n in range(1_000_000):
                await jobs.send(f"{run}-{n}")
                print("sent", f"{run}-{n}", flush=True)
                (message,) = await jobs.receive()
                if n % 3 == 0:
                    print("deleting", message.value, flush=True)
                    await jobs.delete(message)
                    print("deleted", message.value, flush=True)

        async def count():
            item = await table.get("total")
            start = item["count"] if item else 0
            for n in range(start, 1_000_000):
                condition = attribute("count") == n if n else attribute("id").absent()
                await table.update("total", add={"count": 1}, condition=condition)
                print("counted", n + 1, flush=True)

        await asyncio.gather(*(produce(task) for task in range(4)), work(), count())

asyncio.run(main())
"""


def killed(directory: Path, run: int, lines: int) -> list[list[str]]:
    """What a writer said until it was killed, a while after it had said that many lines."""
    command = [sys.executable, "-c", WRITER, str(directory), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    # The last line may be cut short, which is as good as never said.
    return [line.split() for line in said if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(3))
async def test_acknowledged_survives_kill_9(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    said = [words for run in range(3) for words in killed(tmp_path / "data", run, chance.randint(30, 500))]
    puts = {(int(run), int(task), int(n)) for what, run, task, n in (w for w in said if w[0] == "put")}
    sent = {words[1] for words in said if words[0] == "sent"}
    deleting = {words[1] for words in said if words[0] == "deleting"}
    deleted = {words[1] for words in said if words[0] == "deleted"}
    counted = max((int(words[1]) for words in said if words[0] == "counted"), default=0)

    async with streamkit.open(tmp_path / "data") as kit:
        found: list[tuple[int, int, int]] = []
        last: dict[str, tuple[int, int]] = {}
        async for record in kit.stream("orders").records():
            run, task, n = record.value
            # In order and once: within a key, runs follow each other and numbers go up by one.
            assert (run, n) > last.get(record.partition_key, (-1, -1))
            if last.get(record.partition_key, (-1, 0))[0] == run:
                assert n == last[record.partition_key][1] + 1
            last[record.partition_key] = (run, n)
            found.append((run, task, n))
        assert len(found) == len(set(found))
        assert puts <= set(found)
        # Each of four tasks had at most one put under way when each of three runs was killed.
        assert len(set(found) - puts) <= 4 * 3

        (queue,) = await kit.engine.queues.describe_queues(["jobs"])
        left = queue.visible + queue.not_visible
        assert len(sent - deleting) <= left <= len(sent - deleted) + 3
        item = await kit.table("totals").get("total")
        total = item["count"] if item else 0
        assert counted <= total <= counted + 1

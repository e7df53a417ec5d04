"""A reader beside an owner in another process: it works, settles, is killed, and comes again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamkit
from streamkit import Kit
from tests.engines.file.looking import footprint

HANG_SECONDS = 30

OWNER = """
import asyncio, json, sys
from streamkit import Put
from streamkit.functions.effects import Effects
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry
from streamkit.engines.file.engine import FileEngine
from streamkit.clock import SystemClock
from streamkit.kit import Kit
from streamkit.limits import Limits

async def main():
    clock = SystemClock()
    # It settles some times a second.
    engine = await FileEngine.open(sys.argv[1], clock=clock, limits=Limits.relaxed(), settle_after_bytes=50_000)
    kit = Kit(engine, clock, {})
    orders = await kit.create_stream("orders", shards=2, exist_ok=True)
    jobs = await kit.create_queue("jobs", exist_ok=True)
    pairs = await kit.create_table("pairs", partition_key="id", exist_ok=True)
    item = await pairs.get(0)
    number = item["n"] if item else 0
    print("open", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "put":
            for _ in range(int(words[1])):
                number += 1
                data = json.dumps([number, "x" * 300]).encode()
                await engine.commit(Effects(
                    writes=tuple(Put({"id": key, "n": number}, "pairs") for key in range(20)),
                    sends=(("jobs", (SendEntry(b"%d" % number),)),),
                    puts=(("orders", tuple(PutEntry(f"key-{key}", data) for key in range(4))),),
                ))
        elif words[0] == "settle":
            await engine.settle()
        elif words[0] == "close":
            await kit.close()
            print("closed", flush=True)
            return
        print("did", number, flush=True)

asyncio.run(main())
"""


class Owner:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> list[str]:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), HANG_SECONDS)).decode().split()

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def do(self, command: str) -> int:
        self.ask(command)
        return int((await self.says())[-1])

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def owner_of(directory: Path) -> AsyncIterator[Owner]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(directory), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    owner = Owner(process)
    try:
        assert await owner.says() == ["open"]
        yield owner
    finally:
        await owner.kill()


async def numbers(kit: Kit) -> dict[str, list[int]]:
    """What there is of each key, in the order in which it is read."""
    found: dict[str, list[int]] = {}
    async for record in kit.stream("orders").records():
        found.setdefault(record.partition_key, []).append(record.value[0])
    return found


async def shown(kit: Kit) -> int:
    """The number of the last commit. Everything up to it must be there, in order, once and whole."""
    for seen in (await numbers(kit)).values():
        assert seen == list(range(1, len(seen) + 1))
    (queue,) = await kit.engine.queues.describe_queues(["jobs"])
    items = [item["n"] async for item in kit.table("pairs").scan()]
    assert items == [items[0]] * 20
    # While the owner works, each of these calls may see more than the one before.
    assert len(seen) <= queue.visible <= items[0]
    return int(items[0])


async def test_a_reader_beside_an_owner_that_works_settles_dies_and_comes_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    number = 0
    async with owner_of(data) as owner:
        assert await owner.do("put 1") == 1
    async with streamkit.open(f"{data}?mode=ro") as reader:
        for _ in range(3):
            async with owner_of(data) as owner:
                for _ in range(3):
                    number = await owner.do("put 20")
                    # What was acknowledged is seen by the very next call.
                    assert await shown(reader) == number
                await owner.do("settle")
                assert await shown(reader) == number
                owner.ask("put 1000")
                last = number
                while last < number + 100:
                    now = await shown(reader)
                    assert now >= last
                    last = now
                await owner.kill()
            number = await shown(reader)
            assert number >= last
            # Who comes while there is no owner sees the same, and what the dead one left stays as it is.
            before = await asyncio.to_thread(footprint, data)
            async with streamkit.open(f"{data}?mode=ro") as other:
                assert await shown(other) == number
                assert await numbers(other) == await numbers(reader)
            assert await asyncio.to_thread(footprint, data) == before
            async with owner_of(data) as owner:
                assert await shown(reader) == number
                owner.ask("close")
                assert await owner.says() == ["closed"]
            assert await shown(reader) == number


async def test_a_reader_that_waits_is_woken_by_another_process(tmp_path: Path) -> None:
    async with owner_of(tmp_path / "data") as owner:
        await owner.do("put 1")
        async with streamkit.open(f"file:{tmp_path}/data?mode=ro") as reader:
            description = await reader.stream("orders").describe()
            streams = reader.engine.streams
            for _ in range(5):
                iterators = [
                    await streams.get_shard_iterator("orders", shard.shard_id, "LATEST") for shard in description.shards
                ]
                waiting = [asyncio.create_task(streams.get_records(each, 100, 60_000)) for each in iterators]
                await asyncio.sleep(0)
                await owner.do("put 1")
                await asyncio.wait(waiting, timeout=HANG_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                done = [task.result() for task in waiting if task.done()]
                assert any(batch.records for batch in done)
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting)


async def test_a_reader_leaves_no_trace_beside_a_living_owner(tmp_path: Path) -> None:
    async with owner_of(tmp_path / "data") as owner:
        number = await owner.do("put 30")
        await owner.do("settle")
        await owner.do("put 3")
        before = await asyncio.to_thread(footprint, tmp_path / "data")
        descriptors = len(await asyncio.to_thread(os.listdir, "/proc/self/fd"))
        for _ in range(3):
            async with streamkit.open(f"{tmp_path}/data?mode=ro") as reader:
                assert await shown(reader) == number + 3
        assert await asyncio.to_thread(footprint, tmp_path / "data") == before
        assert len(await asyncio.to_thread(os.listdir, "/proc/self/fd")) == descriptors
        # And it does not stand in the way of its end, nor of what it does to its files then.
        async with streamkit.open(f"{tmp_path}/data?mode=ro") as reader:
            assert await shown(reader) == number + 3
            owner.ask("close")
            assert await owner.says() == ["closed"]
            await owner.process.wait()
            # One of the owner's own tables, of metrics, may be there as well, but no log beside any of them.
            names = await asyncio.to_thread(os.listdir, tmp_path / "data" / "tables")
            assert "3.sqlite" in names
            assert [name for name in names if not name.endswith(".sqlite")] == []
            assert await shown(reader) == number + 3

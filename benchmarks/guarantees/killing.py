"""Lanes whose process is killed again and again: everything that was promised holds for what is there afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec

from benchmarks.figures import Checked
from benchmarks.guarantees.child import TIMEOUT, Place
from benchmarks.guarantees.counters import TABLE, compared, mapping
from benchmarks.guarantees.diary import events
from benchmarks.guarantees.findings import Findings
from benchmarks.guarantees.jobs import now_ms, quiet, receive, start_workers
from benchmarks.guarantees.queues import drained
from benchmarks.guarantees.scenes import everything, finish, together
from benchmarks.guarantees.streams import seed
from benchmarks.guarantees.watching import GroupWatch, QueueWatch, StreamWatch
from benchmarks.measure import Setting, verify
from benchmarks.queue import left
from benchmarks.store import open_store
from benchmarks.stream import NAME

KILLS = 5
_LINE_SECONDS = 60.0
"""For a child to say something; many times what it takes."""


class Victims:
    """Processes of one scene, each of which goes on in the store where the one before was killed.

    The next one is started while one lives, so that it has imported everything when its turn comes.
    """

    def __init__(self, setting: Setting, scene: str, rng: Random) -> None:
        self._setting = setting
        self._scene = scene
        self._rng = rng
        self._diary = setting.directory / "diary"
        self._said = setting.directory / "stderr"
        self._offset = 0
        self._next: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Victims:
        self._next = await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._next is not None:
            await _kill(self._next)

    async def live(self, place: Place, *, last: bool) -> list[list[Any]]:
        """Have one go on from there, kill it at a moment that is drawn, and return what it told before.

        Raises:
            WrongResultError: it ended by itself.
        """
        # Of those after the first some die while they open the store, which is then half repaired.
        early = place.life > 0 and self._rng.random() < 0.25
        seconds = self._rng.uniform(0, 0.05) if early else self._rng.uniform(0.02, 0.1 if self._setting.small else 0.6)
        process, self._next = self._next, None
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(place) + b"\n")
            if not last:
                self._next = await self._start()
            async with asyncio.timeout(_LINE_SECONDS):
                for _ in range(1 if early else 2):
                    await process.stdout.readline()
            await asyncio.sleep(seconds)
        finally:
            ended = await _kill(process)
        words = self._said.read_text(errors="replace").strip()[-2000:]
        verify(ended == -signal.SIGKILL, f"the process that was to be killed ended by itself with {ended}: {words}")
        return self._told()

    async def _start(self) -> asyncio.subprocess.Process:
        with self._said.open("ab") as said:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "benchmarks.guarantees.child", self._scene),
                *(str(self._setting.directory / "data"), str(self._diary), self._setting.durability),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
            )

    def _told(self) -> list[list[Any]]:
        if not self._diary.exists():
            return []
        told = []
        for event, offset in events(self._diary, self._offset):
            told.append(event)
            self._offset = offset
        # The next one writes behind what is whole.
        os.truncate(self._diary, self._offset)
        return told


async def _kill(process: asyncio.subprocess.Process) -> int:
    """How it ended, by this or before."""
    if process.returncode is None:
        process.kill()
    return await process.wait()


def kills(setting: Setting) -> int:
    """How often in a round."""
    return setting.sized(KILLS, 2)


async def streams(setting: Setting) -> Mapping[str, Checked]:
    """Puts, checkpoints, lease steals, reshards and a mapping's commits, cut short at any moment."""
    drawn = seed()
    rng = Random(drawn)
    watch, counters = StreamWatch(drawn, "kill -9, shards taken by force", "reshards"), Findings()
    async with Victims(setting, "streams", rng) as victims:
        for life in range(kills(setting)):
            told = await victims.live(Place(life, drawn), last=life == kills(setting) - 1)
            for _, word, *words in told:
                watch.tell(word, *words)
    async with open_store(setting) as kit:
        stream = kit.stream(NAME, type=bytes)
        service = kit.start(mapping(stream, kit.table(TABLE)))
        await finish(stream, watch.tell)
        await service.wait_caught_up()
        shards, there = await everything(stream)
        watch.end(shards, there)
        await compared(counters, kit.table(TABLE), there)
    return {**watch.rows(), "counters": counters.checked("exactly-once counters", "kill -9", drawn)}


async def queues(setting: Setting) -> Mapping[str, Checked]:
    """Sends, receives and deletes of a FIFO queue and of a standard one, cut short at any moment."""
    drawn = seed()
    rng = Random(drawn)
    groups, single = GroupWatch(drawn, "kill -9", TIMEOUT), QueueWatch(drawn, "kill -9")
    tells: dict[str, Callable[..., None]] = {"fifo": groups.tell, "queue": single.tell}
    async with Victims(setting, "queues", rng) as victims:
        for life in range(kills(setting)):
            place = Place(life, drawn, groups.following, single.following)
            for whose, word, *words in await victims.live(place, last=life == kills(setting) - 1):
                tells[whose](word, *words)
    async with open_store(setting) as kit:
        fifo, queue = kit.queue("jobs.fifo", type=int), kit.queue("jobs", type=int)
        empty, last_ms = False, now_ms()

        async def watched() -> None:
            nonlocal empty
            while not empty:
                await asyncio.sleep(0.02)
                empty = await left(queue) == 0 or now_ms() - last_ms > 20_000

        with quiet():
            handled = start_workers(kit, fifo, groups.tell, rng, 0.02, batches=True)
            await together(
                drained(fifo, handled),
                watched(),
                *(receive(queue, single.tell, Random(at), 0, timeout=TIMEOUT, done=lambda: empty) for at in range(8)),
            )
    async with open_store(setting) as kit:
        groups.order.end(await left(kit.queue("jobs.fifo")))
        single.visibility.end(await left(kit.queue("jobs")))
    return {**groups.rows(), **single.rows()}

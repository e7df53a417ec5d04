"""A mapping from a queue, cancelled wherever it waits: nothing lost, nothing doubled, nothing kept hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit, Message, Send, Stop, Update, each
from streamkit.functions.queue_poller import QueuePoller
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import ports

TIMEOUT = 30
MESSAGES = 6


@pytest.fixture(params=["memory", "file"])
async def kit(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Kit]:
    url = "memory:" if request.param == "memory" else str(tmp_path / "data")
    async with streamkit.open(url, clock=clock) as kit:
        await kit.create_table("totals", partition_key="key")
        await kit.create_queue("jobs", visibility_timeout=TIMEOUT)
        await kit.create_queue("jobs.fifo", visibility_timeout=TIMEOUT, fifo=True)
        await kit.create_queue("rest")
        yield kit


class Sweep:
    """Rounds of the same messages, each round with numbers of its own."""

    def __init__(self, kit: Kit, clock: ManualClock, source: str) -> None:
        self.kit = kit
        self.clock = clock
        self.queue = kit.queue(source)
        self.fifo = source.endswith(".fifo")
        self.round = 0
        self.done = 0
        """Of this round."""

    async def fill(self) -> None:
        self.round += 1
        self.done = 0
        for at in range(MESSAGES):
            group = f"g{at % 2}" if self.fifo else None
            send = Send(
                value={"key": f"{self.round}-{at}", "kept": at != 4},
                group_id=group,
                deduplication_id=f"{self.round}-{at}" if self.fifo else None,
            )
            await self.queue.send_batch([send])

    def poller(self, stop: Stop) -> QueuePoller:
        @each
        async def count(message: Message[Any]) -> Update | None:
            await asyncio.sleep(0)
            at = int(message.value["key"].split("-")[1])
            if at == 3 and message.receive_count == 1 and not self.fifo:
                raise ConnectionError("try again")
            self.done += 1
            if self.done >= 3:
                stop.request()
            return Update(key={"key": message.value["key"]}, add={"count": 1})

        mapping = EventSourceMapping(
            "sweep",
            source=self.queue,
            function=count,
            sink=self.kit.table("totals"),
            batch_size=2,
            filters=[{"body": {"kept": [True]}}],
            on_filtered=self.kit.queue("rest"),
        )
        return QueuePoller(mapping, ports(self.kit))

    async def work(self) -> None:
        """Until a few of them are done, and a stop that a function asked for."""
        stop = Stop()
        await self.poller(stop).run(stop)

    async def check(self) -> None:
        """Each message is in one place. The one that failed is hidden for its timeout at most, and no other is."""
        counted = {
            item["key"]: item["count"]
            async for item in self.kit.table("totals").scan()
            if item["key"].startswith(f"{self.round}-")
        }
        assert set(counted.values()) <= {1}, "twice"
        handed_on = await self.kit.queue("rest").receive(10)
        assert len(handed_on) <= 1, "handed on twice"
        described = await self.queue.describe()
        left = described.visible + described.not_visible
        assert left + len(counted) + len(handed_on) == MESSAGES, "lost"
        assert described.not_visible <= (0 if self.fifo else 1), "hidden, and nobody has it"
        await self.clock.advance(TIMEOUT + 0.001)
        described = await self.queue.describe()
        assert (described.visible, described.not_visible) == (left, 0), "hidden for longer than its timeout"
        rest = [message.value["key"] for message in await self.queue.receive(MESSAGES)]
        found = [*counted, *(message.value["key"] for message in handed_on), *rest]
        assert sorted(found) == [f"{self.round}-{at}" for at in range(MESSAGES)]
        await self.queue.purge()
        await self.kit.queue("rest").purge()
        await self.fill()


@pytest.mark.parametrize("source", ["jobs", "jobs.fifo"])
async def test_cancelled_at_every_await_of_the_poller(kit: Kit, clock: ManualClock, source: str) -> None:
    sweep = Sweep(kit, clock, source)
    await sweep.fill()
    assert await cancel_at_every_step(sweep.work, sweep.check) >= 2


@pytest.mark.parametrize("source", ["jobs", "jobs.fifo"])
async def test_cancelled_at_every_turn_of_the_loop(kit: Kit, clock: ManualClock, source: str) -> None:
    """So at every await of the tasks that it starts for batches and their extensions, too."""
    sweep = Sweep(kit, clock, source)
    await sweep.fill()
    turn = 0
    while True:
        task = asyncio.create_task(sweep.work())
        for _ in range(turn):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        await sweep.check()
        if finished:
            break
        turn += 1
    assert turn > 5

"""Workers that are stopped, cancelled and started again while handlers fail: nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import Any

import pytest

import streamkit
from streamkit import Message, Queue, RedrivePolicy
from streamkit.backoff import Retry
from streamkit.queues.queue import Send
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock
from tests.queues.working import turns

COUNT = 40
GROUPS = "abc"


class Work:
    """Handlers that fail, wait and answer as a random generator says, and what they did."""

    def __init__(self, random: Random, clock: ManualClock) -> None:
        self.random = random
        self.clock = clock
        self.done: list[int] = []
        self.running: set[int] = set()
        self.calm = False

    async def one(self, message: Message[int]) -> None:
        async with self._alone([message]):
            await self._pause()
            if self._fails():
                raise ValueError(message.value)
            self.done.append(message.value)

    async def several(self, messages: list[Message[int]]) -> dict[Message[int], Exception]:
        async with self._alone(messages):
            await self._pause()
            if self._fails():
                raise ValueError("all of them")
            failed: dict[Message[int], Exception] = {}
            groups: set[str | None] = set()
            for message in messages:
                # Who handles in order goes no further with a group once one of it has failed.
                if message.group_id in groups:
                    continue
                if self._fails():
                    failed[message] = ValueError(message.value)
                    if message.group_id is not None:
                        groups.add(message.group_id)
                else:
                    self.done.append(message.value)
            return failed

    @contextlib.asynccontextmanager
    async def _alone(self, messages: list[Message[int]]) -> Any:
        """No message is in two hands, and of a group that is in order only those of one call."""
        values = {message.value for message in messages}
        assert not values & self.running, "a message is handled twice at a time"
        self.running |= values
        try:
            yield
        finally:
            self.running -= values

    async def _pause(self) -> None:
        if self.random.random() < 0.5:
            # Longer than the visibility timeout, too.
            await self.clock.sleep_until(self.clock.now_ms() + self.random.choice([0, 500, 20_000, 70_000]))

    def _fails(self) -> bool:
        return not self.calm and self.random.random() < 0.3


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batches"])
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
@pytest.mark.parametrize("seed", range(15))
async def test_each_message_is_done_once_or_is_a_dead_letter(seed: int, fifo: bool, batch: bool) -> None:
    random = Random(f"{seed} {fifo} {batch}")
    clock = ManualClock(1_700_000_000_000)
    suffix = ".fifo" if fifo else ""
    async with streamkit.open("memory:", clock=clock) as kit:
        dead = await kit.create_queue(f"dead{suffix}", type=int, fifo=fifo)
        policy = RedrivePolicy(dead_letter_queue=dead.name, max_receive_count=4)
        jobs = await kit.create_queue(
            f"jobs{suffix}", type=int, fifo=fifo, visibility_timeout=30, redrive_policy=policy
        )
        work = Work(random, clock)

        async def send(values: range) -> None:
            for value in values:
                group, key = (GROUPS[value % 3], f"{value}") if fifo else (None, None)
                (result,) = await jobs.send_batch([Send(value=value, group_id=group, deduplication_id=key)])
                assert result.error is None

        await send(range(COUNT // 2))
        for _ in range(5):
            await live(jobs, work, random, clock, batch=batch)
        await send(range(COUNT // 2, COUNT))
        for _ in range(5):
            await live(jobs, work, random, clock, batch=batch)
        assert work.running == set()
        # What is left is handled without failures.
        work.calm = True
        worker = make(jobs, work, random, batch=batch)
        stop = Stop()
        running = asyncio.create_task(worker.run(stop))
        for _ in range(400):
            await clock.advance(1)
        stop.request()
        await running
        assert await left(jobs) == 0
        letters = [message.value for message in await dead.peek(COUNT)]
        assert sorted([*work.done, *letters]) == list(range(COUNT))
        if fifo:
            for number in range(3):
                group = [value for value in work.done if value % 3 == number]
                assert group == sorted(group)
                assert [value for value in letters if value % 3 == number] == sorted(
                    value for value in letters if value % 3 == number
                )


async def left(jobs: Queue[int]) -> int:
    """How many messages there are, of which none may stay hidden for longer than its timeout."""
    seen = await jobs.describe()
    return seen.visible + seen.not_visible + seen.delayed


def make(jobs: Queue[int], work: Work, random: Random, *, batch: bool) -> Any:
    retry = Retry(first=1, longest=10)
    concurrency, grace = random.choice([1, 2, 5]), random.choice([None, 0.0, 5.0])
    if batch:
        return jobs.batch_worker(work.several, max_messages=4, concurrency=concurrency, retry=retry, grace=grace)
    return jobs.worker(work.one, concurrency=concurrency, retry=retry, grace=grace)


async def live(jobs: Queue[int], work: Work, random: Random, clock: ManualClock, *, batch: bool) -> None:
    """The life of one worker, which ends by a stop or a cancellation, at any turn of the loop."""
    worker = make(jobs, work, random, batch=batch)
    stop = Stop()
    task = asyncio.create_task(worker.run(stop))
    for _ in range(random.randrange(8)):
        await clock.advance(random.choice([0, 0.3, 1, 5, 40]))
        await turns(random.randrange(4))
    if random.random() < 0.5:
        stop.request()
        while not task.done():
            await clock.advance(5)
        await task
    else:
        await turns(random.randrange(6))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    # What failed is hidden for its back-off, and nothing for the 30 s of its timeout.
    await clock.advance(10)
    assert (await jobs.describe()).not_visible == 0

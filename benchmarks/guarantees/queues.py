"""Lanes of queues under load: groups in order, one receiver at a time, and nothing that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from random import Random

from benchmarks.figures import Checked
from benchmarks.guarantees.jobs import now_ms, quiet, receive, send_groups, send_numbers, start_workers
from benchmarks.guarantees.scenes import PATIENCE, together
from benchmarks.guarantees.streams import seed
from benchmarks.guarantees.watching import GroupWatch, QueueWatch
from benchmarks.measure import Setting
from benchmarks.queue import left
from benchmarks.store import open_store
from streamkit import Queue

SENDERS = 8
RECEIVERS = 16
_FAILS = 0.05
_TIMEOUT = 60.0


async def drained(queue: Queue[int], moved: Callable[[], int]) -> None:
    """Until the queue is empty, or nothing moves any more."""
    before, at_ms = moved(), now_ms()
    while await left(queue) and now_ms() - at_ms < PATIENCE * 1000:
        await asyncio.sleep(0.01)
        if moved() != before:
            before, at_ms = moved(), now_ms()


async def groups(setting: Setting) -> Mapping[str, Checked]:
    """A FIFO queue whose many groups are sent to and worked on at once; some calls of the handler fail."""
    drawn = seed()
    watch = GroupWatch(drawn, f"load: {SENDERS} senders, 16 handlers", _TIMEOUT)
    names = [f"group-{at}" for at in range(setting.sized(200, 16))]
    batches = setting.sized(8, 1)
    async with open_store(setting) as kit:
        queue = await kit.create_queue("jobs.fifo", type=int, fifo=True, visibility_timeout=_TIMEOUT)
        with quiet():
            handled = start_workers(kit, queue, watch.tell, Random(drawn), _FAILS, batches=True)
            await together(
                *(send_groups(queue, watch.tell, names[at::SENDERS], {}, batches) for at in range(SENDERS)),
            )
            await drained(queue, handled)
    async with open_store(setting) as kit:
        watch.order.end(await left(kit.queue("jobs.fifo")))
    return watch.rows()


async def one_at_a_time(setting: Setting) -> Mapping[str, Checked]:
    """A standard queue with many senders, and receivers that delete what they got, or forget it."""
    drawn = seed()
    watch = QueueWatch(drawn, f"load: {SENDERS} senders, {RECEIVERS} receivers")
    batches = setting.sized(300, 4)
    total = batches * SENDERS * 10
    numbers = count()
    gone = 0
    moved_ms = now_ms()

    def tell(word: str, *words: object) -> None:
        nonlocal gone, moved_ms
        watch.tell(word, *words)
        if word == "deleted":
            gone, moved_ms = gone + len(list(words[0])), now_ms()  # type: ignore[call-overload]

    def done() -> bool:
        return gone >= total or now_ms() - moved_ms > PATIENCE * 1000

    async with open_store(setting) as kit:
        queue = await kit.create_queue("jobs", type=int)
        await together(
            *(send_numbers(queue, tell, numbers, batches) for _ in range(SENDERS)),
            *(
                receive(queue, tell, Random(f"{drawn}-{at}"), 0.05, timeout=_TIMEOUT, done=done)
                for at in range(RECEIVERS)
            ),
        )
    async with open_store(setting) as kit:
        watch.visibility.end(await left(kit.queue("jobs")))
    return watch.rows()

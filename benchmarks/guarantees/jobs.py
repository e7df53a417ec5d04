"""Senders, workers and receivers of queues: what queues must bear. It decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from logging import getLogger
from random import Random

from benchmarks.guarantees.watching import Tell
from streamkit import Kit, Message, Queue, Retry, Send

_BATCH = 10
_ABANDONED = 0.25
"""Seconds after which a message comes back that its receiver forgot."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the lines that workers log when a handler fails, as some do on purpose."""
    logger = getLogger("streamkit.queues")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def now_ms() -> float:
    """Of a clock that goes on when a process has died."""
    return time.monotonic() * 1000


# ---- FIFO


async def send_groups(
    queue: Queue[int], tell: Tell, groups: Sequence[str], following: Mapping[str, int], batches: int | None
) -> None:
    """Group after group, ten of each at a time; without ``batches`` until this is cancelled.

    A message of which nobody heard whether it was sent is sent again under the id that it had, and so is there once.
    """
    next_place = {group: following.get(group, 0) for group in groups}
    sent = 0
    while batches is None or sent < batches:
        for group in groups:
            places = range(next_place[group], next_place[group] + _BATCH)
            await queue.send_batch(
                Send(value=place, group_id=group, deduplication_id=f"{group}/{place}") for place in places
            )
            tell("sent", group, list(places))
            next_place[group] = places.stop
        sent += 1


def start_workers(
    kit: Kit, queue: Queue[int], tell: Tell, rng: Random, fails: float, *, batches: bool
) -> Callable[[], int]:
    """Two workers of eight handlers each; how many messages they have handled.

    Of the first one's calls a share fails. With ``batches`` the second takes up to ten messages a call.
    """

    def begin(group: str, message: Message[int]) -> None:
        # When it was received is told of the first time alone; of another nothing is known that it is hidden for.
        first = message.first_received if message.receive_count == 1 else None
        tell("begin", group, message.value, 0.0 if first is None else first.timestamp() * 1000, time.time() * 1000)

    async def handle(message: Message[int]) -> None:
        group = str(message.group_id)
        begin(group, message)
        await asyncio.sleep(rng.choice((0, 0, 0, 0.002)))
        if rng.random() < fails:
            tell("failed", group)
            raise RuntimeError("on purpose")
        tell("handled", group, message.value)

    async def handle_batch(messages: list[Message[int]]) -> None:
        for message in messages:
            begin(str(message.group_id), message)
            if rng.random() < 0.1:
                await asyncio.sleep(0)
            tell("handled", str(message.group_id), message.value)

    retry = Retry(first=0.005, longest=0.02)
    first = kit.start(queue.worker(handle, concurrency=8, retry=retry, name="first"))
    if batches:
        second = kit.start(queue.batch_worker(handle_batch, concurrency=8, retry=retry, name="second"))
    else:
        second = kit.start(queue.worker(handle, concurrency=8, retry=retry, name="second"))
    return lambda: first.handled + second.handled


# ---- standard


async def send_numbers(queue: Queue[int], tell: Tell, numbers: Iterator[int], batches: int | None) -> None:
    """Ten at a time; without ``batches`` until this is cancelled."""
    sent = 0
    while batches is None or sent < batches:
        places = [next(numbers) for _ in range(_BATCH)]
        tell("sends", places)
        await queue.send_batch(places)
        tell("sent", places)
        sent += 1


async def receive(
    queue: Queue[int], tell: Tell, rng: Random, forgets: float, *, timeout: float, done: Callable[[], bool]
) -> None:
    """Receive and delete until it is done; of a share of the batches all is forgotten, and comes back to somebody."""
    while not done():
        forgotten = rng.random() < forgets
        hidden = _ABANDONED if forgotten else timeout
        asked = now_ms()
        # A short wait: what is known of when a timeout began is when the receive was called.
        messages = await queue.receive(_BATCH, visibility_timeout=hidden, wait=0.02)
        if not messages:
            continue
        places = [message.value for message in messages]
        tell("received", places, asked, now_ms(), hidden * 1000)
        if forgotten:
            continue
        await asyncio.sleep(rng.choice((0, 0, 0.001)))
        tell("deleting", places)
        errors = await queue.delete_batch(messages)
        # One that is refused came to somebody else after its timeout.
        tell("deleted", [place for place, error in zip(places, errors, strict=True) if error is None])

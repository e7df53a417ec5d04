"""Processes in which messages wait: ``python -m benchmarks.backlog fill|reopen DIRECTORY COUNT ROUNDS``.

What they saw is their last line, as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import streamkit
from benchmarks.child import resident_bytes
from benchmarks.measure import WrongResultError, chunks, verify
from benchmarks.order import Once, Records
from benchmarks.queue import left
from benchmarks.stream import BATCH
from streamkit import Queue
from streamkit.engines.base import Durability
from streamkit.engines.file.engine import FileEngine

MESSAGES = Records(1024, 1)
CLIENTS = 32
EACH = 20
"""Calls of a client in one round."""
_DRAIN = 1000


class _Probe:
    """Clients that send, then receive and delete, on one queue; what came is noted."""

    def __init__(self, queue: Queue[bytes], first: int) -> None:
        self.received: list[int] = []
        self.sending = self.receiving = self.slowest = 0.0
        self.calls = 0
        self._queue = queue
        self._next = first

    async def run(self) -> None:
        self.sending += await self._all(self._send)
        self.receiving += await self._all(self._receive)
        self.calls += CLIENTS * EACH

    async def _all(self, call: Callable[[], Awaitable[None]]) -> float:
        async def one() -> None:
            for _ in range(EACH):
                before = time.perf_counter()
                await call()
                self.slowest = max(self.slowest, time.perf_counter() - before)

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(CLIENTS)))
        return time.perf_counter() - started

    async def _send(self) -> None:
        body = MESSAGES.payload(self._next)
        self._next += 1
        await self._queue.send(body)

    async def _receive(self) -> None:
        (message,) = await self._queue.receive(wait=20)
        self.received.append(int(message.body[:20]))
        await self._queue.delete(message)

    def said(self) -> dict[str, float]:
        return {
            "send": self.sending / self.calls,
            "receive and delete": self.receiving / self.calls,
            "slowest": self.slowest,
        }


async def fill(directory: str, count: int, rounds: int, durability: Durability) -> dict[str, Any]:
    """Send messages, and see what they cost: in memory, and to those who send and receive beside them."""
    async with streamkit.open(directory, durability=durability) as kit:
        assert isinstance(kit.engine, FileEngine)
        queue = await kit.create_queue("backlog", type=bytes)
        empty = _Probe(await kit.create_queue("empty", type=bytes), 0)
        await empty.run()  # What every process needs that works with queues is no message's.
        await kit.engine.settle()
        gc.collect()
        base = peak = resident_bytes()
        started = time.perf_counter()
        for chunk in chunks(count, BATCH):
            await queue.send_batch([MESSAGES.payload(place) for place in chunk])
            peak = max(peak, resident_bytes())
        seconds = time.perf_counter() - started
        await kit.engine.settle()
        gc.collect()
        waiting = resident_bytes()
        full = _Probe(queue, count)
        empty = _Probe(kit.queue("empty", type=bytes), 0)
        for at in range(rounds):
            for probe in (full, empty) if at % 2 else (empty, full):
                await probe.run()
        verify(await left(queue) == count, f"{count:,} messages were to wait, and {await left(queue):,} do")
        trimmed = _trimmed_bytes()
    Path(directory).with_name("received").write_text(json.dumps(full.received))
    return {
        "memory": waiting - base,
        "trimmed": trimmed - base,
        "peak": peak - base,
        "seconds": seconds,
        "full": full.said(),
        "empty": empty.said(),
    }


def _trimmed_bytes() -> int:
    """The memory of this process without what the C library keeps of what was given back to it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    return resident_bytes()


async def reopen(directory: str, count: int, rounds: int, durability: Durability) -> dict[str, Any]:
    """Open what ``fill`` left behind, look at the memory, and receive and delete everything that waits."""
    started = time.perf_counter()
    kit = await streamkit.open(directory, durability=durability)
    opened = time.perf_counter() - started
    async with kit:
        gc.collect()
        memory = resident_bytes()
        queue = kit.queue("backlog", type=bytes)
        verify(await left(queue) == count, f"{count:,} messages were to wait, and {await left(queue):,} do")
        received: list[int] = json.loads(Path(directory).with_name("received").read_text())
        once = Once(MESSAGES, count + len(received))
        for place in received:
            once.see(MESSAGES.payload(place))
        first = draining = 0.0
        for chunk in chunks(count, _DRAIN):
            started = time.perf_counter()
            messages = await queue.receive(len(chunk))
            first = first or time.perf_counter() - started
            verify(not any(await queue.delete_batch(messages)), "a message was not deleted")
            draining += time.perf_counter() - started
            for message in messages:
                once.see(message.body)
        once.end()
        verify(await left(queue) == 0, "a deleted message came back")
    return {"memory": memory, "opened": opened, "first": first, "draining": draining}


def main(what: str, directory: str, count: str, rounds: str, durability: Durability) -> None:
    """Run one of them; what is wrong is its last word."""
    run = {"fill": fill, "reopen": reopen}[what]
    try:
        print(json.dumps(asyncio.run(run(directory, int(count), int(rounds), durability))))
    except WrongResultError as wrong:
        sys.exit(str(wrong))


if __name__ == "__main__":
    what, directory, count, rounds, durability = sys.argv[1:]
    main(what, directory, count, rounds, durability)  # type: ignore[arg-type]  # One of the program's choices.

"""Queues: messages that are sent, received and deleted: by many clients, in batches, by one client, by a worker."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from benchmarks.measure import ON_DISK, Chart, Figure, Figures, Lane, Setting, Target, Workload, chunks, rate, verify
from benchmarks.order import Records, verify_once
from benchmarks.peers import BatchQueue, Delivery, Peer, WorkQueue, batch_queues, queues
from benchmarks.peers.lanes import NOT_STORED, Opened, lanes
from benchmarks.queue import NAME, CountingFiles, OurQueue, open_queue, verify_empty
from benchmarks.store import open_used
from benchmarks.stream import BATCH, SYNCED
from streamkit import Queue, Worker

Q = TypeVar("Q", bound=WorkQueue)
_CLIENTS = 32
_BATCH = 10
_MESSAGES = Records(1024, 1)
_ONE, _TEN = "one message a call", f"batches of {_BATCH}"
_BEFORE = 5
"""One part of so many is done before the clock starts."""


def _verify(received: Sequence[bytes], count: int) -> None:
    verify_once(_MESSAGES, received, count)


async def _of_peer(
    peer: Peer[Q], setting: Setting, measure: Callable[[Q, int], Coroutine[Any, Any, Figure]], count: int
) -> Figures:
    """What a peer does with so many messages; afterwards none of them may be left."""
    async with Opened() as opened:
        queue = await opened.first(peer, setting.directory)
        reached = await measure(queue, count)
        queue = await opened.again(peer, setting.directory, queue)
        verify(await queue.left() == 0, f"{peer.name}: a deleted message came back")
    return {peer.name: reached}


class _Limit:
    """asyncio's own queue in the words of a peer: nothing is hidden, counted or stored."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        await self._queue.put(data)

    async def receive(self, most: int) -> Sequence[Delivery]:
        return [(None, await self._queue.get())]

    async def delete(self, handles: Sequence[Any]) -> None:
        self._queue.task_done()

    async def left(self) -> int:
        return self._queue.qsize()


def _limit(measure: Callable[[WorkQueue, int], Coroutine[Any, Any, Figure]], full: int, small: int) -> Lane:
    async def run(setting: Setting) -> Figures:
        queue = _Limit()
        reached = await measure(queue, setting.sized(full, small))
        verify(await queue.left() == 0, "a message stayed in the queue of asyncio")
        return {"asyncio.Queue": reached}

    return Lane(run, NOT_STORED)


# ---- many clients


async def _cycle(queue: WorkQueue, each: int) -> Figure:
    """Clients that each send, receive and delete one message after another."""
    received: list[bytes] = []

    async def one(places: range) -> None:
        for place in places:
            await queue.send(prepared[place])
            ((handle, body),) = await queue.receive(1)
            received.append(body)
            await queue.delete([handle])

    prepared = [_MESSAGES.payload(place) for place in range(each * _CLIENTS)]
    before = each // _BEFORE
    await asyncio.gather(*(one(range(client * each, client * each + before)) for client in range(_CLIENTS)))
    gc.collect()
    started = time.perf_counter()
    await asyncio.gather(*(one(range(client * each + before, (client + 1) * each)) for client in range(_CLIENTS)))
    seconds = time.perf_counter() - started
    _verify(received, len(prepared))
    return rate((each - before) * _CLIENTS, seconds, "messages/s")


async def _our_cycle(setting: Setting) -> Figures:
    async with open_queue(setting) as queue:
        reached = await _cycle(queue, setting.sized(500, 3))
    await verify_empty(setting)
    return {"streamkit": reached}


async def _peer_cycle(peer: Peer[WorkQueue], setting: Setting) -> Figures:
    return await _of_peer(peer, setting, _cycle, setting.sized(int(200 * peer.share), 2))


# ---- batches


async def _batches(queue: BatchQueue, count: int) -> Figure:
    """One client that sends, receives and deletes ten at a time."""
    received: list[bytes] = []

    async def run(batches: Sequence[Sequence[bytes]]) -> None:
        for batch in batches:
            await queue.send_batch(batch)
            deliveries = await queue.receive(_BATCH)
            received.extend(body for _, body in deliveries)
            await queue.delete([handle for handle, _ in deliveries])

    prepared = [[_MESSAGES.payload(place) for place in chunk] for chunk in chunks(count, _BATCH)]
    before = len(prepared) // _BEFORE
    await run(prepared[:before])
    gc.collect()
    started = time.perf_counter()
    await run(prepared[before:])
    seconds = time.perf_counter() - started
    _verify(received, count)
    return rate(count - before * _BATCH, seconds, "messages/s")


async def _our_batches(setting: Setting) -> Figures:
    async with open_queue(setting) as queue:
        reached = await _batches(queue, setting.sized(10_000, 40))
    await verify_empty(setting)
    return {"streamkit": reached}


async def _peer_batches(peer: Peer[BatchQueue], setting: Setting) -> Figures:
    return await _of_peer(peer, setting, _batches, setting.sized(int(10_000 * peer.share) // _BATCH * _BATCH, 20))


# ---- one client


async def _single(queue: WorkQueue, count: int) -> Figure:
    """One client that sends, receives and deletes one message after another."""
    received: list[bytes] = []

    async def run(places: Sequence[bytes]) -> None:
        for body in places:
            await queue.send(body)
            ((handle, found),) = await queue.receive(1)
            received.append(found)
            await queue.delete([handle])

    prepared = [_MESSAGES.payload(place) for place in range(count)]
    before = count // _BEFORE
    await run(prepared[:before])
    gc.collect()
    started = time.perf_counter()
    await run(prepared[before:])
    seconds = time.perf_counter() - started
    _verify(received, count)
    return rate(count - before, seconds, "messages/s")


async def _our_single(setting: Setting) -> Figures:
    async with open_queue(setting) as queue:
        reached = await _single(queue, setting.sized(2000, 10))
    await verify_empty(setting)
    return {"streamkit": reached}


async def _peer_single(peer: Peer[WorkQueue], setting: Setting) -> Figures:
    return await _of_peer(peer, setting, _single, setting.sized(int(2000 * peer.share), 5))


async def _syncs(setting: Setting) -> Figures:
    """How often the disk syncs for each call of one client."""
    count = setting.sized(1000, 10)
    files = CountingFiles()
    during = {"send": 0, "receive": 0, "delete": 0}
    received: list[bytes] = []

    async def run(queue: OurQueue) -> None:
        for place in range(count):
            at = files.syncs
            await queue.send(_MESSAGES.payload(place))
            sent = files.syncs
            ((handle, body),) = await queue.receive(1)
            found = files.syncs
            await queue.delete([handle])
            received.append(body)
            for what, syncs in (("send", sent - at), ("receive", found - sent), ("delete", files.syncs - found)):
                during[what] += syncs

    async with open_queue(setting, files) as queue:
        await run(queue)
    _verify(received, count)
    await verify_empty(setting)
    return {f"syncs of a {what}": Figure(syncs / count, "syncs") for what, syncs in during.items()}


# ---- a worker


def _worker(name: str, start: Callable[[Queue[bytes], list[bytes]], Worker[bytes]]) -> Lane:
    """What waits in the queue, handled by a worker whose handler does nothing."""

    async def run(setting: Setting) -> Figures:
        count = setting.sized(20_000, 100)
        handled: list[bytes] = []
        async with open_used(setting) as kit:
            queue = await kit.create_queue(NAME, type=bytes)
            for chunk in chunks(count, BATCH):
                await queue.send_batch([_MESSAGES.payload(place) for place in chunk])
            worker = start(queue, handled)
            gc.collect()
            started = time.perf_counter()
            kit.start(worker)
            await worker.wait_drained()
            seconds = time.perf_counter() - started
            await kit.stop(worker)
            verify(worker.handled == count, f"{count:,} were sent, and {worker.handled:,} handled and deleted")
        _verify(handled, count)
        await verify_empty(setting)
        return {name: rate(count, seconds, "messages/s")}

    return Lane(run, SYNCED)


def _of_messages(queue: Queue[bytes], handled: list[bytes]) -> Worker[bytes]:
    async def handle(body: bytes) -> None:
        handled.append(body)

    return queue.worker(handle, concurrency=_CLIENTS)


def _of_batches(queue: Queue[bytes], handled: list[bytes]) -> Worker[bytes]:
    async def handle(bodies: list[bytes]) -> None:
        handled.extend(bodies)

    return queue.batch_worker(handle, max_messages=_BATCH, concurrency=_CLIENTS)


QUEUES = (
    Workload(
        "cycle",
        f"send, receive, delete: {_CLIENTS} clients, 1024 B, one message a call; a store in use",
        [Lane(_our_cycle, SYNCED), _limit(_cycle, 500, 3), *lanes(_peer_cycle, queues())],
        (Target("sqlite", at_least=8.0), Target("litequeue", at_least=20.0)),
        [*(peer.name for peer in queues()), "asyncio.Queue"],
    ),
    Workload(
        "batches",
        f"send, receive, delete: one client, {_BATCH} messages of 1024 B a call; a store in use",
        [Lane(_our_batches, SYNCED), *lanes(_peer_batches, batch_queues())],
        (Target("sqlite", at_least=1.0),),
        [peer.name for peer in batch_queues()],
    ),
    Workload(
        "single",
        "send, receive, delete: one client, 1024 B, one message a call; a store in use",
        [
            Lane(_our_single, SYNCED),
            Lane(_syncs, SYNCED, engines=ON_DISK),
            _limit(_single, 2000, 10),
            *lanes(_peer_single, queues()),
        ],
        (
            Target("sqlite", at_least=1.0),
            Target("syncs of a send", at_most=1.0, ratio=False),
            # One that is due anyway, for a receive before, may fall into it.
            Target("syncs of a receive", at_most=0.1, ratio=False),
            Target("syncs of a delete", at_most=1.0, ratio=False),
        ),
        [*(peer.name for peer in queues()), "asyncio.Queue"],
    ),
    Workload(
        "worker",
        f"a worker with a handler that does nothing, {_CLIENTS} at a time, 1024 B; a store in use",
        [_worker(_ONE, _of_messages), _worker(_TEN, _of_batches)],
        charts=[
            Chart(
                "Messages/s of a worker by how many its handler is given",
                "a call",
                {"handled and deleted": {1: _ONE, _BATCH: _TEN}},
            )
        ],
    ),
)

"""Much of it in queues: messages that wait, message groups, receivers that wait."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.backlog import MESSAGES
from benchmarks.measure import ON_DISK, Chart, Figure, Figures, Lane, Setting, Target, Workload, chunks, rate, verify
from benchmarks.order import Check, Records, verify_once
from benchmarks.queue import NAME, verify_empty
from benchmarks.store import open_store
from benchmarks.stream import SYNCED
from streamkit import Queue, Send

_MIB = 1024 * 1024

# ---- a backlog

_MEMORY = "memory per waiting message"
_REOPENED = f"{_MEMORY}, reopened"
_CALLS = ("send", "receive and delete")


async def _child(what: str, directory: Path, count: int, setting: Setting) -> dict[str, Any]:
    rounds = setting.sized(20, 2) if count else 1
    arguments = (what, str(directory), str(count), str(rounds), setting.durability)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.backlog", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    verify(process.returncode == 0, f"the process in which {count:,} messages wait ended with {process.returncode}")
    said: dict[str, Any] = json.loads(output)
    return said


async def _backlog(setting: Setting) -> Figures:
    count = setting.sized(setting.messages, 2000)
    (setting.directory / "nothing").mkdir()
    directory, nothing = setting.directory / "data", setting.directory / "nothing" / "data"
    filled = await _child("fill", directory, count, setting)
    on_disk = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    reopened = await _child("reopen", directory, count, setting)
    await _child("fill", nothing, 0, setting)
    empty = await _child("reopen", nothing, 0, setting)

    def per_message(size: int) -> Figure:
        return Figure(max(size / count, 1.0), "B")  # Of a handful the memory may be what the process had anyway.

    figures = {
        _MEMORY: per_message(filled["memory"]),
        f"{_MEMORY}, heap trimmed": per_message(filled["trimmed"]),
        _REOPENED: per_message(reopened["memory"] - empty["memory"]),
        "peak while they are sent": Figure(max(filled["peak"] / _MIB, 0.1), "MiB"),
    }
    for call in _CALLS:
        full, alone = filled["full"][call], filled["empty"][call]
        figures[f"{call}, backlog / empty queue"] = Figure(full / alone, "")
        figures[f"{call}, backlog"] = Figure(full * 1e6, "us")
        figures[f"{call}, empty queue"] = Figure(alone * 1e6, "us")
    return figures | {
        "slowest of these, backlog": Figure(filled["full"]["slowest"] * 1e3, "ms"),
        "slowest of these, empty queue": Figure(filled["empty"]["slowest"] * 1e3, "ms"),
        "reopening": Figure(reopened["opened"], "s"),
        "first receive then": Figure(reopened["first"] * 1e3, "ms"),
        "sending them": rate(count, filled["seconds"], "messages/s"),
        "receiving and deleting them": rate(count, reopened["draining"], "messages/s"),
        "on disk per message": Figure(on_disk / count, "B"),
    }


# ---- message groups

_GROUP_BATCH = 100


def _over_groups(groups: int, full: int = 200_000) -> Lane:
    """Everything is sent before anything is received, so that every group has messages that wait."""

    async def run(setting: Setting) -> Figures:
        many = setting.sized(groups, max(1, groups // 1000))
        count = setting.sized(full, 400)
        records = Records(100, many)
        check = Check(records)
        batches = [
            [
                Send(value=records.payload(place), group_id=records.key(place), deduplication_id=str(place))
                for place in chunk
            ]
            for chunk in chunks(count, _GROUP_BATCH)
        ]
        async with open_store(setting) as kit:
            queue = await kit.create_queue(f"{NAME}.fifo", fifo=True, content_based_deduplication=False, type=bytes)
            gc.collect()
            started = time.perf_counter()
            for batch in batches:
                results = await queue.send_batch(batch)
                verify(all(result.error is None for result in results), "a message was refused")
            sent = time.perf_counter() - started
            received = 0.0
            while check.seen < count:
                started = time.perf_counter()
                messages = await queue.receive(_GROUP_BATCH)
                errors = await queue.delete_batch(messages)
                received += time.perf_counter() - started
                verify(not any(errors), "a message was not deleted")
                for message in messages:
                    check.see(message.group_id or "", message.body)
            check.end(count)
        await verify_empty(setting, f"{NAME}.fifo")
        named = _named(groups)
        return {
            named: Figure((sent + received) / count * 1e6, "us/message"),
            f"sending, {named}": Figure(sent / count * 1e6, "us/message"),
            f"receiving and deleting, {named}": Figure(received / count * 1e6, "us/message"),
        }

    return Lane(run, SYNCED)


def _named(groups: int) -> str:
    return f"{groups:,} group{'s' if groups > 1 else ''}"


# ---- receivers that wait

_RECEIVERS = 1000
_IDLE = "CPU while they wait"


async def _cpu(seconds: float) -> Figure:
    """What this process needs while nothing comes."""
    gc.collect()
    before = time.process_time()
    await asyncio.sleep(seconds)
    return Figure((time.process_time() - before) * 1e3 / seconds, "ms/s")


async def woken(queue: Queue[bytes], many: int, *, batch: bool, idle: float) -> tuple[Figure, Figure]:
    """Receivers that wait until each gets one message: their CPU before, and how long it takes to wake all."""
    receiving = [asyncio.create_task(queue.receive(wait=3600)) for _ in range(many)]
    await asyncio.sleep(idle / 10)  # Until all of them wait.
    cpu = await _cpu(idle)
    verify(not any(task.done() for task in receiving), "a receiver did not wait")
    bodies = [MESSAGES.payload(place) for place in range(many)]
    started = time.perf_counter()
    if batch:
        await queue.send_batch(bodies)
    else:
        await asyncio.gather(*map(queue.send, bodies))
    woken = await asyncio.gather(*receiving)
    seconds = time.perf_counter() - started
    verify(all(len(messages) == 1 for messages in woken), "a receiver was woken for nothing")
    messages = [messages[0] for messages in woken]
    verify_once(MESSAGES, (message.body for message in messages), many)
    verify(not any(await queue.delete_batch(messages)), "a message was not deleted")
    return cpu, Figure(seconds * 1e3, "ms")


async def _receivers(setting: Setting) -> Figures:
    many, idle = setting.sized(_RECEIVERS, 50), 0.1 if setting.small else 2.0
    async with open_store(setting) as kit:
        queue = await kit.create_queue(NAME, type=bytes)
        cpu, by_sends = await woken(queue, many, batch=False, idle=idle)
        _, by_batch = await woken(queue, many, batch=True, idle=idle / 10)
    await verify_empty(setting)
    return {_IDLE: cpu, "as many sends at once wake all": by_sends, "one batch of as many wakes all": by_batch}


async def _nobody(setting: Setting) -> Figures:
    async with open_store(setting):
        return {"CPU without them": await _cpu(0.1 if setting.small else 2.0)}


QUEUE_SCALE = (
    Workload(
        "backlog",
        "--messages of 1024 B that wait in a queue",
        [Lane(_backlog, SYNCED, engines=ON_DISK)],
        (
            *(Target(row, at_most=150.0, ratio=False, all_counts=True) for row in (_MEMORY, _REOPENED)),
            *(Target(f"{call}, backlog / empty queue", at_most=1.2, ratio=False) for call in _CALLS),
            Target("reopening", at_most=10.0, ratio=False, all_counts=True),
        ),
    ),
    Workload(
        "groups",
        f"a FIFO queue by the number of message groups, {_GROUP_BATCH} x 100 B a call",
        [_over_groups(100_000), _over_groups(1), _over_groups(10_000, 40_000), _over_groups(100, 40_000)],
        (Target(_named(1), at_most=2.0),),
        charts=[
            Chart(
                "Cost of a message by the number of message groups, us",
                "message groups",
                {
                    label: {groups: f"{prefix}{_named(groups)}" for groups in (1, 100, 10_000, 100_000)}
                    for label, prefix in (
                        ("all of it", ""),
                        ("sending", "sending, "),
                        ("receiving and deleting", "receiving and deleting, "),
                    )
                },
            )
        ],
    ),
    Workload(
        "receivers",
        f"{_RECEIVERS:,} receivers that wait",
        [Lane(_receivers, SYNCED), Lane(_nobody, "")],
        (Target(_IDLE, at_most=1.0, ratio=False),),
        ["CPU without them"],
    ),
)

"""Messages of a queue that go while they are on their way to a file, and what replay makes of those that waited."""

from __future__ import annotations

import asyncio
import errno
import itertools
import shutil
from pathlib import Path

import pytest

from streamkit.errors import StorageError
from streamkit.queues.message import QueueAttributes, RedrivePolicy
from streamkit.testing.clock import ManualClock
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.queueing import MANY, bodies, drain, in_memory, send
from tests.engines.file.terms import START_MS, Held, opened


async def test_what_is_deleted_while_it_is_settled_stays_gone(tmp_path: Path) -> None:
    """What waits in memory is received and deleted while it is written; the page must not bring it back, ever."""
    for at in itertools.count(1):
        held = Held("streamkit-settle")
        path = tmp_path / f"{at}"
        async with opened(path, files=FaultyFiles(before=held)) as engine:
            await engine.queues.create_queue("jobs", QueueAttributes(visibility_timeout_ms=1_000))
            await send(engine, MANY)
            held.holding = True
            settling: asyncio.Task[object] = asyncio.create_task(engine.settle())
            number = 0
            while await held.reached(settling):
                number += 1
                if number == at:
                    received = await engine.queues.receive_messages("jobs", 8)
                    handles = [message.receipt_handle for message in received[:5]]
                    assert await engine.queues.delete_messages("jobs", handles) == [None] * 5
                held.let_through()
            await settling
            held.holding = False
            if number < at:
                break
            await send(engine, [b"more"])
            await engine.settle()
        for _ in range(2):
            async with opened(path) as engine:
                (jobs,) = await engine.queues.describe_queues()
                assert jobs.visible + jobs.not_visible == len(MANY) - 5 + 1
        clock = ManualClock(START_MS + 10_000)
        async with opened(path, clock) as engine:
            assert sorted(bodies(await drain(engine))) == [*MANY[5:], b"more"]
    assert at > 3


@pytest.mark.parametrize("kind", ["", ".fifo"])
async def test_what_becomes_a_dead_letter_while_it_is_filed_is_filed_as_it_came(kind: str, tmp_path: Path) -> None:
    """At every call of the settling to the disk. What is read of that file later is what it says it is."""
    for at in itertools.count(1):
        held = Held("streamkit-settle")
        clock = ManualClock(START_MS)
        path = tmp_path / f"{at}"
        async with opened(path, clock, files=FaultyFiles(before=held)) as engine:
            fifo = bool(kind)
            policy = RedrivePolicy(dead_letter_queue=f"dead{kind}", max_receive_count=1)
            await engine.queues.create_queue(
                f"dead{kind}", QueueAttributes(fifo=fifo, content_based_deduplication=fifo)
            )
            await engine.queues.create_queue(
                f"jobs{kind}", QueueAttributes(fifo=fifo, content_based_deduplication=fifo, redrive_policy=policy)
            )
            for name in ("dead", "jobs"):
                for number, body in enumerate(MANY[:10]):
                    group = f"{number}" if fifo else None
                    await send(engine, [name.encode() + body], f"{name}{kind}", group_id=group)
            held.holding = True
            settling: asyncio.Task[object] = asyncio.create_task(engine.settle())
            calls = 0
            while await held.reached(settling):
                calls += 1
                if calls == at:
                    assert len(await engine.queues.receive_messages(f"jobs{kind}", 3, 1_000)) == 3
                    await clock.advance(2)
                    await engine.queues.receive_messages(f"jobs{kind}", 10, 0)
                held.let_through()
            await settling
            held.holding = False
            shutil.copytree(path, f"{path}-killed", ignore=shutil.ignore_patterns("*.new"))
        for again in (path, Path(f"{path}-killed")) if calls >= at else ():
            async with opened(again, clock) as engine:
                # Those that were received for 0 seconds become dead letters here.
                left = await drain(engine, f"jobs{kind}")
                dead = await drain(engine, f"dead{kind}")
                letters = [letter for letter in dead if letter.dead_letter_source == f"jobs{kind}"]
                assert {b"jobs" + body for body in MANY[:3]} <= set(bodies(letters))
                assert sorted(bodies([*left, *letters])) == [b"jobs" + body for body in MANY[:10]]
                assert sorted(bodies(dead))[:10] == [b"dead" + body for body in MANY[:10]]
        if calls < at:
            break
    assert at > 3


async def test_replay_receives_what_was_delayed_when_it_came(tmp_path: Path) -> None:
    """On a FIFO queue it waited for its turn behind a full window: live its delay ended there, in replay none does."""
    clock = ManualClock(START_MS)
    path = tmp_path / "data"
    async with opened(path, clock) as engine:
        await engine.queues.create_queue("jobs.fifo", QueueAttributes(fifo=True, content_based_deduplication=True))
        for number, body in enumerate(MANY[:12]):
            await send(engine, [body], "jobs.fifo", group_id=f"{number % 5}")
            if number == 7:
                late = QueueAttributes(fifo=True, content_based_deduplication=True, delay_ms=5_000)
                await engine.queues.update_queue("jobs.fifo", late)
        await clock.advance(5)
        assert sorted(bodies(await drain(engine, "jobs.fifo"))) == MANY[:12]
        shutil.copytree(path, tmp_path / "killed")
    async with opened(tmp_path / "killed", clock) as engine:
        assert await drain(engine, "jobs.fifo") == []
        await send(engine, [b"new"], "jobs.fifo", group_id="new")
        await clock.advance(5)
        assert bodies(await drain(engine, "jobs.fifo")) == [b"new"]


# ---- purges and deletes


@pytest.mark.parametrize("act", ["purge", "delete", "delete and create"])
async def test_what_goes_while_it_is_settled_stays_gone(act: str, tmp_path: Path) -> None:
    """At every call of the settling to the disk; and what is sent behind it stays."""
    for at in itertools.count(1):
        held = Held("streamkit-settle")
        path = tmp_path / f"{at}"
        async with opened(path, files=FaultyFiles(before=held)) as engine:
            await engine.queues.create_queue("jobs", QueueAttributes())
            await send(engine, MANY)
            held.holding = True
            settling: asyncio.Task[object] = asyncio.create_task(engine.settle())
            calls = 0
            while await held.reached(settling):
                calls += 1
                if calls == at:
                    if act == "purge":
                        assert await engine.queues.purge_queue("jobs") == len(MANY)
                    else:
                        await engine.queues.delete_queue("jobs")
                    if act == "delete and create":
                        await engine.queues.create_queue("jobs", QueueAttributes())
                    if act != "delete":
                        await send(engine, [b"new"])
                held.let_through()
            await settling
            held.holding = False
            shutil.copytree(path, f"{path}-killed", ignore=shutil.ignore_patterns("*.new"))
            if calls < at:
                break
            for place in (engine, None):
                if place is None:
                    await engine.settle()
                assert len(await engine.queues.describe_queues()) == (act != "delete")
                if act != "delete":
                    assert bodies(await engine.queues.peek_messages("jobs", 100)) == [b"new"]
        for again in (path, Path(f"{path}-killed")):
            async with opened(again) as engine:
                assert len(await engine.queues.describe_queues()) == (act != "delete")
                if act != "delete":
                    assert bodies(await drain(engine)) == [b"new"]
    assert at > 3


async def test_a_settling_that_fails_files_nothing_and_the_next_one_does(tmp_path: Path) -> None:
    for at in itertools.count():
        path, files = tmp_path / f"{at}", FaultyFiles()
        async with opened(path, files=files) as engine:
            await engine.queues.create_queue("jobs", QueueAttributes())
            await send(engine, MANY)
            first = len(files.calls)
            files.fail[first + at] = errno.EIO
            try:
                await engine.settle()
            except StorageError:
                assert in_memory(engine) == len(MANY)
                assert bodies(await engine.queues.peek_messages("jobs", 100)) == MANY
                await engine.settle()
            else:
                if len(files.calls) <= first + at:
                    break
            assert in_memory(engine) <= 3
            assert bodies(await engine.queues.receive_messages("jobs", 5)) == MANY[:5]
        async with opened(path) as engine:
            assert bodies(await drain(engine)) == MANY[5:]
    assert at > 5

"""A queue's backlog on disk: what leaves memory, what comes back, and what happens when its files fail."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import re
import shutil
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit.engines.file.backup import backup
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.verify import verify
from streamkit.errors import CorruptLogError, NotFoundError, StorageError
from streamkit.functions.pattern import Pattern
from streamkit.queues import backlog as limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import SendEntry
from streamkit.service import Stop
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import FaultyFiles
from tests.engines.file.looking import looking
from tests.engines.file.queueing import MANY, backlog, bodies, drain, files_of, in_memory, send
from tests.engines.file.terms import START_MS, message_ids, open_file, opened

# ---- what leaves memory, and comes back


async def test_what_waits_leaves_memory_and_comes_back_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
        assert in_memory(engine) <= 3
        (jobs,) = await engine.queues.describe_queues()
        assert jobs.visible == len(MANY)
    async with opened(tmp_path / "data") as engine:
        assert in_memory(engine) == 0
        assert bodies(await engine.queues.peek_messages("jobs", 100)) == MANY
        assert in_memory(engine) == 0, "who only looks loads nothing"
        assert bodies(await drain(engine)) == MANY
        await engine.settle()
        assert files_of(tmp_path / "data") == []


async def test_a_message_is_written_once_however_long_it_waits(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
        (first,) = files_of(tmp_path / "data")
        written = first.stat()
        for round_ in range(5):
            await send(engine, [b"%d-%d" % (round_, number) for number in range(4)])
            await engine.settle()
        assert first.stat().st_mtime_ns == written.st_mtime_ns
        assert len(files_of(tmp_path / "data")) == 6
        assert sum(file.stat().st_size for file in files_of(tmp_path / "data", ".snap")) < 500


async def test_a_file_goes_when_nothing_is_in_it_any_more(tmp_path: Path) -> None:
    """Files are let go of from the front, and those behind stay."""
    async with opened(tmp_path / "data") as engine:
        await engine.queues.create_queue("jobs", QueueAttributes())
        for start in range(0, 40, 10):
            await send(engine, MANY[start : start + 10])
            await engine.settle()
        serials = [file.name for file in files_of(tmp_path / "data")]
        assert len(serials) == 4
        await drain_some(engine, 24)
        await engine.settle()
        assert [file.name for file in files_of(tmp_path / "data")] == serials[2:]
        assert bodies(await drain(engine)) == MANY[24:]


async def drain_some(engine: FileEngine, count: int) -> None:
    for _ in range(count):
        (message,) = await engine.queues.receive_messages("jobs", 1)
        assert await engine.queues.delete_messages("jobs", [message.receipt_handle]) == [None]


async def test_a_fifo_queue_keeps_the_order_of_its_groups_through_a_deep_backlog(tmp_path: Path) -> None:
    """Also of those that are blocked while it is filed, settled and opened again."""
    attributes = QueueAttributes(fifo=True, content_based_deduplication=True, visibility_timeout_ms=60_000)
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.queues.create_queue("jobs.fifo", attributes)
        for number in range(60):
            await engine.queues.send_messages("jobs.fifo", [SendEntry(b"%d" % number, group_id="abc"[number % 3])])
        (blocking,) = await engine.queues.receive_messages("jobs.fifo", 1)
        await engine.settle()
    order: dict[str | None, list[int]] = {"a": [], "b": [], "c": []}
    async with opened(tmp_path / "data", clock) as engine:
        assert await engine.queues.delete_messages("jobs.fifo", [blocking.receipt_handle]) == [None]
        for turn in itertools.count():
            messages = await engine.queues.receive_messages("jobs.fifo", 3)
            if not messages:
                break
            for message in messages:
                order[message.group_id].append(int(message.body))
            await engine.queues.delete_messages("jobs.fifo", [message.receipt_handle for message in messages])
            if turn % 5 == 0:
                await engine.settle()
    assert order == {"a": [*range(3, 60, 3)], "b": [*range(1, 60, 3)], "c": [*range(2, 60, 3)]}


async def test_a_fifo_queue_looks_no_further_than_its_window(tmp_path: Path) -> None:
    """AWS: among the first 120,000 messages, of which there are 6 here; so one group can keep others waiting."""
    attributes = QueueAttributes(fifo=True, content_based_deduplication=True)
    async with opened(tmp_path / "data") as engine:
        await engine.queues.create_queue("jobs.fifo", attributes)
        for number in range(30):
            entry = SendEntry(b"%d" % number, group_id="deep" if number < 20 else "behind")
            await engine.queues.send_messages("jobs.fifo", [entry])
        await engine.settle()
    async with opened(tmp_path / "data") as engine:
        (blocking,) = await engine.queues.receive_messages("jobs.fifo", 1)
        assert await engine.queues.receive_messages("jobs.fifo", 10) == []
        assert in_memory(engine, "jobs.fifo") <= 8
        assert await engine.queues.delete_messages("jobs.fifo", [blocking.receipt_handle]) == [None]
        assert [int(message.body) for message in await drain(engine, "jobs.fifo")] == [*range(1, 30)]
        assert in_memory(engine, "jobs.fifo") == 0


async def test_a_quiet_tenant_goes_past_a_deep_backlog(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.queues.create_queue("jobs", QueueAttributes())
        await send(engine, MANY, group_id="noisy")
        await engine.settle()
        hidden = await engine.queues.receive_messages("jobs", 4)
        assert {message.group_id for message in hidden} == {"noisy"}
        await send(engine, [b"quiet"], group_id="quiet")
        assert len(await engine.queues.receive_messages("jobs", 1)) == 1  # With this one it is seen to be noisy.
        (next_one,) = await engine.queues.receive_messages("jobs", 1)
        assert next_one.body == b"quiet"


async def test_many_may_receive_while_a_page_is_loaded(tmp_path: Path) -> None:
    """Each message goes to one of them."""
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
    async with opened(tmp_path / "data") as engine:
        answers = await asyncio.gather(*(engine.queues.receive_messages("jobs", 3) for _ in range(20)))
        found = [message.body for messages in answers for message in messages]
        assert sorted(found) == MANY


async def test_a_receive_that_is_cancelled_while_a_page_is_loaded(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
    async with opened(tmp_path / "data") as engine:
        finished: list[ReceivedMessage] = []

        async def take() -> None:
            finished.extend(await engine.queues.receive_messages("jobs", 5))

        async def check() -> None:
            (jobs,) = await engine.queues.describe_queues()
            assert (jobs.visible, jobs.not_visible) == (len(MANY) - len(finished), len(finished))

        assert await cancel_at_every_step(take, check) > 0
        assert bodies(finished) == MANY[:5]
        assert bodies(await drain(engine)) == MANY[5:]


def calls(engine: FileEngine) -> dict[str, Callable[[], Coroutine[Any, Any, object]]]:
    """What reads pages of a queue, or may."""
    queues = engine.queues
    ids = [f"message-{number}" for number in range(60)]
    return {
        "receive": lambda: queues.receive_messages("jobs", 3),
        "wait": lambda: queues.receive_messages("jobs", 3, None, 1_000),
        "peek": lambda: queues.peek_messages("jobs", 20),
        "describe": lambda: queues.describe_queues(["jobs"]),
        "describe all": lambda: queues.describe_queues(),
        "update": lambda: queues.update_queue("jobs", QueueAttributes(retention_ms=70_000)),
        "move": lambda: queues.move_messages("jobs", ids, "other"),
        "move here": lambda: queues.move_messages("other", ids, "jobs"),
    }


@pytest.mark.parametrize("act", ["purge", "delete"])
@pytest.mark.parametrize("what", ["receive", "wait", "peek", "describe", "describe all", "update", "move", "move here"])
async def test_what_goes_while_pages_are_read(what: str, act: str, tmp_path: Path) -> None:
    """Who reads them finds nothing any more, or hears that the queue is gone; at whatever turn of the loop it goes."""
    clock = ManualClock(START_MS)
    with message_ids():
        async with opened(tmp_path / "data", clock) as engine:
            await engine.queues.create_queue("other", QueueAttributes())
            await send(engine, MANY[:10], "other")
            await engine.queues.create_queue("jobs", QueueAttributes(retention_ms=100_000))
            for start in range(0, 40, 10):
                await send(engine, MANY[start : start + 10])
                await clock.advance(20)
            await engine.settle()
    await clock.advance(35)  # The first ones are too old.
    for turns in itertools.count():
        copy = tmp_path / f"{turns}"
        await asyncio.to_thread(shutil.copytree, tmp_path / "data", copy)
        async with opened(copy, clock) as engine:
            task = asyncio.create_task(calls(engine)[what]())
            for _ in range(turns):
                await asyncio.sleep(0)
            was_done = task.done()
            if act == "purge":
                await engine.queues.purge_queue("jobs")
            else:
                await engine.queues.delete_queue("jobs")
                await engine.settle()  # Its files go as well.
            if what == "wait":
                await clock.advance(2)
            with suppress(NotFoundError) if act == "delete" else nullcontext():
                await soon(task)
            assert len(await engine.queues.describe_queues()) == (2 if act == "purge" else 1)
            await engine.settle()
            await send(engine, [b"new"], "other")
            assert b"new" in bodies(await drain(engine, "other"))
        if was_done:
            break
    assert turns > 1


async def test_looking_that_is_cancelled_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
    async with opened(tmp_path / "data") as engine:

        async def check() -> None:
            assert in_memory(engine) == 0

        for make in (
            lambda: engine.queues.peek_messages("jobs", 20),
            lambda: engine.queues.describe_queues(["jobs"]),
        ):
            await cancel_at_every_step(make, check)
        assert bodies(await drain(engine)) == MANY


async def test_what_waits_in_memory_can_be_moved_and_grows_too_old(tmp_path: Path) -> None:
    """Behind the window, before anything is settled; of tenants, and of message groups."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        for suffix, fifo in (("", False), (".fifo", True)):
            jobs, other = f"jobs{suffix}", f"other{suffix}"
            attributes = QueueAttributes(fifo=fifo, retention_ms=100_000)
            await engine.queues.create_queue(jobs, attributes)
            await engine.queues.create_queue(other, attributes)
            for number in range(60):
                key = f"{number}" if fifo else None
                entry = SendEntry(b"%d" % number, group_id="abc"[number % 3], deduplication_id=key)
                await engine.queues.send_messages(jobs, [entry])
                await clock.advance(1)
            seen = await engine.queues.peek_messages(jobs, 100)
            chosen = [message.message_id for message in seen if int(message.body) % 2]
            assert await engine.queues.move_messages(jobs, chosen, other) == 30
            assert bodies(await engine.queues.peek_messages(other, 100)) == [b"%d" % n for n in range(1, 60, 2)]
            await clock.advance(60)  # Those of the first 20 seconds are too old.
            assert bodies(await engine.queues.peek_messages(jobs, 100)) == [b"%d" % n for n in range(20, 60, 2)]
            found = [int(message.body) for message in await drain(engine, jobs)]
            assert sorted(found) == [*range(20, 60, 2)]
            (left,) = await engine.queues.describe_queues([jobs])
            assert (left.visible, left.not_visible, in_memory(engine, jobs)) == (0, 0, 0)


async def test_deleting_twice_is_fine_while_others_of_the_page_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PAGE_MESSAGES", 5)
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
        received = await engine.queues.receive_messages("jobs", 1)
        handles = [message.receipt_handle for message in received]
        for _ in range(2):
            assert await engine.queues.delete_messages("jobs", handles) == [None]
        assert bodies(await drain(engine)) == MANY[1:]


# ---- the oldest, and those that are too old


async def oldest_ms(engine: FileEngine) -> int | None:
    (jobs,) = await engine.queues.describe_queues(["jobs"])
    return jobs.oldest_ms


async def test_the_age_of_the_oldest_is_that_of_a_message_on_disk(tmp_path: Path) -> None:
    """To the millisecond, also when the first of its page went before the store was opened."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.queues.create_queue("jobs", QueueAttributes())
        for number in range(6):
            await send(engine, [b"%d" % number])
            await clock.advance(1)
        await engine.settle()
    for gone in range(6):
        async with opened(tmp_path / "data", clock) as engine:
            assert await oldest_ms(engine) == START_MS + gone * 1000
            await drain_some(engine, 1)
    async with opened(tmp_path / "data", clock) as engine:
        assert await oldest_ms(engine) is None


async def test_what_is_too_old_goes_from_the_disk_unread(tmp_path: Path) -> None:
    """Pages that are too old as a whole are not read for it; of one that is half too old the rest stays."""
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.queues.create_queue("jobs", QueueAttributes(retention_ms=100_000))
        for body in MANY:
            await send(engine, [body])
            await clock.advance(1)
        await engine.settle()
    files = FaultyFiles()
    async with opened(tmp_path / "data", clock, files=files) as engine:
        before = len(files.calls)
        await clock.advance(75.5)  # Those of the first 16 seconds are older than 100 s now.
        (jobs,) = await engine.queues.describe_queues(["jobs"])
        assert jobs.visible == len(MANY) - 16
        read = [call for call in files.calls[before:] if call.operation == "read"]
        assert len(read) <= 2
        assert await oldest_ms(engine) == START_MS + 16_000
        assert bodies(await engine.queues.receive_messages("jobs", 3)) == MANY[16:19]
    async with opened(tmp_path / "data", clock) as engine:
        await clock.advance(200)
        (jobs,) = await engine.queues.describe_queues(["jobs"])
        assert (jobs.visible, jobs.not_visible, jobs.oldest_ms) == (0, 0, None)
        await engine.settle()
        assert files_of(tmp_path / "data") == []


async def test_a_dead_letter_on_disk_is_as_old_as_when_it_was_sent(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    policy = RedrivePolicy(dead_letter_queue="dead", max_receive_count=1)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.queues.create_queue("dead", QueueAttributes(retention_ms=100_000))
        await engine.queues.create_queue("jobs", QueueAttributes(redrive_policy=policy, visibility_timeout_ms=1_000))
        await send(engine, MANY[:8])
        await clock.advance(50)
        await send(engine, MANY[8:16])
        assert len(await engine.queues.receive_messages("jobs", 100)) == 16
        await clock.advance(10)
        assert await engine.queues.receive_messages("jobs", 100) == []
        await engine.settle()
    async with opened(tmp_path / "data", clock) as engine:
        assert in_memory(engine, "dead") <= 2
        (dead,) = await engine.queues.describe_queues(["dead"])
        assert (dead.visible, dead.oldest_ms) == (16, START_MS + 60_000)
        await clock.advance(45)
        assert sorted(bodies(await drain(engine, "dead"))) == MANY[8:16]


# ---- damage


async def damaged(path: Path) -> list[str]:
    report = await asyncio.to_thread(verify, str(path))
    return [Path(found.path).name for found in report.findings if found.severity == "damage"]


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[100] ^= 1
        file.write_bytes(data)


async def test_a_damaged_page_is_told_of_and_harms_no_other_queue(tmp_path: Path) -> None:
    """The store opens, since no page is read for that; who needs the page hears which file is damaged."""
    path = tmp_path / "data"
    async with opened(path) as engine:
        await backlog(engine)
        await engine.queues.create_queue("others", QueueAttributes())
        await send(engine, MANY, "others")
    file = files_of(path)[0]
    damage(file, "flipped")
    assert await damaged(path) == [file.name]
    async with opened(path) as engine:
        for use in (
            lambda: engine.queues.receive_messages("jobs", 1),
            lambda: engine.queues.peek_messages("jobs", 1),
            lambda: engine.queues.describe_queues(["jobs"]),
        ):
            with pytest.raises(CorruptLogError, match=re.escape(str(file))):
                await use()
        assert bodies(await drain(engine, "others")) == MANY
        assert await engine.queues.purge_queue("jobs") == len(MANY)
        await send(engine, [b"new"])
        assert bodies(await drain(engine)) == [b"new"]


@pytest.mark.parametrize("how", ["missing", "cut"])
async def test_a_file_that_is_not_whole_is_found_when_the_store_is_opened(how: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    async with opened(path) as engine:
        await backlog(engine)
    file = files_of(path)[0]
    damage(file, how)
    assert await damaged(path) == [file.name]
    with pytest.raises(CorruptLogError, match=re.escape(str(file))):
        await open_file(path)
    assert os.listdir(path / "queues"), "nothing was removed"


async def test_a_read_that_fails_is_made_again(tmp_path: Path) -> None:
    """The receive that met it hears of it, nothing is lost, and the next one gets the messages."""
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
    files = FaultyFiles()
    async with opened(tmp_path / "data", files=files) as engine:
        for operation in range(2):  # The opening of the file, then the reading.
            files.fail[len(files.calls) + operation] = errno.EIO
            with pytest.raises(StorageError, match="pages"):
                await engine.queues.receive_messages("jobs", 1)
        assert bodies(await drain(engine)) == MANY


# ---- copies and onlookers


async def test_a_backup_has_the_backlog(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await backlog(engine)
        await asyncio.to_thread(backup, str(tmp_path / "data"), str(tmp_path / "copy"))
    async with opened(tmp_path / "copy") as engine:
        assert in_memory(engine) == 0
        assert bodies(await drain(engine)) == MANY


async def test_an_onlooker_sees_it(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with opened(tmp_path / "data", clock) as engine, looking(tmp_path / "data", clock) as onlooker:
        await backlog(engine)
        for step in range(4):
            assert bodies(await onlooker.queues.peek_messages("jobs", 100)) == MANY[step * 7 :]
            (seen,), (owned,) = await onlooker.queues.describe_queues(), await engine.queues.describe_queues()
            assert seen == owned
            await drain_some(engine, 7)
            if step % 2:
                await engine.settle()


# ---- deduplication


async def test_a_repeat_is_known_after_its_id_went_to_a_file(tmp_path: Path) -> None:
    """For five minutes, however often the store settles and is opened; then the file goes."""
    clock = ManualClock(START_MS)
    attributes = QueueAttributes(fifo=True)
    async with opened(tmp_path / "data", clock) as engine:
        await engine.queues.create_queue("jobs.fifo", attributes)
        ids = []
        for number in range(10):
            entry = SendEntry(b"%d" % number, group_id="g", deduplication_id=f"id-{number}")
            (result,) = await engine.queues.send_messages("jobs.fifo", [entry])
            ids.append(result.message_id)
            await engine.settle()
    assert files_of(tmp_path / "data", ".ids")
    async with opened(tmp_path / "data", clock) as engine:
        await clock.advance(299.9)
        for number, message_id in enumerate(ids):
            entry = SendEntry(b"again", group_id="g", deduplication_id=f"id-{number}")
            (result,) = await engine.queues.send_messages("jobs.fifo", [entry])
            assert (result.message_id, result.duplicate) == (message_id, True)
        await clock.advance(0.1)
        entry = SendEntry(b"again", group_id="g", deduplication_id="id-0")
        (result,) = await engine.queues.send_messages("jobs.fifo", [entry])
        assert not result.duplicate
        await engine.settle()
        assert files_of(tmp_path / "data", ".ids") == []


async def test_a_damaged_file_of_ids_is_told_of(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.queues.create_queue("jobs.fifo", QueueAttributes(fifo=True, content_based_deduplication=True))
        for number in range(10):
            await engine.queues.send_messages("jobs.fifo", [SendEntry(b"%d" % number, group_id="g")])
    (file,) = files_of(tmp_path / "data", ".ids")
    assert await damaged(tmp_path / "data") == []
    data = file.read_bytes()
    for broken in (data[:-1], data[:20] + b"?" + data[21:], b""):
        file.write_bytes(broken)
        assert await damaged(tmp_path / "data") == [file.name]
        with pytest.raises(CorruptLogError, match=re.escape(str(file))):
            await open_file(tmp_path / "data")
    file.unlink()
    with pytest.raises(CorruptLogError, match="missing"):
        await open_file(tmp_path / "data")


# ---- at the height of a user


async def test_a_selection_is_moved_out_of_a_backlog(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        dead = await kit.create_queue("dead")
        await kit.create_queue("jobs", redrive_policy=RedrivePolicy(dead_letter_queue="dead", max_receive_count=1))
        await dead.send_batch([{"kind": "odd" if number % 2 else "even", "number": number} for number in range(40)])
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        dead, jobs = kit.queue("dead"), kit.queue("jobs")
        task = dead.move_task(to=jobs, where=Pattern({"body": {"kind": ["odd"]}}))
        await task.run(Stop())
        assert (task.status, task.moved, task.looked_at) == ("COMPLETED", 20, 40)
        assert [message.value["number"] for message in await jobs.peek(100)] == [*range(1, 40, 2)]
        assert [message.value["number"] for message in await dead.peek(100)] == [*range(0, 40, 2)]

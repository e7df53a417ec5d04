"""Calls that come before one commit are one change, and mean what they would have meant one after the other."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from streamkit.engines.embedded.changes import MessagesDeleted, MessagesReceived, MessagesSent
from streamkit.engines.file import commit_group, segment
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import DiskFullError, JournalFailedError, MessageNotInflightError
from streamkit.functions.effects import Effects
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract import contents
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.queueing import MANY, backlog
from tests.engines.file.terms import Held, after_crash, close_broken, kept, open_file, turns
from tests.queues.windows import small_windows as few_in_memory

MANY_COMMITS = 1_000_000
"""With so many before anybody is taken to be alone, calls are always gathered."""


@pytest.fixture(params=[0, 1, MANY_COMMITS], ids=["each by itself", "now and then", "gathered"])
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """After how many commits for one call the next one is taken to be alone; with 0 all are, whoever else comes."""
    monkeypatch.setattr(commit_group, "_COMMITS_ALONE", request.param)


def changes_of(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that is logged from now on."""
    log: Any = engine.queues
    log = log._log
    seen: list[object] = []
    append = log.append

    def noted(change: object, *more: Any) -> int:
        seen.append(change)
        return int(append(change, *more))

    monkeypatch.setattr(log, "append", noted)
    return seen


async def together(*calls: Awaitable[Any]) -> list[Any]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*calls, return_exceptions=True)


async def test_what_comes_before_a_commit_is_one_change_of_each_kind(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await open_file(tmp_path / "data", clock)
    await engine.queues.create_queue("q", QueueAttributes())
    seen = changes_of(engine, monkeypatch)
    sent = await together(*(engine.queues.send_messages("q", [SendEntry(b"%d" % n)] * 2) for n in range(8)))
    assert [type(change) for change in seen] == [MessagesSent]
    assert len({result.message_id for results in sent for result in results}) == 16

    got = await together(*(engine.queues.receive_messages("q", 2) for _ in range(8)))
    assert [[message.body for message in messages] for messages in got] == [[b"%d" % n] * 2 for n in range(8)]
    assert [type(change) for change in seen] == [MessagesSent, MessagesReceived]

    deleted = await together(
        *(engine.queues.delete_messages("q", [message.receipt_handle for message in messages]) for messages in got)
    )
    assert deleted == [[None, None]] * 8
    assert [type(change) for change in seen] == [MessagesSent, MessagesReceived, MessagesDeleted]
    await engine.aclose()


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("sync_seconds", [0.0, 1.0])
async def test_a_lone_client_that_is_cancelled_anywhere_loses_nothing(
    fifo: bool, sync_seconds: float, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sends, receives and deletes, with nobody beside it, on a fast disk and on a slow one."""
    monkeypatch.setattr(commit_group, "_COMMITS_ALONE", 0)
    engine = await open_file(tmp_path / "data", clock)
    queues, name, number = engine.queues, "q.fifo" if fifo else "q", 0
    await queues.create_queue(name, QueueAttributes(fifo=fifo))
    answered: dict[str, object] = {}

    async def client() -> None:
        nonlocal number
        number += 1
        engine._journal._sync_seconds = sync_seconds
        entry = SendEntry(b"%d" % number, group_id="g", deduplication_id=f"{number}") if fifo else SendEntry(b"x")
        answered.clear()
        (answered["sent"],) = await queues.send_messages(name, [entry])
        answered["received"] = got = await queues.receive_messages(name, 10, 60_000)
        answered["deleted"] = await queues.delete_messages(name, [message.receipt_handle for message in got])

    async def check() -> None:
        await engine._journal.synced()
        (seen,) = await queues.describe_queues([name])
        total = seen.visible + seen.not_visible
        # What was not received is there for everybody; what was is hidden until it is deleted, at the latest in time.
        if "deleted" in answered:
            assert total == 0
        elif "received" in answered:
            assert (seen.visible, seen.not_visible) in ((0, 1), (0, 0))
        else:
            assert seen.not_visible == 0
            assert total == 1 if "sent" in answered else total <= 1
        await queues.purge_queue(name)

    assert await cancel_at_every_step(client, check) >= 3
    await engine.aclose()


async def test_duplicates_of_several_senders_are_stored_once(clock: ManualClock, tmp_path: Path) -> None:
    engine = await open_file(tmp_path / "data", clock)
    await engine.queues.create_queue("q.fifo", QueueAttributes(fifo=True))
    sent = await together(
        *(
            engine.queues.send_messages("q.fifo", [SendEntry(b"%d" % n, group_id="g", deduplication_id=f"{n % 3}")])
            for n in range(9)
        )
    )
    assert [results[0].duplicate for results in sent] == [False] * 3 + [True] * 6
    assert [results[0].sequence_number for results in sent] == [sent[n % 3][0].sequence_number for n in range(9)]
    assert [message.body for message in await engine.queues.receive_messages("q.fifo", 10)] == [b"0", b"1", b"2"]
    await engine.aclose()


async def test_what_a_task_began_before_is_done_before(clock: ManualClock, tmp_path: Path) -> None:
    """Whatever changes a queue beside what is gathered comes behind it, also without an await in between."""
    engine = await open_file(tmp_path / "data", clock)
    queues = engine.queues
    for name in ("q.fifo", "other.fifo"):
        await queues.create_queue(name, QueueAttributes(fifo=True))

    def sending(body: bytes) -> Awaitable[Any]:
        return queues.send_messages("q.fifo", [SendEntry(body, group_id="g", deduplication_id=body.decode())])

    entry = SendEntry(b"2", group_id="g", deduplication_id="2")
    await together(sending(b"1"), engine.commit(Effects(sends=(("q.fifo", (entry,)),))), sending(b"3"))
    assert [message.body for message in await queues.peek_messages("q.fifo", 10)] == [b"1", b"2", b"3"]

    (first,) = await queues.receive_messages("q.fifo", 1)
    changing = queues.change_visibility("q.fifo", [VisibilityEntry(first.receipt_handle, 60_000)])
    deleted, changed = await together(queues.delete_messages("q.fifo", [first.receipt_handle]), changing)
    assert deleted == [None]
    assert isinstance(changed[0], MessageNotInflightError)

    moving = queues.move_messages("q.fifo", [], "other.fifo")
    peeking = queues.peek_messages("q.fifo", 10)
    _, _, seen = await together(sending(b"4"), moving, peeking)
    assert [message.body for message in seen] == [b"2", b"3", b"4"]

    _, purged, described = await together(
        sending(b"5"), queues.purge_queue("q.fifo"), queues.describe_queues(["q.fifo"])
    )
    assert purged == 4
    assert described[0].visible == 0
    sent, _ = await together(sending(b"6"), queues.delete_queue("q.fifo"))
    assert sent[0].error is None
    await engine.aclose()


async def test_a_receive_that_is_not_gathered_comes_behind_what_is(clock: ManualClock, tmp_path: Path) -> None:
    engine = await open_file(tmp_path / "data", clock)
    queues = engine.queues
    await queues.create_queue("q", QueueAttributes())
    _, got = await together(queues.send_messages("q", [SendEntry(b"1")]), queues.receive_messages("q", 1))
    assert [message.body for message in got] == [b"1"]
    _, got = await together(queues.send_messages("q", [SendEntry(b"2")]), queues.receive_messages("q", 1, 0))
    assert [message.body for message in got] == [b"2"]

    await queues.create_queue("q.fifo", QueueAttributes(fifo=True))
    await queues.send_messages("q.fifo", [SendEntry(b"3", group_id="g", deduplication_id="3")])
    (held,) = await queues.receive_messages("q.fifo", 1, attempt_id="a")
    deleting = queues.delete_messages("q.fifo", [held.receipt_handle])
    assert await together(deleting, queues.receive_messages("q.fifo", 1, attempt_id="a")) == [[None], []]
    await engine.aclose()


async def test_a_receive_has_the_room_that_a_delete_before_it_makes(clock: ManualClock, tmp_path: Path) -> None:
    limits = replace(Limits.relaxed(), in_flight_messages=2)
    engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=limits, durability="fsync")
    queues = engine.queues
    await queues.create_queue("q", QueueAttributes())
    await queues.send_messages("q", [SendEntry(b"%d" % n) for n in range(3)])
    (held,) = await queues.receive_messages("q", 1)
    second, deleted, third = await together(
        queues.receive_messages("q", 1),
        queues.delete_messages("q", [held.receipt_handle]),
        queues.receive_messages("q", 1),
    )
    assert [message.body for message in (*second, *third)] == [b"1", b"2"]
    assert deleted == [None]
    await engine.aclose()


async def test_a_commit_that_hangs_makes_nobody_miss_a_timeout(clock: ManualClock, tmp_path: Path) -> None:
    """A FIFO queue's delete that is called in time counts, however long the commit before it takes."""
    held = Held("streamkit-journal")
    engine = await open_file(tmp_path / "data", clock, files=FaultyFiles(before=held))
    await engine.queues.create_queue("q.fifo", QueueAttributes(fifo=True))
    await engine.queues.send_messages("q.fifo", [SendEntry(b"x", group_id="g", deduplication_id="x")])
    (got,) = await engine.queues.receive_messages("q.fifo", 1, 10_000)
    engine._journal._sync_seconds = 1.0
    held.holding = True
    slow = asyncio.create_task(
        engine.queues.send_messages("q.fifo", [SendEntry(b"y", group_id="h", deduplication_id="y")])
    )
    assert await held.reached(slow)
    deleting = asyncio.create_task(engine.queues.delete_messages("q.fifo", [got.receipt_handle]))
    await asyncio.sleep(0)
    await clock.advance(11)
    held.let_all_through()
    assert await together(deleting) == [[None]]
    await slow
    await engine.aclose()


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_receive_that_finds_nothing_does_not_wait_for_the_commit_of_others(
    fifo: bool, clock: ManualClock, tmp_path: Path
) -> None:
    held = Held("streamkit-journal")
    engine = await open_file(tmp_path / "data", clock, files=FaultyFiles(before=held))
    name = "q.fifo" if fifo else "q"
    await engine.queues.create_queue(name, QueueAttributes(fifo=fifo))
    entry = SendEntry(b"x", group_id="g", deduplication_id="x") if fifo else SendEntry(b"x")
    await engine.queues.send_messages(name, [entry])
    engine._journal._sync_seconds = 1.0
    held.holding = True
    finding = asyncio.create_task(engine.queues.receive_messages(name, 1))
    at_once = asyncio.create_task(engine.queues.receive_messages(name, 1))
    waiting = asyncio.create_task(engine.queues.receive_messages(name, 1, None, 20_000))
    assert await held.reached(finding)
    async with asyncio.timeout(10):
        assert await at_once == []
    # Who waits is there already for what comes meanwhile, and has its deadline.
    await clock.advance(20)
    async with asyncio.timeout(10):
        assert await waiting == []
    assert not finding.done()
    held.let_all_through()
    (got,) = (await together(finding))[0]
    assert got.body == b"x"
    await engine.aclose()


async def test_a_disk_that_is_full_while_a_commit_waits_for_room_refuses_at_once(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "FIRST_SEGMENT_BYTES", 16 * 1024)
    full = False

    def disk(call: Call) -> None:
        if full and call.operation == "write" and not call.path.endswith(".log"):
            raise OSError(errno.ENOSPC, "no room")

    engine = await open_file(tmp_path / "data", clock, files=FaultyFiles(before=disk))
    await engine.queues.create_queue("q", QueueAttributes())
    await engine.queues.send_messages("q", [SendEntry(b"x"), SendEntry(b"y")])
    (got,) = await engine.queues.receive_messages("q", 1)
    full = True
    big = asyncio.create_task(engine.queues.send_messages("q", [SendEntry(bytes(30_000))]))
    await turns(lambda: engine._journal._parked is not None)
    refused = await together(
        engine.queues.send_messages("q", [SendEntry(b"z")]),
        engine.queues.receive_messages("q", 1),
        engine.queues.delete_messages("q", [got.receipt_handle]),
    )
    assert [type(answer) for answer in refused] == [DiskFullError] * 3
    assert len({id(answer) for answer in refused}) == 3
    full = False
    engine._journal._unpark()
    assert (await big)[0].error is None
    await engine.aclose()


async def test_pages_that_come_while_receives_are_gathered_are_looked_into(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settling may put what is visible on disk between a receive's call and its turn."""
    few_in_memory(monkeypatch)
    engine = await open_file(tmp_path / "data", clock)
    await backlog(engine)
    queues: Any = engine.queues
    gathering = queues._receives.gathering
    waiting = queues.changes.by_name["jobs"].backlog
    assert waiting.pages
    pages, stage = waiting.pages, gathering._stage
    waiting.pages = type(pages)()

    def settled(queue: object, several: list[Any]) -> Any:
        waiting.pages = pages
        return stage(queue, several)

    monkeypatch.setattr(gathering, "_stage", settled)
    monkeypatch.setattr(commit_group, "_COMMITS_ALONE", MANY_COMMITS)
    async with asyncio.timeout(10):
        first = await asyncio.gather(*(engine.queues.receive_messages("jobs", 5, None, 20_000) for _ in range(4)))
    assert sorted(message.body for messages in first for message in messages) == MANY[:20]
    await engine.aclose()


async def test_a_failed_journal_leaves_nobody_waiting(clock: ManualClock, tmp_path: Path) -> None:
    files = FaultyFiles()
    engine = await open_file(tmp_path / "data", clock, files=files)
    await engine.queues.create_queue("q", QueueAttributes())
    await engine.queues.send_messages("q", [SendEntry(b"%d" % n) for n in range(4)])
    got = await engine.queues.receive_messages("q", 2)
    handles = [message.receipt_handle for message in got]
    files.fail[len(files.calls) + 1] = errno.EIO
    answers = await together(
        engine.queues.send_messages("q", [SendEntry(b"x")]),
        engine.queues.receive_messages("q", 1),
        engine.queues.delete_messages("q", handles),
    )
    assert all(isinstance(answer, JournalFailedError) for answer in answers), answers
    # Of these the last are deleted in memory, by what is not durable and never will be.
    again = await together(
        engine.queues.send_messages("q", [SendEntry(b"x")]),
        engine.queues.receive_messages("q", 1),
        engine.queues.delete_messages("q", handles),
    )
    assert all(isinstance(answer, JournalFailedError) for answer in again), again
    await close_broken(engine)


async def test_what_is_gathered_when_the_engine_closes_is_stored(clock: ManualClock, tmp_path: Path) -> None:
    engine = await open_file(tmp_path / "data", clock)
    await engine.queues.create_queue("q", QueueAttributes())
    sending = asyncio.create_task(engine.queues.send_messages("q", [SendEntry(b"x")]))
    await asyncio.sleep(0)
    await engine.aclose()
    assert (await sending)[0].error is None
    async with asyncio.timeout(10):
        again = await open_file(tmp_path / "data", clock)
    assert (await again.queues.describe_queues(["q"]))[0].visible == 1
    await again.aclose()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_a_crash_finds_what_calls_together_left(
    fifo: bool, seed: int, clock: ManualClock, tmp_path: Path
) -> None:
    """Random calls side by side, with dead letters and timeouts of several lengths, are replayed to the same state."""
    choose = random.Random(seed)
    files = FaultyFiles()
    engine = await open_file(tmp_path / "data", clock, files=files)
    end = ".fifo" if fifo else ""
    await engine.queues.create_queue(f"dead{end}", QueueAttributes(fifo=fifo))
    policy = RedrivePolicy(dead_letter_queue=f"dead{end}", max_receive_count=2)
    await engine.queues.create_queue(f"q{end}", QueueAttributes(fifo=fifo, redrive_policy=policy))
    held: list[ReceivedMessage] = []
    number = 0
    for _ in range(40):
        calls: list[Awaitable[Any]] = []
        for _ in range(choose.randrange(1, 8)):
            kind = choose.choice(["send", "send", "receive", "receive", "delete"])
            if kind == "send":
                number += 1
                group = f"{choose.randrange(3)}" if fifo else None
                entry = SendEntry(b"%d" % number, group_id=group, deduplication_id=f"{number}" if fifo else None)
                calls.append(engine.queues.send_messages(f"q{end}", [entry]))
            elif kind == "receive":
                timeout_ms = choose.choice([0, 2_000, 2_000, 5_000])
                calls.append(engine.queues.receive_messages(f"q{end}", choose.randrange(1, 4), timeout_ms, 0))
            elif held:
                message = held.pop(choose.randrange(len(held)))
                calls.append(engine.queues.delete_messages(f"q{end}", [message.receipt_handle]))
        for answer in await together(*calls):
            assert not isinstance(answer, BaseException), answer
            held += [each for each in answer if isinstance(each, ReceivedMessage)]
        if choose.random() < 0.4:
            await clock.advance(choose.randrange(1, 4))
    before = await contents(engine)
    await after_crash(files, tmp_path / "data", tmp_path / "copy", kept)
    after = await open_file(tmp_path / "copy", clock)
    assert await contents(after) == before
    assert (await after.queues.describe_queues([f"dead{end}"]))[0].visible > 0
    await after.aclose()
    await engine.aclose()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_cancelled_calls_hide_nothing_and_lose_nothing(
    fifo: bool, seed: int, clock: ManualClock, tmp_path: Path
) -> None:
    """Sends and receives are cancelled at any turn, before they are staged, after it, and when they are durable."""
    choose = random.Random(seed)
    name = "q.fifo" if fifo else "q"
    engine = await open_file(tmp_path / "data", clock)
    await engine.queues.create_queue(name, QueueAttributes(fifo=fifo))
    sent: set[bytes] = set()
    perhaps: set[bytes] = set()
    handled: set[bytes] = set()
    held: dict[bytes, str] = {}
    for step in range(60):
        sending: dict[asyncio.Task[Any], bytes] = {}
        receiving: list[asyncio.Task[Any]] = []
        deleting: dict[asyncio.Task[Any], bytes] = {}
        for turn in range(choose.randrange(1, 9)):
            kind = choose.choice(["send", "send", "receive", "receive", "delete"])
            if kind == "send":
                body = b"%d.%d" % (step, turn)
                group = f"{choose.randrange(4)}" if fifo else None
                entry = SendEntry(body, group_id=group, deduplication_id=body.decode() if fifo else None)
                sending[asyncio.create_task(engine.queues.send_messages(name, [entry]))] = body
            elif kind == "receive":
                receive = engine.queues.receive_messages(name, choose.randrange(1, 4), 600_000, 0)
                receiving.append(asyncio.create_task(receive))
            elif held:
                body = choose.choice(sorted(held))
                deleting[asyncio.create_task(engine.queues.delete_messages(name, [held.pop(body)]))] = body
            if choose.random() < 0.3:
                await asyncio.sleep(0)
        for task in [*sending, *receiving]:
            for _ in range(choose.randrange(3)):
                await asyncio.sleep(0)
            if choose.random() < 0.3:
                task.cancel()
        await together(*sending, *receiving, *deleting)
        for task, body in sending.items():
            assert task.cancelled() or task.result()[0].error is None
            (perhaps if task.cancelled() else sent).add(body)
        for task in receiving:
            if not task.cancelled():
                held.update({message.body: message.receipt_handle for message in task.result()})
        for task, body in deleting.items():
            assert task.result() == [None]
            handled.add(body)
        (seen,) = await engine.queues.describe_queues([name])
        assert seen.not_visible == len(held)
    await clock.advance(601)
    left: list[bytes] = []
    while messages := await engine.queues.receive_messages(name, 10):
        left += [message.body for message in messages]
        await engine.queues.delete_messages(name, [message.receipt_handle for message in messages])
    assert len(left) == len(set(left))
    assert sent - handled <= set(left) <= (sent | perhaps) - handled
    await engine.aclose()

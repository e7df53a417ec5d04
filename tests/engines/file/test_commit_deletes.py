"""A commit that deletes the messages it is the effect of: whatever the disk does, both happened or neither did."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from streamkit.engines.base import Engine
from streamkit.engines.file import journal
from streamkit.engines.file.engine import FileEngine
from streamkit.errors import DiskFullError, JournalFailedError, MessageNotInflightError, StorageError
from streamkit.functions.effects import Effects
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry, StreamAttributes
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put, Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import Call, FaultyFiles
from tests.engines.file.terms import (
    A_DAY,
    START_MS,
    after_crash,
    close_broken,
    lost,
    open_file,
    opened,
    torn,
    turns,
)

COMMITS = 3
MESSAGES = 2
"""Of each queue, that one commit is the effect of."""
SOURCES = ("jobs", "jobs.fifo")


def effects(number: int, handles: dict[str, list[str]]) -> Effects:
    """One commit, of which each part can be told apart afterwards."""
    # The second is larger than what is read ahead, and than a page.
    data = b"%d" % number * (40_000 if number == 1 else 1)
    return Effects(
        writes=(Put({"id": number, "data": data}, "done"),),
        progress=(Update(key={"id": "checkpoint"}, set={"at": number}, table="done"),),
        sends=(("out.fifo", (SendEntry(data, group_id="g", deduplication_id=str(number)),)),),
        puts=(("s", (PutEntry("k", data),)),),
        deletes=tuple((queue, tuple(of_queue)) for queue, of_queue in handles.items()),
    )


async def set_up(engine: FileEngine) -> None:
    """Messages for one commit after the other."""
    await engine.tables.create_table(TableSchema("done", "id"))
    await engine.streams.create_stream("s", 1, StreamAttributes(retention_ms=None))
    for queue in (*SOURCES, "out.fifo"):
        await engine.queues.create_queue(queue, QueueAttributes(fifo=queue.endswith(".fifo")))
    for queue in SOURCES:
        fifo = queue.endswith(".fifo")
        for number in range(COMMITS):
            bodies = [b"%d %d" % (number, at) for at in range(MESSAGES)]
            await engine.queues.send_messages(
                queue,
                [
                    SendEntry(
                        body, group_id=f"g{number}" if fifo else None, deduplication_id=body.hex() if fifo else None
                    )
                    for body in bodies
                ],
            )


async def received(engine: FileEngine, number: int) -> dict[str, list[str]]:
    """Receipt handles by queue, of the messages of a commit."""
    handles: dict[str, list[str]] = {}
    for queue in SOURCES:
        messages = await engine.queues.receive_messages(queue, MESSAGES)
        assert [message.body for message in messages] == [b"%d %d" % (number, at) for at in range(MESSAGES)]
        handles[queue] = [message.receipt_handle for message in messages]
    return handles


async def committed(engine: Engine, clock: ManualClock) -> list[int]:
    """Which commits took effect. Fails if one did in part."""
    await clock.advance(A_DAY)
    effect: list[set[int]] = []
    items = {item["id"]: item for item in (await engine.tables.scan("done")).items}
    effect.append({number for number in items if isinstance(number, int)})
    effect.append({int(message.body[:1]) for message in await engine.queues.peek_messages("out.fifo", 100)})
    effect.append(
        {int(record.data[:1]) for found in (await everything(engine.streams, "s")).values() for record in found}
    )
    for queue in SOURCES:
        left = [int(message.body.split()[0]) for message in await engine.queues.peek_messages(queue, 100)]
        assert {left.count(number) for number in left} <= {MESSAGES}, f"only some of {queue} were deleted: {left}"
        effect.append(set(range(COMMITS)) - set(left))
    assert all(found == effect[0] for found in effect), f"in part: {effect}"
    done = sorted(effect[0])
    assert items.get("checkpoint", {"at": -1})["at"] == (done[-1] if done else -1)
    return done


class Run:
    """Commits on a disk that may fail; which of them were acknowledged."""

    def __init__(self, path: Path, at: int | None = None, code: int | None = None) -> None:
        """``at``: which call is to fail with ``code``, or to crash; 0 is the first of the first commit."""
        self.path = path
        self.files = FaultyFiles()
        self.faulty: Call | None = None
        """The call that failed."""
        self._at = at
        self._code = code
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        self.error: StorageError | None = None

    async def __call__(self) -> None:
        engine = await open_file(self.path, ManualClock(START_MS), files=self.files)
        await set_up(engine)
        handles = await received(engine, 0)
        faulty = len(self.files.calls) + (self._at or 0)
        if self._code is not None:
            self.files.fail[faulty] = self._code
        elif self._at is not None:
            self.files.crash_at = faulty
        try:
            for number in range(COMMITS):
                handles = handles or await received(engine, number)
                try:
                    await engine.commit(effects(number, handles))
                except DiskFullError:
                    self.refused.append(number)
                    await engine.commit(effects(number, handles))
                self.acknowledged.append(number)
                with pytest.raises(MessageNotInflightError):
                    await engine.commit(effects(number, handles))
                handles = {}
                if number == 0:
                    try:
                        await engine.settle()
                    except JournalFailedError:
                        raise
                    except StorageError:
                        await engine.settle()
            await engine.aclose()
        except StorageError as error:
            self.error = error
            await close_broken(engine)
        if self._at is not None and faulty < len(self.files.calls):
            self.faulty = self.files.calls[faulty]

    async def check(self, path: Path) -> None:
        """What was acknowledged took effect, and at most the commit after it."""
        least, clock = self.acknowledged, ManualClock(START_MS)
        async with opened(path, clock) as engine:
            done = await committed(engine, clock)
        assert done in (least, [*least, len(least)]), f"{self.faulty}: {done}, and {least} was acknowledged"
        # Once more, because settling must change nothing.
        async with opened(path, clock) as engine:
            assert await committed(engine, clock) == done, f"{self.faulty}"


async def test_without_a_fault_every_commit_takes_effect(tmp_path: Path) -> None:
    run = Run(tmp_path / "data")
    await run()
    assert (run.acknowledged, run.error) == (list(range(COMMITS)), None)
    await run.check(run.path)


async def test_a_crash_at_every_call_of_a_commit_leaves_effect_and_deletion_both_or_neither(tmp_path: Path) -> None:
    """And both, where it was acknowledged."""
    at = 0
    while True:
        run = Run(tmp_path / f"{at}", at)
        await run()
        for survives, name in ((lost, "lost"), (torn(at), "torn")):
            left = tmp_path / f"{at}-{name}"
            await after_crash(run.files, run.path, left, survives)
            await run.check(left)
        if run.faulty is None:
            break
        at += 1
    assert at > 30


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_an_error_at_every_call_of_a_commit_leaves_effect_and_deletion_both_or_neither(
    tmp_path: Path, code: int
) -> None:
    """What was refused for want of room has not happened, and is done when it is asked for again."""
    at = failed = 0
    while True:
        run = Run(tmp_path / f"{at}", at, code)
        await run()
        if run.faulty is None:
            break
        failed += run.error is not None
        await after_crash(run.files, run.path, tmp_path / f"{at}-lost", lost)
        await run.check(tmp_path / f"{at}-lost")
        await run.check(run.path)
        at += 1
    assert at > 30
    assert failed > 3


async def test_a_full_disk_refuses_a_commit_with_its_deletions_and_takes_both_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is too large for what is left waits; closed meanwhile, it has not happened."""
    monkeypatch.setattr(journal, "_RETRY_SECONDS", 3_600)
    full = False

    def before(call: Call) -> None:
        if full and call.operation == "write" and not call.path.endswith(".log"):
            raise OSError(errno.ENOSPC, "no room")

    clock = ManualClock(START_MS)
    files = FaultyFiles(before=before)
    engine = await open_file(tmp_path / "data", clock, files=files)
    await set_up(engine)
    await engine.commit(effects(0, await received(engine, 0)))
    large, refused = await received(engine, 1), await received(engine, 2)
    full = True
    waiting = asyncio.create_task(engine.commit(effects(1, large)))
    await turns(lambda: engine._journal._parked is not None)
    with pytest.raises(DiskFullError):
        await engine.commit(effects(2, refused))
    await soon(engine.aclose())
    with pytest.raises(JournalFailedError, match="no room"):
        await waiting
    full = False
    async with opened(tmp_path / "data", ManualClock(START_MS)) as engine:
        for number, handles in ((1, large), (2, refused)):
            await engine.commit(effects(number, handles))
    async with opened(tmp_path / "data", clock) as engine:
        assert await committed(engine, clock) == [0, 1, 2]


async def test_a_commit_of_nothing_but_duplicates_is_durable_when_it_returns(tmp_path: Path) -> None:
    """Nothing is logged for the messages; what else it holds is synced before it is acknowledged all the same."""
    files = FaultyFiles()
    async with opened(tmp_path / "data", files=files) as engine:
        await engine.tables.create_table(TableSchema("done", "id"))
        await engine.queues.create_queue("out.fifo", QueueAttributes(fifo=True))
        entry = SendEntry(b"x", group_id="g", deduplication_id="same")
        await engine.queues.send_messages("out.fifo", [entry])
        for number in range(3):
            write = Put({"id": number}, "done")
            await engine.commit(Effects(progress=(write,), sends=(("out.fifo", (entry, entry)),)))
            await after_crash(files, tmp_path / "data", tmp_path / f"{number}", lost)
    for number in range(3):
        async with opened(tmp_path / f"{number}") as engine:
            items = (await engine.tables.scan("done")).items
            assert [item["id"] for item in items] == list(range(number + 1))
            assert len(await engine.queues.peek_messages("out.fifo", 10)) == 1

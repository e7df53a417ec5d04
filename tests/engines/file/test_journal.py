"""Group commit: one frame and one sync for all who came meanwhile, and nobody is told before that sync has returned."""

from __future__ import annotations

import asyncio
import errno
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamkit.engines.base import Durability
from streamkit.engines.embedded.changes import ItemsWritten, MessagesReceived
from streamkit.engines.file import frame as framing
from streamkit.engines.file import journal as journal_module
from streamkit.engines.file import manifest, offload, recovery
from streamkit.engines.file.journal import Journal
from streamkit.engines.file.segment import Position, Segment, create_segment, segment_size
from streamkit.errors import ClosedError, JournalFailedError
from streamkit.testing.contract.terms import soon
from streamkit.testing.faults import Call, FaultyFiles

STORE = 99
FAST, SLOW = 0.0, 1.0
"""Seconds that a sync takes, as the journal believes at first: so it commits on the loop, or in a thread."""

DISK = FaultyFiles()
START = Position(1, framing.SEGMENT_HEADER_SIZE, 1)


def change(number: int, size: int = 0) -> ItemsWritten:
    return ItemsWritten(number, [""], [None], [bytes(size)])


@asynccontextmanager
async def a_journal(
    path: Path, files: FaultyFiles, durability: Durability = "fsync", sync_seconds: float = FAST
) -> AsyncIterator[Journal]:
    """A new journal; closed at the end, whatever became of it. Opening its segment is call 0 of ``files``."""
    (path / "journal").mkdir(parents=True)

    def first_segment() -> Segment:
        made = create_segment(DISK, str(path / "journal"), 1, segment_size(1), STORE)
        DISK.close(made.fd)
        made.fd = files.open(made.path)
        return made

    journal = Journal(
        files,
        str(path / "journal"),
        store_id=STORE,
        segment=await asyncio.to_thread(first_segment),
        next_number=1,
        durability=durability,
        check_owner=lambda: None,
        sync_seconds=sync_seconds,
    )
    try:
        yield journal
    finally:
        if not journal._closed:
            with suppress(JournalFailedError):
                await soon(journal.close())
        assert files.open_paths() == []


async def stored(path: Path) -> list[int]:
    """The numbers of all changes that a journal holds, in order."""
    known = manifest.Manifest(framing.FORMAT, STORE, START)
    found = await asyncio.to_thread(recovery.read_journal, DISK, str(path), known)
    DISK.close(found.segment.fd)
    return [each.table_id for each in found.changes if isinstance(each, ItemsWritten)]


async def commit(journal: Journal, number: int, size: int = 0) -> int:
    """Append a change and wait until it is durable."""
    journal.check()
    await journal.durable(journal.append(change(number, size)))
    return number


async def turns(condition: Callable[[], bool]) -> int:
    """Let the loop turn until something is so; how many turns it took."""
    for turn in range(1_000_000):
        if condition():
            return turn
        await asyncio.sleep(0)
    raise AssertionError("it never came")


class Gate:
    """Holds calls of one operation back in their thread until the test lets them through."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.waiting = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)

    def __call__(self, call: Call) -> None:
        if call.operation == self.operation:
            self.waiting.release()
            assert self.opened.acquire(timeout=30)

    async def reached(self) -> None:
        await turns(lambda: self.waiting.acquire(blocking=False))

    def let_through(self, count: int = 1) -> None:
        self.opened.release(count)


# ---- groups


@pytest.mark.parametrize("sync_seconds", [FAST, SLOW])
async def test_what_gathered_is_one_frame_and_one_sync(sync_seconds: float, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files, sync_seconds=sync_seconds) as journal:
        assert await asyncio.gather(*(commit(journal, number) for number in range(50))) == list(range(50))
        assert (files.counts()["write"], files.counts()["sync"]) == (1, 1)
        assert journal.durable_group == 1
    assert await stored(tmp_path) == list(range(50))


class RecordingFiles(FaultyFiles):
    """Notes when writes and syncs begin and have returned, and in which thread that was."""

    def __init__(self, before: Callable[[Call], object] = lambda call: None) -> None:
        super().__init__(before=before)
        self.events: list[str] = []
        self.threads: list[int] = []

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self.threads.append(threading.get_ident())
        self.events.append("write begins")
        super().write(fd, data, offset)
        self.events.append("write returned")

    def sync(self, fd: int) -> None:
        self.events.append("sync begins")
        super().sync(fd)
        self.events.append("sync returned")


@pytest.mark.parametrize("sync_seconds", [FAST, SLOW])
async def test_acknowledged_only_after_a_sync_that_began_after_the_write(sync_seconds: float, tmp_path: Path) -> None:
    files = RecordingFiles()
    async with a_journal(tmp_path, files, sync_seconds=sync_seconds) as journal:
        for number in range(5):
            files.events.clear()
            acknowledged = asyncio.create_task(commit(journal, number))
            acknowledged.add_done_callback(lambda _: files.events.append("acknowledged"))
            await acknowledged
            await asyncio.sleep(0)
            assert files.events == [
                "write begins",
                "write returned",
                "sync begins",
                "sync returned",
                "acknowledged",
            ]
            assert (files.threads[-1] == threading.get_ident()) == (sync_seconds == FAST)


async def test_who_joins_during_a_commit_waits_for_the_next(tmp_path: Path) -> None:
    """Also who joins while the sync runs: it began before what they wrote."""
    gate = Gate("sync")
    files = FaultyFiles(before=gate)
    async with a_journal(tmp_path, files, sync_seconds=SLOW) as journal:
        first = asyncio.create_task(commit(journal, 1))
        await gate.reached()
        second, third = asyncio.create_task(commit(journal, 2)), asyncio.create_task(commit(journal, 3))
        gate.let_through()
        await soon(first)
        await gate.reached()
        assert not second.done()
        assert not third.done()
        gate.let_through()
        await soon(asyncio.gather(second, third))
        assert (files.counts()["write"], files.counts()["sync"]) == (2, 2)
    assert await stored(tmp_path) == [1, 2, 3]


async def test_the_loop_goes_on_while_a_sync_hangs(tmp_path: Path) -> None:
    """It turns, and what is durable already is answered."""
    gate = Gate("sync")
    async with a_journal(tmp_path, FaultyFiles(before=gate), sync_seconds=SLOW) as journal:
        gate.let_through()
        await commit(journal, 1)
        await gate.reached()
        hanging = asyncio.create_task(commit(journal, 2))
        await gate.reached()
        turned = itertools.count()
        await turns(lambda: next(turned) >= 100)
        await journal.durable(1)
        assert not hanging.done()
        gate.let_through()
        await soon(hanging)


async def test_a_busy_loop_does_not_starve_the_thread_that_commits(tmp_path: Path) -> None:
    """The GIL trap: a thread that comes back from a sync loses the race for the GIL against a loop that never rests.

    Counted in turns of the loop and not in seconds: it gets the GIL within a few, where it took thousands.
    """
    turned = 0
    busy = True

    async def spin() -> None:
        nonlocal turned
        while busy:
            turned += 1
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    async with a_journal(tmp_path, FaultyFiles(), sync_seconds=SLOW) as journal:
        needed = []
        for number in range(50):
            before = turned
            await commit(journal, number)
            needed.append(turned - before)
            journal._sync_seconds = SLOW
    busy = False
    await spinning
    assert sorted(needed)[len(needed) // 2] < 100


async def test_a_slow_disk_is_synced_in_a_thread_and_a_fast_one_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it turns out to be, again and again."""
    now = 0.0
    took = 0.02

    def before(call: Call) -> None:
        nonlocal now
        if call.operation == "sync":
            now += took

    monkeypatch.setattr(journal_module, "time", SimpleNamespace(perf_counter=lambda: now))
    files = RecordingFiles(before)
    async with a_journal(tmp_path, files) as journal:
        took = 10.0
        await commit(journal, 0)
        took = 0.0
        for number in range(3):
            await commit(journal, number)
        on_the_loop = [thread == threading.get_ident() for thread in files.threads]
        assert on_the_loop == [True] * 4, "one slow sync says little"
        took = 0.02
        for number in range(30):
            await commit(journal, number)
        on_the_loop = [thread == threading.get_ident() for thread in files.threads]
        assert on_the_loop[-20:] == [False] * 20, "it is slow again and again"
        took = 0.0
        for number in range(40):
            await commit(journal, number)
        assert files.threads[-1] == threading.get_ident()


async def test_a_large_group_is_written_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_INLINE_BYTES", 1_000)
    files = RecordingFiles()
    async with a_journal(tmp_path, files) as journal:
        await commit(journal, 1, 500)
        await commit(journal, 2, 2_000)
    inline = [thread == threading.get_ident() for thread in files.threads]
    assert (inline[0], inline.count(True)) == (True, 1)


async def test_a_cancelled_waiter_takes_nothing_with_it(tmp_path: Path) -> None:
    gate = Gate("sync")
    async with a_journal(tmp_path, FaultyFiles(before=gate), sync_seconds=SLOW) as journal:
        waiters = [asyncio.create_task(commit(journal, number)) for number in range(3)]
        await gate.reached()
        waiters[1].cancel()
        gate.let_through()
        await soon(asyncio.wait(waiters))
        assert [waiter.cancelled() for waiter in waiters] == [False, True, False]
    assert await stored(tmp_path) == [0, 1, 2]


async def test_a_callback_that_fails_keeps_nobody_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    def fail() -> None:
        raise RuntimeError("a bug")

    async with a_journal(tmp_path, FaultyFiles()) as journal:
        journal.append(change(1), fail)
        group = journal.append(change(2), lambda: called.append(2))
        await soon(journal.durable(group))
    assert called == [2]
    assert "a callback of a durable change failed" in caplog.text


# ---- who comes alone


async def come_alone(journal: Journal, files: FaultyFiles) -> None:
    """Let so many commits pass, one after the other, that the journal takes the next caller to be alone."""
    while journal.gathers:
        await commit(journal, 0)
    files.calls.clear()


def commits_of(files: FaultyFiles) -> int:
    """How many there were since: the next segment, which is made beside them, has another name yet."""
    return sum(call.operation == "sync" and call.path.endswith(".log") for call in files.calls)


async def test_who_comes_alone_is_on_disk_before_the_loop_turns(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        await come_alone(journal, files)
        for number in range(1, 4):
            waiting = journal.durable(journal.append(change(number)))
            waiting.send(None)
            assert journal.durable_group == journal.group - 1
            assert commits_of(files) == number
            waiting.close()
    assert (await stored(tmp_path))[-3:] == [1, 2, 3]


async def test_on_a_slow_disk_nobody_is_alone(tmp_path: Path) -> None:
    """Who came a moment later would have to wait for two commits."""
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        for number in range(20):
            journal._sync_seconds = SLOW
            await commit(journal, number)
            assert journal.gathers
        waiting = [asyncio.create_task(commit(journal, number)) for number in range(20, 28)]
        files.calls.clear()
        await asyncio.gather(*waiting)
        assert commits_of(files) == 1


async def test_who_comes_alone_again_and_again_starves_nobody(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        await come_alone(journal, files)
        passed = 0

        async def other() -> None:
            nonlocal passed
            while True:
                await asyncio.sleep(0)
                passed += 1

        task = asyncio.create_task(other())
        for number in range(50):
            await commit(journal, number)
        task.cancel()
        assert passed >= 49
        assert commits_of(files) == 50


async def test_who_is_alone_no_more_goes_in_step_with_those_who_came(tmp_path: Path) -> None:
    """Of those who come in one turn, one alone has a commit for itself, and only the first time."""
    files = FaultyFiles()
    commits: set[tuple[int, int]] = set()
    async with a_journal(tmp_path, files) as journal:
        await come_alone(journal, files)

        async def several() -> None:
            for step in range(5):
                group = journal.append(change(step))
                await journal.durable(group)
                commits.add((step, group))

        await asyncio.gather(*(several() for _ in range(8)))
        assert commits_of(files) == len(commits) == 1 + 5
        assert journal.gathers
    assert sorted((await stored(tmp_path))[-40:]) == sorted(list(range(5)) * 8)


async def test_what_was_left_for_the_next_turn_is_not_committed_twice(tmp_path: Path) -> None:
    """Nor does anybody wait for what came in the turn that a lone caller leaves to others."""
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        await come_alone(journal, files)
        alone = asyncio.create_task(commit(journal, 1))
        journal.soon(lambda: None)
        late = asyncio.create_task(commit(journal, 2))
        assert list(await asyncio.gather(alone, late)) == [1, 2]
        assert await commit(journal, 3) == 3
        assert commits_of(files) == 3
    assert (await stored(tmp_path))[-3:] == [1, 2, 3]


async def test_who_comes_alone_hears_of_a_failure(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        await come_alone(journal, files)
        files.fail[len(files.calls)] = errno.EIO
        for _ in range(2):
            with pytest.raises(JournalFailedError):
                await soon(journal.durable(journal.append(change(1))))


async def test_a_lone_caller_who_is_cancelled_leaves_others_alone(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        await come_alone(journal, files)
        cancelled = asyncio.create_task(commit(journal, 1))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not journal.gathers
        await commit(journal, 2)
    assert (await stored(tmp_path))[-2:] == [1, 2]


# ---- failures


@pytest.mark.parametrize("sync_seconds", [FAST, SLOW])
async def test_a_failing_call_fails_every_waiter_and_all_that_come_after(sync_seconds: float, tmp_path: Path) -> None:
    """Whichever call it is: who was acknowledged is stored, and everybody else gets the typed error with its cause."""
    failures = 0
    for at in itertools.count(1):
        path = tmp_path / f"{at}"
        files = FaultyFiles(fail={at: errno.EIO})
        acknowledged: list[int] = []
        failed = False
        async with a_journal(path, files, sync_seconds=sync_seconds) as journal:
            for wave in range(8):
                wanted = [wave * 10 + number for number in range(3)]
                answers = await soon(
                    asyncio.gather(*(commit(journal, n, 1_500) for n in wanted), return_exceptions=True)
                )
                for number, answer in zip(wanted, answers, strict=True):
                    if failed:
                        assert isinstance(answer, JournalFailedError)
                    elif isinstance(answer, JournalFailedError):
                        assert isinstance(answer.__cause__, OSError)
                    else:
                        assert answer == number
                        acknowledged.append(number)
                if any(isinstance(answer, JournalFailedError) for answer in answers):
                    assert not set(acknowledged) & set(wanted), "a group fails as one"
                    failed = True
            if acknowledged:
                await journal.durable(1)
            if failed:
                with pytest.raises(JournalFailedError):
                    journal.check()
                with pytest.raises(JournalFailedError):
                    await soon(journal.cut())
                with pytest.raises(JournalFailedError):
                    await soon(journal.synced())
        found = await stored(path)
        assert found[: len(acknowledged)] == acknowledged, f"{files.calls[at]} failed"
        failures += failed
        if len(files.calls) <= at:
            break
    assert failures > 10


async def test_the_error_that_sticks_is_a_new_one_each_time(tmp_path: Path) -> None:
    """One that is raised again and again would collect tracebacks, and all that hangs on them."""
    async with a_journal(tmp_path, FaultyFiles(fail={1: errno.EIO})) as journal:
        errors = []
        for _ in range(3):
            with pytest.raises(JournalFailedError, match="Input/output error") as caught:
                await commit(journal, 1)
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 3
        assert errors[0].__cause__ is errors[1].__cause__
        assert isinstance(errors[0].__cause__, OSError)


async def test_what_cannot_be_encoded_fails_like_a_write(tmp_path: Path) -> None:
    """Memory is ahead of the disk then, so nothing more can be promised. The stores see to it that it never comes."""
    async with a_journal(tmp_path, FaultyFiles()) as journal:
        await commit(journal, 1)
        journal.append(ItemsWritten(2, [object()], [None], [None]))
        with pytest.raises(JournalFailedError) as caught:
            await soon(journal.durable(journal.append(change(3))))
        assert isinstance(caught.value.__cause__, TypeError)
    assert await stored(tmp_path) == [1]


async def test_no_thread_to_be_had_is_a_failure_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_journal(tmp_path, FaultyFiles(), sync_seconds=SLOW) as journal:

        def submit(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(ThreadPoolExecutor, "submit", submit)
            with pytest.raises(JournalFailedError, match="can't start new thread"):
                await soon(commit(journal, 1))


# ---- durability


class Timers:
    """Instead of the loop's own, so that 50 ms pass when the test says so."""

    def __init__(self, journal: Journal) -> None:
        self.set: list[Callable[[], object]] = []
        loop = asyncio.get_running_loop()
        later = SimpleNamespace(create_future=loop.create_future, call_soon=loop.call_soon, call_later=self._call_later)
        journal._loop = later  # type: ignore[assignment]

    def _call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> SimpleNamespace:
        assert seconds == 0.05
        self.set.append(partial(callback, *args))
        return SimpleNamespace(cancel=self.set.clear)

    def fire(self) -> None:
        (callback,) = self.set
        self.set.clear()
        callback()


async def test_interval_acknowledges_at_once_and_syncs_every_interval(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files, "interval") as journal:
        timers = Timers(journal)
        for syncs in range(3):
            for number in range(10):
                await commit(journal, number)
            assert files.counts()["sync"] == syncs
            assert len(timers.set) == 1
            timers.fire()
            await turns(lambda: journal._synced_group == journal.durable_group)
            assert files.counts()["sync"] == syncs + 1
        assert timers.set == [], "an idle journal sets no timer"
        await journal.synced()
        assert files.counts()["sync"] == 3
        await commit(journal, 99)
    assert files.counts()["sync"] == 4, "the close syncs the rest"
    assert timers.set == []


async def test_interval_syncs_between_two_commits_of_a_busy_journal(tmp_path: Path) -> None:
    """A sync waits for the commit in flight, and not for a moment in which there is none."""
    gate = Gate("write")
    files = FaultyFiles(before=gate)
    async with a_journal(tmp_path, files, "interval") as journal:
        timers = Timers(journal)
        gate.let_through(1)
        await commit(journal, 1)
        await gate.reached()
        journal._sync_seconds = SLOW
        second = asyncio.create_task(commit(journal, 2))
        await gate.reached()
        third = asyncio.create_task(commit(journal, 3))
        await asyncio.sleep(0)
        timers.fire()
        gate.let_through(1)
        await soon(second)
        await turns(lambda: files.counts()["sync"] == 1)
        gate.let_through(1)
        await soon(third)
        assert [call.operation for call in files.calls[-4:]] == ["write", "write", "sync", "write"]


async def receive(journal: Journal, number: int) -> None:
    await journal.durable(journal.append(MessagesReceived(1, 0, 30_000, [number], [], 0, 0)))


async def test_a_group_of_receives_alone_is_synced_with_what_follows(tmp_path: Path) -> None:
    """With durability "fsync", where everything else is synced first."""
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        timers = Timers(journal)
        await receive(journal, 1)
        await receive(journal, 2)
        assert files.counts()["sync"] == 0
        assert len(timers.set) == 1
        await commit(journal, 1)
        assert files.counts()["sync"] == 1
        # One group, one sync, whatever else is in it.
        await asyncio.gather(receive(journal, 3), commit(journal, 2))
        assert files.counts()["sync"] == 2
        timers.fire()
        assert timers.set == [], "all of it is synced, and an idle journal sets no timer"
        assert files.counts()["sync"] == 2


async def test_a_receive_that_nothing_follows_is_synced_soon(tmp_path: Path) -> None:
    """At the end of the interval that begins once what was written when this one began is synced."""
    files = FaultyFiles()
    async with a_journal(tmp_path, files) as journal:
        timers = Timers(journal)
        await receive(journal, 1)
        await commit(journal, 1)
        await receive(journal, 2)
        timers.fire()
        assert files.counts()["sync"] == 1
        assert len(timers.set) == 1
        timers.fire()
        await turns(lambda: journal._synced_group == journal.durable_group)
        assert files.counts()["sync"] == 2
        await receive(journal, 3)
        await journal.synced()
        assert files.counts()["sync"] == 3
        await receive(journal, 4)
    assert files.counts()["sync"] == 4, "the close syncs the rest"


async def test_a_receive_is_written_on_a_slow_disk_too(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files, sync_seconds=SLOW) as journal:
        Timers(journal)
        await receive(journal, 1)
        assert [call.operation for call in files.calls[1:]] == ["write"]
        assert journal._sync_seconds == SLOW, "what was not synced says nothing about the disk"


async def test_memory_syncs_at_the_close_alone(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files, "memory") as journal:
        timers = Timers(journal)
        for number in range(20):
            await commit(journal, number)
        assert timers.set == []
        assert files.counts()["sync"] == 0
    assert files.counts()["sync"] == 1


@pytest.mark.parametrize("durability", ["interval", "memory"])
async def test_synced_is_on_disk_whatever_the_durability(durability: Durability, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with a_journal(tmp_path, files, durability) as journal:
        Timers(journal)
        for number in range(5):
            await commit(journal, number)
        await asyncio.gather(journal.synced(), journal.synced())
        assert files.counts()["sync"] == 1
        await asyncio.to_thread(files.after_crash, str(tmp_path), str(tmp_path / "after"), lambda: False)
        assert await stored(tmp_path / "after") == [0, 1, 2, 3, 4]


async def test_a_failing_sync_in_the_background_stops_the_journal(tmp_path: Path) -> None:
    def before(call: Call) -> None:
        if call.operation == "sync":
            raise OSError(errno.EIO, "gone")

    async with a_journal(tmp_path, FaultyFiles(before=before), "interval") as journal:
        timers = Timers(journal)
        await commit(journal, 1)
        timers.fire()
        await turns(lambda: journal._failure is not None)
        with pytest.raises(JournalFailedError, match="gone"):
            await commit(journal, 2)


# ---- cuts, segments, the end


async def test_a_cut_lies_between_what_came_before_and_after(tmp_path: Path) -> None:
    gate = Gate("sync")
    async with a_journal(tmp_path, FaultyFiles(before=gate), sync_seconds=SLOW) as journal:
        assert await soon(journal.cut()) == START
        in_flight = asyncio.create_task(commit(journal, 1))
        await gate.reached()
        first, twice = journal.cut(), journal.cut()
        before = journal.append(change(2))
        second = journal.cut()
        after = journal.append(change(3))
        assert before < after
        assert not first.done()
        abandoned = journal.cut()
        abandoned.cancel()
        gate.let_through(3)
        await soon(in_flight)
        await soon(journal.durable(after))
        places = [await soon(first), await soon(twice), await soon(second), await soon(journal.cut())]
        assert [place.number for place in places] == [2, 2, 3, 4]
        assert places[0] == places[1]
        assert [place.offset for place in places] == sorted(place.offset for place in places)


@pytest.mark.parametrize("sync_seconds", [FAST, SLOW])
async def test_segments_follow_each_other(sync_seconds: float, tmp_path: Path) -> None:
    """Each made ahead of need; a frame larger than any of them gets one of its size."""
    sizes = [*[3_000] * 12, 100_000, 10, *[3_000] * 12, 20_000]
    files = FaultyFiles()
    async with a_journal(tmp_path, files, sync_seconds=sync_seconds) as journal:
        for number, size in enumerate(sizes):
            await commit(journal, number, size)
        place = await journal.cut()
        assert place.segment > 4
        assert await stored(tmp_path) == list(range(len(sizes)))
        await asyncio.to_thread(files.after_crash, str(tmp_path), str(tmp_path / "after"), lambda: False)
        assert await stored(tmp_path / "after") == list(range(len(sizes)))
        await journal.drop_before(place)
        left = [int(name.name.removesuffix(".log")) for name in (tmp_path / "journal").glob("*.log")]
        assert min(left) == place.segment


async def test_a_large_group_waits_for_the_segment_that_is_being_made(tmp_path: Path) -> None:
    """There are never two of one number."""
    held = threading.Event()
    made = 0

    def before(call: Call) -> None:
        nonlocal made
        if call.operation == "open" and call.path.endswith("2.log.new"):
            made += 1
            assert held.wait(30)

    async with a_journal(tmp_path, FaultyFiles(before=before)) as journal:
        await commit(journal, 1, 9_000)
        await turns(lambda: made == 1)
        waiting = asyncio.create_task(commit(journal, 2, 9_000))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        held.set()
        await soon(waiting)
        assert made == 1
    assert await stored(tmp_path) == [1, 2]


async def test_writers_wait_for_room_and_readers_do_not(tmp_path: Path) -> None:
    async with a_journal(tmp_path, FaultyFiles()) as journal:
        await commit(journal, 1)
        journal.room.clear()
        await soon(journal.durable(1))
        writer = asyncio.create_task(commit(journal, 2))
        await turns(lambda: journal.durable_group == 2)
        await asyncio.sleep(0)
        assert not writer.done()
        journal.room.set()
        await soon(writer)


async def test_the_close_makes_durable_what_was_taken(tmp_path: Path) -> None:
    gate = Gate("sync")
    async with a_journal(tmp_path, FaultyFiles(before=gate), sync_seconds=SLOW) as journal:
        writers = [asyncio.create_task(commit(journal, 1))]
        await gate.reached()
        writers.append(asyncio.create_task(commit(journal, 2)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(journal.close())
        await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            journal.check()
        gate.let_through(2)
        await soon(closing)
        assert [writer.result() for writer in writers] == [1, 2]
    assert await stored(tmp_path) == [1, 2]


# ---- work in threads


async def test_work_in_a_thread_is_waited_for_when_it_is_cancelled() -> None:
    """A thread cannot be stopped, so what it took must be known before anybody goes on."""
    begun, finish = threading.Event(), threading.Event()
    executor = ThreadPoolExecutor(1, thread_name_prefix="streamkit-test")

    def work() -> None:
        begun.set()
        assert finish.wait(30)

    async def wait() -> None:
        await offload.whole(offload.start(executor, work))

    task = asyncio.create_task(wait())
    await turns(begun.is_set)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    finish.set()
    await asyncio.wait([task])
    assert task.cancelled()
    executor.shutdown()

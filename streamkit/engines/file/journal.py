"""The journal: is it on disk? One frame, one write and one sync per commit group.

A group of receives alone is written and not synced: the next sync, within 100 ms, takes it along (docs/adr/0018).
What is appended while a commit is in flight is the next group: no timer, no lingering. Who comes alone, call by call,
does not wait for a turn of the loop in which others might come. A commit runs on the event loop while the disk is fast,
else, and if it is large, in a thread that the loop lends the GIL (docs/adr/0003).
HOT: `python -m benchmarks --only append`, `--only puts`, `--only queue`, `--only table`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamkit.engines.base import Durability
from streamkit.engines.embedded.changes import Change, plain
from streamkit.engines.embedded.log import Answer, give
from streamkit.engines.file import frame as framing
from streamkit.engines.file import offload
from streamkit.engines.file.commit_group import CommitGroup, Company, fail
from streamkit.engines.file.files import Files
from streamkit.engines.file.segment import NextSegment, NoRoomError, Position, Segment, close_quietly, retire_segments
from streamkit.errors import ClosedError, DiskFullError, JournalFailedError
from streamkit.limits import MIB

_SLOW_SYNC_SECONDS = 0.0005
_INLINE_BYTES = MIB
_INTERVAL_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_encode = msgspec.msgpack.Encoder(enc_hook=plain).encode


class Journal:
    """Implements ``Log`` on the segments of one directory. Belongs to one event loop."""

    def __init__(
        self,
        files: Files,
        directory: str,
        *,
        store_id: int,
        segment: Segment,
        next_number: int,
        durability: Durability,
        check_owner: Callable[[], None],
        sync_seconds: float,
        bytes_since_cut: int = 0,
    ) -> None:
        self.group = next_number
        self.durable_group = self._synced_group = next_number - 1
        self.bytes_since_cut = bytes_since_cut
        """Of the journal, and what its items take in memory beside them: small ones take several times as much."""
        self.on_growth: Callable[[], None] = lambda: None
        """Called after every commit."""
        self.room = asyncio.Event()
        self.room.set()
        self.check_owner = check_owner
        self._files, self._directory = files, directory
        self._store_id, self._segment = store_id, segment
        self._durability = durability
        self._loop = asyncio.get_running_loop()
        self._gathering = CommitGroup()
        self._waiting: list[CommitGroup] = []
        self._preparing: list[Callable[[], None]] = []
        self._in_flight = self._sync_wanted = self._closed = False
        self._scheduled: asyncio.Handle | None = None
        self._company = Company()
        self._parked: asyncio.TimerHandle | None = None
        """Set while a group waits for room that its segment, and the disk, did not have."""
        self._failure: BaseException | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._sync_waiters: list[asyncio.Future[None]] = []
        self._sync_seconds = sync_seconds
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="streamkit-journal")
        self._next = NextSegment(files, directory, store_id, self._executor)

    # ---- the log

    @property
    def gathers(self) -> bool:
        """See Log."""
        return self._scheduled is not None or self._in_flight or not self._company.is_alone()

    def check(self) -> None:
        """See Log. Refuses early when the disk is full, while nothing has changed yet."""
        if self._closed:
            raise ClosedError("the engine")
        if self._failure is not None:
            raise self._failed()
        self.check_owner()
        # The rest of the segment is kept for what is being taken now; its blocks exist, so it cannot run out.
        if self._next.lacks_room(self._segment.number + 1) and (self._parked or self._segment.is_nearly_full):
            raise DiskFullError(self._directory)

    def append(self, change: Change, on_durable: Callable[[], None] | None = None) -> int:
        """See Log."""
        self._gathering.add(change, on_durable)
        self._schedule()
        return self.group

    def weigh(self, size: int) -> None:
        """See Log."""
        self.bytes_since_cut += size

    async def durable(self, group: int) -> None:
        """See Log."""
        if group <= self.durable_group:
            if self._company.passing.due():
                await asyncio.sleep(0)
            return
        if self._scheduled is not None and self._company.is_alone():
            self._scheduled.cancel()
            self._commit()
        if group <= self.durable_group:
            await self._company.turn()
        elif self._failure is not None:
            raise self._failed()
        else:
            self._group_of(group).waiters.append(waiter := self._loop.create_future())
            await waiter
        if not self.room.is_set():
            await self.room.wait()

    def soon(self, prepare: Callable[[], None]) -> None:
        """See Log."""
        self._preparing.append(prepare)
        if self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._commit)

    def prepare(self) -> None:
        """See Log."""
        while self._preparing:
            self.check_owner()
            self._preparing.pop(0)()

    def answer(self, group: int, answers: Iterable[Answer]) -> None:
        """See Log."""
        if group <= self.durable_group:
            give(answers)
        elif self._failure is not None:
            fail((waiter for waiter, _ in answers), self._failed)
        else:
            self._group_of(group).answers.extend(answers)

    def cut(self) -> asyncio.Future[Position]:
        """End the gathering group. The future gets the place between what was appended before and after this call."""
        cut: asyncio.Future[Position] = self._loop.create_future()
        if self._failure is not None:
            cut.set_exception(self._failed())
            return cut
        self.bytes_since_cut = 0
        if self._gathering.changes:
            self._end_group()
        if self._waiting:
            self._waiting[-1].cuts.append(cut)
        else:
            cut.set_result(self._position())
        return cut

    async def synced(self) -> None:
        """Return once all that is durable now is on disk, whatever the durability; or raise ``JournalFailedError``."""
        if self._failure is not None:
            raise self._failed()
        if self._synced_group >= self.durable_group:
            return
        self._sync_waiters.append(waiter := self._loop.create_future())
        self._want_sync()
        await waiter

    async def drop_before(self, position: Position) -> None:
        """Let go of the segments that end before a position: all of it is settled."""
        where, before = (self._files, self._directory), position.segment
        await offload.whole(offload.start(self._executor, lambda: retire_segments(*where, before), background=True))

    def refuse(self) -> None:
        """Take nothing more: the engine closes."""
        self.prepare()
        self._closed = True
        self._unpark()

    async def close(self) -> None:
        """Make durable what was taken, and let go of the files.

        Raises:
            JournalFailedError: not all of it is durable.
        """
        self.refuse()
        try:
            if self._failure is None and (self._gathering.changes or self._waiting):
                await self.durable(self.group if self._gathering.changes else self.group - 1)
            if self._failure is None:
                await self.synced()
        finally:
            if self._sync_timer is not None:
                self._sync_timer.cancel()
            self._sync_wanted = False
            try:
                await self._next.close()
            finally:
                self._executor.shutdown()
                close_quietly(self._files, self._segment)

    def _position(self) -> Position:
        return Position(self._segment.number, self._segment.end, self.durable_group + 1)

    def _group_of(self, number: int) -> CommitGroup:
        # The last of those that wait is number ``self.group - 1``.
        return self._gathering if number == self.group else self._waiting[number - self.group]

    def _end_group(self) -> None:
        self._waiting.append(self._gathering)
        self._gathering = CommitGroup()
        self.group += 1

    def _schedule(self) -> None:
        if self._scheduled is None and not self._in_flight and self._failure is None:
            self._scheduled = self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        # It still counts as scheduled: what this appends is committed now, or with what is under way.
        self.prepare()
        self._scheduled = None
        if self._in_flight or self._failure is not None:
            return None
        if self._sync_wanted:
            return self._sync_written()
        if self._parked or not (self._waiting or self._gathering.changes):
            return None
        if self._next.making is not None and self._segment.is_nearly_full:
            # Whether the next segment has room must be known while this one has.
            self._in_flight = True
            return self._next.making.add_done_callback(self._resume)
        if not self._waiting:
            self._end_group()
        try:
            payload = _encode(self._waiting[0].changes)
        except Exception as error:
            return self._fail(error)
        size = len(payload) + framing.OVERHEAD
        synced = self._durability == "fsync" and self._waiting[0].synced
        self._in_flight = True
        if self._segment.end + size > self._segment.size:
            self._commit_in_next(payload, size, synced)
        elif size <= _INLINE_BYTES and self._sync_seconds < _SLOW_SYNC_SECONDS:
            try:
                written = self._write(self._segment, payload, synced)
            except Exception as error:
                self._fail(error)
            else:
                self._committed(written)
        else:
            segment = self._segment
            self._finish(offload.start(self._executor, lambda: self._write(segment, payload, synced)))
        return None

    def _resume(self, _: object) -> None:
        self._in_flight = False
        self._schedule()

    def _commit_in_next(self, payload: bytes, size: int, synced: bool) -> None:
        if self._next.making is not None:
            self._next.making.add_done_callback(lambda _: self._commit_in_next(payload, size, synced))
            return
        self._next.claim(self._segment.number + 1)

        def write() -> int:
            self._roll(size)
            return self._write(self._segment, payload, synced)

        self._finish(offload.start(self._executor, write))

    def _park(self, error: NoRoomError) -> None:
        """Nothing was written, so nothing is lost: who waits goes on waiting, and who comes is refused."""
        self._in_flight = False
        if self._closed:
            self._fail(error.__cause__ or error)
        else:
            self._next.refused(self._segment.number + 1)
            self._parked = self._loop.call_later(_RETRY_SECONDS, self._unpark)

    def _unpark(self) -> None:
        if self._parked is not None:
            self._parked.cancel()
            self._parked = None
        self._schedule()

    def _roll(self, size: int) -> None:
        """Go on in the next segment, which gets room for ``size`` bytes."""
        full = self._segment
        following = self._next.take(full.number + 1, size)
        try:
            self._files.write_parts(full.fd, self._frame(framing.SEAL, full, b""), full.end)
            # No frame is in a segment before all of the segment before it is on disk, whatever the durability.
            self._files.sync(full.fd)
        except BaseException:
            self._next.give_back(following)
            raise
        self._synced_group = self.durable_group
        self._segment = following
        close_quietly(self._files, full)

    def _frame(self, kind: int, segment: Segment, payload: bytes) -> tuple[bytes, bytes, bytes]:
        what = (kind, segment.number, self.durable_group + 1, payload)
        unsynced = self.durable_group - self._synced_group
        behind = b"" if kind == framing.SEAL else framing.TERMINATOR
        return framing.frame_parts(*what, store_id=self._store_id, unsynced=unsynced, behind=behind)

    def _write(self, segment: Segment, payload: bytes, synced: bool) -> int:
        parts = self._frame(framing.DATA if self._durability == "fsync" else framing.WRITTEN, segment, payload)
        self._files.write_parts(segment.fd, parts, segment.end)
        if synced:
            # INVARIANT: test_acknowledged_only_after_a_sync_that_began_after_the_write
            before = time.perf_counter()
            self._files.sync(segment.fd)
            # Slow is what is slow again and again: one sync that met with other work says little.
            took = min(time.perf_counter() - before, 2 * _SLOW_SYNC_SECONDS)
            self._sync_seconds += (took - self._sync_seconds) / 8
            self._synced_group = self.durable_group + 1
        elif self._durability != "fsync":
            self._sync_seconds = 0.0
        segment.end += (size := len(parts[0]) + len(payload) + len(parts[2]) - len(framing.TERMINATOR))
        return size

    def _finish(self, work: asyncio.Future[int]) -> None:
        def done(finished: asyncio.Future[int]) -> None:
            if (error := finished.exception()) is None:
                self._committed(finished.result())
            elif isinstance(error, NoRoomError):
                self._park(error)
            else:
                self._fail(error)

        work.add_done_callback(done)

    def _committed(self, size: int) -> None:
        group = self._waiting.pop(0)
        self._company.committed(group, is_fast=self._sync_seconds < _SLOW_SYNC_SECONDS)
        self.durable_group += 1
        self.bytes_since_cut += size
        self._in_flight = False
        group.committed(self._position)
        if self._waiting or self._gathering.changes or self._sync_wanted:
            self._schedule()
        if self._segment.is_begun and not self._closed:
            self._next.prepare(self._segment.number + 1)
        if self._synced_group < self.durable_group and self._sync_timer is None:
            self._arm_sync()
        self.on_growth()

    def _arm_sync(self) -> None:
        if self._durability != "memory" and not self._closed:
            self._sync_timer = self._loop.call_later(_INTERVAL_SECONDS, self._sync_due, self.durable_group)

    def _sync_due(self, group: int) -> None:
        self._sync_timer = None
        if self._synced_group < group:
            self._want_sync()
        elif self._synced_group < self.durable_group:
            self._arm_sync()  # Another commit took those along, and there are new ones.

    def _want_sync(self) -> None:
        self._sync_wanted = True
        self._schedule()

    def _sync_written(self) -> None:
        self._sync_wanted = False
        self._in_flight = True
        waiters, self._sync_waiters = self._sync_waiters, []
        number, segment = self.durable_group, self._segment

        def done(finished: asyncio.Future[None]) -> None:
            self._in_flight = False
            if (error := finished.exception()) is not None:
                self._sync_waiters.extend(waiters)
                self._fail(error)
                return
            self._synced_group = number
            give((waiter, None) for waiter in waiters)
            self._schedule()

        offload.start(self._executor, lambda: self._files.sync(segment.fd)).add_done_callback(done)

    def _fail(self, error: BaseException) -> None:
        """A failed write or sync is never retried: what the disk holds is unknown until it is read again."""
        self._failure = error
        self._in_flight = False
        self._unpark()
        self.room.set()
        for group in (*self._waiting, self._gathering):
            fail(group.all_waiting(), self._failed)
        fail(self._sync_waiters, self._failed)

    def _failed(self) -> JournalFailedError:
        # Each a new one: an error that is raised again and again collects tracebacks.
        assert self._failure is not None
        return JournalFailedError(self._segment.path, self._failure)

"""The journal: is it on disk? One frame, one write and one sync per commit group.

Everything that is appended while a commit is in flight is the next group: no timer, no lingering. A commit runs inline
on the event loop while the disk is fast, and in a thread that the loop lends the GIL while it is slow or the group is
large, so that neither a starved thread nor a slow disk stops the loop (docs/adr/0003).

HOT: `python -m benchmarks --only append`, `--only puts`, `--only queue`, `--only table`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamkit.engines.base import Durability
from streamkit.engines.embedded.changes import Change
from streamkit.engines.file import frame as framing
from streamkit.engines.file import offload
from streamkit.engines.file.files import Files, fill_with_zeros
from streamkit.errors import ClosedError, DiskFullError, JournalFailedError, StorageError
from streamkit.limits import MIB

FIRST_SEGMENT_BYTES = 4 * MIB
LARGEST_SEGMENT_BYTES = 64 * MIB
_FRAME_OVERHEAD = framing.FRAME_HEADER_SIZE + 8 + framing.FRAME_HEADER_SIZE
"""Header and padding, and room for the seal that may have to follow."""
_SLOW_SYNC_SECONDS = 0.0005
_INLINE_BYTES = MIB
_INTERVAL_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_encode = msgspec.msgpack.Encoder().encode


def segment_path(directory: str, number: int) -> str:
    """Where a segment is."""
    return os.path.join(directory, f"{number:012d}.log")


class Segment(msgspec.Struct):
    """A journal file that is open for writing."""

    number: int
    path: str
    fd: int
    size: int
    end: int = framing.SEGMENT_HEADER_SIZE


def create_segment(files: Files, directory: str, number: int, size: int, store_id: int) -> Segment:
    """A new segment, filled with zeros, whole and durable before its name exists."""
    path = segment_path(directory, number)
    temporary = path + ".new"
    fd = files.open(temporary, create=True)
    try:
        fill_with_zeros(files, fd, size)
        files.write(fd, framing.segment_header(number, store_id), 0)
        files.sync(fd)
        files.rename(temporary, path)
        files.sync_directory(directory)
    except BaseException:
        files.close(fd)
        files.remove(temporary)
        raise
    return Segment(number, path, fd, size)


class Position(msgspec.Struct, frozen=True):
    """A place between two frames of the journal."""

    segment: int
    offset: int
    number: int
    """Of the frame that begins here."""


class _Group:
    """Changes that commit as one frame."""

    __slots__ = ("callbacks", "changes", "cut", "waiters")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.callbacks: list[Callable[[], None]] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.cut: asyncio.Future[Position] | None = None


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
        self.durable_group = next_number - 1
        self.bytes_since_cut = bytes_since_cut
        self.on_growth: Callable[[], None] = lambda: None
        """Called after every commit."""
        self.room = asyncio.Event()
        """Clear while so much waits to be settled that writers must wait too."""
        self.room.set()
        self._files = files
        self._directory = directory
        self._store_id = store_id
        self._segment = segment
        self._spare: Segment | None = None
        self._spare_task: asyncio.Future[Segment] | None = None
        self._no_room_since: float | None = None
        self._durability = durability
        self._check_owner = check_owner
        self._loop = asyncio.get_running_loop()
        self._gathering = _Group()
        self._waiting: list[_Group] = []
        self._in_flight = False
        self._scheduled = False
        self._error: StorageError | None = None
        self._closed = False
        self._unsynced = False
        self._sync_seconds = sync_seconds
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="streamkit-journal")

    # ---- the log

    def check(self) -> None:
        """See Log. Refuses early when the disk is full, while nothing has changed yet."""
        if self._closed:
            raise ClosedError("the engine")
        if self._error is not None:
            raise self._error
        self._check_owner()
        if self._no_room_since is not None:
            if time.monotonic() - self._no_room_since > _RETRY_SECONDS:
                self._prepare_spare()
            # The rest of the segment is kept for what is being taken now; its blocks exist, so it cannot run out.
            if self._segment.size - self._segment.end < self._segment.size // 4:
                raise DiskFullError(self._directory)

    def append(self, change: Change, on_durable: Callable[[], None] | None = None) -> int:
        """See Log."""
        group = self._gathering
        group.changes.append(change)
        if on_durable is not None:
            group.callbacks.append(on_durable)
        self._schedule()
        return self.group

    async def durable(self, group: int) -> None:
        """See Log."""
        if group > self.durable_group:
            if self._error is not None:
                raise self._error
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._group_of(group).waiters.append(waiter)
            await waiter
        if group and not self.room.is_set():
            await self.room.wait()

    def cut(self) -> asyncio.Future[Position]:
        """End the gathering group. The future gets the place between what was appended before and after this call."""
        cut: asyncio.Future[Position] = self._loop.create_future()
        self.bytes_since_cut = 0
        if self._gathering.changes:
            self._end_group()
        if self._waiting:
            self._waiting[-1].cut = cut
        elif self._error is not None:
            cut.set_exception(self._error)
        else:
            cut.set_result(self._position())
        return cut

    async def drop_before(self, position: Position) -> None:
        """Remove the segments that end before a position: everything in them is settled elsewhere."""

        def remove() -> None:
            for name in self._files.names(self._directory):
                if name.endswith(".log") and int(name.removesuffix(".log")) < position.segment:
                    self._files.remove(os.path.join(self._directory, name))

        await offload.start(self._executor, remove, background=True)

    def refuse(self) -> None:
        """Take nothing more: the engine closes."""
        self._closed = True

    async def close(self) -> None:
        """Make durable what was taken, and let go of the files."""
        self._closed = True
        try:
            if self._error is None and (self._gathering.changes or self._waiting):
                await self.durable(self.group if self._gathering.changes else self.group - 1)
            if self._unsynced and self._error is None:
                await offload.start(self._executor, lambda: self._files.sync(self._segment.fd))
        finally:
            if self._spare_task is not None:
                await asyncio.wait([self._spare_task])
            self._executor.shutdown()
            for segment in (self._segment, self._spare):
                if segment is not None:
                    self._files.close(segment.fd)

    # ---- commits

    def _position(self) -> Position:
        return Position(self._segment.number, self._segment.end, self.durable_group + 1)

    def _group_of(self, number: int) -> _Group:
        # The last of those that wait is number ``self.group - 1``.
        return self._gathering if number == self.group else self._waiting[number - self.group]

    def _end_group(self) -> None:
        self._waiting.append(self._gathering)
        self._gathering = _Group()
        self.group += 1

    def _schedule(self) -> None:
        if not self._scheduled and not self._in_flight and self._error is None:
            self._scheduled = True
            self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        self._scheduled = False
        if self._in_flight or self._error is not None:
            return None
        if not self._waiting:
            if not self._gathering.changes:
                return None
            self._end_group()
        group = self._waiting[0]
        try:
            payload = _encode(group.changes)
        except (TypeError, ValueError, OverflowError) as error:
            return self._fail(error)
        size = len(payload) + _FRAME_OVERHEAD
        self._in_flight = True
        if self._segment.end + size > self._segment.size:
            self._commit_in_next(payload, size)
        elif size <= _INLINE_BYTES and self._sync_seconds < _SLOW_SYNC_SECONDS:
            try:
                self._write(self._segment, payload)
            except OSError as error:
                self._fail(error)
            else:
                self._committed()
        else:
            segment = self._segment
            self._finish(offload.start(self._executor, lambda: self._write(segment, payload)))
        return None

    def _commit_in_next(self, payload: bytes, size: int) -> None:
        if self._spare_task is not None:
            # It makes the very segment that is needed.
            self._spare_task.add_done_callback(lambda _: self._commit_in_next(payload, size))
            return
        full, spare = self._segment, self._spare
        self._spare = None

        def write() -> None:
            following = spare
            if following is None or following.size < size + framing.SEGMENT_HEADER_SIZE:
                if following is not None:
                    self._files.close(following.fd)
                room = max(_segment_size(full.number + 1), size + framing.SEGMENT_HEADER_SIZE)
                following = create_segment(self._files, self._directory, full.number + 1, room, self._store_id)
            seal = framing.frame(framing.SEAL, full.number, self.durable_group + 1, b"")
            self._files.write(full.fd, seal, full.end)
            self._files.sync(full.fd)
            self._files.close(full.fd)
            self._segment = following
            self._write(following, payload)

        self._finish(offload.start(self._executor, write))

    def _write(self, segment: Segment, payload: bytes) -> None:
        data = framing.frame(framing.DATA, segment.number, self.durable_group + 1, payload)
        self._files.write(segment.fd, data, segment.end)
        if self._durability == "fsync":
            # INVARIANT: test_acknowledged_only_after_a_sync_that_began_after_the_write
            before = time.perf_counter()
            self._files.sync(segment.fd)
            self._sync_seconds += (time.perf_counter() - before - self._sync_seconds) / 8
        else:
            self._unsynced = True
            self._sync_seconds = 0.0
        segment.end += len(data)
        self.bytes_since_cut += len(data)

    def _finish(self, work: asyncio.Future[None]) -> None:
        def done(finished: asyncio.Future[None]) -> None:
            error = finished.exception()
            if error is None:
                self._committed()
            else:
                self._fail(error)

        work.add_done_callback(done)

    def _committed(self) -> None:
        group = self._waiting.pop(0)
        self.durable_group += 1
        self._in_flight = False
        for callback in group.callbacks:
            callback()
        for waiter in group.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if group.cut is not None:
            group.cut.set_result(self._position())
        if self._waiting or self._gathering.changes:
            self._schedule()
        if self._segment.end > self._segment.size // 2 and self._no_room_since is None:
            self._prepare_spare()
        if self._unsynced and self._durability == "interval" and not self._closed:
            self._unsynced = False
            self._loop.call_later(_INTERVAL_SECONDS, self._sync_written)
        self.on_growth()

    def _sync_written(self) -> None:
        if self._closed or self._error is not None:
            return
        if self._in_flight:
            self._loop.call_later(_INTERVAL_SECONDS / 10, self._sync_written)
            return
        self._in_flight = True
        segment = self._segment

        def done(finished: asyncio.Future[None]) -> None:
            self._in_flight = False
            error = finished.exception()
            if error is not None:
                self._fail(error)
            else:
                self._schedule()

        offload.start(self._executor, lambda: self._files.sync(segment.fd)).add_done_callback(done)

    def _fail(self, error: BaseException) -> None:
        """A failed write or sync is never retried: what the disk holds now is unknown until it is read again."""
        failed = JournalFailedError(self._segment.path, error)
        failed.__cause__ = error
        self._error = failed
        self._in_flight = False
        self.room.set()
        for group in (*self._waiting, self._gathering):
            for waiter in group.waiters:
                if not waiter.done():
                    waiter.set_exception(failed)
            if group.cut is not None:
                group.cut.set_exception(failed)

    # ---- room

    def _prepare_spare(self) -> None:
        """Have the next segment ready, so that no commit waits for zeros."""
        if self._spare is not None or self._spare_task is not None or self._closed:
            return
        number = self._segment.number + 1
        task = offload.start(
            self._executor,
            lambda: create_segment(self._files, self._directory, number, _segment_size(number), self._store_id),
            background=True,
        )

        def done(finished: asyncio.Future[Segment]) -> None:
            self._spare_task = None
            error = finished.exception()
            if error is None:
                self._spare = finished.result()
                self._no_room_since = None
            elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._no_room_since = time.monotonic()
            # Any other error comes again, and is reported, when a commit needs the segment.

        self._spare_task = task
        task.add_done_callback(done)


def _segment_size(number: int) -> int:
    """Small stores stay small: each segment is twice the one before, up to 64 MiB."""
    return min(LARGEST_SEGMENT_BYTES, FIRST_SEGMENT_BYTES << min(number - 1, 16))

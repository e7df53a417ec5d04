"""A kit for tests: its time is in the test's hand, its disk fails on demand, and it can be drained and crashed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from streamkit.clock import Clock
from streamkit.engines.base import Durability, Engine
from streamkit.engines.registry import open_engine
from streamkit.errors import ClosedError, ValidationError
from streamkit.kit import Kit
from streamkit.limits import Limits
from streamkit.opening import Opening, kit_of
from streamkit.service import end_of
from streamkit.tables.item import TableSchema
from streamkit.testing.clock import ManualClock
from streamkit.testing.draining import drain
from streamkit.testing.failing import Faults

logger = logging.getLogger("streamkit.testing")

OPEN: dict[TrialKit, str] = {}
"""Every kit of this kind that is open, with the place of the code that opened it."""


class TrialKit(Kit):
    """A ``Kit`` to test with. Made by ``streamkit.testing.open``; all that a kit can do it can."""

    clock: ManualClock
    """What time it is: the same until ``await kit.clock.advance(seconds)``."""

    def __init__(self, engine: Engine, clock: Clock, schemas: dict[str, TableSchema], *, trial: Trial) -> None:
        super().__init__(engine, clock, schemas)
        self._trial = trial
        self._reopened: TrialKit | None = None
        self._not_reopened: Exception | None = None
        self.faults = trial.faults
        """What goes wrong with its disk."""

    @property
    def directory(self) -> str | None:
        """Where its data is; None: on memory."""
        return None if self.url == "memory:" else self.url

    async def drain(self, *, within: float = 3600.0, patience: float = 10.0) -> None:
        """Return once all that was put and sent is consumed, and all that came of it.

        That is: every mapping has settled its source, every worker's queue is empty (nothing visible, in flight or
        delayed), every entered consumer is at the end by its checkpoints, and every move task is done. What nobody
        who was started reads, such as a dead-letter queue, is left alone, and so is what a disabled mapping would read.

        Where only time stands in the way (a retry's back-off, a batching window, a delay, a visibility timeout), the
        clock is moved to the next timer, again and again, and no further than it must be. Before it moves, all that
        really takes time is waited for: handlers and functions in threads, and those that wait for anything but the
        clock.

        A producer's records count from when they are put: ``await producer.flush()`` before. A tumbling window
        stays open until its time: ``await kit.clock.advance(seconds)``.

        Args:
            within: how far the clock may be moved, in seconds.
            patience: how long to wait for what really takes time, in seconds, at a time.

        Raises:
            NotDrainedError: that was not enough, or what is left nobody will consume; it says what that is, and why. It
                is an ``AssertionError``, too.
            ClosedError: the kit is closed, or was meanwhile.
        """
        self._check_open()
        await drain(self.engine, self._supervisor, self.clock, within, patience)

    async def crash(self, *, power_loss: bool = False) -> TrialKit:
        """End as a process that is killed, open again what it left, and return that kit; this one is closed then.

        ::

            kit = await kit.crash()
            orders = kit.stream("orders")  # handles are those of the kit that made them

        Nothing more reaches the disk, services end where they stand, and nobody is asked to finish; the directory is as
        after ``kill -9``. Handlers in threads cannot be killed: their end is waited for, and nothing comes of it. The
        time is what it was, and whatever was to go wrong with the disk goes wrong again.

        Args:
            power_loss: what was not synced is lost too, at its worst: everything that a disk may forget it forgets.

        On memory a crash loses everything, as it does in life; the new kit is empty, and a warning in the log says so.

        Cancellation: it is opened again first; whoever closes this kit closes that one.

        Raises:
            ClosedError: the kit is closed.
            StorageError: it cannot be opened again.
        """
        if self._closing is not None:
            raise ClosedError("the kit")
        self._closing = asyncio.create_task(self._die_and_reopen(power_loss), name="streamkit crash")
        await end_of(self._closing)
        if self._reopened is None:
            assert self._not_reopened is not None
            raise self._not_reopened
        return self._reopened

    async def _die_and_reopen(self, power_loss: bool) -> None:
        try:
            await self._die(power_loss)
            # Whoever closes this kit, as the end of its `async with` does, closes the one that came of it.
            # INVARIANT: test_a_cancelled_crash_is_one_and_leaves_nothing_behind
            self._reopened = await self._trial.opened()
        except Exception as error:
            self._not_reopened = error
            await self._trial.end()

    async def _die(self, power_loss: bool) -> None:
        files = None if self.directory is None else self.faults.files
        if files is not None:
            # As if the last call had been the one that was interrupted, though it was not: none after it happens.
            files.crash_at = len(files.calls) - 1
        await self._supervisor.cancel()
        self._closed = True
        for alarm in self.alarms.list():
            alarm.stopped = True
        OPEN.pop(self, None)
        try:
            await self.engine.aclose()
        except Exception as error:
            logger.debug("%s crashed: %s", self.url, error)
        if files is None:
            logger.warning("a kit on memory crashed: everything is lost, and the next one is empty")
        else:
            await anyio.to_thread.run_sync(_leave_behind, files.after_crash, self.url, power_loss)

    async def _close(self) -> list[Exception]:
        failures = await super()._close()
        if self._reopened is not None:
            failures += await self._reopened._close()
        return failures

    async def _stop_and_close(self) -> None:
        try:
            await super()._stop_and_close()
        finally:
            OPEN.pop(self, None)
            await self._trial.end()


class Trial:
    """How a trial kit is opened, and again after each crash."""

    def __init__(
        self,
        url: str | os.PathLike[str] | None,
        durability: Durability,
        limits: Limits | None,
        clock: ManualClock | None,
        place: str,
    ) -> None:
        self.faults = Faults()
        self._url = url
        self._durability = durability
        self._limits = limits or Limits.relaxed()
        self._clock = clock or ManualClock()
        self._place = place
        self._temporary: str | None = None

    async def opened(self) -> TrialKit:
        """Open it."""
        url = self._url
        if url is None:
            if self._temporary is None:
                self._temporary = await anyio.to_thread.run_sync(tempfile.mkdtemp, "", "streamkit-trial-")
            url = os.path.join(self._temporary, "data")
        try:
            engine = await open_engine(
                url,
                clock=self._clock,
                limits=self._limits,
                durability=self._durability,
                files=None if url == "memory:" else self.faults.disk(),
            )
            if engine.url != "memory:":
                self.faults.watch(engine)
                # It is the same after a crash, wherever the test is then.
                self._url = Path(engine.url)
            kit = await kit_of(self._kit, engine, self._clock)
        except BaseException:
            await self.end()
            raise
        OPEN[kit] = self._place
        return kit

    def _kit(self, engine: Engine, clock: Clock, schemas: dict[str, TableSchema]) -> TrialKit:
        return TrialKit(engine, clock, schemas, trial=self)

    async def end(self) -> None:
        """Remove the directory, if it was made for this trial."""
        if self._temporary is not None:
            await anyio.to_thread.run_sync(shutil.rmtree, self._temporary, True)


def open(  # noqa: A001 - `streamkit.testing.open` reads as `streamkit.open` does
    url: str | os.PathLike[str] | None = None,
    *,
    durability: Durability = "fsync",
    limits: Limits | None = None,
    clock: ManualClock | None = None,
) -> Opening[TrialKit]:
    """Open a kit for a test: ``async with streamkit.testing.open() as kit``, or ``await`` it and close it yourself.

    Its time stands still until the test advances it (``kit.clock``), its disk fails on demand (``kit.faults``), and it
    can be drained and crashed. Nothing is really synced: a trial's disk remembers what would have been.

    Args:
        url: None: a directory of its own, which is removed when the kit is closed; or a directory, which stays; or
            ``memory:``, which a crash empties.
        durability: as of ``streamkit.open``; what a power loss takes depends on it.
        limits: as of ``streamkit.open``.
        clock: one that others use as well; None: one of its own.

    Raises:
        ValidationError: the URL is malformed, or is one to look at (``?mode=ro``).
        StorageError: the directory cannot be opened.
    """
    if isinstance(url, str) and "?" in url:
        raise ValidationError(f"{url!r} is to be looked at, which needs no trial: use streamkit.open({url!r})")
    caller = sys._getframe(1)
    place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    return Opening(Trial(url, durability, limits, clock, place).opened, url)


def _leave_behind(
    after_crash: Callable[[str, str, Callable[[], bool]], None], directory: str, power_loss: bool
) -> None:
    """Put what is left of a directory in its place."""
    place = os.path.realpath(directory)
    image = f"{place}.after-the-crash"
    shutil.rmtree(image, ignore_errors=True)
    after_crash(directory, image, lambda: not power_loss)
    shutil.rmtree(place)
    os.rename(image, place)

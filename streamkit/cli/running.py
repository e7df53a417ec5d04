"""The life of a pipeline: called with a kit, watched, drained."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamkit
from streamkit.cli.ending import Asked, asked_to_end, exit_at_once
from streamkit.cli.loading import PipelineError
from streamkit.cli.printing import FINE, FOUND, named, print_json, say, wants_json
from streamkit.errors import ServiceFailedError
from streamkit.tables.keeper import TableKeeper

if TYPE_CHECKING:
    import argparse

    from streamkit.kit import Kit

logger = logging.getLogger("streamkit.cli")

_LOOK_EVERY_MS = 100
_GRACE_SECONDS = 10.0
"""How long the pipeline's own code may take to end once it is cancelled."""


def set_up_logging(level: str) -> None:
    """To the error stream, unless the pipeline's code has set it up."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )


async def run_pipeline(app: Callable[[Any], Any], options: argparse.Namespace) -> int:
    """Run it until it is asked to end, a service fails, or nothing of it is left; the exit code.

    Raises:
        PipelineError: its own code raised something.
        StreamKitError: the directory cannot be used.
    """
    with asked_to_end(exit_at_once) as asked:
        if options.supervised:
            # Whoever started this holds the other end, which the system closes however that one ends.
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), asked.stop.request)
        try:
            kit = await streamkit.open(options.dir, durability=options.durability)
            failed = await _run_on(kit, app, asked, options)
        finally:
            if options.supervised:
                asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        return _say_ended(failed, options)


async def _run_on(kit: Kit, app: Callable[[Any], Any], asked: Asked, options: argparse.Namespace) -> str:
    """Why it ended, if a service failed, else ""."""
    pipeline = _Pipeline(app, kit, lambda names: _say_started(names, options))
    try:
        try:
            await pipeline.watch(asked)
        finally:
            await pipeline.end()
    finally:
        # What the pipeline's own code raised is not masked by what failed with it; that was logged.
        failed = await _closed(kit)
    return failed


async def _closed(kit: Kit) -> str:
    """Drain and close it; which services had failed, and with what."""
    try:
        await kit.close()
    except (ServiceFailedError, ExceptionGroup) as error:
        several = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        if not all(isinstance(each, ServiceFailedError) for each in several):
            raise
        return "; ".join(str(each) for each in several)
    return ""


def _say_started(names: list[str], options: argparse.Namespace) -> None:
    if wants_json(options):
        print_json(
            {"event": "started", "app": options.target, "dir": options.dir, "pid": os.getpid(), "services": names}
        )
    else:
        what = named(names) if names else "nothing in the background"
        say(f"streamkit: {options.target} runs on {options.dir}: {what}; Ctrl-C ends it")


def _say_ended(failed: str, options: argparse.Namespace) -> int:
    code = FOUND if failed else FINE
    if wants_json(options):
        print_json({"event": "ended", "app": options.target, "exit_code": code, "failed": failed or None})
    else:
        say(f"streamkit: {failed}; everything else was drained" if failed else "streamkit: drained")
    return code


class _Pipeline:
    """The call of ``app``: an awaitable, an async context manager, or whatever a plain function returned."""

    def __init__(self, app: Callable[[Any], Any], kit: Kit, started: Callable[[list[str]], None]) -> None:
        """``started`` is called once it is up, with what it runs."""
        self._kit = kit
        self._started: Callable[[list[str]], None] | None = started
        self._own = set(kit.health().services)
        self._is_block = False
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._call(app), name="streamkit pipeline")

    async def _call(self, app: Callable[[Any], Any]) -> None:
        try:
            found = app(self._kit)
            if hasattr(found, "__aenter__"):
                async with found:
                    self._is_block = True
                    self._is_up()
                    await self._over.wait()
            else:
                if inspect.isawaitable(found):
                    await found
                self._is_up()
        except (Exception, SystemExit) as error:
            # A sys.exit, too, which would leave the loop at once: services are drained before the process ends with it.
            raise PipelineError from error

    async def watch(self, asked: Asked) -> None:
        """Return once it is to end."""
        clock = self._kit.clock
        while not asked.stop.requested:
            with asked.stop.interruptible():
                await clock.sleep_until(clock.now_ms() + _LOOK_EVERY_MS)
            running = self._running()
            if running:
                self._is_up()  # Also of code that goes on.
            # A block has something to do at its end, and so waits for it.
            if self._kit.health().errors or self._raised() or (self._task.done() and not running):
                return

    async def end(self) -> None:
        """Let the block be left, or cancel what goes on, and wait for it.

        Raises:
            PipelineError: its code raised something.
        """
        self._over.set()
        if not self._is_block:
            self._task.cancel()
        await asyncio.wait([self._task], timeout=_GRACE_SECONDS)
        if not self._task.done():
            logger.warning("the pipeline's code has not ended within %g s, and is left to itself", _GRACE_SECONDS)
            self._task.cancel()
        elif not self._task.cancelled():
            self._task.result()

    def _is_up(self) -> None:
        if self._started is not None:
            started, self._started = self._started, None
            started(self._running())

    def _raised(self) -> bool:
        return self._task.done() and not self._task.cancelled() and self._task.exception() is not None

    def _running(self) -> list[str]:
        """Its services. What a kit runs for its tables never ends by itself, and is none."""
        services = self._kit.started()
        return [each.name for each in services if each.name not in self._own and not isinstance(each, TableKeeper)]

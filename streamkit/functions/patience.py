"""Trying again what costs nothing to try again: a commit on a full disk, a sink that pushes back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.errors import FunctionError, StorageError, StreamKitError
from streamkit.logs import said
from streamkit.service import Stop

logger = logging.getLogger("streamkit.functions")


class StoppedError(Exception):
    """A stop was requested while somebody pushed back; nothing is lost by that."""


class Patience:
    """Waits of one mapping; they end when it is to stop."""

    def __init__(self, name: str, retry: Retry, clock: Clock, stop: Stop) -> None:
        self._name = name
        self._retry = retry
        self._clock = clock
        self._stop = stop

    async def until_room(self, act: Callable[[], Awaitable[None]]) -> None:
        """Act, and again as long as the disk is full: that takes nothing and changes nothing, and the work is done.

        Raises:
            StorageError: it is something else, or a stop was requested.
        """
        failures = 0
        while True:
            try:
                return await act()
            except StorageError as error:
                if not error.retryable or self._stop.requested:
                    raise
                failures += 1
                await self.wait(failures, error)

    async def until_taken(self, write: Callable[[], Awaitable[None]]) -> None:
        """Hand something to a sink, and again as long as it pushes back.

        Raises:
            FunctionError: the sink failed.
            StoppedError: a stop came meanwhile.
        """
        failures = 0
        while True:
            try:
                return await write()
            except StreamKitError as error:
                if not error.retryable:
                    raise
                failures += 1
                await self.wait(failures, error)
                if self._stop.requested:
                    raise StoppedError from None
            except Exception as error:
                raise FunctionError(f"the sink failed: {type(error).__name__}: {error}") from error

    async def wait(self, failures: int, error: Exception | None) -> None:
        """The wait after so many failures, or until a stop."""
        delay = self._retry.delay(failures)
        logger.warning("mapping %s tries again in %.1f s: %s", self._name, delay, said(error))
        with self._stop.interruptible():
            await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))

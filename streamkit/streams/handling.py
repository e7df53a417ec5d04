"""Calling a handler with batch after batch, and with each of them again and again until it returns."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.errors import ClosedError, FunctionError, LeaseLostError, StreamKitError
from streamkit.streams.record import Batch

T = TypeVar("T")

logger = logging.getLogger("streamkit.streams")

Handler = Callable[[Batch[T]], Awaitable[object] | object]
"""What a consumer's ``run`` calls with each batch. A plain function runs in a worker thread."""


class Handling(Generic[T]):
    """One handler, and how often and after which waits it is called again with a batch it failed on."""

    def __init__(self, handler: Handler[T], clock: Clock, retry: Retry, attempts: int | None) -> None:
        self._handler = handler
        self._clock = clock
        self._retry = retry
        self._attempts = attempts
        self._asynchronous = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
        )
        # Each shard has one handler running at most, so a bound of its own would only let shards wait for another.
        self._threads = anyio.CapacityLimiter(math.inf)

    async def run(
        self,
        batches: AsyncIterator[Batch[T]],
        busy: dict[str, Batch[T]],
        checkpoint: Callable[[Batch[T]], Awaitable[None]],
        freed: Callable[[], None],
    ) -> None:
        """Handle and checkpoint all batches, those of different shards side by side.

        ``busy`` has the batch in hand of each shard; ``batches`` leaves these shards out, and ``freed`` tells it that
        one is not among them any more. What is in ``busy`` afterwards has no checkpoint.

        Raises:
            Exception: see Consumer.run.
        """
        errors: list[Exception] = []

        async def process(batch: Batch[T]) -> None:
            try:
                await self._insist(lambda: self._call(batch), batch, self._attempts, lambda _: True)
                # The handler's work is done, so this is tried again without it, and as long as that may help.
                await self._insist(lambda: checkpoint(batch), batch, None, _is_retryable)
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()
            else:
                del busy[batch.shard_id]
                freed()

        async with anyio.create_task_group() as group:
            try:
                async for batch in batches:
                    busy[batch.shard_id] = batch
                    group.start_soon(process, batch)
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()
        if errors:
            raise errors[0]

    async def _call(self, batch: Batch[T]) -> None:
        if self._asynchronous:
            answer = self._handler(batch)
        else:
            answer = await anyio.to_thread.run_sync(self._handler, batch, limiter=self._threads)
        if inspect.isawaitable(answer):
            await answer

    async def _insist(
        self,
        step: Callable[[], Awaitable[None]],
        batch: Batch[T],
        attempts: int | None,
        may_try_again: Callable[[Exception], bool],
    ) -> None:
        failures = 0
        while True:
            try:
                return await step()
            except (LeaseLostError, ClosedError):
                raise
            except asyncio.CancelledError as cancelled:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # Nobody cancelled us: the handler awaited something that was cancelled, which is its own failure.
                error: Exception = FunctionError(f"the handler of {batch!r} awaited something that was cancelled")
                error.__cause__ = cancelled
            except Exception as failed:
                error = failed
            failures += 1
            if failures == attempts or not may_try_again(error):
                raise error
            after = error.retry_after if isinstance(error, StreamKitError) else None
            delay = self._retry.delay(failures) if after is None else after
            logger.warning("attempt %d at %r failed, trying again in %.1f s", failures, batch, delay, exc_info=error)
            await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, StreamKitError) and error.retryable

"""Calling a handler with batch after batch, and with each of them again and again until it returns."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread
import msgspec

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.errors import ClosedError, FunctionError, LeaseLostError, StreamKitError, ValidationError
from streamkit.logs import Fields, about, of_records, without_text
from streamkit.streams.parallel import ByKey, Call, InTurn, Work
from streamkit.streams.record import Batch, Record

T = TypeVar("T")

logger = logging.getLogger("streamkit.streams")

Handler = Callable[[Batch[T]], Awaitable[object] | object]
"""What a consumer's ``run`` calls with each batch. A plain function runs in a worker thread."""


class Hold(msgspec.Struct, Generic[T], frozen=True):
    """What handling needs of the consumer that hands out the batches."""

    consumer: str
    stream: str
    held: Callable[[str], object | None]
    """The hold of a shard's lease, the same object for as long as it lasts; None: it is lost."""
    checkpoint: Callable[[Batch[T] | Record[T]], Awaitable[None]]
    hand_back: Callable[[Batch[T]], None]
    """Records of a shard that is held are to be handed out again, before anything later."""
    freed: Callable[[], None]
    """A shard is no longer among those that are left out."""


class _Shard(Generic[T]):
    """One shard of a run."""

    __slots__ = ("hold", "shard_id", "tasks", "work", "writing")

    def __init__(self, shard_id: str, hold: object | None, work: Work[T]) -> None:
        self.shard_id = shard_id
        self.hold = hold
        """What stands for our lease; None once it is known to be lost."""
        self.work = work
        self.tasks = 0
        self.writing = False
        """A checkpoint is on its way."""


class _InHand:
    """What one call has, as its log lines show it."""

    __slots__ = ("attempt", "batch", "consumer", "stream")

    def __init__(self, consumer: str, stream: str, batch: Batch[Any]) -> None:
        self.consumer = consumer
        self.stream = stream
        self.batch = batch
        self.attempt = 1

    def fields(self) -> Fields:
        return {
            "consumer": self.consumer,
            "stream": self.stream,
            "shard": self.batch.shard_id,
            **of_records(self.batch.records),
            "attempt": self.attempt,
        }


class Handling(Generic[T]):
    """One handler, called with all batches of a consumer, those of different shards side by side.

    Within a shard: one batch at a time if ``concurrency`` is 1; else up to that many calls, as ``ByKey`` says. One
    checkpoint of a shard is on its way at a time; what is done meanwhile goes into the next.
    """

    def __init__(
        self,
        handler: Handler[T],
        hold: Hold[T],
        clock: Clock,
        *,
        concurrency: int,
        max_records: int,
        retry: Retry | None,
        attempts: int | None,
        around: Callable[[Batch[T]], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """See Consumer.run. ``around``: what each call of the handler is within."""
        if attempts is not None and attempts < 1:
            raise ValidationError(f"attempts must be at least 1, or None for no end, not {attempts}")
        if not isinstance(concurrency, int) or concurrency < 1:
            raise ValidationError(f"a shard has a concurrency of 1 or more, not {concurrency!r}")
        self._handler = handler
        self._hold = hold
        self._clock = clock
        self._concurrency = concurrency
        self._max_records = max_records
        self._retry = retry or Retry()
        self._attempts = attempts
        self._around = around
        self._asynchronous = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
        )
        # Each shard's calls have a bound already, so one of the threads would only let shards wait for another.
        self._threads = anyio.CapacityLimiter(math.inf)
        self._shards: dict[str, _Shard[T]] = {}
        self._busy: set[str] = set()
        self._error: Exception | None = None
        self._group = anyio.create_task_group()
        self._context = copy_context()
        """Of what runs this: a call that begins where another one ends is not about that one's records."""

    @property
    def busy(self) -> Container[str]:
        """The shards of which no batch can be taken now; ``batches`` leaves them out."""
        return self._busy

    async def run(self, batches: AsyncIterator[Batch[T]]) -> None:
        """Handle and checkpoint all batches. What has no checkpoint then is handed back. Called once.

        Raises:
            Exception: see Consumer.run.
        """
        try:
            async with self._group:
                try:
                    async for batch in batches:
                        self._take(batch)
                except Exception as error:
                    self._fail(error)
        finally:
            for shard in self._shards.values():
                left = shard.work.left()
                if left is not None and self._is_held(shard):
                    self._hold.hand_back(left)
        if self._error is not None:
            raise self._error

    # ---- what is in hand

    def _take(self, batch: Batch[T]) -> None:
        # ATOMIC: nothing awaits from where it was handed out to the end, so what is taken is in hand or was given back
        # INVARIANT: test_cancelling_it_anywhere_hands_out_again_what_has_no_checkpoint
        shard = self._shards.get(batch.shard_id)
        if shard is not None and not self._is_held(shard):
            # Lost, and ours again. What runs since before may have the same keys, so it is waited for.
            self._drop(shard)
            if shard.tasks:
                self._hold.hand_back(batch)
                return
            shard = None
        if shard is None:
            work: Work[T] = InTurn() if self._concurrency == 1 else ByKey(self._concurrency, self._max_records)
            shard = _Shard(batch.shard_id, self._hold.held(batch.shard_id), work)
            self._shards[batch.shard_id] = shard
        shard.work.add(batch)
        self._go_on(shard)

    def _go_on(self, shard: _Shard[T]) -> None:
        """Begin the calls that can be made now, and see whether the shard takes more."""
        if self._group.cancel_scope.cancel_called:
            return
        if not self._is_held(shard):
            self._drop(shard)
            return
        while (call := shard.work.next_call()) is not None:
            shard.tasks += 1
            # INVARIANT: test_a_call_that_begins_where_another_ends_logs_its_own_records
            self._context.run(self._group.start_soon, self._process, shard, call)
        if shard.work.is_full:
            self._busy.add(shard.shard_id)
        else:
            self._free(shard)

    def _free(self, shard: _Shard[T]) -> None:
        if shard.shard_id in self._busy:
            self._busy.remove(shard.shard_id)
            self._hold.freed()

    def _is_held(self, shard: _Shard[T]) -> bool:
        return shard.hold is not None and self._hold.held(shard.shard_id) is shard.hold

    def _drop(self, shard: _Shard[T]) -> None:
        """The lease is lost: nothing more of this begins, and when nothing of it runs any more the shard is new."""
        if shard.hold is not None:
            logger.info("the lease of %s is lost: its new owner goes on from the checkpoint", shard.shard_id)
        shard.hold = None
        if shard.tasks:
            self._busy.add(shard.shard_id)
        else:
            del self._shards[shard.shard_id]
            self._free(shard)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._group.cancel_scope.cancel()

    # ---- one call

    async def _process(self, shard: _Shard[T], call: Call[T]) -> None:
        in_hand = _InHand(self._hold.consumer, self._hold.stream, call.batch)
        with about(in_hand.fields):
            await self._settle(shard, call, in_hand)

    async def _settle(self, shard: _Shard[T], call: Call[T], in_hand: _InHand) -> None:
        try:
            await self._handle(shard, call.batch, in_hand)
            shard.work.finish(call)
            self._go_on(shard)
            if not shard.writing:
                shard.writing = True
                try:
                    await self._checkpoint(shard)
                finally:
                    shard.writing = False
        except LeaseLostError as error:
            if self._is_held(shard):
                self._fail(error)  # Of something else that the handler does.
        except Exception as error:
            self._fail(error)
        finally:
            shard.tasks -= 1
        self._go_on(shard)

    async def _handle(self, shard: _Shard[T], batch: Batch[T], in_hand: _InHand) -> None:
        failures = 0
        while self._is_held(shard):
            in_hand.attempt = failures + 1
            error = await _attempt(self._call(batch), f"the handler of {batch!r}")
            if error is None:
                return
            failures += 1
            if failures == self._attempts:
                raise error
            delay = self._delay(failures, error)
            logger.warning(
                "attempt %d at %r failed, trying again in %.1f s", failures, batch, delay, exc_info=without_text(error)
            )
            await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))

    async def _call(self, batch: Batch[T]) -> None:
        with self._around(batch):
            if self._asynchronous:
                answer = self._handler(batch)
            else:
                answer = await anyio.to_thread.run_sync(self._handler, batch, limiter=self._threads)
            if inspect.isawaitable(answer):
                await answer

    async def _checkpoint(self, shard: _Shard[T]) -> None:
        """Write what is done, and what was done meanwhile; again, without the handler, as long as that may help."""
        failures = 0
        while self._is_held(shard) and (due := shard.work.due()) is not None:
            try:
                error = await _attempt(self._hold.checkpoint(due.done), f"the checkpoint of {shard.shard_id}")
            except LeaseLostError:
                shard.hold = None
                return
            if error is None:
                failures = 0
                shard.work.checkpointed(due)
                self._go_on(shard)
                continue
            if not (isinstance(error, StreamKitError) and error.retryable):
                raise error
            failures += 1
            delay = self._delay(failures, error)
            logger.warning("the checkpoint of %s failed, trying again in %.1f s: %s", shard.shard_id, delay, error)
            await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))

    def _delay(self, failures: int, error: Exception) -> float:
        advised = error.retry_after if isinstance(error, StreamKitError) else None
        return self._retry.delay(failures) if advised is None else advised


async def _attempt(step: Awaitable[None], what: str) -> Exception | None:
    """What the step failed with, if trying again may help; what cannot be helped is raised."""
    try:
        await step
    except (LeaseLostError, ClosedError):
        raise
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled us: it awaited something that was cancelled, which is its own failure.
        failure = FunctionError(f"{what} awaited something that was cancelled")
        failure.__cause__ = cancelled
        return failure.with_traceback(cancelled.__traceback__)
    except Exception as error:
        return error
    return None

"""A worker: calls a handler with every message of a queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.abc

from streamkit.backoff import Retry
from streamkit.clock import Clock
from streamkit.errors import ClosedError, StreamKitError, ValidationError, without_text
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.queues.handling import Handler, Handling, Heartbeat
from streamkit.queues.message import Message
from streamkit.queues.store import QueueDescription
from streamkit.service import Stop

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger("streamkit.queues")

_WAIT_SECONDS = 20.0
# A timeout much shorter would end before anybody could extend it, and the message would be handled twice at a time.
_SHORTEST_TIMEOUT_SECONDS = 1.0
_LONGEST_TIMEOUT_SECONDS = 43_200.0
# How long a cancellation is held up to settle a message. Of the machine's time: a disk that hangs moves no clock.
_SETTLE_SECONDS = 5.0
# Between attempts at what failed with a retryable error, such as a full disk. No jitter: there is one worker, and a
# wait of nothing would never let go of the event loop.
_AGAIN = Retry(first=1.0, longest=30.0, jitter=False)


class Source(Protocol[T]):
    """What a worker needs of its queue."""

    name: str

    async def receive(
        self, max_messages: int = 1, *, visibility_timeout: float | None = None, wait: float | None = None
    ) -> list[Message[T]]:
        """See Queue."""

    async def delete_batch(self, messages: Sequence[Message[T] | str]) -> list[StreamKitError | None]:
        """See Queue."""

    async def change_visibility(
        self, message: Message[T] | str, timeout: float, *, last_error: str | None = None
    ) -> None:
        """See Queue."""

    async def describe(self) -> QueueDescription:
        """See Queue."""


class Worker(Generic[T]):
    """A service: receives messages, calls the handler, deletes what it returned from and shows again what it raised on.

    The handler takes the decoded value, or the whole ``Message`` if its first parameter is annotated ``Message`` or
    ``Message[...]``. A plain ``def`` runs in a thread. A body that does not decode is a failure like any other.

    A message whose handler raises is visible again after ``retry.delay(receive_count)``, by default a random wait of up
    to 1 s after the first failure, twice as much after each further one, and at most 60 s. The queue's redrive policy
    decides how often, and then it is a dead letter. No more is received than there are handlers free. While a handler
    runs, its message's timeout is extended at half time, up to the twelve hours that a message can be hidden; a worker
    hides messages for at least 1 s, also of a queue with a shorter timeout.

    Of a FIFO queue one message at a time is received, so of a message group one is in hand: groups are handled side by
    side, each in order, and those behind a message that fails wait for it uncounted.

    A failure is logged with message id, receive count, the exception's type and its traceback, but without its text,
    which often quotes the message; the dead letter has it (``Message.last_error``). What fails with a retryable error,
    such as a full disk, is tried again until it works.

    Stop: nothing new is received and what is in hand is finished.
    Cancellation: asynchronous handlers are cancelled, those in threads are waited for. Messages that are not handled
    are visible again at once; if even that is not possible within 5 s, after their timeout. Nothing is lost.
    """

    def __init__(
        self,
        source: Source[T],
        handler: Handler,
        clock: Clock,
        metrics: Metrics,
        *,
        concurrency: int = 1,
        retry: Retry | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(concurrency, int) or concurrency < 1:
            raise ValidationError(f"a worker has a concurrency of 1 or more, not {concurrency!r}")
        retry = retry or Retry(first=1.0, longest=60.0)
        if not (retry.first >= 0 and retry.factor >= 0 and 0 <= retry.longest <= _LONGEST_TIMEOUT_SECONDS):
            raise ValidationError(f"{retry!r} is no back-off for messages: they can be hidden for 0 to 43,200 s")
        self.name = name or f"worker:{source.name}"
        self.handled = 0
        """Messages whose handler returned and that were deleted."""
        self.failed = 0
        """Times a handler raised."""
        self._source = source
        self._handling: Handling[T] = Handling(handler, concurrency)
        self._clock = clock
        self._metrics = metrics
        self._errors_metric = Metric.of("streamkit", "HandlerErrors", QueueName=source.name)
        self._free = concurrency
        self._retry = retry
        self._progress = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"Worker({self.name!r}, handled={self.handled}, failed={self.failed})"

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested.

        Raises:
            NotFoundError: the queue was deleted.
            StorageError: the engine cannot receive, delete or hide, and trying again would not help.
            ClosedError: the engine is closed.
        """
        self._ended, self._failure = False, None
        try:
            attributes = (await self._source.describe()).attributes
            timeout = max(attributes.visibility_timeout_ms / 1000, _SHORTEST_TIMEOUT_SECONDS)
            # INVARIANT: test_a_message_that_fails_takes_none_behind_it_with_it
            most = 1 if attributes.fifo else None
            async with anyio.create_task_group() as tasks:
                try:
                    while not stop.requested:
                        with stop.interruptible():
                            for message in await self._insist(lambda: self._next(timeout, most)):
                                self._free -= 1
                                tasks.start_soon(self._handle, message, timeout, tasks)
                except Exception as error:
                    self._fail(error, tasks)
        finally:
            self._ended = True
            self._tell()
        if self._failure is not None:
            raise self._failure

    async def wait_drained(self) -> None:
        """Return once the queue is empty: nothing visible, in flight or delayed.

        Raises:
            ClosedError: the worker ended before; if it failed, with what as its ``__cause__``.
        """
        while True:
            progress = self._progress
            found = await self._source.describe()
            if found.visible + found.not_visible + found.delayed == 0:
                return
            if self._ended:
                raise ClosedError(f"{self.name}, with messages left in its queue,") from self._failure
            await progress.wait()

    async def _next(self, timeout: float, most: int | None) -> list[Message[T]]:
        while self._free == 0:
            await self._progress.wait()
        wanted = self._free if most is None else most
        messages = await self._source.receive(wanted, visibility_timeout=timeout, wait=_WAIT_SECONDS)
        if not messages:
            self._tell()  # The receive may have moved messages to the dead-letter queue.
        return messages

    async def _handle(self, message: Message[T], timeout: float, tasks: anyio.abc.TaskGroup) -> None:
        beat = Heartbeat(self._clock, timeout / 2, tasks, lambda: self._extend(message, timeout, tasks))
        handled = False
        try:
            failure = await self._handling.call(message)
            handled = failure is None
            # INVARIANT: test_an_extension_on_its_way_does_not_outlast_the_handler
            await beat.stop()
            if failure is None:
                await self._insist(lambda: self._delete(message))
            else:
                await self._show_again(message, failure)
        except asyncio.CancelledError:
            # INVARIANT: test_cancelled_anywhere_nothing_is_lost
            with anyio.move_on_after(_SETTLE_SECONDS, shield=True):
                await beat.stop()
                await self._let_go(message, handled)
            raise
        except Exception as error:
            self._fail(error, tasks)
        finally:
            beat.cancel()
            self._free += 1
            self._tell()

    # ---- settling

    async def _delete(self, message: Message[T]) -> None:
        (error,) = await self._source.delete_batch([message])
        if error is None:
            self.handled += 1
        else:
            logger.warning("message %s of %s was handled, but not in time: %s", message.message_id, self.name, error)

    async def _show_again(self, message: Message[T], error: Exception) -> None:
        self.failed += 1
        self._metrics.put(self._errors_metric, 1, self._clock.now_ms())
        delay = self._retry.delay(message.receive_count)
        logger.warning(
            "message %s of %s failed at receive %d and is visible again in %.2f s",
            message.message_id,
            self.name,
            message.receive_count,
            delay,
            exc_info=without_text(error),
        )
        try:
            await self._source.change_visibility(message, delay, last_error=f"{type(error).__name__}: {error}")
        except StreamKitError as refusal:
            if not self._lives_with(message, refusal):
                raise

    async def _extend(self, message: Message[T], timeout: float, tasks: anyio.abc.TaskGroup) -> float | None:
        """Hide the message for longer. Answers after how many seconds to do so again; None: it would be of no use."""
        try:
            await self._source.change_visibility(message, timeout)
        except Exception as error:
            if not self._lives_with(message, error):
                self._fail(error, tasks)
            # Often enough that a disk with room again is found before the timeout ends.
            return timeout / 8 if _is_retryable(error) else None
        return timeout / 2

    async def _let_go(self, message: Message[T], handled: bool) -> None:
        """Settle a message in the little time that a cancellation leaves, and let nothing get in its way."""
        try:
            if handled:
                await self._delete(message)  # The work is done, so it must not be done again; deleting twice is fine.
            else:
                await self._source.change_visibility(message, 0)
        except Exception as error:
            logger.warning(
                "message %s of %s is visible again after its timeout: %s", message.message_id, self.name, error
            )

    def _lives_with(self, message: Message[T], error: Exception) -> bool:
        """Whether a visibility that could not be changed is no failure, because the message's timeout shows it."""
        # Refused as invalid: deleted, received by somebody else, or hidden for twelve hours already.
        if not isinstance(error, ValidationError) and not _is_retryable(error):
            return False
        logger.warning("message %s of %s: %s", message.message_id, self.name, error)
        return True

    async def _insist(self, step: Callable[[], Awaitable[R]]) -> R:
        """Try again, after a wait, for as long as a step fails with a retryable error."""
        failures = 0
        while True:
            try:
                return await step()
            except StreamKitError as error:
                if not _is_retryable(error):
                    raise
                failures += 1
                delay = _AGAIN.delay(failures) if error.retry_after is None else error.retry_after
                logger.warning("%s tries again in %.1f s: %s", self.name, delay, error)
                await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))

    def _fail(self, error: Exception, tasks: anyio.abc.TaskGroup) -> None:
        self._failure = self._failure or error
        tasks.cancel_scope.cancel()

    def _tell(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, StreamKitError) and error.retryable

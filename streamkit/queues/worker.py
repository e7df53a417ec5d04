"""A worker: calls a handler with every message of a queue."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar, get_origin, get_type_hints

import anyio
import anyio.to_thread

from streamkit.backoff import Retry
from streamkit.clock import Clock, Timer
from streamkit.errors import ClosedError, StreamKitError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.queues.message import Message
from streamkit.queues.store import QueueDescription
from streamkit.service import Stop

T = TypeVar("T")

Handler = Callable[[Any], Awaitable[object] | object]
"""Takes a message's value, or the ``Message`` if its first parameter is annotated so."""

logger = logging.getLogger("streamkit.queues")

_WAIT_SECONDS = 20.0
_RELEASE_SECONDS = 5.0


class Source(Protocol[T]):
    """What a worker needs of its queue."""

    name: str

    async def receive(
        self, max_messages: int = 1, *, visibility_timeout: float | None = None, wait: float | None = None
    ) -> list[Message[T]]:
        """See Queue."""

    async def delete_batch(self, messages: list[Message[T] | str]) -> list[StreamKitError | None]:
        """See Queue."""

    async def change_visibility(self, message: Message[T] | str, timeout: float) -> None:
        """See Queue."""

    async def describe(self) -> QueueDescription:
        """See Queue."""


class Worker(Generic[T]):
    """A service: receives messages, calls the handler, deletes what it returned from and shows again what it raised on.

    A message whose handler raises is visible again after ``retry.delay(receive_count)``; the queue's redrive policy
    decides how often, and then it is a dead letter. While a handler runs, its message's timeout is extended at half
    time. No more is received than there are handlers free. A plain ``def`` handler runs in a thread.

    Stop: nothing new is received and what is in hand is finished. Cancellation: handlers are cancelled and their
    messages are visible again at once. Either way nothing is lost.
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
        self.name = name or f"worker:{source.name}"
        self.handled = 0
        """Messages whose handler returned and that were deleted."""
        self.failed = 0
        """Times a handler raised."""
        self._source = source
        self._handler = handler
        self._takes_message = _takes_message(handler)
        self._clock = clock
        self._metrics = metrics
        self._errors_metric = Metric.of("streamkit", "HandlerErrors", QueueName=source.name)
        self._free = concurrency
        self._retry = retry or Retry(first=1.0, longest=60.0)
        self._threads = anyio.CapacityLimiter(concurrency)
        self._progress = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"Worker({self.name!r}, handled={self.handled}, failed={self.failed})"

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested.

        Raises:
            NotFoundError: the queue was deleted.
            StorageError: the engine cannot receive, delete or hide.
        """
        half_ms = (await self._source.describe()).attributes.visibility_timeout_ms // 2
        try:
            async with anyio.create_task_group() as tasks:
                try:
                    while not stop.requested:
                        with stop.interruptible():
                            for message in await self._next():
                                self._free -= 1
                                tasks.start_soon(self._handle, message, half_ms, tasks)
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
            ClosedError: the worker ended before.
        """
        while True:
            progress = self._progress
            found = await self._source.describe()
            if found.visible + found.not_visible + found.delayed == 0:
                return
            if self._ended:
                raise ClosedError(f"{self.name}, with messages left in its queue,")
            await progress.wait()

    async def _next(self) -> list[Message[T]]:
        while self._free == 0:
            await self._progress.wait()
        messages = await self._source.receive(self._free, wait=_WAIT_SECONDS)
        if not messages:
            self._tell()  # The receive may have moved messages to the dead-letter queue.
        return messages

    async def _handle(self, message: Message[T], half_ms: int, tasks: anyio.abc.TaskGroup) -> None:
        beat = _Heartbeat(self._clock, half_ms, lambda: tasks.start_soon(self._extend, message, half_ms))
        try:
            try:
                await self._call(message)
            except Exception as error:
                beat.stop()
                await self._show_again(message, error)
            else:
                beat.stop()
                await self._delete(message)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
                await self._change_visibility(message, 0)
            raise
        except Exception as error:
            self._fail(error, tasks)
        finally:
            beat.stop()
            self._free += 1
            self._tell()

    async def _call(self, message: Message[T]) -> None:
        argument = message if self._takes_message else message.value
        if inspect.iscoroutinefunction(self._handler):
            await self._handler(argument)
            return
        answer = await anyio.to_thread.run_sync(self._handler, argument, limiter=self._threads)
        if inspect.isawaitable(answer):
            await answer

    async def _delete(self, message: Message[T]) -> None:
        # The work is done: a cancellation that comes now must not undo it by showing the message again.
        with anyio.CancelScope(shield=True):
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
            "message %s of %s failed at receive %d and is visible again in %.2f s: %s: %s",
            message.message_id,
            self.name,
            message.receive_count,
            delay,
            type(error).__name__,
            error,
        )
        await self._change_visibility(message, delay)

    async def _extend(self, message: Message[T], half_ms: int) -> None:
        await self._change_visibility(message, half_ms * 2 / 1000)

    async def _change_visibility(self, message: Message[T], timeout: float) -> None:
        try:
            await self._source.change_visibility(message, timeout)
        except ValidationError as error:
            # Deleted, received by somebody else, or hidden for twelve hours already: its timeout will show it.
            logger.warning("message %s of %s: %s", message.message_id, self.name, error)

    def _fail(self, error: Exception, tasks: anyio.abc.TaskGroup) -> None:
        self._failure = self._failure or error
        tasks.cancel_scope.cancel()

    def _tell(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()


class _Heartbeat:
    """Calls ``beat`` every ``every_ms`` until it is stopped."""

    def __init__(self, clock: Clock, every_ms: int, beat: Callable[[], object]) -> None:
        self._clock = clock
        self._every_ms = every_ms
        self._beat = beat
        self._timer: Timer | None = None
        if every_ms > 0:
            self._arm()

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.now_ms() + self._every_ms, self._due)

    def _due(self) -> None:
        self._arm()
        self._beat()

    def stop(self) -> None:
        """No more beats."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _takes_message(handler: Handler) -> bool:
    try:
        hints = get_type_hints(handler)
        first = next(iter(inspect.signature(handler).parameters))
    except (TypeError, ValueError, NameError, StopIteration):
        return False
    hint = hints.get(first)
    return hint is Message or get_origin(hint) is Message

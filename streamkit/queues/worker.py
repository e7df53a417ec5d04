"""A worker: calls a handler with every message of a queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Generic, TypedDict, TypeVar, Unpack

import anyio
import anyio.abc

from streamkit.backoff import Retry
from streamkit.clock import Clock, wait_until, wake
from streamkit.errors import ClosedError, ValidationError
from streamkit.logs import Fields, about, of_messages
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.queues import traced
from streamkit.queues.batches import BatchHandling, held_back
from streamkit.queues.handling import Handler, Handling, Heartbeat, takes_message, takes_messages
from streamkit.queues.message import Message
from streamkit.queues.portions import Portions, Source
from streamkit.queues.receiving import Receiving
from streamkit.queues.settling import Settling
from streamkit.service import Stop
from streamkit.spans import Tracing

T = TypeVar("T")

logger = logging.getLogger("streamkit.queues")

# A timeout much shorter would end before anybody could extend it, and the message would be handled twice at a time.
_SHORTEST_TIMEOUT_SECONDS = 1.0
_LONGEST_TIMEOUT_SECONDS = 43_200.0
# How long a cancellation is held up to settle a message. Of the machine's time: a disk that hangs moves no clock.
_SETTLE_SECONDS = 5.0


class WorkerOptions(TypedDict, total=False):
    """How a worker works. Durations in seconds."""

    concurrency: int
    """How many calls of the handler run at a time; 1 unless given."""
    retry: Retry | None
    """How long a message that failed stays hidden; None: a random wait of up to 1 s after the first failure, twice as
    much after each further one, and at most 60 s."""
    grace: float | None
    """How long a stop waits for what is in hand before it is cancelled; None: as long as it takes."""
    name: str | None
    """What ``kit.health()`` calls it."""


class Worker(Generic[T]):
    """A service: receives messages, calls the handler, deletes what it returned from and shows again what it raised on.

    The handler takes the decoded value, or the whole ``Message`` if its first parameter is annotated ``Message`` or
    ``Message[...]``. A plain ``def`` runs in a thread. A body that does not decode is a failure like any other.

    With ``max_messages`` it takes a list of up to so many, of values, or of messages if annotated ``list[Message]`` or
    alike. What it raises all of them failed with. If only some failed, it returns those: a list of messages; a dict of
    messages and exceptions, so that each dead letter says why; or ``{"batchItemFailures": [{"itemIdentifier":
    message_id}]}`` as a Lambda function does (Lambda Developer Guide, "Reporting batch item failures"). Any other
    answer than these and None fails the batch.

    A message whose handler raises is visible again after ``retry.delay(receive_count)``; the queue's redrive policy
    decides how often, and then it is a dead letter. No more is received than there are handlers free. While a handler
    runs, its messages' timeout is extended at half time, up to the twelve hours that a message can be hidden; a worker
    hides messages for at least 1 s, also of a queue with a shorter timeout.

    Of a FIFO queue one message of a group is in hand: groups are handled side by side, each in order, and those behind
    a message that fails wait for it uncounted. A batch may have several of a group; those behind one that failed count
    as not handled, come again after it, and have been received once more. Until that failure is overcome batches are of
    one message, so that no further receives of theirs are in vain.

    A failure is logged with message id, receive count, the exception's type and its traceback, but without its text,
    which often quotes the message; the dead letter has it (``Message.last_error``). What fails with a retryable error,
    such as a full disk, is tried again until it works.

    Stop: nothing new is received and what is in hand is finished, or after ``grace`` seconds treated as cancelled.
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
        max_messages: int | None = None,
        tracing: Tracing | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        concurrency = options.get("concurrency", 1)
        retry = options.get("retry") or Retry(first=1.0, longest=60.0)
        grace = options.get("grace")
        _check(concurrency, retry, grace, max_messages)
        _check_handler(handler, in_batches=max_messages is not None)
        self.name = options.get("name") or f"worker:{source.name}"
        self.handled = 0
        """Messages that were handled and deleted."""
        self.failed = 0
        """Times a message failed."""
        self._source = source
        self._batches: BatchHandling[T] | None = None
        if max_messages is None:
            self._single: Handling[T] = Handling(handler, concurrency)
        else:
            self._batches = BatchHandling(handler, concurrency)
        self._call_size = max_messages or 1
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._errors_metric = Metric.of("streamkit", "HandlerErrors", QueueName=source.name)
        self._concurrency = concurrency
        self._retry = retry
        self._grace = grace
        self._portions = Portions(source)
        self._settling = Settling(self._portions, clock, self.name)
        self._running = 0
        self._in_hand = 0
        self._careful_until_ms = 0
        self._progress: asyncio.Event | None = None
        self._idle: asyncio.Future[bool] | None = None
        self._ended = False
        self._failure: Exception | None = None

    @property
    def source(self) -> Source[T]:
        """The queue it works on."""
        return self._source

    def __repr__(self) -> str:
        return f"Worker({self.name!r}, handled={self.handled}, failed={self.failed})"

    def _repr_html_(self) -> str:
        from streamkit.showing.html import badge, card

        facts = {
            "queue": self._source.name,
            "handled": self.handled,
            "failed": self.failed,
            "in hand": self._in_hand,
            "": badge("ended", "quiet") if self._ended else None,
        }
        return card("Worker", self.name, facts)

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
            fifo = attributes.fifo
            async with anyio.create_task_group() as tasks:

                def start(messages: Sequence[Message[T]]) -> None:
                    self._running += 1
                    self._in_hand += 1
                    tasks.start_soon(self._handle, messages, timeout, fifo, tasks)

                receiving = Receiving(
                    self._portions, call_size=self._call_size, fifo=fifo, timeout=timeout, room=self._room, start=start
                )
                try:
                    while not stop.requested:
                        with stop.interruptible():
                            await self._settling.insist(lambda: self._receive(receiving))
                    await self._finish(tasks)
                except Exception as error:
                    self._fail(error, tasks)
        finally:
            self._ended = True
            self._tell()
        if self._failure is not None:
            raise self._failure

    async def wait_drained(self) -> None:
        """Return once the queue is empty, nothing visible, in flight or delayed, and what was handled is counted.

        Raises:
            ClosedError: the worker ended before; if it failed, with what as its ``__cause__``.
        """
        while True:
            progress = self._next_progress()
            found = await self._source.describe()
            is_empty = found.visible + found.not_visible + found.delayed == 0
            if is_empty and (self._in_hand == 0 or self._ended):
                return
            if self._ended:
                raise ClosedError(f"{self.name}, with messages left in its queue,") from self._failure
            await progress.wait()

    # ---- receiving

    async def _receive(self, receiving: Receiving[T]) -> None:
        while self._room() <= 0:
            await self._next_progress().wait()
        careful = self._clock.now_ms() < self._careful_until_ms
        if not await receiving.once(careful=careful):
            self._tell()  # The receive may have moved messages to the dead-letter queue.

    def _room(self) -> int:
        """For how many calls of the handler there is room. What is being settled does not hold up the next, but twice
        as much as may run is in hand at most."""
        return min(self._concurrency - self._running, 2 * self._concurrency - self._in_hand)

    async def _finish(self, tasks: anyio.abc.TaskGroup) -> None:
        """Wait for what is in hand, and cancel it after the grace period."""
        if self._grace is None or self._in_hand == 0:
            return
        self._idle = asyncio.get_running_loop().create_future()
        deadline_ms = self._clock.now_ms() + round(self._grace * 1000)
        if not await wait_until(self._clock, self._idle, deadline_ms):
            logger.warning(
                "%s: not finished %g s after the stop, and cancelled: %d", self.name, self._grace, self._in_hand
            )
            tasks.cancel_scope.cancel()

    # ---- handling

    async def _handle(
        self, messages: Sequence[Message[T]], timeout: float, fifo: bool, tasks: anyio.abc.TaskGroup
    ) -> None:
        with about(self._fields_of, messages):
            beat = Heartbeat(self._clock, timeout / 2, tasks, lambda: self._extend(messages, timeout, tasks))
            handled: Sequence[Message[T]] = ()
            rest = messages
            try:
                try:
                    failures = await self._call(messages)
                finally:
                    self._running -= 1
                    self._tell()
                behind = held_back(messages, failures) if fifo and failures else {}
                rest = [message for message in messages if message in failures or message in behind] if failures else ()
                handled = [message for message in messages if message not in rest] if rest else messages
                # INVARIANT: test_an_extension_on_its_way_does_not_outlast_the_handler
                await beat.stop()
                if failures:
                    await self._show_again(messages, failures, behind, timeout)
                    rest = ()
                if handled:
                    deleted = await self._settling.delete(handled, alone=self._in_hand == 1)
                    self.handled += deleted
            except asyncio.CancelledError:
                # INVARIANT: test_cancelled_anywhere_nothing_is_lost
                with anyio.move_on_after(_SETTLE_SECONDS, shield=True):
                    await beat.stop()
                    deleted = await self._settling.let_go(handled, rest)
                    self.handled += deleted
                raise
            except Exception as error:
                self._fail(error, tasks)
            finally:
                beat.cancel()
                self._in_hand -= 1
                if self._idle is not None and self._in_hand == 0:
                    wake(self._idle)
                self._tell()

    def _fields_of(self, messages: Sequence[Message[T]]) -> Fields:
        return {"worker": self.name, "queue": self._source.name, **of_messages(messages)}

    async def _call(self, messages: Sequence[Message[T]]) -> Mapping[Message[T], Exception]:
        """What failed, and with what."""
        spans = self._tracing.spans
        if spans is None:
            return await self._failures(messages)
        return await traced.handle(spans, self._source.name, messages, self._failures(messages))

    async def _failures(self, messages: Sequence[Message[T]]) -> Mapping[Message[T], Exception]:
        if self._batches is not None:
            return await self._batches.call(messages)
        (message,) = messages
        failure = await self._single.call(message)
        return {} if failure is None else {message: failure}

    async def _show_again(
        self,
        messages: Sequence[Message[T]],
        failures: Mapping[Message[T], Exception],
        behind: Mapping[Message[T], Message[T]],
        timeout: float,
    ) -> None:
        self.failed += len(failures)
        now_ms = self._clock.now_ms()
        self._metrics.put(self._errors_metric, len(failures), now_ms, 1, "Count")
        delays = {
            message: 0.0 if message in behind else self._retry.delay(message.receive_count) for message in failures
        }
        # The one that failed comes again after its delay, and is handled within its timeout or fails again.
        careful_until_ms = now_ms + round((max(delays.values()) + timeout) * 1000)
        self._careful_until_ms = max(self._careful_until_ms, careful_until_ms)
        await self._settling.show_again(messages, failures, delays, behind)

    async def _extend(self, messages: Sequence[Message[T]], timeout: float, tasks: anyio.abc.TaskGroup) -> float | None:
        """Hide messages for longer. Answers after how many seconds to do so again; None: it would be of no use."""
        try:
            return await self._settling.extend(messages, timeout)
        except Exception as error:
            self._fail(error, tasks)
            return None

    # ---- telling

    def _fail(self, error: Exception, tasks: anyio.abc.TaskGroup) -> None:
        self._failure = self._failure or error
        tasks.cancel_scope.cancel()

    def _next_progress(self) -> asyncio.Event:
        self._progress = self._progress or asyncio.Event()
        return self._progress

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None


def _check(concurrency: int, retry: Retry, grace: float | None, max_messages: int | None) -> None:
    if not isinstance(concurrency, int) or concurrency < 1:
        raise ValidationError(f"a worker has a concurrency of 1 or more, not {concurrency!r}")
    if not (retry.first >= 0 and retry.factor >= 0 and 0 <= retry.longest <= _LONGEST_TIMEOUT_SECONDS):
        raise ValidationError(f"{retry!r} is no back-off for messages: they can be hidden for 0 to 43,200 s")
    if grace is not None and not 0 <= grace < float("inf"):
        raise ValidationError(f"grace is 0 or more seconds, or None for as long as it takes, not {grace!r}")
    if max_messages is not None and (not isinstance(max_messages, int) or max_messages < 1):
        raise ValidationError(f"a batch has max_messages of 1 or more, not {max_messages!r}")


def _check_handler(handler: Handler, *, in_batches: bool) -> None:
    if in_batches and takes_message(handler):
        raise ValidationError(f"{handler!r:.100} takes one Message: use queue.worker, or annotate it list[Message]")
    if not in_batches and takes_messages(handler):
        raise ValidationError(f"{handler!r:.100} takes a list of messages: use queue.batch_worker")

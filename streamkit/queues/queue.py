"""A queue as its users hold it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, Unpack

import msgspec

from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import StreamKitError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.queues import traced
from streamkit.queues.attributes import QueueOptions, milliseconds
from streamkit.queues.attributes import attributes_of as attributes_of_options
from streamkit.queues.content import AttributeValue, attributes_of
from streamkit.queues.given import check_several, check_whole, handle_of, letter_of
from streamkit.queues.handling import Handler
from streamkit.queues.message import Message
from streamkit.queues.messages import Messages
from streamkit.queues.move_task import MoveTask
from streamkit.queues.queue_metrics import QueueMetrics, queue_metric
from streamkit.queues.selection import Where
from streamkit.queues.store import QueueDescription, QueueStore, SendEntry, SendResult, VisibilityEntry
from streamkit.queues.worker import Worker, WorkerOptions
from streamkit.service import Stop
from streamkit.spans import Tracing

T = TypeVar("T")


class Send(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One message of a ``send_batch`` that has more than a value. Mirrors SendMessageBatchRequestEntry."""

    value: T
    delay: float | None = None
    """Seconds until it is first visible; None: the queue's own."""
    group_id: str | None = None
    deduplication_id: str | None = None
    attributes: Mapping[str, AttributeValue] = {}
    trace_header: str | None = None


class Queue(Generic[T]):
    """Messages that are hidden while somebody works on them, and come back unless they are deleted.

    A handle: cheap to make, holds nothing. Durations in seconds. Mirrors SendMessage, ReceiveMessage, DeleteMessage and
    ChangeMessageVisibility (Amazon SQS API Reference).
    """

    def __init__(
        self,
        name: str,
        codec: Codec[T],
        store: QueueStore,
        clock: Clock,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self.name = name
        self.codec = codec
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._counters = QueueMetrics(name, store, clock, metrics)

    def __repr__(self) -> str:
        return f"Queue({self.name!r}, {self.codec!r})"

    def _repr_html_(self) -> str:
        from streamkit.showing.html import card
        from streamkit.showing.words import type_name

        facts, picture = self._counters.shown()
        hint = "`await queue.describe()` says how much waits, `await queue.peek()` shows what comes next"
        return card("Queue", self.name, {"values": type_name(self.codec.type), **facts}, picture, hint=hint)

    # ---- sending

    async def send(
        self,
        value: T,
        *,
        delay: float | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        trace_header: str | None = None,
    ) -> str:
        """Send one message and return its id; durable when it returns.

        Args:
            value: what the queue's ``type=`` says.
            delay: seconds until it is first visible (None: the queue's own). FIFO queues have a delay for all.
            group_id: FIFO: the message group, within which order is kept. Standard queues: the tenant; one that has
                much in flight does not keep the others waiting (fair queues).
            deduplication_id: FIFO: under the same id nothing more is stored for five minutes, and the id of the message
                that was is returned.
            attributes: up to ten named values beside the body: text, numbers, bytes or ``MessageAttribute``.
            trace_header: AWSTraceHeader.

        Raises:
            EncodeError: the value does not fit the queue's type.
            ValidationError: it is too large, or something of it is out of range; it was not sent.
        """
        delay_ms = None if delay is None else milliseconds("delay", delay)
        entry = SendEntry(
            self.codec.encode(value),
            delay_ms,
            attributes_of(attributes) if attributes else {},
            trace_header,
            group_id,
            deduplication_id,
        )
        result = (await self._send([entry], alone=True))[0]
        if result.error is not None:
            raise result.error
        return result.message_id

    async def send_batch(self, values: Iterable[T | Send[T]]) -> list[SendResult]:
        """Send several, values or ``Send(value=..., group_id=...)``; one result each, in order.

        One that is refused has its ``error`` in its result, and the others are sent.

        Raises:
            EncodeError: a value does not fit the queue's type; nothing was sent.
            ValidationError: there are too many, or all together are too large; nothing was sent.
        """
        return await self._send([self.entry(value) for value in values])

    def entry(self, value: T | Send[T]) -> SendEntry:
        """A value, or a ``Send``, as the store takes it.

        Raises:
            EncodeError: the value does not fit the queue's type.
            ValidationError: an attribute or the delay is out of range.
        """
        if not isinstance(value, Send):
            return SendEntry(self.codec.encode(value))
        return SendEntry(
            self.codec.encode(value.value),
            None if value.delay is None else milliseconds("delay", value.delay),
            attributes_of(value.attributes) if value.attributes else {},
            value.trace_header,
            value.group_id,
            value.deduplication_id,
        )

    # ---- receiving

    async def receive(
        self,
        max_messages: int = 1,
        *,
        visibility_timeout: float | None = None,
        wait: float | None = None,
        attempt_id: str | None = None,
    ) -> list[Message[T]]:
        """Up to ``max_messages``, hidden from others for ``visibility_timeout`` (None: the queue's own).

        With nothing visible it waits up to ``wait`` seconds (None: the queue's own), then returns none; a send or the
        end of somebody's timeout ends the wait.

        FIFO: a receive that failed half way is made again with the same ``attempt_id``, and gives the very same
        messages within five minutes, unless one of them was deleted or changed (ReceiveRequestAttemptId).

        Cancellation: nothing was received.

        Raises:
            OverLimitError: a standard queue has as many messages in flight as it may have, and this does not wait.
            ValidationError: ``max_messages`` is not a whole number in the engine's range, or a duration is out of its
                range; a visibility timeout is 0 to 43,200 s.
        """
        check_whole("max_messages", max_messages)
        timeout_ms = None if visibility_timeout is None else milliseconds("visibility_timeout", visibility_timeout)
        wait_ms = None if wait is None else milliseconds("wait", wait)
        receiving = self._store.receive_messages(self.name, max_messages, timeout_ms, wait_ms, attempt_id)
        spans = self._tracing.spans
        received = await (receiving if spans is None else traced.receive(spans, self.name, receiving))
        self._counters.received(len(received))
        return [Message(message, self.codec) for message in received]

    async def peek(self, limit: int = 10) -> Messages[T]:
        """The next visible messages, neither hidden nor counted; they have no receipt handle. A table, too.

        Raises:
            ValidationError: ``limit`` is not a whole number, 1 or more.
        """
        check_whole("limit", limit)
        found = await self._store.peek_messages(self.name, limit)
        return Messages([Message(message, self.codec) for message in found], self.name)

    # ---- settling

    async def delete(self, message: Message[T] | str) -> None:
        """Delete a received message, given itself or its receipt handle; deleting twice is fine.

        So is deleting what is not in this queue any more: it succeeds, and a message that has become a dead letter
        meanwhile stays one, whichever of its receipt handles it was. Mirrors DeleteMessage (Amazon SQS API Reference),
        which with an old handle succeeds and need not delete. Who has handled a message and must know whether it
        counted deletes it within its timeout, or extends that.

        Raises:
            MessageNotInflightError: somebody received it after this delivery's timeout had run out; on a FIFO queue,
                the timeout has run out.
            ReceiptHandleInvalidError: it was not received from this queue.
            ValidationError: it is neither a message nor a receipt handle.
        """
        (error,) = await self.delete_batch([message])
        if error is not None:
            raise error

    async def delete_batch(self, messages: Sequence[Message[T] | str]) -> list[StreamKitError | None]:
        """Delete several, given themselves or their receipt handles; one error or None per message, in order.

        Raises:
            ValidationError: one is neither a message nor a receipt handle, or there are none or too many; nothing was
                deleted.
        """
        check_several(messages)
        deleting = self._store.delete_messages(self.name, [handle_of(message) for message in messages])
        spans = self._tracing.spans
        errors = await (deleting if spans is None else traced.delete(spans, self.name, messages, deleting))
        self._counters.deleted(errors.count(None))
        return errors

    async def change_visibility(
        self, message: Message[T] | str, timeout: float, *, last_error: str | None = None
    ) -> None:
        """Hide a received message for ``timeout`` seconds from now; 0 shows it at once.

        ``last_error`` says what handling it failed with: once it is a dead letter, ``Message.last_error`` tells it.

        Raises:
            MessageNotInflightError: it was deleted, or received again by somebody else.
            ReceiptHandleInvalidError: it was not received from this queue.
            ValidationError: the timeout is not 0 to 43,200 s, or ends later than 12 hours after the receive.
        """
        (error,) = await self.change_visibility_batch([(message, timeout, last_error)])
        if error is not None:
            raise error

    async def change_visibility_batch(
        self, messages: Iterable[tuple[Message[T] | str, float] | tuple[Message[T] | str, float, str | None]]
    ) -> list[StreamKitError | None]:
        """Hide each message for its own number of seconds from now; one error or None per message, in order.

        What handling it failed with may stand third, as ``last_error`` of ``change_visibility``.

        Raises:
            ValidationError: one is neither a message nor a receipt handle, or there are none or too many; nothing was
                changed.
        """
        entries = [
            VisibilityEntry(handle_of(message), milliseconds("timeout", timeout), *last_error)
            for message, timeout, *last_error in messages
        ]
        return await self._store.change_visibility(self.name, entries)

    async def redrive(self, messages: Iterable[Message[T] | str], *, to: Queue[Any] | str | None = None) -> int:
        """Move visible messages of this dead-letter queue back, to be received afresh; how many were moved.

        Mirrors StartMessageMoveTask (Amazon SQS API Reference), for chosen messages and at once. Messages that are not
        visible any more are left alone.

        Args:
            messages: what ``peek`` returned, or some of it; or message ids, which need ``to``.
            to: where to (None: each message's own source queue).

        Raises:
            ValidationError: a message has no source, because it was sent here or is only an id: pass ``to``. Nothing
                was moved.
            NotFoundError: a queue to move to does not exist; nothing was moved.

        Cancellation: what goes to one queue was moved or was not, never in part; not so what goes to several.
        """
        check_several(messages)
        target = to.name if isinstance(to, Queue) else to
        by_target: dict[str, list[str]] = {}
        for message in messages:
            message_id, source = (message, None) if isinstance(message, str) else letter_of(message)
            destination = source if target is None else target
            if destination is None:
                reason = "is given by its id alone" if isinstance(message, str) else f"was sent to {self.name!r} itself"
                raise ValidationError(f"message {message_id:.80} {reason}: pass to=")
            by_target.setdefault(destination, []).append(message_id)
        if len(by_target) > 1:
            await self._store.describe_queues(list(by_target))  # One that is missing is found before anything moves.
        moved = 0
        for destination, ids in by_target.items():
            moved += await self._store.move_messages(self.name, ids, destination)
        return moved

    def move_task(
        self, *, to: Queue[Any] | str | None = None, rate: int | None = None, where: Where | None = None
    ) -> MoveTask:
        """A service that moves messages of this dead-letter queue back, or to one queue: ``kit.start(it)``.

        Args:
            to: where to (None: each message's own source queue).
            rate: messages per second, 1 to 500 (None: as fast as it goes).
            where: which: an event pattern or a function, see ``MoveTask`` (None: all).

        Raises:
            ValidationError: the rate is out of range.
        """
        target = to.name if isinstance(to, Queue) else to
        return MoveTask(self.name, self._store, self._clock, to=target, rate=rate, where=where)

    # ---- the queue itself

    async def update(self, **options: Unpack[QueueOptions]) -> None:
        """Change how the queue behaves, at once; what is left out stays as it is. See ``QueueOptions``.

        A shorter retention takes what is too old. Mirrors SetQueueAttributes.

        Raises:
            ValidationError: an attribute is out of range, or not one of this kind of queue; nothing was changed.
            NotFoundError: the dead-letter queue does not exist.
        """
        existing = (await self.describe()).attributes
        await self._store.update_queue(self.name, attributes_of_options(options, existing))

    async def purge(self) -> int:
        """Delete every message, also those in flight and delayed; how many there were. An atomic cut."""
        return await self._store.purge_queue(self.name)

    # ---- working

    def worker(self, handler: Handler, **options: Unpack[WorkerOptions]) -> Worker[T]:
        """A service that calls ``handler`` with every message; start it with ``kit.start``. See ``Worker``.

        Raises:
            ValidationError: an option is out of range, or the handler takes a list of messages.
        """
        return Worker(self, handler, self._clock, self._metrics, tracing=self._tracing, **options)

    def batch_worker(self, handler: Handler, *, max_messages: int = 10, **options: Unpack[WorkerOptions]) -> Worker[T]:
        """The same with up to ``max_messages`` at a time, as they come. See ``Worker`` for what failed of a batch.

        Raises:
            ValidationError: an option is out of range, or the handler takes a single message.
        """
        return Worker(
            self, handler, self._clock, self._metrics, max_messages=max_messages, tracing=self._tracing, **options
        )

    async def work(self, handler: Handler, **options: Unpack[WorkerOptions]) -> None:
        """Call ``handler`` with every message until this call is cancelled. See ``Worker``.

        Raises:
            ValidationError: as of ``worker``.
            StreamKitError: as of ``Worker.run``.
        """
        await self.worker(handler, **options).run(Stop())

    async def work_batches(self, handler: Handler, *, max_messages: int = 10, **options: Unpack[WorkerOptions]) -> None:
        """Call ``handler`` with lists of messages until this call is cancelled. Raises as ``work`` does."""
        await self.batch_worker(handler, max_messages=max_messages, **options).run(Stop())

    # ---- looking

    async def describe(self) -> QueueDescription:
        """Attributes and counts, which are exact."""
        (description,) = await self._store.describe_queues([self.name])
        return description

    def metric(self, name: str) -> Metric:
        """One of this queue's metrics, such as ``ApproximateNumberOfMessagesVisible``, for an alarm."""
        return queue_metric(self.name, name)

    async def dead_letter_sources(self) -> list[str]:
        """The queues whose dead-letter queue this is, by name. Mirrors ListDeadLetterSourceQueues."""
        policies = {queue.name: queue.attributes.redrive_policy for queue in await self._store.describe_queues()}
        return [name for name, policy in policies.items() if policy and policy.dead_letter_queue == self.name]

    async def _send(self, entries: list[SendEntry], *, alone: bool = False) -> list[SendResult]:
        spans = self._tracing.spans
        if spans is None:
            results = await self._store.send_messages(self.name, entries)
        else:
            store = partial(self._store.send_messages, self.name)
            results = await traced.send(spans, self.name, entries, store, alone=alone)
        self._counters.sent(entries, results)
        return results

"""Functions as plugins: what a mapping calls with its records or messages, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from typing import Any, Generic, TypeVar

from msgspec.structs import replace

from streamkit.clock import Clock, SystemClock
from streamkit.errors import DecodeError, FunctionError, ValidationError
from streamkit.functions.context import FunctionIdentity, LambdaContext
from streamkit.functions.function_rules import check_limits, check_takes_event_and_context, check_takes_one, name_of
from streamkit.functions.invocation import Invocation, Window
from streamkit.functions.lambda_event import kinesis_event, sqs_event
from streamkit.functions.lambda_handler import LambdaHandler
from streamkit.functions.responses import as_json, failed_whole, of_batch_function, of_each, of_lambda_handler
from streamkit.functions.runtime import Slots, run, slots_of
from streamkit.functions.work import After, Work, is_asynchronous
from streamkit.logs import Fields, about, of_messages, of_records
from streamkit.metrics.metric import Metric
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.queues.message import Message
from streamkit.streams.record import Batch

T = TypeVar("T")

EachFunction = Callable[[T], Awaitable[object] | object]
"""Takes one record or message; returns None, one result, or a list of results."""

BatchFunction = Callable[[Any], Awaitable[object] | object]
"""Takes a ``Batch`` of records, or a sequence of messages; returns None, a list of results, or a partial batch
response."""

THREADS = 40
"""How many invocations of a plain ``def`` run at a time, unless ``Function(concurrency=)`` says otherwise."""
_TIMED_OUT = "Sandbox.Timedout"


class Each(Generic[T]):
    """A function that is called record by record. Made by ``each``."""

    def __init__(self, function: EachFunction[T]) -> None:
        self.function = function
        self.__name__ = name_of(function)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"each({self.__name__})"

    def __call__(self, item: T) -> Any:
        """Call the function itself, as a test of it does."""
        return self.function(item)


def each(function: EachFunction[T]) -> Each[T]:
    """Have a function called with one record, or one message, at a time: a failing one fails alone.

    Of a stream, what was done before the failing record is committed, and only that record counts as failed: it is
    retried, and if the mapping gives up on it, it alone goes to the on-failure destination. Of a queue, all other
    messages are done; of a FIFO queue, all but those behind it in its message group.
    """
    return Each(function)


class Function:
    """A function with limits, as a mapping's ``function``: ``Function(handle, timeout=30, concurrency=10)``.

    At its time limit an ``async def`` is cancelled. A plain ``def`` runs in a thread, which nothing can end: it is left
    behind, what it answers is ignored, and it counts as running until it ends. Either way the invocation has failed
    with "Task timed out after 30.00 seconds".

    The concurrency limit is one for all lanes of all mappings that are given this ``Function``. An invocation waits up
    to a second for its turn; after that it counts as throttled, which is no attempt, and the mapping comes back later.
    """

    def __init__(
        self,
        handler: Each[Any] | LambdaHandler | BatchFunction,
        *,
        timeout: float | None = None,
        concurrency: int | None = None,
        name: str | None = None,
    ) -> None:
        """Limits of a function.

        Args:
            handler: What is called: an ``each`` function, a batch function, or a ``lambda_handler``.
            timeout: Seconds that one invocation may take, over 0, at most 900; None: as long as it takes.
            concurrency: 1 to 1,000 invocations at a time; None: 1 for a Lambda handler, 40 for a plain ``def``, and
                for an ``async def`` as many as its mappings have lanes.
            name: What metrics and the context call it; the handler's own name unless given.

        Raises:
            ValidationError: a limit is out of range, or the handler cannot be called as it would be.
        """
        if isinstance(handler, Function):
            raise ValidationError(f"{handler!r} has its limits already: change them there")
        check_limits(timeout, concurrency)
        check_function(handler)
        self.handler = handler
        self.timeout = timeout
        self.concurrency = concurrency
        self.__name__ = name or name_of(handler)
        self.__doc__ = handler.__doc__

    def __repr__(self) -> str:
        return f"Function({self.handler!r}, timeout={self.timeout}, concurrency={self.concurrency})"

    def __call__(self, *arguments: Any) -> Any:
        """Call the handler itself, as a test of it does; without limits."""
        return self.handler(*arguments)


AnyFunction = Each[Any] | Function | LambdaHandler | BatchFunction
"""What a mapping takes as its function."""


def check_function(function: object, *, windowed: bool = False) -> None:
    """Refuse what cannot be called as it would be.

    Args:
        function: A mapping's function; None: the records' own values are the results.
        windowed: Whether the mapping has a tumbling window.

    Raises:
        ValidationError: says what to change.
    """
    if isinstance(function, Function):
        function = function.handler
    if windowed and (function is None or isinstance(function, Each)):
        raise ValidationError(
            f"a tumbling window needs a batch function or a Lambda handler, which returns its state, not {function!r}"
        )
    if isinstance(function, LambdaHandler):
        check_takes_event_and_context(function.handler)
    elif function is not None:
        check_takes_one(function.function if isinstance(function, Each) else function)


class Invoker:
    """Calls a function with batches of one source. A plain ``def`` runs in a thread and never blocks the event loop."""

    def __init__(
        self,
        function: AnyFunction | None,
        *,
        source: str = "",
        clock: Clock | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Made on the event loop that will call it.

        Args:
            function: Any kind; None: the values themselves are the results.
            source: The name of the stream, for the events of Lambda handlers.
            clock: For time limits; the system's unless given.
            metrics: Where Invocations, Errors, Throttles, Duration, ConcurrentExecutions and IteratorAge go, in the
                namespace AWS/Lambda with the dimension FunctionName; None: nowhere.

        Raises:
            ValidationError: the function cannot be called as it would be.
        """
        check_function(function)
        limits = function if isinstance(function, Function) else None
        self._function: Any = limits.handler if limits is not None else function
        self._inner: Any = self._function
        if isinstance(self._function, Each):
            self._inner = self._function.function
        elif isinstance(self._function, LambdaHandler):
            self._inner = self._function.handler
        self._asynchronous = is_asynchronous(self._inner)
        self._source = source
        self._clock = SystemClock() if clock is None else clock
        self._metrics = metrics
        self._timeout_ms = None if limits is None or limits.timeout is None else round(limits.timeout * 1000)
        self.name = name_of(function).encode("ascii", "backslashreplace").decode()
        """What metrics and contexts call the function."""
        handler = self._function if isinstance(self._function, LambdaHandler) else None
        self._identity = FunctionIdentity(
            self.name,
            "$LATEST" if handler is None else handler.function_version,
            128 if handler is None else handler.memory_limit_in_mb,
            self._clock.now_ms(),
        )
        self._limits = limits
        self._slots: Slots | None = None
        self._of = {
            name: Metric.of("AWS/Lambda", name, FunctionName=self.name)
            for name in ("Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions", "IteratorAge")
        }

    async def invoke(self, batch: Batch[Any], *, window: Window | None = None) -> Invocation:
        """Call the function with a stream's records; its exceptions are part of the answer, never raised.

        Without a function each record's own value is its result.

        Cancellation: passed on to an ``async def``, which is waited for; a thread is waited for until its time limit.
        """
        return await self._invoke(batch, None, window, False)

    def aged(self, age_ms: int) -> None:
        """The last record of a batch of a stream was so old when the batch was done, or failed."""
        if self._function is not None:
            self._publish("IteratorAge", age_ms)

    async def invoke_messages(self, messages: Sequence[Message[Any]], *, queue: str, fifo: bool) -> Invocation:
        """Call the function with messages of the queue of this name; its exceptions are part of the answer.

        Without a function each message's own value is its result.

        Cancellation: as of ``invoke``.
        """
        return await self._invoke(messages, queue, None, fifo)

    async def _invoke(self, items: Any, queue: str | None, window: Window | None, fifo: bool) -> Invocation:
        if self._function is None:
            return _values(items, queue is not None)
        if window is not None:
            # The function may change its copy and then fail.
            window = replace(window, state=deepcopy(window.state))
        clock = self._clock
        if self._slots is None:
            self._slots = slots_of(*self._limit())
        if not await self._slots.acquire(clock):
            self._publish("Throttles", 1)
            error = FunctionError(f"function {self.name} is at its concurrency limit: it was not called")
            return failed_whole(len(items), error, queue=queue is not None, throttled=True)
        began_ms = clock.now_ms()
        deadline_ms = None if self._timeout_ms is None else began_ms + self._timeout_ms
        context = LambdaContext(self._identity, clock, deadline_ms, window)
        try:
            work = self._work(items, queue, window, fifo, context)
        except FunctionError as error:
            self._slots.release()
            return failed_whole(len(items), error, queue=queue is not None)
        self._publish("Invocations", 1)
        self._publish("ConcurrentExecutions", self._slots.active)
        with about(self._fields_of, work, context):
            await run(work, self._slots, clock, context, deadline_ms)
        invocation = self._answer(work, items, queue, window)
        # AWS: each invocation is a sample of Errors, 0 or 1, so that their average is a rate.
        self._publish("Errors", 1 if invocation.error is not None and not invocation.reported else 0)
        self._publish("Duration", clock.now_ms() - began_ms)
        return replace(invocation, request_id=context.aws_request_id) if invocation.error is not None else invocation

    def _fields_of(self, work: Work, context: LambdaContext) -> Fields:
        fields: dict[str, object] = {"function": self.name, "request_id": context.aws_request_id}
        if isinstance(self._function, Each):
            for item in work.in_hand:
                fields.update(of_messages([item]) if isinstance(item, Message) else of_records([item]))
        return fields

    def _limit(self) -> tuple[object, int | None]:
        """Who shares the slots, and how many there are."""
        if self._limits is not None and self._limits.concurrency is not None:
            return self._limits, self._limits.concurrency
        if isinstance(self._function, LambdaHandler):
            # AWS: an environment has one invocation at a time, and handlers keep things in globals.
            return self._inner, 1
        return self._inner, None if self._asynchronous else THREADS

    def _work(self, items: Any, queue: str | None, window: Window | None, fifo: bool, context: LambdaContext) -> Work:
        function, asynchronous = self._function, self._asynchronous
        if isinstance(function, Each):
            calls = [(item,) for item in items]
            if queue is None:
                return Work(function.function, calls, asynchronous=asynchronous)
            after: After = "skip group" if fifo else "go on"
            groups = [item.group_id for item in items] if fifo else ()
            return Work(function.function, calls, asynchronous=asynchronous, after=after, groups=groups)
        if isinstance(function, LambdaHandler):
            event = kinesis_event(items, self._source, window) if queue is None else sqs_event(items, queue)
            return Work(function.handler, [(event, context)], asynchronous=asynchronous)
        return Work(function, [(items,)], asynchronous=asynchronous)

    def _answer(self, work: Work, items: Any, queue: str | None, window: Window | None) -> Invocation:
        of_queue = queue is not None
        timed_out = FunctionError(f"Task timed out after {(self._timeout_ms or 0) / 1000:.2f} seconds", _TIMED_OUT)
        if isinstance(self._function, Each):
            return of_each(len(items), work.answers, work.errors, timed_out, queue=of_queue)
        if 0 not in work.answers:
            return failed_whole(len(items), work.errors.get(0, timed_out), queue=of_queue)
        answer = work.answers[0]
        handler = self._function if isinstance(self._function, LambdaHandler) else None
        if handler is not None:
            try:
                answer = as_json(answer)
            except FunctionError as error:
                return failed_whole(len(items), error, queue=of_queue)
        windowed = window is not None

        def ids() -> list[str]:
            return [item.message_id if of_queue else str(item.sequence_number) for item in items]

        try:
            if handler is not None:
                return of_lambda_handler(
                    len(items), ids, answer, queue=of_queue, windowed=windowed, reports=handler.reports
                )
            return of_batch_function(len(items), ids, answer, queue=of_queue, windowed=windowed)
        except FunctionError as error:
            return failed_whole(len(items), error, queue=of_queue, reported=True)

    def _publish(self, name: str, value: float) -> None:
        if self._metrics is not None:
            unit: Unit = "Milliseconds" if name in ("Duration", "IteratorAge") else "Count"
            self._metrics.put(self._of[name], value, self._clock.now_ms(), 1, unit)


def _values(items: Any, of_queue: bool) -> Invocation:
    """Without a function: each value is a result, and what does not decode fails."""
    answers: dict[int, Any] = {}
    errors: dict[int, Exception] = {}
    for at, item in enumerate(items):
        try:
            # One result, also if it is a list; null is none.
            answers[at] = None if item.value is None else [item.value]
        except DecodeError as error:
            errors[at] = error
            if not of_queue:
                break
    return of_each(len(items), answers, errors, FunctionError("not tried"), queue=of_queue)

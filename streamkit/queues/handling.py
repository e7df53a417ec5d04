"""Handling messages: calling the handler with one, and keeping those in hand hidden meanwhile."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import anyio
import anyio.abc
import anyio.to_thread

from streamkit.clock import Clock, Timer
from streamkit.errors import FunctionError
from streamkit.queues.message import Message

T = TypeVar("T")

Handler = Callable[[Any], Awaitable[object] | object]
"""Takes a message's value, or the ``Message`` if its first parameter is annotated so."""


class Calling:
    """One handler and how it is called. A plain ``def`` runs in a thread, so that it never blocks the event loop."""

    def __init__(self, handler: Handler, concurrency: int) -> None:
        self._handler = handler
        self._asynchronous = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
        )
        self._threads = anyio.CapacityLimiter(concurrency)

    async def answer(self, argument: object) -> object:
        """What the handler returns.

        Cancellation: of an asynchronous handler at once; one in a thread is waited for, and its answer counts.

        Raises:
            Exception: what the handler raised.
        """
        try:
            if self._asynchronous:
                answer = self._handler(argument)
            else:
                answer = await anyio.to_thread.run_sync(self._handler, argument, limiter=self._threads)
            return await answer if inspect.isawaitable(answer) else answer
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: the handler awaited something that was cancelled, which is its own failure.
            failure = FunctionError("the handler awaited something that was cancelled")
            raise failure.with_traceback(cancelled.__traceback__) from None


class Handling(Generic[T]):
    """A handler of single messages."""

    def __init__(self, handler: Handler, concurrency: int) -> None:
        self._takes_message = takes_message(handler)
        self._calling = Calling(handler, concurrency)

    async def call(self, message: Message[T]) -> Exception | None:
        """Call the handler. What it raises, or the body's not decoding, is the answer; None: it returned.

        Cancellation: see ``Calling.answer``.
        """
        try:
            await self._calling.answer(message if self._takes_message else message.value)
        except Exception as error:
            return error
        return None


class Heartbeat:
    """Extends a timeout again and again, one extension at a time. Between them: one timer.

    ``extend`` is first called after ``first`` seconds; it answers after how many more, counted from when it was called,
    it is to be called again, or None for never.
    """

    def __init__(
        self, clock: Clock, first: float, tasks: anyio.abc.TaskGroup, extend: Callable[[], Awaitable[float | None]]
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._extend = extend
        self._stopped = False
        self._extended: asyncio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        self._timer: Timer = clock.call_at(clock.now_ms() + round(first * 1000), self._due)

    def _due(self) -> None:
        self._extended = asyncio.Event()
        # A handler in a thread outlives a cancellation of the worker, and its message stays hidden as long.
        self._scope = anyio.CancelScope(shield=True)
        self._tasks.start_soon(self._beat, self._scope, self._extended)

    async def _beat(self, scope: anyio.CancelScope, extended: asyncio.Event) -> None:
        began_ms = self._clock.now_ms()
        again: float | None = None
        try:
            with scope:
                again = await self._extend()
        finally:
            extended.set()
        if again is not None and not self._stopped:
            # The new timeout runs from `began_ms` or later, so half of it counted from there is never too late.
            self._timer = self._clock.call_at(began_ms + round(again * 1000), self._due)

    async def stop(self) -> None:
        """No further extension begins, and the one on its way has ended."""
        self._stopped = True
        self._timer.cancel()
        if self._extended is not None:
            await self._extended.wait()

    def cancel(self) -> None:
        """No further extension begins, and the one on its way is given up; its messages have been settled."""
        self._stopped = True
        self._timer.cancel()
        if self._scope is not None:
            self._scope.cancel()


def takes_message(handler: Handler) -> bool:
    """Whether the handler's first parameter is annotated ``Message`` or ``Message[...]``."""
    hint = _first_hint(handler)
    return _is_named_message(hint) if isinstance(hint, str) else _is_message(hint)


def takes_messages(handler: Handler) -> bool:
    """Whether the handler's first parameter is annotated ``list[Message]``, ``Sequence[Message[...]]`` or alike."""
    hint = _first_hint(handler)
    if isinstance(hint, str):
        return _is_named_message(hint.partition("[")[2].rstrip("]").partition(",")[0])
    return any(_is_message(argument) for argument in get_args(hint)) and not _is_message(hint)


def _is_message(hint: object) -> bool:
    return hint is Message or get_origin(hint) is Message


def _is_named_message(hint: str) -> bool:
    return hint.partition("[")[0].rpartition(".")[2].strip() == Message.__name__


def _first_hint(handler: Handler) -> Any:
    """What the first parameter is annotated with; as text if it says what only type checkers know."""
    try:
        first = next(iter(inspect.signature(handler).parameters.values()))
    except (TypeError, ValueError, StopIteration):
        return None
    hint: Any = first.annotation
    if isinstance(hint, str):
        try:
            # This annotation alone: that another one cannot be resolved is no reason to misread it.
            alone = SimpleNamespace(__annotations__={"first": hint})
            return get_type_hints(alone, _globals(handler))["first"]
        except Exception:
            # Imported for type checkers only, so its name is all there is.
            return str(hint)
    return hint


def _globals(handler: Any) -> dict[str, Any]:
    """Where the handler's annotations were written."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = inspect.unwrap(handler)
    if not inspect.isroutine(function):
        function = type(function).__call__
    found: dict[str, Any] = getattr(function, "__globals__", {})
    return found

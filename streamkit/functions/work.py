"""The calls that one invocation consists of, and how far they have come."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Literal

from streamkit.errors import FunctionError

After = Literal["stop", "skip group", "go on"]
"""What a failing call means for those behind it."""


class Work:
    """Calls of one function, made one after the other: a single one, or one per record.

    What is left to do is decided by ``after``: a stream's records wait for the failing one, messages do not, and those
    of a FIFO queue only for those of their group.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        *,
        asynchronous: bool,
        after: After = "stop",
        groups: Sequence[Hashable] = (),
    ) -> None:
        self._function = function
        self._calls = calls
        self._after = after
        self._groups = groups
        self._failed_groups: set[Hashable] = set()
        self._next = 0
        self._awaitable: Awaitable[Any] | None = None
        self._closed = False
        self.asynchronous = asynchronous
        self.answers: dict[int, Any] = {}
        """What the calls that are done returned, by their place."""
        self.errors: dict[int, Exception] = {}
        """What the others raised. A place in neither was not called, or not to its end."""

    @property
    def in_hand(self) -> tuple[Any, ...]:
        """The arguments of the call that is being made, or comes next; none if nothing is left to do."""
        return self._calls[self._next] if self._next < len(self._calls) else ()

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return self._closed or self._next >= len(self._calls)

    @property
    def wants_loop(self) -> bool:
        """The next step must run on the event loop: ``on_loop`` and not ``in_thread``."""
        return self.asynchronous or self._awaitable is not None

    def close(self) -> None:
        """No call begins any more, and what one in a thread still answers is ignored."""
        self._closed = True
        # INVARIANT: test_what_a_closed_work_still_does_is_not_seen
        # The thread goes on with the dicts it has; copying one is a single step for it.
        self.answers, self.errors = dict(self.answers), dict(self.errors)
        awaitable, self._awaitable = self._awaitable, None
        if inspect.iscoroutine(awaitable):
            awaitable.close()

    def fail(self, error: Exception) -> None:
        """The call in hand failed, in a way that it could not tell itself."""
        at = self._next
        self.errors[at] = error
        self._next += 1
        self._hold_back(at)

    async def on_loop(self) -> None:
        """Make calls on the event loop until nothing is left, or what a plain ``def`` answered was awaited.

        Raises:
            CancelledError: it was cancelled from outside, and not by the function.
        """
        while not self.finished:
            at = self._next
            if self._is_held_back(at):
                self._next += 1
                continue
            try:
                awaitable, self._awaitable = self._awaitable, None
                answer = await (self._function(*self._calls[at]) if awaitable is None else awaitable)
            except asyncio.CancelledError as cancelled:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # Nobody cancelled us: the function awaited something that was cancelled, which is its own failure.
                failure = FunctionError("the function awaited something that was cancelled")
                error: BaseException = failure.with_traceback(cancelled.__traceback__)
            except (KeyboardInterrupt, GeneratorExit):
                raise  # Ctrl-C and the end of the loop; not the function's doing.
            except BaseException as raised:
                error = raised
            else:
                if self._closed:
                    return  # It was cancelled at its time limit, and answered all the same.
                self.answers[at] = answer
                self._next += 1
                if not self.asynchronous:
                    return
                continue
            if self._closed:
                return
            self.fail(_as_exception(error))
            if not self.asynchronous:
                return

    def in_thread(self) -> None:
        """Make calls in a thread until nothing is left, or one answers with an awaitable. All in one hop."""
        answers, errors = self.answers, self.errors
        while not self.finished:
            at = self._next
            if self._is_held_back(at):
                self._next += 1
                continue
            try:
                answer = self._function(*self._calls[at])
            except BaseException as error:
                errors[at] = _as_exception(error)
                self._next += 1
                self._hold_back(at)
            else:
                if inspect.isawaitable(answer):
                    if not self._closed:
                        self._awaitable = answer
                    elif inspect.iscoroutine(answer):
                        answer.close()
                    return
                answers[at] = answer
                self._next += 1

    def _hold_back(self, at: int) -> None:
        if self._after == "stop":
            self._next = len(self._calls)
        elif self._after == "skip group":
            self._failed_groups.add(self._groups[at])

    def _is_held_back(self, at: int) -> bool:
        return bool(self._failed_groups) and self._groups[at] in self._failed_groups


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine: an ``async def``, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    )


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit):
        failure = FunctionError(f"Runtime exited with error: exit status {error.code}", "Runtime.ExitError")
    else:
        failure = FunctionError(f"{type(error).__name__}: {error}", type(error).__name__)
    failure.__cause__ = error
    return failure

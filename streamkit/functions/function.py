"""Functions as plugins: what a mapping calls with its records, and what came of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import anyio.to_thread

from streamkit.errors import FunctionError
from streamkit.functions.invocation import Invocation
from streamkit.streams.record import Batch, Record

T = TypeVar("T")

RecordFunction = Callable[[Record[T]], Awaitable[object] | object]
"""Takes one record; returns None, one result, or a list of results."""

BatchFunction = Callable[[Batch[T]], Awaitable[object] | object]
"""Takes a batch; returns None, a list of results, or a partial batch response."""


class Each(Generic[T]):
    """A function that is called record by record. Made by ``each``."""

    def __init__(self, function: RecordFunction[T]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", repr(function))
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"each({self.__name__})"

    def __call__(self, record: Record[T]) -> Any:
        """Call the function itself, as a test of it does."""
        return self.function(record)


def each(function: RecordFunction[T]) -> Each[T]:
    """Have a function called with one record at a time: a failing record fails alone.

    What was done before the failing record is committed, and only that record counts as failed: it is retried, and if
    the mapping gives up on it, it alone goes to the on-failure destination.
    """
    return Each(function)


class Invoker(Generic[T]):
    """Calls a function with batches. A plain ``def`` runs in a thread, so that it never blocks the event loop."""

    def __init__(self, function: Each[T] | BatchFunction[T] | None) -> None:
        self._function = function

    async def invoke(self, batch: Batch[T]) -> Invocation:
        """Call the function; its exceptions are part of the answer, never raised.

        Without a function each record's own value is its result.
        """
        if self._function is None:
            return await self._one_by_one(batch, _value)
        if isinstance(self._function, Each):
            return await self._one_by_one(batch, self._function.function)
        try:
            return _of_batch(batch, await _call(self._function, batch))
        except Exception as error:
            return Invocation([], 0, len(batch), error)

    async def _one_by_one(self, batch: Batch[T], function: RecordFunction[T]) -> Invocation:
        results: list[tuple[int, list[Any]]] = []
        for index, record in enumerate(batch):
            try:
                answer = await _call(function, record)
            except Exception as error:
                return Invocation(results, index, 1, error)
            if answer is not None:
                results.append((index, answer if isinstance(answer, list) else [answer]))
        return Invocation(results, len(batch))


def _value(record: Record[Any]) -> Any:
    return record.value


async def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(argument)
    if function is _value:
        return function(argument)
    answer = await anyio.to_thread.run_sync(function, argument)
    return await answer if inspect.isawaitable(answer) else answer


def _of_batch(batch: Batch[Any], answer: Any) -> Invocation:
    if answer is None or answer == {}:
        return Invocation([], len(batch))
    if isinstance(answer, list):
        # As many results as records are paired with them; otherwise all belong to the last.
        if len(answer) == len(batch):
            return Invocation([(at, [one]) for at, one in enumerate(answer) if one is not None], len(batch))
        return Invocation([(len(batch) - 1, [one for one in answer if one is not None])], len(batch))
    if isinstance(answer, Mapping) and set(answer) == {"batchItemFailures"}:
        return _partial(batch, answer["batchItemFailures"])
    raise FunctionError(
        f"the function returned {answer!r:.100}: return None, a list of items, writes or values, or "
        '{"batchItemFailures": [{"itemIdentifier": sequence_number}]}'
    )


def _partial(batch: Batch[Any], failures: Any) -> Invocation:
    """Lambda's rules: the lowest number that is named and everything after it is retried."""
    if not failures:
        return Invocation([], len(batch))
    places = {str(record.sequence_number): at for at, record in enumerate(batch)}
    try:
        first = min(places[str(failure["itemIdentifier"])] for failure in failures)
    except (TypeError, KeyError):
        raise FunctionError(
            f"the function returned batchItemFailures {failures!r:.100}, which names no record of its batch: "
            "the whole batch counts as failed"
        ) from None
    error = FunctionError(f"the function reported record {batch[first].sequence_number} as failed")
    return Invocation([], first, len(batch) - first, error)

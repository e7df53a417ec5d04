"""What a function's answer means: results, state, and which records or messages failed. Pure.

Follows the AWS Lambda Developer Guide ("Configuring partial batch response" for Kinesis and for SQS, and "tumbling
windows"): an answer that names no failure is a success, one that names what is not in the batch fails it whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from streamkit.errors import FunctionError
from streamkit.functions.invocation import Invocation

Ids = Callable[[], Sequence[str]]
"""The sequence numbers or message ids of a batch, made only when an answer names some."""

_OF_BATCHES = ("batchItemFailures", "results", "state")


def of_batch_function(count: int, ids: Ids, answer: Any, *, queue: bool, windowed: bool) -> Invocation:
    """What a batch function's answer means for a batch of so many records or messages.

    None, a list of results, or a dict of ``results``, ``batchItemFailures`` and, in a tumbling window, ``state``. As
    many results as there are records belong to one each; otherwise all belong to the last.

    Raises:
        FunctionError: it is none of these, and the whole batch counts as failed.
    """
    if isinstance(answer, list):
        answer = {"results": answer}
    elif answer is None:
        answer = {}
    known = isinstance(answer, Mapping) and answer.keys() <= set(_OF_BATCHES) and (windowed or "state" not in answer)
    results = answer.get("results") if known else None
    if not known or not isinstance(results or [], list):
        raise FunctionError(
            f"the function returned a value of type {type(answer).__qualname__}: return None, a list of items, writes "
            'or values, or {"batchItemFailures": [{"itemIdentifier": sequence_number}]}'
            + (
                ', with "state" (a dict) and maybe "results" (a list)'
                if windowed
                else ', maybe with "results" (a list)'
            )
        )
    invocation = _settled(count, ids, answer, queue=queue, windowed=windowed)
    return _with_results(invocation, count, results or [], queue=queue)


def of_lambda_handler(count: int, ids: Ids, answer: Any, *, queue: bool, windowed: bool, reports: bool) -> Invocation:
    """What a Lambda handler's answer means for a batch of so many records or messages.

    ``reports`` is whether FunctionResponseTypes has ``"ReportBatchItemFailures"``; without it, and outside of a window,
    the answer means nothing.

    Raises:
        FunctionError: nothing can be made of the answer, and the whole batch counts as failed.
    """
    if not windowed and (not reports or answer is None or answer in ([], "")):
        return Invocation([], count)
    if not isinstance(answer, Mapping):
        raise FunctionError(
            f"the handler returned a value of type {type(answer).__qualname__}, which is no response: the whole batch "
            "counts as failed. Where its answer means nothing, say lambda_handler(..., function_response_types=())"
        )
    answer = answer if reports else {**answer, "batchItemFailures": None}
    return _settled(count, ids, answer, queue=queue, windowed=windowed)


def failed_whole(
    count: int, error: Exception, *, queue: bool, reported: bool = False, throttled: bool = False
) -> Invocation:
    """Nothing of a batch of ``count`` is done."""
    failures = tuple(range(count)) if queue else ()
    return Invocation([], 0, count, error, failures, reported=reported, throttled=throttled)


def as_json(answer: Any) -> Any:
    """A handler's answer as Lambda reads it: through JSON.

    Raises:
        FunctionError: it cannot be written as JSON.
    """
    if answer is None:
        return None
    try:
        return json.loads(json.dumps(answer, default=_decimal))
    except (TypeError, ValueError) as error:
        raise FunctionError(f"Unable to marshal response: {error}", "Runtime.MarshalError") from error


def _decimal(value: object) -> float:
    # AWS: the runtime for Python writes a Decimal as a number.
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def of_each(
    count: int, answers: Mapping[int, Any], errors: Mapping[int, Exception], unfinished: Exception, *, queue: bool
) -> Invocation:
    """What came of calling a function with one record, or message, at a time.

    Args:
        count: How many there were.
        answers: By place: None, one result or a list of them.
        errors: By place, of those that failed.
        unfinished: Why those without either have neither.
        queue: Whether one that failed leaves those behind it to be done.
    """
    failures = [at for at in range(count) if at not in answers]
    done = count - len(failures) if queue else (failures[0] if failures else count)
    results = [
        (at, answer if isinstance(answer, list) else [answer])
        for at, answer in answers.items()
        if answer is not None and (queue or at < done)
    ]
    if not failures:
        return Invocation(results, count)
    error = next((errors[at] for at in failures if at in errors), unfinished)
    if queue:
        return Invocation(results, done, len(failures), error, tuple(failures))
    return Invocation(results, done, 1, error)


def _settled(count: int, ids: Ids, answer: Mapping[str, Any], *, queue: bool, windowed: bool) -> Invocation:
    """What failed, and the state."""
    state = answer.get("state") if windowed else None
    if windowed and not isinstance(state, dict):
        # AWS: an answer without state is a failed invocation.
        raise FunctionError(
            f"the function has a tumbling window and returned a value of type {type(answer).__qualname__}: return "
            '{"state": {...}}'
        )
    reported = answer.get("batchItemFailures")
    if reported is None or reported in ([], ()):
        return Invocation([], count, state=state)
    known = ids()
    places = sorted(_places(known, reported))
    if queue:
        error = FunctionError(f"the function reported message {known[places[0]]} as failed")
        return Invocation([], count - len(places), len(places), error, tuple(places), state, reported=True)
    # AWS: the lowest number that is named, and everything after it, is tried again.
    first = places[0]
    error = FunctionError(f"the function reported record {known[first]} as failed")
    return Invocation([], first, count - first, error, state=state, reported=True)


def _places(ids: Sequence[str], reported: Any) -> set[int]:
    where = {each: at for at, each in enumerate(ids)}
    try:
        if not isinstance(reported, (list, tuple)):
            raise TypeError
        return {where[_identifier(failure["itemIdentifier"])] for failure in reported}
    except (TypeError, KeyError):
        raise FunctionError(
            "the function returned a batchItemFailures that names no record of its batch: the whole batch counts as "
            "failed"
        ) from None


def _identifier(value: Any) -> str:
    if not isinstance(value, (str, int)):
        raise TypeError
    return str(value)


def _with_results(invocation: Invocation, count: int, results: list[Any], *, queue: bool) -> Invocation:
    if not results:
        return invocation
    kept: list[tuple[int, list[Any]]]
    together = len(results) != count
    if len(results) == count:
        undone = set(invocation.failures) if queue else range(invocation.done, count)
        kept = [(at, [one]) for at, one in enumerate(results) if one is not None and at not in undone]
    elif invocation.error is None:
        kept = [(max(0, count - 1), [one for one in results if one is not None])]
    else:
        raise FunctionError(
            f"the function returned {len(results)} results for {count} records and reported failures among them: "
            "return one result per record (None for none), so that those of what failed can be told apart"
        )
    return Invocation(
        kept,
        invocation.done,
        invocation.failed,
        invocation.error,
        invocation.failures,
        invocation.state,
        invocation.reported,
        together=together,
    )

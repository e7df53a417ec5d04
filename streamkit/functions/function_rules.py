"""Which limits a function may have, and whether it can be called as it would be. Pure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from streamkit.errors import ValidationError

LONGEST_SECONDS = 900.0
"""AWS: no function runs longer than 15 minutes."""
_MOST = 1000


def check_limits(timeout: object, concurrency: object) -> None:
    """Refuse limits out of range.

    Raises:
        ValidationError: says which, and the range.
    """
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= LONGEST_SECONDS
    ):
        raise ValidationError(f"timeout is a number of seconds over 0, at most {LONGEST_SECONDS:g}: {timeout!r}")
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= _MOST
    ):
        raise ValidationError(f"concurrency is 1 to {_MOST:,} invocations at a time, not {concurrency!r}")


def check_takes_one(function: Any) -> None:
    """Refuse what is not called with one argument, and say so if it looks like a Lambda handler.

    Raises:
        ValidationError: says what to change.
    """
    takes = _takes(function)
    name = name_of(function)
    if 1 not in takes and 2 in takes:
        raise ValidationError(
            f"{name} takes two arguments: if it is a Lambda handler (event, context), say lambda_handler({name}); "
            "other functions take one, and ask current_context() for the rest"
        )
    if 1 not in takes:
        raise ValidationError(
            f"{name} does not take one argument: a function is called with a batch, or with @each with one record"
        )


def check_takes_event_and_context(handler: Any) -> None:
    """Refuse what is no Lambda handler.

    Raises:
        ValidationError: it is not called with two arguments.
    """
    if 2 not in _takes(handler):
        raise ValidationError(f"{name_of(handler)} is to be a Lambda handler and does not take (event, context)")


def name_of(function: Any) -> str:
    """What a function is called in metrics and messages: the same in every process."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _takes(function: Callable[..., Any]) -> set[int]:
    """With how many positional arguments, one or two, it can be called."""
    if not callable(function):
        raise ValidationError(f"a mapping needs a function that can be called, not {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {1, 2}  # Built in, without a signature.
    found = set()
    for count in (1, 2):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        found.add(count)
    return found

"""Handlers written for AWS Lambda, unmodified: ``(event, context)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamkit.errors import ValidationError
from streamkit.functions.function_rules import name_of

Handler = Callable[[dict[str, Any], Any], Any]
"""Takes an event (a dict, as Lambda decodes it from JSON) and a context."""

REPORTS = "ReportBatchItemFailures"


class LambdaHandler:
    """A Lambda handler as a mapping's function. Made by ``lambda_handler``."""

    def __init__(
        self,
        handler: Handler,
        function_name: str,
        function_version: str,
        memory_limit_in_mb: int,
        function_response_types: Sequence[str],
    ) -> None:
        self.handler = handler
        self.__name__ = function_name
        self.__doc__ = handler.__doc__
        self.function_version = function_version
        self.memory_limit_in_mb = memory_limit_in_mb
        self.reports = REPORTS in function_response_types

    def __repr__(self) -> str:
        return f"lambda_handler({self.__name__})"

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        """Call the handler itself, as a test of it does."""
        return self.handler(event, context)


def lambda_handler(
    handler: Handler,
    *,
    function_name: str | None = None,
    function_version: str = "$LATEST",
    memory_limit_in_mb: int = 128,
    function_response_types: Sequence[str] = (REPORTS,),
) -> LambdaHandler:
    """Have a handler that was written for AWS Lambda called by a mapping, with Lambda's events and context.

    Its answer means what it means to Lambda: ``batchItemFailures``, and ``state`` in a tumbling window. Nothing of it
    goes to the sink. What the handler writes elsewhere by itself is not part of the commit.

    It is called by one invocation at a time, in all mappings together, as in one environment of Lambda: handlers that
    keep something in globals count on that. ``Function(lambda_handler(...), concurrency=)`` allows more.

    Args:
        handler: ``(event, context)``, a plain ``def`` (run in a thread) or an ``async def``.
        function_name: What the context and the metrics call it; the handler's own name unless given.
        function_version: For the context.
        memory_limit_in_mb: For the context; nothing limits memory here.
        function_response_types: ``()`` if the mapping in AWS does not report batch item failures: then the answer
            means nothing.

    Raises:
        ValidationError: ``handler`` cannot be called, or a response type is unknown.
    """
    if not callable(handler):
        raise ValidationError(f"lambda_handler needs a function (event, context), not {handler!r}")
    unknown = [each for each in function_response_types if each != REPORTS]
    if unknown:
        raise ValidationError(f"function_response_types is () or ({REPORTS!r},), not {function_response_types!r}")
    name = function_name or name_of(handler)
    return LambdaHandler(handler, name, function_version, memory_limit_in_mb, function_response_types)

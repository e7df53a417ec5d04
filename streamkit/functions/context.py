"""What a running function may know of its invocation: the context object of AWS Lambda.

Follows the AWS Lambda Developer Guide ("Using the Lambda context object to retrieve Python function information").
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar

from streamkit.clock import Clock, to_datetime
from streamkit.errors import ValidationError
from streamkit.functions.function_rules import LONGEST_SECONDS
from streamkit.functions.invocation import Window
from streamkit.functions.lambda_event import function_arn


class CognitoIdentity:
    """Who called a function through Amazon Cognito: with a mapping, nobody."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id: str | None = None
        self.cognito_identity_pool_id: str | None = None


class FunctionIdentity:
    """What all invocations of a function have in common. ``log_stream_name`` names the environment: this process."""

    __slots__ = ("function_name", "function_version", "log_stream_name", "memory_limit_in_mb")

    def __init__(self, function_name: str, function_version: str, memory_limit_in_mb: int, now_ms: int) -> None:
        self.function_name = function_name
        self.function_version = function_version
        self.memory_limit_in_mb = str(memory_limit_in_mb)
        self.log_stream_name = f"{to_datetime(now_ms):%Y/%m/%d}/[{function_version}]{uuid.uuid4().hex}"


class LambdaContext:
    """One invocation. The second argument of a Lambda handler; any other function asks ``current_context()``.

    Safe to use in any thread.
    """

    __slots__ = ("_clock", "_deadline_ms", "_identity", "_request_id", "client_context", "identity", "window")

    def __init__(
        self, identity: FunctionIdentity, clock: Clock, deadline_ms: int | None, window: Window | None = None
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._request_id = ""
        self.identity = CognitoIdentity()
        self.client_context: object | None = None
        self.window = window
        """The tumbling window, if the mapping has one (Lambda puts it into the event alone)."""

    @property
    def aws_request_id(self) -> str:
        """New for each invocation, also for a second one of the same batch."""
        if not self._request_id:
            self._request_id = str(uuid.uuid4())
        return self._request_id

    @property
    def function_name(self) -> str:
        """As the mapping or ``Function(name=)`` calls it."""
        return self._identity.function_name

    @property
    def function_version(self) -> str:
        """``"$LATEST"`` unless ``lambda_handler`` was told otherwise."""
        return self._identity.function_version

    @property
    def invoked_function_arn(self) -> str:
        """With region us-east-1 and account 000000000000."""
        return function_arn(self._identity.function_name)

    @property
    def memory_limit_in_mb(self) -> str:
        """A string, as in Lambda. Nothing limits it here."""
        return self._identity.memory_limit_in_mb

    @property
    def log_group_name(self) -> str:
        """As Lambda names it; nothing is written there."""
        return f"/aws/lambda/{self._identity.function_name}"

    @property
    def log_stream_name(self) -> str:
        """As Lambda names it: the day, the version, and the environment."""
        return self._identity.log_stream_name

    @property
    def tenant_id(self) -> str | None:
        """None: a mapping calls for no tenant."""
        return None

    def get_remaining_time_in_millis(self) -> int:
        """Until the time limit, 0 or more. Without a limit always 900,000: the longest that Lambda has."""
        if self._deadline_ms is None:
            return round(LONGEST_SECONDS * 1000)
        return max(0, self._deadline_ms - self._clock.now_ms())

    def __repr__(self) -> str:
        return f"LambdaContext({self.function_name!r}, aws_request_id={self.aws_request_id!r})"


CURRENT: ContextVar[LambdaContext] = ContextVar("streamkit_function_context")
"""Set by the runtime, for the function and all that it calls, in its thread too."""


def current_context() -> LambdaContext:
    """The context of the invocation that runs the calling code.

    Raises:
        ValidationError: it is not called from a function that a mapping runs.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise ValidationError(
            "there is no function context here: current_context() works in a function that a mapping calls, and in "
            "what that calls; a thread of your own needs contextvars.copy_context().run"
        ) from None

"""Whether the running code is part of what a mapping has called and waits for: its function, or its sink."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

_INNERMOST: ContextVar[calling | None] = ContextVar("streamkit_calling", default=None)


class calling:  # noqa: N801 - it is used as a statement
    """``with calling(mapping):`` around a call of a mapping's function or sink.

    Tasks and threads that are started within inherit that they are part of it, until the call is over.
    """

    __slots__ = ("_before", "_over", "_who")

    def __init__(self, who: object) -> None:
        self._who = who
        self._over = False

    def __enter__(self) -> None:
        self._before: Token[calling | None] = _INNERMOST.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # INVARIANT: test_a_task_that_the_function_left_behind_may_wait_for_the_mapping
        self._over = True
        _INNERMOST.reset(self._before)

    @staticmethod
    def is_by(who: object) -> bool:
        """Whether ``who`` waits for the running code."""
        innermost = _INNERMOST.get()
        return innermost is not None and innermost._who is who and not innermost._over

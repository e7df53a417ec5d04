"""The tracing port: what handles and mappings tell whoever traces a kit, and where they find who that is.

Nobody traces unless ``streamkit.tracing.instrument`` was called; all that costs then is a look at ``Tracing.spans``.
Names, partition keys, values and error texts of users are not told: names of streams, queues, tables and consumers,
ids, counts and the types of errors are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from streamkit.trace_context import Carried

Contexts = Sequence[Carried | None]
"""Of records or messages, each the context it carries; None: it carries none."""


class Sending(Protocol):
    """Records or messages on their way in."""

    @property
    def context(self) -> Carried:
        """What those carry that have no context of their own."""

    def stored(self, message_id: str, partition: str | None = None) -> None:
        """The only one was stored under this id."""

    def failed(self, error: BaseException) -> None:
        """It, or one of several, was refused."""


class Receiving(Protocol):
    """A receive; one that gave nothing leaves no trace."""

    def got(self, contexts: Contexts, message_id: str | None = None, partition: str | None = None) -> None:
        """These; ``message_id``: of the only one."""


class Processing(Protocol):
    """A handler or function at work."""

    @property
    def here(self) -> object:
        """For ``Spans.within``, later."""

    def failed(self, error: BaseException) -> None:
        """It did not raise, and failed."""


class Writing(Protocol):
    """A write to a table."""

    def failed(self, error: BaseException) -> None:
        """One of several was refused; the others were not."""


class Spans(Protocol):
    """The port. Nothing here raises, blocks or is awaited. An exception that leaves a block marks what it was."""

    def send(self, destination: str, contexts: Contexts, *, alone: bool) -> AbstractContextManager[Sending]:
        """Around a put or send; ``contexts``: those they have already. ``alone``: by a call for a single one."""

    def create(self, destination: str) -> Carried:
        """A record was accepted, and is sent later; what it carries."""

    def receive(self, destination: str, *, group: str | None = None) -> AbstractContextManager[Receiving]:
        """Around a receive; ``group``: the consumer."""

    def process(
        self,
        destination: str,
        contexts: Contexts,
        *,
        message_id: str | None = None,
        partition: str | None = None,
        group: str | None = None,
    ) -> AbstractContextManager[Processing]:
        """Around a handler; what it does is within. ``message_id``: of the only one, if it is called with one."""

    def settle(
        self, destination: str, contexts: Contexts, *, message_id: str | None = None
    ) -> AbstractContextManager[object]:
        """Around a deletion; ``message_id``: of the only one."""

    def write(self, operation: str, table: str, count: int) -> AbstractContextManager[Writing]:
        """Around writes to a table; ``operation`` as DynamoDB calls it."""

    def within(self, here: object) -> AbstractContextManager[object]:
        """What is done in the block belongs to that process."""


class _Untold:
    """Nobody traces."""

    def failed(self, error: BaseException) -> None:
        """See Writing."""


_NOTHING: AbstractContextManager[Writing] = nullcontext(_Untold())


class Tracing:
    """Who traces a kit. One for all its handles, also for those that were made before."""

    __slots__ = ("spans",)

    def __init__(self) -> None:
        self.spans: Spans | None = None
        """None: nobody."""

    def write(self, operation: str, table: str, count: int) -> AbstractContextManager[Writing]:
        """See Spans."""
        return _NOTHING if self.spans is None else self.spans.write(operation, table, count)

    def within(self, here: object) -> AbstractContextManager[object]:
        """See Spans; ``here`` is None where nobody traced."""
        return _NOTHING if self.spans is None or here is None else self.spans.within(here)

"""The effects port: what a batch did, committed as one.

A mapping's sink items, the messages and records it sent on, and its checkpoint are one ``Effects``. An engine that
keeps streams, queues and tables in one journal applies all of it or nothing, which is what makes a record count
exactly once, through any crash.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from streamkit.limits import Limits
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.write import Write


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that belong together."""

    writes: tuple[Write, ...] = ()
    """To any tables, with conditions; as many as one atomic call may have."""
    progress: tuple[Write, ...] = ()
    """What whoever commits keeps of where it is: checkpoints, fenced by leases, and state. As ``writes``, of other
    items than those, and beyond the number that those may have."""
    sends: tuple[tuple[str, tuple[SendEntry, ...]], ...] = ()
    """Messages by the name of their queue."""
    puts: tuple[tuple[str, tuple[PutEntry, ...]], ...] = ()
    """Records by the name of their stream."""
    deletes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Receipt handles by the name of their queue: messages that this is the effect of, each given once."""


class EffectStore(Protocol):
    """The port."""

    @property
    def limits(self) -> Limits:
        """What one commit may hold: of writes as many as one atomic call, for each queue and for each stream as much as
        one call of theirs."""

    async def commit(self, effects: Effects) -> None:
        """Apply everything, or nothing.

        Durability: as one change of the engine. Cancellation: it happened or it did not, never in part.

        Raises:
            ConditionFailedError: the condition of the only write is false.
            TransactionCanceledError: the condition of one of several writes is false.
            MessageNotInflightError: a message to be deleted was deleted already, or is not this receiver's any more.
            ReceiptHandleInvalidError: a receipt handle is none of its queue.
            NotFoundError: a stream, queue or table does not exist.
            ValidationError: something is malformed or over a limit.
        """
        ...

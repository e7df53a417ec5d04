"""What an engine is: the three ports, the effects port, and a life."""

from __future__ import annotations

from typing import Literal, Protocol

from streamkit.functions.effects import EffectStore
from streamkit.limits import Limits
from streamkit.queues.store import QueueStore
from streamkit.streams.store import StreamStore
from streamkit.tables.store import TableStore

Durability = Literal["fsync", "interval", "memory"]
"""``fsync``: synced before it is acknowledged; that a message was received is written, and synced with what follows or
within 100 ms. ``interval``: written before it is acknowledged and synced 20 times a
second, so a power loss may take the last 50 ms and a crash of the process nothing. ``memory``: never synced."""


class Engine(EffectStore, Protocol):
    """Keeps bytes and wakes waiters. Made by ``engines.registry.open_engine``; belongs to one event loop."""

    @property
    def url(self) -> str:
        """What it was opened with."""

    @property
    def durability(self) -> Durability:
        """How durable an acknowledgement is."""

    @property
    def limits(self) -> Limits:
        """What a call may ask for, and what a kit may take."""

    @property
    def streams(self) -> StreamStore:
        """The stream port."""

    @property
    def queues(self) -> QueueStore:
        """The queue port."""

    @property
    def tables(self) -> TableStore:
        """The table port."""

    async def aclose(self) -> None:
        """Make everything durable and let go of what it holds. Waiters get ``ClosedError``. May be called twice."""

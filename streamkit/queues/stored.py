"""A message as its queue keeps it."""

from __future__ import annotations

from typing import Literal

import msgspec

from streamkit.queues.message import MessageAttribute

Place = Literal["ready", "delayed", "in flight", "backlog"]
"""Ready messages that their queue's order does not look at yet are in its backlog."""


class StoredMessage(msgspec.Struct, gc=False, array_like=True):
    """A message and where it stands. The field order is a storage format: append, never reorder."""

    number: int
    """Given by its queue, rising; never used again."""
    message_id: str
    body: bytes
    sent_ms: int
    place: Place
    visible_at_ms: int
    """When it leaves its place, if that is not "ready"."""
    hidden_for_ms: int = 0
    """The duration that ended in ``visible_at_ms``: a deadline is clamped by it when the wall clock was set back."""
    receive_count: int = 0
    first_received_ms: int = 0
    received_ms: int = 0
    dead_letter_source: str | None = None
    group_id: str | None = None
    attributes: dict[str, MessageAttribute] | None = None
    trace_header: str | None = None
    deduplication_id: str | None = None
    last_error: str | None = None
    arrived_ms: int = 0
    """Of a dead letter: when it was moved here; 0: when it was sent."""

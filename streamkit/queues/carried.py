"""The trace context of a message: where it is carried, and what happens where there is no room. Pure.

It is in the message attributes ``traceparent`` and ``tracestate``, as other instrumentations of SQS have it. Attributes
are few, and count towards a message's size; so where it does not fit it is in AWSTraceHeader, which does not count, and
where the sender has one of his own already the message has none. No message is refused because it is traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from streamkit.queues.content import size_of
from streamkit.queues.message import MessageAttribute
from streamkit.queues.store import SendEntry
from streamkit.trace_context import TRACEPARENT, TRACESTATE, Carried, as_header, carried_in, of_header


class HasAttributes(Protocol):
    """A message, received or to be sent."""

    @property
    def attributes(self) -> Mapping[str, MessageAttribute]:
        """Named values beside the body."""

    @property
    def trace_header(self) -> str | None:
        """AWSTraceHeader."""


def carried_by(message: HasAttributes) -> Carried | None:
    """The trace context that a message has; None: it has none."""
    attributes = message.attributes
    if attributes and TRACEPARENT in attributes:
        found = carried_in(
            {
                name: attributes[name].string_value or ""
                for name in (TRACEPARENT, TRACESTATE)
                if isinstance(attributes.get(name), MessageAttribute)
            }
        )
        if found is not None:
            return found
    header = message.trace_header
    return of_header(header) if isinstance(header, str) else None


def carrying(entry: SendEntry, context: Carried, *, most: int, room: int) -> SendEntry:
    """The entry with the context in it, if anywhere, and in no other field.

    Args:
        entry: What is sent; valid, and smaller than any limit by ``room`` bytes.
        context: What it shall carry. An attribute of the sender's own is not replaced.
        most: How many attributes a message may have.
        room: How many bytes more there may be.
    """
    added = {name: MessageAttribute("String", text) for name, text in context.items()}
    fits = len(entry.attributes) + len(added) <= most and size_of(b"", added) <= room
    if fits and added.keys().isdisjoint(entry.attributes):
        return replace(entry, attributes={**entry.attributes, **added}, context=None)
    if entry.trace_header is None:
        return replace(entry, trace_header=as_header(context), context=None)
    return replace(entry, context=None)

"""Messages that somebody looks at: what ``queue.peek`` shows, as a sequence and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from streamkit.errors import DecodeError
from streamkit.queues.message import Message
from streamkit.showing.flat import columns_of
from streamkit.showing.listing import Listing

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType

T = TypeVar("T")

_TYPES: Mapping[str, ColumnType] = {
    "sent": "instant",
    "message_id": "text",
    "receive_count": "integer",
    "group_id": "text",
    "dead_letter_source": "text",
    "last_error": "text",
    "error": "text",
}
_RARE = ("group_id", "dead_letter_source", "last_error")


class Messages(Listing[Message[T]]):
    """Some messages of a queue, the next one first.

    As a table its columns are ``sent`` (UTC), ``message_id`` and ``receive_count``; where a message has them,
    ``group_id``, ``dead_letter_source`` and ``last_error``; then, if all values are objects, each field of theirs, and
    one that is called like another column as ``value.NAME``; else ``value``. Where some do not decode there is
    ``error``.
    """

    kind = "Messages"
    noun = "message"

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name; an instant is in milliseconds since the epoch."""
        found: dict[str, list[Any]] = {
            "sent": [message.sent_ms for message in self],
            "message_id": [message.message_id for message in self],
            "receive_count": [message.receive_count for message in self],
        }
        for name in _RARE:
            values = [getattr(message, name) for message in self]
            if any(value is not None for value in values):
                found[name] = values
        bodies: list[T | None] = []
        errors: list[str | None] = []
        for message in self:
            try:
                bodies.append(message.value)
                errors.append(None)
            except DecodeError as error:
                bodies.append(None)
                errors.append(str(error))
        if any(errors):
            found["error"] = errors
        return found | columns_of(bodies, _TYPES)

    def column_types(self) -> Mapping[str, ColumnType]:
        """Of those columns that every queue has."""
        return _TYPES

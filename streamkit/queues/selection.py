"""Which messages somebody means: told by an event pattern, or by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from streamkit.queues.message import ReceivedMessage


class EventPattern(Protocol):
    """``streamkit.functions.pattern.Pattern``, or what matches events as it does."""

    def matches(self, event: Any) -> bool:
        """Whether it matches."""


Where = EventPattern | Callable[[ReceivedMessage], bool]
"""A function gets the message as it is stored."""


def selects(where: Where | None, message: ReceivedMessage) -> bool:
    """Whether a message is meant; None means all."""
    if where is None:
        return True
    return bool(where(message)) if callable(where) else where.matches(event_of(message))


def event_of(message: ReceivedMessage) -> dict[str, Any]:
    """A message as an event, with the names that a Lambda function sees (Lambda Developer Guide, "Using Lambda with
    Amazon SQS"); its body is parsed if it is JSON. ``lastError`` is ours.
    """
    attributes = {
        "ApproximateReceiveCount": str(message.receive_count),
        "SentTimestamp": str(message.sent_ms),
        "DeadLetterQueueSourceArn": message.dead_letter_source,
        "AWSTraceHeader": message.trace_header,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
    }
    event: dict[str, Any] = {
        "messageId": message.message_id,
        "body": _parsed(message.body),
        "attributes": {name: value for name, value in attributes.items() if value is not None},
        "messageAttributes": {
            name: {"stringValue": each.string_value, "dataType": each.data_type}
            for name, each in message.attributes.items()
            if each.string_value is not None
        },
    }
    if message.last_error is not None:
        event["lastError"] = message.last_error
    return event


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")

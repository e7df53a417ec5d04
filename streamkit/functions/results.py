"""What a function returns to have a message sent or a record put, together with its items and the checkpoint."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from streamkit.queues.queue import Queue, Send
from streamkit.streams.stream import Stream

T = TypeVar("T")


class SendMessage(msgspec.Struct, Generic[T], frozen=True):
    """Send a message to a queue, in the commit that has the function's other results: once for each record.

    ``SendMessage(queue, value)``, or ``SendMessage(queue, Send(value=..., attributes=...))`` for one with more to it.
    Mirrors MessageGroupId and MessageDeduplicationId of SendMessage (Amazon SQS API Reference).
    """

    queue: Queue[T]
    value: T | Send[T]
    group_id: str | None = None
    """None: that of the ``Send``. To a FIFO queue then that of what it came from: a record's partition key (or its
    SHA-256, if that is no group id), a message's group. Results of a batch as a whole must say it."""
    deduplication_id: str | None = None
    """FIFO queues; one that was sent in the last five minutes is taken, and stored no second time. None: that of the
    ``Send``; then the content's, if the queue has ``content_based_deduplication``, and otherwise one of its own."""


class PutRecord(msgspec.Struct, Generic[T], frozen=True):
    """Put a record to a stream, in the commit that has the function's other results: once for each record."""

    stream: Stream[T]
    value: T
    partition_key: str | None = None
    """None: that of the record it came from (of a batch function that returns other than one result each: the last)."""


Result = SendMessage[Any] | PutRecord[Any]

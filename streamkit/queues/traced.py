"""A queue's sends, receives, deletions and handlers as spans, and the trace context in its messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from streamkit.errors import StreamKitError
from streamkit.queues.carried import HasAttributes, carried_by
from streamkit.queues.message import Message, ReceivedMessage
from streamkit.queues.store import SendEntry, SendResult
from streamkit.spans import Contexts, Spans
from streamkit.trace_context import Carried

M = TypeVar("M")


async def send(
    spans: Spans,
    queue: str,
    entries: Sequence[SendEntry],
    store: Callable[[list[SendEntry]], Awaitable[list[SendResult]]],
    *,
    alone: bool,
) -> list[SendResult]:
    """Send messages: one span, whose context those carry that have none."""
    with spans.send(queue, contexts_of(entries), alone=alone) as sending:
        results = await store([carrying(entry, sending.context) for entry in entries])
        error = next((result.error for result in results if result.error is not None), None)
        if error is not None:
            sending.failed(error)
        elif alone:
            sending.stored(results[0].message_id)
    return results


async def receive(spans: Spans, queue: str, received: Awaitable[list[ReceivedMessage]]) -> list[ReceivedMessage]:
    """Receive messages."""
    with spans.receive(queue) as receiving:
        messages = await received
        receiving.got(contexts_of(messages), messages[0].message_id if len(messages) == 1 else None)
    return messages


async def delete(
    spans: Spans,
    queue: str,
    messages: Sequence[Message[Any] | str],
    deleted: Awaitable[list[StreamKitError | None]],
) -> list[StreamKitError | None]:
    """Delete messages; those that are given by their handles alone link to nothing."""
    known = [message for message in messages if isinstance(message, Message)]
    only = known[0].message_id if len(messages) == len(known) == 1 else None
    contexts = [carried_by(message) if isinstance(message, Message) else None for message in messages]
    with spans.settle(queue, contexts, message_id=only):
        return await deleted


async def handle(
    spans: Spans,
    queue: str,
    messages: Sequence[Message[Any]],
    failures: Awaitable[Mapping[M, Exception]],
) -> Mapping[M, Exception]:
    """Call a handler, with a single message or with several; what failed, and with what."""
    only = messages[0].message_id if len(messages) == 1 else None
    with spans.process(queue, contexts_of(messages), message_id=only) as process:
        failed = await failures
        if failed:
            process.failed(next(iter(failed.values())))
    return failed


def carrying(entry: SendEntry, context: Carried) -> SendEntry:
    """The entry with the context, unless it has one already."""
    if not context or entry.context is not None or carried_by(entry) is not None:
        return entry
    return replace(entry, context=context)


def contexts_of(messages: Sequence[HasAttributes]) -> Contexts:
    """What each message carries, or shall carry."""
    return [getattr(message, "context", None) or carried_by(message) for message in messages]

"""What a receiver gets of a message, and what its receipt handle is good for later. Pure and hot.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.errors import MessageNotInflightError, ReceiptHandleInvalidError, StreamKitError, ValidationError
from streamkit.queues.attributes import MAX_VISIBILITY_MS
from streamkit.queues.message import ReceivedMessage
from streamkit.queues.receipt import Receipts
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState


def handle_of(receipts: Receipts, queue: QueueState, message: StoredMessage) -> str:
    """The receipt handle of the message's latest delivery."""
    return receipts.make(queue.queue_id, message.number, message.receive_count)


def delivered(queue: QueueState, message: StoredMessage, receipt_handle: str) -> ReceivedMessage:
    """The message as a receiver gets it."""
    return ReceivedMessage(
        message.message_id,
        message.body,
        receipt_handle,
        message.receive_count,
        message.sent_ms,
        message.first_received_ms,
        message.dead_letter_source,
        message.attributes or {},
        message.trace_header,
        message.group_id,
        message.deduplication_id,
        message.number if queue.attributes.fifo else None,
        message.last_error if message.dead_letter_source is not None else None,
    )


def deliveries(
    receipts: Receipts, queue: QueueState, handles: Sequence[str], now_ms: int
) -> list[StoredMessage | StreamKitError | None]:
    """The message of each handle's delivery; None if it was deleted; the error if the handle is of no use.

    AWS: an older handle may still delete on a standard queue; ours never pulls a message from under a newer
    receiver. On a FIFO queue a handle ends with its timeout, since others of its group may have been received.
    """
    queue.surface(now_ms)
    found: list[StoredMessage | StreamKitError | None] = []
    messages, fifo = queue.messages, queue.attributes.fifo
    for handle in handles:
        named = receipts.parse(handle)
        if named is None or named.queue_id != queue.queue_id or not 0 < named.number <= queue.last_number:
            found.append(ReceiptHandleInvalidError(str(handle), queue.name))
            continue
        message = messages.get(named.number)
        if message is None:
            # What is on disk alone was never received since it came.
            waits = queue.backlog.page_of(named.number) is not None
            found.append(ReceiptHandleInvalidError(str(handle), queue.name) if waits else None)
        elif message.receive_count != named.receive_count or (fifo and message.place != "in flight"):
            found.append(MessageNotInflightError(message.message_id, queue.name))
        else:
            found.append(message)
    return found


def check_extension(message: StoredMessage, timeout_ms: int, now_ms: int) -> StreamKitError | None:
    """Whether the message may stay hidden for ``timeout_ms`` from now: 12 hours in all since its receive."""
    if not 0 <= timeout_ms <= MAX_VISIBILITY_MS:
        return ValidationError(f"a visibility timeout is 0 to 43,200 s, not {timeout_ms / 1000:,} s")
    if now_ms + timeout_ms - message.received_ms > MAX_VISIBILITY_MS:
        return ValidationError(
            "Total VisibilityTimeout for the message is beyond the limit of 43,200 s since it was received"
        )
    return None

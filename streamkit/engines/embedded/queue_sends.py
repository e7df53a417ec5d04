"""Sending: what is refused, what is a duplicate, and what is stored. HOT: `python -m benchmarks --only queue`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import MessagesSent, Particulars
from streamkit.errors import StreamKitError, ValidationError
from streamkit.limits import Limits
from streamkit.queues import content
from streamkit.queues.attributes import check_delay
from streamkit.queues.carried import carrying
from streamkit.queues.deduplication import Original, content_based_id
from streamkit.queues.store import SendEntry, SendResult
from streamkit.queues.visibility import QueueState


class Staged(msgspec.Struct):
    """What one send stored, and what it is answered with."""

    change: MessagesSent
    results: list[SendResult]


class QueueSends:
    """Decides what a send does. Whoever asks logs the change."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        # Seeded by the system: 122 random bits, of which nobody needs to be unable to guess the next.
        self._random_bits = Random().getrandbits

    def check(self, queue: QueueState, entries: Sequence[SendEntry]) -> list[SendEntry | StreamKitError]:
        """The entries, and in place of each that is refused alone its error.

        Raises:
            ValidationError: there are too many, or too few, or all together are too large.
        """
        limits = self._limits
        if not 1 <= len(entries) <= limits.send_messages:
            raise ValidationError(f"a batch has 1 to {limits.send_messages:,} entries, not {len(entries):,}")
        total = 0
        traced = False
        checked: list[SendEntry | StreamKitError] = []
        for position, entry in enumerate(entries):
            try:
                total += self._check(queue, entry)
            except ValidationError as error:
                checked.append(ValidationError(f"entry {position}: {error}") if len(entries) > 1 else error)
            else:
                checked.append(entry)
                traced = traced or entry.context is not None
        if total > limits.send_bytes:
            raise ValidationError(f"the batch has {total:,} bytes and the limit is {limits.send_bytes:,}: split it")
        return self._carrying(queue, checked, limits.send_bytes - total) if traced else checked

    def check_whole(self, queue: QueueState, entries: Sequence[SendEntry]) -> list[SendEntry]:
        """The same for who sends all of them or none.

        Raises:
            ValidationError: as of ``check``, or one is refused.
        """
        checked: list[SendEntry] = []
        for entry in self.check(queue, entries):
            if isinstance(entry, StreamKitError):
                raise entry
            checked.append(entry)
        return checked

    def _carrying(
        self, queue: QueueState, checked: Sequence[SendEntry | StreamKitError], room: int
    ) -> list[SendEntry | StreamKitError]:
        """The same with their trace contexts where they have room for it, and ``room`` bytes more in all."""
        placed: list[SendEntry | StreamKitError] = []
        for entry in checked:
            if isinstance(entry, SendEntry) and entry.context is not None:
                size = content.size_of(entry.body, entry.attributes)
                here = min(room, self._most_bytes(queue) - size)
                entry = carrying(entry, entry.context, most=self._limits.message_attributes, room=here)
                room -= content.size_of(entry.body, entry.attributes) - size
            placed.append(entry)
        return placed

    def _most_bytes(self, queue: QueueState) -> int:
        most, own = self._limits.message_bytes, queue.attributes.maximum_message_bytes
        return most if own is None else min(most, own)

    def _check(self, queue: QueueState, entry: SendEntry) -> int:
        """The size of a valid entry."""
        if not isinstance(entry.body, bytes) or not entry.body:
            raise ValidationError("a message body is at least one byte")
        attributes = queue.attributes
        if entry.attributes or entry.trace_header is not None:
            content.check_attributes(entry.attributes, most=self._limits.message_attributes)
            content.check_trace_header(entry.trace_header)
        size = content.size_of(entry.body, entry.attributes) if entry.attributes else len(entry.body)
        most = self._most_bytes(queue)
        if size > most:
            raise ValidationError(
                f"the message has {size:,} bytes and the limit is {most:,}: send a reference to large data instead"
            )
        if entry.group_id is not None:
            content.check_group_id(entry.group_id)
        if attributes.fifo:
            self._check_fifo(queue, entry)
        elif entry.deduplication_id is not None:
            raise ValidationError(
                f"queue {queue.name!r} is a standard queue, which does not deduplicate: leave deduplication_id out, or "
                "use a FIFO queue"
            )
        if entry.delay_ms is not None:
            check_delay(entry.delay_ms, self._limits)
        return size

    def _check_fifo(self, queue: QueueState, entry: SendEntry) -> None:
        if entry.group_id is None:
            raise ValidationError(f"FIFO queue {queue.name!r} needs the message's group_id")
        if entry.deduplication_id is not None:
            content.check_deduplication_id(entry.deduplication_id)
        elif not queue.attributes.content_based_deduplication:
            raise ValidationError(
                f"FIFO queue {queue.name!r} needs the message's deduplication_id, or content_based_deduplication=True"
            )
        if entry.delay_ms:
            raise ValidationError(f"FIFO queue {queue.name!r} has a delay for all its messages, and none per message")

    def stage(self, queue: QueueState, entries: Sequence[SendEntry | StreamKitError]) -> Staged:
        """Number what is to be stored of what was checked. Nothing may change until this change is applied."""
        attributes = queue.attributes
        now_ms = self._clock.now_ms()
        change = MessagesSent(queue.queue_id, queue.last_number + 1, now_ms, [], [], [], {})
        results: list[SendResult] = []
        of_this_call: dict[object, Original] = {}
        for entry in entries:
            if isinstance(entry, StreamKitError):
                results.append(SendResult("", entry))
                continue
            number = change.first_number + len(change.ids)
            deduplication_id = entry.deduplication_id
            if attributes.fifo:
                if deduplication_id is None:
                    deduplication_id = content_based_id(entry.body)
                key = queue.deduplication_key(entry.group_id, deduplication_id)
                original = of_this_call.get(key) or queue.deduplication.find(key, now_ms)
                if original is not None:
                    results.append(SendResult(original.message_id, None, original.number, duplicate=True))
                    continue
            message_id = self._message_id()
            if attributes.fifo:
                of_this_call[key] = Original(key, message_id, number, now_ms)
            if entry.attributes or entry.group_id is not None or entry.trace_header is not None:
                change.particulars[len(change.ids)] = Particulars(
                    entry.group_id,
                    deduplication_id,
                    dict(entry.attributes) if entry.attributes else None,
                    entry.trace_header,
                )
            change.ids.append(message_id)
            change.bodies.append(entry.body)
            # AWS: a FIFO queue's delay also counts for a message that was sent with a delay of 0.
            own_delay = entry.delay_ms is not None and not attributes.fifo
            change.visible_at_ms.append(now_ms + (entry.delay_ms if own_delay else attributes.delay_ms))  # type: ignore[operator]
            results.append(SendResult(message_id, None, number if attributes.fifo else None))
        return Staged(change, results)

    def _message_id(self) -> str:
        digits = f"{self._random_bits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

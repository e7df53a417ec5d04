"""The queue port over pure queues and a log. HOT: `python -m benchmarks --only queue`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from secrets import token_hex

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import (
    MessagesDeleted,
    MessagesMoved,
    MessagesReceived,
    MessagesReleased,
    MessagesSent,
    QueueCreated,
    QueueDeleted,
    VisibilityChanged,
    storable,
)
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.queue_waits import QueueWaits
from streamkit.errors import (
    AlreadyExistsError,
    MessageNotInflightError,
    NotFoundError,
    StreamKitError,
    ValidationError,
)
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.store import QueueDescription, SendEntry, SendResult, VisibilityEntry
from streamkit.queues.visibility import MAX_VISIBILITY_MS, QueueState, StoredMessage

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,80}")


class EmbeddedQueues:
    """Implements ``QueueStore``."""

    def __init__(self, log: Log, clock: Clock, limits: Limits, next_id: Callable[[], int]) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._next_id = next_id
        self._by_name: dict[str, QueueState] = {}
        self.by_id: dict[int, QueueState] = {}
        self._waits = QueueWaits(clock)
        self._last_group = 0

    # ---- control plane

    async def create_queue(self, name: str, attributes: QueueAttributes) -> QueueDescription:
        """See QueueStore."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError(f"queue name {name!r} is not valid: use 1 to 80 letters, digits, '_' or '-'")
        if name in self._by_name:
            raise AlreadyExistsError("queue", name)
        self._check_timeout(attributes.visibility_timeout_ms)
        self._check_delay(attributes.delay_ms)
        if not _is_whole(attributes.receive_wait_ms) or attributes.receive_wait_ms < 0:
            raise ValidationError(f"a receive waits 0 ms or more, not {attributes.receive_wait_ms!r}")
        if attributes.redrive_policy is not None:
            self._queue(attributes.redrive_policy.dead_letter_queue)
        self._log.check()
        change = storable(QueueCreated(self._next_id(), name, self._clock.now_ms(), attributes))
        group = self._append(change)
        state = self.queue_created(change)
        await self._log.durable(group)
        return state.describe(self._clock.now_ms())

    async def delete_queue(self, name: str) -> None:
        """See QueueStore."""
        change = QueueDeleted(self._queue(name).queue_id)
        self._log.check()
        group = self._append(change)
        self.queue_deleted(change)
        await self._log.durable(group)

    async def describe_queues(self, names: Sequence[str] | None = None) -> list[QueueDescription]:
        """See QueueStore."""
        await self._log.durable(self._last_group)
        now_ms = self._clock.now_ms()
        return [self._queue(name).describe(now_ms) for name in (sorted(self._by_name) if names is None else names)]

    # ---- sending

    async def send_messages(self, name: str, entries: Sequence[SendEntry]) -> list[SendResult]:
        """See QueueStore."""
        self.validate(name, entries)
        ids, group = self.stage(name, entries)
        await self._log.durable(group)
        return [SendResult(message_id) for message_id in ids]

    def validate(self, name: str, entries: Sequence[SendEntry]) -> None:
        """Refuse a send before anything of it, or of what it belongs to, is staged."""
        self._queue(name)
        limits = self._limits
        if not 1 <= len(entries) <= limits.send_messages:
            raise ValidationError(f"a batch has 1 to {limits.send_messages:,} entries, not {len(entries):,}")
        for position, entry in enumerate(entries):
            if not isinstance(entry.body, bytes) or not entry.body:
                raise ValidationError(f"entry {position}: a message body is at least one byte")
            if len(entry.body) > limits.message_bytes:
                raise ValidationError(
                    f"entry {position}: the body has {len(entry.body):,} bytes and the limit is "
                    f"{limits.message_bytes:,}: send a reference to large data instead"
                )
            if entry.delay_ms is not None:
                self._check_delay(entry.delay_ms)
        self._log.check()

    def stage(self, name: str, entries: Sequence[SendEntry]) -> tuple[list[str], int]:
        """Keep and log validated messages; they are durable with the returned group."""
        queue = self._queue(name)
        now_ms = self._clock.now_ms()
        delay_ms = queue.attributes.delay_ms
        ids = [_message_id() for _ in entries]
        change = MessagesSent(
            queue.queue_id,
            queue.last_number + 1,
            now_ms,
            [now_ms + (delay_ms if entry.delay_ms is None else entry.delay_ms) for entry in entries],
            ids,
            [entry.body for entry in entries],
        )
        self.messages_sent(change)
        return ids, self._append(change, lambda: self._waits.wake(queue, len(ids)))

    # ---- receiving

    async def receive_messages(
        self, name: str, max_messages: int, visibility_timeout_ms: int | None = None, wait_ms: int | None = None
    ) -> list[ReceivedMessage]:
        """See QueueStore."""
        queue = self._queue(name)
        if not 1 <= max_messages <= self._limits.receive_messages:
            raise ValidationError(f"max_messages must be 1 to {self._limits.receive_messages:,}, not {max_messages}")
        timeout_ms = queue.attributes.visibility_timeout_ms if visibility_timeout_ms is None else visibility_timeout_ms
        self._check_timeout(timeout_ms)
        wait_ms = queue.attributes.receive_wait_ms if wait_ms is None else wait_ms
        deadline_ms = self._clock.now_ms() + wait_ms
        while True:
            change = self._take(queue, max_messages, timeout_ms)
            if change is not None:
                return await self._hand_out(queue, change)
            if self._clock.now_ms() >= deadline_ms:
                return []
            await self._waits.wait(queue, deadline_ms)
            if self.by_id.get(queue.queue_id) is not queue:
                raise NotFoundError("queue", name, "it was deleted while a receive waited")

    def _take(self, queue: QueueState, max_messages: int, timeout_ms: int) -> MessagesReceived | None:
        self._log.check()
        # ATOMIC: choosing, hiding, moving and logging are one step
        now_ms = self._clock.now_ms()
        target = self._dead_letter_queue(queue)
        taken = queue.take(max_messages, now_ms, dead_letters=target is not None)
        if not taken.received and not taken.moved:
            return None
        change = MessagesReceived(
            queue.queue_id,
            now_ms,
            timeout_ms,
            [message.number for message in taken.received],
            [message.number for message in taken.moved],
            0 if target is None else target.queue_id,
            0 if target is None else target.last_number + 1,
        )
        self.messages_received(change)
        return change

    async def _hand_out(self, queue: QueueState, change: MessagesReceived) -> list[ReceivedMessage]:
        delivered = [queue.delivered(queue.messages[number]) for number in change.numbers]
        target = self.by_id.get(change.dead_letter_queue_id)

        def woken() -> None:
            if target is not None:
                self._waits.wake(target, len(change.moved))
            if change.timeout_ms == 0:
                self._waits.wake(queue, len(change.numbers))

        group = self._append(change, woken)
        try:
            await self._log.durable(group)
        except asyncio.CancelledError:
            self._release(queue, delivered, change)
            raise
        return delivered

    def _release(self, queue: QueueState, delivered: list[ReceivedMessage], change: MessagesReceived) -> None:
        # INVARIANT: test_cancelled_receive_delivers_to_nobody
        if self.by_id.get(queue.queue_id) is not queue:
            return
        held = []
        for number, delivery in zip(change.numbers, delivered, strict=True):
            message = queue.messages.get(number)
            # Unless it was received again meanwhile, or deleted, it is still this delivery's.
            if message is not None and queue.handle_of(message) == delivery.receipt_handle:
                held.append(number)
        try:
            self._log.check()
        except StreamKitError:
            return  # Nothing can be changed any more; the visibility timeout shows them again.
        if held:
            released = MessagesReleased(queue.queue_id, held)
            self.messages_released(released)
            self._append(released, lambda: self._waits.wake(queue, len(held)))

    # ---- settling

    async def delete_messages(self, name: str, receipt_handles: Sequence[str]) -> list[StreamKitError | None]:
        """See QueueStore."""
        queue = self._queue(name)
        self._check_count(receipt_handles)
        found = queue.deliveries(receipt_handles)
        numbers = list({message.number: None for message in found if isinstance(message, StoredMessage)})
        if numbers:
            self._log.check()
            change = MessagesDeleted(queue.queue_id, numbers)
            self.messages_deleted(change)
            await self._log.durable(self._append(change))
        return [error if isinstance(error, StreamKitError) else None for error in found]

    async def change_visibility(self, name: str, entries: Sequence[VisibilityEntry]) -> list[StreamKitError | None]:
        """See QueueStore."""
        queue = self._queue(name)
        self._check_count(entries)
        now_ms = self._clock.now_ms()
        results: list[StreamKitError | None] = []
        change = VisibilityChanged(queue.queue_id, now_ms, [], [])
        found = queue.deliveries([entry.receipt_handle for entry in entries])
        for message, entry in zip(found, entries, strict=True):
            if message is None:
                results.append(MessageNotInflightError("(deleted)", name))
            elif isinstance(message, StreamKitError):
                results.append(message)
            else:
                try:
                    self._check_timeout(entry.timeout_ms)
                except ValidationError as error:
                    results.append(error)
                    continue
                results.append(queue.check_extension(message, entry.timeout_ms, now_ms))
                if results[-1] is None:
                    change.numbers.append(message.number)
                    change.timeouts_ms.append(entry.timeout_ms)
        if change.numbers:
            self._log.check()
            self.visibility_changed(change)
            await self._log.durable(self._append(change, lambda: self._waits.wake(queue, len(change.numbers))))
        return results

    async def peek_messages(self, name: str, limit: int) -> list[ReceivedMessage]:
        """See QueueStore."""
        queue = self._queue(name)
        await self._log.durable(self._last_group)
        visible = queue.visible(self._clock.now_ms(), limit)
        return [msgspec.structs.replace(queue.delivered(message), receipt_handle="") for message in visible]

    async def move_messages(self, source: str, message_ids: Sequence[str], destination: str) -> int:
        """See QueueStore."""
        queue, target = self._queue(source), self._queue(destination)
        if queue is target:
            raise ValidationError(f"messages of {source!r} cannot be moved to the queue they are in")
        wanted = set(message_ids)
        now_ms = self._clock.now_ms()
        numbers = [m.number for m in queue.visible(now_ms, len(queue.messages)) if m.message_id in wanted]
        if numbers:
            self._log.check()
            change = MessagesMoved(queue.queue_id, numbers, target.queue_id, target.last_number + 1, now_ms)
            self.messages_moved(change)
            await self._log.durable(self._append(change, lambda: self._waits.wake(target, len(numbers))))
        return len(numbers)

    # ---- parts

    def _append(self, change: object, on_durable: Callable[[], None] | None = None) -> int:
        self._last_group = self._log.append(change, on_durable)  # type: ignore[arg-type]
        return self._last_group

    def _queue(self, name: str) -> QueueState:
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFoundError("queue", name, "create it with kit.create_queue") from None

    def _dead_letter_queue(self, queue: QueueState) -> QueueState | None:
        # AWS: a queue whose dead-letter queue was deleted keeps its messages and redelivers them.
        policy = queue.attributes.redrive_policy
        return None if policy is None else self._by_name.get(policy.dead_letter_queue)

    def _check_count(self, entries: Sequence[object]) -> None:
        if not 1 <= len(entries) <= self._limits.send_messages:
            raise ValidationError(f"a batch has 1 to {self._limits.send_messages:,} entries, not {len(entries):,}")

    def _check_timeout(self, timeout_ms: int) -> None:
        if not _is_whole(timeout_ms):
            raise ValidationError(f"a visibility timeout is a whole number of milliseconds, not {timeout_ms!r}")
        if not 0 <= timeout_ms <= MAX_VISIBILITY_MS:
            raise ValidationError(f"a visibility timeout is 0 to 43,200 s, not {timeout_ms / 1000:g} s")

    def _check_delay(self, delay_ms: int) -> None:
        if not _is_whole(delay_ms):
            raise ValidationError(f"a delay is a whole number of milliseconds, not {delay_ms!r}")
        if not 0 <= delay_ms <= self._limits.delay_seconds * 1000:
            raise ValidationError(f"a delay is 0 to {self._limits.delay_seconds:g} s, not {delay_ms / 1000:g} s")

    def close(self) -> None:
        """End every wait: the engine closes, and the log says so to whoever goes on."""
        self._waits.close()

    # ---- what happened (live and in replay)

    def queue_created(self, change: QueueCreated) -> QueueState:
        """A queue is there."""
        state = QueueState(change.queue_id, change.name, change.created_ms, change.attributes)
        self.adopt(state)
        return state

    def adopt(self, state: QueueState) -> None:
        """Take over a queue that recovery loaded."""
        self._by_name[state.name] = state
        self.by_id[state.queue_id] = state

    def queue_deleted(self, change: QueueDeleted) -> None:
        """A queue is gone."""
        state = self.by_id.pop(change.queue_id)
        del self._by_name[state.name]
        self._waits.forget(state)

    def messages_sent(self, change: MessagesSent) -> None:
        """Messages are there, visible or delayed."""
        queue = self.by_id[change.queue_id]
        sent_ms = change.sent_ms
        number = change.first_number
        for visible_at_ms, message_id, body in zip(change.visible_at_ms, change.ids, change.bodies, strict=True):
            delay_ms = visible_at_ms - sent_ms
            place = "delayed" if delay_ms else "ready"
            queue.add(StoredMessage(number, message_id, body, sent_ms, place, visible_at_ms, delay_ms))  # type: ignore[arg-type]
            number += 1

    def messages_received(self, change: MessagesReceived) -> None:
        """Messages were hidden, and others moved to the dead-letter queue."""
        queue = self.by_id[change.queue_id]
        for number in change.numbers:
            queue.receive(queue.messages[number], change.received_ms, change.timeout_ms)
        if not change.moved:
            return
        target = self.by_id[change.dead_letter_queue_id]
        for dead_number, number in enumerate(change.moved, change.first_dead_number):
            message = queue.messages[number]
            queue.remove(message)
            # AWS: id, body and the time it was sent are kept, and the receive count goes on.
            message.number = dead_number
            message.place = "ready"
            message.dead_letter_source = queue.name
            target.add(message)

    def messages_released(self, change: MessagesReleased) -> None:
        """Messages were not received after all."""
        queue = self.by_id[change.queue_id]
        for number in reversed(change.numbers):
            queue.release(queue.messages[number])

    def messages_deleted(self, change: MessagesDeleted) -> None:
        """Messages are gone."""
        queue = self.by_id[change.queue_id]
        for number in change.numbers:
            queue.remove(queue.messages[number])

    def visibility_changed(self, change: VisibilityChanged) -> None:
        """Messages are hidden for another time, or visible."""
        queue = self.by_id[change.queue_id]
        for number, timeout_ms in zip(change.numbers, change.timeouts_ms, strict=True):
            queue.hide(queue.messages[number], change.now_ms, timeout_ms)

    def messages_moved(self, change: MessagesMoved) -> None:
        """Messages are in another queue, to be received afresh."""
        queue, target = self.by_id[change.queue_id], self.by_id[change.to_queue_id]
        for new_number, number in enumerate(change.numbers, change.first_number):
            message = queue.messages[number]
            queue.remove(message)
            # AWS: a redriven message is a new one: count and time start again.
            moved = StoredMessage(new_number, message.message_id, message.body, change.now_ms, "ready", change.now_ms)
            target.add(moved)


def _is_whole(number: object) -> bool:
    # What is logged must be read back as an int: 1.5 and True would be refused when the store is opened again.
    return isinstance(number, int) and not isinstance(number, bool)


def _message_id() -> str:
    digits = token_hex(16)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

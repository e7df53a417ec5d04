"""The queue port over pure queues and a log. HOT: `python -m benchmarks --only queue`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.changes import (
    MessagesDeleted,
    MessagesMoved,
    QueueCreated,
    QueueDeleted,
    QueuePurged,
    QueueUpdated,
    VisibilityChanged,
    storable,
)
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.queue_changes import QueueChanges
from streamkit.engines.embedded.queue_gathering import Gathering
from streamkit.engines.embedded.queue_loads import QueueLoads, QueuePages
from streamkit.engines.embedded.queue_receives import QueueReceives
from streamkit.engines.embedded.queue_sends import QueueSends
from streamkit.engines.embedded.queue_waits import QueueWaits
from streamkit.errors import (
    AlreadyExistsError,
    DirectoryInUseError,
    MessageNotInflightError,
    NotFoundError,
    StreamKitError,
    ValidationError,
)
from streamkit.limits import Limits
from streamkit.queues import content
from streamkit.queues.attributes import check_attributes, check_name, check_redrive, check_timeout, check_wait
from streamkit.queues.deliveries import check_extension, delivered, deliveries
from streamkit.queues.looking import is_receivable
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.receipt import Receipts
from streamkit.queues.store import QueueDescription, SendEntry, SendResult, VisibilityEntry
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState

_MESSAGES_AT_A_LOOK = 1000


class EmbeddedQueues:
    """Implements ``QueueStore``."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        limits: Limits,
        next_id: Callable[[], int],
        store_id: int,
        pages: QueuePages | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._next_id = next_id
        self.changes = QueueChanges()
        self.by_id = self.changes.by_id
        self._by_name = self.changes.by_name
        self._waits = QueueWaits(clock)
        self._loads = QueueLoads(pages, lambda queue: self.by_id.get(queue.queue_id) is queue)
        self._receipts = Receipts(store_id)
        self._receives = QueueReceives(
            log, clock, limits, self.changes, self._waits, self._loads, self._receipts, self._append
        )
        self._sends = QueueSends(clock, limits)
        self._sending, self._deleting = Gathering(log, self._send), Gathering(log, self._delete)
        self._receives.gathering.after = (self._sending, self._deleting)
        self._last_group = 0

    # ---- control plane

    async def create_queue(self, name: str, attributes: QueueAttributes) -> QueueDescription:
        """See QueueStore."""
        check_name(name, fifo=attributes.fifo)
        if name in self._by_name:
            raise AlreadyExistsError("queue", name)
        self._check_attributes(name, attributes)
        self._log.check()
        change = storable(QueueCreated(self._next_id(), name, self._clock.now_ms(), attributes))
        group = self._append(change)
        state = self.changes.created(change)
        await self._log.durable(group)
        return state.describe(self._clock.now_ms())

    async def update_queue(self, name: str, attributes: QueueAttributes) -> None:
        """See QueueStore."""
        queue = self._queue(name)
        if attributes.fifo != queue.attributes.fifo:
            raise ValidationError(
                f"queue {name!r} is and stays a {'FIFO' if queue.attributes.fifo else 'standard'} queue"
            )
        self._check_attributes(name, attributes)
        # What is too old under the old retention is gone, also if the new one is longer.
        await self._receives.expire_on_disk(queue)
        self._receives.check_there(queue)
        self._log.prepare()
        self._log.check()
        self._receives.expire(queue, self._clock.now_ms())
        change = storable(QueueUpdated(queue.queue_id, attributes, self._clock.now_ms()))
        self.changes.updated(change)
        group = self._append(change, lambda: self._waits.wake(queue, queue.visible(self._clock.now_ms())))
        self._receives.expire(queue, self._clock.now_ms())
        self._receives.move_exhausted(queue)
        self._receives.arm(queue)
        await self._log.durable(max(group, self._last_group))

    async def purge_queue(self, name: str) -> int:
        """See QueueStore."""
        queue = self._queue(name)
        # INVARIANT: test_what_a_task_began_before_is_done_before
        self._log.prepare()
        self._log.check()
        change = QueuePurged(queue.queue_id)
        group = self._append(change)
        count = self.changes.purged(change)
        await self._log.durable(group)
        return count

    async def delete_queue(self, name: str) -> None:
        """See QueueStore."""
        change = QueueDeleted(self._queue(name).queue_id)
        self._log.prepare()
        self._log.check()
        group = self._append(change)
        self.queue_deleted(change)
        await self._log.durable(group)

    async def describe_queues(self, names: Sequence[str] | None = None) -> list[QueueDescription]:
        """See QueueStore."""
        queues = [self._queue(name) for name in (sorted(self._by_name) if names is None else names)]
        for queue in queues:
            # One that is deleted meanwhile is missed below.
            with suppress(NotFoundError):
                await self._look_at(queue)
        await self._log.durable(self._last_group)
        for queue in queues:
            await self._loads.date(queue)
        if names is None:
            queues = [queue for queue in queues if self.by_id.get(queue.queue_id) is queue]
        for queue in queues:
            self._receives.check_there(queue)
        now_ms = self._clock.now_ms()
        return [queue.describe(now_ms) for queue in queues]

    # ---- sending

    async def send_messages(self, name: str, entries: Sequence[SendEntry]) -> list[SendResult]:
        """See QueueStore."""
        queue = self._queue(name)
        checked = self._sends.check(queue, entries)
        self._log.check()
        return await self._sending.call(queue, checked)

    def validate(self, name: str, entries: Sequence[SendEntry]) -> list[SendEntry]:
        """Refuse a send as a whole, before anything of it, or of what it belongs to, is staged; what to stage."""
        checked = self._sends.check_whole(self._queue(name), entries)
        self._log.check()
        return checked

    def stage(self, name: str, entries: Sequence[SendEntry]) -> tuple[list[SendResult], int]:
        """Keep and log validated messages; they are durable with the returned group."""
        return self._stage(self._queue(name), entries)

    def _send(self, queue: QueueState, entries: Sequence[SendEntry | StreamKitError]) -> tuple[list[SendResult], int]:
        self._log.check()
        return self._stage(queue, entries)

    def _stage(self, queue: QueueState, entries: Sequence[SendEntry | StreamKitError]) -> tuple[list[SendResult], int]:
        # ATOMIC: numbering and appending are one step
        staged = self._sends.stage(queue, entries)
        count = len(staged.change.ids)
        if not count:
            # What is a duplicate may still be on its way to the disk.
            return staged.results, self._last_group
        self.changes.sent(staged.change)
        return staged.results, self._append(staged.change, lambda: self._waits.wake(queue, count))

    # ---- receiving

    async def receive_messages(
        self,
        name: str,
        max_messages: int,
        visibility_timeout_ms: int | None = None,
        wait_ms: int | None = None,
        attempt_id: str | None = None,
    ) -> list[ReceivedMessage]:
        """See QueueStore."""
        queue = self._queue(name)
        most = self._limits.receive_messages
        is_whole = isinstance(max_messages, int) and not isinstance(max_messages, bool)
        if not is_whole or not 1 <= max_messages <= most:
            raise ValidationError(f"max_messages is a whole number, 1 to {most:,}, not {max_messages!r:.40}")
        timeout_ms = queue.attributes.visibility_timeout_ms if visibility_timeout_ms is None else visibility_timeout_ms
        check_timeout(timeout_ms)
        wait_ms = queue.attributes.receive_wait_ms if wait_ms is None else wait_ms
        check_wait(wait_ms, self._limits)
        if attempt_id is not None:
            if not queue.attributes.fifo:
                raise ValidationError(f"queue {name!r} is a standard queue: an attempt_id is for FIFO queues")
            content.check_deduplication_id(attempt_id)
        return await self._receives.receive(queue, max_messages, timeout_ms, wait_ms, attempt_id)

    # ---- settling

    async def delete_messages(self, name: str, receipt_handles: Sequence[str]) -> list[StreamKitError | None]:
        """See QueueStore."""
        queue = self._queue(name)
        self._check_count(receipt_handles)
        # INVARIANT: test_another_event_loop_of_the_owner_is_refused
        self._log.check_owner()
        return await self._deleting.call(queue, receipt_handles)

    def _delete(self, queue: QueueState, receipt_handles: Sequence[str]) -> tuple[list[StreamKitError | None], int]:
        now_ms = self._clock.now_ms()
        self._receives.expire(queue, now_ms)
        found = deliveries(self._receipts, queue, receipt_handles, now_ms)
        # Unless there is something to delete: what was deleted before may still be on its way to the disk.
        group = self._last_group if None in found else 0
        numbers = list({message.number: None for message in found if isinstance(message, StoredMessage)})
        if numbers:
            self._log.check()
            group = self.stage_delete(MessagesDeleted(queue.queue_id, numbers))
        return [error if isinstance(error, StreamKitError) else None for error in found], group

    def check_deletes(self, name: str, receipt_handles: Sequence[str]) -> MessagesDeleted:
        """The deletion of all these messages; stage it before anything else happens.

        Raises:
            MessageNotInflightError: one was deleted already, or is not in flight under its handle.
            ReceiptHandleInvalidError: a handle is none of this queue.
            ValidationError: a message is named twice.
        """
        queue = self._queue(name)
        numbers: list[int] = []
        for found in deliveries(self._receipts, queue, receipt_handles, self._clock.now_ms()):
            if found is None:
                raise MessageNotInflightError("(deleted)", name)
            if isinstance(found, StreamKitError):
                raise found
            numbers.append(found.number)
        if len(numbers) != len(set(numbers)):
            raise ValidationError(f"a message of queue {name!r} is deleted twice in a call: name it once")
        return MessagesDeleted(queue.queue_id, numbers)

    def stage_delete(self, change: MessagesDeleted) -> int:
        """Apply and log a deletion; it is durable with the returned group."""
        queue = self.changes.by_id[change.queue_id]
        self.changes.gone(change)
        # On a FIFO queue what follows them may be received now; and where there is a limit, there is room again.
        makes_way = queue.attributes.fifo or self._limits.in_flight_messages is not None
        return self._append(change, (lambda: self._waits.wake(queue, len(change.numbers))) if makes_way else None)

    async def change_visibility(self, name: str, entries: Sequence[VisibilityEntry]) -> list[StreamKitError | None]:
        """See QueueStore."""
        queue = self._queue(name)
        self._check_count(entries)
        self._log.prepare()
        now_ms = self._clock.now_ms()
        self._receives.expire(queue, now_ms)
        results: list[StreamKitError | None] = []
        change = VisibilityChanged(queue.queue_id, now_ms, [], [], {})
        found = deliveries(self._receipts, queue, [entry.receipt_handle for entry in entries], now_ms)
        for message, entry in zip(found, entries, strict=True):
            if message is None:
                results.append(MessageNotInflightError("(deleted)", name))
            elif isinstance(message, StreamKitError):
                results.append(message)
            else:
                try:
                    check_timeout(entry.timeout_ms)
                except ValidationError as error:
                    results.append(error)
                    continue
                results.append(check_extension(message, entry.timeout_ms, now_ms))
                if results[-1] is None:
                    change.numbers.append(message.number)
                    change.timeouts_ms.append(entry.timeout_ms)
                    if entry.last_error is not None:
                        change.errors[message.number] = content.storable_text(entry.last_error)
        if change.numbers:
            self._log.check()
            self.changes.visibility(change)
            group = self._append(change, lambda: self._waits.wake(queue, len(change.numbers)))
            self._receives.move_exhausted(queue)
            self._receives.arm(queue)
            await self._log.durable(group)
        return results

    async def peek_messages(self, name: str, limit: int, after: int = 0) -> list[ReceivedMessage]:
        """See QueueStore."""
        queue = self._queue(name)
        await self._look_at(queue)
        await self._log.durable(self._last_group)
        found: list[ReceivedMessage] = []
        following: int | None = after
        while following is not None and len(found) < limit:
            messages, following = await self._loads.look(queue, following, limit - len(found), self._clock.now_ms())
            self._receives.check_there(queue)
            found += [
                msgspec.structs.replace(delivered(queue, message, ""), number=message.number) for message in messages
            ]
        return found

    async def move_messages(self, source: str, message_ids: Sequence[str], destination: str, after: int = 0) -> int:
        """See QueueStore."""
        queue, target = self._queue(source), self._queue(destination)
        if queue is target:
            raise ValidationError(f"messages of {source!r} cannot be moved to the queue they are in")
        if queue.attributes.fifo != target.attributes.fifo:
            raise ValidationError(f"{source!r} and {destination!r} are not of one kind: one is a FIFO queue")
        await self._look_at(queue)
        wanted = set(message_ids)
        read: dict[int, StoredMessage] = {}
        following: int | None = after
        while following is not None and len(read) < len(wanted):
            messages, following = await self._loads.look(queue, following, _MESSAGES_AT_A_LOOK, self._clock.now_ms())
            read.update({message.number: message for message in messages if message.message_id in wanted})
        self._receives.check_there(queue)
        self._receives.check_there(target)
        # ATOMIC: what is moved is as it is now
        self._log.prepare()
        now_ms = self._clock.now_ms()
        numbers = sorted(message.number for message in read.values() if is_receivable(queue, message, now_ms))
        if not numbers:
            return 0
        self._log.check()
        change = MessagesMoved(queue.queue_id, numbers, target.queue_id, target.last_number + 1, now_ms)
        self.changes.moved(change, read)
        group = self._append(change, lambda: self._waits.wake(target, len(numbers)))
        # end ATOMIC
        await self._log.durable(group)
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

    async def _look_at(self, queue: QueueState) -> None:
        """What was asked for, and what time alone brings about, is done before anybody looks.

        Who only looks on changes nothing.
        """
        try:
            self._log.prepare()
            self._log.check()
        except DirectoryInUseError:
            # INVARIANT: test_another_event_loop_of_the_owner_is_refused
            raise
        except StreamKitError:
            return
        self._receives.check_there(queue)
        self._receives.expire(queue, self._clock.now_ms())
        await self._receives.expire_on_disk(queue)
        self._receives.move_exhausted(queue)

    def _check_attributes(self, name: str, attributes: QueueAttributes) -> None:
        check_attributes(attributes, self._limits)
        if attributes.redrive_policy is not None:
            check_redrive(name, attributes, self._queue(attributes.redrive_policy.dead_letter_queue).attributes)

    def _check_count(self, entries: Sequence[object]) -> None:
        if not 1 <= len(entries) <= self._limits.send_messages:
            raise ValidationError(f"a batch has 1 to {self._limits.send_messages:,} entries, not {len(entries):,}")

    def begin(self) -> None:
        """The engine is open: time goes on for what recovery loaded."""
        for queue in self.by_id.values():
            self._receives.arm(queue)

    def close(self) -> None:
        """End every wait: the engine closes, and the log says so to whoever goes on."""
        self._receives.close()
        self._loads.close()
        self._waits.close()

    def queue_deleted(self, change: QueueDeleted) -> None:
        """A queue is gone, live and in replay."""
        state = self.changes.deleted(change)
        self._receives.forget(state)
        self._waits.forget(state)

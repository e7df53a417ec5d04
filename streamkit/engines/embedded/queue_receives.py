"""Receiving: who gets what, who waits, and what becomes of a receive that nobody awaits any more.

HOT: `python -m benchmarks --only queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf

from streamkit.clock import Clock, Timer
from streamkit.engines.embedded.changes import MessagesDeleted, MessagesReceived, MessagesReleased
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.queue_changes import QueueChanges
from streamkit.engines.embedded.queue_gathering import Gathering, ReceivedTogether
from streamkit.engines.embedded.queue_loads import QueueLoads
from streamkit.engines.embedded.queue_waits import QueueWaits
from streamkit.engines.embedded.turns import Turns
from streamkit.errors import NotFoundError, OverLimitError, StreamKitError
from streamkit.limits import Limits
from streamkit.queues.backlog import Page
from streamkit.queues.deliveries import delivered, handle_of
from streamkit.queues.message import ReceivedMessage
from streamkit.queues.receipt import Receipts
from streamkit.queues.stored import StoredMessage
from streamkit.queues.visibility import QueueState


class _Wanted:
    """What a receive asks for, and what it is given."""

    __slots__ = ("answer", "change", "error", "is_gone", "most", "timeout_ms", "waits")

    def __init__(self, most: int, timeout_ms: int, *, waits: bool) -> None:
        self.most = most
        self.timeout_ms = timeout_ms
        self.waits = waits
        self.is_gone = False
        self.change: MessagesReceived | None = None
        self.answer: list[ReceivedMessage] = []
        self.error: StreamKitError | None = None


class QueueReceives:
    """Takes messages for receives, and moves those that were received too often."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        limits: Limits,
        changes: QueueChanges,
        waits: QueueWaits,
        loads: QueueLoads,
        receipts: Receipts,
        append: Callable[..., int],
    ) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._changes = changes
        self._waits = waits
        self._loads = loads
        self._receipts = receipts
        self._append = append
        self.gathering = Gathering(log, self._take_all, none_at_once=True)
        self._turns = Turns()
        self._eager: dict[int, tuple[int, Timer]] = {}
        # By queue and attempt id: receives that are not answered yet, and that nobody made again meanwhile.
        self._unanswered: dict[tuple[int, str], MessagesReceived] = {}

    async def receive(
        self, queue: QueueState, max_messages: int, timeout_ms: int, wait_ms: int, attempt_id: str | None
    ) -> list[ReceivedMessage]:
        """See QueueStore."""
        now_ms = self._clock.now_ms()
        deadline_ms = now_ms + wait_ms
        was_woken = False
        while True:
            try:
                if queue.backlog.pages:
                    now_ms = await self._fill(queue, max_messages, now_ms)
                elif self._log.gathers and attempt_id is None and timeout_ms > 0 and queue.visible(now_ms):
                    wanted = _Wanted(max_messages, timeout_ms, waits=wait_ms > 0)
                    await self._with_others(queue, wanted)
                    if wanted.change is not None:
                        return wanted.answer
                    self.check_there(queue)
                    now_ms = self._clock.now_ms()
                    if queue.backlog.pages:
                        # INVARIANT: test_pages_that_come_while_receives_are_gathered_are_looked_into
                        now_ms = await self._fill(queue, max_messages, now_ms)
                # ATOMIC: choosing, hiding, moving and logging are one step
                self._log.prepare()
                change = self._take(queue, max_messages, timeout_ms, attempt_id, now_ms, waits=wait_ms > 0)
            except BaseException:
                # INVARIANT: test_who_is_woken_and_cancelled_while_a_page_is_loaded_wakes_another
                if was_woken:
                    self._waits.wake(queue, 1)
                raise
            self._loads.refill(queue)
            if change is not None:
                break
            # end ATOMIC
            if now_ms >= deadline_ms:
                if self._turns.due():
                    await asyncio.sleep(0)
                return []
            was_woken = await self._waits.wait(queue, deadline_ms)
            self.check_there(queue)
            now_ms = self._clock.now_ms()
            if not was_woken:
                deadline_ms = now_ms
        answer = [self._delivery(queue, queue.messages[number]) for number in change.numbers]
        group = self._log_received(queue, change)
        self._after(queue, now_ms)
        if attempt_id is not None and not change.again:
            self._unanswered[queue.queue_id, attempt_id] = change
        # end ATOMIC
        try:
            await self._log.durable(group)
        except asyncio.CancelledError:
            self._release(queue, answer, change)
            raise
        finally:
            if attempt_id is not None and self._is_unanswered(change):
                del self._unanswered[queue.queue_id, attempt_id]
        if timeout_ms == 0:
            self._move_due(queue)
        return answer

    async def _with_others(self, queue: QueueState, wanted: _Wanted) -> None:
        """Take what the others of this commit leave. With nothing left, whoever asked has to look for itself."""
        # INVARIANT: test_another_event_loop_of_the_owner_is_refused
        self._log.check_owner()
        try:
            await self.gathering.call(queue, [wanted])
        except asyncio.CancelledError:
            wanted.is_gone = True
            if wanted.change is not None:
                self._release(queue, wanted.answer, wanted.change)
            raise
        if wanted.error is not None:
            raise wanted.error

    def _take_all(self, queue: QueueState, several: Sequence[_Wanted]) -> tuple[list[MessagesReceived | None], int]:
        """Take for several receives, one after the other: what each took."""
        now_ms = self._clock.now_ms()
        logged = ReceivedTogether(lambda change: self._log_received(queue, change))
        try:
            for wanted in several:
                self._take_for(queue, wanted, now_ms, logged)
        finally:
            # Whatever happens, what was taken is logged as taken: its timeout shows it again.
            logged.end()
        self._loads.refill(queue)
        if logged.group:
            self._after(queue, now_ms)
        return [wanted.change for wanted in several], logged.group

    def _take_for(self, queue: QueueState, wanted: _Wanted, now_ms: int, logged: ReceivedTogether) -> None:
        # What is on disk has to be waited for, and each receive does that for itself.
        if wanted.is_gone or queue.backlog.pages:
            return
        try:
            change = self._take(queue, wanted.most, wanted.timeout_ms, None, now_ms, waits=wanted.waits)
        except StreamKitError as error:
            wanted.error = error
            return
        if change is not None:
            wanted.change = change
            logged.add(change)
            wanted.answer = [self._delivery(queue, queue.messages[number]) for number in change.numbers]

    def _log_received(self, queue: QueueState, change: MessagesReceived) -> int:
        shows = change.moved or change.timeout_ms == 0
        return self._append(change, (lambda: self._tell(queue, change)) if shows else None)

    def _after(self, queue: QueueState, now_ms: int) -> None:
        self.arm(queue)
        # Others may wait for the end of this timeout, and be woken for it.
        self._waits.arm(queue)
        if self._waits.is_anybody_at(queue) and queue.visible(now_ms):
            # INVARIANT: test_all_that_a_page_brings_is_for_those_who_wait
            self._waits.wake(queue, 1)

    async def _fill(self, queue: QueueState, max_messages: int, now_ms: int) -> int:
        """Have what a receive of so many may want in memory, and nothing that is too old. When that is."""
        while self._expiring_page(queue, now_ms) is not None or queue.lacks_page(max_messages, now_ms):
            await self.expire_on_disk(queue)
            if queue.lacks_page(max_messages, self._clock.now_ms()):
                await self._loads.load(queue)
            self.check_there(queue)
            now_ms = self._clock.now_ms()
        return now_ms

    def _is_unanswered(self, change: MessagesReceived) -> bool:
        key = (change.queue_id, change.attempt_id or "")
        return self._unanswered.get(key) is change

    def _delivery(self, queue: QueueState, message: StoredMessage) -> ReceivedMessage:
        return delivered(queue, message, handle_of(self._receipts, queue, message))

    def check_there(self, queue: QueueState) -> None:
        """See that a queue was not deleted while somebody waited.

        Raises:
            NotFoundError: it was.
        """
        if self._changes.by_id.get(queue.queue_id) is not queue:
            raise NotFoundError("queue", queue.name, "it was deleted meanwhile")

    def _take(
        self,
        queue: QueueState,
        max_messages: int,
        timeout_ms: int,
        attempt_id: str | None,
        now_ms: int,
        *,
        waits: bool,
    ) -> MessagesReceived | None:
        self._log.check()
        self.expire(queue, now_ms)
        again = queue.again(attempt_id, now_ms) if attempt_id is not None else None
        most = self._limits.in_flight_messages
        # What is given again is in flight already.
        if most is not None and again is None:
            room = most - queue.in_flight
            if room <= 0:
                if waits or queue.attributes.fifo:
                    return None
                raise OverLimitError(queue.name, most)
            max_messages = min(max_messages, room)
        target = self.dead_letter_queue(queue)
        if again is not None:
            received, moved = again, []
            # INVARIANT: test_what_a_retry_got_is_not_taken_from_it
            self._unanswered.pop((queue.queue_id, attempt_id or ""), None)
        else:
            taken = queue.take(max_messages, now_ms, dead_letters=target is not None)
            received, moved = taken.received, taken.moved
        if not received and not moved:
            return None
        change = MessagesReceived(
            queue.queue_id,
            now_ms,
            timeout_ms,
            [message.number for message in received],
            [message.number for message in moved],
            0 if target is None else target.queue_id,
            0 if target is None else target.last_number + 1,
            attempt_id,
            again is not None,
        )
        self._changes.received(change)
        return change

    def _tell(self, queue: QueueState, change: MessagesReceived) -> None:
        target = self._changes.by_id.get(change.dead_letter_queue_id)
        if target is not None:
            self._waits.wake(target, len(change.moved))
        # On a FIFO queue what follows those that were moved may be received now.
        shown = len(change.moved) + (len(change.numbers) if change.timeout_ms == 0 else 0)
        if shown:
            self._waits.wake(queue, shown)

    def _release(self, queue: QueueState, answer: list[ReceivedMessage], change: MessagesReceived) -> None:
        # INVARIANT: test_cancelled_receive_delivers_to_nobody
        if self._changes.by_id.get(queue.queue_id) is not queue or change.again:
            return
        if change.attempt_id is not None and not self._is_unanswered(change):
            return  # Whoever made the receive again has them.
        held = []
        for number, delivery in zip(change.numbers, answer, strict=True):
            message = queue.messages.get(number)
            # Unless it was received again meanwhile, or deleted, it is still this delivery's.
            if message is not None and handle_of(self._receipts, queue, message) == delivery.receipt_handle:
                held.append(number)
        try:
            self._log.check()
        except StreamKitError:
            return  # Nothing can be changed any more; the visibility timeout shows them again.
        if held:
            released = MessagesReleased(queue.queue_id, held, change.attempt_id)
            self._changes.released(released)
            self._append(released, lambda: self._waits.wake(queue, len(held)))

    # ---- what happens while nobody receives

    def dead_letter_queue(self, queue: QueueState) -> QueueState | None:
        """Where a queue's dead letters go."""
        # AWS: a queue whose dead-letter queue was deleted keeps its messages and redelivers them.
        policy = queue.attributes.redrive_policy
        return None if policy is None else self._changes.by_name.get(policy.dead_letter_queue)

    def expire(self, queue: QueueState, now_ms: int) -> None:
        """Messages that are older than the queue's retention are gone, wherever they stand."""
        numbers = queue.expired(now_ms, self._limits.message_retention_seconds[1] * 1000)
        if numbers:
            self._log.check()
            change = MessagesDeleted(queue.queue_id, numbers)
            self._changes.gone(change)
            self._append(change, lambda: self._waits.wake(queue, len(numbers)))

    async def expire_on_disk(self, queue: QueueState) -> None:
        """The same for what is on disk alone.

        Raises:
            StorageError: it cannot be read.
            NotFoundError: the queue was deleted meanwhile.
        """
        while (expiring := self._expiring_page(queue, self._clock.now_ms())) is not None:
            page, sent_before_ms = expiring
            numbers = queue.backlog.all_of(page) if page.newest_sent_ms < sent_before_ms else None
            if numbers is None:
                read = await self._loads.read(queue, page)
                self.check_there(queue)
                numbers = [number for number, message in read.items() if message.sent_ms < sent_before_ms]
                page.oldest_sent_ms = min(
                    (m.sent_ms for m in read.values() if m.sent_ms >= sent_before_ms), default=page.newest_sent_ms
                )
            if numbers:
                self._log.check()
                change = MessagesDeleted(queue.queue_id, numbers)
                self._changes.gone(change)
                self._append(change)

    def _expiring_page(self, queue: QueueState, now_ms: int) -> tuple[Page, int] | None:
        """A page on disk that may hold messages sent before an instant, and so too old; with that instant."""
        retention_ms = queue.retention_ms(self._limits.message_retention_seconds[1] * 1000)
        if retention_ms == inf:
            return None
        sent_before_ms = round(now_ms - retention_ms)
        page = queue.backlog.first_expiring(sent_before_ms)
        return None if page is None else (page, sent_before_ms)

    def move_exhausted(self, queue: QueueState) -> None:
        """With an eager policy: what was received as often as it may be goes when its last timeout ends."""
        exhausted = queue.exhausted(self._clock.now_ms())
        target = self.dead_letter_queue(queue)
        if exhausted and target is not None:
            self._log.check()
            self._move(queue, target, exhausted)

    def _move(self, queue: QueueState, target: QueueState, exhausted: Sequence[StoredMessage]) -> None:
        numbers = [message.number for message in exhausted]
        first = target.last_number + 1
        change = MessagesReceived(queue.queue_id, self._clock.now_ms(), 0, [], numbers, target.queue_id, first)
        self._changes.received(change)
        self._append(change, lambda: self._tell_moved(queue, change))

    def _tell_moved(self, queue: QueueState, change: MessagesReceived) -> None:
        if not queue.messages and not queue.backlog.pages:
            # As a receive that itself moved the last ones: whoever waits for an empty queue looks after each.
            # INVARIANT: test_an_eager_policy_that_empties_a_queue_ends_its_receives
            self._waits.end(queue)
        self._tell(queue, change)

    def arm(self, queue: QueueState) -> None:
        """With an eager policy somebody must look when the next message becomes visible, also if nobody receives."""
        policy = queue.attributes.redrive_policy
        if policy is None or not policy.eager:
            return
        when_ms = queue.next_visible_ms()
        armed = self._eager.get(queue.queue_id)
        if when_ms is None or (armed is not None and armed[0] <= when_ms):
            return
        if armed is not None:
            armed[1].cancel()
        self._eager[queue.queue_id] = (when_ms, self._clock.call_at(when_ms, lambda: self._look(queue)))

    def _look(self, queue: QueueState) -> None:
        del self._eager[queue.queue_id]
        self._move_due(queue)

    def _move_due(self, queue: QueueState) -> None:
        """With an eager policy, somebody looks."""
        policy = queue.attributes.redrive_policy
        if policy is None or not policy.eager or self._changes.by_id.get(queue.queue_id) is not queue:
            return
        try:
            self.expire(queue, self._clock.now_ms())
            self.move_exhausted(queue)
        except StreamKitError:
            return  # Nothing can be changed now; the next receive moves them.
        self.arm(queue)

    def forget(self, queue: QueueState) -> None:
        """The queue is gone."""
        if (armed := self._eager.pop(queue.queue_id, None)) is not None:
            armed[1].cancel()

    def close(self) -> None:
        """The engine closes."""
        for _, timer in self._eager.values():
            timer.cancel()
        self._eager.clear()

"""An event source mapping from a queue at work: receives, hands batches over, and scales."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup

from streamkit.errors import ClosedError, FunctionError, ValidationError
from streamkit.functions.live import LiveMapping
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.patience import StoppedError
from streamkit.functions.queue_batch import BATCH_BYTES, Messages, QueueBatches
from streamkit.functions.scaling import Scaling
from streamkit.functions.tally import Ports
from streamkit.functions.target import Target
from streamkit.logs import Fields, about, of_messages
from streamkit.queues.handling import Heartbeat
from streamkit.queues.message import Message
from streamkit.queues.portions import Portions
from streamkit.queues.queue import Queue
from streamkit.queues.settling import Settling
from streamkit.service import Stop

logger = logging.getLogger("streamkit.functions")

_WAIT_SECONDS = 20.0
_SHORTEST_TIMEOUT_SECONDS = 1.0
# For letting go of what is in hand when it is cancelled.
_SETTLE_SECONDS = 5.0


class QueuePoller(LiveMapping):
    """A service. Batches side by side; of a FIFO queue one of each message group at a time.

    What a batch did and the deletion of its messages are one commit: each message takes effect exactly once, however
    often it is delivered. Messages stay hidden while the function has them; those that failed are visible again when
    the queue's visibility timeout has passed since they were received, and become dead letters as the queue says.
    """

    def __init__(self, mapping: EventSourceMapping, ports: Ports) -> None:
        super().__init__(mapping, ports)
        assert isinstance(mapping.source, Queue)
        self._source: Queue[Any] = mapping.source
        self._clock = ports.clock
        self._portions: Portions[Any] = Portions(mapping.source)
        self._settling: Settling[Any] = Settling(self._portions, ports.clock, f"mapping {mapping.name}")
        self._scaling = Scaling(mapping.maximum_concurrency)
        self._timeout = _SHORTEST_TIMEOUT_SECONDS
        self._fifo = False
        self._running = 0
        self._failure: Exception | None = None

    async def wait_caught_up(self) -> None:
        """Return once the queue is empty, nothing visible, in flight or delayed, and what is done is counted.

        Raises:
            ClosedError: the mapping ended before.
            ValidationError: the mapping's own function asks.
        """
        self._check_not_within()
        while True:
            progress = self._progress
            is_empty = await self.left() == 0
            if is_empty and not self._running:
                return
            if self.ended and not is_empty:
                raise ClosedError(f"mapping {self.name!r}, with messages left in its source,") from self._failure
            await progress.wait()

    async def left(self) -> int:
        """How many messages are in the queue: visible, in flight and delayed."""
        found = await self._source.describe()
        return found.visible + found.not_visible + found.delayed

    async def _work(self, mapping: EventSourceMapping, stop: Stop) -> None:
        attributes = (await self._source.describe()).attributes
        self._timeout = max(attributes.visibility_timeout_ms / 1000, _SHORTEST_TIMEOUT_SECONDS)
        self._fifo = attributes.fifo
        self._failure = None
        self._scaling = Scaling(mapping.maximum_concurrency)
        target = await Target.of(mapping.sink, self._ports)
        batches = QueueBatches(
            mapping,
            fifo=attributes.fifo,
            target=target,
            ports=self._ports,
            tally=self._tally,
            stop=stop,
        )
        async with anyio.create_task_group() as tasks:
            try:
                while not stop.requested:
                    await self._one_batch(batches, stop, tasks)
            except Exception as error:
                self._fail(error, tasks)
        if self._failure is not None:
            raise self._failure

    # ---- receiving

    async def _one_batch(self, batches: QueueBatches, stop: Stop, tasks: TaskGroup) -> None:
        """Wait for room, receive a batch, and start handling it. A stop lets go of what was not started."""
        gathered: dict[Message[Any], int] = {}
        try:
            with stop.interruptible():
                while self._running >= self._scaling.limit:
                    await self._moved()
                await self._settling.insist(lambda: self._gather(gathered, batches))
        except BaseException:
            await self._let_go([*gathered])
            raise
        if not gathered:
            return
        if stop.requested:
            await self._let_go([*gathered])
            return
        # ATOMIC: from the receive to here nothing can be cancelled
        self._running += 1
        tasks.start_soon(self._handle, gathered, batches, tasks)

    async def _gather(self, gathered: dict[Message[Any], int], batches: QueueBatches) -> None:
        """Receive until the batch is full, or its window has passed since its first message; with when each came."""
        window_ms = round(self.mapping.batch_window * 1000)
        # What is gathered must stay hidden until it is handed over.
        timeout = self._timeout + self.mapping.batch_window
        deadline_ms: int | None = None
        size = 0
        while (room := self.mapping.batch_limit - len(gathered)) > 0 and size < BATCH_BYTES:
            left_ms = None if deadline_ms is None else deadline_ms - self._clock.now_ms()
            if left_ms is not None and left_ms <= 0:
                return
            wait = _WAIT_SECONDS if left_ms is None else min(left_ms / 1000, _WAIT_SECONDS)
            found = await self._portions.receive(room, timeout, wait)
            # ATOMIC: whoever was received is in the batch, or being dropped, before anything can be cancelled
            kept, dropped = batches.matching(found)
            gathered.update(dict.fromkeys(kept, self._clock.now_ms()))
            self._tally.counts.polled += len(found)
            self._tally.publish("PolledEventCount", len(found))
            size += sum(len(message.body) for message in kept)
            if dropped:
                await self._drop(dropped, batches)
            if len(found) == room:
                self._scaling.full()
            elif not found and not gathered:
                self._scaling.idle()
                self._tell()  # The receive may have moved messages to the dead-letter queue.
                return
            if gathered and deadline_ms is None:
                deadline_ms = self._clock.now_ms() + window_ms

    async def _drop(self, messages: Messages, batches: QueueBatches) -> None:
        """Nothing more is received meanwhile, so no more wait for a disk that is full than one receive gives."""
        left = dict.fromkeys(messages)
        stuck: set[str | None] = set()
        pending = batches.droppable(messages)
        while pending:
            part = pending.pop(0)
            # What is behind one that could not be dropped stays behind it.
            part = [message for message in part if not (self._fifo and message.group_id in stuck)]
            if not part:
                continue
            try:
                await batches.drop(part)
            except asyncio.CancelledError:
                await self._let_go([*left])
                raise
            except (FunctionError, ValidationError) as error:
                if len(part) > 1:
                    # INVARIANT: test_a_message_that_cannot_be_handed_on_takes_no_other_with_it
                    pending = [*([message] for message in part), *pending]
                    continue
                # Somebody else has it, or it cannot be sent on. It comes again when its timeout ends.
                logger.warning("mapping %s could not drop message %s: %s", self.name, part[0].message_id, error)
                stuck.add(part[0].group_id)
            else:
                for message in part:
                    del left[message]
        self._tell()

    # ---- handling

    async def _handle(self, received: Mapping[Message[Any], int], batches: QueueBatches, tasks: TaskGroup) -> None:
        messages = [*received]
        with about(self._fields_of, messages):
            await self._settle(messages, received, batches, tasks)

    def _fields_of(self, messages: Messages) -> Fields:
        return {"mapping": self.name, "queue": self._source.name, **of_messages(messages)}

    async def _settle(
        self, messages: Messages, received: Mapping[Message[Any], int], batches: QueueBatches, tasks: TaskGroup
    ) -> None:
        beat = Heartbeat(self._clock, self._timeout / 2, tasks, lambda: self._extend(messages, tasks))
        try:
            handled = await batches.handle_all(messages)
            # An extension that is on its way must not hide again what is shown below.
            await beat.stop()
            if handled.failures:
                now_ms = self._clock.now_ms()
                left = {one: self._timeout - (now_ms - received[one]) / 1000 for one in handled.failures}
                delays = {message: max(0.0, seconds) for message, seconds in left.items()}
                await self._settling.show_again(messages, handled.failures, delays, handled.behind)
            # AWS: after errors of the function fewer batches of a standard queue are handled at a time.
            if not self._fifo and len(handled.failures) == len(messages):
                self._scaling.failed()
            else:
                self._scaling.succeeded()
        except StoppedError:
            await beat.stop()
            await self._let_go(messages)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await beat.stop()
            await self._let_go(messages)
            raise
        except Exception as error:
            self._fail(error, tasks)
        finally:
            beat.cancel()
            self._running -= 1
            self._tell()

    async def _let_go(self, messages: Messages) -> None:
        """Visible again at once, unless they were deleted already."""
        with anyio.move_on_after(_SETTLE_SECONDS, shield=True):
            await self._settling.let_go((), messages)

    async def _extend(self, messages: Messages, tasks: TaskGroup) -> float | None:
        try:
            return await self._settling.extend(messages, self._timeout)
        except Exception as error:
            self._fail(error, tasks)
            return None

    def _fail(self, error: Exception, tasks: TaskGroup) -> None:
        self._failure = self._failure or error
        tasks.cancel_scope.cancel()

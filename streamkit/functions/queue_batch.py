"""One batch of a queue's messages: filtered, handled, and committed with their deletion."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from streamkit.errors import FunctionError
from streamkit.functions import fitting
from streamkit.functions.calling import calling
from streamkit.functions.invocation import Invocation
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Outcome
from streamkit.functions.patience import Patience, StoppedError
from streamkit.functions.sink import BufferingSink, Sink, SinkBatch
from streamkit.functions.tally import Ports, Tally
from streamkit.functions.target import REFUSALS, Target
from streamkit.queues.batches import held_back
from streamkit.queues.message import Message
from streamkit.queues.store import SendEntry
from streamkit.service import Stop

Messages = Sequence[Message[Any]]

BATCH_BYTES = 6_000_000
"""AWS: a function is called with 6 MB of event at most; one message may have more, and then is alone."""


class Handled(msgspec.Struct, frozen=True):
    """What became of a batch; what is in neither is deleted, and its effects are committed."""

    failures: Mapping[Message[Any], Exception]
    behind: Mapping[Message[Any], Message[Any]]
    """Of a FIFO queue: those behind a failed one of their group, with that one."""


class QueueBatches:
    """What one mapping does with the messages it received."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        *,
        fifo: bool,
        target: Target,
        ports: Ports,
        tally: Tally,
        stop: Stop,
    ) -> None:
        self._mapping = mapping
        self._queue = mapping.source.name
        self._fifo = fifo
        self._target = target
        self._ports = ports
        self._clock = ports.clock
        self._tally = tally
        self._stop = stop
        self._invoker = tally.invoker_of(mapping.function, "")
        self._patience = Patience(mapping.name, mapping.retry, ports.clock, stop)

    def matching(self, messages: Messages) -> tuple[list[Message[Any]], list[Message[Any]]]:
        """Those that a filter matches, and the others."""
        filters = self._mapping.message_filters
        if filters is None:
            return list(messages), []
        kept: list[Message[Any]] = []
        dropped: list[Message[Any]] = []
        for message in messages:
            (kept if filters.matches(message.body) else dropped).append(message)
        return kept, dropped

    def droppable(self, messages: Messages) -> list[Messages]:
        """Messages that no filter matches, in their order, in parts that one commit each can hand on."""
        if self._mapping.on_filtered is None:
            return [messages]
        apart = ((at, self._handed_on([message])) for at, message in enumerate(messages))
        ends = fitting.cuts(apart, len(messages), self._target.schema_of, self._ports.effects.limits)
        return [messages[start:end] for start, end in pairwise([0, *ends])]

    async def drop(self, messages: Messages) -> None:
        """Delete what no filter matches, or hand it on in the same commit.

        Raises:
            FunctionError: a message is too much for one commit; nothing happened. So with the next.
            ValidationError: a message is not ours any more, or cannot be sent on.
            StorageError: the engine cannot commit.
        """
        await self._commit(self._handed_on(messages), messages)
        self._tally.counts.filtered_out += len(messages)
        self._tally.publish("FilteredOutEventCount", len(messages))
        self._tally.publish("DeletedEventCount", len(messages))

    def _handed_on(self, messages: Messages) -> Outcome:
        outcome = Outcome()
        if self._mapping.on_filtered is not None:
            for message in messages:
                entry = SendEntry(message.body, None, message.attributes, message.trace_header, message.group_id)
                outcome.hand_on(self._mapping.on_filtered, entry)
        return outcome

    async def handle_all(self, messages: Messages) -> Handled:
        """Handle messages that were received for one batch, in as many calls as their size asks for, one by one.

        Raises:
            StoppedError: a stop came while the function or the sink was busy; the last part did not happen.
            StorageError: the engine cannot commit.
        """
        failures: dict[Message[Any], Exception] = {}
        behind: dict[Message[Any], Message[Any]] = {}
        for part in parts_of(messages):
            if failures and self._fifo:
                stuck = {message.group_id: message for message in reversed(failures)}
                behind.update({message: stuck[message.group_id] for message in part if message.group_id in stuck})
                part = [message for message in part if message not in behind]
            if part:
                handled = await self.handle(part)
                failures.update(handled.failures)
                behind.update(handled.behind)
        return Handled(failures, behind)

    async def handle(self, messages: Messages) -> Handled:
        """Call the function, and commit what is done with its deletion.

        Raises:
            StoppedError: a stop came while the function or the sink was busy; nothing happened.
            StorageError: the engine cannot commit.
        """
        invocation = await self._invoke(messages)
        error = invocation.error or FunctionError("the function reported it as failed")
        failures: dict[Message[Any], Exception] = {messages[at]: error for at in invocation.failures}
        behind = held_back(messages, failures) if self._fifo and failures else {}
        done = [message for message in messages if message not in failures and message not in behind]
        if done:
            with self._ports.tracing.within(invocation.trace):
                failures |= await self._settle(messages, done, invocation)
            behind = held_back(messages, failures) if self._fifo else {}
        if failures:
            self._tally.failed(next(iter(failures.values())))
            self._tally.publish("FailedInvokeEventCount", len(failures))
        return Handled({message: error for message, error in failures.items() if message not in behind}, behind)

    async def _invoke(self, messages: Messages) -> Invocation:
        waits = 0
        while True:
            with calling(self._tally):
                invocation = await self._invoker.invoke_messages(messages, queue=self._queue, fifo=self._fifo)
            if not invocation.throttled:
                self._tally.counts.invocations += 1
                self._tally.publish("Invocations", 1)
                self._tally.publish("InvokedEventCount", len(messages))
                return invocation
            # AWS: a throttled batch counts as received and comes again after its timeout. Ours waits for its turn.
            waits += 1
            await self._patience.wait(waits, invocation.error)
            if self._stop.requested:
                raise StoppedError

    async def _settle(
        self, messages: Messages, done: Messages, invocation: Invocation
    ) -> dict[Message[Any], Exception]:
        """Deliver and commit what is done; which messages were refused, and why.

        That counts as the function's failure. All of it is one commit, or as many as it takes where it is too much for
        one. What is refused together is tried message by message, if each result is of one message, so that one takes
        no other with it.
        """
        refused = await self._refusal(self._deliver_all(messages, done, invocation))
        if refused is not None:
            return dict.fromkeys(done, refused)
        failures: dict[Message[Any], Exception] = {}
        stuck: set[str | None] = set()
        pending = await self._parts(messages, done, invocation)
        while pending:
            # What is behind one that failed stays behind it.
            part = [message for message in pending.pop(0) if not (self._fifo and message.group_id in stuck)]
            if not part:
                continue
            refused = await self._refusal(self._commit_all(messages, part, invocation))
            if refused is None:
                continue
            if invocation.together or len(part) == 1:
                failures.update(dict.fromkeys(part, refused))
                stuck.update(message.group_id for message in part)
            else:
                pending = [*([message] for message in part), *pending]
        return failures

    async def _parts(self, messages: Messages, done: Messages, invocation: Invocation) -> list[Messages]:
        """What is done, in parts that fit into one commit each; whole, where its results are nothing to commit."""
        try:
            outcome = self._outcome(messages, done, invocation)
            ends = await self._target.cuts(messages, self._of(messages, done, invocation), outcome)
        except REFUSALS:
            return [done]  # Its commit says the same.
        if len(ends) == 1:
            return [done]
        counted = set(done)
        parts = [messages[start:end] for start, end in pairwise([0, *ends])]
        return [[message for message in part if message in counted] for part in parts]

    async def _refusal(self, step: Awaitable[None]) -> Exception | None:
        try:
            await step
        except REFUSALS as error:
            return error
        return None

    async def _deliver_all(self, messages: Messages, done: Messages, invocation: Invocation) -> None:
        if isinstance(self._mapping.sink, Sink):
            await self._deliver(self._outcome(messages, done, invocation).values)

    async def _commit_all(self, messages: Messages, done: Messages, invocation: Invocation) -> None:
        await self._commit(self._outcome(messages, done, invocation), done)
        self._tally.counts.written += len(done)
        self._tally.publish("DeletedEventCount", len(done))

    def _outcome(self, messages: Messages, done: Messages, invocation: Invocation) -> Outcome:
        return self._target.outcome(messages, self._of(messages, done, invocation))

    def _of(self, messages: Messages, done: Messages, invocation: Invocation) -> Invocation:
        """With the results of those that are done."""
        if len(done) == len(messages):
            return invocation
        counted = set(done)
        results = [(at, found) for at, found in invocation.results if messages[at] in counted]
        return msgspec.structs.replace(invocation, results=results)

    async def _deliver(self, values: list[Any]) -> None:
        sink = self._mapping.sink
        if not values or not isinstance(sink, Sink):
            return
        # A lane of its own: batches are handled side by side, and after a crash others come of the same messages.
        lane = f"{self._mapping.name}-{self._queue}-{uuid.uuid4().hex}"
        batch = SinkBatch(lane=lane, start="0", values=values, now_ms=self._clock.now_ms())

        async def write() -> None:
            with calling(self._tally):
                await sink.write(batch)

        await self._patience.until_taken(write)
        if isinstance(sink, BufferingSink):
            try:
                await self._patience.until_room(lambda: sink.flush(lane))
            finally:
                sink.forget(lane)

    async def _commit(self, outcome: Outcome, messages: Messages) -> None:
        """Effects and deletion as one.

        # INVARIANT: test_each_message_takes_effect_exactly_once
        """
        effects = msgspec.structs.replace(
            await self._target.effects(outcome),
            deletes=((self._queue, tuple(message.receipt_handle for message in messages)),),
        )
        await self._patience.until_room(lambda: self._ports.effects.commit(effects))


def parts_of(messages: Messages) -> list[list[Message[Any]]]:
    """Messages in their order, in parts that one event can hold."""
    parts: list[list[Message[Any]]] = [[]]
    size = 0
    for message in messages:
        if parts[-1] and size + len(message.body) > BATCH_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += len(message.body)
    return parts
